"""Heads on frozen features: linear, attention, several blocks and steps (DifFormer), feedback (DifFeed)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.diffusion_features.networks import TABLE, flat, maps, network
from jaxembed import diffusion, encoders

LINEAR, ATTENTION, FORMER, FEED = "linear", "attention", "DifFormer", "DifFeed"
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
            parts = [jax.tree.map(lambda v, r=r: v[r], x) for r in (rows, asked)]
            given = (parts[0], labels[rows], parts[1], labels[asked])
            found[kind][name] = accuracy(cfg, kind, *given, seed)
        found[FEED][name] = feedback_accuracy(cfg, params, images, labels, rows, asked, choice, seed)
    return found


def accuracy(cfg, kind, known, labels, asked, truth, seed):
    """Accuracy of a head on maps [N, h, w, C], or of a DifFormer on a list of {block: maps}."""
    known, asked = standard(known, asked)
    key = jax.random.key(seed)
    if kind == LINEAR:
        known, asked = (flat(m, 2) for m in (known, asked))
        params = encoders.init_mlp(key, (known.shape[1], 10))
    elif kind == ATTENTION:
        params = encoders.init_attention_head(key, known.shape[1:], 10, width=cfg.head, heads=4)
    else:
        shapes = {n: x.shape[1:] for n, x in known[0].items()}
        params = encoders.init_fusion_head(key, shapes, len(known), 10, width=cfg.head, heads=4)
    keys = jax.random.split(jax.random.key(seed + 1), cfg.head_steps)
    logits = _head(kind)(params, known, labels, keys, asked)
    return float((np.asarray(logits).argmax(axis=1) == truth).mean())


def standard(known, asked):
    """Both trees of maps, standardised by the channels of the first."""

    def one(x, other):
        mean, deviation = x.mean(axis=(0, 1, 2)), x.std(axis=(0, 1, 2)) + 1e-6
        return (x - mean) / deviation, (other - mean) / deviation

    leaves, tree = jax.tree.flatten(known)
    both = [one(x, y) for x, y in zip(leaves, jax.tree.leaves(asked), strict=True)]
    return [jax.tree.unflatten(tree, [pair[n] for pair in both]) for n in range(2)]


def _trained(apply, params, known, labels, keys):
    """Parameters after Adam, one step of 64 rows for each key."""
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, len(keys)))

    def loss(params, x, labels):
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), labels).mean()

    def step(state, key):
        params, opt = state
        rows = jax.random.randint(key, (min(64, len(labels)),), 0, len(labels))
        slope = jax.grad(loss)(params, jax.tree.map(lambda x: x[rows], known), labels[rows])
        updates, opt = tx.update(slope, opt)
        return (optax.apply_updates(params, updates), opt), None

    return jax.lax.scan(step, (params, tx.init(params)), keys)[0][0]


@functools.lru_cache(maxsize=4)
def _head(kind):
    """The compiled training of a head, and its logits: (params, known, labels, keys, asked) -> logits."""
    apply = HEADS[kind]

    @jax.jit
    def run(params, known, labels, keys, asked):
        return apply(_trained(apply, params, known, labels, keys), asked)

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


def feedback_accuracy(cfg, params, images, labels, known, asked, choice, seed):
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
    keys = jax.random.split(jax.random.key(seed + 1), cfg.fed_steps)
    rows = [jax.tree.map(lambda v, r=r: v[r], inputs) for r in (known, asked)]
    logits = _fed(cfg.base, block, t)(start, params, rows[0], labels[known], keys, rows[1], scale)
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
    def run(start, params, known, labels, keys, asked, scale):
        def apply(found, batch):
            added = encoders.feedback(found["feedback"], batch["maps"], len(net.blocks))
            times = jnp.full(len(batch["x"]), t)
            second = net.features(params, batch["x"], times, (block,), feedback=added)[block]
            pooled = encoders.adaptive_pool(second / scale, 2)
            return encoders.mlp(found["head"], pooled.reshape(len(pooled), -1))

        return apply(_trained(apply, start, known, labels, keys), asked)

    return run
