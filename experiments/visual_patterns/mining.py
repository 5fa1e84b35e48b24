"""The encoder, patterns of its channels, what they tell, and the patch miner beside them."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.visual_patterns import glyphs
from jaxembed import data, encoders, losses, metrics, train, vectors

CHANNELS = 24  # of a net that is tuned on classes; of the net of glyphs one for each of them
PATCHES, PATCH, ACTIVE = 64, 16, 5  # of a picture; their side in pixels; channels that each one marks


@functools.cache
def net(classes, digits=False, direct=False):
    """The net of glyphs, or a shallower one of digits; ``direct``: its channels are the classes."""
    stages = [16, CHANNELS]
    if not digits:  # a place sees 13 pixels, a glyph and a little more
        first = encoders.conv(16, kernel=5, stride=2)
        last = encoders.conv(classes if direct else CHANNELS, kernel=1)
        stages = [[first], [encoders.conv(16)], [encoders.conv(32, stride=2)], [last]]
    return encoders.convnet(stages, norm=None, pool="max", width=None if direct else classes, inputs=1)


@functools.cache
def update(rate, steps, *which):
    encode, direct = net(*which).encode, which[-1]

    def loss_fn(params, batch, key):
        logits = encode(params, batch["images"])
        logits = 3 * (logits - 1) if direct else logits  # a peak of 1 says that the glyph may be there
        return losses.one_vs_rest_loss(logits, batch["targets"]).mean(), {}

    return train.gradient_update(loss_fn, optax.adam(optax.cosine_decay_schedule(rate, steps)))


def trained(images, targets, cfg, seed, classes, digits=False, direct=False):
    """Parameters of an encoder whose channels, by their peaks, tell the targets one versus the rest."""
    return train.fit(
        init=net(classes, digits, direct).init,
        update=update(cfg.learning_rate, cfg.steps, classes, digits, direct),
        batches=data.batches({"images": images, "targets": targets}, cfg.batch_size, seed=seed),
        steps=cfg.steps,
        key=seed,
        mesh=train.make_mesh(1),
    ).params


@functools.partial(jax.jit, static_argnames=("classes", "digits", "direct"))
def last_maps(params, images, classes, digits=False, direct=False):
    return net(classes, digits, direct).maps(params, images)[-1]


def mine(maps, labels, cfg, *, size, radius, top, candidates=None):
    """Patterns of all classes, from all channels unless candidates are given."""
    peaks = vectors.channel_peaks(maps)
    limits = vectors.channel_thresholds(peaks, labels, quantile=cfg.quantile)
    classes, channels = limits.shape
    every = np.tile(np.arange(channels), (classes, 1)) if candidates is None else candidates
    options = {"min_support": cfg.min_support, "min_precision": cfg.min_precision, "top": top}
    return vectors.mine_patterns(maps, labels, limits, every, size=size, radius=radius, **options)


def features(maps, patterns, radius):
    """Responses [B, P] up to 2, where a pattern is sure to fire."""
    return np.minimum(np.asarray(vectors.pattern_features(maps, patterns, radius=radius)), 2)


def accuracy(known, labels, asked, truth):
    """That of a linear classifier on some features; without any feature it is chance."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    some = known.std(axis=0) > 0
    if not some.any():
        return float(np.mean(truth == 0))
    scale = StandardScaler().fit(known[:, some])
    found = LogisticRegression(C=1.0, max_iter=300).fit(scale.transform(known[:, some]), labels)
    return float(np.mean(found.predict(scale.transform(asked[:, some])) == truth))


