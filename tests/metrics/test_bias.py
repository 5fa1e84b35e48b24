"""Biases and associations of words: loops over definitions, bounds, symmetries, bad input."""

import itertools

import jax
import numpy as np
import pytest
from refusals import refused

from jaxembed import metrics, vectors

RNG = np.random.default_rng(0)
WORDS = RNG.normal(size=(30, 5))
BASIS = np.linalg.qr(RNG.normal(size=(5, 2)))[0].T


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_direct_bias_is_the_mean_of_absolute_cosines():
    for strictness in (1.0, 0.5):
        expected = np.mean([abs(cosine(w, BASIS[0])) ** strictness for w in WORDS])
        found = jax.jit(lambda x, c=strictness: metrics.direct_bias(x, BASIS[:1], strictness=c))(WORDS)
        assert found == pytest.approx(expected, rel=1e-5)
    plane = np.mean([np.linalg.norm(BASIS @ w) / np.linalg.norm(w) for w in WORDS])
    assert metrics.direct_bias(WORDS, BASIS) == pytest.approx(plane, rel=1e-5)
    assert metrics.direct_bias(vectors.project_out(WORDS, BASIS), BASIS) < 1e-6


def test_direct_bias_of_nan_is_refused_and_under_jit_it_is_nan():
    x, basis = np.full((2, 3), np.nan), np.eye(3)[:1]
    for given in ((x, basis), (np.ones((2, 3)), basis * np.nan)):
        with pytest.raises(ValueError, match="(vectors|basis): .*NaN"):
            metrics.direct_bias(*given)
        assert np.isnan(jax.jit(metrics.direct_bias)(*given))


def test_indirect_bias_is_zero_with_itself_and_off_the_subspace():
    g = BASIS[:1]
    found = metrics.indirect_bias(WORDS[:10], WORDS[10:20], g)
    for w, v, told in zip(WORDS[:10], WORDS[10:20], found, strict=True):
        w, v = w / np.linalg.norm(w), v / np.linalg.norm(v)
        left = [x - (x @ g[0]) * g[0] for x in (w, v)]
        assert told == pytest.approx((w @ v - cosine(*left)) / (w @ v), rel=1e-3)
    np.testing.assert_allclose(metrics.indirect_bias(WORDS, WORDS, g), np.zeros(30), atol=1e-5)
    off = vectors.project_out(WORDS, g)
    np.testing.assert_allclose(metrics.indirect_bias(off[:10], off[10:20], g), np.zeros(10), atol=1e-4)


def test_pair_bias_is_the_mean_over_words_and_pairs():
    pairs = WORDS[:6].reshape(3, 2, 5)
    expected = np.mean([abs(cosine(w, a) - cosine(w, b)) for w in WORDS for a, b in pairs])
    assert metrics.pair_bias(WORDS, pairs) == pytest.approx(expected, rel=1e-5)


def sets(n=5, m=4):
    return RNG.normal(size=(n, 6)), RNG.normal(size=(n, 6)), RNG.normal(size=(m, 6)), RNG.normal(size=(m, 6))


def test_weat_equals_its_definition_with_every_split():
    x, y, a, b = sets()
    lean = [np.mean([cosine(w, v) for v in a]) - np.mean([cosine(w, v) for v in b]) for w in (*x, *y)]
    found = metrics.weat(x, y, attributes=a, others=b)
    effect = (np.mean(lean[:5]) - np.mean(lean[5:])) / np.std(lean, ddof=1)
    assert found["effect"] == pytest.approx(effect, rel=1e-5)
    own = sum(lean[:5]) - sum(lean[5:])
    splits = list(itertools.combinations(range(10), 5))
    larger = [2 * sum(lean[i] for i in s) - sum(lean) > own + 1e-9 for s in splits]
    assert found["splits"] == 252 and found["p"] == pytest.approx(np.mean(larger))
    drawn = metrics.weat(x, y, attributes=a, others=b, permutations=200)
    assert drawn["splits"] == 200 and drawn["p"] == pytest.approx(found["p"], abs=0.12)


