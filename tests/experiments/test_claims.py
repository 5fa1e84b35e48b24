"""What experiments may claim of few seeds: intervals of paired differences and of shares."""

import numpy as np
import pytest
from scipy import stats

from experiments.common import paired


def test_the_interval_is_that_of_a_paired_t_test():
    one, two = np.random.default_rng(0).normal(size=(2, 7))
    wanted = stats.ttest_rel(one, two).confidence_interval(0.9)
    mean, low, high = paired.interval(one - two, level=0.9)
    np.testing.assert_allclose((low, high), (wanted.low, wanted.high), rtol=1e-12)
    assert mean == pytest.approx((one - two).mean())
    with pytest.raises(ValueError, match="differences: 1 of them"):
        paired.interval([0.1])


def test_the_interval_of_a_share_is_wilsons():
    for hits, count in ((92, 168), (0, 20), (20, 20)):
        wanted = stats.binomtest(hits, count).proportion_ci(method="wilson")
        np.testing.assert_allclose(paired.share(hits, count), (hits / count, *wanted), atol=1e-12)


def test_equal_arms_rarely_pass():
    """Two of three seeds are won by chance half of the time, an interval above 0 in one of forty."""
    draws = np.random.default_rng(0).normal(size=(2000, 5))
    held = np.mean([paired.claim("x", row)["holds"] for row in draws])
    assert 0.015 < held < 0.035
    assert np.mean((draws[:, :3] > 0).sum(axis=1) >= 2) > 0.45


def test_a_claim_needs_five_seeds_and_every_column():
    few, many = np.array([0.2, 0.3, 0.2, 0.3]), np.array([0.2, 0.3, 0.2, 0.3, 0.25])
    row = paired.claim("x", few)
    assert (row["holds"], row["low"], row["high"], row["seeds"]) == (None, None, None, 4)
    assert row["mean"] == pytest.approx(0.25) and row["each"] == few.tolist()
    assert paired.claim("x", many)["holds"] and not paired.claim("x", many, margin=0.24)["holds"]
    both = np.stack([many, many - 0.3], axis=1)
    row = paired.claim("x", both)
    assert not row["holds"] and row["mean"] == pytest.approx(-0.05)
    assert paired.claim("x", both, margin=-0.2)["holds"]


def test_a_denied_claim_holds_where_nothing_is_above():
    many = np.array([0.2, 0.3, 0.2, 0.3, 0.25])
    assert paired.claim("x", np.zeros(5), denied=True)["holds"]
    assert not paired.claim("x", many, denied=True)["holds"]
    row = paired.claim("x", np.stack([many - 0.3, many], axis=1), denied=True)
    assert not row["holds"] and row["mean"] == pytest.approx(0.25)
    assert not paired.claim("x", np.full(5, np.nan), denied=True)["holds"]


def test_what_was_claimed_is_printed_and_verdicts_are_gathered(capsys):
    told = paired.told([paired.claim("a", [1.0] * 5), paired.claim("b", [1.0] * 3)])
    assert told["criteria"] == {"a": True} and len(told["claims"]) == 2
    printed = capsys.readouterr().out
    assert "claim" in printed and "low" in printed and not paired.told([])["claims"]
