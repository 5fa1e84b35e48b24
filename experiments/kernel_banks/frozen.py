"""One convolution, ReLU, means over places: its filters frozen before a ridge classifier, or trained on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.kernel_banks import banks
from experiments.kernel_banks.banks import BANKS, PLACES
from jaxembed import data, losses, train, weights

SCATTERED, PIXELS = "scattering", "pixels"
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the ridge, in mean variances of the features
CHUNK = 200  # pictures that are scattered at once: each takes some megabytes
ENOUGH, EVERY = 0.9, 5  # of the training set, looked at each so many steps


@jax.jit
def features(kernel, bias, images):
    """Means of a layer's outputs over 4 x 4 places, [B, 16 K]."""
    x = jax.nn.relu(banks.maps(kernel, bias, images))
    side = x.shape[1] // PLACES
    x = x.reshape(len(x), PLACES, side, PLACES, side, -1).mean(axis=(2, 4))
    return x.reshape(len(x), -1)


def other_features(name, images):
    """Features without a bank: scattering, or the pixels."""
    if name == PIXELS:
        return images.reshape(len(images), -1)
    scales = 1 if images.shape[1] == 8 else 2
    parts = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
    return jnp.concatenate([weights.scattering(x, scales).reshape(len(x), -1) for x in parts])


@jax.jit
def ridge(known, labels, strength):
    """Coefficients [D + 1, 10] of one-hot labels on features, the last row the bias."""
    mean = jnp.mean(known, axis=0)
    x, y = known - mean, jax.nn.one_hot(labels, 10)
    gram = x @ x.T  # as many equations as pictures
    penalty = strength * jnp.mean(jnp.sum(x**2, axis=1)) + 1e-9
    chosen = x.T @ jnp.linalg.solve(gram + penalty * jnp.eye(len(x)), y - y.mean(axis=0))
    return jnp.concatenate([chosen, (y.mean(axis=0) - mean @ chosen)[None]])


@jax.jit
def right(coefficients, found, labels):
    scores = found @ coefficients[:-1] + coefficients[-1]
    return jnp.mean(jnp.argmax(scores, axis=1) == labels)


def accuracies(cfg, task):
    """{(bank, labels): accuracy of each seed}. The strength is chosen on a fifth of the labels."""
    found = {}
    for name in (*BANKS, SCATTERED, PIXELS):
        same = None if name in BANKS else other_features(name, task.held["images"])
        for seed in range(cfg.seeds):
            for count in cfg.labels:
                few = banks.labelled(task, seed, count)
                make = maker(cfg, name, seed, count)
                known = make(few["images"])
                held = make(task.held["images"]) if same is None else same
                accuracy = classified(known, few["labels"], held, task.held["labels"])
                found.setdefault((name, count), []).append(accuracy)
    return found


def maker(cfg, name, seed, count):
    """The function from pictures to features of an arm."""
    if name not in BANKS:
        return functools.partial(other_features, name)
    return functools.partial(features, *banks.bank_of(cfg, name, seed, count))


def classified(known, labels, held, truth):
    """Accuracy of a ridge classifier on held pictures."""
    cut = len(labels) - max(2, len(labels) // 5)
    tried = [right(ridge(known[:cut], labels[:cut], s), known[cut:], labels[cut:]) for s in STRENGTHS]
    best = STRENGTHS[len(tried) - 1 - int(np.argmax(np.array(tried)[::-1]))]  # of equals the strongest
    return float(right(ridge(known, labels, best), held, truth))


# As a start


def logits_of(params, images):
    return features(params["kernel"], params["bias"], images) @ params["dense"] + params["last"]


@functools.cache
def update_of(rate):
    def loss_fn(params, batch, key):
        loss = losses.softmax_loss(logits_of(params, batch["images"]), positives=batch["labels"])
        return jnp.mean(loss), {}

    return train.gradient_update(loss_fn, optax.sgd(rate, momentum=0.9))


@jax.jit
def guessed(params, images, labels):
    return jnp.mean(jnp.argmax(logits_of(params, images), axis=1) == labels)


def trained(cfg, task):
    """Steps until 90 % of the training set is right, and accuracy at the end: {bank: values of the seeds}."""
    steps, accuracy = {}, {}
    for name in BANKS:
        for seed in range(cfg.seeds):
            known = banks.labelled(task, seed, max(cfg.labels))
            kernel, bias = banks.bank_of(cfg, name, seed, max(cfg.labels))
            start = {"kernel": kernel, "bias": bias, "last": jnp.zeros(10)}
            start["dense"] = jnp.zeros((PLACES * PLACES * len(bias), 10))
            reached, end = followed(cfg, start, known, seed)
            steps.setdefault(name, []).append(reached)
            accuracy.setdefault(name, []).append(
                float(guessed(end, task.held["images"], task.held["labels"]))
            )
    return steps, accuracy


def followed(cfg, start, known, seed):
    """Trains a net; returns the step at which 90 % was right, the last if it never was, and its end."""
    seen = {}

    def look(state):
        seen[int(state.step)] = share = float(guessed(state.params, known["images"], known["labels"]))
        return {"known": share}

    batches = data.batches(known, min(50, len(known["labels"])), seed=seed, process=0, processes=1)
    given = {"update": update_of(cfg.rate), "mesh": train.make_mesh(1), "key": seed, "evaluate": look}
    given |= {"evaluate_every": EVERY, "progress": False}
    end = train.fit(init=lambda key: start, batches=batches, steps=cfg.steps, **given)
    return min([step for step, share in seen.items() if share >= ENOUGH], default=cfg.steps), end.params
