"""Do named coordinates mean what they are called: AUC of concepts, and how good explanations are."""

import numpy as np

from jaxembed.arrays import check_shape, host
from jaxembed.metrics.binary import auc


def concept_auc(vectors, labels):
    """Concept AUC: how well each coordinate tells the items that have its concept, averaged over concepts.

    >>> print(concept_auc([[0.9, 0.1], [0.2, 0.3]], [[1, 1], [0, 0]]))
    0.5

    Args:
        vectors: [N, K].
        labels: [N, K], 1 where the item has the concept. Concepts that all items or none have are left out.

    Returns:
        float within 0..1; 0.5 is chance.

    Raises:
        ValueError: for shapes that differ, NaN, or where no concept has both kinds of items.
    """
    vectors, labels = host("vectors", vectors), host("labels", labels)
    check_shape("vectors", vectors, (None, None))
    check_shape("labels", labels, vectors.shape)
    mixed = np.flatnonzero((labels == 1).any(axis=0) & (labels != 1).any(axis=0))
    if not len(mixed):
        raise ValueError("labels: no concept has items with and without it; nothing can be told apart")
    return float(np.mean([auc(labels[:, c], vectors[:, c]) for c in mixed]))


def explanation_precision(concepts, shared):
    """Precision of explanations: how many of the named concepts the two items really have in common.

    ``precision[p] = |concepts[p] in shared[p]| / min(r, |shared[p]|)``, so that pairs with fewer than r
    concepts in common can reach 1. Pairs without any are left out of the mean.

    >>> print(explanation_precision([[0, 2], [1, 0]], [[1, 0, 0], [1, 1, 0]]))
    1.0

    Args:
        concepts: int [P, r] of ``vectors.explain``.
        shared: [P, K], 1 where both items of the pair have the concept.

    Returns:
        float within 0..1.

    Raises:
        ValueError: for shapes that do not fit, concepts out of range, or where no pair has one in common.
    """
    concepts, shared = host("concepts", concepts), host("shared", shared) == 1
    check_shape("concepts", concepts, (None, None))
    check_shape("shared", shared, (len(concepts), None))
    if not ((concepts >= 0) & (concepts < shared.shape[1])).all():
        raise ValueError(f"concepts: a number outside 0..{shared.shape[1] - 1}; pass what explain returned")
    count = np.minimum(shared.sum(axis=1), concepts.shape[1])
    if not count.any():
        raise ValueError("shared: no pair has a concept in common; nothing can be explained")
    hits = np.take_along_axis(shared, concepts, axis=1).sum(axis=1)
    return float(np.mean(hits[count > 0] / count[count > 0]))


def completeness(contributions, scores):
    """Completeness of explanations: the share of the score that the named concepts cover, on average.

    >>> print(completeness([[0.5, 0.25]], [1.0]))
    0.75

    Args:
        contributions: [P, r] of ``vectors.explain``.
        scores: [P], the whole scores. Pairs whose score is 0 are left out.

    Returns:
        float; within 0..1 where nothing is negative. NaN when every score is 0.
    """
    contributions, scores = host("contributions", contributions), host("scores", scores)
    check_shape("scores", scores, (len(contributions),))
    kept = scores != 0
    return float(np.mean(contributions[kept].sum(axis=1) / scores[kept])) if kept.any() else float("nan")


def pattern_purity(scores, labels, *, top=10):
    """Purity of patterns: of the items on which a pattern responds most, the share that shows the same.

    >>> scores, labels = np.array([[0.9], [0.8], [0.7], [0.1]]), np.array([3, 3, 1, 1])
    >>> print(pattern_purity(scores, labels, top=3).round(3))
    [0.667]

    Args:
        scores: [N, P], such as ``vectors.pattern_features``; an item with a score of 0 or less, or NaN, does
            not count.
        labels: int [N], what an item shows; or [N, P], what each pattern's box on it shows. A negative
            number shows nothing and is the same as no other.
        top: items of a pattern, the best ones.

    Returns:
        float64 [P] within 0..1; NaN for a pattern that responds to no item.

    Raises:
        ValueError: for shapes that do not fit, or ``top`` below 1.

    References:
        S. Singh et al., Unsupervised discovery of mid-level discriminative patches, arXiv:1205.3137.
    """
    scores, labels = host("scores", scores), host("labels", labels)
    check_shape("scores", scores, (None, None))
    check_shape("labels", labels, scores.shape[: max(1, labels.ndim)])
    labels = np.broadcast_to(labels.reshape(len(labels), -1), scores.shape)
    if top < 1:
        raise ValueError(f"top: {top}; choose 1 and above")
    ranked = np.where(scores > 0, scores, -np.inf)
    best = np.argsort(-ranked, axis=0, kind="stable")[:top]
    found = np.full(scores.shape[1], np.nan)
    for p, rows in enumerate(best.T):
        shown = labels[rows[ranked[rows, p] > -np.inf], p]
        if len(shown):
            counts = np.unique(shown[shown >= 0], return_counts=True)[1]
            found[p] = counts.max(initial=min(1, len(shown))) / len(shown)
    return found
