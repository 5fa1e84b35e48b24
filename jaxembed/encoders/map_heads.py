"""Heads that read feature maps: pooling to a few places, and attention over all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape
from jaxembed.encoders import _unet_layers as layers
from jaxembed.encoders.transformer import transformer


def adaptive_pool(maps, size):
    """Adaptive mean pooling: brings maps of any side to a given one.

    Row i of the result is the mean over rows ``floor(i h / size)`` to ``ceil((i + 1) h / size) - 1``, and
    columns alike; neighbouring windows overlap where ``size`` does not divide the side.

    >>> print(adaptive_pool(jnp.arange(3.0).reshape(1, 1, 3, 1), 2)[0, :, :, 0])
    [[0.5 1.5]
     [0.5 1.5]]

    Args:
        maps: [B, h, w, C].
        size: side of the result; 1 is the mean over all places.

    Returns:
        [B, size, size, C] in the dtype of ``maps``.

    Raises:
        ValueError: for another shape, or a size below 1.

    References:
        The rule is that of ``AdaptiveAvgPool2d`` of torch.
    """
    maps = jnp.asarray(maps)
    check_shape("maps", maps, (None,) * 4)
    if size < 1:
        raise ValueError(f"size: {size}; pass at least 1")
    rows, columns = (jnp.asarray(_windows(n, size), accumulator(maps)) for n in maps.shape[1:3])
    found = jnp.einsum("ih,bhwc,jw->bijc", rows, maps, columns, precision="highest")
    return found.astype(maps.dtype)


@functools.lru_cache(maxsize=64)
def _windows(length, size):
    """Weights [size, length] of the means over windows."""
    found = np.zeros((size, length))
    for i in range(size):
        window = slice(i * length // size, -(-(i + 1) * length // size))
        found[i, window] = 1 / (window.stop - window.start)
    return found


def init_attention_head(key, shape, classes, *, width=1024, blocks=2, heads=8):
    """Attention head: draws the parameters of :func:`attention_head`.

    Args:
        key: random key.
        shape: (h, w, C) of the maps.
        classes: K.
        width: of the tokens, divisible by ``heads``.
        blocks: transformer blocks.
        heads: of the attention.

    Returns:
        {"norm_in", "project", "cls", "blocks", "out"}. The class token starts as zeros.
    """
    body, out = jax.random.split(key)
    params = _tokens(tuple(shape), width, blocks, heads).init(body)
    return params | {"out": layers.init_dense(out, width, classes)}


def attention_head(params, maps, *, heads=8):
    """Attention head: a class token reads all places of feature maps and decides.

    Layer norm over channels and places together, a dense layer to ``width``, the class token in front, blocks
    with the norm before each branch and no bias in query, key and value; the class token goes to a dense
    layer. Positions and a last norm are left out.

    >>> params = init_attention_head(jax.random.key(0), (2, 2, 3), 5, width=8, heads=2)
    >>> print(attention_head(params, jnp.ones((4, 2, 2, 3)), heads=2).shape)
    (4, 5)

    Args:
        params: of :func:`init_attention_head`.
        maps: [B, h, w, C] of its shape; pool larger ones first.
        heads: as there.

    Returns:
        Logits [B, K] in the dtype of ``maps``.

    Raises:
        ValueError: for maps of another shape.

    References:
        S. Mukhopadhyay et al., arXiv:2307.08702, as released: width 1024, 2 blocks, 8 heads.
    """
    maps = jnp.asarray(maps)
    shape = params["norm_in"]["scale"].shape
    check_shape("maps", maps, (None, *shape))
    width, blocks = params["cls"].shape[0], params["blocks"]["attention_norm"]["scale"].shape[0]
    body = {name: x for name, x in params.items() if name != "out"}
    states = _tokens(shape, width, blocks, heads).hidden(body, {"maps": maps})["tokens"]
    return layers.dense(params["out"], states[:, 0], "out")


@functools.lru_cache(maxsize=64)
def _tokens(shape, width, blocks, heads):
    """The transformer over the class token and the places of maps."""

    def init_embed(key):
        norm = {"scale": jnp.ones(shape), "bias": jnp.zeros(shape)}
        return {"norm_in": norm, "project": layers.init_dense(key, shape[-1], width), "cls": jnp.zeros(width)}

    def embed(params, batch):
        x = batch["maps"]
        wide = x.astype(accumulator(x))
        wide = wide - jnp.mean(wide, axis=(1, 2, 3), keepdims=True)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=(1, 2, 3), keepdims=True) + 1e-5)
        x = (wide * params["norm_in"]["scale"] + params["norm_in"]["bias"]).astype(x.dtype)
        x = layers.dense(params["project"], x.reshape(len(x), -1, shape[-1]), "project")
        first = jnp.broadcast_to(params["cls"].astype(x.dtype), (len(x), 1, width))
        x = jnp.concatenate([first, x], axis=1)
        return x, jnp.ones(x.shape[:2], bool)

    options = {"layers": blocks, "heads": heads, "final_norm": False, "epsilon": 1e-5, "activation": "gelu"}
    return transformer(init_embed, embed, width=width, biases=("out", "mlp", "norm"), **options)