def held_out(patterns, maps, labels, radius):
    """Support and precision of patterns on other pictures, means over those that were found."""
    fired = np.asarray(vectors.pattern_features(maps, patterns, radius=radius)) > 1
    classes, count = patterns.valid.shape
    share = np.stack([fired[labels == c].mean(axis=0) for c in range(classes)]).reshape(
        classes, classes, count
    )
    own = np.stack([share[c, c] for c in range(classes)])
    valid = np.asarray(patterns.valid) & (share.sum(axis=0) > 0)
    precision = own / np.maximum(share.sum(axis=0), 1e-9)
    if not valid.any():
        return {"support": None, "precision": None}
    return {"support": float(own[valid].mean()), "precision": float(precision[valid].mean())}


@functools.partial(jax.jit, static_argnames=("radius", "budget"))
def proposals(maps, patterns, *, radius, budget, field):
    """The best boxes of pictures, [B, budget, 4], with scores; minus infinity where nothing fires."""
    boxes, peaks = vectors.channel_boxes(maps, patterns, glyphs.SIZE, field=field, radius=radius, first=0.5)
    scores = jnp.where(peaks > 1, peaks * patterns.precision.reshape(-1), -jnp.inf)

    def best(boxes, scores):
        rows, kept = metrics.nms(boxes, scores, limit=0.7, most=budget, where=scores > -jnp.inf)
        return boxes[rows], jnp.where(kept, scores[rows], -jnp.inf)

    return jax.vmap(best)(boxes, scores)


def random_boxes(seed, count, budget):
    """Boxes of the size of a pair, across or upright, anywhere."""
    rng = np.random.default_rng(seed)
    upright = rng.random((count, budget, 1)) < 0.5
    side = np.where(upright, [glyphs.SIDE, 2 * glyphs.SIDE], [2 * glyphs.SIDE, glyphs.SIDE])
    corner = rng.random((count, budget, 2)) * (glyphs.SIZE - side)
    return np.concatenate([corner, corner + side], axis=-1)


# The baseline: association rules of sampled patches


@functools.partial(jax.jit, static_argnames=("classes",))
def _patch_peaks(params, images, corners, classes):
    """Peaks [B * PATCHES, K] of patches, each run through the net by itself."""

    def cut(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (PATCH, PATCH, 1))

    patches = jax.vmap(lambda image, places: jax.vmap(lambda place: cut(image, place))(places))(
        images, corners
    )
    maps = net(classes, False, True).maps(params, patches.reshape(-1, PATCH, PATCH, 1))[-1]
    return vectors.channel_peaks(maps)


def patch_transactions(params, images, classes, seed, chunk=100):
    """Bool [N, PATCHES, K]: the strongest channels of patches at random places."""
    corners = np.random.default_rng(seed).integers(
        images.shape[1] - PATCH + 1, size=(len(images), PATCHES, 2)
    )
    found = []
    for start in range(0, len(images), chunk):
        peaks = _patch_peaks(params, images[start : start + chunk], corners[start : start + chunk], classes)
        found.append(vectors.top_active(peaks, ACTIVE).reshape(-1, PATCHES, peaks.shape[-1]))
    return jnp.concatenate(found)


def patch_rules(transactions, labels, classes, cfg, size, top):
    """Rules of patches as transactions; a pair fills a small part of a picture, so their support is small."""
    count, patches, channels = transactions.shape
    return vectors.association_rules(
        transactions.reshape(count * patches, channels),
        np.repeat(labels, patches),
        np.tile(np.arange(channels), (classes, 1)),
        size=size,
        top=top,
        min_support=cfg.min_support / 10,
        min_precision=cfg.min_precision,
    )


def patch_features(transactions, rules):
    """Whether each rule holds on any patch of a picture, [N, P]."""
    items, valid = np.asarray(rules.items), np.asarray(rules.valid).reshape(-1)
    items = items.reshape(-1, items.shape[-1])
    fired = np.stack([np.asarray(transactions)[..., i].all(axis=-1).any(axis=1) for i in items], axis=1)
    return (fired & valid).astype(np.float32)


def seconds(call):
    """Seconds of a call that has run once before, and what it gives."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    found = jax.block_until_ready(call())
    return time.perf_counter() - start, found
