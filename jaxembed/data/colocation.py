"""Which things occur together in sets, such as the objects of pictures."""

import numpy as np


def colocation(sets, size, others=None, other_size=None):
    """Co-location counts: in how many sets two things occur together, or a thing and one of another kind.

    ``counts[i, j]`` is the number of sets that hold both i and j; a thing that comes twice in a set counts
    once.

    >>> print(colocation([[0, 1], [0, 1, 2], [2]], 3))
    [[0. 2. 1.]
     [2. 0. 1.]
     [1. 1. 0.]]
    >>> print(colocation([[0], [0, 1]], 2, others=[[2], [0]], other_size=3))
    [[1. 0. 1.]
     [1. 0. 0.]]

    Args:
        sets: sequence of sequences of ints in 0..size-1, for example the objects of each picture.
        size: number of things, N.
        others: optional sequence of as many sequences of ints, for example the words of each picture's
            captions.
        other_size: number M of those.

    Returns:
        float32 [N, N], symmetric with a diagonal of 0, or [N, M] with ``others``; dense.
        ``vectors.ppmi`` and ``vectors.spectral_embedding`` make vectors of it.

    Raises:
        ValueError: for ids outside their range, or lists of different lengths.

    References:
        V. Krishna et al., IMAGINATOR, arXiv:2305.10438.
    """
    columns = size if others is None else other_size
    if others is not None and (len(others) != len(sets) or other_size is None):
        raise ValueError(f"others: {len(others)} sets for {len(sets)}; pass one for each, and other_size")
    counts = np.zeros((size, columns), np.float32)
    for place, own in enumerate(sets):
        rows = _distinct("sets", own, size)
        found = rows if others is None else _distinct("others", others[place], other_size)
        counts[np.ix_(rows, found)] += 1
    if others is None:
        np.fill_diagonal(counts, 0)
    return counts


def _distinct(name, ids, size):
    found = np.unique(np.asarray(ids, np.int64))
    if len(found) and not (found[0] >= 0 and found[-1] < size):
        raise ValueError(f"{name}: ids {found[0]} to {found[-1]} of {size} things; number them from 0")
    return found
