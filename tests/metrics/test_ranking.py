"""Metrics of rankings equal loops written from their formulas."""

import jax
import numpy as np
import oracles_search as oracles
import pytest

from jaxembed import metrics

RNG = np.random.default_rng(11)


# --- metrics ---


def random_judgments(queries=40):
    ids = RNG.integers(-1, 12, (queries, 15))
    judged_ids = np.stack([RNG.permutation(14)[:9] for _ in range(queries)])
    grades = RNG.integers(-1, 4, (queries, 9))
    padding = RNG.random((queries, 9)) < 0.2
    judged_ids, grades = np.where(padding, -1, judged_ids), np.where(padding, -1, grades)
    grades[3] = np.minimum(grades[3], 0)  # a query without a relevant document
    judgments = [
        {int(i): int(g) for i, g in zip(*pair, strict=True) if i >= 0}
        for pair in zip(judged_ids, grades, strict=True)
    ]
    return ids, judged_ids, grades, judgments


@pytest.mark.parametrize("k", [1, 5, 10, None])
@pytest.mark.parametrize("name", ["ndcg", "recall", "mrr", "average_precision"])
def test_metrics_equal_the_loops(name, k):
    ids, judged_ids, grades, judgments = random_judgments()
    gains = metrics.gains(ids, judged_ids, grades)
    wanted = [oracles.ranked_gains(i.tolist(), j) for i, j in zip(ids, judgments, strict=True)]
    np.testing.assert_array_equal(gains, wanted)
    found = getattr(metrics, name)(gains, grades, k=k)
    oracle = getattr(oracles, name)
    wanted = [oracle(i.tolist(), j, len(i) if k is None else k) for i, j in zip(ids, judgments, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    where = metrics.has_relevant(grades)
    assert not where[3] and found[3] == 0
    kept = [w for w, j in zip(wanted, judgments, strict=True) if any(g > 0 for g in j.values())]
    np.testing.assert_allclose(metrics.masked_mean(found, where), np.mean(kept), atol=1e-6)


def test_ndcg_by_hand():
    """The example of Wikipedia's article on discounted cumulative gain."""
    gains, judged = np.array([[3, 2, 3, 0, 1, 2]]), np.array([[3, 3, 3, 2, 2, 2, 1, 0]])
    np.testing.assert_allclose(metrics.ndcg(gains, judged, k=6), [0.785], atol=5e-4)


def test_metrics_of_nothing():
    none = np.zeros((2, 0), np.int32)
    assert not np.any(metrics.gains(np.ones((2, 3), np.int32), none, none))
    assert metrics.gains(none, np.ones((2, 3), np.int32), np.ones((2, 3))).shape == (2, 0)
    for metric in (metrics.ndcg, metrics.recall, metrics.mrr, metrics.average_precision):
        assert not np.any(metric(np.zeros((2, 3)), none)) and not np.any(metric(none, np.ones((2, 3))))
    assert metrics.masked_mean(np.full(3, np.nan), np.zeros(3, bool)) == 0


# Slices of popularity


def test_slices_are_means_over_their_own_queries():
    rng = np.random.default_rng(0)
    values, counts = rng.random(200).astype(np.float32), rng.integers(30, size=200)
    where = rng.random(200) < 0.8
    means, sizes = metrics.sliced_means(values, counts, (0, 3, 10), where=where)
    for s, (low, high) in enumerate(((-1, 0), (0, 3), (3, 10), (10, 99))):
        own = [v for v, c, w in zip(values, counts, where, strict=True) if w and low < c <= high]
        assert sizes[s] == len(own)
        np.testing.assert_allclose(means[s], np.mean(own), rtol=1e-5)
    jitted = jax.jit(lambda v, c: metrics.sliced_means(v, c, (0, 3, 10), where=where))(values, counts)
    np.testing.assert_allclose(jitted[0], means, rtol=1e-6)


def test_an_empty_slice_is_zero_and_left_out_values_may_be_anything():
    means, sizes = metrics.sliced_means([1.0, np.nan], [5, 5], (0, 9, 10), where=[True, False])
    assert means.tolist() == [0, 1, 0, 0] and sizes.tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1], (3, 3)), "edges"),
        (([1.0], [1], (np.nan,)), "edges"),
        (([1.0], [1], ()), "edges"),
        (([1.0], [1, 2], (3,)), "counts: shape"),
        (([[1.0]], [1], (3,)), "values: shape"),
    ],
)
def test_slices_name_their_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        metrics.sliced_means(*arguments)
