"""Coordinates that people can read: sparse codes over a dictionary, axes between opposites."""

import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, exact_product, on_device
from jaxembed.shrinkage import dictionary_of, shrunk_codes


def fit_dictionary(key, vectors, count, *, penalty=0.1, rate=0.5, steps=200, batch_size=256):
    """Dictionary of sparse codes: directions of which few describe each vector, with codes from 0 on.

    With more directions than coordinates (the paper takes ten times as many) single coordinates of
    :func:`sparse_codes` tend to have one meaning, which those of a dense vector have not.

    >>> import jax
    >>> found = fit_dictionary(jax.random.key(0), jnp.concatenate([jnp.eye(3)] * 4), 3, batch_size=8)
    >>> print(found.max(axis=1))
    [1. 1. 1.]

    Args:
        key: random key of the start and the batches.
        vectors: [N, D].
        count: K, at most N.
        penalty: of the sizes of the codes.
        rate: of the steps.
        steps: batches.
        batch_size: vectors of a batch.

    Returns:
        [K, D], rows of length 1.

    Raises:
        ValueError: for another shape or a count outside 1..N.

    References:
        B. Murphy et al., NNSE, COLING 2012; M. Faruqui et al., Sparse Overcomplete Word Vectors,
        arXiv:1506.02004. They solve for both factors with AdaGrad or an exact solver; here it is online
        dictionary learning.
    """
    vectors = on_device("vectors", vectors)
    check_shape("vectors", vectors, (None, None))
    if not 1 <= count <= len(vectors):
        raise ValueError(f"count: {count} is outside 1..{len(vectors)}, the number of vectors; choose fewer")
    vectors = vectors.astype(accumulator(vectors))
    return dictionary_of(key, vectors, count, penalty, rate, steps, batch_size, nonnegative=True)


def sparse_codes(vectors, dictionary, *, penalty=0.1, steps=100):
    """Sparse codes: writes each vector as a sum of few entries of a dictionary, with weights from 0 on.

    ``z`` minimises ``|x - z D|**2 / 2 + penalty sum z`` over z >= 0, by proximal gradient steps.

    >>> print(sparse_codes(jnp.array([[1.0, 0.05]]), jnp.eye(2)))
    [[0.9 0. ]]

    Args:
        vectors: [N, D].
        dictionary: D, [K, D], of :func:`fit_dictionary`.
        penalty: of the sizes of the codes; may be traced.
        steps: of the solver.

    Returns:
        [N, K] in at least float32, at least 0.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        I. Daubechies et al., 2004; non-negative codes for words: B. Murphy et al., COLING 2012.
    """
    vectors, dictionary = on_device("vectors", vectors), on_device("dictionary", dictionary)
    check_shape("vectors", vectors, (None, None))
    check_shape("dictionary", dictionary, (None, vectors.shape[1]))
    dtype = accumulator(vectors, dictionary)
    given = vectors.astype(dtype), dictionary.astype(dtype)
    return shrunk_codes(*given, penalty=penalty, steps=steps, nonnegative=True)


def polar_axes(first, second):
    """POLAR axes: the matrix that writes vectors along axes between opposites, such as cold and hot.

    With a the differences ``first - second``, the kernel is the pseudo-inverse of ``a`` [K, D]: ``x @
    kernel`` are the coefficients with which the differences come nearest to x. Positive means nearer to the
    first pole.

    >>> kernel = polar_axes(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 0.0]]))
    >>> print(jnp.array([[1.0, 5.0]]) @ kernel)
    [[0.5]]

    Args:
        first: [K, D], one pole of each axis.
        second: [K, D], the other.

    Returns:
        [D, K] in at least float32.

    Raises:
        ValueError: for shapes that differ or no axis.

    References:
        B. Mathew et al., POLAR, arXiv:2001.09876.
    """
    first, second = on_device("first", first), on_device("second", second)
    check_shape("first", first, (None, None))
    check_shape("second", second, first.shape)
    if not first.size:
        raise ValueError(f"first: shape {first.shape}; pass at least one pair of opposites")
    difference = first.astype(accumulator(first, second)) - second
    largest = jnp.max(jnp.abs(difference))
    scale = jnp.where(largest > 0, largest, 1)
    left, values, right = jnp.linalg.svd(difference / scale, full_matrices=False)
    kept = values > max(difference.shape) * jnp.finfo(values.dtype).eps * values[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0) / scale
    return exact_product(right.T * inverse, left.T)
