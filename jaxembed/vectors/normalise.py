"""Vectors spread evenly over directions: centring, whitening, removing the strongest directions, scores."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, exact_product, mean_row, on_device, rows_where, spectrum


def fit_centre(vectors, *, where=None):
    """Centring: measures the mean of vectors, which :func:`standardise` subtracts.

    >>> params = fit_centre(jnp.array([[1.0, 2.0], [3.0, 2.0]]))
    >>> print(params["mean"], standardise(params, jnp.array([[1.0, 2.0]])))
    [2. 2.] [[-1.  0.]]

    Args:
        vectors: [N, D].
        where: optional bool [N]. False leaves a row out; it may hold anything.

    Returns:
        ``mean`` [D] and ``kernel`` [D, D], the identity, for :func:`standardise`.
    """
    vectors, where = rows_where(vectors, where)
    return {"mean": mean_row(vectors, where), "kernel": jnp.eye(vectors.shape[1], dtype=vectors.dtype)}


def fit_whiten(vectors, *, size=None, kind="zca", where=None, epsilon=1e-6, ridge=0.0):
    """Whitening: measures how to give vectors mean 0 and equal variance in all directions.

    With the covariance ``C = U diag(l) U'``, l falling, ``kernel = U[:, :size] diag(1 / sqrt(l))`` for "pca".
    "zca" multiplies that by ``U[:, :size]'``, which turns the vectors back: they stay as near to the given
    ones as whitening allows. The inner products of the results are the same for both, and those of
    independent component analysis, which turns once more.

    >>> vectors = jnp.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> print(abs(standardise(fit_whiten(vectors), vectors)).round(3))
    [[1.414 0.   ]
     [1.414 0.   ]
     [0.    1.414]
     [0.    1.414]]

    Args:
        vectors: [N, D], N above D for a full covariance.
        size: how many of the strongest directions are kept; default D.
        kind: "zca" or "pca". "pca" gives [.., size] coordinates.
        where: optional bool [N]. False leaves a row out; it may hold anything.
        epsilon: smallest l that counts, as a fraction of the largest: directions with less variance become
            0, for unseen vectors too, instead of blowing up.
        ridge: added to every l, which makes weak directions small instead of equal to the strong ones. For
            patches of pictures of variance 1, 0.01 to 0.1 are usual.

    Returns:
        ``mean`` [D] and ``kernel`` [D, D] ("zca") or [D, size] ("pca") for :func:`standardise`.

    Raises:
        ValueError: for an unknown kind or a size outside 1..D.

    References:
        J. Su et al., arXiv:2103.15316; J. Huang et al., WhiteningBERT, arXiv:2104.01767. Independent
        components (FastICA, in DefSent+ arXiv:2405.16153) are whitened vectors after a rotation, which
        changes no inner product of two of them; that rotation is left out.
    """
    vectors, where = rows_where(vectors, where)
    width = vectors.shape[1]
    size = width if size is None else size
    if not 1 <= size <= width:
        raise ValueError(f"size: {size} is outside 1..{width}, the width of the vectors")
    if kind not in ("zca", "pca"):
        raise ValueError(f'kind={kind!r}: pass "zca" or "pca"')
    mean = mean_row(vectors, where)
    variances, directions = spectrum(vectors - mean, where)
    kept = (variances > 0) & (variances >= epsilon * variances[0])
    directions = directions[:, :size]
    kernel = directions * jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, variances + ridge, 1)), 0)[:size]
    return {"mean": mean, "kernel": kernel if kind == "pca" else exact_product(kernel, directions.T)}


def fit_removal(vectors, *, components=1, centre=True, where=None):
    """All-but-the-top: measures the strongest directions of vectors, which :func:`standardise` removes.

    ``kernel = I - U[:, :components] U[:, :components]'`` with U the principal directions of the vectors,
    taken around their mean or, with ``centre=False``, around 0.

    >>> vectors = jnp.array([[5.0, 1.0], [5.0, -1.0]])
    >>> print(standardise(fit_removal(vectors, centre=False), vectors))
    [[ 0.  1.]
     [ 0. -1.]]

    Args:
        vectors: [N, D].
        components: how many directions go. The papers take 1 without a centre (SIF) and about D / 100
            with one (all-but-the-top). 0 removes none.
        centre: whether the mean is subtracted first.
        where: optional bool [N]. False leaves a row out; it may hold anything.

    Returns:
        ``mean`` [D] and ``kernel`` [D, D] for :func:`standardise`.

    Raises:
        ValueError: for components outside 0..D.

    References:
        S. Arora et al. (SIF), ICLR 2017, openreview.net/forum?id=SyK00v5xx; J. Mu and P. Viswanath,
        arXiv:1702.01417.
    """
    vectors, where = rows_where(vectors, where)
    width = vectors.shape[1]
    if not 0 <= components <= width:
        raise ValueError(f"components: {components} is outside 0..{width}, the width of the vectors")
    mean = mean_row(vectors, where) if centre else jnp.zeros(width, vectors.dtype)
    _, directions = spectrum(vectors - mean, where)
    strongest = directions[:, :components]
    return {
        "mean": mean,
        "kernel": jnp.eye(width, dtype=vectors.dtype) - exact_product(strongest, strongest.T),
    }


def standardise(params, vectors):
    """Standardisation: applies what one of the ``fit_`` functions measured.

    ``standardise(x) = (x - mean) @ kernel``. What was measured on some vectors (a corpus) is also applied to
    others (queries).

    >>> params = {"mean": jnp.array([1.0, 0.0]), "kernel": 2 * jnp.eye(2)}
    >>> print(standardise(params, jnp.array([[1.0, 3.0]])))
    [[0. 6.]]

    Args:
        params: ``mean`` [D] and ``kernel`` [D, K].
        vectors: [..., D].

    Returns:
        [..., K] in at least float32. Lengths are not made equal; see ``jaxembed.arrays.unit``.

    Raises:
        ValueError: for vectors of another width.
    """
    vectors, width = jnp.asarray(vectors), len(params["mean"])
    if vectors.shape[-1] != width:
        raise ValueError(f"vectors: width {vectors.shape[-1]}, but params were fitted to width {width}")
    return exact_product(vectors.astype(accumulator(vectors)) - params["mean"], params["kernel"])


def entry_means(vectors, entries, count):
    """Entry means: averages the vectors of the definitions of each dictionary entry.

    ``table[e] = mean of vectors[m] over m with entries[m] == e``

    >>> print(entry_means(jnp.array([[1.0], [3.0], [5.0]]), jnp.array([0, 0, 2]), 3).T)
    [[2. 0. 5.]]

    Args:
        vectors: [M, D], one vector per definition.
        entries: int [M] in 0..count-1; a definition with another number is left out.
        count: the number N of entries.

    Returns:
        [N, D] in at least float32; zeros for an entry without definitions.

    References:
        X. Liu, DefSent+, arXiv:2405.16153.
    """
    vectors, entries = jnp.asarray(vectors), on_device("entries", entries)
    check_shape("vectors", vectors, (None, None))
    check_shape("entries", entries, vectors.shape[:1])
    inside = (entries >= 0) & (entries < count)
    vectors = jnp.where(inside[:, None], vectors, 0).astype(accumulator(vectors))
    place = jnp.where(inside, entries, count)
    total = jnp.zeros((count + 1, vectors.shape[1]), vectors.dtype).at[place].add(vectors)[:count]
    numbers = jnp.zeros(count + 1, jnp.int32).at[place].add(1)[:count]
    return total / jnp.maximum(numbers, 1)[:, None].astype(total.dtype)
