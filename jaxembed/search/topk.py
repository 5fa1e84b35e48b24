"""The best documents of each query, exactly; and several rankings merged into one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import host, inner, narrow_ids, on_device
from jaxembed.search.scan import scan_top_k

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
    queries = on_device("queries", queries)
    documents = documents if hasattr(documents, "shape") else host("documents", documents)
    if queries.ndim != 2 or len(documents.shape) != 2:
        raise ValueError(
            f"queries, documents: shapes {queries.shape} and {documents.shape}; pass [B, D] and [N, D]"
        )
    count, width = documents.shape
    if queries.shape[1] != width:
        raise ValueError(f"documents: width {width}, but queries have {queries.shape[1]}; encode both alike")
    if not 1 <= k <= count:
        raise ValueError(f"k: {k} is outside 1..{count}, the number of documents; pass a k in that range")
    # A chunk is copied before it is read, which for few queries takes longer than the products.
    whole = isinstance(documents, jax.Array) and count * len(queries) <= _WHOLE_ELEMENTS
    chunk = count if chunk is None and whole else chunk
    return scan_top_k(_products, queries, documents, k, mesh=mesh, axis=axis, chunk=chunk)


def _products(queries, documents):
    # With the documents first a single query reads every row once; the other order is 8x slower.
    return inner(documents.astype(jnp.float32), queries.astype(jnp.float32)).T


def reciprocal_rank_fusion(rankings, size, *, k=60):
    """Merges several rankings into one by the ranks alone.

    ``score(document) = sum over rankings of 1 / (k + rank)``, with rank 1 for the first place and
    nothing from a ranking in which the document does not stand.

    >>> scores, ids = reciprocal_rank_fusion([jnp.array([[7, 3, 5]]), jnp.array([[3, 9, -1]])], 3)
    >>> print(ids, scores.round(4))
    [[3 7 9]] [[0.0325 0.0164 0.0161]]

    Args:
        rankings: sequence of int [B, K] arrays, best document first. K may differ between rankings. A
            negative id is padding; an id that stands twice in one ranking counts at its better rank. Ids
            of up to 63 bits are kept apart (under jit they are those that JAX holds).
        size: how many documents are returned for each query.
        k: the constant that damps the first places.

    Returns:
        ``scores`` float32 [B, size] in falling order and ``ids`` int32 [B, size], or a NumPy array of
        int64 where an id needs it; among equal scores the lowest id comes first. Places that no document
        takes hold id -1 and score 0.

    Raises:
        ValueError: when there is no ranking, one is not [B, K], ids are not integers or need 64 bits without
            a sign, or size is below 1.

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
    # An id now stands in one run, its shares in falling order and at most one share per ranking.
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
