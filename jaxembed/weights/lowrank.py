"""Adapters of low rank: a few parameters beside kernels that stay frozen."""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator
from jaxembed.weights._groups import path_of, shapes_of


def init_low_rank(key, params, pattern, rank, *, magnitudes=False):
    """LoRA: draws adapters of low rank for the kernels whose path contains a regex.

    At first they change nothing: "down" is drawn from N(0, 1 / inputs) and "up" is zero.

    >>> params = {"dense": {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}}
    >>> adapters = init_low_rank(jax.random.key(0), params, "kernel", 2)
    >>> print({name: x.shape for name, x in adapters["dense"]["kernel"].items()})
    {'down': (4, 2), 'up': (2, 3)}

    Args:
        key: random key; kernel i of those that match draws from ``fold_in(key, i)``.
        params: nested dict of arrays; kernels are [..., inputs, outputs], leading axes (of layers) are kept
            apart.
        pattern: regex, searched in paths such as "blocks/attention/query/kernel".
        rank: r, at most the smaller of inputs and outputs.
        magnitudes: True adds "magnitude" [..., outputs], the lengths of the kernel's columns, which DoRA
            trains apart from their directions.

    Returns:
        Nested dict with {"down": [..., inputs, r], "up": [..., r, outputs]} in the place of each kernel, in
        at least float32. It is a tree like any other: train it, take its :func:`task_vector`.

    Raises:
        ValueError: where no path matches, or a match is not a kernel of floats that has such a rank.

    References:
        E. Hu et al. (LoRA), arXiv:2106.09685; S.-Y. Liu et al. (DoRA), arXiv:2402.09353.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern={pattern!r} is not a regex: {error}; write \\( for a bracket") from error
    chosen = [(path, x) for path, x in jax.tree.leaves_with_path(params) if re.search(pattern, path_of(path))]
    if not chosen:
        raise ValueError(f"pattern={pattern!r} matches no parameter; paths begin {[*shapes_of(params)][:5]}")
    adapters = {}
    for i, (path, kernel) in enumerate(chosen):
        _check_kernel(path_of(path), kernel, rank)
        *names, last = (entry.key for entry in path)
        place = adapters
        for name in names:
            place = place.setdefault(name, {})
        place[last] = _drawn(jax.random.fold_in(key, i), jnp.asarray(kernel), rank, magnitudes)
    return adapters


def low_rank(params, adapters, scale=1.0):
    """LoRA and DoRA: adds adapters to the kernels that they belong to.

    ``kernel + scale down up``. With "magnitude" m the columns w of that sum become ``m w / |w|``, where the
    gradient takes ``|w|`` as a constant (DoRA).

    >>> params = {"dense": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}}
    >>> one = {"down": jnp.array([[1.0], [0.0]]), "up": jnp.array([[3.0, 4.0]])}
    >>> print(low_rank(params, {"dense": {"kernel": one}}, scale=0.5)["dense"]["kernel"])
    [[1.5 2. ]
     [0.  0. ]]

    Train adapters by ``loss_fn(low_rank(params, adapters), batch, key)`` with the adapters as parameters.
    Merging the factors of two adapters does not add their products. To add those, merge what each does to
    the model: ``task_vector(low_rank(params, adapters), params)``.

    Args:
        params: nested dict of arrays.
        adapters: of :func:`init_low_rank`, some or all of its kernels.
        scale: number, alpha / rank of the paper; may be traced.

    Returns:
        Nested dict like ``params``, in its dtypes; products are in at least float32.

    Raises:
        ValueError: for adapters of a name that ``params`` lacks, or of other shapes.

    References:
        E. Hu et al. (LoRA), arXiv:2106.09685; S.-Y. Liu et al. (DoRA), arXiv:2402.09353.
    """
    return _adapted(params, adapters, scale, "")


def _adapted(params, adapters, scale, path):
    if not isinstance(params, Mapping):
        return _changed(params, adapters, scale, path)
    unknown = adapters.keys() - params.keys()
    if unknown:
        name = f"{path}/{min(unknown)}".strip("/")
        raise ValueError(f"adapters: {name!r} is not among the params; pass those of the same model")
    return {
        name: _adapted(x, adapters[name], scale, f"{path}/{name}") if name in adapters else x
        for name, x in params.items()
    }


def _changed(kernel, adapter, scale, path):
    down, up = adapter["down"], adapter["up"]
    shape = (*down.shape[:-1], up.shape[-1])
    if shape != kernel.shape or down.shape[-1] != up.shape[-2]:
        raise ValueError(
            f"adapters: {path.strip('/')!r} has down {down.shape} and up {up.shape}, the kernel is "
            f"{kernel.shape}; pass those of the same model"
        )
    dtype = accumulator(kernel, down, up)
    product = jnp.matmul(down, up, precision="highest", preferred_element_type=dtype)
    found = kernel.astype(dtype) + scale * product
    if "magnitude" in adapter:
        found = (
            found
            * (adapter["magnitude"].astype(dtype) / jax.lax.stop_gradient(_lengths(found)))[..., None, :]
        )
    return found.astype(kernel.dtype)


def _lengths(kernel):
    """Lengths [..., outputs] of the columns of [..., inputs, outputs], 1 for a column of zeros."""
    squares = jnp.sum(kernel**2, axis=-2)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 1)


def _check_kernel(name, kernel, rank):
    if kernel.ndim < 2 or not jnp.issubdtype(kernel.dtype, jnp.floating):
        found = f"{kernel.dtype} {kernel.shape}"
        raise ValueError(f"pattern: {name!r} is {found}, not a kernel of floats; match kernels alone")
    most = min(kernel.shape[-2:])
    if not 1 <= rank <= most:
        raise ValueError(f"rank={rank} is outside 1..{most}, what {name!r} of shape {kernel.shape} allows")


def _drawn(key, kernel, rank, magnitudes):
    *leading, inputs, outputs = kernel.shape
    dtype = accumulator(kernel)
    made = {
        "down": jax.random.normal(key, (*leading, inputs, rank), dtype) * inputs**-0.5,
        "up": jnp.zeros((*leading, rank, outputs), dtype),
    }
    return made | ({"magnitude": _lengths(kernel.astype(dtype))} if magnitudes else {})
