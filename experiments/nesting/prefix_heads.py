"""Vectors of images with linear heads on their prefixes: training, and accuracy at each size."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.nesting import digits
from jaxembed import data, encoders, losses, train


def fit_network(images, labels, width, loss, heads, steps, rate=2e-3):
    """Trains an MLP 64-256-width and its heads, one for each seed; returns the parameters and all vectors."""
    seeds = images.shape[1]

    def init_one(key):
        body, *keys = jax.random.split(key, 1 + len(heads))
        head = {n: {"kernel": jnp.zeros((size, 10)), "bias": jnp.zeros(10)} for n, size in heads.items()}
        return {"body": encoders.init_mlp(body, (64, 256, width)), "heads": head}

    def vectors_of(params, x):
        return encoders.mlp(params["body"], x.reshape(len(x), 64))

    def loss_fn(params, batch, key):
        def one(params, x, y):
            return jnp.mean(loss(params["heads"], vectors_of(params, x), y))

        return jnp.sum(jax.vmap(one, (0, 1, 1))(params, batch["x"], batch["y"])), {}

    rows = data.batches(
        np.arange(len(images) - digits.HELD), 128, make=lambda r: {"x": images[r], "y": labels[r]}
    )
    run = {"init": lambda key: jax.vmap(init_one)(jax.random.split(key, seeds)), "batches": rows}
    state = train.fit(loss_fn=loss_fn, tx=optax.adam(rate), steps=steps, **run)
    return state.params["heads"], np.asarray(jax.vmap(vectors_of, (0, 1), 1)(state.params, images))


def own_heads(heads, z, y, *, sizes):
    """MRL: a head for each prefix."""

    def loss(prefix):
        scores = encoders.prefix_dense(heads[str(prefix.shape[1])], prefix)
        return losses.softmax_loss(scores, positives=y)

    return losses.matryoshka(loss, sizes)(z)


def one_head(heads, z, y, *, sizes):
    """MRL-E: the first rows of one head; with one size, the plain loss."""

    def loss(prefix):
        return losses.softmax_loss(encoders.prefix_dense(heads["all"], prefix), positives=y)

    return losses.matryoshka(loss, sizes)(z)


def accuracies(heads, z, labels):
    """Test accuracy of linear heads, and of the nearest training vector: {"head": [S], "1-NN": [S]}."""
    scores = jax.vmap(encoders.prefix_dense, (0, 1), 1)(heads, z)[-digits.HELD :]
    head = (np.asarray(scores).argmax(axis=-1) == labels[-digits.HELD :]).mean(axis=0)
    return {"head": head, "1-NN": digits.nearest(z[:, :, None], labels, [(0, z.shape[-1])])[:, 0]}


def components(z, head, size):
    """Principal components of the training vectors and the head turned with them, for each seed."""
    turned = []
    for s in range(z.shape[1]):
        mean = z[: -digits.HELD, s].mean(axis=0)
        basis = np.linalg.svd(z[: -digits.HELD, s] - mean, full_matrices=False)[2][:size].T
        kernel = head["kernel"][s]
        turned.append(((z[:, s] - mean) @ basis, basis.T @ kernel, head["bias"][s] + mean @ kernel))
    z, kernel, bias = map(np.stack, zip(*turned, strict=True))
    return {"kernel": kernel, "bias": bias}, np.moveaxis(z, 0, 1)


def cut(head, size):
    """The rows of a head [S, D, C] that read a prefix."""
    return {"kernel": head["kernel"][:, :size], "bias": head["bias"]}
