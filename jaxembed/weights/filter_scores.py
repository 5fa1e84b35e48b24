"""Scores of filters: which outputs of a convolution matter, and how stable a choice of them is."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, on_device
from jaxembed.checks import check_whole

RATIOS = ("out_over_in", "in_over_out")


def filter_l1(kernel):
    """L1 score: the mean absolute weight of each filter.

    >>> print(filter_l1(jnp.array([1.0, -3.0, 0.0, 2.0]).reshape(1, 1, 2, 2)))
    [0.5 2.5]

    Args:
        kernel: [kh, kw, in, out].

    Returns:
        [out], in at least float32; 0 for a filter of zeros, NaN where a weight is.

    References:
        H. Li et al., Pruning filters for efficient ConvNets, arXiv:1608.08710.
    """
    kernel = on_device("kernel", kernel)
    check_shape("kernel", kernel, (None,) * 4)
    return jnp.mean(jnp.abs(kernel.astype(accumulator(kernel))), axis=(0, 1, 2))


def feature_rank(maps):
    """HRank score: the mean rank of each channel's map, read as a matrix.

    >>> maps = jnp.stack([jnp.eye(3), jnp.ones((3, 3))], axis=-1)[None]
    >>> print(feature_rank(maps))
    [3. 1.]

    Args:
        maps: [N, h, w, C], after ReLU as the paper has them.

    Returns:
        float32 [C], at most the smaller side of the maps. Maps of one place have the rank 0 or 1.

    References:
        M. Lin et al., HRank, arXiv:2002.10179.
    """
    maps = on_device("maps", maps)
    check_shape("maps", maps, (None,) * 4)
    matrices = jnp.moveaxis(maps.astype(accumulator(maps)), -1, 0)
    bad = jnp.isnan(matrices).any(axis=(-2, -1))
    ranks = jnp.linalg.matrix_rank(jnp.where(bad[..., None, None], 0, matrices))
    return jnp.mean(jnp.where(bad, jnp.nan, ranks.astype(jnp.float32)), axis=1)


def activation_spread(
    kernel, inputs, outputs, *, stride=1, padding=None, dilation=1, ratio="out_over_in", epsilon=0.0,
    released=False,
):  # fmt: skip
    """Beta-rank: a filter's L1 score times how much it changes the spread of the data.

    ``score[k] = mean |kernel[..., k]| * sum over places p of a[p, k] / b[p]``. Here ``a`` is the standard
    deviation of output k over the pictures, and ``b`` that of all numbers that the filter reads at p, over
    the pictures. This is what the released code computes. The paper prints the ratio the other way up,
    ``b / a``: ``ratio="in_over_out"``.

    >>> x = jax.random.normal(jax.random.key(0), (64, 4, 4, 1))
    >>> kernel = jnp.array([1.0, 2.0, 0.0]).reshape(1, 1, 1, 3)
    >>> print((activation_spread(kernel, x, x * kernel[0, 0, 0]) / 16).round(2))
    [1. 4. 0.]

    A filter times c has the score times c squared, and with "in_over_out" the same score as before.

    Args:
        kernel: [kh, kw, in, out] of an ordinary, grouped or depthwise convolution.
        inputs: [N, h, w, C], what the convolution reads, C a multiple of ``in``; N at least 2.
        outputs: [N, h', w', out], what it gives, before norm and activation.
        stride: of both directions, or (rows, columns).
        padding: rows and columns of zeros on each side, ((top, bottom), (left, right)), or "SAME" or "VALID".
            None takes half the kernel on each side. Zeros count as numbers that are read.
        dilation: of the kernel in both directions, or (rows, columns).
        ratio: "out_over_in" or "in_over_out".
        epsilon: added to the divisor.
        released: True reads windows of channels and rows, over all columns, as the released code does by a
            slip of axes; only places whose window begins at a channel that exists count. For comparisons
            with its numbers.

    Returns:
        [out] in at least float32. Places that read a constant, or NaN, are left out. A filter with a constant
        output has the score 0, and with "in_over_out" infinity, unless ``epsilon`` is positive.

    Raises:
        ValueError: for shapes that do not fit, also outputs of another size than stride, padding and dilation
            give, a single picture, or an unknown ratio.

    References:
        M. Hosseini et al., Beta-Rank, arXiv:2304.07461. The mean of absolute weights stands for their sum,
        which changes no order within a layer.
    """
    kernel, inputs, outputs = (
        on_device(n, x) for n, x in (("kernel", kernel), ("inputs", inputs), ("outputs", outputs))
    )
    check_shape("kernel", kernel, (None,) * 4)
    kh, kw, read, filters = kernel.shape
    check_shape("inputs", inputs, (None,) * 4)
    check_shape("outputs", outputs, (len(inputs), None, None, filters))
    groups = inputs.shape[-1] // read
    if inputs.shape[-1] != groups * read or filters % groups:
        raise ValueError(f"inputs: {inputs.shape[-1]} channels; the kernel reads {read}, pass a multiple")
    if len(inputs) < 2:
        raise ValueError("inputs: one picture has no spread; pass at least two")
    if ratio not in RATIOS:
        raise ValueError(f"ratio: {ratio!r}; pass one of {', '.join(map(repr, RATIOS))}")
    wide = accumulator(kernel, inputs, outputs)
    steps = (stride, stride) if np.ndim(stride) == 0 else tuple(stride)
    apart = (dilation, dilation) if np.ndim(dilation) == 0 else tuple(dilation)
    shape = outputs.shape[1:3]
    x = inputs.astype(wide)
    if released:
        before = _window_deviation(jnp.moveaxis(x, 3, 1)[:, :, :, None], (kh, kw), steps, apart, shape)
    else:
        x = x.reshape(*x.shape[:3], groups, read)
        reach = tuple((k - 1) * d + 1 for k, d in zip((kh, kw), apart, strict=True))
        x = jnp.pad(x, ((0, 0), *_edges(x.shape[1:3], reach, steps, padding), (0, 0), (0, 0)))
        wanted = tuple((n - r) // s + 1 for n, r, s in zip(x.shape[1:3], reach, steps, strict=True))
        if shape != wanted:
            raise ValueError(
                f"outputs: maps of {shape}; stride, padding and dilation give {wanted}; pass all of them"
            )
        before = jnp.repeat(_window_deviation(x, (kh, kw), steps, apart, shape), filters // groups, axis=-1)
    after = jnp.std(outputs.astype(wide), axis=0)
    over, under = (after, before) if ratio == "out_over_in" else (before, after)
    counted = before > 0  # False for NaN
    shares = jnp.where(counted, over, 0) / jnp.where(counted, under + epsilon, 1)
    return filter_l1(kernel) * jnp.sum(shares, axis=(0, 1))


def _edges(sides, size, steps, padding):
    """Padding as ((top, bottom), (left, right))."""
    if padding is None:
        return tuple((k // 2, k // 2) for k in size)
    if isinstance(padding, str):
        return tuple(jax.lax.padtype_to_pads(sides, size, steps, padding))
    return tuple(tuple(map(int, pair)) for pair in padding)


def _window_deviation(x, size, steps, apart, shape):
    """Standard deviation [*shape, G] over pictures, windows and channels of [N, a, b, G, c].

    Within a place, and between the places of a window, apart: nothing cancels.
    """
    mean, variance = jnp.mean(x, axis=(0, 4)), jnp.var(x, axis=(0, 4))
    (rows, some), (columns, more) = (
        _windows(side, k, step, gap, count)
        for side, k, step, gap, count in zip(x.shape[1:3], size, steps, apart, shape, strict=True)
    )
    there = (some[:, :, None, None] & more)[..., None]
    mean, variance = (m[rows[:, :, None, None], columns] for m in (mean, variance))  # [a', kh, b', kw, G]
    total = jnp.sum(there, axis=(1, 3))
    centre = jnp.sum(jnp.where(there, mean, 0), axis=(1, 3)) / total
    squares = variance + jnp.square(mean - centre[:, None, :, None])
    return jnp.sqrt(jnp.sum(jnp.where(there, squares, 0), axis=(1, 3)) / total)


def _windows(side, size, step, gap, count):
    """Numbers [count, size] of the places of each window, and whether they exist."""
    places = np.arange(count)[:, None] * step + np.arange(size) * gap
    return np.minimum(places, side - 1), places < side


def min_max(scores):
    """Min-max scaling: the least score becomes 0 and the largest 1, which keeps their order.

    >>> print(min_max(jnp.array([2.0, 4.0, 3.0])))
    [0.  1.  0.5]

    Args:
        scores: [C].

    Returns:
        [C] in at least float32. Infinity is 1; of equal scores all are 0; NaN stays and is not counted.
    """
    scores = on_device("scores", scores)
    check_shape("scores", scores, (None,))
    scores = scores.astype(accumulator(scores))
    finite = jnp.isfinite(scores)
    low = jnp.min(jnp.where(finite, scores, jnp.inf))
    span = jnp.max(jnp.where(finite, scores, -jnp.inf)) - low
    scaled = jnp.where(span > 0, (scores - low) / jnp.where(span > 0, span, 1), 0)
    return jnp.where(
        finite, scaled, jnp.where(scores == jnp.inf, 1, jnp.where(scores == -jnp.inf, 0, scores))
    )


def select_filters(scores, keep):
    """Selects filters: the numbers of those with the largest scores, in their order in the kernel.

    Equal scores go to the lower number. ``jax.random.uniform(key, [C])`` as scores selects at random.

    >>> print(select_filters(jnp.array([0.1, 0.9, 0.5, 0.7]), 2))
    [1 3]

    Args:
        scores: [C]. NaN is chosen last.
        keep: int from 1 to C, static.

    Returns:
        int32 [keep], sorted.

    Raises:
        ValueError: for ``keep`` that is not an integer within 1..C.
    """
    scores = on_device("scores", scores)
    check_shape("scores", scores, (None,))
    check_whole(keep=keep)
    if not 1 <= keep <= len(scores):
        raise ValueError(f"keep: {keep} of {len(scores)} filters; choose 1 to {len(scores)}")
    lowest = jnp.where(jnp.isnan(scores), -jnp.inf, scores.astype(accumulator(scores)))
    return jnp.sort(jax.lax.top_k(lowest, keep)[1]).astype(jnp.int32)


def selection_stability(selections, count):
    """Stability of selections: the share of all filters that is selected at least once.

    ``|union of the selections| / count``. Selections of a quarter that always agree have 0.25, the best
    value; larger is less stable.

    >>> print(selection_stability([[0, 1], [0, 2]], 8))
    0.375

    Args:
        selections: sequence of int [K], for example for batches of pictures.
        count: number of filters.

    Returns:
        float within 0..1.

    Raises:
        ValueError: for no selection, or numbers outside 0..count - 1.

    References:
        M. Hosseini et al., Beta-Rank, arXiv:2304.07461.
    """
    check_whole(count=count)
    chosen = np.concatenate([np.ravel(x) for x in selections]) if len(selections) else np.zeros(0, int)
    if not chosen.size or chosen.min() < 0 or chosen.max() >= count:
        raise ValueError(f"selections: none, or numbers outside 0..{count - 1}; pass numbers of filters")
    return float(len(np.unique(chosen)) / count)
