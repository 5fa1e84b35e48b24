"""Frozen token states of texts, what is trained on top of them, and what that finds."""

import dataclasses
import functools

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import text_models
from jaxembed import data, encoders, losses, metrics, search, train
from jaxembed.arrays import unit


@dataclasses.dataclass(frozen=True, eq=False)
class States:
    """Token states float16 [N, T, W] of N texts, bool [N, T], the map [D, W] that made them narrow, and
    int32 [N], equal for equal texts.
    """

    tokens: np.ndarray
    mask: np.ndarray
    kernel: np.ndarray
    texts: np.ndarray

    def take(self, rows):
        return {"tokens": self.tokens[rows], "mask": self.mask[rows]}


def read_states(encoder, texts, length, width=None, rows=64):
    """Runs a text encoder once over all texts; W principal directions of the token states are kept.

    The directions are measured around 0 on up to 1,024 texts, so that cosines change as little as they can.
    ``width=None`` keeps all D.
    """
    batch = text_models.tokens(encoder, texts, length)

    def run(chosen):
        full = np.resize(chosen, rows)  # repeats texts to fill the last batch
        tokens, mask = encoder.encode_tokens(encoder.params, text_models.take(batch, full))
        return np.asarray(tokens)[: len(chosen)], np.asarray(mask)[: len(chosen)]

    parts = np.split(np.arange(len(texts)), range(rows, len(texts), rows))
    sample = np.random.default_rng(0).permutation(len(texts))[:1024]
    found = [run(p) for p in np.split(sample, range(rows, len(sample), rows))]
    flat = np.concatenate([tokens[mask] for tokens, mask in found]).astype(np.float64)
    if width is not None and width > flat.shape[1]:
        raise ValueError(f"--width {width}: token states have {flat.shape[1]} numbers; choose at most that")
    directions = np.linalg.eigh(flat.T @ flat)[1][:, ::-1]
    kernel = directions[:, :width].astype(np.float32)
    tokens = np.empty((len(texts), length, kernel.shape[1]), np.float16)
    for part in parts:
        tokens[part] = run(part)[0] @ kernel
    return States(tokens, batch["mask"], kernel, text_models.keys(texts)[:, 0])


def plain(params, tokens, mask):
    """The mean of the token states."""
    return encoders.mean_pool(tokens.astype(jnp.float32), mask)


POOLS = {"mean": encoders.mean_pool, "cls": encoders.cls_pool, "last": encoders.last_pool}


@functools.lru_cache
def head(kind, width, latents, heads, head_width, factor):
    """(init(key) -> params, apply(params, tokens, mask) -> [B, W]) of a trainable pooling.

    "latent" lets each token through the latent-attention block and then averages. "mean", "cls" and "last"
    pool first and send the one vector through the same block: as many parameters, no map of single tokens.
    All start as the plain pooling.
    """
    sizes = {"latents": latents, "heads": heads, "head_width": head_width, "mlp_factor": factor}

    def init(key):
        return encoders.init_latent_attention(key, width, **sizes)

    def apply(params, tokens, mask):
        tokens = tokens.astype(jnp.float32)
        if kind != "latent":
            tokens, mask = POOLS[kind](tokens, mask)[:, None], mask.any(axis=1, keepdims=True)
        return encoders.latent_attention_pool(params, tokens, mask, heads=heads)

    return init, apply


