"""How two result lists differ, and how much of one is relevant."""

import jax.numpy as jnp

from jaxembed.arrays import check_shape, narrow_ids


def precision(gains, *, k=10):
    """Precision at k: the share of the first k places that is relevant.

    ``precision = |{r <= k: gains[r] > 0}| / k``; places beyond the ranking count as not relevant.

    >>> print(precision(jnp.array([[1.0, 0.0, 1.0]]), k=2))
    [0.5]

    Args:
        gains: [B, K], the gain at each place, as ``gains(ids, judged_ids, judged_gains)`` gives it.
        k: how many places count.

    Returns:
        float32 [B] within 0..1.

    Raises:
        ValueError: for k below 1.
    """
    gains = jnp.asarray(gains)
    check_shape("gains", gains, (None, None))
    if k < 1:
        raise ValueError(f"k: {k} is below 1; pass how many places count")
    return jnp.sum(gains[:, :k] > 0, axis=1).astype(jnp.float32) / k


def list_overlap(first, second, *, k=10):
    """Overlap of lists: the share of the first k entries that two rankings have in common.

    ``overlap[b] = |first k of first[b] in first k of second[b]| / k``, whatever their order.

    >>> print(list_overlap(jnp.array([[4, 2, 9]]), jnp.array([[2, 7, 4]]), k=2))
    [0.5]

    Args:
        first: int [B, K], best first, distinct within a row; a negative id is padding.
        second: int [B, L], the same.
        k: how many entries are compared, at most K and L.

    Returns:
        float32 [B] within 0..1.

    Raises:
        ValueError: for shapes that do not fit, or k out of range.
    """
    (first, second), _ = narrow_ids(first=first, second=second)
    check_shape("first", first, (None, None))
    check_shape("second", second, (len(first), None))
    if not 1 <= k <= min(first.shape[1], second.shape[1]):
        raise ValueError(f"k: {k} is outside 1..{min(first.shape[1], second.shape[1])}, the length of a list")
    first, second = first[:, :k], second[:, :k]
    same = (first[:, :, None] == second[:, None]) & (first[:, :, None] >= 0)
    return jnp.sum(jnp.any(same, axis=2), axis=1).astype(jnp.float32) / k
