"""Documents and queries as sets of token vectors, and what can be measured of them.

Sets are a dict: ``tokens`` [S, D], unit vectors of all documents one after the other; ``offsets`` int
[N + 1], document n has ``tokens[offsets[n] : offsets[n + 1]]``; ``queries`` [B, T, D]; ``mask`` bool [B, T].
"""

import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import ragged, search, vectors

BLOCK = 128  # texts that are encoded together


def count(sets):
    """The number of documents."""
    return len(sets["offsets"]) - 1


def first(sets, most):
    """The first documents, padded: tokens float32 [B, T, D] and mask."""
    few = min(most, count(sets))
    return ragged.set_batch(sets["tokens"], sets["offsets"], 0, few, dtype=np.float32)


def of_texts(folder, documents, queries, *, encoder, length=64, query_length=32):
    """Makes sets of texts. The tokens of documents are kept in an index on disk, which a stopped run resumes.

    Args:
        folder: where indexes are kept; the same texts and encoder find theirs again.
        documents: list of str.
        queries: list of str.
        encoder: of ``encoders.pretrained.load``.
        length: tokens at which documents are cut, special ones among them.
        query_length: tokens at which queries are cut.

    Returns:
        Sets; the tokens are float16 and memory-mapped.
    """

    def source(start):
        for place in range(start, len(documents), BLOCK):
            tokens, offsets = encoder.encode_sets(documents[place : place + BLOCK], length=length)
            yield from enumerate(np.split(tokens, offsets[1:-1]), place)

    meta = {"texts": hashlib.sha256(json.dumps(documents).encode()).hexdigest(), "length": length}
    meta["model"] = encoder.digest()
    name = hashlib.sha256(json.dumps(meta).encode()).hexdigest()[:12]
    folder = pathlib.Path(folder) / name
    index = search.build_documents(folder, source, _length, meta=meta, shard_size=4 * BLOCK)
    tokens, offsets = encoder.encode_sets(queries, length=query_length)
    asked, mask = ragged.set_batch(tokens, offsets, 0, len(queries))
    return {"tokens": index.tokens, "offsets": index.offsets, "queries": asked, "mask": mask}


def _length(params, tokens, mask):
    return {"length": mask.sum(axis=1)}


def exact(sets):
    """Chamfer scores of every query and document, float32 [B, N]."""
    queries, mask = jnp.asarray(sets["queries"]), jnp.asarray(sets["mask"])

    def score(documents, kept):
        return vectors.chamfer(queries, documents, mask, kept).T

    return ragged.map_sets(score, sets["tokens"], sets["offsets"]).T


def encode(sets, params, *, aggregate="mean", fill_empty=True):
    """Encodings of the queries, [B, F], and of the documents, [N, F]."""

    def encoded(documents, kept):
        return vectors.encode_set(params, documents, kept, aggregate=aggregate, fill_empty=fill_empty)

    documents = ragged.map_sets(encoded, sets["tokens"], sets["offsets"])
    return vectors.encode_queries(params, sets["queries"], sets["mask"]), jnp.asarray(documents)


def centred(sets, params, most=500):
    """Moves the planes of ``params`` through the mean token of the first documents."""
    return vectors.centre_fde(params, *first(sets, most))


def shape(sets, params, most=200):
    """How much the tokens of the first ``most`` documents point one way, and how planes spread them.

    The mean cosine of two tokens, the mean number of cells that a document's tokens fall into, and the mean
    share of all tokens that the fullest cell of a repetition holds.
    """
    tokens, mask = first(sets, most)
    flat = tokens[mask]
    level = np.einsum("rdk,d->rk", params["planes"], params.get("centre", np.zeros(flat.shape[1])))
    bits = jnp.einsum("btd,rdk->brtk", tokens, params["planes"], precision="highest") > level[None, :, None]
    cells = bits.shape[3]
    ids = np.asarray(jnp.sum(bits * 2 ** jnp.arange(cells)[None, None, None], axis=3))
    held = np.asarray(jax.nn.one_hot(ids, 2**cells, dtype=bool)) & mask[:, None, :, None]
    return {
        "mean cosine": float((np.sum(flat.sum(axis=0) ** 2) - len(flat)) / (len(flat) * (len(flat) - 1))),
        "cells of a document": float(held.any(axis=2).sum(axis=2).mean()),
        "tokens in fullest cell": float((held.sum(axis=(0, 2)).max(axis=1) / len(flat)).mean()),
    }


def bound(sets, *, planes=1000, delta=0.01, queries=8, documents=100, seed=0):
    """Checks that one repetition with many planes stays between Chamfer and Chamfer minus a bound.

    With ``t = sqrt(log(2 |Q| |P| / delta) / (2 k))`` the estimate per query token is, with probability
    1 - delta, within ``max(2 pi t, (pi t)**2 / 2)`` below the exact value and never above it. ``planes`` is
    k; the first queries and documents are compared. Returns the smallest and largest gap, the smallest bound,
    and the number of pairs outside of it.
    """
    q, q_mask = jnp.asarray(sets["queries"][:queries]), jnp.asarray(sets["mask"][:queries])
    d, d_mask = first(sets, documents)
    cut = jax.random.normal(jax.random.key(seed), (1, q.shape[2], planes))
    asked = np.asarray(q_mask.sum(axis=1))[:, None]
    gap = vectors.chamfer(q, d, q_mask, d_mask) - vectors.implicit_fde_score(cut, q, d, q_mask, d_mask)
    gap = np.asarray(gap) / asked
    t = np.sqrt(np.log(2 * asked * d_mask.sum(axis=1) / delta) / (2 * planes))
    limit = np.maximum(2 * np.pi * t, (np.pi * t) ** 2 / 2)
    outside = int(((gap > limit) | (gap < -1e-5)).sum())
    found = {"least gap": gap.min(), "largest gap": gap.max(), "bound": limit.min()}
    return {"pairs": gap.size, "outside": outside} | {name: float(x) for name, x in found.items()}
