"""parameters -> parameters: models of one start merged into one, adapters, kernels of convolutions."""

from jaxembed.weights.coefficients import fit_coefficients
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
from jaxembed.weights.lowrank import init_low_rank, low_rank
from jaxembed.weights.merge import fisher_diagonal, group_names, merge, task_vector

__all__ = [
    "drift_matrix",
    "filter_orthogonality",
    "fisher_diagonal",
    "fit_coefficients",
    "fit_kernel_basis",
    "group_names",
    "init_low_rank",
    "kernel_coefficients",
    "kernel_rows",
    "kernel_sparsity",
    "kernels",
    "layer_quality",
    "low_rank",
    "merge",
    "model_quality",
    "random_entropy",
    "scaled_rows",
    "task_vector",
    "variance_entropy",
    "weighted_symmetric_kl",
    "with_kernels",
]
