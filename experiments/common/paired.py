"""Intervals of shares and of differences of two arms over the same seeds, and what may be claimed of them."""

import numpy as np
from scipy import stats

from experiments.common import report

LEAST = 5  # seeds; with fewer a difference is a figure without interval and verdict


def interval(differences, level=0.95):
    """Student's t-interval of the mean of paired differences.

    ``mean ± t s / sqrt(S)`` with the standard deviation s and the quantile t of S - 1 degrees of freedom.

    >>> print(*(round(float(x), 3) for x in interval([0.1, 0.2, 0.3, 0.2, 0.2])))
    0.2 0.112 0.288

    Args:
        differences: [S, ...], one for each seed, S at least 2.
        level: share of such intervals that hold the true mean.

    Returns:
        (mean, low, high), each [...].

    References:
        Student, The probable error of a mean, Biometrika 6 (1908).
    """
    x = np.asarray(differences, float)
    if len(x) < 2:
        raise ValueError(f"differences: {len(x)} of them have no spread; give at least 2 seeds")
    mean, count = x.mean(axis=0), len(x)
    half = stats.t.ppf((1 + level) / 2, count - 1) * x.std(axis=0, ddof=1) / count**0.5
    return mean, mean - half, mean + half


def share(hits, count, level=0.95):
    """Wilson's interval of a share of independent cases.

    ``(p + z² / 2n ± z sqrt(p (1 - p) / n + z² / 4n²)) / (1 + z² / n)`` with the normal quantile z.

    >>> print(*(round(float(x), 3) for x in share(92, 168)))
    0.548 0.472 0.621

    Args:
        hits: number of cases that count, out of ``count``.
        level: share of such intervals that hold the true share.

    Returns:
        (share, low, high).

    References:
        E. B. Wilson, Journal of the American Statistical Association 22 (1927).
    """
    p, z = hits / count, float(stats.norm.ppf((1 + level) / 2))
    middle, wide = p + z**2 / (2 * count), z * (p * (1 - p) / count + z**2 / (4 * count**2)) ** 0.5
    low, high = ((middle + sign * wide) / (1 + z**2 / count) for sign in (-1, 1))
    return p, max(0.0, min(low, p)), min(1.0, max(high, p))  # what holds but for rounding


def claim(sentence, differences, *, margin=0.0, denied=False):
    """A sentence about paired differences, with its figures and, from 5 seeds on, whether it holds.

    It holds where the interval lies above the margin; a denied one where it does not.

    >>> claim("a is above b", [0.1, 0.2, 0.3, 0.2, 0.2])["holds"]
    True
    >>> claim("a is above b", [0.1, 0.2, 0.3])["holds"] is None
    True

    Args:
        sentence: text, which names the margin.
        differences: [S], or [S, P] where all P must be above the margin; the figures are of the worst.
        margin: number, negative where a loss is allowed.
        denied: whether the sentence says that nothing is above the margin.

    Returns:
        {"claim", "seeds": S, "mean", "low", "high", "holds": bool, "each": [S]}, with None for ends and
        verdict below 5 seeds.
    """
    x = np.asarray(differences, float).reshape(len(differences), -1)
    enough = len(x) >= LEAST
    mean, low, high = interval(x) if enough else (x.mean(axis=0),) * 3
    worst = int(low.argmax() if denied else low.argmin())
    row = {"claim": sentence, "seeds": len(x), "mean": float(mean[worst])}
    row |= {n: float(end[worst]) if enough else None for n, end in (("low", low), ("high", high))}
    above = low > margin
    holds = not above.any() if denied else above.all()
    row["holds"] = bool(holds and np.isfinite(low).all()) if enough else None
    return row | {"each": x[:, worst].tolist()}


def told(claims):
    """Prints the figures of claims and gathers them as a part of the numbers of an experiment.

    Args:
        claims: list of dicts of :func:`claim`.

    Returns:
        {"claims": claims, "criteria": {sentence: bool}} with the verdicts of those that have one.
    """
    if claims:
        print(report.table(claims, ["claim", "seeds", "mean", "low", "high"]), flush=True)
    verdicts = {row["claim"]: row["holds"] for row in claims if row["holds"] is not None}
    return {"claims": claims, "criteria": verdicts}
