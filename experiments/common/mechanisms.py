"""Two small tasks with known answers: a rare token among noise, and a question about both ends of a text."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import encoders, train

KEYS, NOISE, LENGTH, WIDTH = 20, 500, 32, 32
LETTERS, ENDS = 8, 12


def needles(rng, size):
    """Texts of 31 noise tokens and one of 20 keys, which is the label: (ids [size, 32], labels [size])."""
    ids = KEYS + rng.integers(NOISE, size=(size, LENGTH))
    labels = rng.integers(KEYS, size=size)
    ids[np.arange(size), rng.integers(LENGTH, size=size)] = labels
    return ids.astype(np.int32), labels.astype(np.int32)


def both_ends(rng, size):
    """Texts of 12 letters; the label says whether the first is the last: half of them (ids, labels)."""
    ids = rng.integers(LETTERS, size=(size, ENDS))
    labels = rng.integers(2, size=size)
    ids[:, -1] = (ids[:, 0] + (1 - labels) * rng.integers(1, LETTERS, size=size)) % LETTERS
    return ids.astype(np.int32), labels.astype(np.int32)


def learn(init, logits, draw, *, seed, steps, size=128, rate=2e-3):
    """Trains on fresh batches of a task; returns the accuracy on 2,000 fresh texts."""
    rng = np.random.default_rng((1, seed))
    given = [dict(zip(("ids", "labels"), draw(rng, size), strict=True)) for _ in range(steps)]
    state = train.fit(
        init=init, update=_update(logits, rate), batches=given, steps=steps, key=seed, mesh=train.make_mesh(1)
    )
    ids, labels = draw(np.random.default_rng((2, seed)), 2000)
    return float(np.mean(np.asarray(jax.jit(logits)(state.params, ids)).argmax(axis=1) == labels))


@functools.lru_cache
def _update(logits, rate):
    def loss_fn(params, batch, key):
        found = logits(params, batch["ids"])
        return optax.softmax_cross_entropy_with_integer_labels(found, batch["labels"]).mean(), {}

    return train.gradient_update(loss_fn, optax.adam(rate))


@functools.lru_cache
def needle_model(kind):
    """(init, logits): frozen random token vectors, a pooling, a linear map.

    "mean" has no block, "mean, then block" has one behind the mean, "latent" one before it.
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
