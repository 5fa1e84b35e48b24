"""Intruders among top words and probes beside a control task: loops, planted answers, bad input."""

import numpy as np
import pytest

from jaxembed import metrics

RNG = np.random.default_rng(0)


def planted(words=60, kinds=6):
    """Coordinates of which each is large for words of one kind alone."""
    kind = np.arange(words) % kinds
    return np.eye(kinds)[kind] * RNG.uniform(1, 2, (words, 1)) + 0.05 * RNG.random((words, kinds))


def test_intruders_stand_apart_in_coordinates_of_one_meaning():
    x = planted()
    turn = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    own, turned = metrics.intrusion(x, k=5), metrics.intrusion(x @ turn, k=5)
    assert own.shape == (6,) and own.min() > 2 and np.nanmean(turned) < own.mean()
    np.testing.assert_allclose(metrics.intrusion(7 * x, k=5), own, rtol=1e-9)
    np.testing.assert_allclose(metrics.intrusion(x, x @ turn, k=5), own, rtol=1e-9)  # distances alone count


def test_the_ratio_is_that_of_the_only_possible_intruder():
    x = np.array([[5.0, 0.0], [4.0, 0.1], [3.0, 0.2], [0.0, 9.0], [0.2, 0.3], [0.1, 0.4]])
    top = x[:3]
    apart = np.mean([np.linalg.norm(row - x[3]) for row in top])
    within = np.mean([np.linalg.norm(top[i] - top[j]) for i in range(3) for j in range(3) if i != j])
    assert metrics.intrusion(x, k=3)[0] == pytest.approx(apart / within)  # a tenth of six words is one


def test_coordinates_without_a_ratio_are_nan():
    assert np.isnan(metrics.intrusion(RNG.normal(size=(30, 1)))).all()  # nothing is large elsewhere
    same = np.zeros((30, 2))
    same[:5, 0], same[-3:, 1] = 1, [1, 2, 3]
    assert np.isnan(metrics.intrusion(same, k=5)[0])  # five equal top words


@pytest.mark.parametrize(
    "x, k, said",
    [
        (np.ones((4, 2)), 4, "k=4: is outside 2..3"),
        (np.full((4, 2), np.nan), 2, "hold NaN"),
        (np.ones(4), 2, "coordinates"),
    ],
)
def test_intruders_of_another_form_are_refused(x, k, said):
    with pytest.raises(ValueError, match=said):
        metrics.intrusion(x, k=k)


def test_a_probe_is_selective_where_vectors_hold_the_label_and_not_where_they_name_the_item():
    items = RNG.integers(0, 12, 400)
    labels = RNG.integers(0, 2, 400)
    told = np.concatenate([np.eye(2)[labels], RNG.normal(size=(400, 4))], axis=1)
    named = np.eye(12)[items]
    half = slice(0, 300), slice(300, 400)
    given = {"items": items[half[0]], "asked_items": items[half[1]]}
    found = {
        n: metrics.probe_selectivity(x[half[0]], labels[half[0]], x[half[1]], labels[half[1]], **given)
        for n, x in (("told", told), ("named", named))
    }
    assert found["told"]["accuracy"] == 1 and found["told"]["selectivity"] > 0.2
    assert found["named"]["control"] == 1 and found["named"]["selectivity"] < -0.2
    for row in found.values():
        assert row["selectivity"] == pytest.approx(row["accuracy"] - row["control"])


def test_probes_of_another_form_are_refused():
    with pytest.raises(ValueError, match="items"):
        metrics.probe_selectivity(
            np.ones((3, 2)), [0, 1, 0], np.ones((1, 2)), [0], items=[1], asked_items=[1]
        )
