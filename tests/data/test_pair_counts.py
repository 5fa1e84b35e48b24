"""Co-occurrence counts and pointwise mutual information against loops and a corpus of four words."""

import collections

import numpy as np
import pytest

from jaxembed import data

TEXTS = ["the cat sat on the mat", "the dog sat", "", "a cat and a dog and the cat", "once"]


@pytest.mark.parametrize("weights", ["inverse", "linear", "flat"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_cooccurrence_is_the_loop_over_pairs(weights, symmetric, monkeypatch):
    monkeypatch.setattr("jaxembed.data.pair_counts.FLUSH", 7)  # lines reach across what is read at once
    window, wanted = 3, collections.Counter()
    for text in TEXTS:
        row = text.split()
        for i in range(len(row)):
            for r in range(1, window + 1):
                if i + r < len(row):
                    value = {"inverse": 1 / r, "linear": (window + 1 - r) / window, "flat": 1}[weights]
                    wanted[row[i], row[i + r]] += value
                    wanted[row[i + r], row[i]] += value if symmetric else 0
    found = data.corpus(TEXTS, min_count=1)
    rows, columns, counts = data.cooccurrence(found, window=window, weights=weights, symmetric=symmetric)
    names = found["words"]
    got = {(names[i], names[j]): n for i, j, n in zip(rows, columns, counts, strict=True)}
    assert got == pytest.approx({k: v for k, v in wanted.items() if v})


def test_pmi_of_a_corpus_of_four_words_by_hand():
    found = data.corpus(["a b", "a b", "a c", "d c"], min_count=1)
    assert found["words"] == ["a", "b", "c", "d"]
    pairs = data.cooccurrence(found, window=1)
    rows, columns, values = data.positive_pmi(*pairs, 4, smoothing=1.0)
    got = {(found["words"][i], found["words"][j]): v for i, j, v in zip(rows, columns, values, strict=True)}
    # 8 directed pairs; a: 3, b: 2, c: 2, d: 1. a-b 2 of 8, a-c 1 of 8, c-d 1 of 8.
    wanted = {("a", "b"): np.log(2 * 8 / (3 * 2)), ("a", "c"): np.log(1 * 8 / (3 * 2))}
    wanted[("c", "d")] = np.log(1 * 8 / (2 * 1))
    assert got == pytest.approx({pair: v for (i, j), v in wanted.items() for pair in ((i, j), (j, i))})
    kept = data.positive_pmi(*pairs, 4, smoothing=1.0, shift=2.0)
    assert sorted(kept[2]) == pytest.approx(sorted(v - np.log(2) for v in got.values() if v > np.log(2)))


def test_smoothing_raises_the_column_sums():
    rng = np.random.default_rng(0)
    dense = rng.integers(0, 5, (6, 6)).astype(float)
    rows, columns = np.nonzero(dense)
    got = np.zeros((6, 6))
    i, j, values = data.positive_pmi(rows, columns, dense[rows, columns], 6, smoothing=0.75, shift=1.5)
    got[i, j] = values
    share = dense.sum(0) ** 0.75 / np.sum(dense.sum(0) ** 0.75)
    with np.errstate(divide="ignore"):
        wanted = np.log(dense / dense.sum() / (dense.sum(1, keepdims=True) / dense.sum() * share)) - np.log(
            1.5
        )
    np.testing.assert_allclose(got, np.maximum(wanted, 0), atol=1e-12)


def test_other_weights_and_shapes_are_refused():
    with pytest.raises(ValueError, match="weights='x': choose one of"):
        data.cooccurrence({"words": ["a"], "ids": np.array([0, -1])}, weights="x")
    with pytest.raises(ValueError, match="counts: shape"):
        data.positive_pmi([0], [0], [1.0, 2.0], 1)
