"""Layers of small networks, as functions of their parameters, which several rooms use."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator


def affine(layer, x):
    """Dense layer: ``x kernel + bias``, summed in at least float32.

    >>> layer = {"kernel": jnp.ones((2, 3)), "bias": jnp.array([0.0, 1.0, 2.0])}
    >>> print(affine(layer, jnp.array([[1.0, 2.0]])))
    [[3. 4. 5.]]

    Args:
        layer: {"kernel": [n, m], "bias": [m]}.
        x: [..., n].

    Returns:
        [..., m] in at least float32.
    """
    return jnp.matmul(x, layer["kernel"], preferred_element_type=accumulator(x)) + layer["bias"]


def layer_norm(params, x, epsilon=1e-5):
    """Layer norm: brings each vector to mean 0 and variance 1, then scales and shifts its coordinates.

    ``(x - mean(x)) / sqrt(var(x) + epsilon) * scale + bias``

    >>> params = {"scale": jnp.ones(2), "bias": jnp.array([0.0, 1.0])}
    >>> print(layer_norm(params, jnp.array([[1.0, 3.0]])).round(3))
    [[-1.  2.]]

    Args:
        params: {"scale": [D], "bias": [D]}.
        x: [..., D].
        epsilon: added to the variance.

    Returns:
        [..., D] in at least float32.

    References:
        J. Ba et al., arXiv:1607.06450.
    """
    x = x.astype(accumulator(x))
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + epsilon)
    return x * params["scale"] + params["bias"]
