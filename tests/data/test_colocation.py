"""Counts of what occurs together: a loop, two kinds of things, bad ids."""

import numpy as np
from refusals import refused

from jaxembed import data

RNG = np.random.default_rng(0)


def test_counts_equal_a_loop_over_sets():
    sets = [RNG.integers(0, 7, n).tolist() for n in (0, 1, 4, 9, 5)]
    others = [RNG.integers(0, 3, n).tolist() for n in (2, 0, 3, 1, 6)]
    together, both = np.zeros((7, 7)), np.zeros((7, 3))
    for own, other in zip(map(set, sets), map(set, others), strict=True):
        for i in own:
            together[i, [j for j in own if j != i]] += 1
            both[i, list(other)] += 1
    np.testing.assert_array_equal(data.colocation(sets, 7), together)
    np.testing.assert_array_equal(data.colocation(sets, 7, others=others, other_size=3), both)


def test_bad_ids_get_one_line():
    refused("sets: ids 0 to 7 of 7 things", lambda: data.colocation([[0, 7]], 7))
    refused("sets: ids -1 to 0", lambda: data.colocation([[0, -1]], 7))
    refused("others: 1 sets for 2", lambda: data.colocation([[0], [1]], 2, others=[[0]], other_size=1))
    refused("others: 2 sets for 2; ", lambda: data.colocation([[0], [1]], 2, others=[[0], [0]]))
