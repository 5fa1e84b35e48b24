"""Records → batches: sources of records, batches of them, and text as hashed ids."""

from jaxembed.data import sources, text
from jaxembed.data.batches import batches, pad
from jaxembed.data.clicklogs import avazu, criteo, flights, movielens_1m, movielens_100k
from jaxembed.data.clicks import Schema, ctr_table, log_counts, take
from jaxembed.data.masking import hide, word_masks
from jaxembed.data.pairs import inverse_cloze
from jaxembed.data.sentences import sentence_pairs
from jaxembed.data.sources import beir, docstrings, tfds
from jaxembed.data.text import bag, distinct, document_frequency, features, hashed, idf, ngrams, pack, words
from jaxembed.data.wordnet import wordnet

__all__ = [
    "Schema",
    "avazu",
    "bag",
    "batches",
    "beir",
    "criteo",
    "ctr_table",
    "distinct",
    "docstrings",
    "document_frequency",
    "features",
    "flights",
    "hashed",
    "hide",
    "idf",
    "inverse_cloze",
    "log_counts",
    "movielens_100k",
    "movielens_1m",
    "ngrams",
    "pack",
    "pad",
    "sentence_pairs",
    "sources",
    "take",
    "text",
    "tfds",
    "word_masks",
    "wordnet",
    "words",
]
