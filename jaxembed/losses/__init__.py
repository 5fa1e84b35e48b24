"""vectors -> one loss per example, and functions that turn losses into losses."""

from jaxembed.losses.cached import cached
from jaxembed.losses.contrastive import info_nce, sigmoid_loss, softmax_loss, symmetric
from jaxembed.losses.distillation import compression_loss, compression_target, margin_mse, score_kl, vector_kl
from jaxembed.losses.layer_grids import (
    diagonal_grid,
    espresso_grid,
    full_grid,
    layer_weights,
    sampled_weights,
    two_dimensional_weights,
)
from jaxembed.losses.layer_objectives import (
    espresso,
    layer_objective,
    score_kl_to_last,
    starbucks,
    two_dimensional,
    vector_kl_to_last,
)
from jaxembed.losses.likelihood import frozen_softmax, masked_autoencoder, masked_words_loss
from jaxembed.losses.masks import duplicate_mask, guided_mask, violator_mask
from jaxembed.losses.nested import matryoshka, over_layers
from jaxembed.losses.ranking import (
    angle,
    angle_objective,
    angle_scores,
    cosent,
    cosine_loss,
    cosine_scores,
    ranking_loss,
)
from jaxembed.losses.sampled import (
    init_frequency,
    log_frequency,
    sampled_softmax,
    spread_out,
    update_frequency,
)
from jaxembed.losses.supervised import label_pairs

__all__ = [
    "angle",
    "angle_objective",
    "angle_scores",
    "cached",
    "compression_loss",
    "compression_target",
    "cosent",
    "cosine_loss",
    "cosine_scores",
    "diagonal_grid",
    "duplicate_mask",
    "espresso",
    "espresso_grid",
    "frozen_softmax",
    "full_grid",
    "guided_mask",
    "info_nce",
    "init_frequency",
    "label_pairs",
    "layer_objective",
    "layer_weights",
    "log_frequency",
    "margin_mse",
    "masked_autoencoder",
    "masked_words_loss",
    "matryoshka",
    "over_layers",
    "ranking_loss",
    "sampled_softmax",
    "sampled_weights",
    "score_kl",
    "score_kl_to_last",
    "sigmoid_loss",
    "softmax_loss",
    "spread_out",
    "starbucks",
    "symmetric",
    "two_dimensional",
    "two_dimensional_weights",
    "update_frequency",
    "vector_kl",
    "vector_kl_to_last",
    "violator_mask",
]
