"""Verification: definitions by loops, limits, the protocol in folds, clusters of scikit-learn, bad input."""

import numpy as np
import pytest
from refusals import refused

from jaxembed import metrics

RNG = np.random.default_rng(0)


def pairs(count=400, gap=0.6, seed=0):
    """Distances of which same ones are smaller on average, with ties."""
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.5
    return np.round(rng.normal(1 - gap * same, 0.4), 2), same


def test_all_pairs_are_the_squared_distances_of_unit_vectors():
    x, labels = RNG.normal(size=(7, 3)) * 5, np.array(list("abcabca"))
    distances, same = metrics.all_pairs(x, labels)
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    wanted = [(np.sum((u[i] - u[j]) ** 2), labels[i] == labels[j]) for i in range(7) for j in range(i + 1, 7)]
    np.testing.assert_allclose(distances, [d for d, _ in wanted], atol=1e-5)
    assert same.tolist() == [s for _, s in wanted]


def test_turning_all_vectors_changes_no_metric():
    x, labels = RNG.normal(size=(40, 5)), RNG.integers(0, 4, 40)
    turned = x @ np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    one, other = (
        [*metrics.all_pairs(v, labels), metrics.agglomerative_scores(v, labels)] for v in (x, turned)
    )
    np.testing.assert_allclose(one[0], other[0], atol=1e-5)
    np.testing.assert_array_equal(one[1], other[1])
    assert one[2] == other[2] and one[2]["clusters"] == 4
    assert metrics.neighbour_recall(x, labels) == metrics.neighbour_recall(turned, labels)


@pytest.mark.parametrize("far", [0.005, 0.01, 0.1, 0.37, 1.0])
def test_val_at_far_is_the_best_of_all_thresholds(far):
    distances, same = pairs()
    val, threshold = metrics.val_at_far(distances, same, far=far)
    allowed = [
        np.mean(distances[same] < t)
        for t in (*distances, np.inf)
        if np.mean(distances[~same] < t) <= far + 1e-12
    ]
    assert val == max(allowed) == np.mean(distances[same] < threshold)
    assert np.mean(distances[~same] < threshold) <= far


def test_val_grows_with_far():
    distances, same = pairs()
    found = [metrics.val_at_far(distances, same, far=far)[0] for far in np.linspace(0.01, 1, 50)]
    assert found == sorted(found) and found[0] < found[-1] == 1


def test_separated_pairs_are_all_right():
    distances, same = pairs(gap=0)
    distances = np.where(same, 0.1, 0.9) + 0.01 * distances
    assert metrics.val_at_far(distances, same, far=0.01)[0] == 1
    found = metrics.kfold_verification(distances, same, far=0.01)
    assert found["accuracy"] == found["val"] == 1 and found["sem"] == found["val_sem"] == 0


@pytest.mark.parametrize("far", [0.02, 0.1, 0.5])
def test_where_distances_tell_nothing_val_is_far_and_accuracy_a_half(far):
    distances, same = RNG.random(40_000), RNG.random(40_000) < 0.5
    assert metrics.val_at_far(distances, same, far=far)[0] == pytest.approx(far, abs=0.01)
    found = metrics.kfold_verification(distances, same, far=far)
    assert found["val"] == pytest.approx(far, abs=0.01) and found["far"] == pytest.approx(far, abs=0.01)
    assert found["accuracy"] == pytest.approx(0.5, abs=0.01)


def folds_by_hand(distances, same, folds, grid):
    """Every threshold is tried on all folds but one; the lowest of the best is used on that one."""
    parts, found, chosen = np.array_split(np.arange(len(same)), folds), [], []
    for held in parts:
        rest = [i for i in range(len(same)) if i not in set(held)]
        right = [sum((distances[i] < t) == same[i] for i in rest) for t in grid]
        chosen.append(grid[right.index(max(right))])
        found.append(np.mean([(distances[i] < chosen[-1]) == same[i] for i in held]))
    return np.mean(found), np.std(found, ddof=1) / folds**0.5, chosen


@pytest.mark.parametrize("folds", [2, 10])
def test_folds_equal_a_loop(folds):
    distances, same = pairs(120)
    grid = np.arange(0, 4, 0.01)
    accuracy, sem, chosen = folds_by_hand(distances, same, folds, grid)
    found = metrics.kfold_verification(distances, same, folds=folds, far=0.1, thresholds=grid)
    assert (found["accuracy"], found["sem"]) == pytest.approx((accuracy, sem))
    np.testing.assert_allclose(found["thresholds"], chosen)
    every = np.unique(distances)
    exact = [every[0], *(every[1:] + every[:-1]) / 2, np.inf]
    accuracy, sem, chosen = folds_by_hand(distances, same, folds, exact)
    found = metrics.kfold_verification(distances, same, folds=folds, far=0.1)
    assert (found["accuracy"], found["sem"]) == pytest.approx((accuracy, sem))
    # On all folds but one a distance may be missing: the middle between its neighbours moves.
    np.testing.assert_allclose(found["thresholds"], chosen, atol=0.02)


