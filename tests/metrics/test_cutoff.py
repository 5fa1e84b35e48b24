"""Thresholds and what they do: slow loops, scikit-learn's curves, ties, recalls out of reach."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from jaxembed import metrics

RNG = np.random.default_rng(0)
SHAPE = (9, 8)
LABELS = RNG.random(SHAPE) < 0.25
SCORES = np.round(RNG.normal(size=SHAPE) + LABELS, 1)  # many ties
WHERE = RNG.random(SHAPE) < 0.8


@pytest.mark.parametrize("where", [None, WHERE], ids=["all", "some"])
def test_the_area_is_that_of_scikit_learn(where):
    kept = np.ones(SHAPE, bool) if where is None else where
    found = metrics.pr_auc(LABELS, np.where(kept, SCORES, np.nan), where=where)
    assert found == pytest.approx(average_precision_score(LABELS[kept], SCORES[kept]), rel=1e-12)


def test_a_map_of_all_scores_changes_nothing_and_one_of_each_query_does():
    assert metrics.pr_auc(LABELS, np.exp(3 * SCORES)) == pytest.approx(metrics.pr_auc(LABELS, SCORES))
    shifted = SCORES + 10 * RNG.normal(size=(9, 1))
    assert abs(metrics.pr_auc(LABELS, shifted) - metrics.pr_auc(LABELS, SCORES)) > 0.01
    assert metrics.pr_auc([1, 0], [1.0, 1.0]) == 0.5  # ties are one step


@pytest.mark.parametrize("recall", [0.3, 0.5, 0.95, 1.0])
def test_the_threshold_is_the_highest_of_the_curve_that_reaches_the_recall(recall):
    found = metrics.threshold_at_recall(LABELS, SCORES, recall=recall)
    _, recalls, thresholds = precision_recall_curve(LABELS.ravel(), SCORES.ravel())
    assert found == max(t for t, r in zip(thresholds, recalls[:-1], strict=True) if r >= recall - 1e-12)
    kept = metrics.filter_metrics(LABELS, SCORES, found)
    assert kept["recall"] >= recall - 1e-12


def test_more_recall_removes_less():
    removed = [
        metrics.filter_metrics(LABELS, SCORES, metrics.threshold_at_recall(LABELS, SCORES, recall=r))[
            "filter"
        ]
        for r in np.linspace(0.1, 1, 10)
    ]
    assert removed == sorted(removed, reverse=True) and removed[0] > removed[-1] + 0.2


def oracle(labels, scores, threshold, where):
    """Counts by hand, query after query."""
    hits = kept = relevant = pairs = empty = asked = 0
    ranks = []
    for row, line, counts in zip(labels, scores, where, strict=True):
        shown = [j for j in range(len(line)) if counts[j] and line[j] >= threshold]
        shown = sorted(shown, key=lambda j: (-line[j], j))
        own = [j for j in range(len(line)) if counts[j] and row[j]]
        found = [r for r, j in enumerate(shown, 1) if row[j]]
        hits, kept, relevant = hits + len(found), kept + len(shown), relevant + len(own)
        pairs, asked, empty = pairs + sum(counts), asked + any(counts), empty + (any(counts) and not shown)
        ranks += [1 / found[0] if found else 0] if own else []
    shares = hits / kept if kept else math.nan, hits / relevant, 1 - kept / pairs
    return (*shares, empty / asked, sum(ranks) / len(ranks))


@pytest.mark.parametrize("threshold", [-9.0, 0.0, 0.7, 1.5])
@pytest.mark.parametrize("where", [None, WHERE], ids=["all", "some"])
def test_filter_metrics_equal_a_loop(threshold, where):
    kept = np.ones(SHAPE, bool) if where is None else where.copy()
    if where is not None:
        kept[0] = False  # a query without candidates
    found = metrics.filter_metrics(LABELS, np.where(kept, SCORES, np.nan), threshold, where=kept)
    assert list(found.values()) == pytest.approx(oracle(LABELS, SCORES, threshold, kept))


def test_a_threshold_above_all_leaves_nothing():
    found = metrics.filter_metrics(LABELS, SCORES, 99.0)
    assert math.isnan(found["precision"]) and found["null"] == found["filter"] == 1 and found["mrr"] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.threshold_at_recall([1, 0, 1], [3, 2, 1.0], recall=0.95, relevant=4),
            "recall: 0.95 cannot be reached, 2 of 4 relevant documents are candidates; pass at most 0.5",
        ),
        (
            lambda: metrics.threshold_at_recall([1, 0, 1], [3, 2, 1.0], relevant=1),
            "relevant: 1, but 2 candidates are; count those of all queries",
        ),
        (lambda: metrics.threshold_at_recall([1, 0], [3, 2], recall=1.5), "recall: 1.5 is outside 0..1"),
        (lambda: metrics.threshold_at_recall([1, 0], [3, 2], recall=0), "recall: 0 is outside 0..1"),
        (lambda: metrics.threshold_at_recall([0, 0], [3, 2]), "labels: only negatives"),
        (lambda: metrics.pr_auc([1, 1], [3, 2]), "labels: only positives"),
        (lambda: metrics.pr_auc([], []), "labels: no pairs"),
        (lambda: metrics.pr_auc([1, 0], [np.nan, 2]), "scores: hold NaN"),
        (lambda: metrics.filter_metrics([[1, 0]], [[3, 2]], math.nan), "threshold: is NaN"),
        (lambda: metrics.filter_metrics([1, 0], [3, 2], 1), r"labels: shape \(2,\); pass \[B, K\]"),
    ],
)
def test_bad_arguments_get_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_a_recall_of_all_relevant_documents_counts_those_not_found():
    labels, scores = [1, 1, 0, 1], [0.9, 0.8, 0.7, 0.6]
    assert metrics.threshold_at_recall(labels, scores, recall=0.5, relevant=4) == 0.8
    assert metrics.threshold_at_recall(labels, scores, recall=0.75, relevant=4) == 0.6
