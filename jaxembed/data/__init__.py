"""Records → batches: sources of records, batches of them, and text as hashed ids."""

from jaxembed.data import sources, text
from jaxembed.data.batches import batches, pad
from jaxembed.data.clicklogs import avazu, criteo, flights, movielens_1m, movielens_100k
from jaxembed.data.clickrows import click_rows
from jaxembed.data.clicks import Schema, ctr_table, take
from jaxembed.data.columns import column_names
from jaxembed.data.labelled import (
    book_excerpts,
    labelled_lines,
    labelled_table,
    labelled_texts,
    newsgroups,
    reuters,
)
from jaxembed.data.masking import hide, word_masks
from jaxembed.data.packages import package_file
from jaxembed.data.pairs import example_pairs, hard_negatives, inverse_cloze
from jaxembed.data.scaling import fit_scaling, log_counts, scale_columns
from jaxembed.data.sentences import sentence_pairs, sick, sts
from jaxembed.data.sources import beir, docstrings, tfds
from jaxembed.data.text import bag, distinct, document_frequency, features, hashed, idf, ngrams, pack, words
from jaxembed.data.wordnet import wordnet

__all__ = [
    "Schema",
    "avazu",
    "bag",
    "batches",
    "beir",
    "book_excerpts",
    "click_rows",
    "column_names",
    "criteo",
    "ctr_table",
    "distinct",
    "docstrings",
    "document_frequency",
    "example_pairs",
    "features",
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
    "log_counts",
    "movielens_100k",
    "movielens_1m",
    "newsgroups",
    "ngrams",
    "pack",
    "package_file",
    "pad",
    "reuters",
    "scale_columns",
    "sentence_pairs",
    "sick",
    "sources",
    "sts",
    "take",
    "text",
    "tfds",
    "word_masks",
    "wordnet",
    "words",
]
