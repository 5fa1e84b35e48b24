"""Maps from codes to answers: by least squares, and by a network of one hidden layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import encoders

LINEAR, NETWORK = NAMES = ("linear map", "network")


def fits(cfg, seed):
    """{name: (codes [N, D], answers [N, 3]) -> (codes -> answers)}."""
    return {LINEAR: linear, NETWORK: functools.partial(network, seed, cfg.hidden, cfg.steps)}


def linear(x, y):
    """Least squares with a small ridge."""

    def widened(x):
        return np.concatenate([x, np.ones((len(x), 1))], axis=1)

    kernel = np.linalg.solve(widened(x).T @ widened(x) + 1e-3 * np.eye(x.shape[1] + 1), widened(x).T @ y)
    return lambda x: widened(x) @ kernel


def network(seed, hidden, steps, x, y):
    """A network for each answer, on codes and answers of mean 0 and variance 1, by Adam."""
    means = [v.mean(axis=0) for v in (x, y)]
    scales = [np.where(v.std(axis=0) > 0, v.std(axis=0), 1) for v in (x, y)]
    keys = jax.random.split(jax.random.key(seed), y.shape[1])
    start = jax.vmap(lambda key: encoders.init_mlp(key, (x.shape[1], hidden, 1)))(keys)
    given = [jnp.asarray((v - m) / s, jnp.float32) for v, m, s in zip((x, y), means, scales, strict=True)]
    params = _learned(start, *given, steps)

    def predict(x):
        x = jnp.asarray((x - means[0]) / scales[0], jnp.float32)
        return np.asarray(_answers(params, x)) * scales[1] + means[1]

    return predict


def _answers(params, x):
    return jax.vmap(lambda p: encoders.mlp(p, x)[:, 0], out_axes=1)(params)


@functools.partial(jax.jit, static_argnums=3)
def _learned(params, x, y, steps):
    tx = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    def step(_, state):
        slope = jax.grad(lambda p: jnp.sum(jnp.mean((_answers(p, x) - y) ** 2, axis=0)))(state[0])
        updates, memory = tx.update(slope, state[1])
        return optax.apply_updates(state[0], updates), memory

    return jax.lax.fori_loop(0, steps, step, (params, tx.init(params)))[0]
