"""What experiments on nested vectors share: what an arm trains, and digits as short sequences."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, train
from jaxembed.arrays import unit

TRAIN = 1297  # of the 1,797 digits


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What an arm trains: pairs (layer, size), and pairs that it pulls towards the last layer.

    ``weights`` and ``pulled_weights`` are None (1 each) or functions key -> one weight per pair.
    """

    grid: tuple
    weights: Callable | None = None
    pulled: tuple = ()
    pulled_weights: Callable | None = None


def one_pair(layer, size):
    """The plain loss on one layer and size."""
    return Recipe(((layer, size),))


def sampled(layers, sizes, *, weighting="uniform"):
    """2DMSE: one shallow layer and one short size a step, beside the last layer and the full size."""
    grid = losses.full_grid(range(1, layers + 1), sizes)
    pulled = losses.full_grid(range(1, layers + 1), (max(sizes),))  # the same key draws the same layer
    draw = losses.two_dimensional_weights
    weights = functools.partial(draw, grid=grid, weighting=weighting)
    return Recipe(grid, weights, pulled, functools.partial(draw, grid=pulled))


def everything(layers, sizes):
    """Every layer and size in every step; the pull is the mean over the layers before the last."""
    grid = losses.full_grid(range(1, layers + 1), sizes)
    pulled = losses.full_grid(range(1, layers), (max(sizes),))
    return Recipe(grid, None, pulled, lambda key: (1 / max(1, len(pulled)),) * len(pulled))


def espresso(layers, width, size):
    """ESE: the last layer in full, a short vector of every layer, and :func:`compression` of all layers."""
    grid, weights = losses.espresso_grid(layers, width, size)
    pulled = losses.full_grid(range(1, layers + 1), (width,))
    return Recipe(grid, lambda key: weights, pulled, lambda key: weights[:layers])


def compression(size):
    """Pulls the first ``size`` numbers of every vector to the principal components of its layer."""

    def loss(vectors):
        target = losses.compression_target(vectors, size)
        return losses.compression_loss(vectors[:, :size], target=target)

    return lambda *last: loss


def objective(recipe, loss, pull, key, *layers):
    """The loss of a recipe on a batch.

    Args:
        recipe: :class:`Recipe`.
        loss: ``loss(*vectors) -> [B]`` or a scalar, on arrays [B, D].
        pull: ``pull(*last) -> loss``, of the last layer's vectors [B, D] and then of those of a pair.
        key: random key of this step.
        layers: arrays [B, L+1, D].

    Returns:
        A scalar.
    """
    weights = None if recipe.weights is None else recipe.weights(key)
    total = jnp.mean(losses.over_layers(loss, recipe.grid, weights)(*layers))
    if not recipe.pulled:
        return total
    weights = None if recipe.pulled_weights is None else recipe.pulled_weights(key)
    toward = pull(*(x[:, -1] for x in layers))
    return total + jnp.mean(losses.over_layers(toward, recipe.pulled, weights)(*layers))


def pull_features(*last):
    """The profile over coordinates of every vector towards that of the last layer."""

    def loss(*vectors):
        pairs = zip(vectors, last, strict=True)
        return sum(losses.vector_kl(v, teacher=t[:, : v.shape[1]]) for v, t in pairs) / len(vectors)

    return loss


# Digits


def digits(seeds):
    """The digits of scikit-learn, in an order of its own for each seed: the first 1,297 train, 500 test.

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


def supervised(labels, temperature=0.1):
    """InfoNCE within a batch: vectors of equal labels are positives of one another."""
    off = ~jnp.eye(len(labels), dtype=bool)
    options = {"positives": (labels[:, None] == labels) & off, "where": off, "temperature": temperature}
    return lambda vectors: losses.info_nce(vectors, vectors, **options)


def pull_scores(temperature=0.1):
    """The softmax over the batch of every vector's cosines towards that of the last layer at full size."""

    def scores(vectors):
        vectors = unit(vectors)
        return vectors @ vectors.T

    def pull(last):
        off, teacher = ~jnp.eye(len(last), dtype=bool), scores(last)
        return lambda v: losses.score_kl(scores(v), teacher=teacher, where=off, temperature=temperature)

    return pull


def fit_digits(recipe, images, labels, *, layers, width, steps, batch, rate, warm=0, pull=pull_features):
    """Trains one encoder for each seed, side by side; returns their vectors [1797, S, L+1, D].

    The rate rises over the first ``warm`` steps and then falls along a cosine.
    """
    encoder, seeds = row_encoder(layers, width), images.shape[1]

    def init(key):
        return jax.vmap(encoder.init)(jax.random.split(key, seeds))

    def loss_fn(params, batch, key):
        def one(params, x, y, key):
            vectors = encoder.hidden(params, {"x": x})["layers"]
            return objective(recipe, supervised(y), pull, key, vectors)

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
        x = np.asarray(unit(x))
        found = (x[TRAIN:] @ x[:TRAIN].T).argmax(axis=1)
        return (y[:TRAIN][found] == y[TRAIN:]).mean()

    seeds = range(labels.shape[1])
    return np.array([[one(vectors[:, s, n, :size], labels[:, s]) for n, size in pairs] for s in seeds])
