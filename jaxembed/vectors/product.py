"""Product quantisation: a vector as a few bytes, and inner products with it by looking up tables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, inner
from jaxembed.checks import refuse_nan
from jaxembed.vectors._centres import WIDE, nearest_centre
from jaxembed.vectors._entries import clipped, sum_entries

_ELEMENTS = 2**20  # distances that are held at a time
_UNHELD = 2**23  # distances of narrow parts, which are compared one by one: enough work for all processors
_STEPS_PER_ROTATION = 4
_MOST = 10_000  # steps until no centre moves: rounding may move one back and forth


def fit_product(
    key, x, *, group=8, centres=256, iterations=10, restarts=1, seeding="sample", rotations=0, rotation=None
):
    """Product quantisation: fits codebooks by k-means, one for each group of coordinates.

    Part m is the coordinates ``m * group`` to ``(m + 1) * group - 1``. Its codebook starts at rows of the
    data. Then Lloyd's step runs ``iterations`` times: every row goes to its nearest centre, every centre to
    the mean of its rows. When e centres have no row, they move to the e rows farthest from their own centres.
    The first empty centre takes the farthest row. No step increases the error. Part m draws from
    ``fold_in(key, m)``, restart r from ``fold_in(fold_in(key, m), r)``.

    With ``rotations`` the vectors are multiplied by an orthogonal matrix before they are cut into parts. Each
    of the ``rotations`` rounds solves the Procrustes problem
    ``min over orthogonal R of sum |x @ R - decoded|**2`` and takes four of Lloyd's steps. So the error is at
    most that of the fit without a rotation.

    >>> x = jnp.array([[0.0, 0.0, 5.0], [0.0, 0.0, 7.0], [4.0, 2.0, 5.0], [4.0, 2.0, 7.0]])[:, :2]
    >>> params = fit_product(jax.random.key(0), x, group=1, centres=2)
    >>> print(params["codebooks"].shape, jnp.sort(params["codebooks"][..., 0], axis=1).tolist())
    (2, 2, 1) [[0.0, 4.0], [0.0, 2.0]]

    Args:
        key: a JAX random key.
        x: [N, D] with N >= centres, finite, any float dtype, NumPy or JAX. A sample of the vectors that will
            be encoded will do: 40 rows per centre are plenty.
        group: the coordinates G of one part; it must divide D.
        centres: the centres C of one part. Up to 256 give product codes of one byte.
        iterations: Lloyd steps; 0 returns the starting centres, None goes on until no centre moves.
        restarts: how often k-means starts anew; every part keeps its best codebook.
        seeding: "sample" starts at distinct rows drawn evenly; "plus_plus" draws each row with a chance
            proportional to its squared distance from those already drawn.
        rotations: rounds of fitting a rotation. Each costs D**3 for a singular value decomposition.
        rotation: optional orthogonal [D, D] to start from; given alone, it is used as it is.

    Returns:
        A dict of arrays: ``codebooks`` [M, C, G] with M = D / G, and ``rotation`` [D, D] when there is one.
            Memory for anything but a copy of x is bounded; the distances [N, M, C] are never stored.

    Raises:
        ValueError: for a size out of range, an unknown seeding, rows that are too few or not finite, or a
            rotation that is not orthogonal. These checks read values: the fit is not for jit.

    References:
        H. Jegou, M. Douze and C. Schmid, IEEE TPAMI 2011, doi:10.1109/TPAMI.2010.57. T. Ge et al., IEEE
        TPAMI 2014, doi:10.1109/TPAMI.2013.240, for the rotation. D. Arthur and S. Vassilvitskii, SODA
        2007, for "plus_plus".
    """
    x = jnp.asarray(x)
    _check_fit(x, group, centres, iterations, restarts, rotations)
    if seeding not in _SEEDINGS:
        raise ValueError(f"seeding: {seeding!r} is unknown; choose one of {', '.join(_SEEDINGS)}")
    width = x.shape[1]
    if rotation is not None and jnp.shape(rotation) != (width, width):
        raise ValueError(f"rotation: {jnp.shape(rotation)} for vectors of width {width}; pass [D, D]")
    if rotation is not None:
        turned = inner(jnp.asarray(rotation).T, jnp.asarray(rotation).T)
        if not jnp.allclose(turned, jnp.eye(width), atol=1e-3):
            raise ValueError(
                "rotation: its columns are not orthogonal of length 1; pass an orthogonal matrix"
            )
    finite = jnp.all(jnp.isfinite(x), axis=1)
    if not finite.all():
        raise ValueError(f"x: row {int(jnp.argmin(finite))} is not finite; drop it before fitting")
    if rotations and rotation is None:
        rotation = jnp.eye(width, dtype=accumulator(x))
    static = {"group": group, "centres": centres, "restarts": restarts, "seeding": seeding}
    return _fit(key, x, rotation, iterations, rotations, rotated=rotations > 0, **static)


def encode_product(params, x):
    """Product quantisation, encoder: writes each vector as one centre number per part.

    ``product_codes[b, m] = argmin_c |x[b] part m - codebooks[m, c]|``, the lowest c among equally near
    centres; x is multiplied by the rotation first where there is one.

    >>> params = {"codebooks": jnp.array([[[0.0], [4.0]], [[0.0], [2.0]]])}
    >>> print(encode_product(params, jnp.array([[3.0, 0.5], [1.0, 9.0]])))
    [[1 0]
     [0 1]]

    Args:
        params: the arrays of ``fit_product``, or codebooks [M, C, G] and rotation from elsewhere.
        x: [B, D], any float dtype.

    Returns:
        [B, M], uint8 when a part has at most 256 centres, else int32. [B, M, C] is never stored.

    Raises:
        ValueError: when the width of x is not M * G, or for NaN (which passes under jit).

    References:
        H. Jegou, M. Douze and C. Schmid, doi:10.1109/TPAMI.2010.57.
    """
    refuse_nan("x", x if hasattr(x, "dtype") else np.asarray(x))
    return _encode(params, x)


@jax.jit
def _encode(params, x):
    codebooks = params["codebooks"]
    dtype = jnp.uint8 if codebooks.shape[1] <= 256 else jnp.int32
    parts = _parts(params, x, "x")
    if not parts.size:
        return jnp.zeros(parts.shape[:2], dtype)
    columns = jnp.transpose(parts, (1, 2, 0))
    most = _UNHELD if codebooks.shape[2] < WIDE else _ELEMENTS
    together = max(1, most // (len(parts) * codebooks.shape[1]))
    pair = columns, codebooks.astype(parts.dtype)
    codes = jax.lax.map(
        lambda part: nearest_centre(*part), pair, batch_size=together if together > 1 else None
    )
    return codes.T.astype(dtype)


@jax.jit
def decode_product(params, product_codes):
    """Product quantisation, decoder: turns product codes back into vectors.

    ``decoded[b] = concatenate over m of codebooks[m, product_codes[b, m]]``, times the transposed rotation
    where there is one.

    >>> params = {"codebooks": jnp.array([[[0.0], [4.0]], [[0.0], [2.0]]])}
    >>> print(decode_product(params, jnp.array([[1, 0], [0, 1]], jnp.uint8)))
    [[4. 0.]
     [0. 2.]]

    Args:
        params: the arrays of ``fit_product``.
        product_codes: integers [B, M] in 0..C-1, from ``encode_product``. Others are clipped.

    Returns:
        [B, D] in at least float32.

    Raises:
        ValueError: when the product codes have another number of parts than the codebooks.

    References:
        H. Jegou, M. Douze and C. Schmid, doi:10.1109/TPAMI.2010.57.
    """
    codebooks = params["codebooks"]
    codebooks = codebooks.astype(accumulator(codebooks))
    flat = codebooks.reshape(-1, codebooks.shape[2])
    rows = flat.at[_flat_codes(product_codes, *codebooks.shape[:2])].get(mode="clip")
    x = rows.reshape(len(rows), codebooks.shape[0] * codebooks.shape[2])
    if params.get("rotation") is None:
        return x
    return jnp.matmul(x, params["rotation"].T.astype(x.dtype), precision="highest")


@jax.jit
def product_tables(params, queries):
    """Lookup tables of a query: its inner products with every centre of every part.

    ``tables[b, m, c] = <queries[b] part m, codebooks[m, c]>``; the query is multiplied by the rotation
    first where there is one. The query itself is not quantised.

    >>> params = {"codebooks": jnp.array([[[0.0], [4.0]], [[0.0], [2.0]]])}
    >>> print(product_tables(params, jnp.array([[1.0, 10.0]])))
    [[[ 0.  4.]
      [ 0. 20.]]]

    Args:
        params: the arrays of ``fit_product``.
        queries: [B, D], any float dtype.

    Returns:
        [B, M, C] in at least float32.

    Raises:
        ValueError: when the width of the queries is not M * G.

    References:
        H. Jegou, M. Douze and C. Schmid, doi:10.1109/TPAMI.2010.57.
    """
    parts = _parts(params, queries, "queries")
    codebooks = params["codebooks"].astype(parts.dtype)
    return jnp.einsum("bmg,mcg->bmc", parts, codebooks, precision="highest")


@jax.jit
def product_scores(tables, product_codes):
    """Asymmetric distance: scores product codes by summing one table entry per part.

    ``scores[b, n] = sum_m tables[b, m, product_codes[n, m]]``. With the tables of ``product_tables`` this is
    ``<queries[b], decode_product(params, product_codes)[n]>``.

    >>> tables = jnp.array([[[0.0, 4.0], [0.0, 20.0]]])
    >>> print(product_scores(tables, jnp.array([[1, 1], [1, 0]], jnp.uint8)))
    [[24.  4.]]

    Args:
        tables: [B, M, C].
        product_codes: integers [N, M] in 0..C-1, from ``encode_product``. Others are clipped.

    Returns:
        [B, N] in at least float32. One look-up reads the entries of up to 16 queries, so 16 cost less than
        16 single ones. On hardware that gathers slowly, and for many queries of few rows, the product with
        ``decode_product`` of a chunk of product codes is faster.

    Raises:
        ValueError: when the product codes have another number of parts than the tables.

    References:
        H. Jegou, M. Douze and C. Schmid, doi:10.1109/TPAMI.2010.57, asymmetric distance computation,
        here for the inner product.
    """
    tables = jnp.asarray(tables)
    if tables.ndim != 3:
        raise ValueError(f"tables: {tables.shape}; pass [B, M, C] from product_tables")
    product_codes = _checked_codes(product_codes, tables.shape[1])
    return sum_entries(tables.astype(accumulator(tables)), product_codes)


@jax.jit
def product_errors(params, x):
    """Quantisation error: the squared distance of each vector from its decoded product codes.

    ``errors[b] = |x[b] - decode_product(params, encode_product(params, x))[b]|**2``.

    >>> params = {"codebooks": jnp.array([[[0.0], [4.0]], [[0.0], [2.0]]])}
    >>> print(product_errors(params, jnp.array([[3.0, 0.5]])))
    [1.25]

    Args:
        params: the arrays of ``fit_product``.
        x: [B, D], any float dtype.

    Returns:
        [B] in at least float32.

    Raises:
        ValueError: when the width of x is not M * G.
    """
    decoded = decode_product(params, encode_product(params, x))
    return jnp.sum((jnp.asarray(x).astype(decoded.dtype) - decoded) ** 2, axis=1)


@functools.partial(jax.jit, static_argnames=("group", "centres", "restarts", "seeding", "rotated"))
def _fit(key, x, rotation, iterations, rotations, *, group, centres, restarts, seeding, rotated):
    x = x.astype(accumulator(x))
    count, width = x.shape
    params = {} if rotation is None else {"rotation": rotation.astype(x.dtype)}

    def cut(params):
        rows = x if rotation is None else jnp.matmul(x, params["rotation"], precision="highest")
        return jnp.swapaxes(rows.reshape(count, width // group, group), 0, 1)

    keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(width // group))
    one = functools.partial(
        _best_codebook, centres=centres, iterations=iterations, restarts=restarts, seeding=seeding
    )
    params["codebooks"] = jax.lax.map(lambda part: one(*part), (keys, cut(params)))
    if not rotated:
        return params

    def turn(_, params):
        decoded = decode_product(params | {"rotation": None}, _codes(cut(params), params["codebooks"]))
        u, _, v = jnp.linalg.svd(jnp.matmul(x.T, decoded, precision="highest"))
        params = params | {"rotation": jnp.matmul(u, v, precision="highest")}
        lloyd = functools.partial(_lloyd, iterations=_STEPS_PER_ROTATION)
        books = jax.lax.map(lambda part: lloyd(*part), (cut(params), params["codebooks"]))
        return params | {"codebooks": books}

    return jax.lax.fori_loop(0, rotations, turn, params)


def _best_codebook(key, x, *, centres, iterations, restarts, seeding):
    """Runs k-means on one part [N, G] several times and keeps the codebook [C, G] of least error."""

    def attempt(r):
        start = _SEEDINGS[seeding](jax.random.fold_in(key, r), x, centres)
        found = _lloyd(x, start, iterations=iterations)
        return found, jnp.sum((x - found[nearest_centre(x.T, found)]) ** 2)

    if restarts == 1:
        return attempt(0)[0]
    books, errors = jax.lax.map(attempt, jnp.arange(restarts))
    return books[jnp.argmin(errors)]


def _lloyd(x, centres, *, iterations):
    def step(_, centres):
        codes = nearest_centre(x.T, centres)
        counts = jax.ops.segment_sum(jnp.ones_like(codes), codes, num_segments=len(centres))
        sums = jax.ops.segment_sum(x, codes, num_segments=len(centres))
        empty = counts == 0
        means = sums / jnp.maximum(counts, 1)[:, None].astype(x.dtype)

        def refill(means):
            distances = jnp.sum((x - centres[codes]) ** 2, axis=1)
            _, farthest = jax.lax.top_k(distances, len(centres))
            moved = x[farthest[jnp.cumsum(empty) - 1]]
            return jnp.where(empty[:, None], moved, means)

        return jax.lax.cond(jnp.any(empty), refill, lambda means: means, means)

    if iterations is not None:
        return jax.lax.fori_loop(0, iterations, step, centres)
    pair = centres, step(0, centres), 1
    moves, again = lambda s: jnp.any(s[0] != s[1]) & (s[2] < _MOST), lambda s: (s[1], step(0, s[1]), s[2] + 1)
    return jax.lax.while_loop(moves, again, pair)[1]


def _sample(key, x, centres):
    return x[jax.random.choice(key, len(x), (centres,), replace=False)]


def _plus_plus(key, x, centres):
    first_key, rest_key = jax.random.split(key)
    first = x[jax.random.randint(first_key, (), 0, len(x))]

    def step(distances, draw):
        mass = jnp.cumsum(distances)
        place = jnp.searchsorted(mass, draw * mass[-1], side="right")
        chosen = x[jnp.minimum(place, len(x) - 1)]
        return jnp.minimum(distances, jnp.sum((x - chosen) ** 2, axis=1)), chosen

    draws = jax.random.uniform(rest_key, (centres - 1,), x.dtype)
    _, rest = jax.lax.scan(step, jnp.sum((x - first) ** 2, axis=1), draws)
    return jnp.concatenate([first[None], rest])


_SEEDINGS = {"sample": _sample, "plus_plus": _plus_plus}


def _codes(parts, codebooks):
    """Returns codes [N, M] of parts [M, N, G]."""
    return jax.lax.map(lambda part: nearest_centre(part[0].T, part[1]), (parts, codebooks)).T


def _parts(params, x, name):
    """Checks vectors and cuts them into [B, M, G]."""
    x = jnp.asarray(x)
    parts, _, group = params["codebooks"].shape
    if x.ndim != 2 or x.shape[1] != parts * group:
        raise ValueError(
            f"{name}: {x.shape}, but the codebooks take width {parts * group}; "
            "pass [B, D] with the D that fit_product saw"
        )
    x = x.astype(accumulator(x, params["codebooks"]))
    if params.get("rotation") is not None:
        x = jnp.matmul(x, params["rotation"].astype(x.dtype), precision="highest")
    return x.reshape(len(x), parts, group)


def _flat_codes(codes, parts, centres):
    codes = clipped(_checked_codes(codes, parts), centres)
    return codes + centres * jnp.arange(parts, dtype=jnp.int32)[None]


def _checked_codes(codes, parts):
    codes = jnp.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != parts:
        raise ValueError(f"product_codes: {codes.shape} for {parts} parts; pass [N, M] from encode_product")
    if not jnp.issubdtype(codes.dtype, jnp.integer):
        raise ValueError(f"product_codes: {codes.dtype}; pass the integers of encode_product")
    return codes


def _check_fit(x, group, centres, iterations, restarts, rotations):
    limits = {"group": 1, "centres": 1, "iterations": 0, "restarts": 1, "rotations": 0}
    given = group, centres, 0 if iterations is None else iterations, restarts, rotations
    for name, value in zip(limits, given, strict=True):
        if not isinstance(value, int | np.integer) or value < limits[name]:
            raise ValueError(f"{name}: {value} is not an integer from {limits[name]} on; pass one")
    if x.ndim != 2 or x.shape[1] < 1 or x.shape[1] % group:
        raise ValueError(
            f"x: {x.shape} does not divide into groups of {group}; pass [N, D] with D % group == 0"
        )
    if len(x) < centres:
        raise ValueError(f"x: {len(x)} rows for {centres} centres; pass at least one row per centre")
