"""Mixtures: exact proportions; trends against SciPy; closed forms against drawn Gaussians."""

import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import special, stats

from jaxembed.data import (
    effective_robustness,
    ensemble_logits,
    filtered_slope,
    fit_trend,
    gaussian_source,
    mixture_rows,
    mixture_slope,
    trend_interval,
    trend_slope,
)

RNG = np.random.default_rng(0)
ID = RNG.uniform(0.2, 0.95, 40)
OOD = special.expit(1.1 * special.logit(ID) - 0.6 + 0.1 * RNG.standard_normal(40))


# Rows


def test_proportions_are_exact_and_rows_distinct():
    sources, rows = mixture_rows([50, 70, 90], [1, 2, 4], 100)
    assert np.bincount(sources).tolist() == [14, 29, 57]  # 14.29, 28.57, 57.14: the remainder .57 gains a row
    for source, size in enumerate((50, 70, 90)):
        own = rows[sources == source]
        assert len(np.unique(own)) == len(own) and own.min() >= 0 and own.max() < size
    assert np.flatnonzero(np.diff(sources)).size > 20  # shuffled


def test_a_seed_decides_and_one_source_is_a_draw_of_it():
    one, same, other = (mixture_rows([50, 50], [1, 1], 40, seed=s) for s in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[1], other[1])
    sources, rows = mixture_rows([5, 8], [0, 3.0], 8)
    assert (sources == 1).all() and sorted(rows) == list(range(8))


def test_a_small_source_is_repeated_as_a_whole():
    sources, rows = mixture_rows([3, 100], [0.5, 0.5], 20, repeat=True)
    counts = np.bincount(rows[sources == 0])
    assert sorted(counts) == [3, 3, 4]


def test_every_row_is_as_likely():
    counts = sum(np.bincount(mixture_rows([10], [1], 3, seed=s)[1], minlength=10) for s in range(2000))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_output_mixing_of_linear_scorers_is_the_scorer_of_mean_weights():
    x, scorers = RNG.standard_normal((6, 4)), RNG.standard_normal((3, 4, 5))
    weights = np.array([0.2, 0.3, 0.5])
    found = ensemble_logits(jnp.asarray(x @ scorers), jnp.asarray(weights))
    np.testing.assert_allclose(found, x @ np.tensordot(weights, scorers, 1), atol=1e-5)
    np.testing.assert_allclose(ensemble_logits(x @ scorers, [0.0, 1.0, 0.0]), x @ scorers[1], atol=1e-6)


# Trends


@pytest.mark.parametrize(("scale", "u"), [("logit", special.logit), ("probit", special.ndtri)])
def test_a_trend_is_the_regression_of_scipy(scale, u):
    found, fit = fit_trend(ID, OOD, scale=scale), stats.linregress(u(ID), u(OOD))
    expected = [fit.slope, fit.intercept, fit.rvalue**2]
    np.testing.assert_allclose([found[name] for name in ("slope", "intercept", "r2")], expected, rtol=1e-9)
    inverse = special.expit if scale == "logit" else special.ndtr
    rho = OOD - inverse(fit.slope * u(ID) + fit.intercept)
    np.testing.assert_allclose(effective_robustness(ID, OOD, found), rho, atol=1e-12)
    residual = u(OOD) - fit.slope * u(ID) - fit.intercept
    assert abs(residual.mean()) < 1e-12 < abs(rho.mean())  # zero in the space of the fit alone


def test_models_on_a_line_have_no_effective_robustness():
    ood = special.expit(1.359 * special.logit(ID) + 0.447)
    trend = fit_trend(ID, ood)
    np.testing.assert_allclose([trend["slope"], trend["intercept"], trend["r2"]], [1.359, 0.447, 1.0])
    np.testing.assert_allclose(effective_robustness(ID, ood, trend), 0, atol=1e-12)
    flipped = fit_trend(1 - ID, 1 - ood)  # u(1 - p) = -u(p)
    np.testing.assert_allclose([flipped["slope"], flipped["intercept"]], [1.359, -0.447])


