"""The encoder that is trained: hashed words, their weighted mean, a transformer over some of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from experiments.quickstart import function_words, searches
from jaxembed import encoders, losses, search, tables, train, vectors

RULES = ((r"^table/", P("model", None)),)


def build(cfg):
    """Returns init, words (a vector per distinct word) and tokens (a transformer on their prefixes)."""
    features = [tables.Feature(n, chunks=2) for n in ("word", "3gram", "4gram", "5gram")]
    plan = tables.plan(features, rows=cfg.rows, width=cfg.sizes[-1] // 2, seed=cfg.seed)

    def words(params, batch):
        rows = tables.codes(plan, batch["words"]["ids"])
        return sum(tables.lookup(plan, params, rows, batch["words"]["masks"]).values())

    def embed(params, side):
        return side["vectors"][side["positions"], : cfg.token_width], side["weights"] > 0

    blocks = encoders.transformer(
        lambda key: tables.init_tables(key, plan), embed, width=cfg.token_width, layers=cfg.layers, heads=4
    )

    def tokens(params, side, layers=None):
        out = blocks.hidden(params, side, layers=layers)
        return encoders.multi_vector(out["tokens"], out["mask"]), out["mask"]

    return blocks.init, words, tokens


def pooled(side):
    return encoders.weighted_bag(side["vectors"], side["positions"], side["weights"])


def cut(side, count, stride=1):
    return {"vectors": side["vectors"]} | {n: side[n][::stride, :count] for n in ("positions", "weights")}


def make_loss(cfg, words, tokens):
    def loss_fn(params, batch, key):
        known = words(params, batch)
        left, right = (batch[side] | {"vectors": known} for side in ("left", "right"))
        keep, (q, d) = losses.duplicate_mask(batch["keys"]), (pooled(left), pooled(right))
        info_nce = functools.partial(losses.info_nce, where=keep, temperature=cfg.temperature)
        nested = losses.matryoshka(info_nce, cfg.sizes)
        loss = jnp.mean(nested(q, d) + nested(d, q)) / (2 * len(cfg.sizes))
        if not cfg.token_batch:
            return loss, {}
        stride = cfg.batch_size // cfg.token_batch
        parts = cut(left, cfg.query_tokens, stride), cut(right, cfg.tokens, stride)
        token = jnp.mean(token_loss(params, *parts, keep[::stride, ::stride], key))
        return loss + token, {"pooled": loss, "token": token}

    def token_loss(params, left, right, keep, key):
        """Through the FDEs themselves, with planes drawn anew at every step."""
        fde = vectors.init_fde(key, cfg.token_width, repetitions=8, planes=3, projected=16)
        (q, q_mask), (d, d_mask) = tokens(params, left), tokens(params, right)
        scores = vectors.encode_queries(fde, searches.weighed(q, left["weights"]), q_mask)
        scores = scores @ vectors.encode_documents(fde, d, d_mask).T / 8
        return losses.softmax_loss(scores, where=keep, temperature=cfg.temperature)

    return loss_fn


def make_encode(cfg, text, words, tokens, mesh):
    """Returns encode(params, bags, length, count, layers) -> pooled [B, D], tokens [B, count, d], weights."""

    @functools.partial(jax.jit, static_argnames=("count", "layers"))
    def run(params, batch, count, layers):
        side = batch | {"vectors": words(params, batch)}
        first = cut(side, count)
        return pooled(side), tokens(params, first, layers)[0], first["weights"]

    def encode(params, bags, length, count=1, layers=0):
        full = [*bags, *[{}] * (-len(bags) % mesh.shape["data"])]
        batch = train.place_batch(text.pack(full, length), mesh, ((r"", P("data")),))
        return jax.tree.map(lambda x: x[: len(bags)], run(params, batch, count, layers))

    return encode


def embed_corpus(cfg, folder, text, encode, params, layers=0):
    """Pooled and token vectors of every function, in one resumable file: [N, D], [N, T, d]."""

    def flat(fields):
        bags = [function_words.bag_of(f) for f in fields]
        vector, token, _ = encode(params, bags, cfg.length, cfg.tokens, layers)
        return np.concatenate([vector, np.reshape(token, (len(fields), -1))], axis=1)

    path = folder / f"vectors-{layers}.npy"
    rows = search.embed(flat, text.fields, path=path, batch_size=512, dtype=np.float16, progress=True)
    width = cfg.sizes[-1]
    return rows[:, :width], rows[:, width:].reshape(len(rows), cfg.tokens, cfg.token_width)
