"""Whole walks as functions: from texts, rows or pictures to a trained model, an index, an answer.

The top floor: it may use every room, and no room uses it. Each function is what a user would otherwise write
around the rooms, with defaults that a newcomer wants.
"""

from jaxembed.recipes.bigranular import bigranular_search
from jaxembed.recipes.click_methods import click_logits, fit_click_methods, masked_auc, supernet_update
from jaxembed.recipes.click_models import ClickModel, load_clicks
from jaxembed.recipes.clicks import fit_clicks
from jaxembed.recipes.cutoffs import cutoff_logits, fit_cutoff
from jaxembed.recipes.fine_tuning import fine_tune, with_adapters
from jaxembed.recipes.image_search import embed_images, search_images
from jaxembed.recipes.image_text_training import ImageTextModel, train_image_text
from jaxembed.recipes.image_training import fine_tune_images
from jaxembed.recipes.language import score_texts, text_losses, tune_texts
from jaxembed.recipes.layer_scores import score_layers
from jaxembed.recipes.merging import merge_encoders
from jaxembed.recipes.recommending import train_towers
from jaxembed.recipes.sets import index_sets, search_sets
from jaxembed.recipes.table_compression import compress_table
from jaxembed.recipes.text_search import embed_texts, search
from jaxembed.recipes.text_to_image import TextToImage, drawing_model, fit_text_to_image
from jaxembed.recipes.tower_models import TowerModel, load_towers
from jaxembed.recipes.word_models import Words, load_words
from jaxembed.recipes.word_pretraining import (
    MaskedWords,
    masked_word_losses,
    masked_word_model,
    pre_train,
)
from jaxembed.recipes.word_training import train_words

__all__ = [
    "ClickModel",
    "ImageTextModel",
    "MaskedWords",
    "TextToImage",
    "TowerModel",
    "Words",
    "bigranular_search",
    "click_logits",
    "compress_table",
    "cutoff_logits",
    "drawing_model",
    "embed_images",
    "embed_texts",
    "fine_tune",
    "fine_tune_images",
    "fit_click_methods",
    "fit_clicks",
    "fit_cutoff",
    "fit_text_to_image",
    "index_sets",
    "load_clicks",
    "load_towers",
    "load_words",
    "masked_auc",
    "masked_word_losses",
    "masked_word_model",
    "merge_encoders",
    "pre_train",
    "score_layers",
    "score_texts",
    "search",
    "search_images",
    "search_sets",
    "supernet_update",
    "text_losses",
    "train_image_text",
    "train_towers",
    "train_words",
    "tune_texts",
    "with_adapters",
]
