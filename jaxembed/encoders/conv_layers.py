"""Layers of convolutional nets: convolution, pooling over windows, norms of maps."""

import math

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator

MOMENTUM = 0.9


def convolve(kernel, x, *, stride=1, padding=None, groups=1):
    """Convolution: slides a kernel over maps.

    >>> print(convolve(jnp.ones((3, 3, 1, 1)), jnp.ones((1, 2, 3, 1)))[0, ..., 0])
    [[4. 6. 4.]
     [4. 6. 4.]]

    Args:
        kernel: [kh, kw, C / groups, E], both sizes odd unless ``padding`` is given.
        x: [B, h, w, C].
        stride: of both directions.
        padding: rows and columns of zeros on each side, ((top, bottom), (left, right)), or XLA's words
            "SAME" and "VALID". None takes half the kernel on each side, which gives [ceil(h / stride), ...].
        groups: C for a depthwise convolution.

    Returns:
        [B, h', w', E] in the dtype of ``x``; products are summed in at least float32.
    """
    if padding is None:
        padding = [(size // 2, size // 2) for size in kernel.shape[:2]]
    out = jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        preferred_element_type=accumulator(x),
    )
    return out.astype(x.dtype)


def _windows(x, operation, start, window, stride, padding=None):
    """Reduces windows of [B, h, w, C], by default with half a window of padding on each side."""
    edge = (window // 2, window // 2)
    steps, sizes = (1, stride, stride, 1), (1, window, window, 1)
    padding = ((0, 0), edge, edge, (0, 0)) if padding is None else padding
    return jax.lax.reduce_window(x, start, operation, sizes, steps, padding)


def max_windows(x, *, window=3, stride=1, padding=None):
    """Max pooling over windows: the largest value near each place.

    >>> print(max_windows(jnp.arange(4.0).reshape(1, 1, 4, 1))[0, 0, :, 0])
    [1. 2. 3. 3.]

    Args:
        x: [B, h, w, C].
        window: its side, odd.
        stride: of both directions.
        padding: XLA's words "SAME" and "VALID"; None takes half the window on each side.

    Returns:
        [B, ceil(h / stride), ceil(w / stride), C]; with "VALID" windows end inside of the map.
    """
    return _windows(x, jax.lax.max, -jnp.inf, window, stride, padding)


def l2_pool(x, *, window=3, stride=1):
    """L2 pooling over windows: the root of the sum of squares near each place.

    ``out[p] = sqrt(sum over the window around p of x**2)``, for each channel. Where a window holds zeros
    only, the result and its gradient are 0.

    >>> print(l2_pool(jnp.array([3.0, 4.0, 0.0, 0.0]).reshape(1, 1, 4, 1))[0, 0, :, 0])
    [5. 5. 4. 0.]

    Args:
        x: [B, h, w, C].
        window: its side, odd.
        stride: of both directions.

    Returns:
        [B, ceil(h / stride), ceil(w / stride), C] in the dtype of ``x``.

    References:
        F. Schroff et al., arXiv:1503.03832, section 3.3.
    """
    wide = x.astype(accumulator(x))
    squares = _windows(jnp.square(wide), jax.lax.add, 0.0, window, stride)
    return root(squares).astype(x.dtype)


def root(squares):
    """Square root whose gradient at 0 is 0."""
    zero = squares <= 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))


