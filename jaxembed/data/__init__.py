"""Records → batches: sources of records, batches of them, and text as hashed ids."""

from jaxembed.data import sources, text, toy, toy_drawings, toy_scenes
from jaxembed.data.batches import batches
from jaxembed.data.byte_counts import byte_losses, byte_strings, count_strings, string_places
from jaxembed.data.byte_texts import byte_batch
from jaxembed.data.click_rows import click_rows
from jaxembed.data.click_tables import Schema, ctr_table, take
from jaxembed.data.colocation import colocation
from jaxembed.data.corpora import (
    WindowBatches,
    corpus,
    keep_probabilities,
    noise_probabilities,
    text_lines,
    word_bags,
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
from jaxembed.data.fasttext import fasttext_hash, fasttext_ids, fasttext_ngrams, fasttext_text_ids
from jaxembed.data.fasttext_files import read_fasttext, write_fasttext
from jaxembed.data.images import common_identities, fit_image, identity_batches, read_image, read_images
from jaxembed.data.locality import locality_batches, proximity_graph
from jaxembed.data.loss_reduction import conditional_loss_reduction, rho_rows, selection_cost
from jaxembed.data.masking import (
    FIRST_WORD,
    MASK_WORD,
    RARE_WORD,
    hide,
    masked_batch,
    random_window,
    word_ids,
    word_masks,
)
from jaxembed.data.mixtures import (
    effective_robustness,
    ensemble_logits,
    filtered_slope,
    fit_trend,
    gaussian_source,
    mixture_rows,
    mixture_slope,
    trend_interval,
    trend_slope,
)
from jaxembed.data.multimodal_rows import (
    format_instruction,
    homogeneous_batches,
    image_patches,
    multimodal_batch,
)
from jaxembed.data.pair_counts import cooccurrence, positive_pmi
from jaxembed.data.pairs import (
    aspect_pairs,
    example_pairs,
    graded_pairs,
    hard_negatives,
    inverse_cloze,
    label_text_pairs,
    labelled_pairs,
    split_pairs,
    uniform_rows,
)
from jaxembed.data.phrases import find_phrases, join_phrases
from jaxembed.data.scaling import fit_scaling, log_counts, scale_columns
from jaxembed.data.select import filter_report, pair_scores, score_pairs, select, streaming_threshold
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
from jaxembed.data.tiles import choose_tiling, tile_image, untile
from jaxembed.data.word_files import read_word_vectors, write_word_vectors

__all__ = [
    "FIRST_WORD",
    "MASK_WORD",
    "RARE_WORD",
    "Schema",
    "WindowBatches",
    "all_nli",
    "aspect_pairs",
    "avazu",
    "bag",
    "batches",
    "beir",
    "book_excerpts",
    "byte_batch",
    "byte_losses",
    "byte_strings",
    "catalogue",
    "catalogue_rows",
    "choose_tiling",
    "click_rows",
    "colocation",
    "column_names",
    "common_identities",
    "conditional_loss_reduction",
    "cooccurrence",
    "corpus",
    "count_strings",
    "criteo",
    "ctr_table",
    "digits",
    "docstrings",
    "document_frequency",
    "effective_robustness",
    "emoji",
    "ensemble_logits",
    "example_pairs",
    "fashion_mnist",
    "fasttext_hash",
    "fasttext_ids",
    "fasttext_ngrams",
    "fasttext_text_ids",
    "filter_report",
    "filtered_slope",
    "find_phrases",
    "first_sentences",
    "fit_image",
    "fit_scaling",
    "fit_trend",
    "flights",
    "format_instruction",
    "gaussian_source",
    "gender_words",
    "glove",
    "graded_pairs",
    "hard_negatives",
    "hashed",
    "hide",
    "histories",
    "homogeneous_batches",
    "identity_batches",
    "idf",
    "image_files",
    "image_folder",
    "image_patches",
    "interactions",
    "inverse_cloze",
    "join_phrases",
    "keep_probabilities",
    "label_text_pairs",
    "labelled_lines",
    "labelled_pairs",
    "labelled_table",
    "labelled_texts",
    "leave_last_out",
    "lfw",
    "lfw_pairs",
    "locality_batches",
    "log_counts",
    "masked_batch",
    "mixture_rows",
    "mixture_slope",
    "mnist",
    "more_rows",
    "movielens_100k",
    "movielens_1m",
    "movielens_interactions",
    "multimodal_batch",
    "mutual_information",
    "news_vectors",
    "newsgroups",
    "ngrams",
    "noise_probabilities",
    "omniglot",
    "openclipart",
    "pack",
    "package_file",
    "pair_scores",
    "positive_pmi",
    "proximity_graph",
    "random_window",
    "read_fasttext",
    "read_image",
    "read_images",
    "read_word_vectors",
    "reuters",
    "rho_rows",
    "scale_columns",
    "score_pairs",
    "select",
    "selection_cost",
    "sentence_pairs",
    "sick",
    "sources",
    "split_in_time",
    "split_pairs",
    "stamps",
    "streaming_threshold",
    "string_places",
    "sts",
    "subword_ids",
    "synonym_choices",
    "take",
    "text",
    "text_lines",
    "tfds",
    "tfds_images",
    "tile_image",
    "topic_words",
    "toy",
    "toy_drawings",
    "toy_scenes",
    "trend_interval",
    "trend_slope",
    "uniform_rows",
    "untile",
    "word_bags",
    "word_choices",
    "word_ids",
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
