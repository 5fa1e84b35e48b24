"""Gains of tied documents against all their orders, and against scikit-learn."""

import itertools

import numpy as np
import pytest
from refusals import refused

from jaxembed import metrics

SCORES = np.array([[3, 1, 3, 1, 1], [5, 4, 3, 2, 1], [0, 0, 0, 0, 0]])
GAINS = np.array([[1.0, 0, 0, 0, 1], [0, 1, 0, 1, 0], [2, 0, 1, 0, 0]])


def test_gains_are_the_mean_over_all_orders():
    for scores, gains in zip(SCORES, GAINS, strict=True):
        orders = [o for o in itertools.permutations(range(5)) if all(np.diff(scores[list(o)]) <= 0)]
        wanted = np.mean([gains[list(o)] for o in orders], axis=0)
        np.testing.assert_allclose(metrics.tied_gains(scores[None], gains[None])[0], wanted)


def test_a_key_draws_one_order_that_keeps_the_scores():
    found = {tuple(metrics.tied_gains(SCORES[:1], np.arange(5.0)[None], key=k)[0]) for k in range(60)}
    assert all(set(order[:2]) == {0, 2} for order in found) and len(found) == 12
    np.testing.assert_array_equal(
        metrics.tied_gains(SCORES[1:2], GAINS[1:2], key=3), metrics.tied_gains(SCORES[1:2], GAINS[1:2])
    )


def test_tied_and_untied_numbers_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    gains = (rng.random((6, 20)) < 0.3).astype(float)
    gains[:, 0] = 1
    for scores in (rng.integers(0, 4, gains.shape), rng.random(gains.shape)):
        found = metrics.tied_gains(scores, gains)
        ours = metrics.ndcg(found[:, :10], gains, k=10)
        wanted = [
            sklearn.ndcg_score(g[None], s[None], k=10, ignore_ties=False)
            for g, s in zip(gains, scores, strict=True)
        ]
        np.testing.assert_allclose(ours, wanted, rtol=1e-5)
    ours = metrics.average_precision(found, gains, k=20)  # the last scores have no ties
    wanted = [sklearn.average_precision_score(g, s) for g, s in zip(gains, scores, strict=True)]
    np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_bad_scores_are_named():
    refused("scores: hold NaN", lambda: metrics.tied_gains(np.full((1, 2), np.nan), np.ones((1, 2))))
    with pytest.raises(ValueError, match="gains: shape"):
        metrics.tied_gains(SCORES, GAINS[:, :3])
