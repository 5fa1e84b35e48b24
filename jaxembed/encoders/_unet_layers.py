"""Layers of the U-Net: residual blocks that know the time, attention of places, transformer blocks.

Each layer is a pair of functions. ``init_x(key, sizes) -> params`` zeroes what ends a branch, so that a fresh
layer is the identity where its channels agree. ``x(params, maps [B, h, w, C], ...) -> maps``.
"""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator
from jaxembed.encoders.attention import dot_product_attention
from jaxembed.encoders.conv_layers import convolve, group_norm
from jaxembed.encoders.gates import modulate
from jaxembed.encoders.mlp import dense_layer
from jaxembed.encoders.transformer import ACTIVATIONS
from jaxembed.layers import layer_norm

LECUN = jax.nn.initializers.lecun_normal()


def init_conv(key, inputs, outputs, *, kernel=3, zero=False):
    """{"kernel": [k, k, inputs, outputs], "bias": [outputs]}."""
    shape = (kernel, kernel, inputs, outputs)
    return {"kernel": jnp.zeros(shape) if zero else LECUN(key, shape), "bias": jnp.zeros(outputs)}


def conv(layer, x, stride=1):
    """Convolution with a bias, [B, h, w, C] -> [B, ceil(h / stride), ceil(w / stride), E]."""
    return convolve(layer["kernel"], x, stride=stride) + layer["bias"].astype(x.dtype)


def init_dense(key, inputs, outputs, *, bias=True, zero=False):
    """{"kernel": [inputs, outputs], "bias": [outputs]}, or without the bias."""
    shape = (inputs, outputs)
    kernel = {"kernel": jnp.zeros(shape) if zero else LECUN(key, shape)}
    return kernel | ({"bias": jnp.zeros(outputs)} if bias else {})


def dense(layer, x, name):
    """x kernel + bias in the dtype of ``x`` [..., n]; the bias may be missing."""
    layer = {"bias": jnp.zeros((), accumulator(x))} | layer
    return dense_layer(layer, x, name).astype(x.dtype)


def init_norm(channels):
    """{"scale": ones [C], "bias": zeros [C]}."""
    return {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)}


