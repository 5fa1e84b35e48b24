"""Same or different: how well distances of pairs verify identities, and whether clusters find them."""

import numpy as np

from jaxembed.arrays import check_shape, host, squared_distances, unit
from jaxembed.extras import brings


def all_pairs(vectors, labels):
    """All pairs: the squared distances of unit vectors and whether the labels are equal, each pair once.

    >>> distances, same = all_pairs(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]), ["a", "b", "a"])
    >>> print(distances, same)
    [2. 0. 2.] [False  True False]

    Args:
        vectors: [N, D], N at least 2; normalised inside. Memory is N**2.
        labels: [N], of any kind.

    Returns:
        NumPy arrays ``distances`` float32 [N (N - 1) / 2] in 0..4 and ``same`` bool of that length, row by
        row: (0, 1), (0, 2), ...

    Raises:
        ValueError: for fewer than two vectors, or labels of another length.
    """
    vectors, labels = np.asarray(vectors, np.float32), np.asarray(labels)
    check_shape("vectors", vectors, (None, None))
    check_shape("labels", labels, (len(vectors),))
    if len(vectors) < 2:
        raise ValueError(f"vectors: {len(vectors)} of them make no pair; pass at least 2")
    directions = unit(vectors)
    upper = np.triu_indices(len(vectors), 1)
    return np.asarray(squared_distances(directions, directions))[upper], (labels[:, None] == labels)[upper]


def val_at_far(distances, same, *, far=1e-3):
    """VAL at FAR: the share of same pairs that are accepted when at most a share of the others is.

    ``VAL(t) = |{same, d < t}| / |{same}|`` and ``FAR(t) = |{different, d < t}| / |{different}|`` at the
    largest threshold t with ``FAR(t) <= far``.

    >>> val, threshold = val_at_far([0.1, 0.5, 0.9, 0.4, 1.0], [True, True, True, False, False], far=0.5)
    >>> print(round(val, 3), threshold)
    1.0 1.0

    Args:
        distances: [P], of pairs; lower is more similar.
        same: bool [P], whether a pair shows one identity. Ten times ``1 / far`` different pairs are a good
            least: 10,000 for 1e-3.
        far: the false accept rate that is allowed, in 0..1.

    Returns:
        (VAL, threshold): a float in 0..1, and the distance below which a pair is accepted; infinite where all
        are.

    Raises:
        ValueError: for shapes that differ, NaN, no same pair, or so few different ones that ``far`` of them
            is less than one.

    References:
        F. Schroff et al., FaceNet, arXiv:1503.03832, which accepts d <= t; the same pairs are accepted there
        at the largest distance below this t. Its 10E-3 is 1e-3.
    """
    distances, same = _pairs(distances, same)
    threshold = _threshold_at(distances[~same], far)
    return float(np.mean(distances[same] < threshold)), threshold


def kfold_verification(distances, same, *, folds=10, far=1e-3, thresholds=None):
    """k-fold verification: chooses a threshold on all folds but one and counts right answers on that one.

    This is the protocol of Labeled Faces in the Wild. A pair is called same where its distance is below the
    threshold. Fold k holds the k-th part of the pairs in the order given, which is not shuffled. Among
    thresholds of equal accuracy the lowest is taken.

    >>> distances, same = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7], [True, False] * 3
    >>> found = kfold_verification(distances, same, folds=3, far=0.5)
    >>> print(found["accuracy"], found["val"], found["thresholds"])
    1.0 1.0 [0.5 0.5 0.5]

    Args:
        distances: [P], of pairs.
        same: bool [P].
        folds: number of folds, 2 to P. Every fold needs pairs of both kinds.
        far: the false accept rate at which VAL is measured; its threshold comes from the other folds too.
        thresholds: optional [T], rising, the thresholds that are tried. None tries every one that matters,
            halfway between two neighbouring distances.

    Returns:
        Dict of floats: ``accuracy`` and ``sem``, the mean over folds and its standard error; ``val``,
        ``val_sem`` and ``far`` on the held-out folds; and ``thresholds``, a NumPy array [folds].

    Raises:
        ValueError: as :func:`val_at_far`, and for a fold without pairs of one kind.

    References:
        F. Schroff et al., FaceNet, arXiv:1503.03832. Code for it tries thresholds 0, 0.01, ..., 4 and finds
        that of VAL by interpolation; here it is exact.
    """
    distances, same = _pairs(distances, same)
    if not 2 <= folds <= len(same):
        raise ValueError(f"folds: {folds} is outside 2..{len(same)}, the number of pairs; choose fewer")
    rows = []
    for k, held in enumerate(np.array_split(np.arange(len(same)), folds)):
        if same[held].all() or not same[held].any():
            raise ValueError(f"same: fold {k} holds pairs of one kind only; mix the pairs first")
        others = np.delete(np.arange(len(same)), held)
        threshold = _best_threshold(distances[others], same[others], thresholds)
        strict = _threshold_at(distances[others][~same[others]], far)
        right = (distances[held] < threshold) == same[held]
        accepted = distances[held] < strict
        rows.append([right.mean(), accepted[same[held]].mean(), accepted[~same[held]].mean(), threshold])
    accuracy, val, rate, chosen = np.array(rows).T
    sem = [float(x.std(ddof=1) / folds**0.5) for x in (accuracy, val)]
    found = {"accuracy": float(accuracy.mean()), "sem": sem[0], "val": float(val.mean()), "val_sem": sem[1]}
    return found | {"far": float(rate.mean()), "thresholds": chosen}


