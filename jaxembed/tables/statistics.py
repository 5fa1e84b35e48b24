"""Numbers about tables: collisions, the angles between readers, bytes."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, inner, unit
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
    check_shape("readers", readers, (None, None))
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
    check_shape("first", first, (None, None))
    check_shape("second", second, (None, first.shape[1]))
    first, second = (x / jnp.maximum(jnp.max(jnp.abs(x), initial=0), 1) for x in (first, second))
    product = jnp.linalg.norm(inner(first, second))
    scale = jnp.linalg.norm(first) * jnp.linalg.norm(second)
    return jnp.where(scale == 0, 0, product / jnp.where(scale == 0, 1, scale))


def gradient_parts(readers, codes, ids, residuals):
    """Frozen-reader analysis: splits the gradient of every row that a value reads by where it comes from.

    The model is one layer: ``z[b] = sum_t readers[t] . table[codes[t][b]]``. With the residuals r of its loss
    and ``S(x) = sum of r[b] over the examples that hold value x``, the gradient of the row of value u of
    feature t is the sum of

    - true: ``readers[t] S(u)``;
    - intra: ``readers[t] S(u')`` of the other values u' of t in this row, which no reader can tell apart;
    - inter: ``readers[s] S(v)`` of the values v of other features s in this row. They do not change what
      feature t reads where ``readers[s] . readers[t] = 0``.

    >>> readers = {"user": np.array([1.0, 2.0]), "film": np.array([1.0, 1.0])}
    >>> codes = {"user": np.array([[0], [0]]), "film": np.array([[1], [0]])}
    >>> ids = {"user": np.array([3, 4]), "film": np.array([3, 5])}
    >>> found = gradient_parts(readers, codes, ids, np.array([0.5, -1.0]))
    >>> print(*(found["user"][part].tolist() for part in ("true", "intra", "inter")))
    [[0.5, 1.0], [-1.0, -2.0]] [[-1.0, -2.0], [0.5, 1.0]] [[-1.0, -1.0], [-1.0, -1.0]]

    Args:
        readers: {feature: [D]}, the vectors that read the features; they do not learn here.
        codes: {feature: int [B, 1]}, the row of each example, at least 0.
        ids: {feature: int [B]}, the value of each example.
        residuals: [B], the derivative of the loss by z; for the binary cross-entropy sigmoid(z) - y.

    Returns:
        {feature: {"values": int [N], "rows": int [N], "true", "intra" and "inter": float64 [N, D]}}, its
        values in order.

    Raises:
        ValueError: for features that differ, codes that are not [B, 1], or an argument that is not a dict.

    References:
        B. Coleman et al., Unified Embedding, arXiv:2305.12102, the analysis of two features. The paper
        freezes the readers for its bound on the norms of rows, and argues of deeper networks by analogy.
    """
    for name, given in (("readers", readers), ("codes", codes), ("ids", ids)):
        if not isinstance(given, Mapping):
            raise ValueError(f"{name}: {type(given).__name__} is not a dict; pass {{feature: array}}")
    if not readers.keys() == codes.keys() == ids.keys():
        raise ValueError(f"readers, codes, ids: features {sorted(readers)}, {sorted(codes)}, {sorted(ids)}")
    residuals, found, totals = np.asarray(residuals, np.float64), {}, {}
    for name in readers:
        read = np.asarray(codes[name])
        if read.shape != (len(residuals), 1) or (read < 0).any():
            raise ValueError(f"codes: {name!r} has shape {read.shape}; need rows [B, 1], at least 0")
        values, firsts, places = np.unique(np.asarray(ids[name]), return_index=True, return_inverse=True)
        sums = np.bincount(places.reshape(-1), weights=residuals, minlength=len(values))
        found[name] = {"values": values, "rows": read[firsts, 0], "sums": sums}
    height = 1 + max(int(part["rows"].max(initial=0)) for part in found.values())
    for name, part in found.items():
        totals[name] = np.bincount(part["rows"], weights=part["sums"], minlength=height)
    vectors = {name: np.asarray(reader, np.float64) for name, reader in readers.items()}
    for name, part in found.items():
        rows, own = part["rows"], part.pop("sums")
        part["true"] = own[:, None] * vectors[name]
        part["intra"] = (totals[name][rows] - own)[:, None] * vectors[name]
        part["inter"] = sum(
            (totals[other][rows][:, None] * vectors[other] for other in vectors if other != name),
            np.zeros_like(part["true"]),
        )
    return found


def row_norms(table, codes=None):
    """Row norms: the lengths of the rows that are read.

    Inter-feature parts of the gradient that no reader corrects add up in a row. With frozen readers the paper
    bounds the mean square of these lengths by O(N / M), N values in M rows, under the cross-entropy.

    >>> print(row_norms(np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]), np.array([0, 2, 2, -1])))
    [5. 1.]

    Args:
        table: [M, D].
        codes: optional int [...], of the values that are known; rows that none of them reads are left out, as
            they keep their first numbers. A code beyond the table reads none.

    Returns:
        float64 [R], in the order of the rows.

    Raises:
        ValueError: for a table that is not [M, D].

    References:
        B. Coleman et al., Unified Embedding, arXiv:2305.12102. Norms grow in tables for each feature as well:
        they are not evidence for sharing.
    """
    table = np.asarray(table, np.float64)
    check_shape("table", table, (None, None))
    if codes is not None:
        rows = np.unique(row_and_sign(np.asarray(codes))[0])
        table = table[rows[(rows >= 0) & (rows < len(table))]]
    return np.linalg.norm(table, axis=1)


def projection_variance(first, second, rows, *, feature_of=None):
    """Feature hashing: the variance of an inner product that is estimated from signed hashes of its terms.

    With M rows, ``sum over i != j of (x_i^2 y_j^2 + x_i y_i x_j y_j) / M``. With rows for each feature the
    sums run within features, each over its own M. Which is smaller depends on how the rows are shared out;
    one table needs no such choice.

    >>> x = np.array([1.0, 1.0, 2.0])
    >>> print(projection_variance(x, x, 4), projection_variance(x, x, [3, 1], feature_of=[0, 0, 1]))
    9.0 1.3333333333333333

    Args:
        first: [N], weights of the values of all features, such as a row of one-hot vectors.
        second: [N].
        rows: int M of the shared table, or with ``feature_of`` int [T], those of each feature.
        feature_of: optional int [N] in 0..T-1, the feature of each value.

    Returns:
        float.

    Raises:
        ValueError: for shapes that differ, or rows below 1.

    References:
        K. Weinberger et al. (feature hashing), arXiv:0902.2206; the comparison is that of B. Coleman et al.,
        Unified Embedding, arXiv:2305.12102.
    """
    x, y, rows = (np.asarray(given, np.float64) for given in (first, second, rows))
    owners = np.zeros(len(x), int) if feature_of is None else np.asarray(feature_of)
    count = 1 if feature_of is None else len(rows)
    if x.ndim != 1 or x.shape != y.shape or x.shape != owners.shape or rows.ndim != (feature_of is not None):
        raise ValueError(
            f"first, second: shapes {x.shape}, {y.shape}; need [N] both, with rows as one int, or with "
            "feature_of [N] as [T]"
        )
    if (rows < 1).any() or (len(owners) and not 0 <= owners.min() <= owners.max() < count):
        raise ValueError(f"rows: {rows.tolist()}; give at least 1 row for each feature of feature_of")
    squares_x, squares_y, products, both = (
        np.bincount(owners, weights=w, minlength=count) for w in (x**2, y**2, x * y, (x * y) ** 2)
    )
    return float(np.sum((squares_x * squares_y + products**2 - 2 * both) / rows))


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
