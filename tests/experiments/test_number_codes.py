"""The experiment on codes of numbers: what is drawn and asked, both maps, and its claims."""

import numpy as np
import pytest

from experiments.number_codes import __main__ as story
from experiments.number_codes import probes
from experiments.number_codes.__main__ import BEYOND, WITHIN, Config
from experiments.shared import results


def test_pairs_differ_and_stay_in_their_range():
    pairs = story.drawn(np.random.default_rng(0), 5, 9, 500)
    assert (pairs[:, 0] != pairs[:, 1]).all() and {*pairs.ravel()} == {5, 6, 7, 8}
    wanted = story.answers(np.array([[3.0, 6.0], [90.0, 9.0]]), 10)
    np.testing.assert_allclose(wanted, [[0.9, 1, -1], [9.9, 2, 1]])


def test_what_is_told_is_one_for_the_answer_and_zero_for_the_mean():
    wanted = story.answers(story.drawn(np.random.default_rng(0), 0, 50, 300), 50)
    assert story.told(wanted, wanted) == {"sum": 1, "logarithm": 1, "larger": 1}
    found = story.told(np.broadcast_to(wanted.mean(axis=0), wanted.shape), wanted)
    assert found["sum"] == pytest.approx(0, abs=1e-9) and 0.3 < found["larger"] < 0.7


def test_both_maps_learn_what_they_can():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 2))
    y = np.stack([x.sum(axis=1), np.abs(x[:, 0]), np.sign(x[:, 1])], axis=1)
    fits = probes.fits(Config(steps=300, hidden=32), 0)
    left = {name: np.mean((fit(x, y)(x) - y) ** 2, axis=0) / y.var(axis=0) for name, fit in fits.items()}
    assert left[probes.LINEAR][0] < 1e-6 and left[probes.LINEAR][1] > 0.9  # a bend is beyond a linear map
    assert left[probes.NETWORK].max() < 0.2


def test_a_linear_value_goes_beyond_the_numbers_that_were_seen():
    cfg = Config(count=500, steps=2)
    value, digits = (story.measured(cfg, kind, 0)[probes.LINEAR] for kind in ("value", "digits"))
    assert min(value[WITHIN]["sum"], digits[WITHIN]["sum"]) > 0.99
    assert value[BEYOND]["sum"] > 0.999 > 0 > digits[BEYOND]["sum"] and value[BEYOND]["larger"] > 0.95


def verdicts(value, log, digits):
    runs = {
        kind: [
            {
                probe: {
                    WITHIN: dict.fromkeys(("sum", "logarithm", "larger"), min(0.995, v + 0.9)),
                    BEYOND: dict.fromkeys(("sum", "logarithm", "larger"), v + 0.001 * seed),
                }
                for probe in probes.NAMES
            }
            for seed in range(5)
        ]
        for kind, v in {"value": value, "bins": value, "log": log, "digits": digits}.items()
    }
    return [row["verdict"] for row in results.answered(story.CLAIMS, results.Result({}, {"runs": runs}))]


def test_claims_hold_for_what_the_formulas_promise_and_fail_for_the_opposite():
    assert set(verdicts(0.8, 0.9, -2.0)) == {results.REPRODUCED}
    assert set(verdicts(0.05, 0.01, 0.5)) == {results.NOT}


def test_the_range_that_is_seen_is_a_part_of_the_whole():
    with pytest.raises(ValueError, match="^--seen 500: leaves no ten numbers to --most 400"):
        Config(most=400)
    with pytest.raises(ValueError, match="--size 7: choose a multiple of 2"):
        Config(size=7)
