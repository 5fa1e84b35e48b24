"""Texts in, hits out: exact dense search, alone or fused with BM25."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import data
from jaxembed import search as ranks
from jaxembed.arrays import unit
from jaxembed.recipes.cutoffs import cutoff_logits


def embed_texts(encoder, texts, *, path=None, batch_size=64, dtype=np.float32, verify=False, progress=True):
    """Embeds texts, one vector each, into memory or into one file that a stopped run goes on with.

    ``vectors = recipes.embed_texts(encoder, texts, path="vectors.npy", dtype=np.float16)``

    Args:
        encoder: of ``encoders.pretrained.load``.
        texts: N texts.
        path: optional .npy file; the result is memory-mapped then. A file of other texts or of another
            encoder is refused.
        batch_size: texts per call of the encoder.
        dtype: of the result; float16 halves the file and costs ranks nothing noticeable.
        verify: True reads a finished file and compares its checksum.
        progress: show a bar when a person watches.

    Returns:
        [N, D], rows in the order of the texts.
    """
    texts = list(texts)
    if path is None:
        return encoder.encode_texts(texts, batch_size=batch_size, progress=progress).astype(dtype)

    def encode(some):
        return encoder.encode_texts(list(some), batch_size=batch_size)

    meta = {"encoder": encoder.digest(), "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest()}
    options = {"batch_size": 16 * batch_size, "dtype": dtype, "meta": meta}
    options |= {"verify": verify, "progress": progress}
    return ranks.embed(encode, texts, path=path, **options)


def search(encoder, texts, queries, *, vectors=None, k=10, fused=False, candidates=100, cutoff=None):
    """Finds the texts that are nearest to each query, with their scores.

    ``recipes.search(encoder, texts, ["pad a sequence"], k=3)`` gives, for each query, k hits such as
    ``{"row": 7, "score": 0.61, "text": "..."}``.

    Args:
        encoder: of ``encoders.pretrained.load``. Queries get its prompt "query", where it has one.
        texts: N texts.
        queries: B texts.
        vectors: optional [N, D] of :func:`embed_texts`, so that texts are not embedded at every call.
        k: hits per query, at most N.
        fused: True merges the ranks with those of BM25, which finds rare words; needs the package bm25s. The
            score is that of reciprocal rank fusion then, else the cosine.
        candidates: how deep the two lists are that are merged.
        cutoff: optional result of :func:`fit_cutoff`: hits whose calibrated cosine is below its threshold are
            left out, and each hit has "relevance", the probability that it is relevant.

    Returns:
        A list of B lists of k hits, best first; with ``cutoff`` of at most k, and of none where nothing is
        relevant.

    Raises:
        ValueError: for one query in place of a list, k outside 1..N, vectors of another number of rows or
            with NaN, or a cut-off for queries of another width.
    """
    texts = list(texts)
    if isinstance(queries, str):
        raise ValueError("queries: is one text; pass a list of texts")
    vectors = embed_texts(encoder, texts) if vectors is None else vectors
    if len(vectors) != len(texts):
        raise ValueError(f"vectors: {len(vectors)} rows for {len(texts)} texts; pass those of these texts")
    if not 1 <= k <= len(texts):
        raise ValueError(f"k: {k} is outside 1..{len(texts)}, the number of texts")
    prompt = "query" if "query" in encoder.prompts else None
    asked = unit(encoder.encode_texts(list(queries), prompt_name=prompt))
    vectors = _lengths_one(vectors)
    deep = min(max(k, candidates), len(texts)) if fused else k
    scores, rows = ranks.top_k(asked, vectors, deep)
    if fused:
        words = word_ranks(texts, queries, deep)
        scores, rows = ranks.reciprocal_rank_fusion([np.asarray(rows), words], k)
    found = [
        [{"row": int(r), "score": float(s), "text": texts[int(r)]} for s, r in zip(*one, strict=True)]
        for one in zip(np.asarray(scores), np.asarray(rows), strict=True)
    ]
    if cutoff is None:
        return found
    logits = _calibrated(cutoff, np.asarray(asked), np.asarray(vectors), np.asarray(rows))
    probable = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return [
        [hit | {"relevance": float(p)} for hit, p, ok in zip(*one, strict=True) if ok]
        for one in zip(found, probable, logits >= cutoff["threshold"], strict=True)
    ]


def _lengths_one(vectors):
    """Unit vectors; NaN and infinities are seen in passing, by the one sum that each row then has."""
    vectors, sums = _unit_and_sums(jnp.asarray(vectors, jnp.float32))
    wrong = ~np.isfinite(np.asarray(sums))
    if wrong.any():
        raise ValueError(f"vectors: row {int(np.argmax(wrong))} is not finite; embed its text again")
    return vectors


@jax.jit
def _unit_and_sums(vectors):
    vectors = unit(vectors)
    return vectors, jnp.sum(vectors, axis=1)


def _calibrated(cutoff, asked, vectors, rows):
    """Logits of relevance [B, k] of the cosines of the hits, also where they were ranked by other scores."""
    known = len(cutoff["params"]["layer_0"]["kernel"])
    if asked.shape[1] != known:
        raise ValueError(f"cutoff: is for queries of width {known}, not {asked.shape[1]}; fit it anew")
    return cutoff_logits(cutoff, asked, np.einsum("bd,bkd->bk", asked, vectors[rows]))


def word_ranks(texts, queries, k):
    """BM25: the rows of the k best texts for each query, int [B, k].

    Args:
        texts: N texts.
        queries: B texts.
        k: at most N.
    """
    import bm25s

    index = bm25s.BM25()
    index.index([data.words(text) for text in texts], show_progress=False)
    return index.retrieve([data.words(query) for query in queries], k=k, show_progress=False)[0]
