"""Heads on frozen features: linear, attention, several blocks and steps (DifFormer), feedback (DifFeed)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.diffusion_features.networks import TABLE, flat, maps, network
from jaxembed import diffusion, encoders

LINEAR, ATTENTION, FORMER, FEED = "linear", "attention", "DifFormer", "DifFeed"
ALL = "all labels"
WIDE = (ATTENTION, FORMER)  # the heads that have a width
HEADS = {
    LINEAR: encoders.mlp,
    ATTENTION: functools.partial(encoders.attention_head, heads=4),
    FORMER: functools.partial(encoders.fusion_head, heads=4),
}


def accuracies(cfg, params, choice, images, labels, known, asked, seed):
    """{head: {column: accuracy on the images ``asked``}}; ``known`` names the labelled images of a column."""
    t, block, _ = choice
    of_one = maps(cfg, params, images, t, seed)[block]
    read = {LINEAR: of_one, ATTENTION: of_one, FORMER: several(cfg, params, images, block, seed)}
    found = {kind: {} for kind in (*read, FEED)}
    for name, rows in known.items():
        for kind, x in read.items():
            steps = cfg.few_steps if kind in WIDE and name != ALL else cfg.head_steps
            found[kind][name] = accuracy(cfg, kind, x, labels, rows, asked, steps, seed)
        given = (cfg, params, images, labels, rows, asked, choice, cfg.head_steps // 2, seed)
        found[FEED][name] = feedback_accuracy(*given)
    return found


def accuracy(cfg, kind, x, labels, known, asked, steps, seed):
    """Accuracy of a head on maps [N, h, w, C], or of a DifFormer on a list of {block: maps}.

    ``known`` and ``asked`` are the rows that it learns, in some steps, and those that it is asked.
    """
    x, key = standard(x, known), jax.random.key(seed)
    if kind == LINEAR:
        x = flat(x, 2)
        params = encoders.init_mlp(key, (x.shape[1], 10))
    elif kind == ATTENTION:
        params = encoders.init_attention_head(key, x.shape[1:], 10, width=cfg.attention, heads=4)
    else:
        shapes = {n: maps.shape[1:] for n, maps in x[0].items()}
        params = encoders.init_fusion_head(key, shapes, len(x), 10, width=cfg.former, heads=4)
    logits = _head(kind)(params, x, labels, draws(cfg, known, seed), steps, asked)
    return float((np.asarray(logits).argmax(axis=1) == labels[asked]).mean())


def standard(x, known):
    """A tree of maps, standardised by the channels of the known rows."""

    def one(x):
        mean, deviation = x[known].mean(axis=(0, 1, 2)), x[known].std(axis=(0, 1, 2)) + 1e-6
        return (x - mean) / deviation

    return jax.tree.map(one, x)


def draws(cfg, known, seed):
    """Rows [steps, 64] that are learned in each step, for the longest training."""
    count = max(cfg.head_steps, cfg.few_steps)
    return np.random.default_rng(seed + 1).choice(known, (count, 64)).astype(np.int32)


def _trained(apply, params, x, labels, draws, steps):
    """Parameters after Adam, whose rate falls along a cosine; each step learns a row of ``draws``."""
    tx = optax.adam(lambda n: 1.5e-3 * (1 + jnp.cos(jnp.pi * n / steps)))

    def loss(params, x, labels):
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), labels).mean()

    def step(n, state):
        (params, opt), rows = state, draws[n]
        slope = jax.grad(loss)(params, jax.tree.map(lambda x: x[rows], x), labels[rows])
        updates, opt = tx.update(slope, opt)
        return optax.apply_updates(params, updates), opt

    return jax.lax.fori_loop(0, steps, step, (params, tx.init(params)))[0]


@functools.lru_cache(maxsize=4)
def _head(kind):
    """The compiled training of a head, and its logits: (params, x, labels, draws, steps, asked) -> logits.

    It reads rows of all images and counts its steps, so that few and many labels share one program.
    """
    apply = HEADS[kind]

    @jax.jit
    def run(params, x, labels, draws, steps, asked):
        found = _trained(apply, params, x, jnp.asarray(labels), draws, steps)
        return apply(found, jax.tree.map(lambda v: v[asked], x))

    return run


def several(cfg, params, images, block, seed):
    """What a DifFormer reads: at each of its steps the chosen block, the middle and a later one."""
    total = len(network(cfg.base).blocks)
    blocks = sorted({block, total // 2 + 1, total - 1})
    found = [maps(cfg, params, images, t, seed) for t in cfg.fused]
    return [{n: flat_maps(step[n]) for n in blocks} for step in found]


def flat_maps(x):
    """Maps of at most 4 x 4 places."""
    return np.asarray(encoders.adaptive_pool(x, min(4, x.shape[1])))


def feedback_accuracy(cfg, params, images, labels, known, asked, choice, steps, seed):
    """Accuracy of a DifFeed: the decoder's maps of a first pass change the encoder of a second one."""
    t, block, _ = choice
    net, noise = network(cfg.base), np.random.default_rng(seed).normal(size=images.shape).astype(np.float32)
    noisy = np.asarray(diffusion.noised(TABLE, images, np.full(len(images), t), noise))
    total, first = len(net.blocks), _first(cfg.base)(params, noisy, jnp.full(len(images), t))
    mirrored = [
        n for n in range(total // 2 + 2, total + 1) if first[n].shape[1] == first[total + 1 - n].shape[1]
    ]
    kept = [n for n in mirrored if total + 1 - n < block]
    channels = {n: (first[n].shape[-1], first[total + 1 - n].shape[-1]) for n in kept}
    one, two = jax.random.split(jax.random.key(seed))
    start = {"feedback": encoders.init_feedback(one, channels)}
    start["head"] = encoders.init_mlp(two, (4 * first[block].shape[-1], 10))
    inputs = {"x": noisy, "maps": {n: np.asarray(first[n]) for n in kept}}
    scale = np.asarray(first[block])[known].std(axis=(0, 1, 2)) + 1e-6
    rows = draws(cfg, known, seed)
    logits = _fed(cfg.base, block, t)(start, params, inputs, labels, rows, steps, asked, scale)
    return float((np.asarray(logits).argmax(axis=1) == labels[asked]).mean())


@functools.lru_cache(maxsize=1)
def _first(base):
    net = network(base)
    numbers = range(1, len(net.blocks) + 1)
    return jax.jit(lambda params, x, t: net.features(params, x, t, numbers))


@functools.lru_cache(maxsize=2)
def _fed(base, block, t):
    """The compiled training of feedback and a linear head on 2 x 2 places, and its logits."""
    net = network(base)

    @jax.jit
    def run(start, params, x, labels, draws, steps, asked, scale):
        def apply(found, batch):
            added = encoders.feedback(found["feedback"], batch["maps"], len(net.blocks))
            times = jnp.full(len(batch["x"]), t)
            second = net.features(params, batch["x"], times, (block,), feedback=added)[block]
            pooled = encoders.adaptive_pool(second / scale, 2)
            return encoders.mlp(found["head"], pooled.reshape(len(pooled), -1))

        found = _trained(apply, start, x, jnp.asarray(labels), draws, steps)
        return apply(found, jax.tree.map(lambda v: v[asked], x))

    return run
