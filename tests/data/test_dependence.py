"""Mutual information of features: closed forms, scikit-learn, bags, and its bias."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from jaxembed.data import mutual_information

RNG = np.random.default_rng(0)
N = 2000
A, B = RNG.integers(6, size=N), RNG.integers(5, size=N)
C = (2 * A + RNG.integers(3, size=N)) % 7


def slow(x, masks_x, y, masks_y):
    """Value by value: of a bag of n values each counts 1/n, an empty bag is one value."""
    joint = {}
    for values, kept, others, kept_others in zip(x, masks_x, y, masks_y, strict=True):
        first = [v for v, m in zip(values, kept, strict=True) if m] or ["nothing"]
        second = [v for v, m in zip(others, kept_others, strict=True) if m] or ["nothing"]
        for pair in itertools.product(first, second):
            joint[pair] = joint.get(pair, 0) + 1 / len(first) / len(second) / len(x)
    left, right = {}, {}
    for (v, w), p in joint.items():
        left[v], right[w] = left.get(v, 0) + p, right.get(w, 0) + p
    return sum(p * math.log(p / left[v] / right[w]) for (v, w), p in joint.items())


def test_it_is_that_of_scikit_learn_and_symmetric():
    found = mutual_information({"a": A, "b": B, "c": C})
    np.testing.assert_allclose(found[0, 2], mutual_info_score(A, C), rtol=1e-9)
    np.testing.assert_array_equal(found, found.T)


def test_independent_columns_share_only_the_bias():
    found = mutual_information({"a": A, "b": B})[0, 1]
    assert 0 <= found < 3 * 5 * 4 / (2 * N)


@pytest.mark.parametrize("kind", ["plain", "normalised"])
def test_a_copy_shares_its_entropy_and_a_constant_nothing(kind):
    found = mutual_information({"a": A, "copy": 3 - A % 6, "one": np.ones(N, int)}, kind=kind)
    share = np.bincount(A) / N
    entropy = -np.sum(share * np.log(share)) if kind == "plain" else 1.0
    np.testing.assert_allclose(found[:2, :2], entropy, rtol=1e-9)
    np.testing.assert_array_equal(found[2], 0)  # 0 of 0 is 0


def test_bags_count_each_value_by_its_share():
    tags, mask = RNG.integers(4, size=(50, 3)), RNG.random((50, 3)) < 0.6
    year = tags[:, 0] % 3
    found = mutual_information({"tags": tags, "year": year}, {"tags": mask})
    expected = slow(tags, mask, year[:, None], np.ones((50, 1), bool))
    np.testing.assert_allclose(found[0, 1], expected, rtol=1e-9)
    other = mutual_information({"tags": tags, "two": tags[:, ::-1]}, {"tags": mask, "two": mask[:, ::-1]})
    np.testing.assert_allclose(other[0, 1], slow(tags, mask, tags[:, ::-1], mask[:, ::-1]), rtol=1e-9)


def test_an_id_tells_everything_unless_chance_is_taken_off():
    ids = {"c": C, "id": np.arange(N), "a": A}
    plain = mutual_information(ids)
    np.testing.assert_allclose(plain[2, :2], np.diag(plain)[:2], rtol=1e-9)
    adjusted = mutual_information(ids, kind="adjusted")
    np.testing.assert_allclose(adjusted[2], 0, atol=1e-9)
    np.testing.assert_allclose(adjusted[0, 1], plain[0, 1], atol=0.02)


def test_weights_are_rows_that_come_so_often():
    times = RNG.integers(4, size=N)
    found = mutual_information({"a": A, "c": C}, weights=times)
    repeated = mutual_information({"a": np.repeat(A, times), "c": np.repeat(C, times)})
    np.testing.assert_allclose(found, repeated, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mutual_information({}), "no features"),
        (lambda: mutual_information({"a": A, "b": B[:5]}), "columns of"),
        (lambda: mutual_information({"a": A}, kind="raw"), "kind='raw'"),
        (lambda: mutual_information({"a": A * 0.5}), "'a' is float64"),
        (lambda: mutual_information({"a": A}, {"a": np.ones(3, bool)}), "masks: 'a'"),
        (lambda: mutual_information({"a": A}, weights=-np.ones(N)), "weights"),
        (lambda: mutual_information({"a": A}, weights=np.zeros(N)), "some above 0"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
