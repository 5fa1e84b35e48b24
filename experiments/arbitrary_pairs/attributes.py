"""Classes that are lists of attributes: the right gate of a pair is known, the attributes that both share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import encoders, losses, metrics, train

ATTRIBUTES, CLASSES, HELD_OUT = 12, 40, 0.2


def problem(seed):
    """Attributes bool [C, A], all classes different, and bool [C, C]: which pairs are trained."""
    rng = np.random.default_rng(seed)
    numbers = rng.choice(2**ATTRIBUTES, CLASSES, replace=False)
    held = np.triu(rng.random((CLASSES, CLASSES)) < HELD_OUT, 1)
    return numbers[:, None] >> np.arange(ATTRIBUTES) & 1 == 1, ~(held | held.T)


def gates(cfg, seed):
    """Gates [C, C, A] before and after training; the vectors are attributes of -1 and 1 with noise."""
    has, trained = problem(seed)
    signs, weights = jnp.where(has, 1.0, -1.0), jnp.asarray(trained, jnp.float32)

    def init(key):
        return encoders.init_pair_gate(key, CLASSES, ATTRIBUTES, inputs=64, hidden=128)

    def loss_fn(params, batch, key):
        class_key, noise_key, partner_key = jax.random.split(key, 3)
        labels = jax.random.randint(class_key, (cfg.batch_size,), 0, CLASSES)
        z = signs[labels] + 0.5 * jax.random.normal(noise_key, (cfg.batch_size, ATTRIBUTES))
        partners = losses.sample_partners(partner_key, labels, CLASSES, weights=weights)
        gate = encoders.pair_gate(params, labels, partners)
        named = {"labels": labels, "partners": partners, "temperature": cfg.temperature}
        return losses.arbitrary_pair_loss(z, z, gate, **named), {}

    places = [{"step": np.zeros(1)}] * cfg.attribute_steps  # every batch is drawn from the key of its step
    run = {"tx": optax.adam(1e-3), "batches": places, "mesh": train.make_mesh(1), "key": seed}
    first, second = (x.ravel() for x in np.indices((CLASSES, CLASSES)))
    read = jax.jit(functools.partial(encoders.pair_gate, first=first, second=second))
    found = []
    for steps in (0, cfg.attribute_steps):
        params = train.fit(init=init, loss_fn=loss_fn, steps=steps, **run).params
        found.append(np.asarray(read(params)).reshape(CLASSES, CLASSES, ATTRIBUTES))
    return found


def agreement(gate, has, chosen):
    """AUC of gates for the shared attributes of a pair, the mean over the chosen pairs of two classes."""
    found = []
    for a, b in np.argwhere(np.triu(chosen, 1)):
        shared = has[a] == has[b]
        if 0 < shared.sum() < ATTRIBUTES:
            found.append(metrics.auc(shared, gate[a, b]))
    return float(np.mean(found))


def measure(cfg):
    """Rows of the table: gates as drawn and trained, for pairs that were trained and for the others."""
    runs = {"as drawn": [], "trained": [], "trained, other pairs": []}
    for seed in range(cfg.seeds):
        has, trained = problem(seed)
        before, after = gates(cfg, seed)
        runs["as drawn"].append(agreement(before, has, trained))
        runs["trained"].append(agreement(after, has, trained))
        runs["trained, other pairs"].append(agreement(after, has, ~trained))
    return runs
