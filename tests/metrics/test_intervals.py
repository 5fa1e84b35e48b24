"""Intervals of means over seeds and of shares: those of scipy, how often they are right, bad arguments."""

import numpy as np
import pytest
from scipy import stats

from jaxembed import metrics


@pytest.mark.parametrize("count, level", [(2, 0.95), (7, 0.9), (40, 0.99)])
def test_the_interval_of_a_mean_is_that_of_a_paired_t_test(count, level):
    one, two = np.random.default_rng(count).normal(size=(2, count))
    wanted = stats.ttest_rel(one, two).confidence_interval(level)
    mean, low, high = metrics.paired_interval(one - two, level)
    np.testing.assert_allclose((low, high), (wanted.low, wanted.high), rtol=1e-12)
    assert mean == pytest.approx((one - two).mean())


def test_columns_have_intervals_of_their_own():
    x = np.random.default_rng(0).normal(size=(6, 2, 3))
    found = np.stack(metrics.paired_interval(x))
    assert found.shape == (3, 2, 3)
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(found[:, *i], metrics.paired_interval(x[:, *i]))
    x[2, 1, 1] = np.nan
    broken = np.isnan(np.stack(metrics.paired_interval(x)))
    assert broken[:, 1, 1].all() and broken.sum() == 3


def test_equal_differences_have_no_width():
    assert metrics.paired_interval([0.25] * 5) == (0.25, 0.25, 0.25)


def test_nineteen_of_twenty_intervals_hold_the_true_mean():
    draws = np.random.default_rng(0).normal(1.0, 3.0, size=(5, 4000))
    _, low, high = metrics.paired_interval(draws)
    assert np.mean((low < 1) & (high > 1)) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("hits, count", [(92, 168), (0, 20), (20, 20), (1, 1), (3, 100_000)])
def test_the_interval_of_a_share_is_wilsons(hits, count, level):
    wanted = stats.binomtest(hits, count).proportion_ci(level, method="wilson")
    found = metrics.share_interval(hits, count, level)
    np.testing.assert_allclose(found, (hits / count, *wanted), atol=1e-12)
    share, low, high = found
    assert 0 <= low <= share <= high <= 1


def test_shares_come_in_arrays():
    found = np.stack(metrics.share_interval([0, 3, 8], 8))
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found[:, 1], metrics.share_interval(3, 8))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.paired_interval([0.1]), "differences: 1 of them have no spread; give at least 2"),
        (lambda: metrics.paired_interval(0.1), "differences: 1 of them"),
        (lambda: metrics.paired_interval([]), "differences: 0 of them"),
        (lambda: metrics.paired_interval([0.1, 0.2], 95), "level: 95 is not between 0 and 1; pass 0.95"),
        (lambda: metrics.share_interval(1, 2, 1.0), "level: 1.0 is not between 0 and 1"),
        (lambda: metrics.share_interval(0, 0), "count: 0 cases have no share"),
        (lambda: metrics.share_interval([1, 2], [3, 0]), "count: 0 cases have no share"),
        (lambda: metrics.share_interval(5, 4), "hits: 5 of 4 cases; give 0 to all"),
        (lambda: metrics.share_interval(-1, 4), "hits: -1 of 4 cases"),
    ],
)
def test_bad_arguments_get_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
