"""Records → batches: sources of records, batches of them, and text as hashed ids."""

from jaxembed.data import sources, text
from jaxembed.data.batches import batches, pad
from jaxembed.data.masking import hide, word_masks
from jaxembed.data.pairs import inverse_cloze
from jaxembed.data.sources import beir, docstrings, tfds
from jaxembed.data.text import bag, distinct, document_frequency, features, hashed, idf, ngrams, pack, words

__all__ = [
    "bag",
    "batches",
    "beir",
    "distinct",
    "docstrings",
    "document_frequency",
    "features",
    "hashed",
    "hide",
    "idf",
    "inverse_cloze",
    "ngrams",
    "pack",
    "pad",
    "sources",
    "text",
    "tfds",
    "word_masks",
    "words",
]
