"""Blocks of convolutional nets: convolution with norm and ReLU, residual, inception, pooling.

A block is a :class:`ConvBlock`. Which norm it has is a choice of the net, so both its functions take one.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxembed.encoders.conv_layers import (
    batch_norm,
    convolve,
    group_norm,
    l2_pool,
    max_windows,
    response_norm,
)

NORMS = ("group", "batch", None)
HE = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class ConvBlock(NamedTuple):
    """Two functions from which :func:`~jaxembed.encoders.convolution.convnet` builds its stages.

    ``init(key, channels, norm) -> (params, state, channels)`` takes and returns a number of channels;
    ``apply(params, state, x, norm, train) -> (x, state)`` takes x [B, h, w, C]. The state is {} except for
    batch norm, whose running statistics it holds.
    """

    init: Callable
    apply: Callable


def conv(channels, *, kernel=3, stride=1, activation=jax.nn.relu):
    """Convolution block: a convolution, the norm of the net, an activation.

    >>> block = conv(8, stride=2)
    >>> params, state, channels = block.init(jax.random.key(0), 3, "group")
    >>> out, _ = block.apply(params, state, jnp.ones((1, 5, 5, 3)), "group", False)
    >>> print(out.shape, sorted(params))
    (1, 3, 3, 8) ['kernel', 'norm']

    Args:
        channels: E of the result.
        kernel: its side, odd.
        stride: of both directions.
        activation: function of arrays; None leaves it out.

    Returns:
        :class:`ConvBlock`. Its params are ``kernel`` [k, k, C, E], N(0, 2 / (k k C)), and ``norm`` (``scale``
        and ``bias`` [E]); without a norm ``bias`` [E].
    """
    if kernel % 2 != 1 or min(kernel, stride, channels) < 1:
        raise ValueError(f"kernel: {kernel} (odd), stride {stride} and channels {channels} must be positive")

    def init(key, inputs, norm):
        params = {"kernel": HE(key, (kernel, kernel, inputs, channels))}
        if norm is None:
            return params | {"bias": jnp.zeros(channels)}, {}, channels
        params["norm"] = {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)}
        state = {"mean": jnp.zeros(channels), "variance": jnp.ones(channels)} if norm == "batch" else {}
        return params, state, channels

    def apply(params, state, x, norm, train):
        x = convolve(params["kernel"], x, stride=stride)
        if norm is None:
            x = x + params["bias"].astype(x.dtype)
        elif norm == "group":
            x = group_norm(params["norm"], x)
        else:
            x, state = batch_norm(params["norm"], state, x, train=train)
        return (x if activation is None else activation(x)), state

    return ConvBlock(init, apply)


def layer(name, **options):
    """Block without parameters: pools windows or norms responses.

    >>> out, _ = layer("max", stride=2).apply({}, {}, jnp.ones((1, 5, 5, 3)), None, False)
    >>> print(out.shape)
    (1, 3, 3, 3)

    Args:
        name: "max" (``max_windows``), "l2" (``l2_pool``) or "response" (``response_norm``).
        **options: of that function.

    Returns:
        :class:`ConvBlock`.
    """
    functions = {"max": max_windows, "l2": l2_pool, "response": response_norm}
    if name not in functions:
        raise ValueError(f"name: {name!r}; pass one of {', '.join(map(repr, functions))}")
    function = functools.partial(functions[name], **options)
    return ConvBlock(
        lambda key, channels, norm: ({}, {}, channels),
        lambda params, state, x, norm, train: (function(x), state),
    )


def chain(*blocks):
    """Chain of blocks: each takes what the one before it gives.

    >>> params, _, channels = chain(conv(8), conv(16)).init(jax.random.key(0), 3, "group")
    >>> print(sorted(params), channels)
    ['block_0', 'block_1'] 16

    Args:
        *blocks: :class:`ConvBlock`.

    Returns:
        :class:`ConvBlock`.
    """
    names = [f"block_{i}" for i in range(len(blocks))]

    def init(key, channels, norm):
        params, state = {}, {}
        for i, (name, block) in enumerate(zip(names, blocks, strict=True)):
            params[name], state[name], channels = block.init(jax.random.fold_in(key, i), channels, norm)
        return params, state, channels

    def apply(params, state, x, norm, train):
        new = {}
        for name, block in zip(names, blocks, strict=True):
            x, new[name] = block.apply(params[name], state.get(name, {}), x, norm, train)
        return x, new

    return ConvBlock(init, apply)


def residual(channels, *, kernel=3, stride=1):
    """Residual block: two convolutions whose result is added to what came in.

    ``relu(conv(conv(x)) + x)``. The sum's x goes through a convolution with a kernel of 1 where the stride or
    the number of channels changes.

    >>> params, _, _ = residual(8, stride=2).init(jax.random.key(0), 3, "group")
    >>> print(sorted(params), params["shortcut"]["kernel"].shape)
    ['first', 'second', 'shortcut'] (1, 1, 3, 8)

    Args:
        channels: of the result.
        kernel: its side, odd.
        stride: of the first convolution.

    Returns:
        :class:`ConvBlock`.

    References:
        K. He et al., arXiv:1512.03385, the basic block with projection shortcuts (option B).
    """
    first, second = (
        conv(channels, kernel=kernel, stride=stride),
        conv(channels, kernel=kernel, activation=None),
    )
    shortcut = conv(channels, kernel=1, stride=stride, activation=None)

    def parts(inputs):
        changed = stride != 1 or inputs != channels
        return {"first": (first, inputs), "second": (second, channels)} | (
            {"shortcut": (shortcut, inputs)} if changed else {}
        )

    def init(key, inputs, norm):
        params, state = {}, {}
        for i, (name, (block, width)) in enumerate(parts(inputs).items()):
            params[name], state[name], _ = block.init(jax.random.fold_in(key, i), width, norm)
        return params, state, channels

    def apply(params, state, x, norm, train):
        new, y, short = dict(state), x, x
        for name, block in (("first", first), ("second", second)):
            y, new[name] = block.apply(params[name], state.get(name, {}), y, norm, train)
        if "shortcut" in params:
            before = state.get("shortcut", {})
            short, new["shortcut"] = shortcut.apply(params["shortcut"], before, x, norm, train)
        return jax.nn.relu(y + short), new

    return ConvBlock(init, apply)


def inception(one, three=None, five=None, pool=("max", None), *, stride=1):
    """Inception block: branches with kernels of 1, 3 and 5 and a pooled one, one beside the other.

    >>> block = inception(64, (96, 128), (16, 32), ("max", 32))
    >>> params, _, channels = block.init(jax.random.key(0), 192, None)
    >>> print(sorted(params), channels)
    ['five', 'one', 'pool', 'three'] 256

    Args:
        one: channels of the branch with a kernel of 1; None leaves it out.
        three: (channels of the kernel of 1 before it, channels) of the branch with a kernel of 3; or None.
        five: the same of the branch with a kernel of 5; or None.
        pool: ("max" or "l2", channels of the kernel of 1 after it); channels None leave that kernel out; or
            None.
        stride: 2 halves the maps. The branch with a kernel of 1 is left out then, as in the paper.

    Returns:
        :class:`ConvBlock` whose result has the channels of the branches in this order.

    References:
        C. Szegedy et al., arXiv:1409.4842; F. Schroff et al., arXiv:1503.03832, table 2.
    """
    if stride != 1 and one is not None:
        raise ValueError(f"one: {one} with stride {stride}; pass None, this branch keeps the size")
    branches = {"one": one and conv(one, kernel=1)}
    for name, kernel, sizes in (("three", 3, three), ("five", 5, five)):
        branches[name] = sizes and chain(
            conv(sizes[0], kernel=1), conv(sizes[1], kernel=kernel, stride=stride)
        )
    if pool:
        projected = [] if pool[1] is None else [conv(pool[1], kernel=1)]
        branches["pool"] = chain(layer(pool[0], stride=stride), *projected)
    branches = {name: block for name, block in branches.items() if block}

    def init(key, inputs, norm):
        params, state, total = {}, {}, 0
        for i, (name, block) in enumerate(branches.items()):
            params[name], state[name], channels = block.init(jax.random.fold_in(key, i), inputs, norm)
            total += channels
        return params, state, total

    def apply(params, state, x, norm, train):
        parts = {n: b.apply(params[n], state.get(n, {}), x, norm, train) for n, b in branches.items()}
        new = {name: state for name, (_, state) in parts.items()}
        return jnp.concatenate([y for y, _ in parts.values()], axis=-1), new

    return ConvBlock(init, apply)
