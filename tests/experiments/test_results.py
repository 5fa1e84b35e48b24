"""What may be claimed of few seeds: verdicts of paired differences, of shares, of a yes or no."""

import numpy as np
import pytest

from experiments.shared import results


def test_equal_arms_rarely_pass():
    """Two of three seeds are won by chance half of the time, an interval above 0 in one of forty."""
    draws = np.random.default_rng(0).normal(size=(2000, 5))
    held = np.mean([results.paired(row).verdict == results.REPRODUCED for row in draws])
    assert 0.015 < held < 0.035
    assert np.mean((draws[:, :3] > 0).sum(axis=1) >= 2) > 0.45


MANY = np.array([0.2, 0.3, 0.2, 0.3, 0.25])


def test_a_verdict_needs_five_seeds():
    found = results.paired(MANY[:4])
    assert found.value == pytest.approx(0.25) and found.spread is None and found.verdict is None
    found = results.paired(MANY)
    assert found.value == pytest.approx(0.25) and found.verdict == results.REPRODUCED
    _, low, high = results.metrics.paired_interval(MANY)
    assert found.spread == pytest.approx((high - low) / 2)
    assert results.paired(MANY, margin=0.24).verdict == results.NOT


def test_a_verdict_needs_every_column_and_tells_of_the_worst():
    both = np.stack([MANY, MANY - 0.3], axis=1)
    found = results.paired(both)
    assert found.verdict == results.NOT and found.value == pytest.approx(-0.05)
    assert results.paired(both, margin=-0.2).verdict == results.REPRODUCED
    assert results.paired(both[:3]).value == pytest.approx(both[:3, 1].mean())
    assert results.paired(both.reshape(5, 1, 2)) == found


def test_a_denied_claim_holds_where_nothing_is_above():
    def verdict(x):
        return results.paired(x, denied=True).verdict

    assert verdict(np.zeros(5)) == results.REPRODUCED and verdict(MANY) == results.NOT
    found = results.paired(np.stack([MANY - 0.3, MANY], axis=1), denied=True)
    assert found.verdict == results.NOT and found.value == pytest.approx(0.25)
    assert verdict(np.full(5, np.nan)) == results.NOT  # nothing was shown


@pytest.mark.parametrize(
    "x", [np.full(5, np.nan), [0.2, np.nan, 0.2, 0.2, 0.2], [0.2, np.inf, 0.2, 0.2, 0.2]]
)
def test_broken_differences_show_nothing(x):
    with np.errstate(invalid="ignore"):
        assert results.paired(x).verdict == results.NOT


@pytest.mark.parametrize(
    "bools, share, verdict",
    [
        ([True] * 3, 1.0, results.REPRODUCED),
        ([True, False, False, False], 0.25, results.PARTLY),
        ([False], 0.0, results.NOT),
    ],
)
def test_a_share_of_cases(bools, share, verdict):
    assert results.share(bools) == (share, None, verdict)


def test_a_claim_that_was_not_asked_has_no_row():
    claims = [
        results.Claim("1", "a", lambda t: results.holds(t["x"] > 1, t["x"]), paper=3.0),
        results.Claim("2", "b", lambda t: results.paired(t["y"]) if "y" in t else None),
    ]
    (row,) = results.judged(claims, results.Result({}, {"x": 2}))
    assert row == {
        "paper": "1",
        "sentence": "a",
        "paper_value": 3.0,
        "ours": 2.0,
        "spread": None,
        "verdict": results.REPRODUCED,
    }
    assert [r["paper"] for r in results.judged(claims, results.Result({"y": MANY}, {"x": 0}))] == ["1", "2"]
