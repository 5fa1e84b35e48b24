"""Small functions on arrays that two rooms need."""

import jax
import jax.numpy as jnp
import numpy as np


def accumulator(*arrays):
    """Returns the dtype in which norms, softmaxes and sums of these arrays are accumulated.

    At least float32, and float64 when an input is float64.

    >>> print(accumulator(jnp.zeros(2, jnp.bfloat16)))
    float32

    Args:
        arrays: arrays of any shape [...].

    Returns:
        A NumPy dtype.
    """
    return jnp.result_type(jnp.float32, *(jax.dtypes.canonicalize_dtype(a.dtype) for a in arrays))


def check_shape(name, array, shape):
    """Refuses an array of another shape.

    >>> check_shape("queries", jnp.zeros((3, 2)), (None, 2))

    Args:
        name: of the argument, for the error.
        array: what was given.
        shape: the shape that it must have; None stands for any length.

    Raises:
        ValueError: with both shapes.
    """
    found = jnp.shape(array)
    if len(found) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name}: shape {found}; pass [{wanted}]")


def check_temperature(temperature):
    """Refuses a temperature that is not above 0; one that jax holds or traces passes unread.

    >>> check_temperature(0.05)

    Args:
        temperature: number or array.

    Raises:
        ValueError: with the number.
    """
    if isinstance(temperature, int | float | np.ndarray | np.generic) and not np.all(temperature > 0):
        raise ValueError(f"temperature: {np.min(temperature)} is not above 0; pass a positive number")


def unit(x, *, axis=-1):
    """Scales vectors to length 1; a zero vector stays zero and has zero gradient.

    ``unit(x) = x / sqrt(sum(x**2))``. The vector is divided by its largest absolute coordinate first,
    so that squares neither overflow nor vanish.

    >>> print(unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
    [[0.6 0.8]
     [0.  0. ]]

    Args:
        x: [..., D], any float dtype.
        axis: the axis of the coordinates.

    Returns:
        [..., D] in the dtype of ``x``; the norm is accumulated in at least float32.
    """
    x = jnp.asarray(x)
    wide = x.astype(accumulator(x))
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(wide), axis=axis, keepdims=True))
    zero = largest == 0
    scaled = wide / jnp.where(zero, 1, largest)
    norm = jnp.sqrt(jnp.where(zero, 1, jnp.sum(scaled**2, axis=axis, keepdims=True)))
    return jnp.where(zero, 0, scaled / norm).astype(x.dtype)


def inner(x, y):
    """Computes all inner products of two sets of vectors in full float32 precision.

    ``inner(x, y)[..., i, j] = sum_d x[..., i, d] y[..., j, d]``. Accelerators that multiply float32
    in lower precision by default are asked for the exact product.

    >>> print(inner(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0], [5.0, 6.0]])))
    [[11. 17.]]

    Args:
        x: [..., N, D].
        y: [..., M, D].

    Returns:
        [..., N, M] in at least float32.
    """
    return jnp.einsum(
        "...nd,...md->...nm", x, y, precision="highest", preferred_element_type=accumulator(x, y)
    )


def masked_mean(x, mask):
    """Averages the rows that a mask keeps; an empty set gives zeros.

    ``masked_mean(x, mask)[b] = sum_t mask[b, t] x[b, t] / max(1, sum_t mask[b, t])``. What stands in
    masked rows never matters, not even NaN.

    >>> x = jnp.array([[[1.0], [3.0], [jnp.nan]]])
    >>> print(masked_mean(x, jnp.array([[True, True, False]])))
    [[2.]]

    Args:
        x: [..., T, D].
        mask: bool [..., T].

    Returns:
        [..., D] in the dtype of ``x``.
    """
    x = jnp.asarray(x)
    total = jnp.sum(jnp.where(mask[..., None], x, 0), axis=-2, dtype=accumulator(x))
    count = jnp.maximum(jnp.sum(mask, axis=-1), 1)[..., None]
    return (total / count.astype(total.dtype)).astype(x.dtype)
