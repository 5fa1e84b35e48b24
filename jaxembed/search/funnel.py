"""Search by prefixes: a scan of few coordinates, then longer prefixes of fewer documents."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape, host, unit
from jaxembed.checks import check_whole
from jaxembed.search.topk import top_k


def funnel(queries, documents, k, *, sizes, shortlists, normalise=True):
    """Funnel retrieval: searches by a short prefix and ranks what it finds by longer and longer ones.

    All documents are compared by their first ``sizes[0]`` coordinates. The best ``shortlists[0]`` are
    compared by ``sizes[1]``, and so on; the last size ranks the k that are returned. Two sizes are the
    adaptive retrieval of Matryoshka: a scan and one ranking.

    >>> documents = np.array([[1.0, 0.0, 0.0], [0.9, 0.1, 0.9], [0.8, 0.2, 0.1], [0.0, 1.0, 0.0]])
    >>> scores, ids = funnel(documents[1:2], documents, 1, sizes=(2, 3), shortlists=(3,))
    >>> print(ids, scores.round(3))
    [[1]] [[1.]]

    Args:
        queries: [B, D].
        documents: [N, D]. Memory-mapped ones are read where they are needed: the first prefix of all, longer
            prefixes of the shortlists alone.
        k: documents to return, at most the last shortlist.
        sizes: at least one prefix width, rising, none above D.
        shortlists: numbers of documents that are handed on, one fewer than ``sizes``, falling, at most N.
        normalise: True compares by the cosine of each prefix, False by its inner product.

    Returns:
        scores float32 [B, k] by the last size, in falling order, and ids int32 [B, k]. Among equal scores the
        lowest id comes first. A score that is NaN counts as -inf, as in ``search.top_k``.

    Raises:
        ValueError: for sizes or shortlists that are out of order or out of range, or widths that differ.

    References:
        A. Kusupati et al., Matryoshka Representation Learning, arXiv:2205.13147, adaptive and funnel
        retrieval; there vectors of each prefix are renormalised too.
    """
    queries = jnp.asarray(queries)
    documents = documents if isinstance(documents, jax.Array) else host("documents", documents)
    sizes, shortlists = tuple(sizes), tuple(shortlists)
    _check(queries, documents, k, sizes, shortlists)

    def prefix(x, size):
        return unit(jnp.asarray(x[..., :size])) if normalise else jnp.asarray(x[..., :size])

    keep = (*shortlists, k)
    scores, ids = top_k(prefix(queries, sizes[0]), prefix(documents, sizes[0]), keep[0])
    for size, most in zip(sizes[1:], keep[1:], strict=True):
        ids = jnp.sort(ids, axis=1)  # so that ties go to the lowest id
        rows = documents[ids if isinstance(documents, jax.Array) else np.asarray(ids), :size]
        scores, ids = _ranked(prefix(queries, size), prefix(rows, size), ids, most)
    return scores, ids


def _ranked(queries, rows, ids, k):
    """The k best of each query's own rows [B, W, d]."""
    wide = jnp.promote_types(queries.dtype, jnp.float32)
    scores = jnp.einsum("bd,bwd->bw", queries, rows, preferred_element_type=wide, precision="highest")
    scores, places = jax.lax.top_k(jnp.where(jnp.isnan(scores), -jnp.inf, scores), k)
    return scores, jnp.take_along_axis(ids, places, axis=1)


def _check(queries, documents, k, sizes, shortlists):
    numbers = [("sizes", n) for n in sizes] + [("shortlists", n) for n in shortlists] + [("k", k)]
    for name, number in numbers:
        check_whole(**{name: number})
    check_shape("queries", queries, (None, None))
    check_shape("documents", documents, (None, queries.shape[1]))
    if not sizes or list(sizes) != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= queries.shape[1]:
        raise ValueError(f"sizes: {sizes}; pass rising prefix widths in 1..{queries.shape[1]}")
    if len(shortlists) != len(sizes) - 1:
        raise ValueError(f"shortlists: {len(shortlists)} for {len(sizes)} sizes; pass one fewer than sizes")
    keep = (len(documents), *shortlists, k)
    if k < 1 or list(keep) != sorted(keep, reverse=True):
        given = f"{shortlists} with k={k} and {len(documents)} documents"
        raise ValueError(f"shortlists: {given}; numbers have to fall, down to k")
