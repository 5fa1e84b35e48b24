"""The exact Chamfer score of sets of token vectors, its limit in one partition, and smaller queries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, inner


def chamfer(queries, documents, query_mask, document_mask, *, chunk=None):
    """Chamfer similarity (MaxSim): scores every document by the best match of each query token.

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
            B * T * chunk * S floats. None takes 64 MiB, on a CPU 512 KiB.

    Returns:
        [B, N] in at least float32. An empty document scores -inf; an empty query scores 0 everywhere.

    Raises:
        ValueError: when the widths or the masks do not fit.

    References:
        O. Khattab and M. Zaharia, arXiv:2004.12832 (there called MaxSim).
    """
    queries, query_mask = check_set("queries", queries, query_mask)
    documents, document_mask = check_set("documents", documents, document_mask)
    _check_widths(queries, documents)
    if chunk is None:
        # A CPU is fastest while the products stay in its cache, an accelerator when it is kept busy.
        elements = 2**17 if jax.default_backend() == "cpu" else 2**24
        chunk = elements // max(1, query_mask.size * document_mask.shape[1])
    chunk = min(max(1, chunk), max(1, len(documents)))
    return _chamfer(queries, documents, query_mask, document_mask, chunk=chunk)


def chamfer_flat(queries, query_mask, tokens, offsets):
    """Chamfer similarity without padding: documents are tokens that follow one another.

    ``chamfer_flat[b, n]`` is :func:`chamfer` of query b with ``tokens[offsets[n] : offsets[n + 1]]``. One
    product of all tokens with all queries, then a maximum over each document's rows.

    >>> query = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> tokens = jnp.array([[0.6, 0.8], [0.8, 0.6], [1.0, 0.0]])
    >>> print(chamfer_flat(query, jnp.ones((1, 2), bool), tokens, jnp.array([0, 2, 3])))
    [[1.6 1. ]]

    Args:
        queries: [B, T, D].
        query_mask: bool [B, T]. False marks padding, whose content never matters.
        tokens: [S, D]. Rows before offsets[0] and from offsets[N] on belong to no document and never matter,
            not even NaN. So S can be one of few sizes under jit.
        offsets: int [N + 1], never falling, within 0..S. Two equal ones are a document without tokens.

    Returns:
        [B, N] in at least float32, as :func:`chamfer`. Needs S * B * T floats.

    Raises:
        ValueError: when the widths or the mask do not fit, or offsets that are given by NumPy fall or
            leave 0..S.
    """
    queries, query_mask = check_set("queries", queries, query_mask)
    known = isinstance(offsets, np.ndarray) and offsets.size > 0
    if known and (offsets[0] < 0 or offsets[-1] > len(tokens) or np.any(offsets[1:] < offsets[:-1])):
        raise ValueError(f"offsets: they fall or leave 0..{len(tokens)}; pass where each document begins")
    tokens, offsets = jnp.asarray(tokens), jnp.asarray(offsets)
    if tokens.ndim != 2 or offsets.ndim != 1 or len(offsets) < 1:
        raise ValueError(f"tokens, offsets: {tokens.shape}, {offsets.shape}; pass [S, D] and [N + 1]")
    if not jnp.issubdtype(offsets.dtype, jnp.integer):
        raise ValueError(f"offsets: {offsets.dtype}; pass integers")
    _check_widths(queries, tokens)
    return _chamfer_flat(queries, query_mask, tokens, offsets)


def ball_carve(queries, mask, *, threshold=0.7):
    """Ball carving: replaces query tokens that point one way by their sum, so fewer are compared.

    Tokens are taken in their order. The first one without a group opens a group; it takes in every token t
    without a group for which ``<first, t> >= threshold``. A group becomes the sum of its tokens. Chamfer of
    the sums is at most Chamfer of the tokens.

    >>> query = jnp.array([[[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]]])
    >>> sums, kept = ball_carve(query, jnp.ones((1, 3), bool))
    >>> print(sums, kept)
    [[[1.8 0.6]
      [0.  1. ]
      [0.  0. ]]] [[ True  True False]]

    Args:
        queries: [B, T, D], unit vectors.
        mask: bool [B, T]. False marks padding, whose content never matters, not even NaN.
        threshold: inner product from which on tokens share a group. Above 1 nothing is joined.

    Returns:
        ``sums`` [B, T, D] in at least float32 and ``mask`` bool [B, T]. Groups come first, in the order
        of their first tokens; the rest is zero. Cut T to the largest count of groups to save time.

    Raises:
        ValueError: when the mask does not fit.

    References:
        L. Dhulipala et al., arXiv:2405.19504, there used for reranking only, with threshold 0.7.
    """
    queries, mask = check_set("queries", queries, mask)
    return _ball_carve(queries, mask, threshold) if mask.shape[1] else (zero_padding(queries, mask), mask)


def implicit_fde_score(planes, queries, documents, query_mask, document_mask):
    """Limit of MUVERA: scores sets as their unprojected encodings would, without building the 2**k cells.

    The mean over repetitions of the sum over query tokens q of ``v(q)``. Here v(q) is the mean of ``<q, d>``
    over the document's tokens d in the cell of q. Where that cell is empty, it is ``<q, d>`` for the first d
    whose cell differs from that of q in the fewest bits. It equals ``estimate_chamfer`` of filled encodings
    with the identity projection, for any number of planes: it shows what an encoding tends to.

    >>> planes = jax.random.normal(jax.random.key(0), (1, 2, 1000))
    >>> query = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> document = jnp.array([[[0.6, 0.8], [0.8, 0.6]]])
    >>> full = jnp.ones((1, 2), bool)
    >>> print(implicit_fde_score(planes, query, document, full, full))
    [[1.6]]

    Args:
        planes: [R, D, k], as in the params of ``init_fde``; k is not limited here.
        queries: [B, T, D].
        documents: [N, S, D].
        query_mask: bool [B, T]. False marks padding, whose content never matters, not even NaN.
        document_mask: bool [N, S].

    Returns:
        [B, N] in at least float32; an empty set scores 0. Needs B * T * N * S floats.

    Raises:
        ValueError: when the widths or the masks do not fit.

    References:
        L. Dhulipala et al., arXiv:2405.19504.
    """
    queries, query_mask = check_set("queries", queries, query_mask)
    documents, document_mask = check_set("documents", documents, document_mask)
    _check_widths(queries, documents)
    if planes.ndim != 3 or planes.shape[1] != queries.shape[2]:
        raise ValueError(f"planes: shape {planes.shape}; pass [R, {queries.shape[2]}, k] for these tokens")
    if not documents.shape[1]:
        return jnp.zeros((len(queries), len(documents)), accumulator(queries, documents))
    return _implicit(planes, queries, documents, query_mask, document_mask)


def check_set(name, vectors, mask):
    """Checks one padded set, [B, T, D] with mask [B, T], and returns both as arrays."""
    vectors, mask = jnp.asarray(vectors), jnp.asarray(mask).astype(bool)
    if vectors.ndim != 3:
        raise ValueError(f"{name}: {vectors.shape}; pass [B, T, D], one set as [1, T, D]")
    if mask.shape != vectors.shape[:2]:
        raise ValueError(
            f"{name}: the mask is {mask.shape}, but the vectors are {vectors.shape}; pass [B, T]"
        )
    return vectors, mask


def zero_padding(vectors, mask):
    """Writes zeros where the mask is False: [B, T, D] in at least float32."""
    return jnp.where(mask[..., None], vectors.astype(accumulator(vectors)), 0)


def strided(x, chunk):
    """Cuts N rows into at most ``chunk`` at a time: [N, ...] becomes [rows, steps, ...].

    Step s holds rows s, s + steps, s + 2 * steps, ...: contiguous steps would move the rows of an array
    that is sharded by rows. Where a divisor of N is near, nothing is padded and so nothing is copied.
    """
    steps = -(-len(x) // chunk)
    steps = next((n for n in range(steps, 2 * steps) if len(x) % n == 0), steps)
    x = jnp.pad(x, ((0, -len(x) % steps),) + ((0, 0),) * (x.ndim - 1))
    return x.reshape(-1, steps, *x.shape[1:])


@functools.partial(jax.jit, static_argnames="chunk")
def _chamfer(queries, documents, query_mask, document_mask, *, chunk):
    (count, size, width), pairs = documents.shape, query_mask.size
    queries = zero_padding(queries, query_mask)
    flat = queries.reshape(pairs, width)

    @jax.checkpoint
    def scores(rows, mask):
        products = inner(zero_padding(rows, mask).reshape(len(rows) * size, width), flat)
        products = products.reshape(len(rows), size, pairs)
        best = jnp.max(products, axis=1, initial=-jnp.inf, where=mask[..., None])
        best = best.reshape(len(rows), *query_mask.shape)
        return jnp.sum(jnp.where(query_mask[None], best, 0), axis=2).T

    if chunk >= count:
        return scores(documents, document_mask)
    documents, document_mask = (strided(x, chunk) for x in (documents, document_mask))
    chunk, steps = document_mask.shape[:2]
    found = jax.lax.map(lambda c: scores(documents[:, c], document_mask[:, c]), jnp.arange(steps))
    return jnp.moveaxis(found, 0, 2).reshape(len(queries), steps * chunk)[:, :count]


@jax.jit
def _chamfer_flat(queries, query_mask, tokens, offsets):
    count, queries = len(offsets) - 1, zero_padding(queries, query_mask)
    # Rows before the first document have owner 0, those after the last one count + 1. A binary search
    # would be done anew for every product.
    owners = jnp.cumsum(jnp.zeros(len(tokens), jnp.int32).at[offsets].add(1, mode="drop"))
    owned = (owners > 0) & (owners <= count)
    products = _owned_products(tokens, queries.reshape(query_mask.size, queries.shape[-1]), owned)
    best = jax.ops.segment_max(products, owners, count + 2, indices_are_sorted=True)[1:-1]
    best = best.reshape(count, *query_mask.shape)
    return jnp.sum(jnp.where(query_mask[None], best, 0), axis=2).T


@jax.custom_vjp
def _owned_products(tokens, queries, owned):
    """Products of rows, whose gradient passes over tokens that no document owns; values are left to others.

    Zeroing those tokens beforehand would copy all of them.
    """
    del owned
    return inner(tokens, queries)


def _owned_products_forward(tokens, queries, owned):
    return inner(tokens, queries), (tokens, queries, owned)


def _owned_products_backward(saved, g):
    tokens, queries, owned = saved
    known = jnp.where(owned[:, None], tokens, 0)
    return inner(g, queries.T).astype(tokens.dtype), inner(g.T, known.T).astype(queries.dtype), None


_owned_products.defvjp(_owned_products_forward, _owned_products_backward)


@jax.jit
def _ball_carve(queries, mask, threshold):
    queries = zero_padding(queries, mask)
    size = queries.shape[1]
    close = inner(queries, queries) >= threshold

    def step(state, i):
        free, group = state
        opens = free[:, i]
        taken = opens[:, None] & free & (close[:, i] | (jnp.arange(size) == i)[None])
        return (free & ~taken, jnp.where(taken, i, group)), None

    start = mask, jnp.full(mask.shape, size, jnp.int32)
    (_, group), _ = jax.lax.scan(step, start, jnp.arange(size, dtype=jnp.int32))
    member = group[:, None, :] == jnp.arange(size, dtype=jnp.int32)[None, :, None]  # [B, group, token]
    kept = jnp.any(member, axis=2)
    order = jnp.argsort(~kept, axis=1, stable=True)
    member = jnp.take_along_axis(member, order[..., None], axis=1)
    sums = jnp.einsum("bgt,btd->bgd", member.astype(queries.dtype), queries, precision="highest")
    return sums, jnp.take_along_axis(kept, order, axis=1)


@jax.jit
def _implicit(planes, queries, documents, query_mask, document_mask):
    queries, documents = zero_padding(queries, query_mask), zero_padding(documents, document_mask)
    products = jnp.einsum("btd,nsd->btns", queries, documents, precision="highest")
    valid, order = document_mask[None, None], jnp.arange(document_mask.shape[1])

    def bits(tokens, cut):
        sides = jnp.einsum("btd,dk->btk", tokens.astype(jnp.float32), cut, precision="highest")
        return (sides > 0).astype(jnp.float32)

    def one(cut):
        q, d = bits(queries, cut), bits(documents, cut)
        both = jnp.einsum("btk,nsk->btns", q, d, precision="highest")
        distance = jnp.sum(q, axis=2)[..., None, None] + jnp.sum(d, axis=2)[None, None] - 2 * both
        distance = jnp.where(valid, distance, jnp.inf)
        same = distance == 0
        count = jnp.sum(same, axis=3, keepdims=True)
        nearest = (order == jnp.argmin(distance, axis=3)[..., None]) & valid
        share = jnp.where(count > 0, same / jnp.maximum(count, 1), nearest)
        return jnp.sum(jnp.where(query_mask[..., None], jnp.sum(share * products, axis=3), 0), axis=1)

    return jnp.mean(jax.lax.map(one, planes.astype(jnp.float32)), axis=0)


def _check_widths(queries, documents):
    if queries.shape[-1] != documents.shape[-1]:
        raise ValueError(
            f"documents: width {documents.shape[-1]}, but queries have {queries.shape[-1]}; "
            "encode both with one encoder"
        )
