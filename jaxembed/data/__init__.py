"""Records → batches: sources of records, batches of them, and text as hashed ids."""

from jaxembed.data import sources, text, toy
from jaxembed.data.batches import batches
from jaxembed.data.click_rows import click_rows
from jaxembed.data.click_tables import Schema, ctr_table, take
from jaxembed.data.locality import locality_batches, proximity_graph
from jaxembed.data.masking import hide, masked_batch, word_masks
from jaxembed.data.pairs import aspect_pairs, example_pairs, hard_negatives, inverse_cloze, split_pairs
from jaxembed.data.scaling import fit_scaling, log_counts, scale_columns
from jaxembed.data.sources.beir import beir
from jaxembed.data.sources.click_logs import avazu, criteo, flights, movielens_1m, movielens_100k
from jaxembed.data.sources.docstrings import docstrings, first_sentences
from jaxembed.data.sources.labelled_texts import (
    book_excerpts,
    labelled_lines,
    labelled_table,
    labelled_texts,
    newsgroups,
    reuters,
)
from jaxembed.data.sources.packages import package_file
from jaxembed.data.sources.sentence_pairs import all_nli, sentence_pairs, sick, sts
from jaxembed.data.sources.tfds import tfds
from jaxembed.data.sources.wordnet import wordnet, wordnet_counts
from jaxembed.data.table_files import column_names
from jaxembed.data.text import (
    bag,
    document_frequency,
    hashed,
    idf,
    ngrams,
    pack,
    subword_ids,
    word_positions,
    words,
)

__all__ = [
    "Schema",
    "all_nli",
    "aspect_pairs",
    "avazu",
    "bag",
    "batches",
    "beir",
    "book_excerpts",
    "click_rows",
    "column_names",
    "criteo",
    "ctr_table",
    "docstrings",
    "document_frequency",
    "example_pairs",
    "first_sentences",
    "fit_scaling",
    "flights",
    "hard_negatives",
    "hashed",
    "hide",
    "idf",
    "inverse_cloze",
    "labelled_lines",
    "labelled_table",
    "labelled_texts",
    "locality_batches",
    "log_counts",
    "masked_batch",
    "movielens_100k",
    "movielens_1m",
    "newsgroups",
    "ngrams",
    "pack",
    "package_file",
    "proximity_graph",
    "reuters",
    "scale_columns",
    "sentence_pairs",
    "sick",
    "sources",
    "split_pairs",
    "sts",
    "subword_ids",
    "take",
    "text",
    "tfds",
    "toy",
    "word_masks",
    "word_positions",
    "wordnet",
    "wordnet_counts",
    "words",
]
