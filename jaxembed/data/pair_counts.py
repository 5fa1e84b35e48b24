"""Counts of words that stand together, and how much more often they do than by chance."""

import numpy as np

from jaxembed.data.corpora import END

FLUSH = 1 << 20  # words of the corpus that are counted at once


def cooccurrence(corpus, *, window=15, weights="inverse", symmetric=True):
    """Co-occurrence counts: how often two words stand within a window of one line, near ones counting more.

    A pair at distance r adds 1 / r ("inverse", GloVe), (window + 1 - r) / window ("linear", the expectation
    of a window whose radius is drawn), or 1 ("flat").

    >>> from jaxembed.data.corpora import corpus
    >>> found = corpus(["a b c"], min_count=1)
    >>> rows, columns, counts = cooccurrence(found, window=2)
    >>> print(rows, columns, counts)
    [0 0 1 1 2 2] [1 2 0 2 0 1] [1.  0.5 1.  1.  0.5 1. ]

    Args:
        corpus: of :func:`corpus`.
        window: largest distance.
        weights: "inverse", "linear" or "flat".
        symmetric: False counts only the words on the right.

    Returns:
        rows int32 [P], columns int32 [P], sorted by both, and counts float64 [P], of all pairs that occur.
        Memory grows with their number.

    Raises:
        ValueError: for other weights.

    References:
        J. Pennington et al., doi:10.3115/v1/D14-1162; the window does not cross lines, as in its code.
    """
    rules = {"inverse": lambda r: 1 / r, "linear": lambda r: (window + 1 - r) / window, "flat": lambda r: 1.0}
    if weights not in rules:
        raise ValueError(f"weights={weights!r}: choose one of {tuple(rules)}")
    size, keys, totals = len(corpus["words"]), np.zeros(0, np.int64), np.zeros(0)
    for start in range(0, len(corpus["ids"]), FLUSH):
        part = np.asarray(corpus["ids"][max(0, start - window) : start + FLUSH])
        fresh = start - max(0, start - window)
        lines = np.cumsum(part == END)
        new, added = [keys], [totals]
        for r in range(1, min(window, len(part) - 1) + 1):
            right = slice(max(r, fresh), None)
            left = slice(max(r, fresh) - r, len(part) - r)
            one, two = part[left].astype(np.int64), part[right].astype(np.int64)
            real = (lines[left] == lines[right]) & (one != END) & (two != END)
            new.append(one[real] * size + two[real])
            added.append(np.full(np.count_nonzero(real), rules[weights](r)))
        keys, totals = _summed(np.concatenate(new), np.concatenate(added))
    if symmetric:
        swapped = keys % size * size + keys // size
        keys, totals = _summed(np.concatenate([keys, swapped]), np.concatenate([totals, totals]))
    return (keys // size).astype(np.int32), (keys % size).astype(np.int32), totals


def _summed(keys, values):
    """Distinct keys in order, and the sum of the values of each."""
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    if not len(keys):
        return keys, values
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.add.reduceat(values, first)


def positive_pmi(rows, columns, counts, size, *, smoothing=0.75, shift=1.0):
    """Positive pointwise mutual information: how much more often two words stand together than by chance.

    ``max(0, log(n[i, j] n / (n[i] m[j])) - log shift)`` with m the column sums raised to ``smoothing`` and
    scaled to the same total. Pairs that come out at 0 are left out. Skip-gram with K negatives factors the
    same matrix with shift K, before the maximum.

    >>> rows, columns, counts = np.array([0, 0, 1, 2]), np.array([1, 2, 0, 0]), np.array([3.0, 1, 3, 1])
    >>> print(positive_pmi(rows, columns, counts, 3, smoothing=1.0)[2].round(3))
    [0.693 0.693 0.693 0.693]

    Args:
        rows, columns: int [P], words.
        counts: [P], of :func:`cooccurrence`.
        size: V.
        smoothing: power of the column sums; below 1 it makes rare words less surprising.
        shift: at least 1, by which chance is multiplied.

    Returns:
        rows int [Q], columns int [Q] and values float64 [Q], the positive ones.

    Raises:
        ValueError: for shapes that differ.

    References:
        O. Levy and Y. Goldberg, NeurIPS 2014; O. Levy et al., doi:10.1162/tacl_a_00134.
    """
    rows, columns, counts = np.asarray(rows), np.asarray(columns), np.asarray(counts, np.float64)
    from jaxembed.arrays import check_shape  # JAX, which a light import of the room does not bring
    from jaxembed.counts import positive_information

    check_shape("columns", columns, rows.shape)
    check_shape("counts", counts, rows.shape)
    own, other = (np.bincount(x, counts, size) for x in (rows, columns))
    raised = other**smoothing
    values = positive_information(counts, own[rows], raised[columns], raised.sum(), shift)
    kept = values > 0
    return rows[kept], columns[kept], values[kept]
