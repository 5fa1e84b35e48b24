"""Sources of records: files, packages and catalogues → the shapes of ``data.records``."""

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
from jaxembed.data.sources.word_tables import (
    gender_words,
    glove,
    news_vectors,
    word_choices,
    word_pairs,
    word_questions,
)
from jaxembed.data.sources.wordnet import synonym_choices, topic_words, wordnet, wordnet_counts

__all__ = [
    "all_nli",
    "avazu",
    "beir",
    "book_excerpts",
    "criteo",
    "digits",
    "docstrings",
    "emoji",
    "fashion_mnist",
    "first_sentences",
    "flights",
    "gender_words",
    "glove",
    "image_files",
    "image_folder",
    "labelled_lines",
    "labelled_table",
    "labelled_texts",
    "lfw",
    "lfw_pairs",
    "mnist",
    "movielens_100k",
    "movielens_1m",
    "movielens_interactions",
    "news_vectors",
    "newsgroups",
    "omniglot",
    "openclipart",
    "package_file",
    "reuters",
    "sentence_pairs",
    "sick",
    "stamps",
    "sts",
    "synonym_choices",
    "tfds",
    "tfds_images",
    "topic_words",
    "word_choices",
    "word_pairs",
    "word_questions",
    "wordnet",
    "wordnet_counts",
]
