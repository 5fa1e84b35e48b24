"""parameters -> parameters: models merged into one, adapters, kernels of convolutions, banks, pruning."""

from jaxembed.weights.coefficients import fit_coefficients
from jaxembed.weights.filter_scores import (
    activation_spread,
    feature_rank,
    filter_l1,
    min_max,
    select_filters,
    selection_stability,
)
from jaxembed.weights.kernel_drift import (
    drift_matrix,
    fit_kernel_basis,
    kernel_coefficients,
    scaled_rows,
    weighted_symmetric_kl,
)
from jaxembed.weights.kernel_statistics import (
    filter_orthogonality,
    kernel_sparsity,
    layer_quality,
    model_quality,
    random_entropy,
    variance_entropy,
)
from jaxembed.weights.kernels import kernel_rows, kernels, with_kernels
from jaxembed.weights.learned_filters import oja_filters, som_filters, sparse_codes, sparse_filters
from jaxembed.weights.lowrank import init_low_rank, low_rank
from jaxembed.weights.merge import fisher_diagonal, group_names, merge, task_vector
from jaxembed.weights.patch_filters import (
    draw_patches,
    fold_whitening,
    kmeans_filters,
    lda_filters,
    normalise_patches,
    pca_filters,
)
from jaxembed.weights.patterns import (
    bank_initializer,
    dct_bank,
    dirac,
    filters_to_kernel,
    gabor_bank,
    receptive_fields,
    redraw_kernels,
)
from jaxembed.weights.prune import channel_masks, channel_sizes, mask_channels, prune, shared_scores
from jaxembed.weights.scattering import scattering
from jaxembed.weights.trace import convolution_taps, count_macs, count_parameters
from jaxembed.weights.unit_variance import unit_variance

__all__ = [
    "activation_spread",
    "bank_initializer",
    "channel_masks",
    "channel_sizes",
    "convolution_taps",
    "count_macs",
    "count_parameters",
    "dct_bank",
    "dirac",
    "draw_patches",
    "drift_matrix",
    "feature_rank",
    "filter_l1",
    "filter_orthogonality",
    "filters_to_kernel",
    "fisher_diagonal",
    "fit_coefficients",
    "fit_kernel_basis",
    "fold_whitening",
    "gabor_bank",
    "group_names",
    "init_low_rank",
    "kernel_coefficients",
    "kernel_rows",
    "kernel_sparsity",
    "kernels",
    "kmeans_filters",
    "layer_quality",
    "lda_filters",
    "low_rank",
    "mask_channels",
    "merge",
    "min_max",
    "model_quality",
    "normalise_patches",
    "oja_filters",
    "pca_filters",
    "prune",
    "random_entropy",
    "receptive_fields",
    "redraw_kernels",
    "scaled_rows",
    "scattering",
    "select_filters",
    "selection_stability",
    "shared_scores",
    "som_filters",
    "sparse_codes",
    "sparse_filters",
    "task_vector",
    "unit_variance",
    "variance_entropy",
    "weighted_symmetric_kl",
    "with_kernels",
]