def test_published_models_deviate_from_the_line_by_their_source():
    """ResNet-50 of two sources (accuracies of open_clip), against the line of 114 models."""
    accuracies = {"YFCC15M": 0.324, "CC12M": 0.359}
    under = {"sketch": (0.073, 0.235), "a": (0.137, 0.076)}
    lines = {"sketch": (1.083, -0.677), "a": (1.413, -1.320)}
    found = {}
    for shift, (slope, intercept) in lines.items():
        trend = {"slope": slope, "intercept": intercept, "scale": "logit"}
        found[shift] = effective_robustness(list(accuracies.values()), under[shift], trend)
    assert found["sketch"][0] < -0.1 < 0 < found["sketch"][1]
    assert found["a"][0] > 0.03 > 0 > found["a"][1]


def test_accuracies_at_the_ends_are_clipped_by_the_number_of_examples():
    found = fit_trend([0.0, 0.5, 1.0], [0.0, 0.5, 1.0], count=50)
    assert found["slope"] == pytest.approx(1) and found["r2"] == pytest.approx(1)
    trend = {"slope": 1.0, "intercept": 0.0, "scale": "logit"}
    np.testing.assert_allclose(effective_robustness([1.0], [1.0], trend, count=50), 0.01)


def test_the_interval_holds_the_line_as_often_as_it_says():
    slope, held = 0.9, 0
    true_id = np.linspace(0.3, 0.9, 8)
    true_ood = special.expit(slope * special.logit(true_id) - 0.3)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        seen = [rng.binomial(2000, p) / 2000 for p in (true_id, true_ood)]
        low, high = trend_interval(*seen, 2000, draws=200, level=0.9, seed=seed)["slope"]
        held += low <= slope <= high
    assert 160 <= held <= 196  # 180 expected; four standard deviations, and the bias of noise in accuracies


def test_an_interval_shrinks_with_the_root_of_the_test_set():
    wide, narrow = (np.ptp(trend_interval(ID, OOD, n)["slope"]) for n in (400, 40_000))
    assert wide / narrow == pytest.approx(10, rel=0.2)
    one = trend_interval(ID, OOD, 400, shifted_count=10**7)["slope"]
    assert np.ptp(narrow) < np.ptp(one) < wide


# Closed forms

MEAN, SHIFT = np.zeros(40), np.zeros(40)
MEAN[0], SHIFT[:2] = 1.0, (0.8, 0.5)
A, B = np.zeros(40), np.zeros(40)
A[:2], B[:2] = (1.0, 0.8), (1.0, -0.8)  # slopes 1.2 and 0.4


def test_slopes_are_ratios_of_margins_of_drawn_test_sets():
    x, y = gaussian_source(A, 3000, seed=1)
    w = (x * y[:, None]).mean(axis=0)
    margins = []
    for mean, sigma in ((MEAN, 1.0), (SHIFT, 2.0)):
        tested, labels = gaussian_source(mean, 200_000, sigma=sigma, seed=2)
        margins.append(special.ndtri(np.mean((tested @ w) * labels > 0)))
    assert margins[1] / margins[0] == pytest.approx(trend_slope(w, MEAN, SHIFT, shifted_sigma=2.0), abs=0.01)
    np.testing.assert_allclose(trend_slope([A, B], MEAN, SHIFT), [1.2, 0.4])
    assert trend_slope(w, MEAN, SHIFT) == pytest.approx(1.2, abs=0.05)


def test_a_mixture_is_diluted():
    gains, slopes = [A @ MEAN, 2 * B @ MEAN], trend_slope([A, 2 * B], MEAN, SHIFT)
    assert mixture_slope([1, 0], gains, slopes) == pytest.approx(1.2)
    assert mixture_slope([0.5, 0.5], [1, 1], slopes) == pytest.approx(0.8)
    found = [mixture_slope([1 - p, p], gains, slopes) for p in np.linspace(0, 1, 5)]
    assert (np.diff(found) < 0).all() and found[-1] == pytest.approx(0.4)
    drawn = [gaussian_source(mean, n, seed=3) for mean, n in ((A, 30_000), (2 * B, 10_000))]
    w = sum((x * y[:, None]).sum(axis=0) for x, y in drawn) / 40_000
    expected = mixture_slope([3, 1], gains, slopes)
    assert trend_slope(w, MEAN, SHIFT) == pytest.approx(expected, abs=0.02)
    assert trend_slope(0.75 * A + 0.25 * 2 * B, MEAN, SHIFT) == pytest.approx(expected)  # output mixing


