"""Mixtures of sources, and the lines on which models trained on them lie under a shift of the data."""

import numpy as np

from jaxembed.checks import check_whole
from jaxembed.data.select import read

SCALES = ("logit", "probit")


def mixture_rows(sizes, proportions, count, *, seed=0, repeat=False):
    """Input mixing: draws rows of several sources by their proportions, in shuffled order.

    Source s gives ``count proportions[s]`` rows; what rounding leaves goes to the largest remainders, so the
    total is exact. Rows of a source are drawn without replacement. With ``repeat`` a source that is too small
    is taken as a whole as often as it fits, and the rest is drawn.

    >>> sources, rows = mixture_rows([10, 10], [0.75, 0.25], 4)
    >>> print(np.bincount(sources))
    [3 1]

    Args:
        sizes: int [S], rows of each source.
        proportions: [S], at least 0, with a positive sum; they are scaled to the sum 1.
        count: rows of the mixture. A fixed count compares mixtures at equal total size.
        seed: int.
        repeat: True lets rows of a source occur more than once.

    Returns:
        (sources int64 [count], rows int64 [count]): take row ``rows[i]`` of source ``sources[i]``.

    Raises:
        ValueError: for proportions that are negative or all 0, or a source that is too small.

    References:
        T. Nguyen et al., arXiv:2208.05516.
    """
    check_whole(count=count)
    if count < 1:
        raise ValueError(f"count: {count} rows; pass at least 1")
    shares = _shares("proportions", proportions)
    sizes = read("sizes", sizes, shares.shape)
    wanted = np.floor(shares * count + 1e-9).astype(np.int64)
    remainders = shares * count - wanted
    wanted[np.argsort(-remainders, kind="stable")[: count - wanted.sum()]] += 1
    short = (wanted > sizes) & ~(np.bool_(repeat) & (sizes > 0))
    if short.any():
        s = int(np.argmax(short))
        raise ValueError(f"sizes: source {s} has {sizes[s]} of {wanted[s]} rows; lower count, or pass repeat")
    rng = np.random.default_rng(seed)
    parts = []
    for size, number in zip(sizes.tolist(), wanted.tolist(), strict=True):
        whole, rest = divmod(number, size) if size else (0, 0)
        parts += [np.tile(np.arange(size), whole), rng.choice(size, rest, replace=False) if rest else []]
    rows, sources = np.concatenate(parts).astype(np.int64), np.repeat(np.arange(len(sizes)), wanted)
    order = rng.permutation(count)
    return sources[order], rows[order]


def ensemble_logits(logits, weights):
    """Output mixing: the weighted mean of what several models say.

    Of linear scorers it is the scorer of the weighted mean of their weights. Of probabilities it is not.

    >>> import jax.numpy as jnp
    >>> print(ensemble_logits(jnp.array([[[2.0, 0.0]], [[0.0, 4.0]]]), jnp.array([0.5, 0.5])))
    [[1. 2.]]

    Args:
        logits: [M, B, C], of M models; or any [M, ...].
        weights: [M], they should sum to 1; may be traced.

    Returns:
        [B, C].

    Raises:
        ValueError: for another number of weights.

    References:
        T. Nguyen et al., arXiv:2208.05516.
    """
    import jax.numpy as jnp

    from jaxembed.arrays import check_shape

    logits, weights = jnp.asarray(logits), jnp.asarray(weights)
    check_shape("weights", weights, logits.shape[:1])
    return jnp.tensordot(weights, logits, axes=1)


def fit_trend(accuracies, shifted, *, scale="logit", count=None):
    """Effective-robustness trend: the line of accuracy under a shift against accuracy without it.

    ``u(shifted) = slope u(accuracies) + intercept`` by least squares, u the logit ``ln(p / (1 - p))`` or the
    probit, the inverse of the normal distribution. Compare whole lines of sources, not single models.

    >>> trend = fit_trend([0.5, 0.7, 0.9], [0.3, 0.5, 0.8])
    >>> print({name: round(value, 3) for name, value in trend.items() if name != "scale"})
    {'slope': 1.018, 'intercept': -0.853, 'r2': 1.0}

    Args:
        accuracies: [M] of M models, within 0..1, on data as they were trained.
        shifted: [M], of the same models on shifted data.
        scale: "logit" or "probit".
        count: optional number of test examples n; accuracies are clipped to 1/(2n) and 1 - 1/(2n), so 0 and
            1 have a place. None refuses them.

    Returns:
        Dict of floats "slope", "intercept" and "r2", the share of the variance of u(shifted) that the line
        explains, and "scale".

    Raises:
        ValueError: for fewer than two models or equal accuracies, numbers outside 0..1, 0 or 1 without a
            count.

    References:
        R. Taori et al., arXiv:2007.00644; T. Nguyen et al., arXiv:2208.05516.
    """
    x, y = (
        _transformed("accuracies", accuracies, scale, count),
        _transformed("shifted", shifted, scale, count),
    )
    y = read("shifted", y, read("accuracies", x, (None,)).shape)
    if len(x) < 2 or np.ptp(x) == 0:
        raise ValueError("accuracies: have no spread; give two models or more that differ")
    slope = np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2)
    intercept = y.mean() - slope * x.mean()
    left, spread = np.sum((y - slope * x - intercept) ** 2), np.sum((y - y.mean()) ** 2)
    r2 = 1 - left / spread if spread > 0 else 1.0
    return {"slope": float(slope), "intercept": float(intercept), "r2": float(r2), "scale": scale}


