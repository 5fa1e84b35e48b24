"""Digits of scikit-learn, for several seeds at once: data, training, a transformer over rows, its measure."""

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


def runs(rates, validate, tried=RATES):
    """What is trained, as (name in the table, arm, rate): arms {name: rate}, or each at all rates tried."""
    if not validate:
        return [(arm, arm, rate) for arm, rate in rates.items()]
    return [(f"{arm}, rate {rate:g}", arm, rate) for arm in rates for rate in tried]


def fit_all(init, loss, images, labels, tx, *, steps, batch):
    """Trains one model for each seed, side by side; returns the parameters [S, ...].

    ``init`` is key -> params of one model, ``loss`` is (params, images [B, 8, 8], labels [B], key) -> scalar.
    """
    seeds = images.shape[1]

    def loss_fn(params, batch, key):
        keys = jax.random.split(key, seeds)
        return jnp.sum(jax.vmap(loss, (0, 1, 1, 0))(params, batch["x"], batch["y"], keys)), {}

    rows = data.batches(np.arange(len(images) - HELD), batch, make=lambda r: {"x": images[r], "y": labels[r]})
    start = lambda key: jax.vmap(init)(jax.random.split(key, seeds))  # noqa: E731
    return train.fit(init=start, loss_fn=loss_fn, tx=tx, batches=rows, steps=steps).params


def row_encoder(layers, width):
    """A transformer whose tokens are the 8 rows of an image."""

    def init_embed(key):
        return {"rows": {"kernel": jax.random.normal(key, (8, width)) * 8**-0.5}}

    def embed(params, batch):
        return batch["x"] @ params["rows"]["kernel"], jnp.ones(batch["x"].shape[:2], bool)

    blocks = {"layers": layers, "heads": 2, "mlp_width": 2 * width, "positions": 8}
    return encoders.transformer(init_embed, embed, width=width, **blocks)


def fit(arm, images, labels, *, layers, width, steps, batch, rate, warm=0):
    """Trains encoders with InfoNCE, images of one class being positives; returns vectors [N, S, L+1, D].

    ``arm`` is loss -> objective, such as a partial ``losses.two_dimensional``. The rate rises over the first
    ``warm`` steps and then falls along a cosine.
    """
    encoder = row_encoder(layers, width)
    objective = arm(lambda x, **pairs: losses.info_nce(x, x, temperature=0.1, **pairs))

    def loss(params, x, y, key):
        return objective(key, encoder.hidden(params, {"x": x})["layers"], **losses.label_pairs(y))

    schedule = optax.cosine_decay_schedule(rate, steps)
    if warm:
        schedule = optax.warmup_cosine_decay_schedule(0, rate, warm, steps)
    params = fit_all(encoder.init, loss, images, labels, optax.adam(schedule), steps=steps, batch=batch)
    hidden = jax.vmap(lambda params, x: encoder.hidden(params, {"x": x})["layers"], (0, 1), 1)
    return np.asarray(jax.jit(hidden)(params, images))


def nearest(vectors, labels, pairs):
    """1-NN accuracy [S, P] of held-out digits by cosine: vectors [N, S, L+1, D], P pairs (layer, size)."""

    def one(x, y):
        x = unit(x)
        return metrics.nearest_accuracy(x[:-HELD], y[:-HELD], x[-HELD:], y[-HELD:], k=1)

    seeds = range(labels.shape[1])
    return np.array([[one(vectors[:, s, n, :size], labels[:, s]) for n, size in pairs] for s in seeds])
