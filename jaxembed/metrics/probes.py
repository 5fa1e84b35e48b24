"""Quick measures of frozen vectors: where partners rank, and what nearest neighbours tell."""

import numpy as np

from jaxembed.arrays import accumulator, check_shape, inner, on_device, unit
from jaxembed.metrics.classifiers import fit_logistic
from jaxembed.search.topk import top_k


def partner_ranks(queries, documents):
    """Partner ranks: the rank of each query's own document among all by cosine; ties count against it.

    ``rank[i]`` is the number of documents whose cosine with query i is at least that of document i. The mean
    of ``(rank <= k) / rank`` is MRR@k, that of ``rank <= k`` is Recall@k.

    >>> ranks = partner_ranks(np.eye(3)[:2], np.eye(3)[[0, 2, 1]])
    >>> print(ranks, np.mean((ranks <= 10) / ranks).round(3), np.mean(ranks <= 1))
    [1 3] 0.667 0.5

    Args:
        queries: [B, D].
        documents: [N, D], N at least B; row i answers query i.

    Returns:
        int NumPy array [B], from 1. A query whose vector, or whose document's, holds NaN is never found: its
        rank is N. Another document that holds NaN counts as nearer than the own one.

    Raises:
        ValueError: when there are fewer documents than queries, or the widths differ.
    """
    queries, documents = on_device("queries", queries), on_device("documents", documents)
    check_shape("queries", queries, (None, None))
    check_shape("documents", documents, (None, queries.shape[1]))
    if len(documents) < len(queries):
        raise ValueError(f"documents: {len(documents)} rows answer {len(queries)} queries; pass one for each")
    queries, documents = (unit(x.astype(accumulator(x))) for x in (queries, documents))
    scores = np.asarray(inner(queries, documents))
    own = np.diagonal(scores)[:, None]
    return (~(scores < own)).sum(axis=1)


def nearest_accuracy(known, labels, asked, truth, *, k=10):
    """k-nearest-neighbour accuracy: how often most of the k nearest known vectors have the right label.

    Neighbours are those of largest inner product, as :func:`jaxembed.search.top_k` finds them; equal votes
    go to the label that sorts first.

    >>> known, asked = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> print(nearest_accuracy(known, ["a", "b"], asked, ["a", "a"], k=1))
    0.5

    Args:
        known: [N, D], unit vectors for cosines. A row that holds NaN is the last to be a neighbour.
        labels: [N], of one kind that NumPy sorts.
        asked: [B, D]. A row that holds NaN is never right.
        truth: [B], labels of the same kind.
        k: neighbours, at most N.

    Returns:
        float.

    Raises:
        ValueError: for labels that do not fit the vectors or one another in kind, no vectors, or k outside
            1..N.
    """
    known, asked = on_device("known", known), on_device("asked", asked)
    check_shape("known", known, (None, None))
    check_shape("asked", asked, (None, known.shape[1]))
    labels, truth = np.asarray(labels), np.asarray(truth)
    check_shape("labels", labels, (len(known),))
    check_shape("truth", truth, (len(asked),))
    if (labels.dtype.kind in "OSU") != (truth.dtype.kind in "OSU"):
        raise ValueError(f"truth: {truth.dtype} with labels of {labels.dtype}; pass labels of one kind")
    if not len(asked):
        raise ValueError("asked: no vectors; pass at least one")
    ids = np.asarray(top_k(asked, known, k)[1])
    names, numbers = np.unique(np.concatenate([labels, truth]), return_inverse=True)
    votes = np.zeros((len(asked), len(names)))
    np.add.at(votes, (np.arange(len(asked))[:, None], numbers[: len(labels)][ids]), 1)
    right = votes.argmax(axis=1) == numbers[len(labels) :]
    return float((right & ~np.isnan(np.asarray(asked)).any(axis=1)).mean())


