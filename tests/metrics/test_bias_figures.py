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
