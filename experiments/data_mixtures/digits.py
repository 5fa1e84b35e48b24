"""Digits in styles with captions that name both, and two small towers that learn to match them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import ndimage

from jaxembed import data, encoders, losses, train

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STYLES = ("plain", "rotated", "inverted", "blurred", "bold", "dotted")


def styled(images, style, rng):
    """Pictures [N, 8, 8] in 0..1 in one of the STYLES; only "dotted" draws random numbers."""
    if style == "rotated":
        return np.stack([ndimage.rotate(x, 15, reshape=False, order=1) for x in images])
    if style == "inverted":
        return 1 - images
    if style == "blurred":
        return ndimage.gaussian_filter(images, (0, 0.8, 0.8))
    if style == "bold":
        return ndimage.grey_dilation(images, (1, 2, 2))
    if style == "dotted":
        return images * (rng.random(images.shape) > 0.3)
    return images


def digits():
    """scikit-learn's digits: images [N, 8, 8] in 0..1 and labels [N]."""
    found = data.digits()
    images = np.asarray(found["images"], np.float32).reshape(-1, 8, 8)
    return images / images.max(), np.asarray(found["labels"])


def caption(numbers, styles=None):
    """Captions as bags of words [N, 10 + styles]: the word of the digit and, if given, of the style."""
    bags = np.zeros((len(numbers), len(WORDS) + len(STYLES)), np.float32)
    bags[np.arange(len(numbers)), numbers] = 1
    if styles is not None:
        bags[np.arange(len(numbers)), len(WORDS) + np.asarray(styles)] = 1
    return bags


def init(key, width=32, hidden=128):
    """Towers of one hidden layer for pictures and captions, and the logarithm of their scale."""
    first, second = jax.random.split(key)
    image = encoders.init_mlp(first, (64, hidden, width))
    text = encoders.init_mlp(second, (len(WORDS) + len(STYLES), hidden, width))
    return {"image": image, "text": text, "log_scale": jnp.log(jnp.asarray(1 / 0.07))}


def encode(params, side, x):
    """Vectors [N, D] of one side."""
    return encoders.mlp(params[side], jnp.asarray(x).reshape(len(x), -1))


@functools.cache
def update(steps, rate):
    """CLIP's loss; captions that are equal in a batch are no negatives of one another."""

    def loss_fn(params, batch, key):
        image, text = encode(params, "image", batch["image"]), encode(params, "text", batch["text"])
        temperature = 1 / jnp.minimum(jnp.exp(params["log_scale"]), 100.0)
        equal = (batch["text"] @ batch["text"].T) == jnp.sum(batch["text"], axis=1)
        kept = ~equal | jnp.eye(len(image), dtype=bool)
        clip = losses.info_nce(image, text, where=kept, temperature=temperature)
        clip += losses.info_nce(text, image, where=kept.T, temperature=temperature)
        return jnp.mean(clip) / 2, {}

    return train.gradient_update(
        loss_fn, optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=0.1)
    )


def trained(images, texts, seed, *, steps, rate=3e-3, batch_size=128, start=None):
    """Params of towers after some steps on pairs, [N, 8, 8] and bags [N, W]."""
    records = {"image": np.asarray(images, np.float32), "text": texts}
    return train.fit(
        init=init if start is None else lambda key: jax.tree.map(jnp.copy, start),
        update=update(steps, rate),
        batches=data.batches(records, min(batch_size, len(texts)), seed=seed),
        steps=steps,
        key=seed,
        mesh=train.make_mesh(1),
        progress=False,
    ).params
