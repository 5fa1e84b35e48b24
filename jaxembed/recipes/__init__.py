"""Whole walks as functions: from texts or rows to a trained model, an index, an answer.

The top floor: it may use every room, and no room uses it.
"""

from jaxembed.recipes.clicks import ClickModel, fit_clicks, load_clicks

__all__ = ["ClickModel", "fit_clicks", "load_clicks"]
