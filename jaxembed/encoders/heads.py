"""Heads on top of an encoder: layers that read prefixes, and the transform before scores of words."""

import math

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator


def prefix_dense(params, x):
    """Prefix dense layer: applies a dense layer to the first coordinates of its input.

    ``y = x @ kernel[:d] + bias`` with d the width of x: what the layer gives for x filled up with zeros.

    >>> params = {"kernel": jnp.ones((4, 2)), "bias": jnp.array([0.0, 10.0])}
    >>> print(prefix_dense(params, jnp.ones((1, 3))))
    [[ 3. 13.]]

    Args:
        params: ``kernel`` [D, E] and ``bias`` [E].
        x: [..., d] with d at most D.

    Returns:
        [..., E] in at least float32.

    Raises:
        ValueError: for an input wider than the layer.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(params["kernel"])
    if x.shape[-1] > len(kernel):
        raise ValueError(f"x: width {x.shape[-1]} is above the {len(kernel)} rows of the kernel")
    kernel = kernel[: x.shape[-1]]
    wide = accumulator(x, kernel)
    return jnp.einsum("...d,de->...e", x, kernel, preferred_element_type=wide) + params["bias"]


def init_word_head(key, width, rows):
    """Masked language model head: draws the parameters that turn states into scores of words.

    >>> params = init_word_head(jax.random.key(0), 8, 100)
    >>> print(params["dense"]["kernel"].shape, params["bias"].shape)
    (8, 8) (100,)

    Args:
        key: a JAX random key.
        width: the width D of the states and of the word vectors.
        rows: the number V of words.

    Returns:
        ``dense`` (``kernel`` [D, D], ``bias`` [D]), ``norm`` (``scale`` and ``bias`` [D]) and ``bias`` [V].
    """
    kernel = jax.random.normal(key, (width, width)) / math.sqrt(width)
    return {
        "dense": {"kernel": kernel, "bias": jnp.zeros(width)},
        "norm": {"scale": jnp.ones(width), "bias": jnp.zeros(width)},
        "bias": jnp.zeros(rows),
    }


def lift(params, states):
    """Masked language model head: lifts states of any size to the full width by a dense layer on the prefix.

    GELU and a layer norm follow.

    ``lift(x) = norm(gelu(prefix_dense(x)))``, the transform of BERT's word head.

    >>> print(lift(init_word_head(jax.random.key(0), 8, 100), jnp.ones((2, 3))).shape)
    (2, 8)

    Args:
        params: of :func:`init_word_head`.
        states: [..., d] with d at most D.

    Returns:
        [..., D] in at least float32.
    """
    y = jax.nn.gelu(prefix_dense(params["dense"], states), approximate=False)
    y = y - jnp.mean(y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(y**2, axis=-1, keepdims=True) + 1e-12)
    return y * params["norm"]["scale"] + params["norm"]["bias"]


def with_first(tokens, vector):
    """First token: puts a vector at place 0 of a sequence.

    >>> print(with_first(jnp.zeros((1, 2, 2)), jnp.ones((1, 2))))
    [[[1. 1.]
      [0. 0.]]]

    Args:
        tokens: [B, T, D].
        vector: [B, D].

    Returns:
        [B, T, D] in the dtype of ``tokens``.
    """
    tokens = jnp.asarray(tokens)
    return tokens.at[:, 0].set(jnp.asarray(vector).astype(tokens.dtype))
