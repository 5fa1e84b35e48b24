"""Scales of layers that are set by data: layer-sequential unit variance."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.weights._groups import path_of


def unit_variance(params, paths, outputs, *, tolerance=0.1, rounds=10):
    """LSUV, layer-sequential unit variance: scales layer after layer until its outputs have variance 1.

    From the first layer to the last, ``w <- w / std(outputs of the layer)`` until the variance is within the
    tolerance of 1. Begin with orthogonal kernels, as the paper does, or with any bank of filters: all of them
    then have one scale.

    >>> params = {"first": {"kernel": jnp.full((1, 1), 5.0)}, "second": {"kernel": jnp.full((1, 1), 0.1)}}
    >>> def outputs(params):
    ...     x = jnp.array([[-1.0], [1.0]]) @ params["first"]["kernel"]
    ...     return x, x @ params["second"]["kernel"]
    >>> found = unit_variance(params, ["first/kernel", "second/kernel"], outputs)
    >>> print(found["first"]["kernel"], found["second"]["kernel"])
    [[1.]] [[1.]]

    Args:
        params: tree of arrays of any shape.
        paths: of the kernels, such as those of :func:`~jaxembed.weights.kernels`, from first to last.
        outputs: ``params -> arrays``, for each path what its layer gives on a batch, before the activation.
        tolerance: of the variance.
        rounds: divisions of one kernel at most.

    Returns:
        Tree like ``params``.

    Raises:
        ValueError: for a path that is not in the tree, another number of outputs, or a layer whose outputs
            do not vary or are not finite, by its path.

    References:
        D. Mishkin and J. Matas, All you need is a good init, arXiv:1511.06422.
    """
    paths = list(paths)
    known = {path_of(path) for path, _ in jax.tree.leaves_with_path(params)}
    unknown = [path for path in paths if path not in known]
    if unknown:
        raise ValueError(f"paths: {unknown[0]!r} is not among the params; pass paths of kernels(params)")

    @jax.jit
    def variances(params):
        return jnp.stack([jnp.var(x.astype(jnp.float32)) for x in outputs(params)])

    for place, path in enumerate(paths):
        for _ in range(rounds):
            found = np.asarray(variances(params))
            if len(found) != len(paths):
                raise ValueError(f"outputs: {len(found)} arrays for {len(paths)} paths; pass one for each")
            variance = float(found[place])
            if not 0 < variance < np.inf:
                raise ValueError(
                    f"outputs: those of {path!r} have variance {variance}; mend its kernel, or leave it out"
                )
            if abs(variance - 1) < tolerance:
                break
            params = _divided(params, path, variance**0.5)
    return params


def _divided(params, path, by):
    def one(place, leaf):
        return leaf / np.asarray(by, leaf.dtype) if path_of(place) == path else leaf

    return jax.tree.map_with_path(one, params)
