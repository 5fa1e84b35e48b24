"""From candidates to a ranking: exact rescoring of token sets on the disk."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.ragged import bucket, pad
from jaxembed.search.topk import top_k

_CHUNK_DOCUMENTS = 64


def retrieve(
    first, queries, mask, k, *, score, tokens, offsets, ids=None, candidates=100, carve=None, flat=False
):
    """Two-stage retrieval: finds candidates by a fast search and orders them by an exact score.

    ``retrieve = rerank(queries, mask, first(queries, mask, candidates), k, score=score, ...)``. With MUVERA
    ``first`` is

        def first(queries, mask, size):
            encoded = vectors.encode_queries(index.params, queries, mask)
            return top_k(encoded, index.columns["fde"], size)[1]

    with the params that the index holds, and ``score`` is ``vectors.chamfer``: ``recipes.search_sets`` is
    this walk. Query tokens that are NaN find nothing sensible: check them where they are made.

    >>> tokens, offsets = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), np.array([0, 1, 3])
    >>> def first(queries, mask, size):
    ...     return jnp.arange(size)[None]
    >>> def score(queries, documents, query_mask, document_mask):
    ...     products = jnp.einsum("btd,nsd->bnts", queries, documents)
    ...     return jnp.where(document_mask[None, :, None], products, -jnp.inf).max(axis=3).sum(axis=2)
    >>> query, mask = np.array([[[0.0, 1.0]]]), np.ones((1, 1), bool)
    >>> index = {"score": score, "tokens": tokens, "offsets": offsets, "ids": np.array(["a", "b"])}
    >>> scores, ids = retrieve(first, query, mask, 2, **index)
    >>> print(scores, ids)
    [[1. 0.]] [['b' 'a']]

    Args:
        first: function (queries, mask, W) to places int [B, W], numbers of documents, for example a closure
            over ``top_k``, ``scan_top_k`` or what ``open_faiss`` returns. A negative place is padding.
        queries: [B, T, D].
        mask: bool [B, T].
        k: how many documents are returned, at most the smaller of N and ``candidates``.
        score, tokens, offsets, ids, carve, flat: as for ``rerank``.
        candidates: the number W of documents that are scored exactly; more than N are N.

    Returns:
        ``scores`` float32 [B, k] and ``ids`` [B, k], as ``rerank``.

    Raises:
        ValueError: when k is outside 1..min(N, candidates), or ``first`` returns more than places.

    References:
        L. Dhulipala et al., arXiv:2405.19504.
    """
    count = len(offsets) - 1
    size = min(candidates, count)
    if not 1 <= k <= size:
        raise ValueError(
            f"k: {k} is outside 1..{size}, the smaller of {count} documents and {candidates} candidates; "
            "pass a k in that range"
        )
    places = first(queries, mask, size)
    if isinstance(places, tuple):
        raise ValueError(f"first: returns {len(places)} values; return the places [B, W] alone")
    given = {"score": score, "tokens": tokens, "offsets": offsets, "ids": ids}
    return rerank(queries, mask, places, k, **given, carve=carve, flat=flat)


def rerank(
    queries,
    mask,
    places,
    k=None,
    *,
    score,
    tokens,
    offsets,
    ids=None,
    carve=None,
    flat=False,
    chunk=_CHUNK_DOCUMENTS,
):
    """Reranking: orders each query's candidates by an exact score, reading only their tokens.

    Candidates are sorted by length and padded in chunks to one of few lengths. So a jitted score compiles a
    few times, and little of its work is padding. Masked query tokens are cut away.

    >>> from jaxembed import vectors
    >>> tokens, offsets = np.eye(3, dtype=np.float32), np.array([0, 1, 3])  # documents of 1 and 2 tokens
    >>> query, given = tokens[None, 1:2], {"score": vectors.chamfer, "tokens": tokens, "offsets": offsets}
    >>> scores, ids = rerank(query, np.ones((1, 1), bool), np.array([[0, 1]]), **given)
    >>> print(ids, scores)
    [[1 0]] [[1. 0.]]

    Args:
        queries: [B, T, D].
        mask: bool [B, T]. False marks padding, whose content never matters.
        places: int [B, W], the candidates of each query, as numbers of documents; a negative one is padding.
        k: optional number of documents to return, at most W. None returns W.
        score: function (queries [1, T, D], documents [n, S, D], query mask, document mask) to scores
            [1, n], for example ``vectors.chamfer``. With ``flat`` a function (queries, query mask, tokens
            [S, D], offsets [n + 1]) to scores [1, n], for example ``vectors.chamfer_flat``, which is faster.
        tokens: [S, D], all tokens of all documents; memory-mapped ones and ``index.tokens`` are read
            where they are needed.
        offsets: [N + 1]. Document n has ``tokens[offsets[n] : offsets[n + 1]]``.
        ids: optional [N], integers or strings, by which documents are named, for example ``index.ids``. None
            names them by their places.
        carve: optional function (queries, mask) to (queries, mask) that leaves fewer query vectors, for
            example ``vectors.ball_carve`` with its threshold. Only the exact score sees its result.
        flat: True hands the score documents whose tokens follow one another without padding.
        chunk: documents that are scored at a time.

    Returns:
        ``scores`` float32 [B, k] in falling order, and [B, k] the ``ids`` of the documents, or their places
        in int32. Among equal scores the lowest place comes first. A candidate that is listed twice counts
        once. Where there are too few candidates the score is -inf and the id -1, or "" among strings. A score
        that is NaN counts as -inf.

    Raises:
        ValueError: when a place, k, chunk, a width or the number of ids is out of range.
    """
    places = np.asarray(places)
    queries, mask = (queries, mask) if carve is None else carve(queries, mask)
    queries, mask = np.asarray(queries), np.asarray(mask).astype(bool)
    _check(tokens, offsets, queries, mask, places)
    k = places.shape[1] if k is None else k
    if chunk < 1:
        raise ValueError(f"chunk: {chunk} is below 1; pass a positive integer")
    if not 1 <= k <= places.shape[1]:
        raise ValueError(f"k: {k} is outside 1..{places.shape[1]}, the candidates; pass a k in that range")
    if ids is not None:
        ids = _checked_ids(np.asarray(ids), len(offsets) - 1)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    found = np.full((len(queries), k), -1, np.int32)
    for b, (query, kept) in enumerate(zip(queries, mask, strict=True)):
        own = np.unique(places[b][places[b] >= 0])
        query = pad([query[kept]], bucket(int(kept.sum())), dtype=np.float32)
        values = (_flat_scores if flat else _scores_of)(score, tokens, offsets, query, own, chunk)
        values = np.where(np.isnan(values), -np.inf, values)
        order = np.argsort(-values, kind="stable")[:k]
        scores[b, : len(order)], found[b, : len(order)] = values[order], own[order]
    if ids is None:
        return scores, found
    missing = np.asarray(-1 if ids.dtype.kind == "i" else "", ids.dtype)
    return scores, np.where(found < 0, missing, ids[found])


def _checked_ids(ids, count):
    if ids.shape != (count,):
        raise ValueError(f"ids: {ids.shape} for {count} documents; pass one for each")
    if ids.dtype.kind not in "iU":
        raise ValueError(f"ids: are {ids.dtype}; pass integers with a sign, or strings")
    return ids


def single_vector_candidates(
    tokens, offsets, queries, mask, size, *, neighbours=None, deduplicate=True, mesh=None, chunk=None
):
    """Single-vector heuristic: finds candidates by the nearest tokens of each query token.

    Each query token takes its ``neighbours`` document tokens of largest inner product. The documents
    of all first neighbours come first, in the order of the query tokens. Those of all second
    neighbours follow, and so on. A document already listed is skipped.

    >>> tokens, offsets = np.array([[1.0, 0.0], [0.9, 0.0], [0.0, 1.0]]), np.array([0, 1, 2, 3])
    >>> query, mask = np.array([[[1.0, 0.0], [0.1, 1.0]]]), np.ones((1, 2), bool)
    >>> print(single_vector_candidates(tokens, offsets, query, mask, 3))
    [[0 2 1]]
    >>> print(single_vector_candidates(tokens, offsets, query, mask, 4, deduplicate=False))
    [[0 2 1 0]]

    Args:
        tokens: [S, D], all tokens of all documents; memory-mapped ones stream.
        offsets: [N + 1]. Document n has ``tokens[offsets[n] : offsets[n + 1]]``.
        queries: [B, T, D].
        mask: bool [B, T]. False marks padding, whose content never matters.
        size: how many candidates are returned.
        neighbours: tokens that each query token takes, at most S. None takes the smaller of size and S.
        deduplicate: False keeps a document each time that it comes.
        mesh: optional mesh, as for ``top_k``, with the tokens divided along "data".
        chunk: as for ``top_k``.

    Returns:
        int32 [B, size], numbers of documents, best first; -1 after the last.

    Raises:
        ValueError: when size or neighbours is out of range, or a width differs.

    References:
        L. Dhulipala et al., arXiv:2405.19504, the baseline of their experiments.
    """
    queries, mask = jnp.asarray(queries), jnp.asarray(mask).astype(bool)
    _check(tokens, offsets, queries, mask, None)
    if size < 1:
        raise ValueError(f"size: {size} is below 1; pass the number of candidates to return")
    batch, length, width = queries.shape
    neighbours = min(size, tokens.shape[0]) if neighbours is None else neighbours
    rows = jnp.where(mask[..., None], queries, 0).reshape(batch * length, width)
    _, near = top_k(rows, tokens, neighbours, mesh=mesh, chunk=chunk)
    owners = np.searchsorted(np.asarray(offsets), np.asarray(near), side="right").astype(np.int32) - 1
    owners = np.where(mask[..., None], owners.reshape(batch, length, neighbours), -1)
    return _interleave(jnp.asarray(owners), size=size, deduplicate=deduplicate)


@functools.partial(jax.jit, static_argnames=("size", "deduplicate"))
def _interleave(owners, *, size, deduplicate):
    """Lists owners [B, T, K] rank by rank, without -1 and, if wanted, without repetition."""
    count = owners.shape[1] * owners.shape[2]
    flat = jnp.swapaxes(owners, 1, 2).reshape(len(owners), count)
    order = jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32)[None], flat.shape)
    ids, order = jax.lax.sort((flat, order), num_keys=2)
    again = jnp.pad(ids[:, 1:] == ids[:, :-1], ((0, 0), (1, 0)))
    dropped = (ids < 0) | (again if deduplicate else False)
    order, ids = jax.lax.sort((jnp.where(dropped, count, order), jnp.where(dropped, -1, ids)), num_keys=1)
    return jnp.pad(ids, ((0, 0), (0, max(0, size - count))), constant_values=-1)[:, :size]


def _scores_of(score, tokens, offsets, query, places, chunk):
    """Scores documents for one padded query, longest first; returns float32 of the order of places."""
    lengths = np.asarray(offsets)[places + 1] - np.asarray(offsets)[places]
    order = np.argsort(-lengths, kind="stable")
    waiting = []
    for start in range(0, len(order), chunk):
        part = order[start : start + chunk]
        sets = [np.asarray(tokens[int(offsets[p]) : int(offsets[p + 1])]) for p in places[part]]
        documents, mask = pad(sets, bucket(int(lengths[part[0]])), count=chunk, dtype=np.float32)
        waiting.append((part, score(query[0], documents, query[1], mask)))
    values = np.empty(len(places), np.float32)
    for part, found in waiting:
        values[part] = np.asarray(found)[0, : len(part)]
    return values


def _flat_scores(score, tokens, offsets, query, places, chunk):
    """The same with tokens that follow one another; their number is rounded up to one of few."""
    waiting = []
    for start in range(0, len(places), chunk):
        part = places[start : start + chunk]
        sets = [np.asarray(tokens[int(offsets[p]) : int(offsets[p + 1])]) for p in part]
        ends = np.cumsum([len(rows) for rows in sets])
        joined = np.zeros((bucket(int(ends[-1])), tokens.shape[1]), np.float32)
        np.concatenate(sets, out=joined[: ends[-1]], casting="same_kind")
        borders = np.concatenate([[0], ends, np.full(chunk - len(sets), ends[-1])]).astype(np.int32)
        waiting.append((slice(start, start + len(part)), score(query[0], query[1], joined, borders)))
    values = np.empty(len(places), np.float32)
    for part, found in waiting:
        values[part] = np.asarray(found)[0, : part.stop - part.start]
    return values


def _check(tokens, offsets, queries, mask, places):
    if queries.ndim != 3 or mask.shape != queries.shape[:2]:
        raise ValueError(f"queries: {queries.shape} with a mask {mask.shape}; pass [B, T, D] and [B, T]")
    if len(tokens.shape) != 2 or tokens.shape[1] != queries.shape[2]:
        raise ValueError(f"tokens: {tokens.shape} for queries {queries.shape}; encode both with one encoder")
    if len(offsets) < 2 or int(offsets[-1]) != tokens.shape[0]:
        raise ValueError(f"offsets: end at {offsets[-1]} of {tokens.shape[0]} tokens; pass [N + 1] offsets")
    if places is None:
        return
    if places.ndim != 2 or len(places) != len(queries):
        raise ValueError(f"places: {places.shape} for {len(queries)} queries; pass [B, W]")
    if places.size and places.max() >= len(offsets) - 1:
        raise ValueError(f"places: {places.max()} of {len(offsets) - 1} documents; pass numbers below that")
