"""One network for every arm: maps of three scales, something that the sentence does to them, a mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import encoders, metrics, train
from jaxembed.encoders.mlp import XAVIER, product

STAGES, WIDTH = (16, 32, 64), 384  # channels of the maps, coordinates of a sentence
NONE, CONCAT, IMAGE = "no text", "text beside the last map", "picture gates itself (SE)"
SIGMOID, SOFTMAX, SCALED = "text, sigmoid", "text, softmax (paper)", "text, softmax x C"
FILM, LAST = "text, FiLM", "text, softmax, last map only"
ACTIVATIONS = {SIGMOID: "sigmoid", SOFTMAX: "softmax", SCALED: "scaled_softmax", LAST: "softmax"}
ARMS = (NONE, IMAGE, CONCAT, SIGMOID, SOFTMAX, SCALED, LAST, FILM)
_first, *_others = STAGES
NET = encoders.convnet([encoders.conv(_first, stride=2), *_others])


def init(arm, key):
    """Parameters of an arm; what the arms share is drawn alike."""
    net, merge, head, gates = jax.random.split(key, 4)
    params = {"net": NET.init(net), "merge": encoders.init_merge(merge, STAGES)}
    params["head"] = encoders.init_mask_head(head, STAGES[0])
    if arm in ACTIVATIONS:
        scales = "last" if arm == LAST else "all"
        params["gates"] = encoders.init_conditioned(gates, WIDTH, STAGES, scales=scales)
    elif arm == IMAGE:
        draw = functools.partial(encoders.init_gate, expansion=1 / 16, norm=False)
        params["gates"] = {
            f"stage_{i}": draw(jax.random.fold_in(gates, i), c, c) for i, c in enumerate(STAGES)
        }
    elif arm == FILM:
        draw = functools.partial(encoders.init_gate, width=WIDTH, expansion=0)
        params["gates"] = {
            f"stage_{i}": draw(jax.random.fold_in(gates, i), channels=2 * c) for i, c in enumerate(STAGES)
        }
    elif arm == CONCAT:
        params["gates"] = {"kernel": XAVIER(gates, (STAGES[-1] + WIDTH, STAGES[-1]))}
    return params


def gated(arm, params, maps, vectors):
    """What the sentence, or the picture, does to the maps."""
    if arm in ACTIVATIONS:
        return encoders.condition_maps(params["gates"], maps, vectors, activation=ACTIVATIONS[arm])
    if arm == NONE:
        return maps
    if arm == CONCAT:
        last = maps[-1]
        beside = jnp.broadcast_to(vectors[:, None, None], (*last.shape[:3], WIDTH))
        last = jax.nn.relu(product(jnp.concatenate([last, beside], axis=-1), params["gates"]["kernel"]))
        return (*maps[:-1], last)
    layers = [params["gates"][f"stage_{i}"] for i in range(len(maps))]
    if arm == IMAGE:
        pairs = zip(layers, maps, strict=True)
        return tuple(encoders.modulate(x, encoders.squeeze_excitation(p, x)) for p, x in pairs)
    return tuple(encoders.modulate(x, *encoders.film(p, vectors)) for p, x in zip(layers, maps, strict=True))


def logits(arm, params, images, vectors, *, dropout=0.0, key=None):
    """The logit of each pixel [B, S, S], from uint8 pictures and sentence vectors."""
    images = encoders.instance_norm(images.astype(jnp.float32) / 255)
    maps = gated(arm, params, NET.maps(params["net"], images), vectors)
    merged = encoders.merge_pyramid(params["merge"], maps)
    return encoders.mask_head(params["head"], merged, images.shape[1:3], dropout=dropout, key=key)[..., 0]


def mask_loss(found, true, dice):
    """Cross-entropy of pixels plus the Dice loss of each picture, [B]."""
    true = true.astype(found.dtype)
    cross = jnp.mean(optax.sigmoid_binary_cross_entropy(found, true), axis=(1, 2))
    sure = jax.nn.sigmoid(found)
    shared, both = jnp.sum(sure * true, axis=(1, 2)), jnp.sum(sure + true, axis=(1, 2))
    return cross + dice * (1 - (2 * shared + 1) / (both + 1))


@functools.lru_cache
def update_of(arm, rate, steps, dropout, dice):
    """The training step of an arm, compiled once for all seeds."""

    def loss_fn(params, batch, key):
        found = logits(arm, params, batch["images"], batch["vectors"], dropout=dropout, key=key)
        return mask_loss(found, batch["masks"], dice).mean(), {}

    return train.gradient_update(loss_fn, optax.adam(optax.cosine_decay_schedule(rate, steps)))


@functools.lru_cache
def _predict(arm):
    return jax.jit(lambda params, images, vectors: logits(arm, params, images, vectors) > 0)


def predicted(arm, params, images, vectors, size=250):
    """Masks [N, S, S], some pictures at a time."""
    parts = range(0, len(images), size)
    run = _predict(arm)
    return np.concatenate(
        [np.asarray(run(params, images[i : i + size], vectors[i : i + size])) for i in parts]
    )


def mean_iou(arm, params, asked):
    """Mean over pictures of the IoU of the predicted with the true mask."""
    found = predicted(arm, params, asked["images"], asked["vectors"])
    return float(np.mean(np.asarray(metrics.iou(found, asked["masks"]))))


def spreads(arm, params, asked):
    """For each scale the mean deviation of the map before and after the gate, over 100 pictures."""
    images = encoders.instance_norm(asked["images"][:100].astype(np.float32) / 255)
    maps = NET.maps(params["net"], images)
    after = gated(arm, params, maps, jnp.asarray(asked["vectors"][:100]))
    return [(float(jnp.std(x)), float(jnp.std(y))) for x, y in zip(maps, after, strict=True)]
