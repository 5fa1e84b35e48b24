"""A short list of laws that a device must keep: compiled functions give what NumPy gives in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.on_device.cases import difference, line_of
from jaxembed import losses, search, tables, train, vectors

EXACT, ROUNDED = 1e-5, 2e-2  # relative difference of float32 at full precision, and of bfloat16


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def info_nce(queries, documents, temperature=0.05):
    q, d = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in np.asarray([queries, documents], float))
    logits = q @ d.T / temperature
    return np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)


def encoded(params, tokens, mask):
    """Fixed dimensional encodings of documents, cell by cell."""
    planes, projection = (np.asarray(params[n], float) for n in ("planes", "projection"))
    cells, out = 2 ** planes.shape[2], []
    for document, kept in zip(np.asarray(tokens, float), mask, strict=True):
        document = document[kept]
        for plane, matrix in zip(planes, projection, strict=True):
            cell = (document @ plane > 0) @ (2 ** np.arange(plane.shape[1]))
            for c in range(cells):
                distance = [int(n ^ c).bit_count() for n in cell]
                inside = cell == c if (cell == c).any() else [int(np.argmin(distance))]
                out.append((document @ matrix)[inside].mean(axis=0))
    return np.concatenate(out).reshape(len(tokens), -1)


def chamfer(queries, documents, mask):
    products = np.einsum("btd,nsd->bnts", queries.astype(float), documents.astype(float))
    return np.where(mask[None, :, None], products, -np.inf).max(axis=3).sum(axis=2)


def stepped(table, ids, cotangent, rowwise):
    """One step of Adagrad, or row-wise Adagrad, on the whole table."""
    gradient = np.zeros(table.shape)
    np.add.at(gradient, ids, cotangent.astype(float))
    squares = np.square(gradient)
    total = squares.mean(axis=1, keepdims=True) if rowwise else squares + (0 if rowwise else 0.1)
    return table - 0.1 * gradient / (np.sqrt(total) + (1e-10 if rowwise else 0))


# Laws: each gives (what, result of the device, what it must be, bound)


def of_losses(rng):
    q, d = unit(rng, 64, 32), unit(rng, 64, 32)
    loss = jax.jit(losses.info_nce)
    yield "info_nce", loss(q, d), info_nce(q, d), EXACT
    nested = jax.jit(losses.matryoshka(losses.info_nce, (8, 32)))
    yield "matryoshka", nested(q, d), info_nce(q[:, :8], d[:, :8]) + info_nce(q, d), EXACT
    low = [jnp.asarray(x, jnp.bfloat16) for x in (q, d)]
    yield "info_nce of bfloat16 vectors", loss(*low), info_nce(q, d), ROUNDED

    def encode(params, batch, key=None):
        return jnp.tanh(jnp.matmul(batch["x"], params, precision="highest"))

    def total(params, encode):
        v = encode(params, {"x": jnp.asarray(q)})
        return jnp.sum(losses.info_nce(v[:32], v[32:]))

    params = jnp.asarray(rng.normal(size=(32, 16)), jnp.float32)
    lean = jax.grad(functools.partial(total, encode=losses.cached(encode, 4)))
    plain = jax.grad(functools.partial(total, encode=encode))
    yield "gradient of cached", jax.jit(lean)(params), plain(params), EXACT


def of_sets(rng):
    tokens, query = unit(rng, 16, 12, 32), unit(rng, 2, 6, 32)
    mask = np.arange(12) < rng.integers(3, 13, 16)[:, None]
    params = vectors.init_fde(jax.random.key(0), 32, repetitions=4, planes=3, projected=8)
    yield "fde", vectors.encode_documents(params, tokens, mask), encoded(params, tokens, mask), EXACT
    low, seen = jnp.asarray(tokens, jnp.bfloat16), np.ones((2, 6), bool)
    rounded = np.asarray(low.astype(jnp.float32))
    found = vectors.encode_documents(params, low, mask)
    yield "fde of bfloat16 tokens", found, encoded(params, rounded, mask), ROUNDED
    exact = chamfer(query, tokens, mask)
    yield "chamfer", vectors.chamfer(query, tokens, seen, mask), exact, EXACT
    offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
    yield "chamfer_flat", vectors.chamfer_flat(query, seen, tokens[mask], offsets), exact, EXACT
    yield "chamfer of bfloat16 tokens", vectors.chamfer(query, low, seen, mask), exact, ROUNDED


def of_search(rng):
    queries, documents = unit(rng, 4, 32), unit(rng, 3000, 32)
    scores, ids = search.top_k(queries, jnp.asarray(documents), 20)
    exact = queries.astype(float) @ documents.astype(float).T
    order = np.argsort(-exact, axis=1, kind="stable")[:, :20]
    yield "top_k, scores", scores, np.take_along_axis(exact, order, axis=1), EXACT
    yield "top_k, ids", ids, order, 0
    books = vectors.fit_product(jax.random.key(0), documents, iterations=1)
    codes, placed = vectors.encode_product(books, documents), vectors.product_tables(books, queries)
    scores, _ = search.scan_top_k(vectors.product_scores, placed, codes, 20)
    decoded = np.asarray(vectors.decode_product(books, codes), float)
    best = -np.sort(-(queries.astype(float) @ decoded.T), axis=1)[:, :20]
    yield "product codes, scores", scores, best, EXACT


def of_tables(rng):
    table, ids = rng.normal(size=(100, 8)).astype(np.float32), rng.integers(0, 40, (16, 3))
    cotangent = rng.normal(size=(16, 3, 8)).astype(np.float32)
    listed, codes = tables.distinct({"all": ids}, None, 100, 64)

    def loss_fn(params, batch, key):
        return jnp.vdot(tables.rows_of(params["table"]["embedding"], batch["codes"]), batch["given"]), {}

    batch = {"codes": codes["all"], "given": cotangent, "rows": {"table/embedding": listed}}
    rules = {"Adagrad": optax.adagrad(0.1, eps=0.0), "row-wise Adagrad": tables.rowwise_adagrad(0.1)}
    for name, rule in rules.items():
        init, step = tables.row_update(loss_fn, optax.identity(), {"table/embedding": rule})
        params = {"table": {"embedding": jnp.asarray(table)}}
        state = train.TrainState(jnp.int32(0), params, init(params))
        done, _ = jax.jit(step)(state, batch, jax.random.key(0))
        exact = stepped(table.astype(float), ids, cotangent, name != "Adagrad")
        yield f"table step, {name}", done.params["table"]["embedding"], exact, EXACT


def of_encoder(load, options):
    """An encoder as JAX multiplies by default, and in bfloat16, against itself at full precision."""
    encoder, low = load(), load(**options)
    ids = np.random.default_rng(0).integers(5, 1000, (8, 32)).astype(np.int32)
    batch = {"ids": jnp.asarray(ids), "mask": jnp.asarray(np.arange(32) < np.arange(25, 33)[:, None])}
    with jax.default_matmul_precision("highest"):
        exact = np.asarray(encoder.encode(encoder.params, batch))
    yield "encoder, default precision", encoder.encode(encoder.params, batch), exact, 5e-3
    yield "encoder in bfloat16", low.encode(low.params, batch), exact, 5e-2


def check(*more):
    """Rows of all laws, each printed when it is known; ``more`` are further laws."""
    rng, rows = np.random.default_rng(0), []
    for laws in (of_losses(rng), of_sets(rng), of_search(rng), of_tables(rng), *more):
        try:
            for name, found, wanted, bound in laws:
                apart = difference(np.asarray(wanted, float), np.asarray(found, float))
                row = {"law": name, "differs by": f"{apart:.1e}", "bound": f"{bound:.0e}"}
                rows.append(row | {"result": "kept" if apart <= bound else "BROKEN"})
                print("law {result}: {law} differs by {differs by}, the bound is {bound}".format(**rows[-1]))
        except Exception as error:  # a law that cannot be asked is broken, and the others are asked
            rows.append({"law": laws.__name__, "result": f"BROKEN: {line_of(error)}"})
            print("law {law} {result}".format(**rows[-1]))
    return rows
