"""Numbers about tables: collisions, the angles between readers, bytes."""

import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, inner, unit
from jaxembed.tables.lookup import row_and_sign


def collision_stats(codes, feature_of):
    """Collisions: counts the pairs of values that share a row, within and between features.

    ``n`` values in one row are ``n (n - 1) / 2`` pairs; a pair is "intra" when both are of one feature.

    >>> collision_stats(np.array([0, 0, 0, 2]), np.array([0, 0, 1, 1]))
    {'intra_pairs': 1, 'inter_pairs': 2, 'occupied': 2}

    Args:
        codes: int [N], the row of each distinct value of each feature; the sign of a code does not matter and
            -1 is left out.
        feature_of: int [N], the feature of each value.

    Returns:
        {"intra_pairs": int, "inter_pairs": int, "occupied": number of rows that are read}.
    """
    codes, feature_of = np.asarray(codes), np.asarray(feature_of)
    if codes.ndim != 1 or codes.shape != feature_of.shape:
        raise ValueError(f"codes, feature_of: shapes {codes.shape}, {feature_of.shape}; need [N] both")
    rows, _ = row_and_sign(codes)
    rows, feature_of = rows[rows >= 0], feature_of[rows >= 0]
    occupied, counts = np.unique(rows, return_counts=True)
    _, parts = np.unique(np.stack([rows, feature_of]), axis=1, return_counts=True)
    pairs, intra = (int(np.sum(c * (c - 1) // 2)) for c in (counts, parts))
    return {"intra_pairs": intra, "inter_pairs": pairs - intra, "occupied": len(occupied)}


def reader_angles(readers):
    """Reader angles: those between the vectors that read the features, in degrees.

    ``angle[s, t] = arccos(cos(readers[s], readers[t]))``. Collisions between features do no harm as far as
    their readers are orthogonal. A zero reader is at 90 degrees to every other.

    >>> print(reader_angles(jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])).round(1))
    [[ 0. 45. 90.]
     [45.  0. 45.]
     [90. 45.  0.]]

    Args:
        readers: [T, D], the weights by which a first layer reads each feature.

    Returns:
        [T, T] in at least float32.

    References:
        B. Coleman et al., Unified Embedding, arXiv:2305.12102.
    """
    readers = jnp.asarray(readers)
    directions = unit(readers.astype(accumulator(readers)))
    apart = jnp.linalg.norm(directions[:, None] - directions[None], axis=-1)
    together = jnp.linalg.norm(directions[:, None] + directions[None], axis=-1)
    return jnp.rad2deg(2 * jnp.arctan2(apart, together))


def reader_overlap(first, second):
    """Reader overlap: how far two blocks of a first layer read the same directions; 0 none, 1 all.

    ``|A B^T| / (|A| |B|)`` in Frobenius norms; 0 when a block is zero.

    >>> print(reader_overlap(jnp.eye(3)[:1], jnp.eye(3)[1:]), reader_overlap(jnp.eye(3)[:1], jnp.eye(3)[:1]))
    0.0 1.0

    Args:
        first: [K, D], the rows of the layer that read one feature.
        second: [J, D], those that read another.

    Returns:
        A scalar in [0, 1].

    References:
        arXiv:2305.12102.
    """
    first, second = (jnp.asarray(x, accumulator(jnp.asarray(x))) for x in (first, second))
    first, second = (x / jnp.maximum(jnp.max(jnp.abs(x), initial=0), 1) for x in (first, second))
    product = jnp.linalg.norm(inner(first, second))
    scale = jnp.linalg.norm(first) * jnp.linalg.norm(second)
    return jnp.where(scale == 0, 0, product / jnp.where(scale == 0, 1, scale))


def bytes_of(plan):
    """Memory: counts the bytes of the parameters of a plan.

    These are all leaves of :func:`~jaxembed.tables.init_tables`.

    >>> from jaxembed.tables import Feature, plan
    >>> bytes_of(plan([Feature("user"), Feature("gender", vocabulary=2)], rows=100, width=8))
    3264

    Args:
        plan: :class:`~jaxembed.tables.Plan`.

    Returns:
        int; four bytes for each number.
    """
    exact = sum(f.vocabulary * plan.reads(f) for f in plan.features if f.vocabulary is not None)
    rows = plan.height + exact
    importance = 0
    if plan.merge == "weighted":
        importance = plan.importance_rows * max((f.chunks for f in plan.shared), default=1)
    return 4 * (rows * plan.width + importance)