def test_weat_turns_its_sign_with_either_pair_of_sets_and_is_bounded():
    x, y, a, b = sets()
    found = metrics.weat(x, y, attributes=a, others=b)["effect"]
    assert metrics.weat(y, x, attributes=a, others=b)["effect"] == pytest.approx(-found)
    assert metrics.weat(x, y, attributes=b, others=a)["effect"] == pytest.approx(-found)
    strong = metrics.weat(np.eye(6)[:1].repeat(5, 0), -np.eye(6)[:1].repeat(5, 0), attributes=a, others=b)
    assert abs(strong["effect"]) <= 2
    same = metrics.weat(x[:1], x[:1], attributes=a, others=b)
    assert same["effect"] == 0 and same["p"] == 0


def pairs_by_hand(table, direction, delta, least):
    """All pairs by score, then each word once on a side."""
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    scored = []
    for i, j in itertools.permutations(range(len(table)), 2):
        apart = unit[i] - unit[j]
        if np.linalg.norm(apart) <= delta and cosine(apart, direction) >= least:
            scored.append((-cosine(apart, direction), i, j))
    kept, left, right = [], set(), set()
    for score, i, j in sorted(scored):
        if i not in left and j not in right:
            kept.append((i, j, -score))
            left.add(i)
            right.add(j)
    return kept


def test_generated_analogies_equal_a_search_over_all_pairs():
    direction = RNG.normal(size=5)
    expected = pairs_by_hand(WORDS, direction, 1.2, 1e-3)
    firsts, seconds, scores = metrics.analogy_pairs(WORDS, direction, delta=1.2, block=7)
    assert list(zip(firsts, seconds, strict=True)) == [(i, j) for i, j, _ in expected] and len(expected) > 5
    np.testing.assert_allclose(scores, [s for _, _, s in expected], atol=1e-4)
    assert len(metrics.analogy_pairs(WORDS, direction, delta=1.2, most=3)[0]) == 3
    assert all(len(x) == 0 for x in metrics.analogy_pairs(WORDS, direction, delta=1e-3))


def test_a_planted_bias_is_found_and_measured():
    rng = np.random.default_rng(3)
    side = np.linalg.qr(rng.normal(size=(100, 100)))[0][0]
    plain = rng.normal(size=(400, 100))
    plain -= np.outer(plain @ side, side)
    lean = rng.uniform(-1, 1, 400)
    words = plain / np.linalg.norm(plain, axis=1, keepdims=True) + np.outer(lean, side)
    middle = rng.normal(size=(20, 100)) / 10
    pairs = np.stack([middle + 0.5 * side, middle - 0.5 * side], axis=1) + 0.02 * rng.normal(
        size=(20, 2, 100)
    )
    basis, explained = vectors.bias_subspace(pairs)
    assert np.asarray(basis)[0] @ side > 0.99 and explained[0] > 0.8
    expected = np.mean(np.abs(lean) / np.sqrt(1 + lean**2))
    assert metrics.direct_bias(words, basis) == pytest.approx(expected, rel=0.05)
    assert metrics.direct_bias(vectors.neutralise(words, basis), basis) == pytest.approx(0, abs=1e-5)


def test_bad_input_gets_one_line():
    x, y, a, b = sets()
    refused("first: is empty", lambda: metrics.weat(x[:0], y, attributes=a, others=b))
    refused("others: is empty", lambda: metrics.weat(x, y, attributes=a, others=b[:0]))
    refused("second: holds NaN", lambda: metrics.weat(x, y * np.nan, attributes=a, others=b))
    refused("attributes: shape", lambda: metrics.weat(x, y, attributes=a[:, :3], others=b))
    refused("vectors: none is given", lambda: metrics.direct_bias(WORDS[:0], BASIS))
    refused("basis: shape", lambda: metrics.direct_bias(WORDS, np.eye(3)))
    refused("one of them is empty", lambda: metrics.pair_bias(WORDS, np.zeros((0, 2, 5))))
    refused("direction: is zero", lambda: metrics.analogy_pairs(WORDS, np.zeros(5)))
    refused("vectors: hold NaN", lambda: metrics.analogy_pairs(WORDS * np.nan, BASIS[0]))
