"""Documents and queries as sets of token vectors: generated, or the states of a text encoder."""

import dataclasses
import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import encoders, files, search, vectors
from jaxembed.arrays import unit


@dataclasses.dataclass(frozen=True)
class Sets:
    """Documents and queries.

    Attributes:
        tokens: unit vectors [S, D] of all documents, one document after the other.
        offsets: int [N + 1]; document n has ``tokens[offsets[n] : offsets[n + 1]]``.
        queries: unit vectors [B, T, D].
        mask: bool [B, T].
    """

    tokens: object
    offsets: np.ndarray
    queries: np.ndarray
    mask: np.ndarray

    def __len__(self):
        return len(self.offsets) - 1

    def documents(self, start, stop, length=None):
        """Returns some documents padded to one length: tokens float32 [stop - start, S, D] and mask."""
        length = int(np.diff(self.offsets).max()) if length is None else length
        place = self.offsets[start:stop, None] + np.arange(length)
        mask = place < self.offsets[start + 1 : stop + 1, None]
        rows = np.asarray(self.tokens[int(self.offsets[start]) : int(self.offsets[stop])], np.float32)
        found = np.zeros((*mask.shape, rows.shape[1]), np.float32)
        found[mask] = rows
        return found, mask

    def map(self, function, size=128):
        """Applies function(tokens, mask) to batches of documents; returns all rows, [N, ...]."""
        found = []
        for start in range(0, len(self), size):
            tokens, mask = self.documents(start, min(start + size, len(self)))
            rest = size - len(mask)  # a last batch filled with empty sets has the shape of the others
            tokens, mask = (
                np.concatenate([x, np.zeros((rest, *x.shape[1:]), x.dtype)]) for x in (tokens, mask)
            )
            found.append(np.asarray(function(tokens, mask))[: size - rest])
        return np.concatenate(found)