@pytest.mark.parametrize("keep", [0.5, 0.3, 0.1])
def test_a_filtered_source_moves_to_the_line_of_its_filter(keep):
    x, y = gaussian_source(B, 200_000, sigma=0.7, seed=4)
    signed = x * y[:, None]
    along = signed @ A
    w = signed[along >= np.quantile(along, 1 - keep)].mean(axis=0)
    expected = filtered_slope(B, A, keep, MEAN, SHIFT, sigma=0.7)
    assert trend_slope(w, MEAN, SHIFT) == pytest.approx(expected, abs=0.01)


def test_limits_of_filtering():
    assert filtered_slope(B, A, 1.0, MEAN, SHIFT) == pytest.approx(0.4)
    strict = [filtered_slope(B, A, keep, MEAN, SHIFT) for keep in (1, 0.9, 0.5, 0.1, 1e-3, 1e-300)]
    assert (np.diff(strict) > 0).all() and 1.1 < strict[-1] < 1.2
    for keep in (0.9, 0.1):  # a filter of the same source leaves its line
        assert filtered_slope(B, 3 * B, keep, MEAN, SHIFT) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("proportions: .*; pass numbers from 0 on", lambda: mixture_rows([5, 5], [1, -1], 2)),
        ("proportions: .*; pass numbers from 0 on", lambda: mixture_rows([5, 5], [0, 0], 2)),
        ("proportions: .*; pass numbers from 0 on", lambda: mixture_rows([5], [np.nan], 2)),
        ("count: 0 rows; pass at least 1", lambda: mixture_rows([5], [1], 0)),
        ("sizes: source 1 has 5 of 6 rows; lower count, or", lambda: mixture_rows([9, 5], [1, 1], 12)),
        ("sizes: source 0 has 0 of 2 rows", lambda: mixture_rows([0], [1], 2, repeat=True)),
        ("accuracies: have no spread", lambda: fit_trend([0.5], [0.5])),
        ("accuracies: have no spread", lambda: fit_trend([0.5, 0.5], [0.5, 0.6])),
        ("shifted: are not all within 0..1; pass shares", lambda: fit_trend([0.5, 0.6], [50, 60])),
        ("shifted: 0 and 1 have no logit; pass count", lambda: fit_trend([0.5, 0.6], [0.0, 0.6])),
        ("accuracies: are not all within", lambda: fit_trend([0.5, np.nan], [0.4, 0.6])),
        ("scale='raw'; choose one of", lambda: fit_trend([0.5, 0.6], [0.4, 0.6], scale="raw")),
        ("level: 95 is not between 0 and 1", lambda: trend_interval(ID, OOD, 100, level=95)),
        ("shifted_count: 0; pass at least 1", lambda: trend_interval(ID, OOD, 100, shifted_count=0)),
        ("gains: are not all above 0", lambda: mixture_slope([1, 1], [1, -1], [1, 1])),
        (r"keep: 0 is not in \(0, 1\]", lambda: filtered_slope(B, A, 0, MEAN, SHIFT)),
        ("weights: have no direction", lambda: filtered_slope(B, 0 * A, 0.5, MEAN, SHIFT)),
    ],
)
def test_bad_input_is_one_clear_line(match, call):
    refused(match, call)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="sizes: shape"):
        mixture_rows([5], [1, 1], 2)
    with pytest.raises(ValueError, match="weights: shape"):
        ensemble_logits(jnp.ones((2, 3)), jnp.ones(3))
    with pytest.raises(ValueError, match="shifted: shape"):
        fit_trend(ID, OOD[:-1])
