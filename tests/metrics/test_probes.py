"""Where partners rank and what neighbours tell: slow loops, known cases, ties, NaN, bad arguments."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import metrics, search

RNG = np.random.default_rng(0)


def rank_of(i, queries, documents):
    """Counts what is at least as near as document i, by hand."""
    cosines = [queries[i] @ d / np.linalg.norm(queries[i]) / np.linalg.norm(d) for d in documents]
    return sum(not c < cosines[i] for c in cosines)


@pytest.mark.parametrize("more", [0, 9])
def test_partner_ranks_equal_a_loop(more):
    queries = RNG.normal(size=(12, 5))
    noise = RNG.normal(size=(12, 5))
    documents = np.concatenate([queries + noise, RNG.normal(size=(more, 5))]) * RNG.uniform(
        0.1, 9, (12 + more, 1)
    )
    found = metrics.partner_ranks(queries, documents)
    assert found.tolist() == [rank_of(i, queries, documents) for i in range(12)]
    assert len(set(found)) > 2  # some are found at once, some are not
    np.testing.assert_array_equal(metrics.partner_ranks(jnp.asarray(queries), documents.tolist()), found)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_means_over_ranks_are_mrr_and_recall_of_the_ranking(k):
    queries, documents = RNG.normal(size=(2, 30, 4)).astype(np.float32)
    documents = queries + documents
    ranks = metrics.partner_ranks(queries, documents)
    unit = documents / np.linalg.norm(documents, axis=1, keepdims=True)
    ids, own = search.top_k(queries, unit, k)[1], np.arange(30)[:, None]
    gains, judged = metrics.gains(ids, own, np.ones_like(own)), np.ones_like(own)
    assert np.mean((ranks <= k) / ranks) == pytest.approx(float(metrics.mrr(gains, judged, k=k).mean()))
    assert np.mean(ranks <= k) == pytest.approx(float(metrics.recall(gains, judged, k=k).mean()))


def test_ties_count_against_the_own_document():
    same = np.ones((3, 2))
    assert metrics.partner_ranks(same, same).tolist() == [3, 3, 3]  # vectors that all coincide find nothing
    twice = np.array([[1.0, 0], [0, 1], [1, 0]])
    assert metrics.partner_ranks(twice[:2], twice).tolist() == [2, 1]
    assert metrics.partner_ranks(np.zeros((2, 2)), np.eye(2)).tolist() == [2, 2]


def test_whole_numbers_are_vectors_too():
    assert metrics.partner_ranks([[1, 2], [2, 1]], [[2, 4], [4, 2]]).tolist() == [1, 1]


def test_what_is_not_a_number_is_never_found():
    queries, documents = np.eye(3), np.eye(3)
    queries[0, 1] = np.nan
    assert metrics.partner_ranks(queries, documents).tolist() == [3, 1, 1]
    documents[2, 0] = np.nan  # nearer than others, and not found itself
    assert metrics.partner_ranks(np.eye(3), documents).tolist() == [2, 2, 3]


def accuracy_of(known, labels, asked, truth, k):
    """Counts votes by hand; equal votes go to the label that sorts first."""
    right = 0
    for x, wanted in zip(asked, truth, strict=True):
        nearest = sorted(range(len(known)), key=lambda i: (-(known[i] @ x), i))[:k]
        votes = [labels[i] for i in nearest]
        right += max(sorted(set(votes)), key=votes.count) == wanted
    return right / len(asked)


@pytest.mark.parametrize("k", [1, 2, 7, 40])
@pytest.mark.parametrize("names", [["a", "b", "c"], [4, 0, -2]])
def test_accuracy_of_neighbours_equals_a_loop(names, k):
    known, asked = RNG.normal(size=(40, 3)), RNG.normal(size=(25, 3))
    labels, truth = RNG.choice(names, 40), RNG.choice(names, 25)
    found = metrics.nearest_accuracy(known, labels, asked, truth, k=k)
    assert found == pytest.approx(accuracy_of(known, labels, asked, truth, k))


def test_two_groups_are_told_apart():
    known = np.repeat([[1.0, 0], [0, 1]], 10, axis=0)
    labels = np.repeat(["a", "b"], 10)
    asked = np.array([[1, 0.1], [0.1, 1], [1, 0]])
    found = metrics.nearest_accuracy(known, labels, asked, np.array(["a", "b", "b"]))
    assert found == pytest.approx(2 / 3)


def test_a_label_that_no_known_vector_has_is_wrong():
    assert metrics.nearest_accuracy(np.eye(2), ["a", "b"], np.eye(2), ["a", "c"], k=1) == 0.5


def test_equal_votes_go_to_the_label_that_sorts_first():
    for labels in (["b", "a"], ["a", "b"]):
        assert metrics.nearest_accuracy(np.eye(2), labels, [[1.0, 0.9]], ["a"], k=2) == 1


def test_broken_vectors_are_never_right_and_no_neighbours():
    broken = np.array([[np.nan, 0.0], [0.0, 1.0]])
    assert metrics.nearest_accuracy(np.eye(2), ["a", "a"], broken, ["a", "a"], k=1) == 0.5
    known = np.array([[np.nan, 1.0], [0.1, 0.0], [0.0, 0.1]])
    assert metrics.nearest_accuracy(known, ["a", "b", "b"], [[1.0, 1.0]], ["b"], k=2) == 1


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.partner_ranks(np.eye(3), np.eye(3)[:2]), "documents: 2 rows answer 3 queries"),
        (lambda: metrics.partner_ranks(np.eye(3), np.ones((3, 2))), r"documents: shape \(3, 2\); pass \[any"),
        (lambda: metrics.partner_ranks(np.ones(3), np.eye(3)), r"queries: shape \(3,\); pass \[any, any\]"),
        (
            lambda: metrics.nearest_accuracy(np.eye(3), ["a"] * 2, np.eye(3), ["a"] * 3),
            r"labels: shape \(2,\); pass \[3\]",
        ),
        (
            lambda: metrics.nearest_accuracy(np.eye(3), ["a"] * 3, np.eye(3), ["a"] * 4),
            r"truth: shape \(4,\); pass \[3\]",
        ),
        (
            lambda: metrics.nearest_accuracy(np.eye(3), ["a"] * 3, np.ones((1, 2)), ["a"]),
            r"asked: shape \(1, 2\); pass \[any, 3\]",
        ),
        (
            lambda: metrics.nearest_accuracy(np.eye(3), ["a"] * 3, np.eye(3), ["a"] * 3),
            "k: 10 is outside 1..3",
        ),
        (
            lambda: metrics.nearest_accuracy(np.eye(2), ["1", "2"], np.eye(2), [1, 2], k=1),
            "truth: int64 with labels of <U1; pass labels of one kind",
        ),
        (lambda: metrics.nearest_accuracy(np.eye(2), [1, 2], np.zeros((0, 2)), [], k=1), "asked: no vectors"),
    ],
)
def test_bad_arguments_get_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(3))
def test_r_precision_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    vectors, labels = rng.normal(size=(25, 4)), rng.integers(0, 6, 25)
    labels[0] = 9  # alone
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    shares = []
    for i in range(25):
        others = [j for j in range(25) if j != i]
        ranked = sorted(others, key=lambda j: -(unit[i] @ unit[j]))
        count = sum(labels[j] == labels[i] for j in others)
        if count:
            shares.append(np.mean([labels[j] == labels[i] for j in ranked[:count]]))
    assert metrics.r_precision(vectors, labels) == pytest.approx(np.mean(shares))
    assert metrics.r_precision(jnp.asarray(7 * vectors), [f"label {x}" for x in labels]) == pytest.approx(
        np.mean(shares)
    )


def test_r_precision_of_known_cases():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert metrics.r_precision(vectors, [0, 0, 1, 1]) == 1
    assert metrics.r_precision(vectors, [0, 1, 0, 1]) == 0
    equal = np.ones((4, 2))  # of equal cosines the lower row comes first
    assert metrics.r_precision(equal, [0, 0, 1, 1]) == 0.5
    lost = np.array([[1.0, 0.0], [1.0, 0.1], [np.nan, 0.0], [0.0, 1.0]])
    assert metrics.r_precision(lost, [0, 0, 0, 0]) == pytest.approx(np.mean([2 / 3, 2 / 3, 0, 2 / 3]))
    for labels, match in [([1, 2, 3, 4], "labels: none occurs twice"), ([1, 1], r"labels: shape \(2,\)")]:
        with pytest.raises(ValueError, match=match):
            metrics.r_precision(vectors, labels)


# Recall among the other vectors


def recall_of(x, labels, k):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    hits = []
    for i, row in enumerate(x):
        others = sorted((j for j in range(len(x)) if j != i), key=lambda j: (-float(x[j] @ row), j))
        if list(labels).count(labels[i]) > 1:
            hits.append(any(labels[j] == labels[i] for j in others[:k]))
    return np.mean(hits)


@pytest.mark.parametrize("k", [1, 3, 29])
def test_neighbour_recall_equals_a_loop(k):
    x, labels = RNG.normal(size=(30, 4)), [*RNG.choice(list("abcdef"), 29), "once"]
    found = metrics.neighbour_recall(x, labels, k=k)
    assert found == pytest.approx(recall_of(x, labels, k))
    assert metrics.neighbour_recall(x * RNG.uniform(0.1, 9, (30, 1)), labels, k=k) == found


def test_many_duplicates_are_neighbours_and_never_the_row_itself():
    x = np.ones((6, 2))
    assert metrics.neighbour_recall(x, [0, 1, 1, 1, 1, 1], k=2) == 1
    assert metrics.neighbour_recall(x[:3], [0, 1, 1], k=1) == 0  # rows 1 and 2 find row 0
    assert metrics.neighbour_recall(np.eye(4), [0, 0, 1, 1], k=1) == 0.5


def test_a_broken_row_is_never_right_and_not_found():
    x = np.array([[1.0, 0], [np.nan, 0], [1, 0.1], [1, 0.2]])
    assert metrics.neighbour_recall(x, [0, 0, 1, 1]) == 0.5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.neighbour_recall(np.eye(3), [0, 1]), r"labels: shape \(2,\); pass \[3\]"),
        (lambda: metrics.neighbour_recall(np.eye(3), [0, 0, 1], k=3), "k: 3 is outside 1..2, the number of"),
        (lambda: metrics.neighbour_recall(np.eye(3), [0, 1, 2]), "labels: none comes twice, so no neighbour"),
    ],
)
def test_bad_arguments_of_recall_get_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_linear_probe_is_the_regression_on_standardised_vectors():
    rng = np.random.default_rng(0)
    labels, truth = np.arange(60) % 3, np.arange(40) % 3
    known, asked = (rng.normal(size=(n, 4)) for n in (60, 40))
    known[:, :3] += 2 * np.eye(3)[labels]
    asked[:, :3] += 2 * np.eye(3)[truth]
    names = np.array(["x", "y", "z"])
    found = metrics.linear_probe(known, names[labels], asked, names[truth])
    assert found > 0.8
    moved = known * [1, 100, 1, 1e-3] + [5, 0, 0, 1], asked * [1, 100, 1, 1e-3] + [5, 0, 0, 1]
    assert metrics.linear_probe(moved[0], labels, moved[1], truth) == pytest.approx(found)
    constant = np.c_[known, np.full(60, 7.0)], np.c_[asked, np.full(40, 9.0)]
    assert metrics.linear_probe(constant[0], labels, constant[1], truth) == pytest.approx(found)
    mean, deviation = known.mean(0), known.std(0)
    given = (known - mean) / deviation, labels, (asked - mean) / deviation, truth
    assert metrics.linear_probe(*given, standardise=False) == found
    with pytest.raises(ValueError, match=r"asked: shape \(40, 3\); pass \[any, 4\]"):
        metrics.linear_probe(known, labels, asked[:, :3], truth)
    with pytest.raises(ValueError, match="asked: no vectors; pass at least one"):
        metrics.linear_probe(known, labels, asked[:0], truth[:0])
