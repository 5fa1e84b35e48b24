"""How far vectors crowd together, and how strongly one attention smooths its tokens."""

import jax.numpy as jnp

from jaxembed.arrays import accumulator, masked_mean, unit


def mean_cosine(vectors, mask=None):
    """Averages the cosine of two different vectors over all pairs of a set.

    ``mean over i != j of cos(x[i], x[j])``, computed as ``(|sum_i u[i]|**2 - n) / (n (n - 1))`` with unit
    vectors u. A zero vector has cosine 0 with all others.

    >>> print(mean_cosine(jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])).round(3))
    0.333

    Args:
        vectors: [..., N, D].
        mask: optional bool [..., N]. False leaves a vector out; it may hold anything.

    Returns:
        [...] in at least float32; 0 for a set of fewer than two vectors.

    References:
        K. Ethayarajh, arXiv:1909.00512.
    """
    vectors, mask = _clean(vectors, mask)
    directions = unit(vectors)
    count = jnp.sum(mask, axis=-1).astype(vectors.dtype)
    total = jnp.sum(jnp.sum(directions, axis=-2) ** 2, axis=-1)
    lengths = jnp.sum(directions**2, axis=(-2, -1))  # the number of vectors that are not zero
    return (total - lengths) / jnp.maximum(count * (count - 1), 1)


def high_frequency(vectors, mask=None):
    """Subtracts from each vector of a set the mean of the set: what attention smooths away.

    ``HC[X] = (I - 11'/n) X``

    >>> print(high_frequency(jnp.array([[1.0], [3.0], [9.0]]), jnp.array([True, True, False])).T)
    [[-1.  1.  0.]]

    Args:
        vectors: [..., T, D].
        mask: optional bool [..., T]. n counts the vectors that it keeps; the others become zeros.

    Returns:
        [..., T, D] in at least float32.

    References:
        Y. Zhou et al. (TempScale), arXiv:2410.24200.
    """
    vectors, mask = _clean(vectors, mask)
    return jnp.where(mask[..., None], vectors - masked_mean(vectors, mask)[..., None, :], 0)


def filter_rate(weights, mask=None):
    """Bounds how much of the differences between tokens one attention lets through.

    ``rate = |(I - 11'/n) A|_2``, the largest singular value. For a matrix A whose rows sum to 1,
    ``|HC[A X]|_F <= rate |HC[X]|_F`` with HC of :func:`high_frequency`. Uniform attention has rate 0, each
    token reading itself alone rate 1; the rate may exceed 1.

    >>> print(filter_rate(jnp.array([[[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]])))
    [0. 1.]

    Args:
        weights: [..., T, T], row t holds how much token t reads of each token.
        mask: optional bool [..., T], broadcast against the leading axes of ``weights``: ``mask[:, None]``
            for weights [B, H, T, T]. Rows and columns of other tokens are left out, and n counts real ones.

    Returns:
        [...] in at least float32; 0 for a text of fewer than two tokens. The cost is T**3.

    References:
        Y. Zhou et al. (TempScale), arXiv:2410.24200.
    """
    weights = jnp.asarray(weights)
    if weights.ndim < 2 or weights.shape[-1] != weights.shape[-2]:
        raise ValueError(f"weights: shape {weights.shape}; pass [..., T, T], one row for each token")
    if mask is not None:
        mask = jnp.broadcast_to(mask, weights.shape[:-1])
        weights = jnp.where(mask[..., None, :], weights, 0)
    rest = high_frequency(weights, mask)
    gram = jnp.einsum("...ts,...tr->...sr", rest, rest, precision="highest")
    squared = jnp.linalg.eigvalsh(gram)[..., -1]
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)


def _clean(vectors, mask):
    vectors = jnp.asarray(vectors)
    mask = jnp.ones(vectors.shape[:-1], bool) if mask is None else jnp.asarray(mask)
    if mask.shape != vectors.shape[:-1]:
        raise ValueError(f"mask: shape {mask.shape} for vectors {vectors.shape}; pass bool [..., T]")
    return jnp.where(mask[..., None], vectors, 0).astype(accumulator(vectors)), mask
