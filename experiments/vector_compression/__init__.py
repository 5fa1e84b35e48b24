"""Codes of finished vectors, compared by what a search finds; see ``__main__``."""