def effective_robustness(accuracies, shifted, trend, *, count=None):
    """Effective robustness: accuracy under a shift beyond what the trend foretells.

    ``rho = shifted - u^-1(slope u(accuracies) + intercept)``. Its sign depends on the line that is chosen.

    >>> trend = {"slope": 1.0, "intercept": 0.0, "scale": "logit"}
    >>> print(effective_robustness([0.5, 0.8], [0.75, 0.8], trend).round(3))
    [0.25 0.  ]

    Args:
        accuracies: [M], without the shift, within 0..1.
        shifted: [M], with it.
        trend: of :func:`fit_trend`, on these models or on others.
        count: as in :func:`fit_trend`.

    Returns:
        float64 [M], in units of accuracy.

    Raises:
        ValueError: as :func:`fit_trend`.

    References:
        R. Taori et al., arXiv:2007.00644.
    """
    from scipy import special

    x, scale = _transformed("accuracies", accuracies, trend["scale"], count), trend["scale"]
    y = read("shifted", _accuracies("shifted", shifted), x.shape)
    foretold = trend["slope"] * x + trend["intercept"]
    return y - (special.expit(foretold) if scale == "logit" else special.ndtr(foretold))


def trend_interval(
    accuracies, shifted, count, *, shifted_count=None, scale="logit", level=0.95, draws=1000, seed=0
):
    """Parametric bootstrap of a trend: how far its line may be off because test sets are finite.

    Each accuracy is drawn again as a share of ``count`` binomial cases, and the line is fitted again. The
    same models stay; so it leaves out what other models, or other seeds, would give.

    >>> found = trend_interval([0.5, 0.7, 0.9], [0.3, 0.5, 0.8], 10_000)
    >>> print(found["slope"].round(2))
    [0.97 1.06]

    Args:
        accuracies, shifted, scale: as in :func:`fit_trend`.
        count: number of test examples without the shift; accuracies of 0 and 1 are clipped by it.
        shifted_count: those with it; None is the same number.
        level: share of such intervals that hold the line of endless test sets.
        draws: number of fits.
        seed: int.

    Returns:
        Dict of "slope" and "intercept", float64 [2] each: low and high.

    Raises:
        ValueError: as :func:`fit_trend`; for a level outside 0..1, counts and draws below 1.

    References:
        B. Efron, Annals of Statistics 7 (1979).
    """
    counts = {"count": count, "shifted_count": count if shifted_count is None else shifted_count}
    check_whole(draws=draws, **counts)
    for name, value in (counts | {"draws": draws}).items():
        if value < 1:
            raise ValueError(f"{name}: {value}; pass at least 1")
    if not 0 < level < 1:
        raise ValueError(f"level: {level} is not between 0 and 1; pass 0.95 for 95 %")
    fit_trend(accuracies, shifted, scale=scale, count=count)
    rng, drawn = np.random.default_rng(seed), []
    for p, n in zip((accuracies, shifted), counts.values(), strict=True):
        shares = rng.binomial(n, p, (draws, len(p))) / n
        drawn.append(_transformed("accuracies", shares, scale, n))
    x, y = (z - z.mean(axis=1, keepdims=True) for z in drawn)
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = np.sum(x * y, axis=1) / np.sum(x * x, axis=1)  # NaN where all drawn accuracies are equal
    intercepts = drawn[1].mean(axis=1) - slopes * drawn[0].mean(axis=1)
    ends = (1 - level) / 2, (1 + level) / 2
    return {"slope": np.nanquantile(slopes, ends), "intercept": np.nanquantile(intercepts, ends)}


def gaussian_source(mean, count, *, sigma=1.0, seed=0):
    """A source of two classes with Gaussian features, for which robustness is known in closed form.

    ``x | y ~ N(y mean, sigma^2 I)`` with y = -1 or 1 at even odds.

    >>> x, y = gaussian_source(np.array([2.0, 0.0]), 1000, sigma=0.1)
    >>> print((x * y[:, None]).mean(axis=0).round(1) + 0.0)
    [2. 0.]

    Args:
        mean: [D], of the class 1.
        count: N.
        sigma: standard deviation.
        seed: int.

    Returns:
        (x float64 [N, D], y int64 [N]). The averaging classifier is ``mean(y x)``.

    References:
        T. Nguyen et al., arXiv:2208.05516, the spirit of its section on theory.
    """
    rng = np.random.default_rng(seed)
    y = rng.choice([-1, 1], count)
    return y[:, None] * np.asarray(mean) + sigma * rng.standard_normal((count, len(mean))), y