def test_val_of_folds_is_measured_on_the_held_out_fold():
    distances, same = pairs(200)
    found = metrics.kfold_verification(distances, same, folds=4, far=0.1)
    val, far = [], []
    for held in np.array_split(np.arange(200), 4):
        rest = np.setdiff1d(np.arange(200), held)
        _, t = metrics.val_at_far(distances[rest], same[rest], far=0.1)
        accepted = distances[held] < t
        val.append(accepted[same[held]].mean())
        far.append(accepted[~same[held]].mean())
    assert found["val"] == pytest.approx(np.mean(val)) and found["far"] == pytest.approx(np.mean(far))
    assert found["val_sem"] == pytest.approx(np.std(val, ddof=1) / 2)


# Clusters


def blobs(noise):
    labels = np.repeat(["x", "y", "z"], 8)
    centres = np.eye(5)[np.repeat([0, 1, 2], 8)]
    return centres + noise * np.random.default_rng(1).normal(size=(24, 5)), labels


def test_clusters_of_separated_vectors_are_the_labels_whatever_their_length():
    x, labels = blobs(0.05)
    for options in ({}, {"threshold": 1.0}, {"clusters": 3, "linkage": "complete"}):
        found = metrics.agglomerative_scores(x * np.arange(1, 25)[:, None], labels, **options)
        assert found == {"clusters": 3, "v_measure": 1.0, "adjusted_rand": 1.0}
    assert metrics.agglomerative_scores(x, labels, threshold=5.0)["clusters"] == 1
    assert metrics.agglomerative_scores(x, labels, threshold=1e-9)["clusters"] == 24


def test_average_linkage_equals_the_definition():
    """Joins the two groups of least mean distance until three are left."""
    x, labels = blobs(0.8)
    distances = np.zeros((24, 24))
    distances[np.triu_indices(24, 1)] = metrics.all_pairs(x, labels)[0]
    distances += distances.T
    groups = [[i] for i in range(24)]
    while len(groups) > 3:
        means = {
            (i, j): distances[np.ix_(groups[i], groups[j])].mean()
            for j in range(len(groups))
            for i in range(j)
        }
        i, j = min(means, key=means.get)
        groups[i] += groups.pop(j)
    from sklearn.metrics import adjusted_rand_score

    told = np.zeros(24)
    for number, group in enumerate(groups):
        told[group] = number
    found = metrics.agglomerative_scores(x, labels, clusters=3)
    assert (
        found["adjusted_rand"] == pytest.approx(adjusted_rand_score(labels, told)) and found["clusters"] == 3
    )
    assert found["adjusted_rand"] < 1


# Bad input


YES = [True, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.val_at_far([0.1, 0.2], [1, 0], far=0.5), "same: is int64; pass bool"),
        (lambda: metrics.val_at_far([0.1], YES), r"same: shape \(2,\); pass \[1\]"),
        (lambda: metrics.val_at_far([0.1, np.nan], YES), "distances: hold NaN; leave out"),
        (lambda: metrics.val_at_far([0.1, 0.2], [True, True]), "same: no pair is different; pass pairs of"),
        (lambda: metrics.val_at_far([0.1, 0.2], [False, False]), "same: no pair is same; pass pairs of both"),
        (
            lambda: metrics.val_at_far([0.1, 0.2], YES),
            "far: 0.001 of 1 different pairs is less than one; pass",
        ),
        (lambda: metrics.val_at_far([0.1, 0.2], YES, far=2), "far: 2 is outside 0..1; pass a share"),
        (
            lambda: metrics.kfold_verification([0.1, 0.2], YES),
            "folds: 10 is outside 2..2, the number of pairs;",
        ),
        (
            lambda: metrics.kfold_verification([0.1, 0.2, 0.3, 0.4], [True] * 2 + [False] * 2, folds=2),
            "same: fold 0 holds pairs of one kind only; mix the pairs first",
        ),
        (lambda: metrics.all_pairs(np.ones((1, 2)), [0]), "vectors: 1 of them make no pair; pass at least 2"),
        (lambda: metrics.all_pairs(np.ones((3, 2)), [0]), r"labels: shape \(1,\); pass \[3\]"),
        (
            lambda: metrics.agglomerative_scores(np.eye(2), [0, 1], clusters=1, threshold=1.0),
            "threshold: has no meaning with clusters; leave",
        ),
        (
            lambda: metrics.agglomerative_scores([[np.nan, 1.0], [1.0, 0.0]], [0, 1]),
            "vectors: hold NaN or infinite numbers; leave",
        ),
    ],
)
def test_bad_input_gets_one_line(call, message):
    refused(message, call)
