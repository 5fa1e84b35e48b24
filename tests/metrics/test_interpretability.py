"""Metrics of named coordinates: loops, scikit-learn's AUC, pairs that have nothing in common."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxembed import metrics

RNG = np.random.default_rng(0)
LABELS = (RNG.random((30, 6)) < 0.4).astype(int)
LABELS[:, 5] = 0  # nobody's concept
VECTORS = np.round(RNG.random((30, 6)) + 0.3 * LABELS, 1)


def test_concept_auc_is_the_mean_of_scikit_learns():
    wanted = np.mean([roc_auc_score(LABELS[:, c], VECTORS[:, c]) for c in range(5)])
    assert metrics.concept_auc(VECTORS, LABELS) == pytest.approx(wanted, rel=1e-9)


def test_precision_is_what_can_be_reached():
    concepts = np.stack([RNG.permutation(6)[:3] for _ in range(30)])
    wanted = []
    for row, named in zip(LABELS, concepts, strict=True):
        if row.any():
            wanted.append(sum(row[c] for c in named) / min(3, row.sum()))
    assert metrics.explanation_precision(concepts, LABELS) == pytest.approx(np.mean(wanted))
    best = np.argsort(-LABELS, axis=1, kind="stable")[:, :3]
    assert metrics.explanation_precision(best, LABELS) == 1


def test_completeness_leaves_scores_of_zero_out():
    assert metrics.completeness([[0.3, 0.2], [0.0, 0.0]], [1.0, 0.0]) == pytest.approx(0.5)
    assert np.isnan(metrics.completeness([[0.0]], [0.0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.concept_auc(VECTORS, LABELS * 0),
            "labels: no concept has items with and without it",
        ),
        (lambda: metrics.concept_auc(VECTORS[:3], LABELS), r"labels: shape \(30, 6\); pass \[3, 6\]"),
        (lambda: metrics.concept_auc(VECTORS * np.nan, LABELS), "scores: NaN"),
        (lambda: metrics.explanation_precision([[0]], [[0, 0]]), "shared: no pair has a concept in common"),
        (lambda: metrics.explanation_precision([[-1]], [[0, 1]]), "concepts: a number outside 0..1"),
        (lambda: metrics.explanation_precision([[2]], [[0, 1]]), "concepts: a number outside 0..1"),
        (lambda: metrics.completeness([[0.3]], [1.0, 2.0]), r"scores: shape \(2,\); pass \[1\]"),
    ],
)
def test_bad_arguments_get_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_purity_is_that_of_the_best_items_that_respond():
    scores = np.array([[3.0, 1, 0, np.nan], [2, 2, -1, 1], [1, 3, 0, 0], [0, 4, 0, 2]])
    labels = np.array([5, 5, 6, 7])
    np.testing.assert_allclose(metrics.pattern_purity(scores, labels, top=3), [2 / 3, 1 / 3, np.nan, 1 / 2])
    np.testing.assert_allclose(metrics.pattern_purity(scores, labels, top=1), [1, 1, np.nan, 1])
    shown = np.where(scores > 2, 9, -1)  # what each pattern's box shows; -1 is nothing
    np.testing.assert_allclose(metrics.pattern_purity(scores, shown, top=3), [1 / 3, 2 / 3, np.nan, 1 / 2])
    for call in (
        lambda: metrics.pattern_purity(scores, labels, top=0),
        lambda: metrics.pattern_purity(scores, labels[:2]),
        lambda: metrics.pattern_purity(scores[0], labels),
    ):
        with pytest.raises(ValueError, match=r"pass|choose"):
            call()
