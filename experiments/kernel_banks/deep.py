"""A plain net of many layers without norms, from starts of several scales."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.kernel_banks import banks
from jaxembed import data, encoders, losses, train, weights

SMALL, HE, ORTHOGONAL, LSUV = "N(0, 0.01^2)", "He", "orthogonal", "LSUV"
DELTA = "delta-orthogonal"
WIDTH, EARLY = 12, 4  # channels; layers before the maps are halved
LEARNT = 0.8  # accuracy from which a net counts as trained
ROOT = math.sqrt(2)
STARTS = {
    SMALL: jax.nn.initializers.normal(0.01),
    HE: jax.nn.initializers.he_normal(),
    ORTHOGONAL: jax.nn.initializers.orthogonal(ROOT),
    LSUV: jax.nn.initializers.orthogonal(),
    DELTA: jax.nn.initializers.delta_orthogonal(ROOT),
}


@functools.cache
def net_of(depth):
    early = min(EARLY, depth - 1)
    layers = [encoders.conv(WIDTH, stride=2 if i == early else 1) for i in range(depth)]
    return encoders.convnet([layers], norm=None, width=10, inputs=1)


def start_of(cfg, name, seed, images):
    """Parameters of the net, its convolutions drawn by one initialiser."""
    params = net_of(cfg.depth).init(jax.random.key(seed))
    params = weights.redraw_kernels(jax.random.key(seed), params, STARTS[name])
    if name != LSUV:
        return params
    paths = [f"stages/stage_0/block_{i}/kernel" for i in range(cfg.depth)]
    return weights.unit_variance(params, paths, functools.partial(outputs, cfg.depth, images))


def outputs(depth, images, params):
    """What every convolution gives, before its ReLU."""
    x, found = images, []
    for i in range(depth):
        kernel = params["stages"]["stage_0"][f"block_{i}"]["kernel"]
        found.append(encoders.convolve(kernel, x, stride=2 if i == min(EARLY, depth - 1) else 1))
        x = jax.nn.relu(found[-1])
    return found


@functools.cache
def update_of(depth, rate):
    net = net_of(depth)

    def loss_fn(params, batch, key):
        loss = losses.softmax_loss(net.encode(params, batch["images"]), positives=batch["labels"])
        return jnp.mean(loss), {}

    return train.gradient_update(loss_fn, optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate, 0.9)))


def accuracies(cfg):
    """{start: accuracy on held digits of each seed}."""
    task = banks.task_of("digits", cfg.validate)
    net, found = net_of(cfg.depth), {}
    for name in STARTS:
        for seed in range(cfg.deep_seeds):
            params = start_of(cfg, name, seed, jnp.asarray(task.known["images"][:256]))
            batches = data.batches(task.known, 64, seed=seed, process=0, processes=1)
            given = {"mesh": train.make_mesh(1), "key": seed, "progress": False}
            update = update_of(cfg.depth, cfg.deep_rate)
            end = train.fit(
                init=lambda key, params=params: params,
                update=update,
                batches=batches,
                steps=cfg.deep_steps,
                **given,
            )
            guesses = np.argmax(net.encode(end.params, task.held["images"]), axis=1)
            found.setdefault(name, []).append(float(np.mean(guesses == task.held["labels"])))
    return found
