"""The best documents of each query, exactly; and several rankings merged into one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxembed.arrays import inner

_CHUNK_ELEMENTS = 2**24  # floats in one chunk of documents or of scores
_WHOLE_ELEMENTS = 2**25  # floats of scores up to which documents on the device are not cut


def top_k(queries, documents, k, *, mesh=None, axis="data", chunk=None):
    """Finds the k documents with the largest inner product for each query.

    ``scores[b]`` are the k largest of ``<queries[b], documents[n]>`` over n, in falling order; among
    equal scores the lowest n comes first, wherever chunks and devices are cut. Every document is
    compared, in float32.

    >>> documents = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> scores, ids = top_k(jnp.array([[1.0, 2.0]]), documents, 2)
    >>> print(scores, ids)
    [[2. 2.]] [[1 2]]

    Args:
        queries: [B, D]. Nothing is normalised.
        documents: [N, D], row n is document n. A JAX array stays where it is. A NumPy array, also a
            memory-mapped one, is sent to the device chunk by chunk and never loaded whole.
        k: how many documents are returned, at most N.
        mesh: optional mesh. Each device along ``axis`` searches its own rows, and only [B, k] scores
            travel. N need not divide by the number of devices.
        axis: the name, or a tuple of names, of the mesh axis that divides the documents.
        chunk: how many documents (of one device, or of one transfer from the host) are scored at a
            time; raised to k where it is smaller. None takes about 64 MiB, and does not cut documents on the
            device whose scores need at most 128 MiB.

    Returns:
        ``scores`` float32 [B, k] and ``ids`` int32 [B, k]. A score that is NaN counts as -inf and is
        returned as -inf, so it never hides a document with a number. Two scores are equal when their
        float32 values are; equal rows may differ in the last bit where the hardware sums them in
        different order.

    Raises:
        ValueError: when k is below 1 or above N, or the widths differ.
    """
    queries = jnp.asarray(queries)
    if queries.ndim != 2 or len(documents.shape) != 2:
        raise ValueError(
            f"queries, documents: shapes {queries.shape} and {documents.shape}; pass [B, D] and [N, D]"
        )
    count, width = documents.shape
    if queries.shape[1] != width:
        raise ValueError(f"documents: width {width}, but queries have {queries.shape[1]}; encode both alike")
    if not 1 <= k <= count:
        raise ValueError(f"k: {k} is outside 1..{count}, the number of documents; pass a k in that range")
    resident = isinstance(documents, jax.Array)
    if chunk is None:
        chunk = _CHUNK_ELEMENTS // max(1, width, len(queries))
        # A chunk is copied before it is read, which for few queries takes longer than the products.
        chunk = count if resident and count * len(queries) <= _WHOLE_ELEMENTS else chunk
    chunk = max(chunk, k)
    if resident:
        return _search(queries, documents, 0, count, k=k, chunk=chunk, mesh=mesh, axis=axis)
    return _stream(queries, documents, k=k, chunk=min(chunk, count), mesh=mesh, axis=axis)


def reciprocal_rank_fusion(rankings, size, *, k=60):
    """Merges several rankings into one by the ranks alone.

    ``score(document) = sum over rankings of 1 / (k + rank)``, with rank 1 for the first place and
    nothing from a ranking in which the document does not stand.

    >>> scores, ids = reciprocal_rank_fusion([jnp.array([[7, 3, 5]]), jnp.array([[3, 9, -1]])], 3)
    >>> print(ids, scores.round(4))
    [[3 7 9]] [[0.0325 0.0164 0.0161]]

    Args:
        rankings: sequence of int [B, K] arrays, best document first. K may differ between rankings. A
            negative id is padding; an id that stands twice in one ranking counts at its better rank.
        size: how many documents are returned for each query.
        k: the constant that damps the first places.

    Returns:
        ``scores`` float32 [B, size] in falling order and ``ids`` int32 [B, size]; among equal scores the
        lowest id comes first. Places that no document takes hold id -1 and score 0.

    Raises:
        ValueError: when there is no ranking, or size is below 1.

    References:
        G. V. Cormack, C. L. A. Clarke and S. Buettcher, SIGIR 2009, doi:10.1145/1571941.1572114.
    """
    if not len(rankings):
        raise ValueError("rankings: empty; pass at least one [B, K] array of ids")
    if size < 1:
        raise ValueError(f"size: {size} is below 1; pass the number of documents to return")
    return _fuse([jnp.asarray(ids).astype(jnp.int32) for ids in rankings], k, size=size)


@functools.partial(jax.jit, static_argnames="size")
def _fuse(rankings, k, *, size):
    ids = jnp.concatenate(rankings, axis=1)
    source = jnp.concatenate([jnp.full(r.shape[1], i, jnp.int32) for i, r in enumerate(rankings)])
    rank = jnp.concatenate([jnp.arange(1, r.shape[1] + 1, dtype=jnp.int32) for r in rankings])
    ids, source, rank = jax.lax.sort(
        (ids, jnp.broadcast_to(source, ids.shape), jnp.broadcast_to(rank, ids.shape)), num_keys=3
    )
    again = _equals_previous(ids) & _equals_previous(source)
    loss = -1 / (k + rank).astype(jnp.float32)
    ids, loss = jax.lax.sort((ids, jnp.where(again | (ids < 0), 0, loss)), num_keys=2)
    # An id now stands in one run, its shares in falling order and at most one share per ranking.
    total = jnp.zeros_like(loss)
    for shift in range(min(len(rankings), ids.shape[1])):
        same = jnp.pad(ids[:, shift:] == ids[:, : ids.shape[1] - shift], ((0, 0), (0, shift)))
        total = total + jnp.where(same, jnp.pad(loss[:, shift:], ((0, 0), (0, shift))), 0)
    keep = ~_equals_previous(ids) & (ids >= 0)
    last = jnp.iinfo(jnp.int32).max
    total, ids = jax.lax.sort((jnp.where(keep, total, 1), jnp.where(keep, ids, last)), num_keys=2)
    taken = total < 1
    missing = ((0, 0), (0, max(0, size - ids.shape[1])))
    scores = jnp.pad(jnp.where(taken, -total, 0), missing)[:, :size]
    return scores, jnp.pad(jnp.where(taken, ids, -1), missing, constant_values=-1)[:, :size]


def _equals_previous(x):
    return jnp.pad(x[:, 1:] == x[:, :-1], ((0, 0), (1, 0)))


def _stream(queries, documents, *, k, chunk, mesh, axis):
    """Searches documents that lie on the host, one chunk on the device while the next is read."""
    count, width = documents.shape
    place = jax.device_put
    if mesh is not None:
        chunk += -chunk % _shards(mesh, axis)
        place = functools.partial(jax.device_put, device=NamedSharding(mesh, PartitionSpec(axis)))
    best = None
    for start in range(0, count, chunk):
        rows = np.asarray(documents[start : start + chunk])
        if len(rows) < chunk:
            rows = np.concatenate([rows, np.zeros((chunk - len(rows), width), rows.dtype)])
        found = _search(queries, place(rows), start, count, k=k, chunk=chunk, mesh=mesh, axis=axis)
        if best is not None:
            jax.block_until_ready(best)  # at most two chunks are in flight
        best = found if best is None else _merge(best, found, k=k)
    return best


@functools.partial(jax.jit, static_argnames=("k", "chunk", "mesh", "axis"))
def _search(queries, documents, first, total, *, k, chunk, mesh, axis):
    """Searches rows that are documents first, first + 1, ...; ids from total on are padding."""
    if mesh is None:
        return _scan(queries, documents, first, total, k=k, chunk=chunk)
    shards = _shards(mesh, axis)
    rows = -(-len(documents) // shards)
    documents = jnp.pad(documents, ((0, rows * shards - len(documents)), (0, 0)))

    def local(queries, documents, first, total):
        first = first + jax.lax.axis_index(axis) * rows
        found = _scan(queries, documents, first, total, k=min(k, rows), chunk=chunk)
        scores, ids = (jax.lax.all_gather(x, axis, axis=1, tiled=True) for x in found)
        return _best(scores, ids, k)

    whole = PartitionSpec()
    specs = (whole, PartitionSpec(axis), whole, whole)
    # The gathered result is equal on all devices, which the checker of varying values cannot see.
    search = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)
    return search(queries, documents, jnp.int32(first), jnp.int32(total))


def _scan(queries, documents, first, total, *, k, chunk):
    """Scores chunk after chunk on one device and keeps the best k so far.

    The first k come from the first chunk, and what is kept precedes what is new, so rows that score
    -inf because they are padding or already seen never take a place.
    """
    count = len(documents)
    chunk = max(k, min(chunk, count))
    queries = queries.astype(jnp.float32)

    def part(index):
        # The last chunk ends at the last row and passes over the rows that the one before has seen.
        start = jnp.minimum(index * chunk, count - chunk)
        rows = documents if chunk == count else jax.lax.dynamic_slice_in_dim(documents, start, chunk)
        local = start + jnp.arange(chunk, dtype=jnp.int32)[None]
        # With the documents first a single query reads every row once; the other order is 8x slower.
        scores = inner(rows.astype(jnp.float32), queries).T
        scores = jnp.where(scores == 0, 0, scores)  # -0 equals 0
        valid = (local >= index * chunk) & (first + local < total) & ~jnp.isnan(scores)
        return _best(jnp.where(valid, scores, -jnp.inf), jnp.broadcast_to(first + local, scores.shape), k)

    def step(best, index):
        return _merge(best, part(index), k=k), None

    chunks = jnp.arange(1, -(-count // chunk), dtype=jnp.int32)
    return jax.lax.scan(step, part(jnp.int32(0)), chunks)[0]


@functools.partial(jax.jit, static_argnames="k")
def _merge(kept, new, *, k):
    """Joins two results; every id of the first is lower than every id of the second."""
    scores, ids = (jnp.concatenate(pair, axis=1) for pair in zip(kept, new, strict=True))
    return _best(scores, ids, k)


def _best(scores, ids, k):
    """Keeps the k largest scores; among equal ones the first."""
    scores, places = jax.lax.top_k(scores, k)
    return scores, jnp.take_along_axis(ids, places, axis=1)


def _shards(mesh, axis):
    names = (axis,) if isinstance(axis, str) else tuple(axis)
    for name in names:
        if name not in mesh.shape:
            raise ValueError(
                f"axis: {name!r} is not an axis of the mesh; it has {', '.join(mesh.axis_names)}"
            )
    return int(np.prod([mesh.shape[name] for name in names]))
