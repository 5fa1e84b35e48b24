"""A small transformer, its parameters, and token states with padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import encoders

B, T, D, LAYERS, HEADS = 4, 5, 8, 3, 2
MASK = np.array(
    [
        [True, True, True, True, True],
        [True, True, False, False, False],
        [False, True, False, True, False],
        [False, False, False, False, False],
    ]
)
OPTIONS = {"width": D, "layers": LAYERS, "heads": HEADS, "mlp_width": 12, "positions": 6}


def init_embed(key):
    return {"table": {"embedding": jax.random.normal(key, (10, D))}}


def embed(params, batch):
    tokens = params["table"]["embedding"][batch["ids"]]
    return jnp.where(batch["mask"][..., None], tokens, batch.get("padding", 0.0)), batch["mask"]


def example(**more):
    ids = np.random.default_rng(0).integers(0, 10, (B, T)).astype(np.int32)
    return {"ids": ids, "mask": MASK, **more}


@functools.cache
def parameters():
    """Parameters away from their start: norms of one and biases of zero would hide an exchange."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(encoders.transformer(init_embed, embed, **OPTIONS).init, jax.random.key(0))
    centres = jax.tree.map_with_path(lambda path, _: float(path[-1].key == "scale"), shapes)
    return jax.tree.map(
        lambda s, c: jnp.asarray(c + rng.normal(size=s.shape) * 0.4, jnp.float32), shapes, centres
    )


@functools.cache
def built(**options):
    """The encoder, its parameters and its jitted ``hidden``."""
    encoder = encoders.transformer(init_embed, embed, **OPTIONS | options)
    params = {k: v for k, v in parameters().items() if k != "position" or options.get("positions", 6)}
    return encoder, params, jax.jit(encoder.hidden, static_argnames=("layers", "each"))


@functools.cache
def full_run():
    _, params, run = built()
    return run(params, example())
