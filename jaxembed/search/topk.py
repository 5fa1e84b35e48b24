"""The best documents of each query, exactly; and several rankings merged into one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxembed.arrays import check_shape, host, inner, narrow_ids, on_device
from jaxembed.checks import check_integers

_WHOLE_ELEMENTS = 2**25  # floats of scores up to which documents on the device are not cut


def top_k(queries, documents, k, *, without=None, mesh=None, axis="data", chunk=None):
    """Exact nearest neighbours: the k documents with the largest inner product for each query.

    ``scores[b]`` are the k largest of ``<queries[b], documents[n]>`` over n, in falling order. Among equal
    scores the lowest n comes first, wherever chunks and devices are cut. Every document is compared, in
    float32.

    >>> documents = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> scores, ids = top_k(jnp.array([[1.0, 2.0]]), documents, 2)
    >>> print(scores, ids)
    [[2. 2.]] [[1 2]]

    Args:
        queries: [B, D]. Nothing is normalised.
        documents: [N, D], row n is document n. A JAX array stays where it is. A NumPy array, also a
            memory-mapped one, is sent to the device chunk by chunk and never loaded whole.
        k: how many documents are returned, at most N.
        without: optional int [B, S], documents that a query must not find, such as what a user has seen;
            a negative number is padding. Where fewer than k are left, the last scores are -inf.
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
        ValueError: when k is below 1 or above N, the widths differ, or ``without`` does not fit.
    """
    queries = on_device("queries", queries)
    documents = documents if hasattr(documents, "shape") else host("documents", documents)
    if queries.ndim != 2 or len(documents.shape) != 2:
        raise ValueError(
            f"queries, documents: shapes {queries.shape} and {documents.shape}; pass [B, D] and [N, D]"
        )
    count, width = documents.shape
    if queries.shape[1] != width:
        raise ValueError(
            f"documents: width {width}, but queries have {queries.shape[1]}; use one encoder for both"
        )
    if not 1 <= k <= count:
        raise ValueError(f"k: {k} is outside 1..{count}, the number of documents; pass a k in that range")
    # A chunk is copied before it is read, which for few queries takes longer than the products.
    whole = isinstance(documents, jax.Array) and count * len(queries) <= _WHOLE_ELEMENTS
    chunk = count if chunk is None and whole else chunk
    options = {"mesh": mesh, "axis": axis, "chunk": chunk}
    if without is None:
        return scan_top_k(_products, queries, documents, k, **options)
    without = on_device("without", without)
    check_shape("without", without, (len(queries), None))
    if not jnp.issubdtype(without.dtype, jnp.integer):
        raise ValueError(f"without: {without.dtype}; pass integers, numbers of documents")
    return scan_top_k(_others, (queries, without), documents, k, numbered=True, **options)


def _products(queries, documents):
    # With the documents first a single query reads every row once; the other order is 8x slower.
    return inner(documents.astype(jnp.float32), queries.astype(jnp.float32)).T


def _others(queries, documents, first):
    queries, without = queries
    scores = _products(queries, documents)
    places = without - first
    places = jnp.where((without < 0) | (places < 0), len(documents), places)  # a negative place would wrap
    return scores.at[jnp.arange(len(queries))[:, None], places].set(-jnp.inf, mode="drop")


def reciprocal_rank_fusion(rankings, size, *, k=60):
    """Reciprocal rank fusion: merges several rankings into one by the ranks alone.

    ``score(document) = sum over rankings of 1 / (k + rank)``, with rank 1 for the first place and
    nothing from a ranking in which the document is missing.

    >>> scores, ids = reciprocal_rank_fusion([jnp.array([[7, 3, 5]]), jnp.array([[3, 9, -1]])], 3)
    >>> print(ids, scores.round(4))
    [[3 7 9]] [[0.0325 0.0164 0.0161]]

    Args:
        rankings: sequence of int [B, K] arrays, best document first. K may differ between rankings. A
            negative id is padding; an id that comes twice in one ranking counts at its better rank. Ids
            of up to 63 bits are kept apart (under jit they are those that JAX holds).
        size: how many documents are returned for each query.
        k: the constant that damps the first places.

    Returns:
        ``scores`` float32 [B, size] in falling order and ``ids`` int32 [B, size], or a NumPy array of int64
        where an id needs it. Among equal scores the lowest id comes first. Places that no document takes hold
        id -1 and score 0.

    Raises:
        ValueError: for no rankings, one that is not [B, K], or a size below 1. Also for ids that are not
            integers or need 64 bits without a sign.

    References:
        G. V. Cormack, C. L. A. Clarke and S. Buettcher, SIGIR 2009, doi:10.1145/1571941.1572114.
    """
    if not len(rankings):
        raise ValueError("rankings: empty; pass at least one [B, K] array of ids")
    if size < 1:
        raise ValueError(f"size: {size} is below 1; pass the number of documents to return")
    rankings, known = narrow_ids(**{f"rankings[{i}]": ids for i, ids in enumerate(rankings)})
    for i, ids in enumerate(rankings):
        if ids.ndim != 2 or len(ids) != len(rankings[0]):
            raise ValueError(f"rankings[{i}]: shape {ids.shape}; pass a sequence of arrays [B, K] of one B")
    if known is not None and known.size and known[-1] >= 2**63:
        raise ValueError(f"rankings: id {known[-1]} needs 64 bits without a sign; number the ids from 0")
    scores, ids = _fuse(rankings, k, size=size)
    if known is None:
        return scores, ids
    ids = np.asarray(ids)
    return scores, np.where(ids < 0, -1, known.astype(np.int64)[ids])


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
    # An id is now in one run, its shares in falling order and at most one share per ranking.
    total = jnp.zeros_like(loss)
    for shift in range(min(len(rankings), ids.shape[1])):
        same = jnp.pad(ids[:, shift:] == ids[:, : ids.shape[1] - shift], ((0, 0), (0, shift)))
        total = total + jnp.where(same, jnp.pad(loss[:, shift:], ((0, 0), (0, shift))), 0)
    keep = ~_equals_previous(ids) & (ids >= 0)
    last = jnp.iinfo(ids.dtype).max
    total, ids = jax.lax.sort((jnp.where(keep, total, 1), jnp.where(keep, ids, last)), num_keys=2)
    taken = total < 1
    missing = ((0, 0), (0, max(0, size - ids.shape[1])))
    scores = jnp.pad(jnp.where(taken, -total, 0), missing)[:, :size]
    return scores, jnp.pad(jnp.where(taken, ids, -1), missing, constant_values=-1)[:, :size]


def _equals_previous(x):
    return jnp.pad(x[:, 1:] == x[:, :-1], ((0, 0), (1, 0)))


_CHUNK_ELEMENTS = 2**24  # numbers in one chunk of rows or of scores


def scan_top_k(score, queries, rows, k, *, numbered=False, mesh=None, axis="data", chunk=None):
    """Exact scan: the k rows with the largest score for each query, whatever the score.

    ``scores[b]`` are the k largest of ``score(queries, rows)[b]``, in falling order; among equal scores
    the lowest row comes first, wherever chunks and devices are cut. ``top_k`` is the case of the inner
    product. With the lookup tables of a product quantiser as queries and codes as rows it searches
    codes: ``scan_top_k(vectors.product_scores, vectors.product_tables(params, queries), codes, k)``.

    >>> def agreement(queries, codes):
    ...     return jnp.sum(queries[:, None] == codes[None], axis=2)
    >>> codes = np.array([[1, 2, 3], [3, 2, 1], [1, 2, 1]], np.uint8)
    >>> scores, ids = scan_top_k(agreement, jnp.array([[3, 2, 1]]), codes, 2)
    >>> print(scores, ids)
    [[3. 2.]] [[1 2]]

    Args:
        score: function from (queries, rows [n, ...]) to scores [B, n], traced once per chunk size. It
            is compiled once per function object, so define it once.
        queries: any pytree of arrays whose first axis is B.
        rows: [N, ...]. A JAX array stays where it is. Anything else with a shape and slices, as a
            memory-mapped array or a column of ``open_documents``, is sent to the device chunk by chunk.
        k: how many rows are returned, at most N.
        numbered: True calls ``score(queries, rows, first)``, with the number of the first of these rows.
        mesh: optional mesh. Each device along ``axis`` scores its own rows, and only [B, k] scores travel.
        axis: the name, or a tuple of names, of the mesh axis that divides the rows.
        chunk: how many rows (of one device, or of one transfer from the host) are scored at a time;
            raised to k where it is smaller. None takes 2**24 numbers of rows or of scores.

    Returns:
        ``scores`` float32 [B, k] and ``ids`` int32 [B, k]. A score that is NaN counts as -inf.

    Raises:
        ValueError: when k is below 1 or above N, or ``score`` returns another shape. Also when N or an
            integer of the host needs more than 32 bits.
    """
    if any(not hasattr(leaf, "shape") for leaf in jax.tree.leaves(queries)):
        raise ValueError("queries: hold numbers in lists; pass arrays whose first axis is B")
    queries = jax.tree.map(lambda leaf: on_device("queries", leaf), queries)
    rows = rows if hasattr(rows, "shape") else host("rows", rows)
    count = rows.shape[0]
    if count > np.iinfo(np.int32).max:
        raise ValueError(f"rows: {count} are more than int32 numbers; search parts and merge the results")
    if not isinstance(k, int | np.integer) or not 1 <= k <= count:
        raise ValueError(f"k: {k} is outside 1..{count}, the number of rows; pass a k in that range")
    size = jax.tree.leaves(queries)[0].shape[0]
    if chunk is None:
        chunk = _CHUNK_ELEMENTS // max(1, int(np.prod(rows.shape[1:])), size)
    score = score if numbered else _unnumbered(score)
    return scan(score, queries, rows, k, size=size, chunk=max(chunk, k), mesh=mesh, axis=axis)


def scan(score, queries, rows, k, *, size, chunk, mesh=None, axis="data", pick=None):
    """The scan of :func:`scan_top_k` after its checks; ``pick`` may find the best rows of a chunk itself.

    Args:
        score, queries, rows, k, chunk, mesh, axis: as for ``scan_top_k``.
        size: B.
        pick: optional function (queries, rows [n, ...], first, last, k) to (scores [B, k], places [B, k]):
            the k best of rows first to last - 1, k of them at least; -inf where there are fewer. It stands
            in for ``score``.
    """
    options = {"k": k, "size": size, "mesh": mesh, "axis": axis, "pick": pick}
    if isinstance(rows, jax.Array):
        return _search(score, queries, rows, 0, rows.shape[0], chunk=chunk, **options)
    return _stream(score, queries, rows, chunk=min(chunk, rows.shape[0]), **options)


@functools.lru_cache(maxsize=64)
def _unnumbered(score):
    return lambda queries, rows, first: score(queries, rows)


def _stream(score, queries, rows, *, chunk, mesh, axis, **options):
    """Scores rows of the host, one chunk on the device while the next is read."""
    place = jax.device_put
    if mesh is not None:
        chunk += -chunk % _shards(mesh, axis)
        place = functools.partial(jax.device_put, device=NamedSharding(mesh, PartitionSpec(axis)))
    best = None
    for start in range(0, rows.shape[0], chunk):
        part = np.asarray(rows[start : start + chunk])
        check_integers("rows", part)
        if len(part) < chunk:
            part = np.concatenate([part, np.zeros((chunk - len(part), *part.shape[1:]), part.dtype)])
        static = {"chunk": chunk, "mesh": mesh, "axis": axis} | options
        found = _search(score, queries, place(part), start, rows.shape[0], **static)
        if best is not None:
            jax.block_until_ready(best)  # at most two chunks are in flight
        best = found if best is None else _merge(best, found, k=options["k"])
    return best


@functools.partial(jax.jit, static_argnames=("score", "k", "size", "chunk", "mesh", "axis", "pick"))
def _search(score, queries, rows, first, total, *, k, size, chunk, mesh, axis, pick):
    """Scores rows that are numbers first, first + 1, ...; numbers from total on are padding."""
    scanned = functools.partial(_scan, score, size=size, chunk=chunk, pick=pick)
    if mesh is None:
        return scanned(queries, rows, first, total, k=k)
    shards = _shards(mesh, axis)
    share = -(-len(rows) // shards)
    rows = jnp.pad(rows, ((0, share * shards - len(rows)),) + ((0, 0),) * (rows.ndim - 1))

    def local(queries, rows, first, total):
        first = first + jax.lax.axis_index(axis) * share
        found = scanned(queries, rows, first, total, k=min(k, share))
        scores, ids = (jax.lax.all_gather(x, axis, axis=1, tiled=True) for x in found)
        return _best(scores, ids, k)

    whole = PartitionSpec()
    specs = (whole, PartitionSpec(axis), whole, whole)
    # The gathered result is equal on all devices, which the checker of varying values cannot see.
    search = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)
    return search(queries, rows, jnp.int32(first), jnp.int32(total))


def _scan(score, queries, rows, first, total, *, k, size, chunk, pick):
    """Scores chunk after chunk on one device and keeps the best k so far.

    The first k come from the first chunk, and what is kept precedes what is new, so rows that score
    -inf because they are padding or already seen never take a place.
    """
    count = len(rows)
    chunk = max(k, min(chunk, count))

    def part(index):
        # The last chunk ends at the last row and passes over the rows that the one before has seen.
        start = jnp.minimum(index * chunk, count - chunk)
        # A slice is a copy, which a score of few queries would notice.
        those = rows if chunk == count else jax.lax.dynamic_slice_in_dim(rows, start, chunk)
        if pick is not None:
            scores, places = pick(queries, those, index * chunk - start, total - first - start, k)
            return scores, first + start + places
        scores = score(queries, those, first + start)
        if scores.shape != (size, chunk):
            raise ValueError(
                f"score: returned {scores.shape} for {size} queries and {chunk} rows; return [B, n]"
            )
        local = start + jnp.arange(chunk, dtype=jnp.int32)[None]
        scores = scores.astype(jnp.float32)
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
