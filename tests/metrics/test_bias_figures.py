"""Bias in the 26,423 GoogleNews vectors: figures that others found with the same files."""

import numpy as np
import pytest

from jaxembed import arrays, data, metrics, vectors


@pytest.fixture(scope="module")
def news():
    try:
        table, lists = data.news_vectors(), data.gender_words()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    rows = {word: i for i, word in enumerate(table["words"])}
    unit = np.asarray(arrays.unit(table["vectors"]))
    pairs = np.array([[rows[a], rows[b]] for a, b in lists["pairs"]])
    return rows, unit, lists, np.asarray(vectors.bias_subspace(unit[pairs])[0]), pairs


def test_the_direction_of_gender_is_that_of_the_paper(news):
    rows, unit, _, basis, pairs = news
    explained = vectors.bias_subspace(unit[pairs], size=4)[1]
    np.testing.assert_allclose(explained, [0.6053, 0.1273, 0.0993, 0.0483], atol=1e-4)
    apart = unit[rows["she"]] - unit[rows["he"]]
    assert basis[0] @ apart / np.linalg.norm(apart) == pytest.approx(0.9450, abs=1e-4)


def test_direct_and_indirect_bias_are_those_of_other_programs(news):
    rows, unit, lists, basis, _ = news
    jobs = [rows[word] for word in lists["professions"]]
    assert metrics.direct_bias(unit[jobs], basis) == pytest.approx(0.0805, abs=1e-4)
    neutral = [rows[word] for word in lists["professions"] if word not in lists["specific"]]
    assert len(neutral) == 303 and metrics.direct_bias(unit[neutral], basis) == pytest.approx(
        0.0731, abs=1e-4
    )
    told = {
        "softball": {
            "receptionist": 0.6723,
            "bookkeeper": 0.2012,
            "registered_nurse": 0.2872,
            "homemaker": 0.3837,
        },
        "football": {"maestro": 0.4158, "businessman": 0.1701},
    }
    told["softball"]["pitcher"] = -0.0054
    for first, expected in told.items():
        some = unit[[rows[word] for word in expected]]
        found = metrics.indirect_bias(np.broadcast_to(unit[rows[first]], some.shape), some, basis)
        np.testing.assert_allclose(found, list(expected.values()), atol=2e-4)


@pytest.mark.slow
def test_the_strongest_analogies_are_those_of_the_paper(news):
    rows, unit, _, _, _ = news
    words = list(rows)
    firsts, seconds, scores = metrics.analogy_pairs(unit, unit[rows["she"]] - unit[rows["he"]], most=6)
    found = [(words[a], words[b]) for a, b in zip(firsts, seconds, strict=True)]
    assert found[:4] == [("she", "he"), ("herself", "himself"), ("her", "his"), ("woman", "man")]
    assert found[4:] == [("daughter", "son"), ("businesswoman", "businessman")]
    np.testing.assert_allclose(scores, [1.0, 0.9213, 0.9078, 0.7531, 0.6748, 0.6598], atol=1e-3)


def test_peoples_ratings_of_professions_go_with_the_direction(news):
    rows, unit, lists, _, _ = news
    apart = unit[rows["she"]] - unit[rows["he"]]
    shown = unit[[rows[word] for word in lists["professions"]]] @ apart
    rated = np.array([stereotype for _, stereotype in lists["professions"].values()])
    assert metrics.pearson(shown, rated) == pytest.approx(-0.592, abs=2e-3)
    assert metrics.spearman(shown, rated) == pytest.approx(-0.518, abs=2e-3)


@pytest.mark.slow
def test_soft_debiasing_by_sums_and_by_means(news):
    rows, unit, lists, basis, _ = news
    neutral = ~np.isin(list(rows), lists["specific"])
    for weight, left in ((10, 0.8987), (1e3, 0.0822), (1e6, 9.0e-5)):
        found = vectors.soft_debias(unit, basis, neutral=neutral, weight=weight, reduction="sum")
        assert np.sum((found.kernel @ basis[0]) ** 2) == pytest.approx(left, rel=0.02)
    kernel = vectors.soft_debias(unit, basis, neutral=neutral).kernel
    values = np.linalg.eigvalsh(kernel) ** 2
    np.testing.assert_allclose([values[0], values[-1]], [0.0165, 1.3999], rtol=0.02)
    jobs = [rows[word] for word in lists["professions"] if word not in lists["specific"]]
    assert metrics.direct_bias(unit[jobs] @ kernel, basis) < 0.0731 / 5
