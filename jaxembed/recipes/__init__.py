"""Whole walks as functions: from texts or rows to a trained model, an index, an answer.

The top floor: it may use every room, and no room uses it.
"""

from jaxembed.recipes.sets import index_sets, search_sets

__all__ = [
    "index_sets",
    "search_sets",
]
