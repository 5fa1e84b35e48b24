"""Sets of token vectors: the exact Chamfer score, and one fixed vector per set that estimates it."""

import functools

import chex
import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, inner

_MAX_PLANES = 24
_CHUNK_ELEMENTS = 2**24  # token pairs that `chamfer` compares at a time


def init_fde(key, width, *, repetitions=20, planes=5, projected=16, projection="rademacher", final=None):
    """Draws the random planes and projections that queries and documents must share.

    Repetition r draws from ``fold_in(key, r)``, with one subkey each for planes, projection and final
    sketch, so fewer repetitions are a prefix of more. The length of an encoding is
    ``repetitions * 2**planes * projected``, or ``final``.

    >>> params = init_fde(jax.random.key(0), 64, repetitions=20, planes=3, projected=8)
    >>> print(params["planes"].shape, params["projection"].shape)
    (20, 64, 3) (20, 64, 8)

    Args:
        key: a JAX random key.
        width: the width D of the token vectors.
        repetitions: the number R of independent partitions.
        planes: the number k of planes; they cut the space into 2**k cells. 0 keeps one cell.
        projected: the width p to which tokens are projected inside a cell; ignored by "identity".
        projection: "rademacher" (every entry +-1/sqrt(p)), "count_sketch" (one +-1 in each row) or
            "identity" (p = D).
        final: optional length to which a count-sketch reduces the whole encoding.

    Returns:
        A dict of arrays: ``planes`` [R, D, k] and ``projection`` [R, D, p], which includes its scale.
        With ``final`` also ``final``: ``index`` int32 and ``sign``, both [R, 2**k * p], say where each
        coordinate goes, and ``zeros`` [final] is the empty sketch.

    Raises:
        ValueError: for a size out of range or an unknown projection.

    References:
        L. Dhulipala et al., arXiv:2405.19504. The paper's final projection is a dense +-1 matrix; the
        count-sketch used here has the same mean and variance.
    """
    for name, size in (("width", width), ("repetitions", repetitions), ("projected", projected)):
        if size < 1:
            raise ValueError(f"{name}: {size} is below 1; pass a positive integer")
    if final is not None and final < 1:
        raise ValueError(f"final: {final} is below 1; pass a positive integer, or None to keep the encoding")
    _check_planes(planes)
    if projection not in _PROJECTIONS:
        raise ValueError(f"projection: {projection!r} is unknown; choose one of {', '.join(_PROJECTIONS)}")
    if projection == "identity":
        projected = width

    params = _draw(key, width, repetitions, planes, projected, projection, final)
    if final is not None:
        params["final"]["zeros"] = jnp.zeros(final, jnp.float32)
    return params


def encode_queries(params, tokens, mask):
    """Encodes each query's set of tokens as one vector: per cell, the sum of its tokens.

    ``encode_set(params, tokens, mask, aggregate="sum", fill_empty=False)``. The inner product with a
    document's encoding, divided by the number of repetitions, estimates ``chamfer``. Encodings are
    compared by the raw inner product: scaling them to length 1 breaks the estimate.

    >>> params = init_fde(jax.random.key(0), 2, repetitions=1, planes=0, projection="identity")
    >>> tokens = jnp.array([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    >>> print(encode_queries(params, tokens, jnp.array([[True, True, False]])))
    [[1. 1.]]

    Args:
        params: the arrays of ``init_fde``, the same for queries and documents.
        tokens: [B, T, D]; the estimate is meant for unit vectors, nothing is normalised here.
        mask: bool [B, T]. False marks padding, whose content never matters.

    Returns:
        [B, R * 2**k * p] (or [B, final]) in at least float32, laid out [repetition][cell][coordinate].
        An empty set gives zeros.

    Raises:
        ValueError: when the width of the tokens is not the width of the params.

    References:
        L. Dhulipala et al., arXiv:2405.19504.
    """
    return encode_set(params, tokens, mask, aggregate="sum", fill_empty=False)


