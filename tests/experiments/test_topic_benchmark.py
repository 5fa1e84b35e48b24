"""The benchmark of topics: what its arms read, and its claims."""

import numpy as np
import pytest

from experiments.benchmarks import topics
from experiments.shared import results
from jaxembed import data


def test_sparse_rows_are_the_bags():
    pytest.importorskip("scipy")
    bag = data.word_bags([["a", "b", "a"], ["c"], []], ["a", "b", "c"])
    found = topics.sparse(bag, 3)
    np.testing.assert_array_equal(found.toarray(), [[2, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert found.nnz == 3  # nothing of the padding


def test_times_and_bounds_are_compared_with_each_peer():
    units = ("ms a document", "CPU ms a document")
    rows = [
        {"task": task, "arm": arm} | dict.fromkeys(units, value)
        for task in (topics.LDA, topics.FACTORS)
        for arm, value in ((topics.OURS, 1.0), (topics.SKLEARN, 2.0))
    ]
    found = topics.summary(topics.Config(), rows)
    assert len(found) == 4 and all(row["ratio"] == 2 and row["peer"] == topics.SKLEARN for row in found)
    bounds = [{"arm": topics.OURS, "nats a held-out word": -6.0}]
    others = (topics.GENSIM, -6.1), (topics.SKLEARN, -5.8)
    bounds += [{"arm": arm, "nats a held-out word": x} for arm, x in others]
    told = results.answered(topics.CLAIMS, results.Result({"bounds": bounds}))
    assert [row["verdict"] for row in told] == [results.REPRODUCED, results.NOT]
    alone = results.answered(topics.CLAIMS, results.Result({"bounds": bounds[:1]}))
    assert all(row["verdict"] is None for row in alone)
