"""A small transformer of queries and documents, its batches, and stacks of layers."""

import functools

import jax
import numpy as np

from jaxembed import encoders

B, T, D, L, WORDS = 16, 6, 16, 3, 20
QUICK = {"xla_backend_optimization_level": 0}  # compiling is most of the time here


@functools.cache
def encoder(width=D, layers=L, dropout=0.0):
    def init_embed(key):
        return {"table": {"embedding": jax.random.normal(key, (WORDS, width))}}

    def embed(params, batch):
        return params["table"]["embedding"][batch["ids"]], batch["mask"]

    return encoders.transformer(
        init_embed, embed, width=width, layers=layers, heads=2, mlp_width=2 * width, dropout=dropout
    )


def make_batch(rows=B, length=T):
    rng = np.random.default_rng(0)
    mask = np.arange(length) < rng.integers(1, length + 1, (rows, 2, 1))
    return {"ids": rng.integers(0, WORDS, (rows, 2, length)).astype(np.int32), "mask": mask}


def halves(batch):
    return [jax.tree.map(lambda x, i=i: x[:, i], batch) for i in (0, 1)]


# Pre-training by masked words


def head_and_table(seed=0):
    rng = np.random.default_rng(seed)
    head = encoders.init_word_head(jax.random.key(seed), D, WORDS)
    head = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), head)
    return head, rng.normal(size=(WORDS, D)).astype(np.float32)


@functools.cache
def params():
    return encoder().init(jax.random.key(0))
