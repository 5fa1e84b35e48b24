"""vectors -> one loss per example, and functions that turn losses into losses."""

from jaxembed.losses.contrastive import duplicate_mask, info_nce, softmax_loss
from jaxembed.losses.nested import matryoshka

__all__ = ["duplicate_mask", "info_nce", "matryoshka", "softmax_loss"]
