"""rows -> vector: what a feature's rows become."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator
from jaxembed.tables.plans import IMPORTANCE


def init_tables(key, plan, *, initialiser=None):
    """Embedding tables: draws the parameters of a plan.

    >>> from jaxembed.tables import Feature, plan
    >>> p = plan([Feature("user"), Feature("gender", vocabulary=2, chunks=2)], rows=100, width=8)
    >>> params = init_tables(jax.random.key(0), p)
    >>> print(params["table"]["embedding"].shape, params["exact"]["gender"]["embedding"].shape)
    (100, 8) (4, 8)

    Args:
        key: random key.
        plan: :class:`~jaxembed.tables.Plan`.
        initialiser: ``(key, shape) -> array`` of the embeddings; the default draws a normal distribution of
            standard deviation 1/sqrt(width), truncated at two standard deviations. With merge="product" the
            default draws the shared rows wider, so that a product of them has the variance of a plain row.

    Returns:
        {"table": {"embedding": [tables * rows, width]}, "exact": {feature: {"embedding": [vocabulary *
        reads, width]}}}; row v * reads + c of an exact table is row c of value v, and reads is ``chunks *
        span`` with merge="concat", else 1. "exact" holds the features with a vocabulary and may be empty.
        With merge="weighted" "table" also holds "importance" [importance_rows, chunks], drawn from a normal
        distribution of variance 1/chunks.
    """
    plain = initialiser or jax.nn.initializers.truncated_normal(plan.width**-0.5)
    chunks = max((f.chunks for f in plan.shared), default=1)
    shared_key, exact_key = jax.random.split(key)
    exact = {
        f.name: {
            "embedding": plain(jax.random.fold_in(exact_key, i), (f.vocabulary * plan.reads(f), plan.width))
        }
        for i, f in enumerate(plan.features)
        if f.vocabulary is not None
    }
    if plan.merge == "product" and initialiser is None:
        plain = jax.nn.initializers.truncated_normal(_factor(plan.width**-0.5, chunks))
    table = {"embedding": plain(shared_key, (plan.height, plan.width))}
    if plan.merge == "weighted":
        draw = jax.random.normal(jax.random.fold_in(shared_key, 0), (plan.importance_rows, chunks))
        table["importance"] = draw * chunks**-0.5
    return {"table": table, "exact": exact}


TRUNCATED = 0.8796256610342398  # standard deviation that truncation at two deviations leaves of 1


def _factor(deviation, chunks):
    """Deviation before truncation of factors whose product has the spread of one row of ``deviation``."""
    return (TRUNCATED * deviation) ** (1 / chunks) / TRUNCATED


def row_and_sign(codes):
    """Splits codes into rows and the bool that says where the sign flips: row r flipped has code -2 - r.

    >>> print(*row_and_sign(np.array([3, -5, -1])))
    [ 3  3 -1] [False  True False]

    Args:
        codes: int [...], NumPy or JAX.

    Returns:
        (int [...], bool [...]); the code -1, which reads zeros, stays.
    """
    xp = np if isinstance(codes, np.ndarray) else jnp
    flipped = codes < -1
    return xp.where(flipped, -2 - codes, codes), flipped


def narrow(codes):
    """Codes as JAX holds them, int32; one of 64 bits that does not fit names no row, so it becomes -1.

    >>> print(narrow(np.array([3, 2**32 + 3])))
    [ 3 -1]
    """
    if isinstance(codes, jax.Array):
        return codes
    codes = np.asarray(codes)
    if codes.dtype.kind in "iu" and codes.dtype.itemsize > 4:
        bounds = np.iinfo(np.int32)
        fits = (codes >= bounds.min) & (codes <= bounds.max)
        codes = np.where(fits, np.where(fits, codes, 0).astype(np.int32), np.int32(-1))
    return jnp.asarray(codes)


def rows_of(table, codes, signed=True):
    """Row gather: reads rows of a table; a code outside it reads zeros and sends no gradient.

    The one gather of this room. A kernel for some device, or :func:`~jaxembed.tables.sharded_rows`, is a
    function with the same arguments that ``lookup(gather=)`` takes in its place. One whose backward pass
    applies the optimiser goes with :func:`~jaxembed.tables.assigned`.

    >>> print(rows_of(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, -1, -2])))
    [[ 3.  4.]
     [ 0.  0.]
     [-1. -2.]]

    Args:
        table: [V, D].
        codes: int [...]; -1 reads zeros, -2 - r reads row r with its sign flipped.
        signed: False where no code flips a sign, which is faster; every code below 0 then reads zeros.

    Returns:
        [..., D].
    """
    rows = narrow(codes)
    if signed:
        rows, flipped = row_and_sign(rows)
    inside = jnp.where(rows < 0, table.shape[0], rows)  # a negative index would count from the end
    low = jnp.asarray(table).dtype != accumulator(table)
    vectors = _narrow_rows(table, inside) if low else _filled(table, inside)
    if not signed:
        return vectors
    return vectors * signs(flipped, vectors.dtype)[..., None]  # a choice of two would gather twice


def signs(flipped, dtype):
    """The signs -1 and 1 in a dtype, of bool [...] that says where they flip; no integer is converted."""
    minus, plus = np.array([-1, 1]).astype(dtype)
    return jnp.where(flipped, minus, plus)


def _filled(table, rows):
    return table.at[rows].get(mode="fill", fill_value=0)


@jax.custom_vjp
def _narrow_rows(table, rows):
    """Rows of a table of low precision, whose gradients are added up in at least float32."""
    return _filled(table, rows)


def _narrow_add(kept, cotangents):
    table, rows = kept
    total = jnp.zeros(table.shape, accumulator(table)).at[rows].add(cotangents, mode="drop")
    return total.astype(table.dtype), None


_narrow_rows.defvjp(lambda table, rows: (_filled(table, rows), (table, rows)), _narrow_add)


def lookup(plan, params, codes, masks=None, weights=None, *, gather=rows_of):
    """Embedding lookup: the vector of every feature, its chunks merged and its values pooled.

    ``vector[b] = merge_c table[codes[b, c]]`` for single values, where ``plan.merge`` concatenates, adds,
    multiplies, or adds with weights that the importances give: ``sum_c importance[b, c] table[codes[b, c]]``.
    With n values of weight w and mask m, "sum" is ``sum_i m_i w_i vector_i``; "mean" divides that by
    ``sum_i m_i w_i``. "max" is the maximum of each coordinate over the values with m_i. A bag without values
    (or, for "mean", without weight) gives zeros. "none" does not pool: ``vectors[b, i] = m_i w_i vector_i``.

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
        codes: {feature: int [B, reads] or [B, n, reads]} from :func:`~jaxembed.tables.codes`, reads being
            ``chunks * span``; features left out are not read.
        masks: optional {feature: bool [B] or [B, n]}, True = real value.
        weights: optional {feature: float [B] or [B, n]}; not with "max".
        gather: ``(table [V, D], codes int [...]) -> [..., D]`` for the shared table and the importances.

    Returns:
        {feature: [B, chunks * span * width]} with merge="concat", else {feature: [B, span * width]}; of a
        multi-valent feature with combine="none" [B, n, ...], zeros where masked. Padding may hold any code.

    Raises:
        ValueError: for codes, masks or weights of a wrong shape, or of a feature that the plan lacks.
    """
    masks, weights, result = masks or {}, weights or {}, {}
    if gather is rows_of:
        gather = functools.partial(rows_of, signed=plan.signed)
    for given, what in ((masks, "masks"), (weights, "weights")):
        if set(given) - set(codes):
            raise ValueError(f"{what}: {sorted(set(given) - set(codes))} not among the codes {sorted(codes)}")
    for name, rows in codes.items():
        if name in plan.importance_keys:
            continue
        feature = _checked(plan, name, rows, masks, weights)
        if feature.vocabulary is None:
            vectors = gather(params["table"]["embedding"], rows)
        else:
            vectors = rows_of(params["exact"][name]["embedding"], rows, signed=False)
        importance = None
        if name + IMPORTANCE in plan.importance_keys:
            if name + IMPORTANCE not in codes:
                raise ValueError(
                    f"codes: {name + IMPORTANCE!r} is missing; give all that tables.codes returns"
                )
            importance = gather(params["table"]["importance"], codes[name + IMPORTANCE][..., 0])
        vectors = _merged(plan, feature, vectors, importance)
        mask, weight = masks.get(name), weights.get(name)
        if rows.ndim == 2 and (mask is not None or weight is not None):  # a bag of one value
            vectors, mask, weight = (None if x is None else x[:, None] for x in (vectors, mask, weight))
        if vectors.ndim == 3:
            vectors = combine(vectors, mask, weight, kind=feature.combine)
        result[name] = vectors[:, 0] if vectors.ndim > rows.ndim else vectors
    return result


def _checked(plan, name, rows, masks, weights):
    """The feature of a name, after its arrays have been found to be of the right shapes."""
    try:
        feature = plan[name]
    except KeyError as error:
        raise ValueError(f"codes: {error.args[0]}") from None
    reads = plan.reads(feature)
    if rows.ndim not in (2, 3) or rows.shape[-1] != reads:
        raise ValueError(f"codes: {name!r} has shape {rows.shape}; need [B(, n), {reads}]")
    for given, what in ((masks, "masks"), (weights, "weights")):
        if name in given and given[name].shape != rows.shape[:-1]:
            raise ValueError(f"{what}: {name!r} has shape {given[name].shape}; need {rows.shape[:-1]}")
    return feature


def _merged(plan, feature, vectors, importance):
    """Rows [..., reads, width] -> vectors [..., D]."""
    if plan.merge == "concat" or feature.vocabulary is not None:
        return vectors.reshape(*vectors.shape[:-2], vectors.shape[-2] * vectors.shape[-1])
    chunks = vectors.reshape(*vectors.shape[:-2], feature.chunks, plan.span * plan.width)
    if plan.merge == "product":
        return functools.reduce(jnp.multiply, (chunks[..., c, :] for c in range(feature.chunks)))
    wide = chunks.astype(accumulator(chunks))
    if plan.merge == "weighted":
        wide = wide * importance[..., None].astype(wide.dtype)
    return jnp.sum(wide, axis=-2).astype(vectors.dtype)


def combine(vectors, mask=None, weights=None, *, kind="mean"):
    """Pools the values of a multi-valent feature; the definition is in :func:`lookup`.

    >>> v = jnp.array([[[1.0], [3.0], [9.0]]])
    >>> print(combine(v, jnp.array([[True, True, False]]), jnp.array([[3.0, 1.0, 1.0]])))
    [[1.5]]

    Args:
        vectors: [B, n, D].
        mask: optional bool [B, n].
        weights: optional float [B, n].
        kind: "mean", "sum", "max" or "none".

    Returns:
        [B, D] in the dtype of ``vectors``; with "none" [B, n, D].
    """
    mask = jnp.ones(vectors.shape[:2], bool) if mask is None else mask
    if kind == "max":
        if weights is not None:
            raise ValueError('weights: a feature with combine="max" takes none')
        highest = jnp.max(jnp.where(mask[..., None], vectors, -jnp.inf), axis=1, initial=-jnp.inf)
        return jnp.where(jnp.any(mask, axis=1)[:, None], highest, 0)
    dtype = accumulator(vectors)
    weights = jnp.where(mask, 1 if weights is None else weights, 0).astype(dtype)
    if kind == "none":
        return (jnp.where(mask[..., None], vectors, 0) * weights[..., None]).astype(vectors.dtype)
    total = jnp.einsum("bn,bnd->bd", weights, jnp.where(mask[..., None], vectors, 0).astype(dtype))
    if kind == "mean":
        weight = jnp.sum(weights, axis=1)[:, None]
        total = jnp.where(weight == 0, 0, total / jnp.where(weight == 0, 1, weight))
    return total.astype(vectors.dtype)