def agglomerative_scores(vectors, labels, *, clusters=None, threshold=None, linkage="average"):
    """Agglomerative clustering: joins the nearest groups of vectors and compares groups with labels.

    The distances are the squared ones of unit vectors, in 0..4.

    >>> vectors = np.array([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
    >>> print(agglomerative_scores(vectors, [0, 0, 1, 1], threshold=0.5))
    {'clusters': 2, 'v_measure': 1.0, 'adjusted_rand': 1.0}

    Args:
        vectors: [N, D], N at least 2; normalised inside. Memory is N**2.
        labels: [N], of any kind.
        clusters: how many groups are left. None: as many as there are labels, or what ``threshold`` gives.
        threshold: optional distance from which groups are not joined.
        linkage: "average", "complete" or "single": which distance of two groups counts.

    Returns:
        Dict: ``clusters``, their number; ``v_measure`` in 0..1; ``adjusted_rand``, 0 for chance and 1 for
        equal groups.

    Raises:
        ValueError: for fewer than two vectors, labels of another length, numbers that are not finite, or both
            ``clusters`` and ``threshold``.

    References:
        F. Schroff et al., FaceNet, arXiv:1503.03832, which does not name its linkage.
    """
    if clusters is not None and threshold is not None:
        raise ValueError("threshold: has no meaning with clusters; leave one of them out")
    distances, _ = all_pairs(vectors, labels)
    if not np.isfinite(distances).all():
        raise ValueError("vectors: hold NaN or infinite numbers; leave those out")
    with brings("experiments"):
        from scipy.spatial.distance import squareform
        from sklearn.cluster import AgglomerativeClustering
        from sklearn.metrics import adjusted_rand_score, v_measure_score
    if clusters is None and threshold is None:
        clusters = len(np.unique(labels))
    options = {"n_clusters": clusters, "distance_threshold": threshold, "linkage": linkage}
    found = AgglomerativeClustering(metric="precomputed", **options).fit_predict(squareform(distances))
    scores = {"v_measure": v_measure_score, "adjusted_rand": adjusted_rand_score}
    return {"clusters": int(found.max()) + 1} | {n: float(f(labels, found)) for n, f in scores.items()}


def _pairs(distances, same):
    """Both as NumPy arrays, checked."""
    distances, same = host("distances", distances).astype(np.float64), host("same", same)
    check_shape("distances", distances, (None,))
    check_shape("same", same, distances.shape)
    if same.dtype != bool:
        raise ValueError(f"same: is {same.dtype}; pass bool, such as labels == others")
    if np.isnan(distances).any():
        raise ValueError("distances: hold NaN; leave out pairs of broken vectors")
    if not same.any() or same.all():
        missing = "different" if same.any() else "same"
        raise ValueError(f"same: no pair is {missing}; pass pairs of both kinds")
    return distances, same


def _threshold_at(different, far):
    """The largest threshold below which at most a share ``far`` of the different pairs lies."""
    if not 0 <= far <= 1:
        raise ValueError(f"far: {far} is outside 0..1; pass a share such as 1e-3")
    allowed = int(np.floor(far * len(different) * (1 + 1e-12)))
    if allowed < 1:
        count = len(different)
        raise ValueError(f"far: {far:g} of {count} different pairs is less than one; pass more pairs")
    return float("inf") if allowed >= len(different) else float(np.partition(different, allowed)[allowed])


def _best_threshold(distances, same, thresholds):
    """The lowest threshold of the highest accuracy."""
    order = np.argsort(distances, kind="stable")
    distances, same = distances[order], same[order]
    right = np.concatenate([[0], np.cumsum(np.where(same, 1, -1))])  # plus the number of different pairs
    if thresholds is not None:
        thresholds = np.asarray(thresholds, np.float64)
        return float(thresholds[np.argmax(right[np.searchsorted(distances, thresholds)])])
    cut = np.concatenate([[True], np.diff(distances) > 0, [True]])  # never between equal distances
    best = int(np.argmax(np.where(cut, right, -len(same) - 1)))
    edges = np.concatenate([distances[:1], (distances[1:] + distances[:-1]) / 2, [np.inf]])
    return float(edges[best])
