"""Numbers that say how good predicted click probabilities are, from labels 0 and 1.

NumPy arrays are computed on the host in float64. jax arrays are computed on their device, under jit too: in
float64 where x64 is on, otherwise in float32. Counts are int32 and sums are pairwise, so the relative error
stays below 2e-6 for ten million examples. Bad values raise; under jit, where values are unknown, they give
NaN.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import host, on_device


def auc(labels, scores, *, where=None, weights=None):
    """AUC: how often a positive example scores higher than a negative one.

    ``auc = mean over pairs (positive i, negative j) of [s_i > s_j] + [s_i == s_j] / 2``, computed by one
    sort: exact, with ties at their mid-rank. Any strictly rising map of the scores leaves it as it is.

    >>> print(auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8]))
    0.875

    Args:
        labels: [N], 0 or 1.
        scores: [N], higher is more likely positive.
        where: optional bool [N]; False leaves an example out, whatever it holds.
        weights: optional [N], not negative; a pair counts ``w_i * w_j``.

    Returns:
        A scalar within 0..1; NaN when only one class is there.

    Raises:
        ValueError: for shapes that differ, labels outside {0, 1}, NaN scores, negative weights.

    References:
        J. A. Hanley and B. J. McNeil, Radiology 143(1), 1982, doi:10.1148/radiology.143.1.7063747.
    """
    xp, positive, scores, weights, faults = _read(labels, scores, where, weights, "scores")
    return _guard(_area(xp)(positive, scores, None, weights), faults)


def grouped_auc(labels, scores, groups, *, where=None):
    """Grouped AUC (GAUC): averages the AUC within each group, usually a user, weighted by its size.

    ``grouped_auc = sum_u n_u auc_u / sum_u n_u`` over the groups that hold both classes, where ``n_u`` counts
    the examples of group u.

    >>> print(grouped_auc([0, 1, 1, 0, 1], [0.1, 0.9, 0.2, 0.3, 0.5], [7, 7, 8, 8, 9]))
    0.5

    Args:
        labels: [N], 0 or 1.
        scores: [N], compared within a group only.
        groups: int [N], any ids of up to 64 bits in any order.
        where: optional bool [N]; False leaves an example out, whatever it holds.

    Returns:
        A scalar within 0..1; NaN when no group holds both classes.

    Raises:
        ValueError: for shapes that differ, labels outside {0, 1}, NaN scores, groups that are not integers.

    References:
        G. Zhou et al., Deep Interest Network, arXiv:1706.06978.
    """
    xp, positive, scores, weights, faults = _read(labels, scores, where, None, "scores", groups)
    groups = _numbered(xp, groups)
    if groups.shape != positive.shape or not xp.issubdtype(groups.dtype, xp.integer):
        raise ValueError(f"groups: {groups.dtype} {groups.shape}; need integers of shape {positive.shape}")
    return _guard(_area(xp)(positive, scores, groups, weights), faults)


def auc_bins(labels, scores, *, bins=4096, low=0.0, high=1.0, where=None):
    """Binned AUC: counts negatives and positives by score, for more examples than fit in memory.

    ``counts[y, b]`` is the number of examples of label y whose score is in bin b of ``bins`` equal bins from
    ``low`` to ``high``. Scores outside fall in the first or last bin. Counts of batches and of devices are
    added, and :func:`auc_from_bins` turns the sum into the AUC.

    >>> print(auc_bins([0, 0, 1, 1], [0.1, 0.4, 0.45, 0.8], bins=4))
    [[1 1 0 0]
     [0 1 0 1]]

    Args:
        labels: [N], 0 or 1.
        scores: [N].
        bins: number of bins.
        low: lower end of the bins; 0 suits probabilities, -10 most logits.
        high: upper end of the bins; 1 suits probabilities, 10 most logits.
        where: optional bool [N]; False leaves an example out, whatever it holds.

    Returns:
        int [2, bins]: row 0 counts negatives, row 1 positives. Under jit an example with a NaN score or a
        label outside {0, 1} is not counted. Compare the sum with the number of examples.

    Raises:
        ValueError: for shapes that differ, labels outside {0, 1}, NaN scores, fewer than one bin, an empty
            range.
    """
    if bins < 1 or not low < high:
        raise ValueError(f"bins={bins}, low={low}, high={high}: need at least one bin and low < high")
    xp, positive, scores, counted, faults = _read(labels, scores, where, None, "scores")
    _guard(xp.zeros(()), faults)
    scores, labels = scores.astype(_float(xp)), xp.asarray(labels)
    counted = xp.where(xp.isnan(scores) | ((labels != 0) & (labels != 1)), 0, counted)
    place = xp.clip((scores - low) * (bins / (high - low)), 0, bins - 1)
    place = positive * bins + xp.where(counted > 0, place, 0).astype(np.int32)
    if xp is np:
        return np.bincount(place, counted, 2 * bins).astype(np.int64).reshape(2, bins)
    return jnp.zeros(2 * bins, jnp.int32).at[place].add(counted).reshape(2, bins)


def auc_from_bins(counts):
    """Binned AUC: turns binned counts into the AUC and a bound on its error.

    A pair in different bins is ordered exactly; a pair within one bin counts 1/2, so each is off by 1/2 at
    most: ``|value - auc| <= error = sum_b positives[b] negatives[b] / (2 positives negatives)``.

    >>> print(*auc_from_bins(auc_bins([0, 0, 1, 1], [0.1, 0.4, 0.45, 0.8], bins=4)))
    0.875 0.125

    Args:
        counts: int [2, bins] from :func:`auc_bins`, or a sum of such; below 2**31 examples on a device.

    Returns:
        (value, error), two scalars; NaN when only one class is there. Float rounding, below 2e-6 in
        float32, comes on top of the error.

    Raises:
        ValueError: for counts of another shape.
    """
    xp = jnp if isinstance(counts, jax.Array) else np
    counts = xp.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != 2:
        raise ValueError(f"counts: shape {counts.shape}; need [2, bins] as auc_bins gives it")
    negatives, positives = counts
    below = xp.cumsum(negatives) - negatives
    negatives, positives, below = (x.astype(_float(xp)) for x in (negatives, positives, below))
    within = _ratio(xp, negatives / 2, xp.sum(counts[0]))
    share = _ratio(xp, positives, xp.sum(counts[1]))
    value = _sum(share * (_ratio(xp, below, xp.sum(counts[0])) + within))
    return xp.clip(value, 0, 1), _sum(share * within)


def log_loss(labels, probabilities, *, where=None, weights=None, clip=1e-7):
    """Log loss: averages the binary cross-entropy of predicted probabilities.

    ``log_loss = -mean_i log(p_i if labels[i] == 1 else 1 - p_i)``, with p first clipped to ``clip``..``1 -
    clip``. To train on logits, use ``optax.sigmoid_binary_cross_entropy``.

    >>> print(log_loss([0, 1], [0.5, 0.25]).round(4))
    1.0397

    Args:
        labels: [N], 0 or 1.
        probabilities: [N] within 0..1 (not logits): the predicted probability of label 1.
        where: optional bool [N]; False leaves an example out, whatever it holds.
        weights: optional [N], not negative; the mean becomes the weighted mean.
        clip: the least probability that a label is given, so that the loss stays finite.

    Returns:
        A scalar, at least 0; NaN without examples.

    Raises:
        ValueError: for shapes that differ, labels outside {0, 1}, probabilities outside 0..1 or NaN, negative
            weights.
    """
    xp, positive, p, weights, faults = _read_probabilities(labels, probabilities, where, weights)
    return _guard(_mean(xp, _surprise(xp, positive, p, clip), weights), faults)


def normalised_entropy(labels, probabilities, *, where=None, weights=None, clip=1e-7):
    """Normalised entropy: the log loss divided by that of a constant share; below 1 is better.

    ``normalised_entropy = log_loss / -(r log r + (1 - r) log(1 - r))``, where r is the mean label.

    >>> print(normalised_entropy([0, 1, 0, 0], [0.25, 0.25, 0.25, 0.25]).round(4))
    1.0

    Args:
        labels: [N], 0 or 1.
        probabilities: [N] within 0..1.
        where: optional bool [N]; False leaves an example out, whatever it holds.
        weights: optional [N], not negative.
        clip: as in :func:`log_loss`.

    Returns:
        A scalar, at least 0; NaN when only one class is there.

    Raises:
        ValueError: as :func:`log_loss`.

    References:
        X. He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014,
        doi:10.1145/2648584.2648589.
    """
    xp, positive, p, weights, faults = _read_probabilities(labels, probabilities, where, weights)
    rate = _mean(xp, positive.astype(p.dtype), weights)
    mixed = (rate > 0) & (rate < 1)
    inside = xp.where(mixed, rate, 0.5)
    entropy = -(inside * xp.log(inside) + (1 - inside) * xp.log1p(-inside))
    loss = _mean(xp, _surprise(xp, positive, p, clip), weights)
    return _guard(xp.where(mixed, loss / entropy, xp.nan)[()], faults)


def calibration(labels, probabilities, *, where=None, weights=None):
    """Calibration: the number of clicks that were expected, divided by the number that came; 1 is ideal.

    ``calibration = sum_i p_i / sum_i labels[i]``.

    >>> print(calibration([0, 1, 0, 0], [0.25, 0.5, 0.25, 0.25]))
    1.25

    Args:
        labels: [N], 0 or 1.
        probabilities: [N] within 0..1.
        where: optional bool [N]; False leaves an example out, whatever it holds.
        weights: optional [N], not negative.

    Returns:
        A scalar, at least 0; NaN without positives.

    Raises:
        ValueError: as :func:`log_loss`.

    References:
        X. He et al., ADKDD 2014, doi:10.1145/2648584.2648589.
    """
    xp, positive, p, weights, faults = _read_probabilities(labels, probabilities, where, weights)
    return _guard(_ratio(xp, _sum(weights * p), _sum(weights * positive.astype(p.dtype))), faults)


def expected_calibration_error(labels, probabilities, *, bins=10, where=None, weights=None):
    """Expected calibration error: the mean gap of predicted and real shares within bins; 0 is ideal.

    ``expected_calibration_error = sum_b |sum_{i in b} p_i - labels[i]| / N`` over ``bins`` equal bins of p
    from 0 to 1.

    >>> print(expected_calibration_error([0, 1, 1, 1], [0.25, 0.25, 0.75, 0.75], bins=2))
    0.25

    Args:
        labels: [N], 0 or 1.
        probabilities: [N] within 0..1.
        bins: number of bins; bin b holds ``b / bins <= p < (b + 1) / bins``, the last one also p = 1.
        where: optional bool [N]; False leaves an example out, whatever it holds.
        weights: optional [N], not negative.

    Returns:
        A scalar within 0..1; NaN without examples.

    Raises:
        ValueError: as :func:`log_loss`, and for fewer than one bin.

    References:
        M. P. Naeini et al., AAAI 2015; C. Guo et al., arXiv:1706.04599.
    """
    if bins < 1:
        raise ValueError(f"bins={bins}; need at least one")
    xp, positive, p, weights, faults = _read_probabilities(labels, probabilities, where, weights)
    place = xp.clip(xp.where(p == p, p, 0) * bins, 0, bins - 1).astype(np.int32)
    gap = weights * (p - positive)
    if xp is np:
        gaps = np.bincount(place, gap, bins)
    else:
        gaps = jax.lax.map(lambda b: _sum(jnp.where(place == b, gap, 0)), jnp.arange(bins))
    return _guard(xp.clip(_ratio(xp, _sum(xp.abs(gaps)), _sum(weights)), 0, 1), faults)


# Reading arguments


def _read(labels, values, where, weights, name, *more):
    """(numpy or jax.numpy, bool labels, values, weights, faults); what does not count becomes 0."""
    device = any(isinstance(x, jax.Array) for x in (labels, values, where, weights, *more))
    xp = jnp if device else np
    read = host if xp is np else on_device
    labels, values = read("labels", labels), read(name, values)
    kept = xp.ones(labels.shape, bool) if where is None else xp.asarray(where, bool)
    given = {name: values, "where": kept} | ({} if weights is None else {"weights": read("weights", weights)})
    for what, x in given.items():
        if labels.ndim != 1 or x.shape != labels.shape:
            raise ValueError(f"{what}: shape {x.shape} with labels {labels.shape}; need [N] for both")
    values = xp.where(kept, values, xp.zeros((), values.dtype))
    faults = {
        "labels: a value outside {0, 1}; map labels to 0 and 1": kept & (labels != 0) & (labels != 1),
        f"{name}: NaN; leave such examples out by where=": values != values,
    }
    if weights is None:
        weights = kept.astype(np.int32 if xp is jnp else np.float64)
    else:
        weights = given["weights"].astype(_float(xp))
        faults["weights: negative, NaN or infinite"] = kept & ~((weights >= 0) & (weights < xp.inf))
        weights = xp.where(kept, weights, 0)
    return xp, labels == 1, values, weights, {text: xp.any(flag) for text, flag in faults.items()}


def _numbered(xp, groups):
    """Groups as an array of numpy or jax; on a device those of the host get new numbers of 32 bits."""
    if not isinstance(groups, jax.Array):
        groups = host("groups", groups)
        if xp is jnp and groups.dtype.kind in "iu":
            groups = np.unique(groups, return_inverse=True)[1].reshape(groups.shape)
    return xp.asarray(groups)


def _read_probabilities(labels, probabilities, where, weights):
    xp, positive, p, weights, faults = _read(labels, probabilities, where, weights, "probabilities")
    faults["probabilities: a value outside 0..1; give probabilities, not logits"] = xp.any((p < 0) | (p > 1))
    return xp, positive, p.astype(_float(xp)), weights.astype(_float(xp)), faults


def _guard(value, faults):
    """Raises the first fault; where that is unknown, under jit, a fault turns the value into NaN."""
    for text, flag in faults.items():
        try:
            raising = bool(flag)
        except jax.errors.ConcretizationTypeError:
            value, raising = jnp.where(flag, jnp.nan, value), False
        if raising:
            raise ValueError(text)
    return value


# Arithmetic


def _float(xp):
    return np.float64 if xp is np else jax.dtypes.canonicalize_dtype(np.float64)


def _sum(x):
    return np.sum(x) if isinstance(x, np.ndarray) else _pairwise_sum(x)


@jax.jit
def _pairwise_sum(x):
    """Sums [N] as a tree of additions, so that the rounding error grows with log N."""
    while x.shape[0] > 1:
        half = (x.shape[0] + 1) // 2
        x = x[:half] + jnp.pad(x[half:], (0, 2 * half - x.shape[0]))
    return jnp.sum(x)


def _ratio(xp, part, whole):
    return xp.where(whole > 0, part / xp.where(whole > 0, whole, 1), xp.nan)[()]


def _mean(xp, values, weights):
    return _ratio(xp, _sum(weights * values), _sum(weights))


def _surprise(xp, positive, p, clip):
    """-log of the probability of each label, with all digits at both ends."""
    right, wrong = xp.where(positive, p, 1 - p), xp.where(positive, 1 - p, p)
    likely = -xp.log1p(-xp.clip(wrong, clip, 0.5))
    return xp.where(right < wrong, -xp.log(xp.clip(right, clip, 1)), likely)


def _runs(xp, new):
    """For each element the index where its run starts, and the index after its end."""
    i = xp.arange(new.shape[0], dtype=np.int32)
    starts = xp.where(new, i, 0)
    ends = xp.where(xp.append(new[1:], True)[: new.shape[0]], i + 1, new.shape[0])
    if xp is np:
        return np.maximum.accumulate(starts), np.minimum.accumulate(ends[::-1])[::-1]
    return jax.lax.cummax(starts), jax.lax.cummin(ends, reverse=True)


@functools.cache
def _area(xp):
    """The AUC within groups, averaged by size; compiled for jax arrays."""

    def area(positive, scores, groups, weights):
        if groups is None:
            groups = xp.zeros(scores.shape, np.int32)
            order = xp.lexsort((scores,))
        else:
            order = xp.lexsort((scores, groups))
        scores, groups, positive, weights = (x[order] for x in (scores, groups, positive, weights))
        new_group = (xp.arange(scores.shape[0]) == 0) | (groups != xp.roll(groups, 1))
        start, end = _runs(xp, new_group | (scores != xp.roll(scores, 1)))
        group_start, group_end = _runs(xp, new_group)
        up, down = xp.where(positive, weights, 0), xp.where(positive, 0, weights)
        rising, falling = (xp.append(xp.zeros(1, x.dtype), xp.cumsum(x, dtype=x.dtype)) for x in (up, down))
        below = falling[start] + falling[end] - 2 * falling[group_start]
        negatives, positives = (c[group_end] - c[group_start] for c in (falling, rising))
        both = (negatives > 0) & (positives > 0)
        dtype = _float(xp)
        share = below.astype(dtype) / xp.where(both, 2 * negatives.astype(dtype), 1)
        portion = (negatives + positives).astype(dtype) / xp.where(both, positives, 1).astype(dtype)
        found = _sum(xp.where(both, up * portion * share, 0))
        return xp.clip(_ratio(xp, found, _sum(xp.where(both, weights, 0)).astype(dtype)), 0, 1)

    return area if xp is np else jax.jit(area)
