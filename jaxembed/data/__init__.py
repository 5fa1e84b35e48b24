"""Records → batches: sources of records, batches of them, and text as hashed ids."""

from jaxembed.data import sources, text, toy, toy_scenes
from jaxembed.data.batches import batches
from jaxembed.data.click_rows import click_rows
from jaxembed.data.click_tables import Schema, ctr_table, take
from jaxembed.data.colocation import colocation
from jaxembed.data.corpora import (
    WindowBatches,
    corpus,
    keep_probabilities,
    noise_probabilities,
    text_lines,
)
from jaxembed.data.dependence import mutual_information
from jaxembed.data.event_logs import (
    catalogue,
    catalogue_rows,
    histories,
    interactions,
    leave_last_out,
    more_rows,
    split_in_time,
)
from jaxembed.data.fasttext import fasttext_hash, fasttext_ids, fasttext_ngrams
from jaxembed.data.fasttext_files import read_fasttext, write_fasttext
from jaxembed.data.images import common_identities, fit_image, identity_batches, read_image, read_images
from jaxembed.data.locality import locality_batches, proximity_graph
from jaxembed.data.masking import hide, masked_batch, word_masks
from jaxembed.data.pair_counts import cooccurrence, positive_pmi
from jaxembed.data.pairs import (
    aspect_pairs,
    example_pairs,
    hard_negatives,
    inverse_cloze,
    split_pairs,
    uniform_rows,
)
from jaxembed.data.scaling import fit_scaling, log_counts, scale_columns
from jaxembed.data.sources.beir import beir
from jaxembed.data.sources.click_logs import avazu, criteo, flights, movielens_1m, movielens_100k
from jaxembed.data.sources.docstrings import docstrings, first_sentences
from jaxembed.data.sources.drawings import emoji, openclipart, stamps
from jaxembed.data.sources.image_folders import image_files, image_folder, lfw, lfw_pairs, omniglot
from jaxembed.data.sources.images import digits, fashion_mnist, mnist
from jaxembed.data.sources.interaction_logs import movielens_interactions
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
from jaxembed.data.sources.tfds import tfds, tfds_images
from jaxembed.data.sources.word_tables import gender_words, glove, news_vectors, word_pairs, word_questions
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
from jaxembed.data.word_files import read_word_vectors, write_word_vectors

__all__ = [
    "Schema",
    "WindowBatches",
    "all_nli",
    "aspect_pairs",
    "avazu",
    "bag",
    "batches",
    "beir",
    "book_excerpts",
    "catalogue",
    "catalogue_rows",
    "click_rows",
    "colocation",
    "column_names",
    "common_identities",
    "cooccurrence",
    "corpus",
    "criteo",
    "ctr_table",
    "digits",
    "docstrings",
    "document_frequency",
    "emoji",
    "example_pairs",
    "fashion_mnist",
    "fasttext_hash",
    "fasttext_ids",
    "fasttext_ngrams",
    "first_sentences",
    "fit_image",
    "fit_scaling",
    "flights",
    "gender_words",
    "glove",
    "hard_negatives",
    "hashed",
    "hide",
    "histories",
    "identity_batches",
    "idf",
    "image_files",
    "image_folder",
    "interactions",
    "inverse_cloze",
    "keep_probabilities",
    "labelled_lines",
    "labelled_table",
    "labelled_texts",
    "leave_last_out",
    "lfw",
    "lfw_pairs",
    "locality_batches",
    "log_counts",
    "masked_batch",
    "mnist",
    "more_rows",
    "movielens_100k",
    "movielens_1m",
    "movielens_interactions",
    "mutual_information",
    "news_vectors",
    "newsgroups",
    "ngrams",
    "noise_probabilities",
    "omniglot",
    "openclipart",
    "pack",
    "package_file",
    "positive_pmi",
    "proximity_graph",
    "read_fasttext",
    "read_image",
    "read_images",
    "read_word_vectors",
    "reuters",
    "scale_columns",
    "sentence_pairs",
    "sick",
    "sources",
    "split_in_time",
    "split_pairs",
    "stamps",
    "sts",
    "subword_ids",
    "take",
    "text",
    "text_lines",
    "tfds",
    "tfds_images",
    "toy",
    "toy_scenes",
    "uniform_rows",
    "word_masks",
    "word_pairs",
    "word_positions",
    "word_questions",
    "wordnet",
    "wordnet_counts",
    "words",
    "write_fasttext",
    "write_word_vectors",
]
