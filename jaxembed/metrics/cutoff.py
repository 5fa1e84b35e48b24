"""What one threshold does to the result lists of all queries: precision, recall, and what is removed."""

import math

import numpy as np

from jaxembed.arrays import host
from jaxembed.metrics.calibrate import pooled


def pr_auc(labels, scores, *, where=None):
    """Area under the precision-recall curve: the average precision of the pairs of all queries in one list.

    ``pr_auc = sum_n (R_n - R_{n-1}) P_n`` over the distinct scores as thresholds, from the highest on. The
    pairs are pooled before they are sorted, so the number tells whether scores of different queries compare.
    A map that rises and is the same for all queries leaves it as it is.

    >>> print(pr_auc([[1, 0], [0, 1]], [[0.9, 0.8], [0.4, 0.3]]))
    0.75

    Args:
        labels: [...], 0 or 1.
        scores: of the same shape, higher is more likely relevant.
        where: optional bool of the same shape; False leaves a pair out.

    Returns:
        float within 0..1, the number of scikit-learn's ``average_precision_score``.

    Raises:
        ValueError: for labels of one class, NaN scores, shapes that differ.

    References:
        N. Rossi et al., arXiv:2408.04887.
    """
    positive, scores = pooled(labels, scores, where)
    order = np.argsort(-scores, kind="stable")
    positive, scores = positive[order], scores[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # of equal scores
    hits = np.cumsum(positive)[last]
    gained = np.diff(hits, prepend=0) / hits[-1]
    return float(np.sum(gained * hits / (last + 1)))


def threshold_at_recall(labels, scores, *, recall=0.95, relevant=None, where=None):
    """Threshold at a recall: the highest score at which enough of the relevant pairs are still kept.

    A pair is kept when its score is at least the threshold. Recall is the share of the relevant candidates
    that are kept. Choose the threshold on validation queries and on candidates such as the search gives: on
    other negatives the share of relevant pairs differs.

    >>> print(threshold_at_recall([1, 0, 1, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5], recall=0.6))
    0.7

    Args:
        labels: [...], 0 or 1.
        scores: of the same shape.
        recall: above 0 and at most 1.
        relevant: optional number of relevant documents of all queries, those that no search found among them;
            recall is relative to it then.
        where: optional bool of the same shape; False leaves a pair out.

    Returns:
        float.

    Raises:
        ValueError: for a recall outside 0..1 or one that the candidates cannot reach, labels of one class, or
            NaN scores. Also for fewer ``relevant`` ones than the labels have.
    """
    if not 0 < recall <= 1:
        raise ValueError(f"recall: {recall} is outside 0..1; pass a share of the relevant pairs")
    positive, scores = pooled(labels, scores, where)
    found = int(positive.sum())
    total = found if relevant is None else int(relevant)
    if total < found:
        raise ValueError(f"relevant: {total}, but {found} candidates are; count those of all queries")
    needed = math.ceil(recall * total - 1e-9)
    if needed > found:
        raise ValueError(
            f"recall: {recall} cannot be reached, {found} of {total} relevant documents are candidates; "
            f"pass at most {math.floor(found / total * 1000) / 1000}, or more candidates"
        )
    return float(np.sort(scores[positive])[::-1][max(1, needed) - 1])


def filter_metrics(labels, scores, threshold, *, where=None):
    """Filter metrics: what is left of the result lists when scores below a threshold are removed.

    | name | number |
    |---|---|
    | precision | relevant pairs among those kept; NaN when none is kept |
    | recall | kept pairs among the relevant candidates |
    | filter | share of the candidates that are removed |
    | null | share of the queries whose list becomes empty |
    | mrr | mean of 1 / rank of the first relevant document that is kept, 0 without one |

    ``mrr`` is over the queries with a relevant candidate; ``null`` over those with a candidate.

    >>> found = filter_metrics([[1, 0], [0, 1]], [[0.9, 0.2], [0.8, 0.3]], 0.5)
    >>> print(found)
    {'precision': 0.5, 'recall': 0.5, 'filter': 0.5, 'null': 0.0, 'mrr': 0.5}

    Args:
        labels: [B, K], 0 or 1, a row for each query.
        scores: [B, K]; ranks follow them, equal scores in the order of their columns.
        threshold: pairs with a score of at least this are kept.
        where: optional bool [B, K]; False is padding.

    Returns:
        Dict of floats.

    Raises:
        ValueError: for labels of one class, NaN scores or a NaN threshold, shapes that differ.

    References:
        N. Rossi et al., arXiv:2408.04887; "filter" and "null" are their Filter % and Null %.
    """
    if np.isnan(threshold):
        raise ValueError("threshold: is NaN; pass that of threshold_at_recall")
    pooled(labels, scores, where)
    labels, scores = host("labels", labels) == 1, host("scores", scores).astype(np.float64)
    if labels.ndim != 2:
        raise ValueError(f"labels: shape {labels.shape}; pass [B, K], a row for each query")
    where = np.ones(labels.shape, bool) if where is None else np.asarray(where, bool)
    scores, labels = np.where(where, scores, -np.inf), labels & where
    kept = where & (scores >= threshold)
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(labels & kept, order, axis=1)
    first = np.where(ranked.any(axis=1), 1 / (1 + ranked.argmax(axis=1)), 0)
    hits = int((labels & kept).sum())
    return {
        "precision": float(hits / kept.sum()) if kept.any() else math.nan,
        "recall": float(hits / labels.sum()),
        "filter": float(1 - kept.sum() / where.sum()),
        "null": float((~kept.any(axis=1))[where.any(axis=1)].mean()),
        "mrr": float(first[labels.any(axis=1)].mean()),
    }
