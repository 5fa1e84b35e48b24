"""Sources of records: files, packages and catalogues → the shapes of ``data.records``."""

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

__all__ = [
    "all_nli",
    "avazu",
    "beir",
    "book_excerpts",
    "criteo",
    "docstrings",
    "first_sentences",
    "flights",
    "labelled_lines",
    "labelled_table",
    "labelled_texts",
    "movielens_100k",
    "movielens_1m",
    "newsgroups",
    "package_file",
    "reuters",
    "sentence_pairs",
    "sick",
    "sts",
    "tfds",
    "wordnet",
    "wordnet_counts",
]
