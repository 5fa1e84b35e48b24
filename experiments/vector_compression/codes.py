"""Finished vectors as codes of a few bytes, and what a search with them finds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shared import text_models
from jaxembed import data, losses, search, vectors
from jaxembed.arrays import unit

FLOAT, INT8, BINARY = "float32, first coordinates", "INT8, first coordinates", "signs"
WAYS = (FLOAT, INT8, BINARY, "PQ", "DPQ")
DRAWN = (BINARY, "PQ", "DPQ")  # what depends on a seed
BATCH = 128  # of DPQ
CHOSEN = {"steps": 150, "rate": 3e-3, "softness": 0.01, "temperature": 0.05}  # of DPQ, by --validate
TRIED = {"steps": (150, 400), "rate": (1e-3, 3e-3, 1e-2), "softness": (0.003, 0.01, 0.03)}
TRIED |= {"temperature": (0.02, 0.05, 0.1)}


def texts(model, documents, queries, folder):
    """Unit vectors of functions, and of the sentences that ask for the first of them: three sets of rows."""
    path = folder / f"vectors_{documents}_{queries}.npz"
    ends = np.cumsum([0, queries, queries // 2, 2 * queries])
    if not path.exists():
        records = data.docstrings()
        some = [records[i] for i in np.random.default_rng(0).permutation(len(records))[:documents]]
        pages = [" ".join(r[n] for n in ("name", "signature", "docstring", "code")) for r in some]
        encoder = text_models.load(model, max_length=64)
        found = {"documents": encoder.encode_texts(pages)}
        found["queries"] = encoder.encode_texts([r["query"] for r in some[: ends[-1]]])
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{name: np.asarray(unit(jnp.asarray(x))) for name, x in found.items()})
    with np.load(path) as kept:
        found = {"documents": jnp.asarray(kept["documents"])}
        for name, low, high in zip(("test", "validation", "train"), ends, ends[1:], strict=False):
            found[name] = jnp.asarray(kept["queries"][low:high]), np.arange(low, high)
    return found


def recall(queries, documents, own, k=10):
    """Share of queries that find their own document among the first k."""
    places = np.asarray(search.top_k(queries[:, : documents.shape[1]], documents, k)[1])
    return float((places == own[:, None]).any(axis=1).mean())


def exact(texts, asked):
    """The recall of vectors that are not compressed."""
    return recall(texts[asked][0], texts["documents"], texts[asked][1])


def neighbours():
    """The settings of DPQ that were chosen, and all that differ from them in one."""
    others = [CHOSEN | {name: x} for name, tried in TRIED.items() for x in tried if x != CHOSEN[name]]
    return [CHOSEN, *others]


def recall_of(way, texts, size, seed, asked, **settings):
    """The recall of codes of so many bytes, or None where there are no such codes; settings are DPQ's."""
    found = decoded(way, texts, size, seed, **settings)
    return None if found is None else recall(texts[asked][0], found, texts[asked][1])


def decoded(way, texts, size, seed, **settings):
    """What ``size`` bytes say of each vector [N, D], as vectors that a query is compared with."""
    x, key = texts["documents"], jax.random.key(seed)
    width = x.shape[1]
    if way == FLOAT:
        return x[:, : size // 4]
    if way == INT8:
        params = vectors.fit_scalar(x[:, :size])
        return vectors.decode_scalar(params, vectors.encode_scalar(params, x[:, :size]))
    if way == BINARY:
        whole = 8 * size == width
        planes = jnp.eye(width) if whole else vectors.random_hyperplanes(key, width, 8 * size)
        signs = vectors.unpack_bits(vectors.sign_codes(x @ planes)) * 2.0 - 1
        return signs @ planes.T  # <query, planes signs> = <planes' query, signs>: the query is not coded
    if width % size or size == width:
        return None  # a part of one coordinate is a scalar quantiser
    options = {"group": width // size, "centres": min(256, len(x)), "iterations": 8}
    params = vectors.fit_product(key, x, **options)
    params = trained(params, texts, seed, **CHOSEN | settings) if way == "DPQ" else params
    return vectors.decode_product(params, vectors.encode_product(params, x))


def trained(params, texts, seed, *, steps, rate, softness, temperature):
    """Codebooks that other sentences train to find their functions; the vectors stay as they are."""
    tx, x, (asked, own) = optax.adam(rate), texts["documents"], texts["train"]

    def loss_fn(books, rows):
        quantise = functools.partial(
            vectors.quantise_product, params | {"codebooks": books}, temperature=softness
        )
        loss = losses.quantised(losses.dot_nce, quantise)
        return jnp.mean(loss(asked[rows], x[own[0] + rows], temperature=temperature))

    def step(carry, key):
        books, state = carry
        rows = jax.random.choice(key, len(asked), (min(BATCH, len(asked)),), replace=False)
        updates, state = tx.update(jax.grad(loss_fn)(books, rows), state)
        return (optax.apply_updates(books, updates), state), None

    start = params["codebooks"], tx.init(params["codebooks"])
    run = jax.jit(functools.partial(jax.lax.scan, step))
    (books, _), _ = run(start, jax.random.split(jax.random.key(seed), steps))
    return params | {"codebooks": books}