@functools.lru_cache
def update_of(apply, temperature, rate):
    """The step on rows of (query, document, h negatives); "in_batch" [B] lets other documents count."""

    def loss_fn(params, batch, key):
        states = [batch[name] for name in ("query", "document", "negatives")]
        rows = len(states[0]["mask"])
        joined = {n: jnp.concatenate([x[n].reshape(-1, *x[n].shape[-k:]) for x in states])
                  for n, k in (("tokens", 2), ("mask", 1))}  # fmt: skip
        found = apply(params, joined["tokens"], joined["mask"])
        queries, documents = found[:rows], found[rows:]
        each, others = jnp.arange(rows), (len(documents) - rows) // rows
        own = each[:, None] == jnp.repeat(each, others)
        different = losses.duplicate_mask(*text_models.sides(batch["texts"]), blocks=("qd",))
        hard = jnp.swapaxes(different[:, rows:].reshape(rows, others, rows), 1, 2).reshape(rows, -1)
        where = jnp.concatenate([different[:, :rows] & batch["in_batch"][:, None], own & hard], axis=1)
        loss = losses.info_nce(queries, documents, where=where, temperature=temperature)
        return loss.mean(), {}

    return train.gradient_update(loss_fn, optax.adam(rate))


def batch_of(states, rows, in_batch):
    """Makes a batch of int [B, 2 + h]: places of queries, their documents and their negatives."""
    parts = {"query": rows[:, 0], "document": rows[:, 1], "negatives": rows[:, 2:]}
    batch = {name: states.take(places) for name, places in parts.items()}
    return batch | {"in_batch": np.broadcast_to(in_batch, len(rows)).copy(), "texts": states.texts[rows]}


def stages(states, plan, size, seed):
    """Batches of stages one after the other, as one sequence; and their number.

    Args:
        states: of all texts.
        plan: list of (steps, [int [n, 2 + h], ...], in_batch): the tables share a batch equally.
        size: rows of a batch.
        seed: of the order.

    Returns:
        (anything with ``[t]``, number of steps).
    """
    ends, parts = np.cumsum([0] + [steps for steps, _, _ in plan]), []
    for k, (_, tables, in_batch) in enumerate(plan):
        cut = size // len(tables)
        sources = [
            data.batches(np.arange(len(rows)), cut, make=rows.__getitem__, seed=10 * seed + k)
            for rows in tables
        ]
        parts.append((sources, in_batch))

    def at(step):
        k = int(np.searchsorted(ends, step, side="right")) - 1
        sources, in_batch = parts[k]
        return batch_of(states, np.concatenate([s[step - int(ends[k])] for s in sources]), in_batch)

    return grain.MapDataset.range(int(ends[-1])).map(at), int(ends[-1])


def fit(made, states, plan, seed, *, size, temperature, rate, **options):
    """Trains a head; returns its parameters."""
    init, apply = made
    given, steps = stages(states, plan, size, seed)
    update = update_of(apply, temperature, rate)
    run = {"init": init, "update": update, "batches": given, "steps": steps, "key": seed}
    run["mesh"] = text_models.mesh_for(size)
    return train.fit(**run, **options).params


@functools.lru_cache
def _jitted(apply):
    return jax.jit(apply)


def pooled(apply, params, states, places, rows=500):
    """Unit vectors [n, W] of texts by a head."""
    run, found = _jitted(apply), []
    for start in range(0, len(places), rows):
        part = np.asarray(places[start : start + rows])
        batch = states.take(np.resize(part, rows))
        found.append(np.asarray(unit(run(params, batch["tokens"], batch["mask"])))[: len(part)])
    return np.concatenate(found)


def reciprocal_rank(queries, documents):
    """MRR@10 where query i has document i and further documents follow."""
    own = np.arange(len(queries))[:, None]
    ids = search.top_k(queries, documents, min(10, len(documents)))[1]
    return float(metrics.mrr(metrics.gains(ids, own, np.ones_like(own)), np.ones_like(own), k=10).mean())


def nearest_accuracy(known, labels, asked, truth, k=10):
    """How often most of the k nearest known vectors have the right class."""
    ids = np.asarray(search.top_k(asked, known, k)[1])
    names, numbers = np.unique(np.concatenate([labels, truth]), return_inverse=True)
    votes = np.zeros((len(asked), len(names)))
    np.add.at(votes, (np.arange(len(asked))[:, None], numbers[: len(labels)][ids]), 1)
    return float((votes.argmax(axis=1) == numbers[len(labels) :]).mean())