def linear_probe(known, labels, asked, truth, *, c=1.0, standardise=True):
    """Linear probe: how often a logistic regression on known vectors tells the labels of others.

    >>> known = np.repeat([[-1.0, 0.0], [1.0, 0.0]], 5, axis=0)
    >>> print(linear_probe(known, ["a"] * 5 + ["b"] * 5, [[-2.0, 0.0], [3.0, 1.0]], ["a", "a"]))
    0.5

    Args:
        known: [N, D].
        labels: [N], of at least two classes.
        asked: [B, D].
        truth: [B], labels of the same kind.
        c: inverse strength of the penalty, as in :func:`fit_logistic`.
        standardise: whether each coordinate gets mean 0 and deviation 1 on the known vectors first; one that
            is constant there becomes 0.

    Returns:
        float.

    Raises:
        ValueError: for one class, labels that do not fit the vectors, or vectors that are not finite.
    """
    known, asked = (np.asarray(x, np.float32) for x in (known, asked))
    check_shape("known", known, (None, None))
    check_shape("asked", asked, (None, known.shape[1]))
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    check_shape("labels", numbers, (len(known),))
    check_shape("truth", np.asarray(truth), (len(asked),))
    if not len(asked):
        raise ValueError("asked: no vectors; pass at least one")
    if standardise:
        mean, deviation = known.mean(axis=0), known.std(axis=0)
        constant = deviation <= 1e-6 * np.abs(mean)
        known, asked = (
            np.where(constant, 0, (x - mean) / np.where(constant, 1, deviation)) for x in (known, asked)
        )
    params = fit_logistic(known, numbers, len(names), c=c)
    told = np.argmax(asked @ np.asarray(params["kernel"]) + np.asarray(params["bias"]), axis=1)
    return float(np.mean(names[told] == np.asarray(truth)))


def r_precision(vectors, labels):
    """R-precision: of the R nearest others, R being how many share the label, the share that does.

    Each vector asks in turn, and all others are ranked by cosine; equal cosines come in the order of the
    rows. The result is the mean over the vectors whose label occurs more than once.

    >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.3]])
    >>> print(r_precision(vectors, ["a", "a", "b", "b"]))
    0.75

    Args:
        vectors: [N, D]. One that holds NaN finds nothing and is found last.
        labels: [N], of one kind that NumPy compares.

    Returns:
        float within 0..1.

    Raises:
        ValueError: for labels that do not fit the vectors, or of which none occurs twice.

    References:
        C. D. Manning et al., Introduction to Information Retrieval, Cambridge 2008, chapter 8.
    """
    vectors, labels = on_device("vectors", vectors), np.asarray(labels)
    check_shape("vectors", vectors, (None, None))
    check_shape("labels", labels, (len(vectors),))
    numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    others = counts[numbers] - 1
    if not others.any():
        raise ValueError("labels: none occurs twice; pass vectors of which some share a label")
    vectors = unit(vectors.astype(accumulator(vectors)))
    scores = np.array(inner(vectors, vectors))
    lost = np.isnan(scores)
    scores[lost] = -np.inf
    order = _others_first(scores)
    same = (numbers[order] == numbers[:, None]) & ~np.take_along_axis(lost, order, axis=1)
    right = np.sum(same & (np.arange(order.shape[1]) < others[:, None]), axis=1)
    return float(np.mean(right[others > 0] / others[others > 0]))


def _others_first(scores):
    """Columns of each row in falling order of the score, int [N, N-1], without the row's own."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return order[order != np.arange(len(order))[:, None]].reshape(len(order), -1)


def neighbour_recall(vectors, labels, *, k=1):
    """Recall@k of metric learning: how often one of the k nearest other vectors has the same label.

    Neighbours are those of largest cosine among all other rows.

    >>> vectors = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.9, 0.8]])
    >>> print(neighbour_recall(vectors, ["a", "a", "b", "b"]))
    0.75

    Args:
        vectors: [N, D]; normalised inside. A row that holds NaN is never right and the last to be found.
        labels: [N], of one kind. A row whose label comes once is not counted, but may be found by others.
        k: neighbours, below N.

    Returns:
        float in 0..1.

    Raises:
        ValueError: for labels of another length, k outside 1..N-1, or when no label comes twice.

    References:
        H. Jegou et al., TPAMI 2011; for metric learning, H. O. Song et al., arXiv:1511.06452.
    """
    vectors, labels = on_device("vectors", vectors), np.asarray(labels)
    check_shape("vectors", vectors, (None, None))
    check_shape("labels", labels, (len(vectors),))
    if not 1 <= k < len(labels):
        raise ValueError(
            f"k: {k} is outside 1..{len(labels) - 1}, the number of other vectors; choose one there"
        )
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    asked = counts[numbers] > 1
    if not asked.any():
        raise ValueError(
            "labels: none comes twice, so no neighbour can be right; pass classes of two or more"
        )
    directions = unit(vectors.astype(accumulator(vectors)))
    ids = np.asarray(top_k(directions, directions, k + 1)[1])
    own = ids == np.arange(len(ids))[:, None]
    own[~own.any(axis=1), -1] = True  # so many duplicates that a row is not among its own neighbours
    others = ids[~own].reshape(len(ids), k)
    right = (numbers[others] == numbers[:, None]).any(axis=1) & ~np.isnan(np.asarray(vectors)).any(axis=1)
    return float(right[asked].mean())
