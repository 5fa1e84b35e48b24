"""Convolutional nets: pictures → maps of every stage → one vector for each picture."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator
from jaxembed.encoders.conv_blocks import NORMS, ConvBlock, chain, conv, inception, layer
from jaxembed.encoders.conv_layers import root
from jaxembed.encoders.mlp import dense_layer


class ConvNet(NamedTuple):
    """A convolutional net as three functions, which :func:`convnet` describes."""

    init: Callable
    maps: Callable
    encode: Callable
    channels: int = 3  # of its pictures


def convnet(stages, *, kernel=3, norm="group", pool="mean", width=None, inputs=3, dropout=0.0):
    """Convolutional net: stages of blocks, then pooling over places, then a dense layer.

    With an int C as a stage, that stage is one convolution with C channels, the norm and ReLU. Its stride is
    2, and 1 in the first stage: maps of n stages are the picture's size divided by 1, 2, ..., ``2**(n-1)``.

    >>> net = convnet([8, 16], width=4, inputs=1)
    >>> params = net.init(jax.random.key(0))
    >>> images = jnp.ones((2, 8, 8, 1))
    >>> print([m.shape for m in net.maps(params, images)], net.encode(params, images).shape)
    [(2, 8, 8, 8), (2, 4, 4, 16)] (2, 4)

    Args:
        stages: a sequence; each is an int, a block of ``encoders`` (``residual(64, stride=2)``, ...) or a
            sequence of blocks.
        kernel: side of the kernels of int stages, odd.
        norm: "group", "batch" or None, of every convolution.
        pool: "mean", "max" or "l2" (root of the sum of squares) over the places of the last map; or a
            function [B, h, w, C] -> [B, D].
        width: D of the dense layer after pooling; None leaves it out.
        inputs: channels of the pictures, 1 for grey ones.
        dropout: share of the pooled values that become 0 where a key is given; the rest is divided by
            ``1 - dropout``.

    Returns:
        :class:`ConvNet` of three pure functions. Pictures are [B, H, W, inputs], floats as they are, uint8
        divided by 255.

        ``init(key) -> params``. With ``norm="batch"`` it is ``(params, state)``, what ``train.fit`` takes.

        ``maps(params, images, key=None, *, state=None, train=False)``: tuple of [B, h, w, C], one per stage.

        ``encode(params, images, key=None, *, state=None, train=False)``: [B, D], not normalised.

        Batch norm needs the ``state``. With ``train=True`` it takes the moments of the batch and both
        functions return ``(result, new state)``.

    Raises:
        ValueError: for an unknown norm or pool, a dropout outside its range, no stages, pictures of another
            number of channels, or batch norm without its state.
    """
    blocks = _blocks(stages, kernel)
    if norm not in NORMS:
        raise ValueError(f"norm: {norm!r}; pass one of {', '.join(map(repr, NORMS))}")
    if pool not in POOLS and not callable(pool):
        raise ValueError(f"pool: {pool!r}; pass one of {', '.join(map(repr, POOLS))}, or a function")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: {dropout}; pass a share from 0, below 1")
    pooled = POOLS.get(pool, pool)

    def init(key):
        first, last = jax.random.split(key)
        params, state, channels = {}, {}, inputs
        for i, (name, block) in enumerate(blocks.items()):
            params[name], state[name], channels = block.init(jax.random.fold_in(first, i), channels, norm)
        params = {"stages": params}
        if width is not None:
            dense = jax.random.normal(last, (channels, width)) / math.sqrt(channels)
            params["dense"] = {"kernel": dense, "bias": jnp.zeros(width)}
        return (params, state) if norm == "batch" else params

    def run(params, images, state, train):
        if norm == "batch" and state is None:
            raise ValueError("state: None with batch norm; pass the statistics that init returned")
        x, found, new = _floats(images, inputs), [], {}
        for name, block in blocks.items():
            before = state[name] if norm == "batch" else {}
            x, new[name] = block.apply(params["stages"][name], before, x, norm, train)
            found.append(x)
        return tuple(found), new

    def maps(params, images, key=None, *, state=None, train=False):
        found, new = run(params, images, state, train)
        return (found, new) if norm == "batch" and train else found

    def encode(params, images, key=None, *, state=None, train=False):
        found, new = run(params, images, state, train)
        x = pooled(found[-1])
        if key is not None and dropout:
            x = jnp.where(jax.random.bernoulli(key, 1 - dropout, x.shape), x / (1 - dropout), 0)
        if width is not None:
            x = dense_layer(params["dense"], x, "dense").astype(x.dtype)
        return (x, new) if norm == "batch" and train else x

    return ConvNet(init, maps, encode, inputs)


def _mean(x):
    return jnp.mean(x.astype(accumulator(x)), axis=(1, 2)).astype(x.dtype)


def _l2(x):
    return root(jnp.sum(jnp.square(x.astype(accumulator(x))), axis=(1, 2))).astype(x.dtype)


POOLS = {"mean": _mean, "max": lambda x: jnp.max(x, axis=(1, 2)), "l2": _l2}


def _blocks(stages, kernel):
    """{"stage_0": block, ...} of what ``convnet`` calls stages."""
    stages = list(stages)
    if not stages:
        raise ValueError("stages: none; pass a number of channels for each, such as [16, 32]")
    made = {}
    for i, stage in enumerate(stages):
        if isinstance(stage, int):
            stage = conv(stage, kernel=kernel, stride=2 if i else 1)
        made[f"stage_{i}"] = stage if isinstance(stage, ConvBlock) else chain(*stage)
    return made


def _floats(images, inputs):
    images = jnp.asarray(images)
    if images.ndim != 4 or images.shape[-1] != inputs:
        raise ValueError(
            f"images: shape {images.shape}; pass [B, H, W, {inputs}], or inputs= of their number of channels"
        )
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    if images.dtype != jnp.uint8:
        raise ValueError(f"images: {images.dtype}; pass floats, or uint8 of 0 to 255")
    return images.astype(jnp.float32) / 255


def nn2():
    """NN2: the stages of FaceNet's Inception net, made for pictures of 224 x 224.

    Five maps of 64, 192, 320, 640 and 1,024 channels at strides 2 to 32. The embedding is
    ``convnet(nn2(), norm=None, width=128)`` and the unit vectors of its result. The paper names two norms
    after early layers and not their settings; here they are local response norms.

    >>> net = convnet(nn2(), norm=None, width=128)
    >>> shapes = jax.eval_shape(net.init, jax.random.key(0))
    >>> print(sum(x.size for x in jax.tree.leaves(shapes)))
    7456304

    Returns:
        List of stages for :func:`convnet`.

    References:
        F. Schroff et al., arXiv:1503.03832, table 2.
    """
    mixed = [
        inception(one, three, (32, 64), ("l2", 128))
        for one, three in ((256, (96, 192)), (224, (112, 224)), (192, (128, 256)), (160, (144, 288)))
    ]
    return [
        [conv(64, kernel=7, stride=2)],
        [layer("max", stride=2), layer("response"), conv(64, kernel=1), conv(192), layer("response")],
        [
            layer("max", stride=2),
            inception(64, (96, 128), (16, 32), ("max", 32)),
            inception(64, (96, 128), (32, 64), ("l2", 64)),
        ],
        [inception(None, (128, 256), (32, 64), ("max", None), stride=2), *mixed],
        [
            inception(None, (160, 256), (64, 128), ("max", None), stride=2),
            inception(384, (192, 384), (48, 128), ("l2", 128)),
            inception(384, (192, 384), (48, 128), ("max", 128)),
        ],
    ]
