"""Search in two grains: product codes in memory find candidates, vectors on disk order them."""

import numpy as np

from jaxembed import search, vectors


def bigranular_search(
    params, product_codes, documents, queries, k, *, dense_queries=None, candidates=1000, mix=0.3
):
    """Bi-granular search: the best candidates of the product codes, ordered by the vectors themselves.

    ``score = <dense query, document> + mix * <query, decoded code>``, over the ``candidates`` documents whose
    codes score highest with the query, which is not quantised. Only the codes are read for all documents; of
    the vectors only those of candidates.

    >>> import jax
    >>> documents = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    >>> documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    >>> params = vectors.fit_product(jax.random.key(0), documents, group=4, centres=8)
    >>> codes = vectors.encode_product(params, documents)
    >>> scores, ids = bigranular_search(params, codes, documents, documents[:3], 1, candidates=50, mix=0.0)
    >>> print(ids[:, 0])
    [0 1 2]

    Args:
        params: of ``vectors.fit_product``, the code book that made the codes.
        product_codes: integers [N, M] of ``vectors.encode_product``.
        documents: [N, D'], the vectors; a memory-mapped array stays on the disk.
        queries: [B, D] in the space that was quantised.
        k: documents that are returned, at most ``candidates``.
        dense_queries: [B, D'] in the space of ``documents``, where that is another one: the vectors of a
            second encoder that was trained on such candidates. Default ``queries``.
        candidates: how many documents the codes choose, cut to N. With N and mix 0 the search is exact.
        mix: weight of the score of the codes. 0 orders by the vectors alone.

    Returns:
        ``scores`` float32 [B, k], falling, and ``ids`` int32 [B, k].

    Raises:
        ValueError: for codes of another number of documents or parts than there are, which are those of
            another code book; k out of range; queries or widths that do not fit; NaN in the queries.

    References:
        S. Xiao et al. (BiDR), arXiv:2201.05409, with 1,000 candidates and mix 0.3.
    """
    queries = np.asarray(queries, np.float32)
    dense = queries if dense_queries is None else np.asarray(dense_queries, np.float32)
    count = min(candidates, len(product_codes))
    _check(params, product_codes, documents, queries, dense, k, count)
    tables = vectors.product_tables(params, queries)
    coarse, places = search.scan_top_k(vectors.product_scores, tables, product_codes, count)
    coarse, places = np.asarray(coarse), np.asarray(places)
    fine, ids = search.rerank_vectors(dense, places, documents)
    if mix:
        fine = fine + mix * _aligned(coarse, places, ids)
        order = np.argsort(-fine, axis=1, kind="stable")
        fine, ids = (np.take_along_axis(x, order, axis=1) for x in (fine, ids))
    return fine[:, :k], ids[:, :k]


def _aligned(values, places, wanted):
    """Values [B, K] that belong to ``places``, in the order of ``wanted``, a permutation of each row."""
    ranks = np.argsort(np.argsort(wanted, axis=1), axis=1)
    by_place = np.take_along_axis(values, np.argsort(places, axis=1), axis=1)
    return np.take_along_axis(by_place, ranks, axis=1)


def _check(params, codes, documents, queries, dense, k, count):
    parts, centres, _ = np.shape(params["codebooks"])
    if len(np.shape(codes)) != 2 or np.shape(codes)[1] != parts:
        raise ValueError(
            f"product_codes: {np.shape(codes)}, but the code book has {parts} parts; pass its own codes"
        )
    if len(codes) != len(documents):
        raise ValueError(
            f"product_codes: {len(codes)} rows for {len(documents)} documents; pass one for each"
        )
    if centres < 256 and int(np.max(codes, initial=0)) >= centres:
        raise ValueError(
            f"product_codes: number {int(np.max(codes))} of {centres} centres; pass the code book's own"
        )
    if not 1 <= k <= count:
        raise ValueError(f"k: {k} is outside 1..{count}, the number of candidates")
    if len(dense) != len(queries):
        raise ValueError(f"dense_queries: {len(dense)} rows for {len(queries)} queries; pass one for each")
    for name, x in (("queries", queries), ("dense_queries", dense)):
        if not np.isfinite(x).all():
            raise ValueError(
                f"{name}: row {int(np.argmin(np.isfinite(x).all(axis=1)))} is not finite; embed it again"
            )
