"""Digits of scikit-learn as short sequences: data, a transformer over their rows, training, its measure."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, metrics, train
from jaxembed.arrays import unit

HELD = 500  # images of the 1,797 that test, or with validate those before them
RATES = (1e-3, 2e-3, 4e-3)  # that --validate tries, on validation images alone


def read(seeds, validate=False):
    """The digits, in an order of its own for each seed: the first 1,297 train, 500 test.

    With ``validate`` the test images are left out: the first 797 train, and the 500 after them choose.

    Returns:
        images float32 [N, S, 8, 8] in 0..1, labels int32 [N, S]; the last 500 of N are held out.
    """
    known = data.digits()
    images, labels = known["images"][..., 0], known["labels"]
    orders = np.stack([np.random.default_rng(s).permutation(len(labels)) for s in range(seeds)], axis=1)
    orders = orders[:-HELD] if validate else orders
    return images[orders], labels[orders]


def runs(rates, validate):
    """What is trained, as (name in the table, arm, rate): at the rate that an arm has chosen, or at all.

    Args:
        rates: {arm: its rate}.
        validate: True tries all of RATES, and the name says which.
    """
    if not validate:
        return [(arm, arm, rate) for arm, rate in rates.items()]
    return [(f"{arm}, rate {rate:g}", arm, rate) for arm in rates for rate in RATES]


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
    """Trains one encoder for each seed, side by side; returns their vectors [N, S, L+1, D].

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
    rows = data.batches(np.arange(len(images) - HELD), batch, make=lambda r: {"x": images[r], "y": labels[r]})
    state = train.fit(init=init, loss_fn=loss_fn, tx=optax.adam(schedule), batches=rows, steps=steps)
    hidden = jax.vmap(lambda params, x: encoder.hidden(params, {"x": x})["layers"], (0, 1), 1)
    return np.asarray(jax.jit(hidden)(state.params, images))


def nearest(vectors, labels, pairs):
    """1-NN accuracy on the held-out digits by cosine, for each seed and pair.

    Args:
        vectors: [N, S, L+1, D].
        labels: int [N, S].
        pairs: list of P pairs (layer, size).

    Returns:
        float [S, P].
    """

    def one(x, y):
        x = unit(x)
        return metrics.nearest_accuracy(x[:-HELD], y[:-HELD], x[-HELD:], y[-HELD:], k=1)

    seeds = range(labels.shape[1])
    return np.array([[one(vectors[:, s, n, :size], labels[:, s]) for n, size in pairs] for s in seeds])
