"""Can people read vectors: intruders among the words of a coordinate, and probes beside a control task."""

import numpy as np

from jaxembed.arrays import check_shape, host
from jaxembed.metrics.classifiers import fit_logistic


def intrusion(coordinates, vectors=None, *, k=5, seed=0):
    """Word intrusion: does a word that does not belong stand apart from the top words of a coordinate?

    For each coordinate, its k largest words and one intruder: a word of the lower half there that is among
    the largest tenth of another coordinate. The ratio is ``mean distance(intruder, top words) / mean distance
    within the top words``. Above 1 the top words hold together; people find such intruders too.

    >>> x = np.array([[3.0, 0.0], [2.9, 0.1], [0.1, 3.0], [0.0, 2.9]])
    >>> print(intrusion(x, k=2).round(1))
    [29.  29.5]

    Args:
        coordinates: [V, K], what is to be read: sparse codes, axes, or the vectors themselves.
        vectors: optional [V, D] in which distances are measured; ``coordinates`` when None.
        k: top words, 2 to V - 1.
        seed: int of the choice of intruders.

    Returns:
        float64 [K]; NaN for a coordinate without an intruder, or whose top words lie at one point.

    Raises:
        ValueError: for shapes that do not fit, numbers that are not finite, or k outside its limits.

    References:
        J. Chang et al., NeurIPS 2009 (people as judges); the ratio of distances: S. Park et al., EMNLP 2017,
        aclanthology.org/D17-1041.
    """
    coordinates = host("coordinates", coordinates).astype(np.float64)
    check_shape("coordinates", coordinates, (None, None))
    vectors = coordinates if vectors is None else host("vectors", vectors).astype(np.float64)
    check_shape("vectors", vectors, (len(coordinates), None))
    if not 2 <= k < len(coordinates):
        raise ValueError(f"k={k}: is outside 2..{len(coordinates) - 1}; choose one there")
    if not (np.isfinite(coordinates).all() and np.isfinite(vectors).all()):
        raise ValueError("coordinates: hold NaN or infinite numbers; leave those rows out")
    order = np.argsort(-coordinates, axis=0, kind="stable")
    place = np.argsort(order, axis=0)
    high, rng = place < max(1, len(order) // 10), np.random.default_rng(seed)
    elsewhere, found = high.sum(axis=1), np.full(order.shape[1], np.nan)
    for at in range(order.shape[1]):
        able = np.flatnonzero((place[:, at] >= max(k, len(order) // 2)) & (elsewhere - high[:, at] > 0))
        if not len(able):
            continue
        top, intruder = vectors[order[:k, at]], vectors[rng.choice(able)]
        within = np.linalg.norm(top[:, None] - top, axis=2).sum() / (k * (k - 1))
        if within > 0:
            found[at] = np.linalg.norm(top - intruder, axis=1).mean() / within
    return found


def probe_selectivity(known, labels, asked, truth, *, items, asked_items, seed=0, **options):
    """Selectivity of a probe: how much better it learns the labels than labels that were drawn by chance.

    A logistic regression learns the labels, and then control labels: one is drawn for each item, such as a
    word, from the labels that occur, and all places of the item have it. ``selectivity = accuracy -
    control``. A probe that only remembers items is as good at the control.

    >>> x = np.eye(4)[[0, 1, 2, 3] * 5]
    >>> told = probe_selectivity(x, [0, 0, 1, 1] * 5, x, [0, 0, 1, 1] * 5, items=[0, 1, 2, 3] * 5,
    ...                          asked_items=[0, 1, 2, 3] * 5)
    >>> print(told)
    {'accuracy': 1.0, 'control': 1.0, 'selectivity': 0.0}

    Args:
        known: [N, D] that the probe is fitted to.
        labels: int [N] of 0..C-1.
        asked: [B, D].
        truth: int [B].
        items, asked_items: [N] and [B], which item each row is a place of; of one kind that NumPy sorts.
        seed: int of the control labels.
        **options: of :func:`fit_logistic`.

    Returns:
        Dict of ``accuracy``, ``control`` and ``selectivity``.

    Raises:
        ValueError: for shapes that do not fit, and as :func:`fit_logistic`.

    References:
        J. Hewitt and P. Liang, EMNLP 2019, aclanthology.org/D19-1275.
    """
    known, asked = host("known", known), host("asked", asked)
    check_shape("known", known, (None, None))
    check_shape("asked", asked, (None, known.shape[1]))
    labels, truth, items, asked_items = (np.asarray(x) for x in (labels, truth, items, asked_items))
    for name, x, like in (("labels", labels, known), ("items", items, known)):
        check_shape(name, x, (len(like),))
    for name, x in (("truth", truth), ("asked_items", asked_items)):
        check_shape(name, x, (len(asked),))
    classes = int(labels.max(initial=0)) + 1
    kinds, numbers = np.unique(np.concatenate([items, asked_items]), return_inverse=True)
    drawn = np.random.default_rng(seed).choice(labels, len(kinds)) if len(labels) else labels
    tasks = {"accuracy": (labels, truth)}
    tasks["control"] = drawn[numbers[: len(items)]], drawn[numbers[len(items) :]]
    found = {}
    for name, (learned, wanted) in tasks.items():
        params = fit_logistic(known, learned, max(2, classes), **options)
        told = np.argmax(asked @ np.asarray(params["kernel"]) + np.asarray(params["bias"]), axis=1)
        found[name] = float(np.mean(told == wanted))
    return found | {"selectivity": found["accuracy"] - found["control"]}