def generate(seed, shift, *, documents=2000, queries=200, width=64):
    """Draws sets of tokens that share a common direction, as those of trained encoders do.

    3,000 unit vectors are the words and 100 topics hold 60 words each. A document has 8 to 24 words, three
    of five from its topic; a token is ``unit(word + .35 * noise + shift * m)`` with one unit vector m. A
    query is 8 tokens of a document, each ``unit(token + .6 * noise)``. Noise has length 1.

    Args:
        seed: of all draws.
        shift: length of the common direction; 0, 1, 2 give a mean cosine of about 0, .47, .78.
        documents, queries, width: sizes.

    Returns:
        (:class:`Sets`, the numbers of the documents that the queries were drawn from, int [queries]).
    """
    rng = np.random.default_rng(seed)

    def directions(*shape):
        x = rng.normal(size=(*shape, width))
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    words, common = directions(3000), directions()
    topics = rng.integers(3000, size=(100, 60))
    lengths = rng.integers(8, 25, size=documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    topic = np.repeat(rng.integers(100, size=documents), lengths)
    own = topics[topic, rng.integers(60, size=len(topic))]
    chosen = np.where(rng.random(len(topic)) < 0.6, own, rng.integers(3000, size=len(topic)))
    tokens = np.asarray(unit(words[chosen] + 0.35 * directions(len(topic)) + shift * common), np.float32)
    sources = rng.permutation(documents)[:queries]
    rows = np.stack([offsets[s] + rng.permutation(lengths[s])[:8] for s in sources])
    asked = np.asarray(unit(tokens[rows] + 0.6 * directions(*rows.shape)), np.float32)
    return Sets(tokens, offsets, asked, np.ones(rows.shape, bool)), sources


def encode_texts(folder, documents, queries, *, model, length=64, query_length=32, batch_size=32):
    """Makes the unit token states of texts, those of the documents in an index on disk that is resumed.

    Args:
        folder: where indexes are kept; the same texts and model find theirs again.
        documents: list of str.
        queries: list of str.
        model: folder of the encoder.
        length: tokens at which documents are cut, [CLS] and [SEP] among them.
        query_length: tokens at which queries are cut.
        batch_size: texts per call of the encoder.

    Returns:
        :class:`Sets`; the tokens are float16 and memory-mapped.
    """

    def states(texts, most):
        encoder = encoders.pretrained.load(model, max_length=most)
        for start in range(0, len(texts), batch_size):
            some = texts[start : start + batch_size]
            batch = encoder.tokenize([*some, *[""] * (batch_size - len(some))])
            tokens, mask = encoder.encode_tokens(encoder.params, batch)
            yield from zip(np.asarray(unit(tokens))[: len(some)], np.asarray(mask), strict=False)

    def source(first):
        found = states(documents[first:], length)
        return ((first + n, tokens[mask]) for n, (tokens, mask) in enumerate(found))

    meta = {"texts": hashlib.sha256(json.dumps(documents).encode()).hexdigest(), "length": length}
    read = sorted(p for p in pathlib.Path(model).rglob("*") if p.suffix in (".json", ".safetensors", ".txt"))
    meta["model"] = hashlib.sha256("".join(map(files.digest, read)).encode()).hexdigest()
    name = hashlib.sha256(json.dumps(meta).encode()).hexdigest()[:12]
    index = search.build_documents(pathlib.Path(folder) / name, source, _count, meta=meta, shard_size=512)
    asked = list(states(queries, query_length))
    longest = max(int(mask.sum()) for _, mask in asked)
    padded = np.zeros((len(asked), longest, asked[0][0].shape[1]), np.float32)
    mask = np.arange(longest) < np.array([[m.sum()] for _, m in asked])
    for row, (tokens, kept) in enumerate(asked):
        padded[row, : kept.sum()] = tokens[kept]
    return Sets(index.tokens, index.offsets, padded, mask)


def _count(params, tokens, mask):
    return {"length": mask.sum(axis=1)}


def exact(sets):
    """Chamfer scores of every query and document, float32 [B, N]."""
    queries, mask = jnp.asarray(sets.queries), jnp.asarray(sets.mask)
    return sets.map(lambda d, kept: vectors.chamfer(queries, d, mask, kept).T).T


def encode(sets, params, *, aggregate="mean", fill_empty=True):
    """Encodings of the queries, [B, F], and of the documents, [N, F]."""
    options = {"aggregate": aggregate, "fill_empty": fill_empty}
    documents = sets.map(lambda d, kept: vectors.encode_set(params, d, kept, **options))
    return vectors.encode_queries(params, sets.queries, sets.mask), jnp.asarray(documents)


def center(sets, params, size=500):
    """Moves the planes of ``params`` through the mean token of the first documents."""
    return vectors.centre_fde(params, *sets.documents(0, min(size, len(sets))))


def geometry(sets, params, size=200):
    """Measures how much tokens point one way, and how the planes spread them.

    Args:
        sets: :class:`Sets`.
        params: from ``vectors.init_fde``.
        size: documents that are measured.

    Returns:
        Dict: the mean cosine of two tokens, the mean number of cells that a document's tokens fall into,
        and the mean share of all tokens that the fullest cell of a repetition holds.
    """
    tokens, mask = sets.documents(0, min(size, len(sets)))
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

    With ``t = sqrt(log(2 |Q| |P| / delta) / (2 k))`` the estimate per query token lies, with probability
    1 - delta, within ``max(2 pi t, (pi t)**2 / 2)`` below the exact value and never above it.

    Args:
        sets: :class:`Sets`, of which the first queries and documents are compared.
        planes: the number k.
        delta: chance that the bound may fail for a pair.
        queries, documents: how many.
        seed: of the planes.

    Returns:
        Dict of the smallest and largest gap, the smallest bound, and the number of pairs outside of it.
    """
    q, q_mask = jnp.asarray(sets.queries[:queries]), jnp.asarray(sets.mask[:queries])
    d, d_mask = sets.documents(0, min(documents, len(sets)))
    cut = jax.random.normal(jax.random.key(seed), (1, q.shape[2], planes))
    count = np.asarray(q_mask.sum(axis=1))[:, None]
    gap = vectors.chamfer(q, d, q_mask, d_mask) - vectors.implicit_fde_score(cut, q, d, q_mask, d_mask)
    gap = np.asarray(gap) / count
    t = np.sqrt(np.log(2 * count * d_mask.sum(axis=1) / delta) / (2 * planes))
    limit = np.maximum(2 * np.pi * t, (np.pi * t) ** 2 / 2)
    outside = int(((gap > limit) | (gap < -1e-5)).sum())
    found = {"least gap": gap.min(), "largest gap": gap.max(), "bound": limit.min()}
    return {"pairs": gap.size, "outside": outside} | {name: float(x) for name, x in found.items()}
