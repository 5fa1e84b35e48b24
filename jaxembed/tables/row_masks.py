"""Masks of tables: which rows stay, by a norm and a threshold that train, and how many coordinates count."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, straight_through


def long_tail_slope(x):
    """Long-tail slope: the derivative that a step is given.

    ``slope(x) = 2 - 4 |x|`` up to ``|x| = 0.4``, then 0.4 up to ``|x| = 1``, then 0. The tail lets a row far
    from its threshold still move.

    >>> print(long_tail_slope(jnp.array([0.0, -0.25, 0.5, 1.0, 1.01])).astype("float16"))
    [2.  1.  0.4 0.4 0. ]

    Args:
        x: float [...].

    Returns:
        [...] in the dtype of ``x``.

    References:
        F. Lyu et al., OptEmbed, arXiv:2208.04482.
    """
    x = jnp.abs(x)
    return jnp.where(x <= 0.4, 2 - 4 * x, jnp.where(x <= 1, 0.4, 0.0)).astype(x.dtype)


def surrogate_step(x, *, slope=long_tail_slope):
    """Step with a surrogate gradient: 1 above zero, else 0, and trains as if it had a slope.

    ``step(x) = [x > 0]``, and its derivative is ``slope(x)``.

    >>> print(*jax.vmap(jax.value_and_grad(surrogate_step))(jnp.array([-0.2, 0.0, 0.5])))
    [0. 0. 1.] [1.2 2.  0.4]

    Args:
        x: float [...].
        slope: ``[...] -> [...]``, the surrogate derivative.

    Returns:
        [...] of 0 and 1 in the dtype of ``x``.

    References:
        F. Lyu et al., OptEmbed, arXiv:2208.04482.
    """
    x = jnp.asarray(x)
    return straight_through((x > 0).astype(x.dtype), jax.lax.stop_gradient(slope(x)) * x)


def row_mask(rows, thresholds, *, order=1):
    """Row mask: keeps a row whose norm is above its threshold, and trains both by a surrogate gradient.

    ``mask = step(|row|_order - threshold)``, with the gradients of :func:`surrogate_step`. Scaling rows and
    thresholds by one number changes nothing.

    >>> print(row_mask(jnp.array([[0.5, -0.5], [0.1, 0.1]]), jnp.array([0.4, 0.4])))
    [1. 0.]

    Args:
        rows: [..., D].
        thresholds: [...], that of each row; -inf keeps every row, inf none.
        order: 1 or 2, of the norm.

    Returns:
        [...] of 0 and 1, in at least float32.

    Raises:
        ValueError: for another order.

    References:
        arXiv:2208.04482, where the norm is that of order 1.
    """
    return surrogate_step(_norms(rows, order) - thresholds)


def _norms(rows, order):
    """Norms [...] of rows [..., D]; a row of zeros has a gradient of zero."""
    if order not in (1, 2):
        raise ValueError(f"order={order}; choose 1 or 2")
    rows = jnp.asarray(rows)
    rows = rows.astype(accumulator(rows))
    if order == 1:
        return jnp.sum(jnp.abs(rows), axis=-1)
    squares = jnp.sum(rows**2, axis=-1)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def sample_widths(key, shape, width):
    """Width sampling: draws widths of 1 to D evenly, one for each example and field.

    Coordinate j (from 0) of a vector so masked is trained in ``(D - j) / D`` of the cases.

    >>> widths = sample_widths(jax.random.key(0), (1000,), 4)
    >>> print(int(widths.min()), int(widths.max()))
    1 4

    Args:
        key: random key.
        shape: of the result.
        width: D, an int.

    Returns:
        int32 [...] of that shape.

    References:
        arXiv:2208.04482.
    """
    return jax.random.randint(key, shape, 1, width + 1)


def fields_of_rows(ids, sizes):
    """Field of a row: which field's values a row of the joined table belongs to.

    >>> print(fields_of_rows(jnp.array([0, 2, 3, 4]), (3, 2)))
    [0 0 1 1]

    Args:
        ids: int [...], rows of the table that holds the values of all fields, one field after the other.
        sizes: number of values of each field, a sequence [F].

    Returns:
        int32 [...].
    """
    ends = jnp.asarray(np.cumsum(sizes), jnp.int32)
    return jnp.searchsorted(ends[:-1], jnp.asarray(ids), side="right").astype(jnp.int32)


def check_sizes(table, sizes):
    """Refuses fields that do not fill a table [V, D], and rows that are not as many as the fields say."""
    if not len(sizes) or min(sizes) < 1 or sum(sizes) != table.shape[0]:
        raise ValueError(
            f"sizes: {tuple(sizes)} for a table of {table.shape[0]} rows; give the number of values of each "
            "field, at least 1"
        )


def threshold_penalty(thresholds, weight):
    """Threshold penalty: pushes thresholds up, so that more rows are pruned.

    ``penalty = weight * sum exp(-thresholds)``; its derivative is ``-weight * exp(-threshold)``.

    >>> print(threshold_penalty(jnp.zeros(3), 0.1).round(3))
    0.3

    Args:
        thresholds: [F] or [V].
        weight: number, alpha of the paper; may be traced.

    Returns:
        A scalar.

    References:
        arXiv:2208.04482.
    """
    return weight * jnp.sum(jnp.exp(-thresholds))


def row_margins(table, thresholds, sizes, *, order=1):
    """Row margins: how far the norm of each row is above its threshold.

    The rows of a margin above 0 are those that the mask keeps. The largest margins name the rows to keep
    where a number of rows is given.

    >>> print(row_margins(jnp.array([[0.5, 0.5], [0.1, 0.1]]), jnp.array([0.4]), (2,)).round(1))
    [ 0.6 -0.2]

    Args:
        table: [V, D], the values of all fields, one field after the other.
        thresholds: [F], one for each field, or [V], one for each row.
        sizes: number of values of each field, a sequence [F] that sums to V.
        order: 1 or 2, of the norm.

    Returns:
        [V] in at least float32.

    Raises:
        ValueError: for sizes that do not sum to V, or thresholds of another length.
    """
    check_sizes(table, sizes)
    thresholds, fields = jnp.asarray(thresholds), len(sizes)
    if thresholds.shape == (fields,):
        thresholds = jnp.repeat(thresholds, np.array(sizes), total_repeat_length=table.shape[0])
    if thresholds.shape != table.shape[:1]:
        raise ValueError(
            f"thresholds: shape {thresholds.shape}; give one for each of {fields} fields or {len(table)} rows"
        )
    return _norms(table, order) - thresholds
