"""Attention of tokens to tokens."""

import math

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator
from jaxembed.checks import check_temperature
from jaxembed.encoders.positions import rotate
from jaxembed.extras import brings

with brings("encoders"):
    import flax.linen as nn


def dot_product_attention(
    queries, keys, values, mask=None, *, bias=None, temperature=1.0, dropout=0.0, key=None
):
    """Scaled dot-product attention: averages values by how well each query matches each key.

    ``out[b, t, h] = sum_s softmax_s((queries[b, t, h] . keys[b, s, h] / sqrt(d) + bias[h, t, s]) /
    temperature) values[b, s, h]`` over the keys that the mask keeps. A set without any key gives zeros.

    >>> x = jnp.ones((1, 3, 2, 4))
    >>> out = dot_product_attention(x, x, x, jnp.array([[True, True, False]]))
    >>> print(out.shape, out[0, 0, 0])
    (1, 3, 2, 4) [1. 1. 1. 1.]

    Args:
        queries: [B, T, H, d].
        keys: [B, S, G, d]; G divides H, and each key head serves H / G neighbouring query heads.
        values: [B, S, G, d], finite wherever the mask is False too.
        mask: optional bool [B, S], True = the key may be read, or bool [B, T, S].
        bias: optional [H, T, S], added to the scores before the temperature divides them.
        temperature: positive float or array that divides the scores, [] or [H]. Below 1 the attention is
            sharper and token vectors of long texts stay further apart.
        dropout: share of the weights that become 0 where a key is given; the others are divided by
            ``1 - dropout``, so that rows sum to 1 on average.
        key: random key; None means no dropout.

    Returns:
        [B, T, H, d] in the dtype of ``values``; the softmax runs in at least float32.

    Raises:
        ValueError: when G does not divide H.

    References:
        A. Vaswani et al., arXiv:1706.03762; shared key heads: J. Ainslie et al., arXiv:2305.13245; the
        temperature: Y. Zhou et al. (TempScale), arXiv:2410.24200.
    """
    (batch, length, heads, _), groups = queries.shape, keys.shape[2]
    powers = _powers(queries, keys, mask, bias, temperature)
    total = jnp.sum(powers, axis=-1)
    if key is not None and dropout:
        kept = jax.random.bernoulli(key, 1 - dropout, powers.shape)
        powers = jnp.where(kept, powers / (1 - dropout), 0)
    rows = powers.astype(values.dtype).reshape(batch, groups, heads // groups * length, keys.shape[1])
    mixed = jnp.einsum(
        "bgts,bgsd->bgtd", rows, jnp.swapaxes(values, 1, 2), preferred_element_type=powers.dtype
    )
    # T * d divisions instead of T * S
    mixed = mixed.reshape(batch, heads, length, values.shape[-1]) / jnp.where(total == 0, 1, total)[..., None]
    return jnp.swapaxes(mixed, 1, 2).astype(values.dtype)


def attention_weights(queries, keys, mask=None, *, bias=None, temperature=1.0):
    """Attention weights: how much each token reads of each other in :func:`dot_product_attention`.

    >>> x = jnp.ones((1, 3, 1, 4))
    >>> print(attention_weights(x, x, jnp.array([[True, True, False]]))[0, 0])
    [[0.5 0.5 0. ]
     [0.5 0.5 0. ]
     [0.5 0.5 0. ]]

    Args:
        queries: [B, T, H, d].
        keys: [B, S, G, d]; G divides H.
        mask: as in :func:`dot_product_attention`.
        bias: as there.
        temperature: as there.

    Returns:
        [B, H, T, S] in at least float32; rows sum to 1, or are zeros where no key may be read.

    Raises:
        ValueError: when G does not divide H.
    """
    powers = _powers(queries, keys, mask, bias, temperature)
    total = jnp.sum(powers, axis=-1, keepdims=True)
    return powers / jnp.where(total == 0, 1, total)


def _powers(queries, keys, mask, bias, temperature):
    """The softmax [B, H, T, S] before its division by the sum over S."""
    (batch, length, heads, width), groups = queries.shape, keys.shape[2]
    if heads % groups:
        raise ValueError(f"keys have {groups} heads, which do not divide the {heads} heads of the queries")
    check_temperature(temperature)
    dtype = accumulator(queries, keys)
    # Heads lead, and those that share a key follow one another: each product is a plain batch of matrices.
    split = jnp.swapaxes((queries * width**-0.5).astype(queries.dtype), 1, 2)
    split = split.reshape(batch, groups, heads // groups * length, width)
    scores = jnp.einsum("bgtd,bgsd->bgts", split, jnp.swapaxes(keys, 1, 2), preferred_element_type=dtype)
    scores = scores.reshape(batch, heads, length, keys.shape[1])
    if bias is not None:
        scores = scores + bias
    if not (isinstance(temperature, int | float) and temperature == 1):
        scores = scores / jnp.broadcast_to(jnp.asarray(temperature, dtype), (heads,))[:, None, None]
    if mask is not None:
        mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        scores = jnp.where(mask, scores, jnp.finfo(dtype).min)
    powers = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    return powers if mask is None else jnp.where(mask, powers, 0)


def attention_mask(mask, *, causal=False, prefix=None, window=None):
    """Attention mask: says which token may read which.

    Token t reads token s when s is real. Where ``causal``, s <= t must hold too, or s is in the prefix. Where
    a window is given, ``|t - s| <= window`` must hold too.

    >>> print(attention_mask(jnp.array([[True, True, True]]), causal=True)[0].astype(int))
    [[1 0 0]
     [1 1 0]
     [1 1 1]]
    >>> seen = attention_mask(jnp.ones((1, 3), bool), causal=True, prefix=jnp.array([2]))
    >>> print(seen[0].astype(int))
    [[1 1 0]
     [1 1 0]
     [1 1 1]]

    Args:
        mask: bool [B, T], True = real token.
        causal: True hides later tokens.
        prefix: optional int [B], with ``causal``: how many first tokens everyone may read.
        window: optional int or int array [], the largest distance.

    Returns:
        bool [B, T, T], or [B, T] as it came when every token may read every real one.
    """
    if not causal and window is None:
        return mask
    at, to = jnp.arange(mask.shape[1])[:, None], jnp.arange(mask.shape[1])[None, :]
    seen = jnp.ones((1, mask.shape[1], mask.shape[1]), bool)
    if causal:
        seen = (to <= at)[None]
        if prefix is not None:
            seen = seen | (to[None] < jnp.asarray(prefix)[:, None, None])
    if window is not None:
        seen = seen & (jnp.abs(at - to) <= window)
    return seen & mask[:, None, :]


def tokenwise(layer, x):
    """Applies a layer to all tokens as the rows of one matrix, so that its gradient is one product too.

    >>> print(tokenwise(lambda rows: rows @ jnp.ones((2, 1)), jnp.ones((1, 3, 2))).shape)
    (1, 3, 1)

    Args:
        layer: [N, D] -> [N, E].
        x: [B, T, D].

    Returns:
        [B, T, E].
    """
    y = layer(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]))
    return y.reshape(*x.shape[:-1], y.shape[-1])


