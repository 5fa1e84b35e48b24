"""SmolLM2 as the prior: what texts cost it, and tuning by matrices of low rank."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, recipes, train, weights

RANK, PATTERN, RATE, ROWS = 8, r"attention/(query|value)/kernel", 1e-3, 8


def strings(pieces):
    return [x.tobytes().decode("ascii") for x in pieces]


def scored(cfg, model, pieces):
    """Nats per token of pieces uint8 [N, length], float64 [N]."""
    return recipes.score_texts(model, strings(pieces), batch_size=ROWS, progress=True).astype(np.float64)


def tuned(cfg, model, pieces, seed):
    """The model after one epoch on the target; only matrices of rank 8 are trained."""
    batch = model.tokenize(strings(pieces))
    nats = recipes.text_losses(model.hidden)

    def init(key):
        return weights.init_low_rank(key, model.params, PATTERN, RANK), jax.tree.map(jnp.copy, model.params)

    def loss_fn(adapters, batch, key, frozen):  # which travels along, and is no constant of the program
        return jnp.mean(nats(weights.low_rank(frozen, adapters), batch)), ({}, frozen)

    size = min(ROWS, len(pieces))
    adapters = train.fit(
        init=init,
        loss_fn=loss_fn,
        tx=optax.adam(RATE),
        batches=data.batches(batch, size, seed=seed),
        steps=max(1, len(pieces) // size),
        key=seed,
        mesh=train.make_mesh(1),
        progress=False,
    ).params
    return dataclasses.replace(model, params=weights.low_rank(model.params, adapters))
