"""Finished vectors, compressed after training: what a search with them still finds at equal bytes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shared import text_models
from jaxembed import data, losses, search, vectors
from jaxembed.arrays import unit

BYTES = (384, 96, 48, 24, 12)
STEPS, BATCH, RATE, TEMPERATURE = 150, 128, 1e-2, 0.05


def texts(model, documents, queries, folder):
    """Unit vectors of functions, of first sentences, and their right answers; other pairs to train on."""
    path = folder / f"vectors_{documents}_{queries}.npz"
    if not path.exists():
        records = data.docstrings()
        chosen = np.random.default_rng(0).permutation(len(records))[:documents]
        some = [records[i] for i in chosen]
        pages = [" ".join(r[n] for n in ("name", "signature", "docstring", "code")) for r in some]
        encoder = text_models.load(model, max_length=64)
        asked = [r["query"] for r in some[: 3 * queries]]
        found = {"documents": encoder.encode_texts(pages), "queries": encoder.encode_texts(asked)}
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{name: np.asarray(unit(jnp.asarray(x))) for name, x in found.items()})
    with np.load(path) as found:
        return {"documents": found["documents"], "test": found["queries"][:queries]} | {
            "train": found["queries"][queries:]
        }


def decoded(way, x, size, seed, pairs):
    """What ``size`` bytes say of each vector [N, D], as vectors that a query is compared with; or None."""
    width, key = x.shape[1], jax.random.key(seed)
    if way == "float32, first coordinates":
        return x[:, : size // 4]
    if way == "INT8, first coordinates":
        params = vectors.fit_scalar(x[:, :size])
        return vectors.decode_scalar(params, vectors.encode_scalar(params, x[:, :size]))
    if way == "binary":
        planes = jnp.eye(width) if 8 * size == width else vectors.random_hyperplanes(key, width, 8 * size)
        bits = vectors.unpack_bits(vectors.sign_codes(x @ planes)) * 2.0 - 1
        return bits @ jnp.linalg.pinv(planes)
    if width % size or size == width:
        return None  # a part of one coordinate is a scalar quantiser
    params = vectors.fit_product(key, x, group=width // size, centres=min(256, len(x)), iterations=8)
    if way == "DPQ":
        params = trained(params, x, pairs, seed)
    return vectors.decode_product(params, vectors.encode_product(params, x))


WAYS = ("float32, first coordinates", "INT8, first coordinates", "binary", "PQ", "DPQ")


def trained(params, x, pairs, seed):
    """Codebooks that other sentences trained to find their functions; the vectors stay as they are."""
    tx, (asked, places) = optax.adam(RATE), pairs

    def loss_fn(books, rows):
        quantise = functools.partial(
            vectors.quantise_product, params | {"codebooks": books}, temperature=0.01
        )
        loss = losses.quantised(losses.dot_nce, quantise, weight=1.0)
        return jnp.mean(loss(asked[rows], x[places[rows]], temperature=TEMPERATURE))

    def step(carry, key):
        books, state = carry
        rows = jax.random.choice(key, len(asked), (min(BATCH, len(asked)),), replace=False)
        updates, state = tx.update(jax.grad(loss_fn)(books, rows), state)
        return (optax.apply_updates(books, updates), state), None

    start = params["codebooks"], tx.init(params["codebooks"])
    run = jax.jit(functools.partial(jax.lax.scan, step))
    (books, _), _ = run(start, jax.random.split(jax.random.key(seed), STEPS))
    return params | {"codebooks": books}


def recall(queries, documents, gold, k=10):
    """Share of queries that find their own document among the first k."""
    places = np.asarray(search.top_k(queries[:, : documents.shape[1]], documents, k)[1])
    return float((places == gold[:, None]).any(axis=1).mean())


def measured(model, documents, queries, seeds, folder):
    """A row for each way and number of bytes, with the recall of each seed."""
    found = texts(model, documents, queries, folder)
    x, gold = jnp.asarray(found["documents"]), np.arange(queries)
    pairs = jnp.asarray(found["train"]), jnp.arange(queries, queries + len(found["train"]))
    whole = recall(jnp.asarray(found["test"]), x, gold)
    rows = [{"way": "float32", "bytes": 4 * x.shape[1], "recall@10": whole, "± recall@10": None}]
    for way in WAYS:
        for size in BYTES:
            each = range(seeds if way in ("binary", "PQ", "DPQ") else 1)
            codes = [decoded(way, x, size, seed, pairs) for seed in each]
            if codes[0] is None:
                continue
            recalls = [recall(jnp.asarray(found["test"]), code, gold) for code in codes]
            row = {"way": way, "bytes": size, "recall@10": float(np.mean(recalls))}
            rows.append(row | {"± recall@10": float(np.std(recalls, ddof=1)) if len(recalls) > 1 else None})
    return rows