class Attention(nn.Module):
    """Multi-head self-attention [B, T, D] -> [B, T, D] with parameters query, key, value and out.

    Where the collection "attention" is mutable, :func:`attention_weights` is stored there as "weights".

    Args:
        heads: number of heads; divides D unless ``head_width`` is given.
        dtype: dtype of the computation; parameters stay float32.
        kv_heads: number of key and value heads, ``heads`` when None.
        head_width: width of one head, D / heads when None.
        qkv_bias: False leaves the biases of query, key and value out.
        out_bias: False leaves the bias of out out.
        head_norm: epsilon of an RMS norm on each query and each key, None for no norm.
        dropout: rate on the weights; active when ``deterministic`` is False.
    """

    heads: int
    dtype: jnp.dtype | None = None
    kv_heads: int | None = None
    head_width: int | None = None
    qkv_bias: bool = True
    out_bias: bool = True
    head_norm: float | None = None
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, mask=None, *, bias=None, frequencies=None, temperature=1.0, deterministic=True):
        width, groups = x.shape[-1], self.kv_heads or self.heads
        if width % self.heads and self.head_width is None:
            raise ValueError(f"heads={self.heads} does not divide the width {width}")
        size = self.head_width or width // self.heads

        def project(name, heads):
            dense = nn.Dense(heads * size, self.qkv_bias, dtype=self.dtype, name=name)
            return tokenwise(dense, x).reshape(*x.shape[:2], heads, size)

        q, k, v = project("query", self.heads), project("key", groups), project("value", groups)
        if self.head_norm is not None:
            q, k = (
                nn.RMSNorm(epsilon=self.head_norm, dtype=accumulator(y), name=f"{name}_norm")(y).astype(
                    y.dtype
                )
                for name, y in (("query", q), ("key", k))
            )
        if frequencies is not None:
            q, k = rotate(q, frequencies), rotate(k, frequencies)
        drop = {} if deterministic or not self.dropout else {"key": self.make_rng("dropout")}
        options = {"bias": bias, "temperature": temperature}
        mixed = dot_product_attention(q, k, v, mask, **options, dropout=self.dropout, **drop)
        if self.is_mutable_collection("attention") and not self.is_initializing():
            weights = attention_weights(q, k, mask, **options)
            self.put_variable("attention", "weights", weights)
        mixed = mixed.reshape(*x.shape[:2], self.heads * size)
        return tokenwise(nn.Dense(width, self.out_bias, dtype=self.dtype, name="out"), mixed)


def windows_of_blocks(window, layers):
    """One window for each block, or None."""
    if window is None:
        return None
    windows = (window,) * layers if isinstance(window, int) else tuple(window)
    if len(windows) != layers:
        raise ValueError(
            f"window has {len(windows)} entries for layers={layers}; give one per block, or an int"
        )
    return windows


def temperatures_of_blocks(temperature, layers):
    """One temperature for each block: [L] or [L, H]."""
    check_temperature(temperature)
    temperature = jnp.asarray(temperature)
    if temperature.ndim and temperature.shape[0] != layers:
        raise ValueError(f"temperature {temperature.shape}: give a float, [L] or [L, H] with L={layers}")
    return jnp.broadcast_to(temperature, (layers, *temperature.shape[1:]))
