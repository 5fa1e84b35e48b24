"""A table with a dense layer, its loss and batches, and a run of a few steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from jaxembed import train

RULES = [(r"table/", P("model", None))]


def init(key):
    a, b = jax.random.split(key)
    return {
        "table": {"embedding": jax.random.normal(a, (64, 4))},
        "head": {"kernel": jax.random.normal(b, (4, 3))},
    }


def loss_fn(params, batch, key):
    x = params["table"]["embedding"][batch["ids"]]
    x = x + 0.1 * jax.random.normal(key, x.shape)
    error = x @ params["head"]["kernel"] - batch["targets"]
    return jnp.mean(error**2), {"largest": jnp.max(jnp.abs(error))}


class Batches:
    def __getitem__(self, t):
        rng = np.random.default_rng(t)
        return {"ids": rng.integers(0, 64, 16).astype(np.int32), "targets": rng.random((16, 3), np.float32)}


TX = optax.adam(1e-2)


def run(**options):
    options = {
        "init": init,
        "batches": Batches(),
        "steps": 4,
        "loss_fn": loss_fn,
        "tx": TX,
        "progress": False,
    } | options
    if "update" in options:
        options |= {"loss_fn": None, "tx": None}
    return train.fit(**options)


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)