def group_norm(params, x, *, groups=None, epsilon=1e-5):
    """Group norm: makes the mean 0 and the variance 1 within groups of channels of each picture.

    Scale and bias of each channel follow. By default a group has at least 8 channels and there are at most 32
    groups, so that 16 channels are 2 groups and up to 15 are one.

    >>> params = {"scale": jnp.ones(2), "bias": jnp.zeros(2)}
    >>> print(group_norm(params, jnp.array([[[[1.0, 3.0]]]])).round(3))
    [[[[-1.  1.]]]]

    Args:
        params: {"scale": [C], "bias": [C]}.
        x: [B, h, w, C].
        groups: their number, which divides C; None takes the one above.
        epsilon: added to the variance.

    Returns:
        [B, h, w, C] in the dtype of ``x``; moments are computed in at least float32.

    Raises:
        ValueError: for groups that do not divide the channels.

    References:
        Y. Wu and K. He, arXiv:1803.08494; groups of 8 channels and more are the small net's choice.
    """
    channels = x.shape[-1]
    if groups is None:
        groups = next(g for g in range(min(32, max(1, channels // 8)), 0, -1) if channels % g == 0)
    if groups < 1 or channels % groups:
        raise ValueError(f"groups: {groups} of {channels} channels; pass a number that divides them")
    wide = x.astype(accumulator(x))
    centred = wide - _within_groups(jnp.mean(wide, axis=(1, 2)), groups)
    variance = _within_groups(jnp.mean(jnp.square(centred), axis=(1, 2)), groups)
    factor = params["scale"] * jax.lax.rsqrt(variance + epsilon)
    return (centred * factor + params["bias"]).astype(x.dtype)


def _within_groups(moments, groups):
    """Means [B, 1, 1, C] within groups of moments of channels [B, C]: maps are never reshaped for them."""
    split = moments.reshape(len(moments), groups, -1)
    split = jnp.broadcast_to(jnp.mean(split, axis=2, keepdims=True), split.shape)
    return split.reshape(len(moments), 1, 1, -1)


def batch_norm(params, state, x, *, train=False, momentum=MOMENTUM, epsilon=1e-5):
    """Batch norm: makes the mean 0 and the variance 1 of each channel over a batch, or by running statistics.

    In training the moments are those of the batch, and the new state is
    ``momentum * state + (1 - momentum) * moments``, with the unbiased variance. Scale and bias follow.

    >>> params = {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
    >>> state = {"mean": jnp.zeros(1), "variance": jnp.ones(1)}
    >>> x = jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    >>> y, state = batch_norm(params, state, x, train=True)
    >>> print(y.ravel().round(3), state["mean"], state["variance"])
    [-1.  1.] [0.2] [1.1]

    Args:
        params: {"scale": [C], "bias": [C]}.
        state: {"mean": [C], "variance": [C]}.
        x: [B, h, w, C].
        train: True takes the moments of the batch; False those of ``state``.
        momentum: share of the old statistics that is kept.
        epsilon: added to the variance.

    Returns:
        ([B, h, w, C] in the dtype of ``x``, the state).

    References:
        S. Ioffe and C. Szegedy, arXiv:1502.03167.
    """
    wide = x.astype(accumulator(x))
    mean, variance = state["mean"], state["variance"]
    if train:
        mean, variance = jnp.mean(wide, axis=(0, 1, 2)), jnp.var(wide, axis=(0, 1, 2))
        count = math.prod(x.shape[:3])
        seen = {"mean": mean, "variance": variance * (count / max(1, count - 1))}
        mixed = jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, state, seen)
        state = jax.lax.stop_gradient(mixed)
    factor = params["scale"] * jax.lax.rsqrt(variance + epsilon)
    return ((wide - mean) * factor + params["bias"]).astype(x.dtype), state


def response_norm(x, *, window=5, bias=1.0, rate=1e-4, power=0.75):
    """Local response norm: divides each channel by a power of the mean square of its neighbours.

    ``out[c] = x[c] / (bias + rate / window * sum of x[c']**2) ** power`` over the ``window`` channels c'
    around c.

    >>> print(response_norm(jnp.full((1, 1, 1, 1), 2.0), window=1, rate=1.0, power=1.0))
    [[[[0.4]]]]

    Args:
        x: [B, h, w, C].
        window: number of neighbours with the channel itself, odd.
        bias, rate, power: positive floats.

    Returns:
        [B, h, w, C] in the dtype of ``x``.

    References:
        A. Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012.
    """
    wide = x.astype(accumulator(x))
    sizes, edge = (1, 1, 1, window), ((0, 0), (0, 0), (0, 0), (window // 2, window // 2))
    squares = jax.lax.reduce_window(jnp.square(wide), 0.0, jax.lax.add, sizes, (1, 1, 1, 1), edge)
    return (wide / (bias + rate / window * squares) ** power).astype(x.dtype)
