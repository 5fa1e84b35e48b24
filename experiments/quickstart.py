"""A search engine over the Python packages installed on this machine, from their docstrings to ranked answers.

Papers: Unified Embedding (arXiv:2305.12102), Matryoshka (arXiv:2205.13147), MUVERA (arXiv:2405.19504).

    python -m experiments.quickstart                                      # train, index, compare
    python -m experiments.quickstart --query "pad a sequence of arrays"   # ask the saved index
    python -m experiments.quickstart --corpus path/to/your/code           # the same for your own tree
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import time
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax.sharding import PartitionSpec as P

from experiments import report
from jaxembed import data, encoders, losses, search, tables, train, vectors
from jaxembed.arrays import unit

FIELDS = {
    "name": (2.0, 16),
    "signature": (1.0, 32),
    "docstring": (1.0, 160),
    "code": (0.7, 160),
}  # weight, words
FDES = ((3, 8), (4, 8), (5, 16))  # (planes, projected) at 20 repetitions


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a text encoder on (first sentence, function), indexes every function and compares ways to search."""

    query: str | None = None  # ask the saved index instead of training
    corpus: pathlib.Path | None = None  # index this folder of Python files, trained on it and the packages
    packages: tuple[str, ...] | None = (
        None  # default: the standard library and what is installed of our stack
    )
    holdout: str = "scipy"  # package whose first sentences are only test queries
    steps: int = 150
    batch_size: int = 512
    token_batch: int = 128  # rows of the batch that train the token vectors; 0 trains none
    learning_rate: float = 1e-2
    rows: int = 16_384  # rows of the one hashed table
    sizes: tuple[int, ...] = (16, 32, 64, 128, 256)  # matryoshka prefixes; the last is the width
    token_width: int = 64
    layers: int = 1
    length: int = 96  # heaviest words kept of a function for its pooled vector
    tokens: int = 32  # heaviest words kept of a function as token vectors
    query_tokens: int = 16
    temperature: float = 0.05
    test_queries: int = 1000  # at most, for each of the two rows of test queries
    seed: int = 0
    model_devices: int = 1  # devices along which the table is split
    workdir: pathlib.Path = pathlib.Path("runs/quickstart")
    results: pathlib.Path = report.RESULTS
    profile: int | None = None  # number of steps to trace


# --- records to batches ---------------------------------------------------------------------------------------


def fields_of(record):
    return {name: data.words(record[name], limit=limit) for name, (_, limit) in FIELDS.items()}


def bag_of(fields):
    return data.bag([(words, FIELDS[name][0]) for name, words in fields.items()], power=0.5, decay=0.02)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The records, their words, and hashed document frequencies: all that a batch is made from."""

    records: list
    fields: list
    counts: np.ndarray

    def scale(self, words):
        return data.idf(self.counts, len(self.fields), data.hashed(words)) - 0.9

    def pairs(self):
        """(kind, record, number): first sentences of training records, and pairs cut from the text of all."""
        query = [("query", i, 0) for i, r in enumerate(self.records) if r["split"] == "train"]
        return query + [("text", i, n) for n in range(2) for i in range(len(self.records))]

    def sides(self, pair):
        """A pair as two bags. A text pair never sees the first sentence: a span of the docstring finds the
        rest of the function, or name and signature find docstring and code."""
        kind, i, number = pair
        fields = self.fields[i]
        if kind == "query":
            return self.query_bag(self.records[i]["query"]), bag_of(fields)
        rng = np.random.default_rng((i, number))
        words = fields["docstring"]
        if len(words) > 12 and rng.random() < 0.7:
            size = int(rng.integers(5, 14))
            start = int(rng.integers(0, max(1, len(words) - size)))
            span = dict.fromkeys(words[start : start + size], 1.0)
            return span, bag_of(fields | {"docstring": words[:start] + words[start + size :]})
        names = ("name", "signature")
        return bag_of({n: fields[n] for n in names}), bag_of({n: fields[n] for n in FIELDS if n not in names})

    def query_bag(self, text):
        return dict.fromkeys(data.words(text, limit=64), 1.0)

    def collate(self, cfg, pairs):
        left, right = zip(*map(self.sides, pairs), strict=True)
        keys = [self.records[i]["query" if kind == "query" else "id"] for kind, i, _ in pairs]
        batch = self.pack(left + right, cfg.length, rows=12 * len(pairs))
        count = len(pairs)
        split = {"left": slice(None, count), "right": slice(count, None)}
        sides = {side: {n: batch[n][s] for n in ("positions", "weights")} for side, s in split.items()}
        return sides | {"words": batch["words"], "keys": data.hashed(keys).astype(np.int32)}

    def pack(self, bags, length, rows):
        words, positions, weights = data.pack(bags, length=length, scale=self.scale)
        rows = -(-max(rows, len(words)) // 2048) * 2048  # few shapes, so few compilations
        ids, masks = data.features(words, limit=8, rows=rows)
        return {"words": {"ids": ids, "masks": masks}, "positions": positions, "weights": weights}


# --- the model: one table, pooled words, a small transformer over the first dimensions of the words ------------


def build(cfg):
    """Returns init, words (one vector per distinct word), pooled and token encoders, and the table's plan."""
    features = [tables.Feature(n, chunks=2, combine="mean") for n in ("word", "3gram", "4gram", "5gram")]
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

    return plan, blocks.init, words, tokens


def make_loss(cfg, words, tokens):
    def loss_fn(params, batch, key):
        vectors_of_words = words(params, batch)
        left, right = (batch[side] | {"vectors": vectors_of_words} for side in ("left", "right"))
        keep = losses.duplicate_mask(batch["keys"])
        q, d = (encoders.weighted_bag(s["vectors"], s["positions"], s["weights"]) for s in (left, right))
        nested = losses.matryoshka(
            functools.partial(losses.info_nce, where=keep, temperature=cfg.temperature), cfg.sizes
        )
        pooled = jnp.mean(nested(q, d) + nested(d, q)) / (2 * len(cfg.sizes))
        if not cfg.token_batch:
            return pooled, {}
        token = jnp.mean(token_loss(params, left, right, keep, key))
        return pooled + token, {"pooled": pooled, "token": token}

    def token_loss(params, left, right, keep, key):
        """Through the FDEs themselves, with planes drawn anew in every step; a strided part of the batch."""
        stride = cfg.batch_size // cfg.token_batch
        cut = {"left": cfg.query_tokens, "right": cfg.tokens}
        sides = {"left": left, "right": right}
        sides = {
            name: {"vectors": s["vectors"]}
            | {n: s[n][::stride, : cut[name]] for n in ("positions", "weights")}
            for name, s in sides.items()
        }
        (q, q_mask), (d, d_mask) = (tokens(params, side) for side in sides.values())
        fde = vectors.init_fde(key, cfg.token_width, repetitions=8, planes=3, projected=16)
        weights = sides["left"]["weights"] / jnp.maximum(
            jnp.sum(sides["left"]["weights"], axis=1, keepdims=True), 1e-9
        )
        q = vectors.encode_queries(fde, q * weights[..., None], q_mask)
        d = vectors.encode_documents(fde, d, d_mask)
        return losses.softmax_loss(q @ d.T / 8, where=keep[::stride, ::stride], temperature=cfg.temperature)

    return loss_fn