def encode_documents(params, tokens, mask, *, fill_empty=True):
    """Encodes each document's set of tokens as one vector: per cell, the mean of its tokens.

    ``encode_set(params, tokens, mask, aggregate="mean", fill_empty=fill_empty)``. A cell without a
    token takes the one token whose cell is nearest.

    >>> params = init_fde(jax.random.key(0), 2, repetitions=1, planes=0, projection="identity")
    >>> tokens = jnp.array([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    >>> print(encode_documents(params, tokens, jnp.array([[True, True, False]])))
    [[0.5 0.5]]

    Args:
        params: the arrays of ``init_fde``, the same for queries and documents.
        tokens: [B, T, D]; the estimate is meant for unit vectors, nothing is normalised here.
        mask: bool [B, T]. False marks padding, whose content never matters.
        fill_empty: False leaves cells without a token at zero.

    Returns:
        [B, R * 2**k * p] (or [B, final]) in at least float32, laid out [repetition][cell][coordinate].
        An empty set gives zeros.

    Raises:
        ValueError: when the width of the tokens is not the width of the params.

    References:
        L. Dhulipala et al., arXiv:2405.19504.
    """
    return encode_set(params, tokens, mask, aggregate="mean", fill_empty=fill_empty)


def encode_set(params, tokens, mask, *, aggregate="sum", fill_empty=False):
    """Hashes the tokens of each set into cells and writes one projected vector per cell.

    In repetition r, bit j of a token's cell is ``<planes[r, :, j], token> > 0``, with plane 0 as the
    lowest bit. A cell holds the sum or the mean of its tokens times ``projection[r]``. With
    ``fill_empty`` a cell without a token holds one token, the first among those whose cell differs in
    the fewest bits. The bits are computed in float32 and are constant for the gradient.

    >>> params = {"planes": jnp.array([[[1.0], [0.0]]]), "projection": jnp.eye(2)[None]}
    >>> tokens = jnp.array([[[1.0, 0.0], [3.0, 2.0]]])
    >>> print(encode_set(params, tokens, jnp.ones((1, 2), bool), aggregate="mean"))
    [[0. 0. 2. 1.]]
    >>> print(encode_set(params, tokens, jnp.ones((1, 2), bool), aggregate="mean", fill_empty=True))
    [[1. 0. 2. 1.]]

    Args:
        params: dict of ``planes`` [R, D, k], ``projection`` [R, D, p] and optionally ``final``, from
            ``init_fde`` or from elsewhere.
        tokens: [B, T, D], any float dtype.
        mask: bool [B, T]. False marks padding, whose content never matters, not even NaN.
        aggregate: "sum" (queries) or "mean" (documents).
        fill_empty: whether cells without a token are filled. Filling a query would count its tokens
            several times.

    Returns:
        [B, R * 2**k * p] (or [B, final]) in at least float32, laid out [repetition][cell][coordinate].
        An empty set gives zeros. One repetition is built at a time and needs B * T * 2**k floats
        beside the result; with ``final`` the unreduced encoding is never stored whole.

    Raises:
        ValueError: for an unknown aggregate, a wrong width or more than 24 planes.

    References:
        L. Dhulipala et al., arXiv:2405.19504. The paper leaves ties of the fill open.
    """
    if aggregate not in ("sum", "mean"):
        raise ValueError(f"aggregate: {aggregate!r} is unknown; choose sum or mean")
    tokens, mask = _clean("tokens", tokens, mask)
    _check_planes(params["planes"].shape[2])
    for name in ("planes", "projection"):
        if params[name].shape[1] != tokens.shape[2]:
            raise ValueError(
                f"tokens: width {tokens.shape[2]}, but params[{name!r}] takes {params[name].shape[1]}; "
                "draw the params with init_fde(key, width) for the width of the tokens"
            )
    return _encode(params, tokens, mask, aggregate=aggregate, fill_empty=fill_empty)


