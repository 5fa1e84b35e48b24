"""Banks of filters that learn from patches step by step: sparse coding, Oja's rule, self-organising maps."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import exact_product, unit
from jaxembed.checks import check_whole
from jaxembed.shrinkage import dictionary_of, shrunk_codes
from jaxembed.weights._patches import checked_patches


def sparse_codes(patches, filters, *, penalty=0.1, steps=50):
    """Sparse coding by ISTA: writes each patch as a sum of few filters.

    ``z <- soft(z + (x - z D) D' / L, penalty / L)`` with L the largest eigenvalue of ``D D'``, from z = 0:
    it lowers ``|x - z D|^2 / 2 + penalty |z|_1`` in every step.

    >>> print(sparse_codes(jnp.array([[1.0, 0.05]]), jnp.eye(2), penalty=0.1))
    [[0.9 0. ]]

    Args:
        patches: [N, P].
        filters: D, [K, P].
        penalty: of the sizes of the codes.
        steps: of the iteration.

    Returns:
        [N, K].

    References:
        I. Daubechies et al., An iterative thresholding algorithm, 2004.
    """
    return shrunk_codes(checked_patches(patches), jnp.asarray(filters), penalty=penalty, steps=steps)


def sparse_filters(key, patches, count, *, penalty=0.1, rate=0.5, steps=200, batch_size=256):
    """Sparse coding filters: a dictionary of which few entries describe each patch.

    Each step codes a batch with :func:`sparse_codes`, moves the dictionary along the residuals, ``D <- D +
    rate z'(x - z D) / mean use``, and scales each row to length 1.

    >>> patches = jnp.concatenate([jnp.eye(3), 2 * jnp.eye(3)] * 4)
    >>> found = sparse_filters(jax.random.key(0), patches, 3, batch_size=8)
    >>> print(abs(found).max(axis=1).round(1))
    [1. 1. 1.]

    Args:
        key: random key; the first filters are patches that it draws, and so are the batches.
        patches: [N, P], normalised and best whitened.
        count: K, at most N.
        penalty: of the sizes of the codes.
        rate: of the steps.
        steps: batches.
        batch_size: patches of a batch.

    Returns:
        [K, P], rows of length 1. An entry that no patch uses is drawn anew from the patches.

    References:
        B. Olshausen and D. Field, Nature 1996; J. Mairal et al., Online dictionary learning, 2009.
    """
    patches = checked_patches(patches, count)
    check_whole(steps=steps, batch_size=batch_size)
    return dictionary_of(key, patches, count, penalty, rate, steps, batch_size)


def oja_filters(key, patches, count, *, rate=0.05, steps=2000, batch_size=32):
    """Oja's rule for several filters (Sanger's): learns the principal components from one batch at a time.

    ``W <- W + rate (y'x - LT(y'y) W) / v`` with y = x W', LT the lower triangle, batch means, and v the
    patches' mean square length. The rate falls to a tenth linearly.

    >>> patches = jax.random.normal(jax.random.key(0), (500, 3)) * jnp.array([3.0, 2.0, 1.0])
    >>> print(abs(oja_filters(jax.random.key(1), patches, 2)).round(0))
    [[1. 0. 0.]
     [0. 1. 0.]]

    Args:
        key: random key of the start and the batches.
        patches: [N, P]; their mean is taken off.
        count: K, at most P.
        rate: of the steps.
        steps: batches.
        batch_size: patches of a batch.

    Returns:
        [K, P], about orthonormal, the strongest component first.

    References:
        E. Oja, 1982; T. Sanger, Optimal unsupervised learning in a single-layer linear network, 1989.
    """
    patches = checked_patches(patches, count)
    check_whole(steps=steps, batch_size=batch_size)
    if count > patches.shape[1]:
        raise ValueError(f"count: {count} is above {patches.shape[1]}, the directions there are; lower it")
    return _hebbian(key, patches, count, rate, steps, batch_size)


@functools.partial(jax.jit, static_argnames=("count", "steps", "batch_size"))
def _hebbian(key, patches, count, rate, steps, batch_size):
    patches = patches - jnp.mean(patches, axis=0)
    scale = jnp.mean(jnp.sum(patches**2, axis=1))
    start = unit(jax.random.normal(key, (count, patches.shape[1]), patches.dtype)) / 2

    def step(filters, t):
        rows = jax.random.randint(jax.random.fold_in(key, t), (batch_size,), 0, len(patches))
        x = patches[rows]
        y = exact_product(x, filters.T)
        gradient = exact_product(y.T, x) - exact_product(jnp.tril(exact_product(y.T, y)), filters)
        falling = rate * (1 - 0.9 * t / steps)
        return filters + falling * gradient / (batch_size * jnp.where(scale > 0, scale, 1)), None

    return jax.lax.scan(step, start, jnp.arange(steps))[0]


def som_filters(key, patches, grid, *, steps=10_000, rate=(0.5, 0.02), width=None):
    """Self-organising map: filters on a grid whose neighbours learn alike.

    For one patch x at a time, ``w[j] += rate exp(-|r[j] - r[c]|^2 / (2 width^2)) (x - w[j])`` with c the
    nearest filter and r the places on the grid. Rate and width fall geometrically.

    >>> patches = jax.random.uniform(jax.random.key(0), (200, 2))
    >>> print(som_filters(jax.random.key(1), patches, (3, 3)).shape)
    (9, 2)

    Args:
        key: random key of the start and of the order of patches.
        patches: [N, P].
        grid: (rows, columns).
        steps: patches that are shown.
        rate: (first, last).
        width: (first, last) of the neighbourhood in places of the grid; None goes from half of the larger
            side to 0.5. Near 0 it is k-means, one patch at a time.

    Returns:
        [rows * columns, P].

    References:
        T. Kohonen, 1982; as a bank of filters, arXiv:2410.21644.
    """
    patches = checked_patches(patches)
    check_whole(steps=steps, **{f"grid[{i}]": side for i, side in enumerate(grid)})
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"grid: {grid}; pass (rows, columns), both at least 1")
    width = (max(1.0, max(grid) / 2), 0.5) if width is None else width
    return _map(key, patches, tuple(grid), steps, jnp.array(rate), jnp.array(width))


@functools.partial(jax.jit, static_argnames=("grid", "steps"))
def _map(key, patches, grid, steps, rate, width):
    places = jnp.asarray(list(np.ndindex(*grid)), patches.dtype)
    gaps = jnp.sum((places[:, None] - places[None]) ** 2, axis=-1)
    first_key, order_key = jax.random.split(key)
    start = patches[jax.random.randint(first_key, (math.prod(grid),), 0, len(patches))]
    order = jax.random.randint(order_key, (steps,), 0, len(patches))

    def step(filters, now):
        t, row = now
        done = t / steps
        pace, wide = (x[0] * (x[1] / x[0]) ** done for x in (rate, width))
        nearest = jnp.argmin(jnp.sum((filters - patches[row]) ** 2, axis=1))
        pull = pace * jnp.exp(-gaps[nearest] / (2 * wide**2))
        return filters + pull[:, None] * (patches[row] - filters), None

    return jax.lax.scan(step, start, (jnp.arange(steps), order))[0]