def trend_slope(weights, mean, shifted, *, sigma=1.0, shifted_sigma=1.0):
    """Slope of a linear classifier in probit space: what a shift leaves of its margin.

    ``accuracy = Phi(w.mean / (sigma |w|))`` on a Gaussian test set, so the line through the origin is
    ``theta = (sigma / shifted_sigma) (w.shifted) / (w.mean)``. Of models that average one source w is its
    mean on the average, and n only moves them along the line.

    >>> print(trend_slope([1.0, 1.0], [2.0, 0.0], [0.5, 0.5]))
    0.5

    Args:
        weights: [D] or [M, D], of M classifiers.
        mean: [D], of the class 1 of the test set without the shift.
        shifted: [D], with it.
        sigma, shifted_sigma: their standard deviations.

    Returns:
        float64, or [M].

    References:
        Derived here after T. Nguyen et al., arXiv:2208.05516.
    """
    weights = np.asarray(weights, np.float64)
    return sigma / shifted_sigma * (weights @ np.asarray(shifted)) / (weights @ np.asarray(mean))


def mixture_slope(proportions, gains, slopes):
    """Dilution: the slope of a mixture is a weighted mean of the slopes of its sources.

    ``sum p g theta / sum p g``, so it is below the best source. Output mixing of the models has the same.

    >>> print(mixture_slope([0.5, 0.5], [1.0, 1.0], [1.2, 0.4]))
    0.8

    Args:
        proportions: [S], at least 0, with a positive sum.
        gains: [S], above 0: the product of the mean of a source and that of the test set without the shift.
        slopes: [S], of :func:`trend_slope`.

    Returns:
        float.

    Raises:
        ValueError: for proportions that are negative or all 0, gains that are not positive, other lengths.

    References:
        Derived here after T. Nguyen et al., arXiv:2208.05516.
    """
    shares = _shares("proportions", proportions)
    gains, slopes = read("gains", gains, shares.shape), read("slopes", slopes, shares.shape)
    if not (gains > 0).all():
        raise ValueError("gains: are not all above 0; leave out sources that point away from the test set")
    return float(np.sum(shares * gains * slopes) / np.sum(shares * gains))


def filtered_slope(source, weights, keep, mean, shifted, *, sigma=1.0):
    """Slope of a filtered source: the stricter the filter, the nearer the source comes to the filter's line.

    Rows with the highest ``y x.w`` are kept. Their mean is ``source + sigma lambda(h) w / |w|`` with
    ``lambda(h) = phi(h) / (1 - Phi(h))`` and h the normal quantile of 1 - keep. keep = 1 is the source.

    >>> print(round(filtered_slope([0.0, 1.0], [1.0, 0.0], 0.5, [1.0, 1.0], [1.0, 0.0]), 3))
    0.444

    Args:
        source: [D], mean of the class 1 of the source, whose features have the deviation ``sigma``.
        weights: [D], w of the filter.
        keep: share of the rows that are kept, in (0, 1].
        mean: [D], of the test set without the shift.
        shifted: [D], with it; both test sets have one deviation.
        sigma: standard deviation of the source.

    Returns:
        float, of models that average the kept rows.

    Raises:
        ValueError: for a keep outside (0, 1], or weights of length 0.

    References:
        Derived here after T. Nguyen et al., arXiv:2208.05516; why a filter hands on its robustness.
    """
    from scipy import stats

    weights = np.asarray(weights, np.float64)
    if not 0 < keep <= 1:
        raise ValueError(f"keep: {keep} is not in (0, 1]; pass the share of the rows that are kept")
    if not (length := np.linalg.norm(weights)) > 0:
        raise ValueError("weights: have no direction; pass the weights of a classifier that was trained")
    pull = stats.norm.pdf(stats.norm.isf(keep)) / keep
    return float(trend_slope(np.asarray(source) + sigma * pull * weights / length, mean, shifted))


def _shares(name, proportions):
    shares = read(name, proportions, (None,)).astype(np.float64)
    if not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
        raise ValueError(f"{name}: {shares.tolist()}; pass numbers from 0 on with a positive sum")
    return shares / shares.sum()


def _accuracies(name, p):
    p = np.asarray(p, np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"{name}: are not all within 0..1; pass shares, not per cent")
    return p


def _transformed(name, p, scale, count):
    from scipy import special

    if scale not in SCALES:
        raise ValueError(f"scale={scale!r}; choose one of {SCALES}")
    p = _accuracies(name, p)
    if count is not None:
        p = np.clip(p, 1 / (2 * count), 1 - 1 / (2 * count))
    elif ((p == 0) | (p == 1)).any():
        raise ValueError(f"{name}: 0 and 1 have no {scale}; pass count, the number of test examples")
    return special.logit(p) if scale == "logit" else special.ndtri(p)
