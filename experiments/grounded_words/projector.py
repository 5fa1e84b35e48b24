"""The projector of pictures onto text vectors: two layers, dropout, batch norm, and the hardest negatives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.grounded_words import scenes
from jaxembed import arrays, encoders, losses, train

PAPER, PLAIN, MEANS = "projector", "without batch norm", "mean distances"
WAYS = (PAPER, PLAIN, MEANS)  # the last one's margin is in units of the mean over the coordinates


def init(key, sizes):
    """Two layers, and the scale and bias behind their batch norm."""
    norm = {"scale": jnp.ones(sizes[-1]), "bias": jnp.zeros(sizes[-1])}
    return {"layers": encoders.init_mlp(key, sizes), "norm": norm}


def project(cfg, way, params, x, *, moments=None, key=None):
    """Vectors of pictures, of length 1; moments are those of the batch where none are given."""
    x = encoders.mlp(params["layers"], x, dropout=cfg.dropout, key=key)
    if way != PLAIN:
        mean, variance = (x.mean(axis=0), x.var(axis=0)) if moments is None else moments
        x = (x - mean) * jax.lax.rsqrt(variance + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]
    return arrays.unit(x)


def make_loss(cfg, way):
    """Each projected picture is nearer to its own text vector than to the nearest other one of the batch."""

    def loss_fn(params, batch, key):
        x = project(cfg, way, params, batch["feature"], key=key)
        distances = arrays.squared_distances(x, batch["text"])
        same = batch["name"][:, None] == batch["name"][None]
        index, valid = losses.mine_triplets(distances, same, rule="hardest")
        own = jnp.arange(len(x))
        negatives = batch["text"][index[own, own]]
        margin = cfg.margin * (x.shape[1] if way == MEANS else 1)
        given = {"margin": margin, "where": valid[own, own]}
        return losses.triplet_loss(x, batch["text"], negatives, **given).mean(), {}

    return loss_fn


def updates(cfg):
    """{way: step of training}, compiled once for all seeds."""
    return {way: train.gradient_update(make_loss(cfg, way), optax.adam(cfg.learning_rate)) for way in WAYS}


def fitted(cfg, way, update, feature, text, rows, seed):
    """Vectors of all pictures by a projector that learned from some; they give the moments too."""
    sizes = (feature.shape[1], cfg.hidden, text.shape[1])
    batches = scenes.Batches(feature, text, rows, cfg.batch_size, seed)
    given = {"update": update, "batches": batches, "steps": cfg.steps, "key": seed}
    params = train.fit(init=lambda key: init(key, sizes), **given).params
    seen = encoders.mlp(params["layers"], feature[rows])
    return np.asarray(project(cfg, way, params, feature, moments=(seen.mean(axis=0), seen.var(axis=0))))
