"""Records → batches: sources of records, batches of them, and text as hashed ids."""

from jaxembed.data import batches, sources, text
from jaxembed.data.batches import pad
from jaxembed.data.sources import beir, docstrings, tfds
from jaxembed.data.text import distinct, document_frequency, features, hashed, idf, ngrams, words

__all__ = [
    "batches",
    "beir",
    "distinct",
    "docstrings",
    "document_frequency",
    "features",
    "hashed",
    "idf",
    "ngrams",
    "pad",
    "sources",
    "text",
    "tfds",
    "words",
]
