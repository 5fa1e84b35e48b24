"""Ways to search, as functions ``slice of queries -> ids int [b, K]``, and one row of numbers for each."""

import functools
import logging
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.shared import plots, results
from jaxembed import metrics, search, vectors
from jaxembed.arrays import unit

METRICS = {"nDCG@10": metrics.ndcg, "Recall@10": metrics.recall, "MRR@10": metrics.mrr}
AXES = ("data", "model")  # of train.make_mesh; documents are split over both


def measure(method, find, count, judgments, *, size, block=100):
    """The row of a way to search: quality of every set of queries, bytes per document, queries per second.

    ``judgments`` are those of ``data.first_sentences``. The first call of each size is not timed.
    """
    blocks = [slice(start, min(start + block, count)) for start in range(0, count, block)]
    for warm in {b.stop - b.start: b for b in blocks}.values():
        np.asarray(find(warm))
    began = time.perf_counter()
    ids = np.concatenate([np.asarray(find(b))[:, :10] for b in blocks])
    row = {"method": method, "bytes": size, "queries/s": round(count / (time.perf_counter() - began))}
    for name, (queries, judged) in judgments.items():
        grades = (judged >= 0).astype(np.float32)
        gains = metrics.gains(ids[queries], judged, grades)
        for label, metric in METRICS.items():
            value = metrics.masked_mean(metric(gains, grades, k=10), metrics.has_relevant(grades))
            row[f"{label} {name}"] = round(float(value), 4)
    return row


def bm25(queries, documents, *, k=100):
    """Searches lists of words; returns the search and its bytes per document (an id and a score per word)."""
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
    """Searches all documents [N, S, d] by their exact Chamfer scores; every device scores its own."""

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
    """Searches token sets by fixed dimensional encodings, kept in a file; returns the bytes of each too."""
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


def ratio(one, other):
    """Recall@10 of a way to search as a share of another one's: of one seed, so without a verdict."""

    def answer(t):
        quality = next(c for c in t["searches"][0] if c.startswith("Recall"))
        found = {row["method"]: row[quality] for row in t["searches"]}
        return results.Answer(found[one] / found[other], None, None) if {one, other} <= set(found) else None

    return answer


def draw(axes, rows):
    """Draws the first recall of rows of :func:`measure` against their bytes; prefixes of an arm as a line."""
    quality = next(c for c in rows[0] if c.startswith("Recall"))
    found = [re.fullmatch(r"(.*?)(?:, )?prefix (\d+)", row["method"]) for row in rows]
    for arm in dict.fromkeys(match[1] for match in found if match):
        line = [row for row, match in zip(rows, found, strict=True) if match and match[1] == arm]
        label = f"{arm}, prefixes" if arm else "matryoshka prefixes"
        axes.plot([r["bytes"] for r in line], [r[quality] for r in line], "o-", label=label)
    others = [row for row, match in zip(rows, found, strict=True) if not match]
    for marker, row in zip("sDv^<>PX*hdp", others, strict=False):
        axes.plot(row["bytes"], row[quality], marker, label=row["method"], markersize=8)
    title = "Quality against size of the index"
    axes.set(xscale="log", xlabel="bytes per document", ylabel=quality, title=title)
    axes.grid(alpha=0.3)
    plots.legend(axes)
