"""Ways to shrink tables of embeddings, compared at equal bytes; see ``__main__``."""
