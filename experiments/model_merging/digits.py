"""Digits of scikit-learn as three tasks of one encoder: data, training of all seeds at once, measures."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.model_merging.arms import PROPORTIONAL, UNIFORM
from jaxembed import encoders, losses, metrics, train, weights
from jaxembed.arrays import unit

TASKS = {"shared": ("digit", "parity", "third"), "independent": ("digit", "turn", "brightness")}
SIZES = (800, 100, 100)  # images of each task; what is left is known (297) and asked (500)
KNOWN = 297
ALONG = "gradients along joint training"
LAYERS = (64, 128, 64, 32)


class Digits(NamedTuple):
    """One kind of tasks for all seeds.

    Attributes:
        images: float32 [1797, S, 64], in an order of its own for each seed.
        labels: int32 [3, 1797, S], of each task for every image.
        rows: for each task the rows of its own images, the last ``probe`` of them its probe.
    """

    images: np.ndarray
    labels: np.ndarray
    rows: tuple


def read(kind, seeds):
    """The digits with the labels of three tasks; "independent" turns and darkens each image at random."""
    from sklearn.datasets import load_digits

    known = load_digits()
    orders = np.stack([np.random.default_rng(s).permutation(len(known.target)) for s in range(seeds)], axis=1)
    images, digit = known.images.astype(np.float32)[orders] / 16, known.target.astype(np.int32)[orders]
    labels = [digit, digit % 2, digit // 3]
    if kind == "independent":
        rng = np.random.default_rng(seeds)
        turn, shade = rng.integers(0, 4, digit.shape), rng.integers(0, 3, digit.shape)
        turned = np.stack([np.rot90(images, k, axes=(2, 3)) for k in range(4)])
        images = np.take_along_axis(turned, turn[None, :, :, None, None], axis=0)[0]
        images = 0.6 * images + 0.2 * shade.astype(np.float32)[:, :, None, None]
        labels = [digit, turn, shade]
    ends = np.cumsum([0, *SIZES])
    rows = tuple(np.arange(*pair) for pair in zip(ends, ends[1:], strict=False))
    return Digits(images.reshape(*digit.shape, 64), np.stack(labels).astype(np.int32), rows)


def init(key):
    return encoders.init_mlp(key, LAYERS)


encode = encoders.mlp


def task_loss(params, batch, key=None):
    """Supervised InfoNCE of a batch {"x": [B, 64], "y": [B]} of one task."""
    vectors = encode(params, batch["x"])
    return losses.info_nce(vectors, vectors, temperature=0.1, **losses.label_pairs(batch["y"])).mean(), {}


def all_seeds(params, batch, key):
    """The sum of the loss over models [S, ...] and batches [B, S, ...]."""
    both = jax.vmap(lambda p, x, y: task_loss(p, {"x": x, "y": y})[0], (0, 1, 1))
    return jnp.sum(both(params, batch["x"], batch["y"])), {}


@functools.cache
def update(rate):
    return train.gradient_update(all_seeds, optax.adam(rate))


class Batches:
    """Batches of one task each: step t draws the task by its share, then images of it, for each seed."""

    def __init__(self, digits, shares, size, probe, seed):
        self.digits, self.shares, self.size, self.seed = digits, np.asarray(shares), size, seed
        self.rows = [rows[: len(rows) - probe] for rows in digits.rows]

    def __getitem__(self, t):
        rng = np.random.default_rng((self.seed, t))
        task = rng.choice(len(self.shares), p=self.shares / self.shares.sum())
        chosen = rng.permutation(self.rows[task])[: self.size]
        return {"x": self.digits.images[chosen], "y": self.digits.labels[task, chosen]}


def trained(start, batches, steps, rate, evaluate=None, every=None):
    """Models [S, ...] after some steps from others."""
    state = train.fit(
        init=lambda key: jax.tree.map(jnp.copy, start),
        update=update(rate),
        batches=batches,
        steps=steps,
        mesh=train.make_mesh(1),
        evaluate=evaluate,
        evaluate_every=every,
    )
    return state.params


def models(cfg, digits):
    """What all seeds train: (start, [model of each task], {joint arm: model}, {moment: cosines [S, 3]})."""
    size, steps, rate = cfg.batch_size, cfg.steps, cfg.learning_rate
    parts = {
        n: Batches(digits, x, size, cfg.probe, i)
        for i, (n, x) in enumerate(zip("012", np.eye(3), strict=True))
    }
    start = jax.vmap(init)(jax.random.split(jax.random.key(0), digits.images.shape[1]))
    start = trained(start, parts["0"], cfg.warm, rate)
    alone = [trained(start, batches, steps, rate) for batches in parts.values()]
    looked, seen = [batches[0] for batches in parts.values()], []

    def watch(state):
        seen.append(gradient_cosines(state.params, looked))
        return {}

    joint = {}
    for i, (arm, shares) in enumerate({PROPORTIONAL: SIZES, UNIFORM: np.ones(3)}.items()):
        mixed = Batches(digits, shares, size, 0, 3 + i)
        joint[arm] = trained(start, mixed, 3 * steps, rate, evaluate=watch, every=max(1, steps // 2))
    paths = {"gradients at the start": gradient_cosines(start, looked)}
    return start, alone, joint, paths | {ALONG: np.mean(seen, axis=0)}


def fishers(digits, seed, alone, cfg, count=16):
    """The Fisher diagonals of one seed's models of single tasks, from small batches of their own data."""
    found = []
    for task, (model, rows) in enumerate(zip(alone, digits.rows, strict=True)):
        own = rows[: len(rows) - cfg.probe]
        batches = [
            {"x": digits.images[r, seed], "y": digits.labels[task, r, seed]}
            for r in np.split(own[: len(own) // count * count][: 4 * count], min(4, len(own) // count))
        ]
        found.append(weights.fisher_diagonal(task_loss, model, batches))
    return found


def probes(digits, seed, size):
    """The probe of one seed: a batch for each task, its last ``size`` images."""
    chosen = [(task, rows[len(rows) - size :]) for task, rows in enumerate(digits.rows)]
    return [{"x": digits.images[r, seed], "y": digits.labels[task, r, seed]} for task, r in chosen]


run = jax.jit(lambda params, x: unit(encode(params, x)))


def measured(params, digits, seed, validate):
    """5-NN accuracy and R-precision of each task on images that no task has: {"5-NN": [3], ...}."""
    known, asked = np.split(np.arange(sum(SIZES), len(digits.images)), [KNOWN])
    if validate:
        known, asked = np.array_split(known, 2)
    vectors = [np.asarray(run(params, digits.images[rows, seed])) for rows in (known, asked)]
    found = {"5-NN": [], "R-precision": []}
    for labels in digits.labels[:, :, seed]:
        near = metrics.nearest_accuracy(vectors[0], labels[known], vectors[1], labels[asked], k=5)
        found["5-NN"].append(near)
        found["R-precision"].append(metrics.r_precision(vectors[1], labels[asked]))
    return found


@jax.jit
def gradient_cosines(params, batches):
    """Cosines [S, 3] between the gradients of three tasks, on a batch of each, in the order 01, 02, 12."""
    found = [jax.grad(lambda p, b=b: all_seeds(p, b, None)[0])(params) for b in batches]
    return cosines(found)


def cosines(trees):
    """Cosines [S, 3] between three trees [S, ...], in the order 01, 02, 12."""
    flat = [jnp.concatenate([x.reshape(len(x), -1) for x in jax.tree.leaves(t)], axis=1) for t in trees]
    a, b, c = map(unit, flat)
    return jnp.stack([jnp.sum(x * y, axis=1) for x, y in ((a, b), (a, c), (b, c))], axis=1)
