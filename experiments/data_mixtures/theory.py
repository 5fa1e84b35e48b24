"""Gaussian sources, of which the lines are known in closed form: alone, mixed, and filtered."""

import numpy as np

from jaxembed import data

A, B, MIXED = "source A", "source B", "A and B mixed"
KEPT = (0.5, 0.3, 0.1)  # shares of source B that a filter keeps


def gaussian_slopes(cfg):
    """Slopes in closed form beside those of models that average drawn rows: rows of a table."""
    rng = np.random.default_rng(0)
    clean, shifted, rest = np.linalg.qr(rng.normal(size=(cfg.width, 3)))[0].T
    means = {A: clean + 1.2 * shifted + 0.3 * rest, B: clean + 0.4 * shifted - 0.3 * rest}
    tests = clean + 0 * shifted, shifted
    slopes = {name: data.trend_slope(mean, *tests) for name, mean in means.items()}
    gains = [float(mean @ tests[0]) for mean in means.values()]
    told = {**slopes, MIXED: data.mixture_slope([0.5, 0.5], gains, list(slopes.values()))}
    judge = means[A]
    told |= {f"B, {keep:.0%} kept by A": data.filtered_slope(means[B], judge, keep, *tests) for keep in KEPT}
    rows = []
    for name, slope in told.items():
        weights = [
            averaged(cfg, name, means, judge, size, seed)
            for size in 50 * 2 ** np.arange(7)
            for seed in range(cfg.draws)
        ]
        clean, moved = (margins(weights, test) for test in tests)  # the probit of the accuracies
        found = float(np.sum(clean * moved) / np.sum(clean**2))  # the line through the origin
        rows.append({"source": name, "theory": float(slope), "measured": found, "gap": abs(found - slope)})
    return rows


def averaged(cfg, name, means, judge, size, seed):
    """The mean of y x over rows of a source, of the mixture, or of B as the filter keeps it."""
    if name in means:
        x, y = data.gaussian_source(means[name], size, seed=seed)
    elif name == MIXED:
        parts = [
            data.gaussian_source(mean, size, seed=seed + 1000 * i) for i, mean in enumerate(means.values())
        ]
        source, rows = data.mixture_rows([size, size], [0.5, 0.5], size, seed=seed)
        x, y = (np.stack([parts[s][i][r] for s, r in zip(source, rows, strict=True)]) for i in range(2))
    else:
        keep = float(name.split("%")[0].split()[-1]) / 100
        x, y = data.gaussian_source(means[B], int(size / keep), seed=seed)
        rows = data.select(y * (x @ judge), size)
        x, y = x[rows], y[rows]
    return np.mean(y[:, None] * x, axis=0)


def margins(weights, mean):
    """How many deviations the mean of a class is from the border of each model."""
    weights = np.stack(weights)
    return weights @ mean / np.linalg.norm(weights, axis=1)
