"""Visual patterns: small sets of channels that are active on one patch of the pictures of one class.

The paper's text was not at hand. The idea is that of its abstract; procedures, rules and defaults are a
reconstruction, so all of them are arguments.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, on_device
from jaxembed.checks import check_whole
from jaxembed.vectors.association import class_rules, pack_places

RULES = ("quantile", "information")


class Patterns(NamedTuple):
    """Patterns of every class; row c holds those of class c, the best first."""

    channels: jax.Array  # int32 [C, N, size]
    valid: jax.Array  # bool [C, N]; False for padding
    support: jax.Array  # float32 [C, N], share of the class on which a pattern fires
    precision: jax.Array  # float32 [C, N], share of its class where it fires, with classes of equal weight
    thresholds: jax.Array  # [C, N, size], of its channels


def channel_peaks(maps):
    """Channel peaks: the largest value of each channel anywhere on a picture.

    >>> print(channel_peaks(jnp.arange(8.0).reshape(1, 2, 2, 2)))
    [[6. 7.]]

    Args:
        maps: [B, h, w, K].

    Returns:
        [B, K].
    """
    maps = on_device("maps", maps)
    check_shape("maps", maps, (None,) * 4)
    return jnp.max(maps, axis=(1, 2))


def dilate(maps, radius=1):
    """Dilation: the largest value within a radius of each place, per channel.

    >>> print(dilate(jnp.array([0.0, 0, 3, 0]).reshape(1, 1, 4, 1))[0, 0, :, 0])
    [0. 3. 3. 3.]

    Args:
        maps: [B, h, w, K] of floats.
        radius: places to each side, 0 for none; windows are squares of side ``2 radius + 1``.

    Returns:
        [B, h, w, K].
    """
    maps = on_device("maps", maps)
    check_shape("maps", maps, (None,) * 4)
    for axis in (1, 2) if radius else ():  # a square is a row of columns
        sizes, edges = [1] * 4, [(0, 0)] * 4
        sizes[axis], edges[axis] = 2 * radius + 1, (radius, radius)
        maps = jax.lax.reduce_window(maps, -jnp.inf, jax.lax.max, sizes, (1,) * 4, edges)
    return maps


def channel_thresholds(peaks, labels=None, *, rule="quantile", quantile=0.95):
    """Channel thresholds: above which peak a channel counts as active, for each class.

    "quantile" takes that quantile of the peaks on pictures of other classes. "information" takes the peak t
    that maximises the information gain of ``peak > t`` about "is of the class".

    >>> peaks, labels = jnp.array([[1.0], [2.0], [3.0], [9.0]]), jnp.array([1, 1, 0, 0])
    >>> print(channel_thresholds(peaks, labels, rule="information").ravel())
    [2. 2.]
    >>> print(channel_thresholds(peaks, quantile=0.5))
    [2.5]

    Args:
        peaks: [n, K] of :func:`channel_peaks`.
        labels: int [n], numbers of classes from 0, not traced; None takes the quantile over all pictures.
        rule: "quantile" or "information".
        quantile: within 0..1, for the first rule.

    Returns:
        [C, K], or [K] without labels. A threshold is positive: where the rule gives 0 or less, it is the
        least positive float, so that a channel that ReLU keeps at 0 is never active.

    Raises:
        ValueError: for an unknown rule, "information" without labels, a quantile outside 0..1, a single
            class, or labels of another length.
    """
    peaks = on_device("peaks", peaks)
    check_shape("peaks", peaks, (None, None))
    if rule not in RULES or (rule == "information" and labels is None) or not 0 <= quantile <= 1:
        raise ValueError(
            f"rule: {rule!r}, quantile {quantile}; pass 'quantile' within 0..1, or 'information' with labels"
        )
    wide = peaks.astype(accumulator(peaks))
    least = jnp.finfo(wide.dtype).tiny
    if labels is None:
        return jnp.maximum(jnp.quantile(wide, quantile, axis=0), least)
    labels = np.asarray(labels)
    check_shape("labels", labels, (len(peaks),))
    classes = int(labels.max()) + 1 if labels.size else 0
    if classes < 2 or labels.min() < 0:
        raise ValueError(f"labels: {classes} classes; number two or more from 0")
    own = jnp.asarray(labels == np.arange(classes)[:, None])
    if rule == "quantile":
        found = _quantiles_of_others(wide, own, quantile)
    else:
        found = jnp.stack([_most_information(wide, row) for row in own])
    return jnp.maximum(found, least)


@jax.jit
def _quantiles_of_others(peaks, own, quantile):
    """Quantiles [C, K] of the peaks [n, K] of pictures outside each class; one sort serves all classes."""
    order = jnp.argsort(peaks, axis=0)
    values = jnp.take_along_axis(peaks, order, axis=0)

    def one(mine):
        others = ~mine[order]
        ranks, count = jnp.cumsum(others, axis=0), jnp.sum(~mine)
        place = quantile * (count - 1).astype(values.dtype)
        below = jnp.floor(place).astype(jnp.int32)
        rows = [jnp.argmax(ranks >= k + 1, axis=0) for k in (below, jnp.minimum(below + 1, count - 1))]
        low, high = (jnp.take_along_axis(values, row[None], axis=0)[0] for row in rows)
        bad = (jnp.isnan(values) & others).any(axis=0) | (count == 0)
        return jnp.where(bad, jnp.nan, low + (high - low) * (place - below))

    return jax.lax.map(one, own)


def _most_information(peaks, own):
    """The threshold [K] whose split tells most about a bool [n]; the least one of equals."""
    count = len(peaks)
    order = jnp.argsort(peaks, axis=0)
    values, hits = jnp.take_along_axis(peaks, order, axis=0), own[order].astype(jnp.float32)
    below = jnp.arange(1, count + 1, dtype=jnp.float32)[:, None]  # pictures at or below each value
    inside = jnp.cumsum(hits, axis=0)
    total = inside[-1]
    left = below * _entropy(inside / below)
    right = (count - below) * _entropy((total - inside) / jnp.maximum(count - below, 1))
    last = jnp.concatenate([values[1:] > values[:-1], jnp.zeros((1, values.shape[1]), bool)])
    best = jnp.argmin(jnp.where(last, left + right, jnp.inf), axis=0)  # equal values split as one
    return jnp.take_along_axis(values, best[None], axis=0)[0]


def _entropy(share):
    return jax.scipy.special.entr(share) + jax.scipy.special.entr(1 - share)


def candidate_channels(kernel, count=15):
    """Candidate channels of each class: those with the largest positive weights of a linear classifier.

    >>> print(candidate_channels(jnp.array([[1.0, -1.0], [2.0, -2.0], [-1.0, 3.0]]), 2))
    [[ 1  0]
     [ 2 -1]]

    Args:
        kernel: [K, C], weights from channel peaks to classes.
        count: q of at most K.

    Returns:
        int32 [C, q]; -1 where no further weight is positive.

    Raises:
        ValueError: for a count outside 1..K.
    """
    kernel = on_device("kernel", kernel)
    check_shape("kernel", kernel, (None, None))
    check_whole(count=count)
    if not 1 <= count <= len(kernel):
        raise ValueError(f"count: {count} of {len(kernel)} channels; choose 1 to {len(kernel)}")
    values, channels = jax.lax.top_k(kernel.T, count)
    return jnp.where(values > 0, channels, -1).astype(jnp.int32)


def mine_patterns(
    maps,
    labels,
    thresholds,
    candidates,
    *,
    size=3,
    radius=1,
    min_support=0.05,
    min_precision=0.8,
    max_overlap=0.5,
    top=20,
):
    """Mines visual patterns: sets of channels that are active together in one class and rarely elsewhere.

    A pattern fires on a picture where each of its channels exceeds its threshold. In the local form all do
    near one place: ``any_p and_k (max of maps[k] within radius of p) > threshold[k]``. In the image form
    each does anywhere. What fires locally fires on the image. Sets, measures and order are those of
    :func:`association_rules`, with pictures as transactions.

    >>> maps = jnp.zeros((4, 6, 6, 3)).at[:2, 1, 1, 0].set(1).at[:2, 1, 2, 1].set(1)
    >>> maps = maps.at[2:, 0, 0, 0].set(1).at[2:, 5, 5, 1].set(1)  # apart
    >>> given = (maps, jnp.array([0, 0, 1, 1]), jnp.full(3, 0.5), jnp.array([[0, 1, 2]] * 2))
    >>> print(*(mine_patterns(*given, size=2, radius=radius).valid.sum() for radius in (1, None)))
    1 0

    Args:
        maps: [n, h, w, K], the last maps of a net after ReLU. NaN is not active.
        labels: int [n].
        thresholds: [K] or [C, K] of :func:`channel_thresholds`.
        candidates: int [C, q] of :func:`candidate_channels`, or any; -1 is padding.
        size: channels of a pattern.
        radius: of the local form, in places; None is the image form.
        min_support, min_precision, max_overlap, top: as :func:`association_rules` has them. Precision
            measured where thresholds and patterns were found is too high: measure it on other pictures.

    Returns:
        :class:`Patterns`. It runs under ``jit``.

    Raises:
        ValueError: for shapes that do not fit, channels that maps lack, or a size outside 1..q.

    References:
        H. Li et al., PatternNet, arXiv:1703.06339, by its abstract; rules and defaults are a reconstruction.
    """
    maps, labels, candidates = (
        on_device(n, x) for n, x in (("maps", maps), ("labels", labels), ("candidates", candidates))
    )
    check_shape("maps", maps, (None,) * 4)
    check_shape("labels", labels, maps.shape[:1])
    check_shape("candidates", candidates, (None, None))
    check_whole(size=size, top=top, radius=radius or 0)
    thresholds = jnp.asarray(thresholds)
    shape = (len(candidates), maps.shape[-1])
    if thresholds.ndim == 2:
        check_shape("thresholds", thresholds, shape)
    else:
        check_shape("thresholds", thresholds, shape[1:])
    beyond = jnp.any(candidates >= shape[1])
    if not isinstance(beyond, jax.core.Tracer) and beyond:
        raise ValueError(
            f"candidates: {int(candidates.max())} is outside 0..{shape[1] - 1}; number the channels of maps"
        )
    limits = min_support, min_precision, max_overlap
    thresholds = jnp.broadcast_to(thresholds, shape)
    return _mined(maps, labels, thresholds, candidates, limits, size=size, radius=radius, top=top)


@functools.partial(jax.jit, static_argnames=("size", "radius", "top"))
def _mined(maps, labels, thresholds, candidates, limits, *, size, radius, top):
    seen = channel_peaks(maps)[:, None] if radius is None else dilate(maps, radius)
    seen = seen.reshape(len(maps), -1, maps.shape[-1])

    def one(row):
        chosen, own, limit = row
        place = jnp.maximum(chosen, 0)
        if 3 * len(place) < maps.shape[-1]:
            words = pack_places(jnp.take(seen, place, axis=-1) > limit[place])
        else:  # bits of all channels take less time than a choice among floats
            words = jnp.take(pack_places(seen > limit), place, axis=-1)
        return class_rules(words, labels, (chosen, own), len(candidates), size, top, limits)

    rules = jax.lax.map(one, (candidates, jnp.arange(len(candidates)), thresholds))
    own = jnp.take_along_axis(thresholds[:, None], rules.items, axis=-1)
    return Patterns(*rules, jnp.where(rules.valid[..., None], own, 0))


def pattern_response(maps, patterns, *, radius=1):
    """Pattern response: how far the weakest channel of each pattern is above its threshold, at each place.

    ``response[p] = min over channels k of (max of maps[k] within radius of p) / threshold[k]``. The pattern
    fires where it exceeds 1. Channels times a number give the same with thresholds times that number.

    >>> maps = jnp.zeros((1, 1, 4, 2)).at[0, 0, 0, 0].set(2).at[0, 0, 1, 1].set(3)
    >>> one = jnp.ones((1, 1))
    >>> patterns = Patterns(jnp.array([[[0, 1]]]), one > 0, one, one, jnp.ones((1, 1, 2)))
    >>> print(pattern_response(maps, patterns)[0, 0, :, 0])
    [2. 2. 0. 0.]

    Args:
        maps: [B, h, w, K].
        patterns: :class:`Patterns`, C N = P of them.
        radius: in places, the one that they were mined with.

    Returns:
        [B, h, w, P]; 0 for patterns that are not valid, and where a channel is NaN.
    """
    maps = on_device("maps", maps)
    return _weakest(dilate(maps, radius), patterns)


def pattern_features(maps, patterns, *, radius=1):
    """Pattern features: the largest response of each pattern on a picture, for a linear classifier.

    >>> maps = jnp.zeros((1, 1, 4, 2)).at[0, 0, 0, 0].set(2).at[0, 0, 3, 1].set(3)
    >>> one = jnp.ones((1, 1))
    >>> patterns = Patterns(jnp.array([[[0, 1]]]), one > 0, one, one, jnp.ones((1, 1, 2)))
    >>> print(pattern_features(maps, patterns)[0], pattern_features(maps, patterns, radius=None)[0])
    [0.] [2.]

    Args:
        maps: [B, h, w, K].
        patterns: :class:`Patterns`, C N = P of them.
        radius: in places; None is the image form, whose channels may be anywhere.

    Returns:
        [B, P]; a pattern fires where it exceeds 1. They grow with the maps.
    """
    if radius is None:
        return _weakest(channel_peaks(maps)[:, None, None], patterns)[:, 0, 0]
    return channel_peaks(pattern_response(maps, patterns, radius=radius))


def _weakest(maps, patterns):
    """The least ratio of maps [B, h, w, K] to the thresholds of each pattern, [B, h, w, P]."""
    size = patterns.channels.shape[-1]
    channels = patterns.channels.reshape(-1, size)
    limits = jnp.where(patterns.valid[..., None], patterns.thresholds, 1).reshape(-1, size)
    out = maps[..., channels[:, 0]] / limits[:, 0]
    for k in range(1, size):
        out = jnp.minimum(out, maps[..., channels[:, k]] / limits[:, k])
    return jnp.where(patterns.valid.reshape(-1) & ~jnp.isnan(out), out, 0)


def top_active(vectors, count):
    """Transactions of vectors: marks the largest positive entries of each.

    This is how a patch miner reads the activations of a sampled patch.

    >>> print(top_active(jnp.array([[0.5, 0.0, 2.0], [0.0, 0.0, 1.0]]), 2).astype(int))
    [[1 0 1]
     [0 0 1]]

    Args:
        vectors: [n, K].
        count: entries of each, at most K.

    Returns:
        bool [n, K], for :func:`association_rules`.

    Raises:
        ValueError: for a count outside 1..K.

    References:
        Y. Li et al., Mid-level deep pattern mining, arXiv:1411.6382, which marks 20 of 4,096.
    """
    vectors = on_device("vectors", vectors)
    check_shape("vectors", vectors, (None, None))
    check_whole(count=count)
    if not 1 <= count <= vectors.shape[1]:
        raise ValueError(f"count: {count} of {vectors.shape[1]} entries; choose 1 to {vectors.shape[1]}")
    places = jax.lax.top_k(vectors, count)[1]
    chosen = jax.nn.one_hot(places, vectors.shape[1], dtype=bool).any(axis=1)
    return chosen & (vectors > 0)