def chamfer(queries, documents, query_mask, document_mask, *, chunk=None):
    """Scores every document for every query by the best match of each query token.

    ``chamfer[b, n] = sum over tokens q of queries[b] of max over tokens d of documents[n] of <q, d>``.

    >>> query = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> document = jnp.array([[[0.6, 0.8], [0.8, 0.6], [9.0, 9.0]]])
    >>> print(chamfer(query, document, jnp.ones((1, 2), bool), jnp.array([[True, True, False]])))
    [[1.6]]

    Args:
        queries: [B, T, D]. Inner products are taken as they are; nothing is normalised.
        documents: [N, S, D].
        query_mask: bool [B, T]. False marks padding, whose content never matters, not even NaN.
        document_mask: bool [N, S].
        chunk: how many documents are compared at a time, which bounds memory to
            B * T * chunk * S floats. None takes about 64 MiB.

    Returns:
        [B, N] in at least float32. An empty document scores -inf; an empty query scores 0 everywhere.

    Raises:
        ValueError: when the widths or the masks do not fit.

    References:
        O. Khattab and M. Zaharia, arXiv:2004.12832 (there called MaxSim).
    """
    queries, query_mask = _clean("queries", queries, query_mask)
    documents, document_mask = _clean("documents", documents, document_mask)
    if queries.shape[2] != documents.shape[2]:
        raise ValueError(
            f"documents: width {documents.shape[2]}, but queries have {queries.shape[2]}; "
            "encode both with one encoder"
        )
    if chunk is None:
        chunk = _CHUNK_ELEMENTS // max(1, query_mask.size * document_mask.shape[1])
    chunk = min(max(1, chunk), max(1, len(documents)))
    return _chamfer(queries, documents, query_mask, document_mask, chunk=chunk)


@functools.partial(jax.jit, static_argnums=range(1, 7))
def _draw(key, width, repetitions, planes, projected, projection, final):
    def one(r):
        hash_key, inner_key, final_key = jax.random.split(jax.random.fold_in(key, r), 3)
        params = {
            "planes": jax.random.normal(hash_key, (width, planes), jnp.float32),
            "projection": _PROJECTIONS[projection](inner_key, width, projected),
        }
        if final is not None:
            params["final"] = _sketch(final_key, 2**planes * projected, final)
        return params

    return jax.lax.map(one, jnp.arange(repetitions))


@functools.partial(jax.jit, static_argnames=("aggregate", "fill_empty"))
def _encode(params, tokens, mask, *, aggregate, fill_empty):
    final = params.get("final")

    @jax.checkpoint
    def block(planes, projection):
        cells = _assign(_hash(tokens, planes), mask, 2 ** planes.shape[1], fill_empty)
        projected = jnp.einsum("btd,dp->btp", tokens, projection.astype(tokens.dtype), precision="highest")
        total = jnp.einsum("bct,btp->bcp", cells.astype(tokens.dtype), projected, precision="highest")
        if aggregate == "mean":
            total = total / jnp.maximum(jnp.sum(cells, axis=2), 1).astype(total.dtype)[..., None]
        return total.reshape(len(total), -1)

    def step(reduced, repetition):
        planes, projection, sketch = repetition
        values = block(planes, projection)
        if sketch is None:
            return reduced, values
        return reduced.at[:, sketch["index"]].add(values * sketch["sign"][None].astype(values.dtype)), None

    sketch = None if final is None else {"index": final["index"], "sign": final["sign"]}
    length = 0 if final is None else final["zeros"].shape[0]
    reduced = jnp.zeros((len(tokens), length), tokens.dtype)
    reduced, blocks = jax.lax.scan(step, reduced, (params["planes"], params["projection"], sketch))
    return jnp.moveaxis(blocks, 0, 1).reshape(len(tokens), -1) if final is None else reduced


