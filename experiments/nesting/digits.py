"""Digits of scikit-learn as short sequences: data, a transformer over their rows, training, its measure."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, metrics, train
from jaxembed.arrays import unit

TRAIN = 1297  # of the 1,797 digits


def read(seeds):
    """The digits, in an order of its own for each seed: the first 1,297 train, 500 test.

    Returns:
        images float32 [1797, S, 8, 8] in 0..1, labels int32 [1797, S].
    """
    from sklearn.datasets import load_digits

    known = load_digits()
    orders = np.stack([np.random.default_rng(s).permutation(len(known.target)) for s in range(seeds)], axis=1)
    return known.images.astype(np.float32)[orders] / 16, known.target.astype(np.int32)[orders]


def row_encoder(layers, width=64):
    """A transformer whose tokens are the 8 rows of an image."""

    def init_embed(key):
        return {"rows": {"kernel": jax.random.normal(key, (8, width)) * 8**-0.5}}

    def embed(params, batch):
        return batch["x"] @ params["rows"]["kernel"], jnp.ones(batch["x"].shape[:2], bool)

    blocks = {"layers": layers, "heads": 2, "mlp_width": 2 * width, "positions": 8}
    return encoders.transformer(init_embed, embed, width=width, **blocks)


def supervised(vectors, **pairs):
    """InfoNCE within a batch, with the pairs of ``losses.label_pairs``."""
    return losses.info_nce(vectors, vectors, temperature=0.1, **pairs)


def fit(arm, images, labels, *, layers, width, steps, batch, rate, warm=0):
    """Trains one encoder for each seed, side by side; returns their vectors [1797, S, L+1, D].

    Args:
        arm: loss -> objective, such as a partial ``losses.two_dimensional``.
        images, labels: of :func:`read`.
        layers, width: of the encoder.
        steps, batch: of the training.
        rate: it rises over the first ``warm`` steps and then falls along a cosine.
        warm: steps.
    """
    encoder, seeds, objective = row_encoder(layers, width), images.shape[1], arm(supervised)

    def init(key):
        return jax.vmap(encoder.init)(jax.random.split(key, seeds))

    def loss_fn(params, batch, key):
        def one(params, x, y, key):
            vectors = encoder.hidden(params, {"x": x})["layers"]
            return objective(key, vectors, **losses.label_pairs(y))

        keys = jax.random.split(key, seeds)
        return jnp.sum(jax.vmap(one, in_axes=(0, 1, 1, 0))(params, batch["x"], batch["y"], keys)), {}

    schedule = optax.cosine_decay_schedule(rate, steps)
    if warm:
        schedule = optax.warmup_cosine_decay_schedule(0, rate, warm, steps)
    rows = data.batches(np.arange(TRAIN), batch, make=lambda r: {"x": images[r], "y": labels[r]})
    state = train.fit(init=init, loss_fn=loss_fn, tx=optax.adam(schedule), batches=rows, steps=steps)
    hidden = jax.vmap(lambda params, x: encoder.hidden(params, {"x": x})["layers"], (0, 1), 1)
    return np.asarray(jax.jit(hidden)(state.params, images))


def nearest(vectors, labels, pairs):
    """1-NN accuracy on the test digits by cosine, for each seed and pair.

    Args:
        vectors: [1797, S, L+1, D].
        labels: int [1797, S].
        pairs: list of P pairs (layer, size).

    Returns:
        float [S, P].
    """

    def one(x, y):
        x = unit(x)
        return metrics.nearest_accuracy(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:], k=1)

    seeds = range(labels.shape[1])
    return np.array([[one(vectors[:, s, n, :size], labels[:, s]) for n, size in pairs] for s in seeds])
