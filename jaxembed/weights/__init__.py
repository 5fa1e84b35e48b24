"""parameters -> parameters: models of one start merged into one, adapters, kernels of convolutions."""

from jaxembed.weights.coefficients import fit_coefficients
from jaxembed.weights.kernels import kernel_rows, kernels, with_kernels
from jaxembed.weights.lowrank import init_low_rank, low_rank
from jaxembed.weights.merge import fisher_diagonal, group_names, merge, task_vector

__all__ = [
    "fisher_diagonal",
    "fit_coefficients",
    "group_names",
    "init_low_rank",
    "kernel_rows",
    "kernels",
    "low_rank",
    "merge",
    "task_vector",
    "with_kernels",
]
