"""Small models for two tasks with known answers: a rare token among noise, and both ends of a text."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import encoders, train
from jaxembed.data import toy

KEYS, NOISE, LENGTH, WIDTH = 20, 500, 32, 32
LETTERS, ENDS = 8, 12
needles = functools.partial(toy.needles, length=LENGTH, keys=KEYS, noise=NOISE)
both_ends = functools.partial(toy.both_ends, length=ENDS, letters=LETTERS)


def learn(init, logits, draw, *, seed, steps, size=128, rate=2e-3):
    """Trains on fresh batches of a task; returns the accuracy on 2,000 fresh texts."""
    rng = np.random.default_rng((1, seed))
    batches = [draw(rng, count=size) for _ in range(steps)]
    given = {"batches": batches, "steps": steps, "key": seed, "mesh": train.make_mesh(1)}
    state = train.fit(init=init, update=_update(logits, rate), **given)
    tested = draw((2, seed), count=2000)
    found = np.asarray(jax.jit(logits)(state.params, tested["ids"])).argmax(axis=1)
    return float(np.mean(found == tested["labels"]))


@functools.lru_cache
def _update(logits, rate):
    def loss_fn(params, batch, key):
        found = logits(params, batch["ids"])
        return optax.softmax_cross_entropy_with_integer_labels(found, batch["labels"]).mean(), {}

    return train.gradient_update(loss_fn, optax.adam(rate))


@functools.lru_cache
def needle_model(kind):
    """(init, logits): frozen random token vectors, a pooling, a linear map.

    "mean" has no block, "mean, then block" has one after the mean, "latent" one before it.
    """
    table = jax.random.normal(jax.random.key(9), (KEYS + NOISE, WIDTH))
    sizes = {"latents": 32, "heads": 2, "head_width": 16, "mlp_factor": 2}

    def init(key):
        one, two = jax.random.split(key)
        linear = jax.random.normal(two, (WIDTH, KEYS)) * WIDTH**-0.5
        return {"pool": encoders.init_latent_attention(one, WIDTH, **sizes), "linear": {"kernel": linear}}

    def logits(params, ids):
        x, mask = table[ids], jnp.ones(ids.shape, bool)
        if kind != "latent":
            x, mask = encoders.mean_pool(x, mask)[:, None], mask[:, :1]
        pool = functools.partial(encoders.latent_attention_pool, params["pool"], heads=2)
        x = x[:, 0] if kind == "mean" else pool(x, mask)
        return x @ params["linear"]["kernel"] * LENGTH**0.5

    return init, logits


def _embed(params, batch):
    return params["table"]["embedding"][batch["ids"]], jnp.ones(batch["ids"].shape, bool)


def _init_embed(key):
    return {"table": {"embedding": jax.random.normal(key, (LETTERS, 2 * WIDTH)) * 0.5}}


@functools.lru_cache
def ends_encoder(causal):
    """A transformer of 2 blocks of width 64 over the letters."""
    sizes = {"width": 2 * WIDTH, "layers": 2, "heads": 4, "mlp_width": 4 * WIDTH, "positions": ENDS}
    return encoders.transformer(_init_embed, _embed, causal=causal, **sizes)


@functools.lru_cache
def ends_model(causal, pool):
    """(init, logits): the transformer, pooled by "mean" or "last", and a linear map."""
    model, pool = ends_encoder(causal), {"mean": encoders.mean_pool, "last": encoders.last_pool}[pool]

    def init(key):
        one, two = jax.random.split(key)
        linear = jax.random.normal(two, (2 * WIDTH, 2)) * (2 * WIDTH) ** -0.5
        return {"encoder": model.init(one), "linear": {"kernel": linear}}

    def logits(params, ids):
        out = model.hidden(params["encoder"], {"ids": ids})
        return pool(out["tokens"], out["mask"]) @ params["linear"]["kernel"]

    return init, logits
