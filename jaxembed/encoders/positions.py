"""Positions of tokens: rotations of queries and keys, and buckets of distances."""

import math

import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator


def rotary_frequencies(width, theta=10000.0, scaling=None):
    """Rotary frequencies: the angles by which one step of position turns each pair of coordinates.

    ``frequencies[i] = theta ** (-2 i / width)``, divided by a factor where ``scaling`` asks for longer
    texts than the model was trained on.

    >>> print(rotary_frequencies(4, 100.0))
    [1.  0.1]

    Args:
        width: even width of one head.
        theta: base of the geometric series.
        scaling: optional dict. {"rope_type": "linear", "factor": f} divides every frequency by f;
            {"rope_type": "llama3", "factor", "low_freq_factor", "high_freq_factor",
            "original_max_position_embeddings"} divides those alone that turn slowly.

    Returns:
        float32 NumPy array [width / 2].

    Raises:
        ValueError: for another kind of scaling.

    References:
        J. Su et al. (RoFormer), arXiv:2104.09864.
    """
    plain = float(theta) ** (-np.arange(0, width, 2) / width)
    scaling = scaling or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "linear":
        plain = plain / scaling["factor"]
    elif kind == "llama3":
        turns = scaling["original_max_position_embeddings"] * plain / (2 * math.pi)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        kept = np.clip((turns - low) / (high - low), 0, 1)
        plain = plain * (kept + (1 - kept) / scaling["factor"])
    elif kind != "default":
        raise ValueError(f"scaling: rope_type {kind!r} is unknown; known: default, linear, llama3")
    return plain.astype(np.float32)


def rotate(x, frequencies):
    """Rotary position embedding: turns pairs of coordinates by an angle that grows with the position.

    Coordinates i and i + d/2 of the token at position t turn by ``t * frequencies[i]``. Inner products of
    rotated vectors therefore depend on distances alone.

    >>> print(rotate(jnp.ones((1, 2, 1, 2)), jnp.array([jnp.pi / 2]))[0, :, 0].round(3))
    [[ 1.  1.]
     [-1.  1.]]

    Args:
        x: [B, T, H, d].
        frequencies: [d / 2].

    Returns:
        [B, T, H, d] in the dtype of ``x``.
    """
    wide = x.astype(accumulator(x))
    angles = jnp.arange(x.shape[1], dtype=wide.dtype)[:, None] * jnp.asarray(frequencies, wide.dtype)
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    first, second = jnp.split(wide, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def distance_buckets(length, *, buckets=32, furthest=128):
    """Relative position buckets: numbers distances, near ones singly, far ones in logarithmic groups.

    Half of the buckets serve later tokens and half earlier ones. The first half of each holds one distance
    per bucket; the rest grow geometrically up to ``furthest``.

    >>> print(distance_buckets(4))
    [[ 0 17 18 19]
     [ 1  0 17 18]
     [ 2  1  0 17]
     [ 3  2  1  0]]

    Args:
        length: T.
        buckets: number of buckets.
        furthest: distances from here on share the last bucket.

    Returns:
        int32 NumPy array [T, T]; entry (t, s) is the bucket of token s as seen from token t.

    References:
        C. Raffel et al. (T5), arXiv:1910.10683.
    """
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    half, single, size = buckets // 2, buckets // 4, np.abs(distance)
    growth = np.log(np.maximum(size, 1).astype(np.float32) / single) / math.log(furthest / single)
    far = np.minimum(single + (growth * (half - single)).astype(np.int32), half - 1)
    return (np.where(size < single, size, far) + half * (distance < 0)).astype(np.int32)
