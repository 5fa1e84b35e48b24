"""Intervals: how far a mean over seeds, or a share of cases, may be off by chance."""

import numpy as np


def paired_interval(differences, level=0.95):
    """Paired t-interval: Student's interval of the mean of paired differences.

    ``mean ± t s / sqrt(S)`` with the standard deviation s and the quantile t of S - 1 degrees of freedom.

    >>> print(*(round(float(x), 3) for x in paired_interval([0.1, 0.2, 0.3, 0.2, 0.2])))
    0.2 0.112 0.288

    Args:
        differences: [S, ...], one for each seed, S at least 2.
        level: share of such intervals that hold the true mean.

    Returns:
        (mean, low, high), each [...].

    Raises:
        ValueError: for fewer than two seeds.

    References:
        Student, The probable error of a mean, Biometrika 6 (1908).
    """
    from scipy import stats

    x = np.asarray(differences, float)
    if len(x) < 2:
        raise ValueError(f"differences: {len(x)} of them have no spread; give at least 2 seeds")
    mean, count = x.mean(axis=0), len(x)
    half = stats.t.ppf((1 + level) / 2, count - 1) * x.std(axis=0, ddof=1) / count**0.5
    return mean, mean - half, mean + half


def share_interval(hits, count, level=0.95):
    """Wilson interval: where the true share of independent cases lies.

    ``(p + z² / 2n ± z sqrt(p (1 - p) / n + z² / 4n²)) / (1 + z² / n)`` with the normal quantile z.

    >>> print(*(round(float(x), 3) for x in share_interval(92, 168)))
    0.548 0.472 0.621

    Args:
        hits: number of cases that count, out of ``count``.
        level: share of such intervals that hold the true share.

    Returns:
        (share, low, high).

    References:
        E. B. Wilson, Journal of the American Statistical Association 22 (1927).
    """
    from scipy import stats

    p, z = hits / count, float(stats.norm.ppf((1 + level) / 2))
    middle, wide = p + z**2 / (2 * count), z * (p * (1 - p) / count + z**2 / (4 * count**2)) ** 0.5
    low, high = ((middle + sign * wide) / (1 + z**2 / count) for sign in (-1, 1))
    return p, max(0.0, min(low, p)), min(1.0, max(high, p))  # what holds but for rounding
