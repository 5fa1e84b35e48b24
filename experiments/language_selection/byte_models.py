"""Byte-level transformers: how they are trained, and what texts cost them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, train

BYTES = 257
BLOCK = 256  # texts that are scored at a time


@functools.cache
def model(width, layers):
    """A byte-level model; heads are of 32."""
    return encoders.language_model(BYTES, width=width, layers=layers, heads=max(1, width // 32))


@functools.cache
def nats(width, layers):
    """``(params, batch, key=None) -> [B]``, the nats per byte of texts."""
    made = model(width, layers)

    def found(params, batch, key=None):
        return losses.sequence_loss(made.logits(params, batch), batch["ids"], batch["mask"])

    return found


@functools.cache
def updates(width, layers, steps, rate, keep):
    """The update of a training run; with ``keep``, of the texts of each batch that RHO takes."""
    found = nats(width, layers)

    def loss_fn(params, batch, key):
        texts = {"ids": batch["ids"], "mask": batch["mask"]}
        if keep is not None:
            now = found(jax.lax.stop_gradient(params), texts)
            rows = data.rho_rows(now, batch["conditional"], keep)
            texts = jax.tree.map(lambda x: x[rows], texts)
        return jnp.mean(found(params, texts)), {}

    schedule = optax.warmup_cosine_decay_schedule(0, rate, max(1, steps // 10), steps, rate / 10)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.95, weight_decay=0))
    return train.gradient_update(loss_fn, tx)


def trained(cfg, texts, steps, seed, *, start=None, width=None, conditional=None):
    """Params after ``steps`` on texts, a batch of :func:`jaxembed.data.byte_batch`.

    With ``conditional``, the losses [N] of the texts under a model of the target, each batch is the part of
    a batch ``tau`` times as large that RHO takes.
    """
    width, keep, size = width or cfg.width, None, min(cfg.batch_size, len(texts["ids"]))
    if conditional is not None:
        texts, keep = texts | {"conditional": conditional.astype(np.float32)}, size
        size = min(size * max(cfg.taus), len(texts["ids"]))
    made = model(width, cfg.layers)
    return train.fit(
        init=made.init if start is None else lambda key: jax.tree.map(jnp.copy, start),
        update=updates(width, cfg.layers, steps, cfg.learning_rate, keep),
        batches=data.batches(texts, size, seed=seed),
        steps=steps,
        key=seed,
        mesh=train.make_mesh(1),
        progress=False,
    ).params


def scored(cfg, params, texts, width=None):
    """Nats per byte of texts, float64 [N]."""
    run, rows = _compiled(width or cfg.width, cfg.layers), len(texts["ids"])
    fill = -rows % BLOCK
    padded = {k: np.concatenate([x, np.zeros((fill, *x.shape[1:]), x.dtype)]) for k, x in texts.items()}
    blocks = [{k: x[n : n + BLOCK] for k, x in padded.items()} for n in range(0, rows + fill, BLOCK)]
    return np.concatenate([np.asarray(run(params, block), np.float64) for block in blocks])[:rows]


@functools.cache
def _compiled(width, layers):
    return jax.jit(nats(width, layers))
