"""Whole walks as functions: from texts or rows to a trained model, an index, an answer.

The top floor: it may use every room, and no room uses it. Each function is what a user would otherwise write
around the rooms, with defaults that a newcomer wants.
"""

from jaxembed.recipes.bigranular import bigranular_search
from jaxembed.recipes.click_models import ClickModel, load_clicks
from jaxembed.recipes.clicks import fit_clicks
from jaxembed.recipes.cutoffs import cutoff_logits, fit_cutoff
from jaxembed.recipes.fine_tuning import fine_tune
from jaxembed.recipes.sets import index_sets, search_sets
from jaxembed.recipes.text_search import embed_texts, search

__all__ = [
    "ClickModel",
    "bigranular_search",
    "cutoff_logits",
    "embed_texts",
    "fine_tune",
    "fit_clicks",
    "fit_cutoff",
    "index_sets",
    "load_clicks",
    "search",
    "search_sets",
]
