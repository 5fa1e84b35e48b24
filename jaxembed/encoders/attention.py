"""Attention of tokens to tokens."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator


def dot_product_attention(queries, keys, values, mask=None):
    """Averages values by how well each query matches each key.

    ``out[b, t, h] = sum_s softmax_s(queries[b, t, h] . keys[b, s, h] / sqrt(d)) values[b, s, h]`` over the
    keys that the mask keeps. A set without any key gives zeros.

    >>> x = jnp.ones((1, 3, 2, 4))
    >>> out = dot_product_attention(x, x, x, jnp.array([[True, True, False]]))
    >>> print(out.shape, out[0, 0, 0])
    (1, 3, 2, 4) [1. 1. 1. 1.]

    Args:
        queries: [B, T, H, d].
        keys: [B, S, H, d].
        values: [B, S, H, d], finite wherever the mask is False too.
        mask: optional bool [B, S], True = the key may be read, or bool [B, T, S].

    Returns:
        [B, T, H, d] in the dtype of ``values``; the softmax runs in at least float32.

    References:
        A. Vaswani et al., arXiv:1706.03762.
    """
    dtype = accumulator(queries, keys)
    scores = (
        jnp.einsum("bthd,bshd->bhts", queries, keys, preferred_element_type=dtype) * queries.shape[-1] ** -0.5
    )
    if mask is None:
        weights = jax.nn.softmax(scores, axis=-1)
    else:
        seen = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        weights = jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(dtype).min), axis=-1)
        weights = jnp.where(seen, weights, 0)
    return jnp.einsum("bhts,bshd->bthd", weights.astype(values.dtype), values)


class Attention(nn.Module):
    """Multi-head self-attention [B, T, D] -> [B, T, D] with parameters query, key, value and out.

    Args:
        heads: number of heads; divides D.
        dtype: dtype of the computation; parameters stay float32.
    """

    heads: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, mask=None):
        width = x.shape[-1]
        if width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide the width {width}")
        split = (*x.shape[:2], self.heads, width // self.heads)
        q, k, v = (
            nn.Dense(width, dtype=self.dtype, name=n)(x).reshape(split) for n in ("query", "key", "value")
        )
        mixed = dot_product_attention(q, k, v, mask).reshape(x.shape)
        return nn.Dense(width, dtype=self.dtype, name="out")(mixed)
