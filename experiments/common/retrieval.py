"""Ways to search, as functions ``slice of queries -> ids int [b, K]``, and one row of numbers for each."""

import functools
import logging
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxembed import metrics, ragged, search, vectors
from jaxembed.arrays import unit

AXES = ("data", "model")  # of train.make_mesh; documents are split over both


def measure(method, find, count, judgments, *, size, block=100):
    """Measures one way to search: quality of every set of queries, bytes per document, queries per second.

    Args:
        method: its name.
        find: ``slice of queries -> int [b, K]``, ids in falling order of score.
        count: number of queries.
        judgments: {name of a set: (its queries as a slice, judged ids int [b, J] padded with -1)}.
        size: bytes that the method stores per document.
        block: queries per call; the first call warms up and is not timed.

    Returns:
        Dict of the row; the metrics are means over the queries of a set.
    """
    blocks = [slice(start, min(start + block, count)) for start in range(0, count, block)]
    for warm in {
        blocks[0].stop - blocks[0].start: blocks[0],
        blocks[-1].stop - blocks[-1].start: blocks[-1],
    }.values():
        np.asarray(find(warm))
    began = time.perf_counter()
    ids = np.concatenate([np.asarray(find(b))[:, :10] for b in blocks])
    row = {"method": method, "bytes": size, "queries/s": round(count / (time.perf_counter() - began))}
    for name, (queries, judged) in judgments.items():
        grades = (judged >= 0).astype(np.float32)
        gains = metrics.gains(ids[queries], judged, grades)
        for label, metric in (
            ("nDCG@10", metrics.ndcg),
            ("Recall@10", metrics.recall),
            ("MRR@10", metrics.mrr),
        ):
            value = metrics.masked_mean(metric(gains, grades, k=10), metrics.has_relevant(grades))
            row[f"{label} {name}"] = round(float(value), 4)
    return row


def bm25(queries, documents, *, k=100):
    """Searches by words; returns the search and its bytes per document (an id and a score per word).

    Args:
        queries: list of lists of str.
        documents: list of lists of str.
        k: how many documents are found.
    """
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)

    index = bm25s.BM25()
    index.index(documents, show_progress=False)
    k = min(k, len(documents))

    def find(block):
        return index.retrieve(queries[block], k=k, show_progress=False)[0]

    return find, round(8 * sum(len(set(d)) for d in documents) / len(documents))


def cosine(queries, documents, size, *, mesh=None, k=100):
    """Searches by the cosine of prefixes: queries [B, D], documents [N, D], over all devices of a mesh."""
    queries, documents = (unit(jnp.asarray(x[:, :size], jnp.float32)) for x in (queries, documents))
    find = functools.partial(search.top_k, k=min(k, len(documents)), mesh=mesh, axis=AXES)
    return lambda block: find(queries[block], documents)[1]


def fused(first, second, *, size=10, k=10):
    """Merges two searches by reciprocal ranks."""
    return lambda block: search.reciprocal_rank_fusion([first(block), second(block)], size, k=k)[1]


def weighed(tokens, weights):
    """Scales query tokens so that the Chamfer score is a weighted mean of cosines: [B, T, d], [B, T]."""
    return tokens * (weights / jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1e-9))[..., None]


def real(tokens):
    """Marks the tokens that are not padding, which is zeros: [B, T, d] -> bool [B, T]."""
    return jnp.any(tokens != 0, axis=-1)


def chamfer(queries, documents, *, mesh, k=10):
    """Searches all documents by the exact Chamfer score of token vectors [B, T, d] and [N, S, d].

    Every device of the mesh scores its own documents.
    """

    def score(queries, documents):
        return vectors.chamfer(queries, documents, real(queries), real(documents))

    count, split = len(documents), P(AXES)
    documents = jnp.pad(documents, ((0, -count % mesh.size), (0, 0), (0, 0)))
    documents = jax.device_put(documents, NamedSharding(mesh, split))
    specs = {"in_specs": (P(), split), "out_specs": P(None, AXES)}
    scores = jax.jit(jax.shard_map(score, mesh=mesh, check_vma=False, **specs))
    return lambda block: jax.lax.top_k(scores(queries[block], documents)[:, :count], min(k, count))[1]


def reranked(first, queries, documents):
    """Sorts what another search found by the exact Chamfer score."""

    @jax.jit
    def order(query, pages):
        scores = jax.vmap(lambda q, d: vectors.chamfer(q[None], d, real(q)[None], real(d))[0])(query, pages)
        return jnp.argsort(-scores, axis=1, stable=True)

    def find(block):
        ids = first(block)
        return jnp.take_along_axis(ids, order(queries[block], documents[ids]), axis=1)

    return find


def fde(params, queries, documents, path, *, mesh, k=100):
    """Searches by fixed dimensional encodings; returns the search and its bytes per document.

    Args:
        params: from ``vectors.init_fde``.
        queries: token vectors [B, T, d], zeros where padded.
        documents: token vectors [N, S, d]; may be memory-mapped.
        path: file for the encodings of the documents, float16.
        mesh: all its devices encode and search.
        k: how many documents are found.
    """
    encode = jax.jit(lambda x: vectors.encode_documents(params, x, real(x)))
    rows = NamedSharding(mesh, P(AXES))
    index = search.embed(
        lambda x: encode(jax.device_put(np.asarray(x, np.float32), rows)),
        documents,
        path=path,
        batch_size=32 * mesh.size * -(-8 // mesh.size),
        dtype=np.float16,
    )
    encoded = vectors.encode_queries(params, queries, real(queries))
    find = functools.partial(search.top_k, documents=index, k=min(k, len(index)), mesh=mesh, axis=AXES)
    return lambda block: find(encoded[block])[1], 2 * index.shape[1]


def first_sentences(records, kinds, most, seed):
    """Chooses first sentences as queries; all functions that share a first sentence are relevant to it.

    Args:
        records: from ``data.docstrings``.
        kinds: {name: record -> bool}, which records give the queries of a kind.
        most: number of queries of each kind, at most.
        seed: of the choice.

    Returns:
        (sentences, {kind: (slice of the sentences, relevant records int [b, J] padded with -1)}); a kind
        without records is left out.
    """
    groups, rng = {}, np.random.default_rng(seed)
    for i, r in enumerate(records):
        groups.setdefault(r["query"], []).append(i)
    chosen, judgments = [], {}
    for name, belongs in kinds.items():
        some = sorted({r["query"] for r in records if belongs(r)})
        some = [some[i] for i in rng.permutation(len(some))[:most]]
        if some:
            where = slice(len(chosen), len(chosen) + len(some))
            judgments[name] = (where, ragged.pad([groups[q] for q in some], value=-1)[0])
            chosen += some
    return chosen, judgments
