"""rows -> vector: what a feature's rows become."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator


def init_tables(key, plan, *, initializer=None):
    """Draws the parameters of a plan.

    >>> from jaxembed.tables import Feature, plan
    >>> p = plan([Feature("user"), Feature("gender", vocabulary=2, chunks=2)], rows=100, width=8)
    >>> params = init_tables(jax.random.key(0), p)
    >>> print(params["table"]["embedding"].shape, params["exact"]["gender"]["embedding"].shape)
    (100, 8) (4, 8)

    Args:
        key: random key.
        plan: :class:`~jaxembed.tables.Plan`.
        initializer: ``(key, shape) -> array``; the default draws a normal distribution of standard
            deviation 1/sqrt(width), truncated at two standard deviations.

    Returns:
        {"table": {"embedding": [tables * rows, width]}, "exact": {feature: {"embedding": [vocabulary *
        chunks, width]}}}; row v * chunks + c of an exact table is chunk c of value v. "exact" holds the
        features with a vocabulary and may be empty.
    """
    initializer = initializer or jax.nn.initializers.truncated_normal(plan.width**-0.5)
    shared_key, exact_key = jax.random.split(key)
    exact = {
        f.name: {
            "embedding": initializer(jax.random.fold_in(exact_key, i), (f.vocabulary * f.chunks, plan.width))
        }
        for i, f in enumerate(plan.features)
        if f.vocabulary is not None
    }
    return {
        "table": {"embedding": initializer(shared_key, (plan.tables * plan.rows, plan.width))},
        "exact": exact,
    }


def rows_of(table, codes):
    """Gathers rows of a table; a code outside the table reads zeros and sends no gradient.

    The one gather of this room: a faster kernel for some device replaces it here.

    >>> print(rows_of(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, -1])))
    [[3. 4.]
     [0. 0.]]

    Args:
        table: [V, D].
        codes: int [...].

    Returns:
        [..., D].
    """
    inside = jnp.where(codes < 0, table.shape[0], codes)  # a negative index would count from the end
    return table.at[inside].get(mode="fill", fill_value=0)


def lookup(plan, params, codes, masks=None, weights=None):
    """Reads the vector of every feature: its chunks, concatenated, and pooled over multi-valent values.

    ``vector[b] = concat_c table[codes[b, c]]`` for single values. With n values of weight w and mask m,
    "sum" is ``sum_i m_i w_i vector_i``, "mean" divides that by ``sum_i m_i w_i``, "max" is the maximum of
    each coordinate over the values with m_i. A bag without values (or, for "mean", without weight) gives
    zeros.

    >>> from jaxembed.tables import Feature, codes, plan
    >>> p = plan([Feature("user", chunks=2), Feature("tags", combine="sum")], rows=100, width=8)
    >>> params = init_tables(jax.random.key(0), p)
    >>> rows = codes(p, {"user": jnp.array([3, 4]), "tags": jnp.array([[1, 2], [5, 0]])})
    >>> vectors = lookup(p, params, rows, masks={"tags": jnp.array([[True, True], [True, False]])})
    >>> print(vectors["user"].shape, vectors["tags"].shape)
    (2, 16) (2, 8)

    Args:
        plan: :class:`~jaxembed.tables.Plan`.
        params: from :func:`init_tables`; a table may hold only the rows that a batch touches, as long as
            the codes point into it.
        codes: {feature: int [B, chunks] or [B, n, chunks]} from :func:`~jaxembed.tables.codes`; features
            left out are not read.
        masks: optional {feature: bool [B, n]}, True = real value.
        weights: optional {feature: float [B, n]}; not with "max".

    Returns:
        {feature: [B, chunks * width]}. Padding may hold any code.

    Raises:
        ValueError: for codes, masks or weights of a wrong shape, or of a feature that the plan lacks.
    """
    masks, weights, result = masks or {}, weights or {}, {}
    for given, what in ((masks, "masks"), (weights, "weights")):
        if set(given) - set(codes):
            raise ValueError(f"{what}: {sorted(set(given) - set(codes))} not among the codes {sorted(codes)}")
    for name, rows in codes.items():
        try:
            feature = plan[name]
        except KeyError as error:
            raise ValueError(f"codes: {error.args[0]}") from None
        if rows.ndim not in (2, 3) or rows.shape[-1] != feature.chunks:
            raise ValueError(f"codes: {name!r} has shape {rows.shape}; need [B(, n), {feature.chunks}]")
        for given, what in ((masks, "masks"), (weights, "weights")):
            if name in given and given[name].shape != rows.shape[:-1]:
                raise ValueError(f"{what}: {name!r} has shape {given[name].shape}; need {rows.shape[:-1]}")
        table = params["table"] if feature.vocabulary is None else params["exact"][name]
        vectors = rows_of(table["embedding"], rows)
        vectors = vectors.reshape(*vectors.shape[:-2], -1)
        if rows.ndim == 3:
            vectors = combine(vectors, masks.get(name), weights.get(name), kind=feature.combine)
        result[name] = vectors
    return result


def combine(vectors, mask=None, weights=None, *, kind="mean"):
    """Pools the values of a multi-valent feature; the definition stands in :func:`lookup`.

    >>> v = jnp.array([[[1.0], [3.0], [9.0]]])
    >>> print(combine(v, jnp.array([[True, True, False]]), jnp.array([[3.0, 1.0, 1.0]])))
    [[1.5]]

    Args:
        vectors: [B, n, D].
        mask: optional bool [B, n].
        weights: optional float [B, n].
        kind: "mean", "sum" or "max".

    Returns:
        [B, D] in the dtype of ``vectors``.
    """
    mask = jnp.ones(vectors.shape[:2], bool) if mask is None else mask
    if kind == "max":
        if weights is not None:
            raise ValueError('weights: a feature with combine="max" takes none')
        highest = jnp.max(jnp.where(mask[..., None], vectors, -jnp.inf), axis=1)
        return jnp.where(jnp.any(mask, axis=1)[:, None], highest, 0)
    dtype = accumulator(vectors)
    weights = jnp.where(mask, 1 if weights is None else weights, 0).astype(dtype)
    total = jnp.einsum("bn,bnd->bd", weights, jnp.where(mask[..., None], vectors, 0).astype(dtype))
    if kind == "mean":
        weight = jnp.sum(weights, axis=1)[:, None]
        total = jnp.where(weight == 0, 0, total / jnp.where(weight == 0, 1, weight))
    return total.astype(vectors.dtype)