@functools.partial(jax.jit, static_argnames="chunk")
def _chamfer(queries, documents, query_mask, document_mask, *, chunk):
    (count, size, width), pairs = documents.shape, query_mask.size

    @jax.checkpoint
    def scores(part):
        rows, mask = part
        products = inner(queries.reshape(pairs, width), rows.reshape(len(rows) * size, width))
        products = products.reshape(*query_mask.shape, len(rows), size)
        best = jnp.max(jnp.where(mask[None, None], products, -jnp.inf), axis=3, initial=-jnp.inf)
        return jnp.sum(jnp.where(query_mask[..., None], best, 0), axis=1)

    if chunk == count:
        return scores((documents, document_mask))
    # Chunk c holds documents c, c + steps, c + 2 * steps, ...: contiguous chunks would move the rows of
    # an array that is sharded by documents.
    steps = -(-count // chunk)
    padding = steps * chunk - count
    parts = [jnp.pad(x, ((0, padding),) + ((0, 0),) * (x.ndim - 1)) for x in (documents, document_mask)]
    parts = [jnp.swapaxes(x.reshape(chunk, steps, *x.shape[1:]), 0, 1) for x in parts]
    found = jax.lax.map(scores, tuple(parts))
    return jnp.moveaxis(found, 0, 2).reshape(len(queries), steps * chunk)[:, :count]


def _rademacher(key, width, projected):
    return jax.random.rademacher(key, (width, projected), jnp.float32) / jnp.sqrt(jnp.float32(projected))


def _count_sketch(key, width, projected):
    sketch = _sketch(key, width, projected)
    return jax.nn.one_hot(sketch["index"], projected, dtype=jnp.float32) * sketch["sign"][:, None]


def _identity(key, width, projected):
    return jnp.eye(width, projected, dtype=jnp.float32)


_PROJECTIONS = {"rademacher": _rademacher, "count_sketch": _count_sketch, "identity": _identity}


def _sketch(key, width, projected):
    index_key, sign_key = jax.random.split(key)
    return {
        "index": jax.random.randint(index_key, (width,), 0, projected, jnp.int32),
        "sign": jax.random.rademacher(sign_key, (width,), jnp.float32),
    }


def _check_planes(planes):
    if not 0 <= planes <= _MAX_PLANES:
        raise ValueError(f"planes: {planes} is outside 0..{_MAX_PLANES}; an encoding has 2**planes cells")


def _clean(name, vectors, mask):
    """Checks one padded set and writes zeros where the mask is False."""
    vectors, mask = jnp.asarray(vectors), jnp.asarray(mask).astype(bool)
    chex.assert_rank(vectors, 3)
    if mask.shape != vectors.shape[:2]:
        raise ValueError(
            f"{name}: the mask is {mask.shape}, but the vectors are {vectors.shape}; pass [B, T]"
        )
    return jnp.where(mask[..., None], vectors.astype(accumulator(vectors)), 0), mask


def _hash(tokens, planes):
    """Returns the cell of every token, int32 [B, T]."""
    products = jnp.einsum(
        "btd,dk->btk", tokens.astype(jnp.float32), planes.astype(jnp.float32), precision="highest"
    )
    weights = 2 ** jnp.arange(planes.shape[1], dtype=jnp.int32)[None, None]
    return jnp.sum(jnp.where(products > 0, weights, 0), axis=2, dtype=jnp.int32)


def _assign(cell, mask, cells, fill_empty):
    """Returns which tokens each cell holds, bool [B, cells, T]."""
    held = (cell[:, None, :] == jnp.arange(cells, dtype=jnp.int32)[None, :, None]) & mask[:, None, :]
    if not fill_empty:
        return held
    batch, size = cell.shape
    order = jnp.arange(size, dtype=jnp.int32)[None, None]
    planes = cells.bit_length() - 1
    # Each cell carries distance * T + index of its nearest token. After pass j the minimum runs over
    # the tokens whose cell differs in bits 0..j only, so k passes reach every token.
    nearest = jnp.min(jnp.where(held, order, (planes + 1) * size), axis=2, initial=(planes + 1) * size)
    for j in range(planes):
        pairs = nearest.reshape(batch, cells >> (j + 1), 2, 1 << j)
        nearest = jnp.minimum(pairs, jnp.flip(pairs, axis=2) + size).reshape(batch, cells)
    filled = (nearest[..., None] % max(size, 1) == order) & mask[:, None, :]
    return jnp.where(jnp.any(held, axis=2, keepdims=True), held, filled)
