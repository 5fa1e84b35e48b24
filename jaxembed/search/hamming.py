"""Search over packed binary codes: the nearest in Hamming distance, and reranking by the float vectors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import on_device
from jaxembed.search.code_columns import (
    BLOCK,
    GATHERED_BYTES,
    MISSING,
    CodeColumns,
    least_of_all,
    nearest_columns,
    words_of,
)
from jaxembed.search.topk import scan

_SLICE = 2**15  # codes that are compared at a time: they stay in the cache
_CHUNK_BYTES = 2**25  # codes of one transfer from the host


def hamming_top_k(queries, codes, k, *, mesh=None, axis="data", chunk=None):
    """Exact Hamming search: the k codes that differ from each query's in the fewest bits.

    The distances of a block of 64 neighbouring codes are reduced to the least before anything is stored; the
    k blocks of least distance hold the k nearest codes and are looked at again. So neither distances [B, N]
    nor differing bits are ever stored, and the result is exact: among equal distances the lowest row comes
    first.

    >>> codes = np.array([[0], [255], [3], [7]], np.uint8)
    >>> distances, ids = hamming_top_k(np.array([[3]], np.uint8), codes, 3)
    >>> print(distances, ids)
    [[0 1 2]] [[2 3 0]]

    Args:
        queries: uint8 [B, W], packed by ``vectors.pack_bits`` or ``vectors.sign_codes``.
        codes: uint8 [N, W]. A JAX array stays where it is. Anything else with a shape and slices, as a
            memory-mapped array or a column of ``open_documents``, is sent to the device chunk by chunk.
            For many searches of the same codes: :func:`code_columns` of them, which is read fastest.
        k: how many codes are returned, at most N.
        mesh, axis: as for ``top_k``.
        chunk: how many codes are taken from the host at a time; None takes 32 MiB.

    Returns:
        ``distances`` int32 [B, k], rising, and ``ids`` int32 [B, k].

    Raises:
        ValueError: when k is below 1 or above N, for another dtype, or for codes of another width, which were
            made by another head; for a mesh with codes by columns.
    """
    if isinstance(codes, CodeColumns):
        return _of_columns(on_device("queries", queries), codes, k, mesh)
    codes = codes if hasattr(codes, "shape") and hasattr(codes, "dtype") else np.asarray(codes)
    queries = on_device("queries", queries)
    _check(queries, codes)
    count, width = codes.shape
    _check_k(k, count)
    if count > np.iinfo(np.int32).max:
        raise ValueError(f"codes: {count} are more than int32 numbers; search parts and merge the results")
    chunk = _CHUNK_BYTES // width if chunk is None else chunk
    if chunk < 1:
        raise ValueError(f"chunk: {chunk} is below 1; pass a positive integer")
    options = {"size": len(queries), "chunk": max(chunk, k, 1), "mesh": mesh, "axis": axis}
    scores, ids = scan(None, queries, codes, k, pick=_nearest, **options)
    return jnp.where(jnp.isfinite(scores), -scores, MISSING).astype(jnp.int32), ids


def _of_columns(queries, columns, k, mesh):
    _check(queries, np.broadcast_to(np.uint8(0), (columns.count, columns.width)))
    _check_k(k, columns.count)
    if mesh is not None:
        raise ValueError("mesh: codes by columns lie on one device; pass the packed codes to share them out")
    return nearest_columns(queries, columns.words, columns.count, int(k))


def rerank_vectors(queries, places, vectors, k=None, *, chunk=64):
    """Reranking by vectors: orders each query's candidates by inner product, reading only their vectors.

    >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    >>> scores, ids = rerank_vectors(np.array([[0.0, 1.0]]), np.array([[0, 2, -1]]), vectors)
    >>> print(ids, scores)
    [[ 2  0 -1]] [[ 0.8  0.  -inf]]

    Args:
        queries: [B, D]. Nothing is normalised.
        places: int [B, W], the candidates of each query, as numbers of rows; a negative one is padding.
        vectors: [N, D]. A memory-mapped array, or a column or the tokens of ``open_documents``, stays on the
            disk; only candidates are read.
        k: optional number of rows to return, at most W. None returns W.
        chunk: queries whose candidates are held at a time.

    Returns:
        ``scores`` float32 [B, k], falling, and ``ids`` int32 [B, k]. Among equal scores the lowest row comes
        first. A row that is listed twice counts once. Where there are too few candidates the score is -inf
        and the id -1. A score that is NaN counts as -inf and keeps its id.

    Raises:
        ValueError: when a place, k, or a width is out of range.
    """
    queries, places = np.asarray(queries, np.float32), np.asarray(places)
    k = places.shape[-1] if k is None else k
    _check_places(queries, places, vectors, k)
    order = _each_once(places, vectors.shape[0])
    scores, ids = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int32)
    for start in range(0, len(queries), chunk):
        some = order[start : start + chunk]
        held = np.asarray(vectors[np.maximum(some, 0)])
        found = _inner_best(queries[start : start + chunk], held, some, k=k)
        scores[start : start + chunk], ids[start : start + chunk] = map(np.asarray, found)
    return scores, ids


def search_codes(index, codes, queries, k, *, column="codes", vectors=None, candidates=100):
    """Two-stage search of an index on disk: candidates by Hamming distance, ranked by their float vectors.

    ``search_codes = rerank_vectors(queries, hamming_top_k(codes, index.columns[column], candidates), ...)``:
    the scan reads bits, and of the vectors only those of the candidates are read.

    >>> import tempfile
    >>> from jaxembed import search, vectors
    >>> rows = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    >>> documents = [(f"text {n}", row[None]) for n, row in enumerate(rows)]
    >>> def encode(params, tokens, mask):
    ...     return {"codes": vectors.sign_codes(tokens[:, 0])}
    >>> index = search.build_documents(tempfile.mkdtemp(), documents, encode, dtype=np.float32)
    >>> scores, ids = search_codes(index, vectors.sign_codes(rows[7:8]), rows[7:8], 2, candidates=10)
    >>> print(ids[0, 0], index.columns["codes"].shape)
    text 7 (50, 2)

    Args:
        index: of ``open_documents``, with a column of packed codes.
        codes: uint8 [B, W], those of the queries, by the head that made the column. Name the head's
            parameters as ``params`` of the build: ``open_documents(folder, params=head)`` refuses another.
        queries: [B, D], the float vectors of the queries.
        k: how many documents are returned.
        column: name of the column of codes.
        vectors: name of the column of float vectors; None takes the tokens of documents that have one each.
        candidates: how many documents are found by their codes, at least k; more than N are N.

    Returns:
        ``scores`` float32 [B, k], falling, and the documents' ids [B, k].

    Raises:
        ValueError: for a column that the index does not hold, documents of several tokens, codes of another
            head, or a k above the candidates.
    """
    for name in (column, *(() if vectors is None else (vectors,))):
        if name not in index.columns:
            raise ValueError(f"column: {name!r} is not in the index; it has {', '.join(index.columns)}")
    if vectors is None and not np.array_equal(index.offsets, np.arange(len(index.ids) + 1)):
        raise ValueError("vectors: None, but documents have other than one token; name a column of vectors")
    rows = index.tokens if vectors is None else index.columns[vectors]
    size = min(candidates, len(index.ids))
    if not 1 <= k <= size:
        raise ValueError(
            f"k: {k} is outside 1..{size}, the smaller of {len(index.ids)} documents and {candidates} "
            "candidates; pass a k in that range"
        )
    places = hamming_top_k(codes, index.columns[column], size)[1]
    scores, found = rerank_vectors(queries, places, rows, k)
    return scores, index.ids[found]


def _each_once(places, count):
    """Places in rising order, each once, and -1 after the last."""
    order = np.sort(np.where(places < 0, count, places), axis=1)
    order[:, 1:][order[:, 1:] == order[:, :-1]] = count
    order = np.sort(order, axis=1)
    return np.where(order == count, -1, order).astype(np.int32)


@functools.partial(jax.jit, static_argnames="k")
def _inner_best(queries, held, places, *, k):
    scores = jnp.einsum("bd,bwd->bw", queries, held.astype(jnp.float32), precision="highest")
    scores = jnp.where((places < 0) | jnp.isnan(scores), -jnp.inf, scores)
    scores, order = jax.lax.top_k(scores, k)
    return scores, jnp.take_along_axis(places, order, axis=1)


def _nearest(queries, codes, first, last, k):
    """The k nearest of codes first to last - 1: negative distances and places, best first."""
    count, width = codes.shape
    queries = words_of(queries)
    if count <= BLOCK * k:
        places = jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32), (len(queries), count))
        return _ranked(queries, words_of(codes), places, first, last, k)
    piece = min(_SLICE, count + -count % BLOCK)
    codes = jnp.pad(codes, ((0, max(0, piece - count)), (0, 0)))
    least = _least(queries, codes, first, last, piece)
    _, blocks = jax.lax.top_k(-least.astype(jnp.float32), k)
    blocks = jnp.sort(blocks, axis=1)  # places rise, so that ties go to the lowest
    number, inside = blocks // (piece // BLOCK), blocks % (piece // BLOCK)
    start = _start(number, piece, len(codes))
    places = (start + inside * BLOCK)[..., None] + jnp.arange(BLOCK, dtype=jnp.int32)
    places = jnp.where(places >= number[..., None] * piece, places, len(codes))
    places = places.reshape(len(blocks), blocks.shape[1] * BLOCK)

    def again(query_and_places):
        query, rows = query_and_places
        found = _ranked(query[None], words_of(codes.at[rows].get(mode="clip")), rows[None], first, last, k)
        return found[0][0], found[1][0]

    size = max(1, GATHERED_BYTES // (k * BLOCK * width))
    return jax.lax.map(again, (queries, places), batch_size=max(1, min(size, len(queries))))


def _ranked(queries, words, places, first, last, k):
    """Ranks codes [n, V] at places [B, n]; those outside first to last - 1 are -inf."""
    distances = jnp.sum(jax.lax.population_count(queries[:, None] ^ words[None]), axis=2, dtype=jnp.int32)
    valid = (places >= first) & (places < last)
    scores, order = jax.lax.top_k(jnp.where(valid, -distances.astype(jnp.float32), -jnp.inf), k)
    return scores, jnp.take_along_axis(places, order, axis=1)


def _least(queries, codes, first, last, piece):
    """The least distance in every block of codes, int32 [B, blocks], piece after piece."""
    pieces = -(-len(codes) // piece)

    def one(number):
        start = _start(number, piece, len(codes))
        rows = start + jnp.arange(piece, dtype=jnp.int32)
        valid = (rows >= jnp.maximum(first, number * piece)) & (rows < last)
        # Words of neighbours lie side by side, so that the processor compares many codes at once.
        words = words_of(jax.lax.dynamic_slice_in_dim(codes, start, piece))
        words = words.reshape(-1, BLOCK, words.shape[1]).transpose(2, 1, 0)
        offset = jnp.where(valid, 0, MISSING).reshape(-1, BLOCK).T
        return least_of_all(queries, *jax.lax.optimization_barrier((words, offset)))

    least = jax.lax.map(one, jnp.arange(pieces, dtype=jnp.int32))
    return jnp.swapaxes(least, 0, 1).reshape(len(queries), least.shape[0] * least.shape[2])


def _start(number, piece, count):
    """Where a piece begins; the last one ends with the codes and passes over those before it."""
    return jnp.minimum(number * piece, count - piece)


def _check(queries, codes):
    for name, x in (("queries", queries), ("codes", codes)):
        if len(x.shape) != 2 or x.dtype != np.uint8 or not x.shape[1]:
            raise ValueError(f"{name}: {x.dtype} {tuple(x.shape)}; pass uint8 [.., W] of vectors.pack_bits")
    if queries.shape[1] != codes.shape[1]:
        raise ValueError(
            f"queries: {8 * queries.shape[1]} bits, but the codes have {8 * codes.shape[1]}; "
            "make both with one head"
        )


def _check_k(k, count):
    if not isinstance(k, int | np.integer) or not 1 <= k <= count:
        raise ValueError(f"k: {k} is outside 1..{count}, the number of codes; pass a k in that range")


def _check_places(queries, places, vectors, k):
    if queries.ndim != 2 or len(vectors.shape) != 2 or vectors.shape[1] != queries.shape[1]:
        raise ValueError(
            f"vectors: {tuple(vectors.shape)} for queries {queries.shape}; encode both with one encoder"
        )
    if places.ndim != 2 or len(places) != len(queries):
        raise ValueError(f"places: {places.shape} for {len(queries)} queries; pass [B, W]")
    if places.size and places.max() >= vectors.shape[0]:
        raise ValueError(f"places: {places.max()} of {vectors.shape[0]} rows; pass numbers below that")
    if not 1 <= k <= places.shape[1]:
        raise ValueError(f"k: {k} is outside 1..{places.shape[1]}, the candidates; pass a k in that range")
