"""Intervals: how far a mean over seeds, or a share of cases, may be off by chance."""

import numpy as np


def paired_interval(differences, level=0.95):
    """Paired t-interval: Student's interval of the mean of paired differences.

    ``mean ± t s / sqrt(S)`` with the standard deviation s and the quantile t of S - 1 degrees of freedom.

    >>> print(*(round(float(x), 3) for x in paired_interval([0.1, 0.2, 0.3, 0.2, 0.2])))
    0.2 0.112 0.288

    Args:
        differences: [S, ...], one for each seed, S at least 2.
        level: share of such intervals that hold the true mean, between 0 and 1.

    Returns:
        (mean, low, high), each [...]; NaN where a difference is NaN.

    Raises:
        ValueError: for fewer than two seeds, or a level outside 0..1.

    References:
        Student, The probable error of a mean, Biometrika 6 (1908).
    """
    from scipy import stats

    _check_level(level)
    x = np.asarray(differences, float)
    if x.ndim < 1 or len(x) < 2:
        count = len(x) if x.ndim else 1
        raise ValueError(f"differences: {count} of them have no spread; give at least 2 seeds")
    mean, count = x.mean(axis=0), len(x)
    half = stats.t.ppf((1 + level) / 2, count - 1) * x.std(axis=0, ddof=1) / count**0.5
    return mean, mean - half, mean + half


def share_interval(hits, count, level=0.95):
    """Wilson interval: where the true share of independent cases may be.

    ``(p + z² / 2n ± z sqrt(p (1 - p) / n + z² / 4n²)) / (1 + z² / n)`` with the normal quantile z.

    >>> print(*(round(float(x), 3) for x in share_interval(92, 168)))
    0.548 0.472 0.621

    Args:
        hits: int [...], the number of cases that count.
        count: int [...], the number n of all cases.
        level: share of such intervals that hold the true share, between 0 and 1.

    Returns:
        (share, low, high), each [...].

    Raises:
        ValueError: without cases, for hits outside 0..count, or a level outside 0..1.

    References:
        E. B. Wilson, Journal of the American Statistical Association 22 (1927).
    """
    from scipy import stats

    _check_level(level)
    hits, count = np.asarray(hits), np.asarray(count)
    if not (count > 0).all():
        raise ValueError(f"count: {count.min()} cases have no share; give at least 1")
    if not ((hits >= 0) & (hits <= count)).all():
        raise ValueError(f"hits: {hits.tolist()} of {count.tolist()} cases; give 0 to all of them")
    p, z = hits / count, float(stats.norm.ppf((1 + level) / 2))
    middle, wide = p + z**2 / (2 * count), z * np.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    low, high = ((middle + sign * wide) / (1 + z**2 / count) for sign in (-1, 1))
    return p, np.maximum(0.0, np.minimum(low, p)), np.minimum(1.0, np.maximum(high, p))  # but for rounding


def _check_level(level):
    if not 0 < level < 1:
        raise ValueError(f"level: {level} is not between 0 and 1; pass 0.95 for 95 %")
