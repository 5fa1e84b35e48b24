"""Vectors of images with linear heads on their prefixes: training, and accuracy at each size."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.nesting import digits
from jaxembed import encoders, losses


def fit_network(images, labels, width, heads, *, sizes, steps, rate):
    """Trains an MLP 64-256-width and its heads, one for each seed; returns the heads and all vectors.

    Args:
        images, labels: of ``digits.read``.
        width: D.
        heads: {name: rows}, linear heads; a prefix has the one of its size (MRL), or the first rows of the
            head "all" (MRL-E).
        sizes: prefixes that are trained; with ``(width,)`` the network is a plain one.
        steps, rate: of Adam.

    Returns:
        The heads [S, ...] and the vectors of all images [N, S, width].
    """

    def init(key):
        body, *_ = jax.random.split(key, 1 + len(heads))
        head = {n: {"kernel": jnp.zeros((size, 10)), "bias": jnp.zeros(10)} for n, size in heads.items()}
        return {"body": encoders.init_mlp(body, (64, 256, width)), "heads": head}

    def vectors_of(params, x):
        return encoders.mlp(params["body"], x.reshape(len(x), 64))

    def loss(params, x, y, key):
        def of_prefix(prefix):
            head = params["heads"]["all" if "all" in heads else str(prefix.shape[1])]
            return losses.softmax_loss(encoders.prefix_dense(head, prefix), positives=y)

        return jnp.mean(losses.matryoshka(of_prefix, sizes)(vectors_of(params, x)))

    params = digits.fit_all(init, loss, images, labels, optax.adam(rate), steps=steps, batch=128)
    return params["heads"], np.asarray(jax.vmap(vectors_of, (0, 1), 1)(params, images))


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
