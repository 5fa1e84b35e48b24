"""Token sets of documents, an encoder for them, and their index on disk."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles_search as oracles
import pytest

from jaxembed import search, vectors

RNG = np.random.default_rng(31)
LENGTHS = [3, 0, 1, 9, 5, 2, 14, 1, 4, 6, 8, 2, 30, 3, 7, 1, 5, 2, 4, 3, 6, 1, 2]
TOKENS = [RNG.standard_normal((n, 4)).astype(np.float16) for n in LENGTHS]
DOCUMENTS = [(f"d{i}", t) for i, t in enumerate(TOKENS)]
PARAMS = {"scale": np.float32(2), "deep": {"shift": np.arange(4, dtype=np.float32)}}
QUERIES = RNG.standard_normal((3, 5, 4)).astype(np.float32)
MASK = np.arange(5) < np.array([[5], [3], [0]])


@jax.jit
def encode(params, tokens, mask):
    total = jnp.where(mask[..., None], tokens, 0).sum(axis=1)
    return {"sum": total * params["scale"] + params["deep"]["shift"], "count": mask.sum(axis=1)}


def expected(documents):
    total = [t.astype(np.float32).sum(0) for _, t in documents]
    return np.array(total) * 2 + np.arange(4), [len(t) for _, t in documents]


def plain_sum(params, tokens, mask):
    return np.where(mask[..., None], tokens, 0).sum(axis=1)


def build(folder, documents=DOCUMENTS, encode=encode, params=PARAMS, **options):
    return search.build_documents(
        folder, documents, encode, params=params, **{"batch_size": 4, "shard_size": 6} | options
    )


def same(index, documents):
    assert index.ids.tolist() == [i for i, _ in documents]
    np.testing.assert_array_equal(np.diff(index.offsets), [len(t) for _, t in documents])
    np.testing.assert_array_equal(index.tokens[:], np.concatenate([t for _, t in documents]))


def refused(match, call, error=ValueError):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


# --- reranking ---

OFFSETS = np.cumsum([0, *LENGTHS])
FLAT = np.concatenate(TOKENS)
EXACT = {"score": vectors.chamfer, "tokens": FLAT, "offsets": OFFSETS}


def chamfer_of(b, n):
    query = QUERIES[b][MASK[b]].astype(np.float64)
    return oracles.chamfer(query, TOKENS[n].astype(np.float64))


def ranked(b, places, k):
    own = sorted({p for p in places if p >= 0}, key=lambda n: (-chamfer_of(b, n), n))[:k]
    return own, [chamfer_of(b, n) for n in own]
