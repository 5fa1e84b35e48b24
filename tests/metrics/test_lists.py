"""Precision and overlap of lists: loops, and the bounds between precision, recall and average precision."""

import numpy as np
import pytest

from jaxembed import metrics

RNG = np.random.default_rng(0)
N, K = 12, 6
LABELS = RNG.integers(0, 3, N)
RELEVANT = ((LABELS[:, None] == LABELS) & ~np.eye(N, dtype=bool)).astype(np.float32)
IDS = np.stack([RNG.permutation(np.delete(np.arange(N), i)) for i in range(N)])
GAINS = np.take_along_axis(RELEVANT, IDS, axis=1)


@pytest.mark.parametrize("k", [1, 3, 10, 20])
def test_precision_counts_what_is_relevant(k):
    wanted = [sum(LABELS[j] == LABELS[i] for j in IDS[i][:k]) / k for i in range(N)]
    np.testing.assert_allclose(metrics.precision(GAINS, k=k), wanted, rtol=1e-6)
    count = RELEVANT.sum(axis=1)
    hits = np.asarray(metrics.recall(GAINS, RELEVANT, k=k)) * count
    np.testing.assert_allclose(metrics.precision(GAINS, k=k) * k, hits, rtol=1e-5)
    bound = np.minimum(k, count) / count
    assert (np.asarray(metrics.average_precision(GAINS, RELEVANT, k=k)) <= bound + 1e-6).all()
    np.testing.assert_array_equal(RELEVANT, RELEVANT.T)  # relevance is symmetric


@pytest.mark.parametrize("k", [1, 4, K])
def test_overlap_equals_sets(k):
    first, second = IDS[:, :K], IDS[:, 2 : 2 + K]
    wanted = [len(set(a[:k]) & set(b[:k])) / k for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(metrics.list_overlap(first, second, k=k), wanted, rtol=1e-6)
    assert np.asarray(metrics.list_overlap(first, first, k=k)).tolist() == [1.0] * N
    padded = np.where(np.arange(K) < 2, first, -1)
    assert np.asarray(metrics.list_overlap(padded, padded, k=4)).tolist() == [0.5] * N


def test_bad_arguments_get_one_line():
    with pytest.raises(ValueError, match="k: 7 is outside 1..6, the length of a list"):
        metrics.list_overlap(IDS[:, :K], IDS[:, :K], k=7)
    with pytest.raises(ValueError, match=r"second: shape \(3, 11\); pass \[12, any\]"):
        metrics.list_overlap(IDS, IDS[:3])
    with pytest.raises(ValueError, match="k: 0 is below 1"):
        metrics.precision(GAINS, k=0)
