"""Classifier-free guidance: conditions that are dropped in training and strengthened in sampling."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape
from jaxembed.diffusion.process import spread

CONVENTIONS = ("scale", "weight")


def null_rows(null, params, condition):
    """Null conditions of a batch: the null of one example, as often as the condition has rows.

    >>> print(null_rows(jnp.zeros(2), None, jnp.ones((1, 2))))
    [[0. 0.]]

    Args:
        null: tree of arrays [...] without a batch axis, or a function from ``params`` to it.
        params: of the network.
        condition: tree of arrays [B, ...].

    Returns:
        Tree of arrays [B, ...].

    Raises:
        ValueError: where the two do not fit.
    """
    if condition is None:
        raise ValueError("condition: None; a null condition stands in for one, so pass a condition")
    null = null(params) if callable(null) else null
    if jax.tree.structure(null) != jax.tree.structure(condition):
        raise ValueError("null: another tree than the condition; pass the condition of one example")

    def rows(given, one):
        if np.shape(one) != np.shape(given)[1:]:
            raise ValueError(
                f"null: shape {np.shape(one)} for conditions {np.shape(given)}; pass {np.shape(given)[1:]}"
            )
        return jnp.broadcast_to(jnp.asarray(one, jnp.result_type(given)), np.shape(given))

    return jax.tree.map(rows, condition, null)


def drop_condition(key, params, condition, drop, null):
    """The condition [B, ...] with the null instead in a share of the rows, each drawn for itself."""
    if condition is None or (isinstance(drop, int | float) and drop == 0):
        return condition
    if null is None:
        raise ValueError(f"null: drop={drop} needs a null condition; pass null, or drop=0 without guidance")
    nulls = null_rows(null, params, condition)
    gone = jax.random.bernoulli(key, drop, np.shape(jax.tree.leaves(condition)[0])[:1])
    return jax.tree.map(lambda c, n: jnp.where(spread(gone, c), n, c), condition, nulls)


def guided(denoise, scale, null, *, convention="scale"):
    """Classifier-free guidance: moves a prediction away from that of the null condition.

    With c and u the predictions for the condition and for the null: ``u + scale (c - u)`` under the
    convention "scale", where 1 is the plain c. Under "weight" it is ``(1 + scale) c - scale u``, where 0
    is that. A weight w is a scale of 1 + w. Both predictions come from one batch of 2 B rows.

    >>> denoise = lambda params, x, t, condition, key=None: condition
    >>> both = guided(denoise, 3.0, jnp.array([1.0]))
    >>> print(both(None, jnp.zeros((1, 1)), jnp.array([0]), jnp.array([[2.0]])))
    [[4.]]

    Args:
        denoise: ``denoise(params, x [B, ...], t [B], condition, key) -> [B, ...]``, with any prediction.
        scale: number, or [B]; may be traced. Stable Diffusion uses 7.5 under "scale".
        null: the null condition of one example, without a batch axis, or a function of ``params`` that gives
            it: a learned row, zeros, or the states of an empty prompt.
        convention: "scale", as in Stable Diffusion, or "weight", as in the paper.

    Returns:
        A denoiser of the same signature, whose condition is a tree of arrays [B, ...].

    Raises:
        ValueError: without a null, or for an unknown convention. The denoiser refuses a null of another
            shape than its condition, and calls without a condition.

    References:
        J. Ho and T. Salimans, arXiv:2207.12598.
    """
    if null is None:
        raise ValueError("null: guidance needs a null condition; pass the one of the training")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention={convention!r}; choose one of {', '.join(CONVENTIONS)}")

    def both(params, x, t, condition=None, key=None):
        nulls = null_rows(null, params, condition)
        # the two of an example are neighbours: a batch that is split over devices stays where it is
        rows = jax.tree.map(_twins, (x, t, nulls), (x, t, condition))
        out = denoise(params, *rows, key)
        check_shape("the result of denoise", out, (2 * len(x), *np.shape(x)[1:]))
        out = out.reshape(len(x), 2, *np.shape(x)[1:])
        extra = jnp.asarray(scale) - (convention == "scale")
        if extra.ndim:
            check_shape("scale", extra, np.shape(x)[:1])
            extra = spread(extra, x)
        return out[:, 1] + extra * (out[:, 1] - out[:, 0])

    return both


def _twins(first, second):
    """Rows [2 B, ...] of two arrays [B, ...] in turn."""
    return jnp.stack([first, second], axis=1).reshape(-1, *np.shape(first)[1:])