def up(x):
    """Nearest neighbour: every place [B, h, w, C] becomes 2 x 2 of them."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def down(x):
    """The mean of every 2 x 2 places of [B, h, w, C]."""
    batch, height, width, channels = x.shape
    split = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return jnp.mean(split, axis=(2, 4), dtype=accumulator(x)).astype(x.dtype)


RESAMPLE = {None: lambda x: x, "up": up, "down": down}


def init_residual(key, inputs, outputs, time_width, *, scaled=True):
    """Parameters of :func:`residual`."""
    first, middle, short = jax.random.split(key, 3)
    params = {
        "norm_in": init_norm(inputs),
        "conv_in": init_conv(first, inputs, outputs),
        "time": init_dense(middle, time_width, 2 * outputs if scaled else outputs),
        "norm_out": init_norm(outputs),
        "conv_out": init_conv(None, outputs, outputs, zero=True),
    }
    changed = {} if inputs == outputs else {"shortcut": init_conv(short, inputs, outputs, kernel=1)}
    return params | changed


def residual(params, x, time, *, groups, resample=None, dropout=0.0, key=None):
    """Residual block of ADM: two convolutions, between which the time scales and shifts the channels.

    ``x' + conv_out(drop(silu(norm_out(h) (1 + scale) + shift)))`` with ``h = conv_in(silu(norm_in(x)))``.
    The resampling is applied to the input of conv_in and to x'. A time layer with C outputs adds them to h
    before its norm instead, as in Stable Diffusion. ``time`` is [B, time_width], already activated.
    """
    h = RESAMPLE[resample](jax.nn.silu(group_norm(params["norm_in"], x, groups=groups)))
    h = conv(params["conv_in"], h)
    shifts = dense(params["time"], time, "time")
    if shifts.shape[1] == h.shape[-1]:
        h = group_norm(params["norm_out"], h + shifts[:, None, None].astype(h.dtype), groups=groups)
    else:
        scale, shift = jnp.split(shifts, 2, axis=1)
        h = modulate(group_norm(params["norm_out"], h, groups=groups), 1 + scale, shift)
    h = jax.nn.silu(h)
    if key is not None and dropout:
        h = jnp.where(jax.random.bernoulli(key, 1 - dropout, h.shape), h / (1 - dropout), 0)
    x = RESAMPLE[resample](x)
    x = conv(params["shortcut"], x) if "shortcut" in params else x
    return x + conv(params["conv_out"], h)


def _heads(layer, x, heads, name):
    x = dense(layer, x, name)
    return x.reshape(*x.shape[:2], heads, x.shape[-1] // heads)


def _attend(params, x, keys, values, heads, mask=None):
    """Attention of tokens x [B, T, C] to keys [B, S, E] and values [B, S, E]: [B, T, C]."""
    q = _heads(params["query"], x, heads, "tokens")
    k, v = _heads(params["key"], keys, heads, "tokens"), _heads(params["value"], values, heads, "values")
    mixed = dot_product_attention(q, k, v, mask)
    return dense(params["out"], mixed.reshape(*x.shape[:2], -1), "out")


def _init_attend(key, channels, width, *, bias, zero):
    """query, key, value and out; ``width`` is that of keys and values."""
    keys = jax.random.split(key, 4)
    inputs = {"query": channels, "key": width, "value": width}
    params = {
        name: init_dense(k, n, channels, bias=bias)
        for k, (name, n) in zip(keys, inputs.items(), strict=False)
    }
    return params | {"out": init_dense(keys[3], channels, channels, zero=zero)}


def init_attention(key, channels):
    """Parameters of :func:`attention`."""
    return {"norm": init_norm(channels), **_init_attend(key, channels, channels, bias=True, zero=True)}


def attention(params, x, *, heads, groups):
    """Attention block of ADM: places of a map read each other, added to what came in."""
    y = group_norm(params["norm"], x, groups=groups).reshape(x.shape[0], -1, x.shape[-1])
    return x + _attend(params, y, y, y, heads).reshape(x.shape)


def _layer_norm(params, x):
    return layer_norm(params, x).astype(x.dtype)


def init_spatial_transformer(key, channels, context):
    """Parameters of :func:`spatial_transformer`."""
    keys = jax.random.split(key, 5)
    return {
        "norm": init_norm(channels),
        "in": init_dense(keys[0], channels, channels),
        "self_norm": init_norm(channels),
        "self": _init_attend(keys[1], channels, channels, bias=False, zero=False),
        "cross_norm": init_norm(channels),
        "cross": _init_attend(keys[2], channels, context, bias=False, zero=False),
        "mlp_norm": init_norm(channels),
        "mlp_in": init_dense(keys[3], channels, 8 * channels),
        "mlp_out": init_dense(keys[4], 4 * channels, channels),
        "out": init_dense(None, channels, channels, zero=True),
    }


def spatial_transformer(params, x, keys, values, mask, *, heads, groups):
    """Transformer block of latent diffusion: places read each other, then the context, then a GEGLU network.

    ``keys`` and ``values`` are contexts [B, S, E], two of them so that they may differ; ``mask`` is bool
    [B, S] or None.
    """
    y = group_norm(params["norm"], x, groups=groups, epsilon=1e-6).reshape(x.shape[0], -1, x.shape[-1])
    y = dense(params["in"], y, "in")
    z = _layer_norm(params["self_norm"], y)
    y = y + _attend(params["self"], z, z, z, heads)
    z = _layer_norm(params["cross_norm"], y)
    y = y + _attend(params["cross"], z, keys.astype(z.dtype), values.astype(z.dtype), heads, mask)
    z = dense(params["mlp_in"], _layer_norm(params["mlp_norm"], y), "mlp_in")
    plain, opening = jnp.split(z, 2, axis=-1)
    y = y + dense(params["mlp_out"], plain * ACTIVATIONS["gelu"](opening), "mlp_out")
    return x + dense(params["out"], y, "out").reshape(x.shape)
