"""parameters -> parameters: models of one start merged into one, adapters of low rank, channels cut."""

from jaxembed.weights.coefficients import fit_coefficients
from jaxembed.weights.filter_scores import (
    activation_spread,
    feature_rank,
    filter_l1,
    min_max,
    select_filters,
    selection_stability,
)
from jaxembed.weights.lowrank import init_low_rank, low_rank
from jaxembed.weights.merge import fisher_diagonal, group_names, merge, task_vector
from jaxembed.weights.prune import channel_masks, channel_sizes, mask_channels, prune, shared_scores
from jaxembed.weights.trace import convolution_taps, count_macs, count_parameters

__all__ = [
    "activation_spread",
    "channel_masks",
    "channel_sizes",
    "convolution_taps",
    "count_macs",
    "count_parameters",
    "feature_rank",
    "filter_l1",
    "fisher_diagonal",
    "fit_coefficients",
    "group_names",
    "init_low_rank",
    "low_rank",
    "mask_channels",
    "merge",
    "min_max",
    "prune",
    "select_filters",
    "selection_stability",
    "shared_scores",
    "task_vector",
]
