"""Poolings that learn on frozen token states: their parameters, loss, stages of training."""

import functools

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.pooling.states import pooled
from experiments.shared import text_models
from jaxembed import data, encoders, losses, train

POOLS = {"mean": encoders.mean_pool, "cls": encoders.cls_pool, "last": encoders.last_pool}


def untrained(states, rows):
    """Unit vectors [n, W] of n texts by the mean of their token states, which has no parameters."""
    return pooled(_mean, None, states, rows)


def _mean(params, tokens, mask):
    return encoders.mean_pool(tokens.astype(jnp.float32), mask)


def head(cfg, kind, states):
    """(init(key) -> params, apply(params, tokens, mask) -> [B, W]) of a pooling that learns.

    "latent" lets each token through the latent-attention block and then averages. "mean", "cls" and "last"
    pool first and send the one vector through the same block: as many parameters, no map of single tokens.
    All start as the plain pooling.
    """
    return _head(kind, states["tokens"].shape[2], cfg.latents, cfg.heads, cfg.head_width, cfg.factor)


@functools.lru_cache
def _head(kind, width, latents, heads, head_width, factor):
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
    """The step on rows (query, document, h negatives); where "in_batch", documents of other rows count."""

    def loss_fn(params, batch, key):
        rows, others = batch["negatives"]["keys"].shape
        turned = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch["negatives"])  # as info_nce has them
        flat = jax.tree.map(lambda x: x.reshape(rows * others, *x.shape[2:]), turned)
        given = jax.tree.map(lambda *x: jnp.concatenate(x), batch["query"], batch["document"], flat)
        found = apply(params, given["tokens"], given["mask"])
        own = jnp.arange(rows)[:, None] == jnp.arange(len(found) - rows) % rows
        where = own | (jnp.arange(len(found) - rows) < rows)  # the negatives of a row are its alone
        where &= losses.duplicate_mask(given["keys"][:rows], given["keys"][rows:], blocks=("qd",))
        options = {"where": where, "in_batch": batch["in_batch"], "temperature": temperature}
        loss = losses.info_nce(found[:rows], found[rows:], **options)
        return loss.mean(), {}

    return train.gradient_update(loss_fn, optax.adam(rate))


def batch_of(states, rows, in_batch):
    """Makes a batch of int [B, 2 + h]: texts that are queries, their documents and their negatives."""
    parts = {"query": rows[:, 0], "document": rows[:, 1], "negatives": rows[:, 2:]}
    batch = {name: text_models.take(states, chosen) for name, chosen in parts.items()}
    return batch | {"in_batch": np.broadcast_to(in_batch, len(rows)).copy()}


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


def fit(cfg, head, states, plan, seed, size=None):
    """Trains a head on the stages of a plan; returns its parameters."""
    init, apply = head
    size = cfg.size if size is None else size
    batches, steps = stages(states, plan, size, seed)
    update, mesh = update_of(apply, cfg.temperature, cfg.rate), text_models.mesh_for(size)
    state = train.fit(init=init, update=update, batches=batches, steps=steps, key=seed, mesh=mesh)
    return state.params
