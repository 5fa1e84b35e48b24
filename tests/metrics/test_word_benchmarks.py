"""Similarity and analogies of words: loops over definitions, what is missing, and gensim's figures."""

import numpy as np
import pytest
from refusals import refused

from jaxembed import metrics

RNG = np.random.default_rng(0)
WORDS = [f"w{i}" for i in range(40)]
TABLE = RNG.normal(size=(40, 6)).astype(np.float32)


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_similarity_correlates_cosines_and_counts_what_is_missing():
    scipy_stats = pytest.importorskip("scipy.stats")
    pairs = [(WORDS[i], WORDS[j]) for i, j in RNG.integers(0, 40, (30, 2))]
    scores = RNG.normal(size=32)
    asked = [*pairs, ("w0", "nothing"), ("no", "nothing")]
    cosines = [cosine(TABLE[WORDS.index(a)], TABLE[WORDS.index(b)]) for a, b in pairs]
    found = metrics.word_similarity(TABLE * 1e-25, WORDS, asked, scores)
    assert found["pairs"] == 30 and found["missing"] == 2
    assert found["spearman"] == pytest.approx(scipy_stats.spearmanr(cosines, scores[:30])[0], abs=1e-6)
    assert found["pearson"] == pytest.approx(scipy_stats.pearsonr(cosines, scores[:30])[0], abs=1e-6)
    zero = metrics.word_similarity(TABLE, WORDS, asked, scores, missing="zero")
    assert zero["pairs"] == 32 and zero["missing"] == 2
    assert zero["pearson"] == pytest.approx(scipy_stats.pearsonr([*cosines, 0, 0], scores)[0], abs=1e-6)
    unit = TABLE / np.linalg.norm(TABLE, axis=1, keepdims=True)
    middle = unit.mean(axis=0)
    filled = [*cosines, cosine(unit[0], middle), 1.0]
    mean = metrics.word_similarity(TABLE, WORDS, asked, scores, missing="mean")
    assert mean["pearson"] == pytest.approx(scipy_stats.pearsonr(filled, scores)[0], abs=1e-5)


def analogy_by_hand(table, question, rule):
    a, b, c = question[:3]
    best, answer = -np.inf, None
    for x in range(len(table)):
        if x in (a, b, c):
            continue
        near = [cosine(table[x], table[i]) for i in (a, b, c)]
        p = [(1 + n) / 2 for n in near]
        score = near[1] - near[0] + near[2] if rule == "add" else p[1] * p[2] / (p[0] + 1e-3)
        best, answer = (score, x) if score > best else (best, answer)
    return answer


@pytest.mark.parametrize("rule", ["add", "multiply"])
def test_analogies_equal_a_loop_over_all_words(rule):
    table = TABLE.astype(np.float64)
    rows = [[*map(int, RNG.choice(40, 3, replace=False))] for _ in range(25)]
    answers = [analogy_by_hand(table, q, rule) for q in rows]
    wrong = [(x + 1) % 40 for x in answers[20:]]
    questions = [[WORDS[i] for i in (*q, d)] for q, d in zip(rows, answers[:20] + wrong, strict=True)]
    found = metrics.word_analogies(TABLE, WORDS, [*questions, ("w1", "w2", "w3", "?")], rule=rule, batch=7)
    assert found == {"accuracy": 0.8, "questions": 25, "missing": 1}


def test_most_and_capitals_and_broken_vectors():
    table, words = np.array([[1.0, 0], [1, 1], [0, 1], [-1, 1]]), ["Man", "king", "WOMAN", "queen"]
    question = [("man", "King", "woman", "queen")]
    refused("questions: none of 1 has all its words", lambda: metrics.word_analogies(table, words, question))
    found = metrics.word_analogies(table, words, question * 2, fold=True)
    assert found["questions"] == 2
    cut = [*question, ("man", "king", "woman", "man")]
    found = metrics.word_analogies(table, words, cut, fold=True, most=3)
    assert found["questions"] == 1 and found["missing"] == 1
    table[1] = np.nan
    refused("none of 1", lambda: metrics.word_analogies(table, words, question, fold=True))
    pairs = [("man", "king"), ("man", "woman"), ("woman", "queen")]
    found = metrics.word_similarity(table, words, pairs, [1, 2, 3], fold=True)
    assert found["pairs"] == 2 and found["missing"] == 1


def test_a_dict_of_rows_serves_as_words():
    pairs, scores = [("a", "b"), ("a", "c"), ("b", "c")], [1.0, 2.0, 3.0]
    rows = {"a": 7, "b": 3, "c": 1}
    found = metrics.word_similarity(TABLE, rows, pairs, scores)
    plain = metrics.word_similarity(TABLE[[7, 3, 1]], ["a", "b", "c"], pairs, scores)
    assert found == pytest.approx(plain)


def test_bad_input_gets_one_line():
    one = lambda **given: metrics.word_similarity(TABLE, WORDS, [("w1", "w2")] * 2, [1.0, 2.0], **given)  # noqa: E731
    refused("missing='drop'; choose one of skip, mean, zero", lambda: one(missing="drop"))
    few = [("w1", "x")] * 3
    refused("pairs: 0 of 3 have both words", lambda: metrics.word_similarity(TABLE, WORDS, few, [1, 2, 3]))
    refused("scores: hold NaN", lambda: metrics.word_similarity(TABLE, WORDS, few, [1, 2, np.nan]))
    refused("scores: shape", lambda: metrics.word_similarity(TABLE, WORDS, few, [1, 2]))
    refused("words: shape", lambda: metrics.word_similarity(TABLE, WORDS[:9], few, [1, 2, 3]))
    refused(
        "questions: .* is not of four words",
        lambda: metrics.word_analogies(TABLE, WORDS, [("w1", "w2", "w3")]),
    )
    asked = [("w1", "w2", "w3", "w4")]
    refused("rule='sum'; choose one of", lambda: metrics.word_analogies(TABLE, WORDS, asked, rule="sum"))


@pytest.mark.peers
def test_gensim_counts_the_same(tmp_path):
    models = pytest.importorskip("gensim.models")
    vectors = models.KeyedVectors(6)
    vectors.add_vectors(WORDS, TABLE)
    pairs = [(WORDS[i], WORDS[j]) for i, j in RNG.integers(0, 40, (30, 2))]
    scores = RNG.normal(size=31).round(3)
    lines = [f"{a}\t{b}\t{s}" for (a, b), s in zip([*pairs, ("w1", "no")], scores, strict=True)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    pearson, rank, share = vectors.evaluate_word_pairs(tmp_path / "pairs.tsv")
    found = metrics.word_similarity(TABLE, WORDS, [*pairs, ("w1", "no")], scores)
    assert found["pearson"] == pytest.approx(pearson[0], abs=1e-5)
    assert found["spearman"] == pytest.approx(rank[0], abs=1e-5)
    assert 100 * found["missing"] / 31 == pytest.approx(share)
    questions = [tuple(WORDS[i] for i in RNG.choice(40, 4, replace=False)) for _ in range(200)]
    text = ": all\n" + "\n".join(" ".join(q) for q in questions)
    (tmp_path / "questions.txt").write_text(text)
    score, _ = vectors.evaluate_word_analogies(tmp_path / "questions.txt")
    assert metrics.word_analogies(TABLE, WORDS, questions)["accuracy"] == pytest.approx(score)


def test_senses_are_compared_pair_by_pair():
    one, two = RNG.normal(size=(4, 3, 5)), RNG.normal(size=(4, 2, 5))
    q, r = RNG.random((4, 3)), RNG.random((4, 2))
    average = metrics.sense_similarity(one, two * 1e-30, first_weights=q, second_weights=r)
    local = metrics.sense_similarity(one, two, first_weights=q, second_weights=r, rule="local")
    for b in range(4):
        near = np.array([[(1 + cosine(x, y)) / 2 for y in two[b]] for x in one[b]])
        assert average[b] == pytest.approx((q[b] / q[b].sum()) @ near @ (r[b] / r[b].sum()), rel=1e-5)
        assert local[b] == pytest.approx(near[q[b].argmax(), r[b].argmax()], rel=1e-5)
    even = metrics.sense_similarity(one, two)
    np.testing.assert_allclose(
        even, metrics.sense_similarity(one, two, first_weights=np.full((4, 3), 7)), rtol=1e-6
    )
    np.testing.assert_allclose(even, metrics.sense_similarity(two, one), rtol=1e-6)  # neither word is first
    alone = metrics.sense_similarity(one, two, first_weights=[[0, 1, 0]] * 4, second_weights=[[1, 0]] * 4)
    local = metrics.sense_similarity(one, two, first_weights=[[0, 1, 0]] * 4, rule="local")
    np.testing.assert_allclose(alone, local, rtol=1e-6)  # one sense each: both rules are the cosine


@pytest.mark.parametrize(
    "given, said",
    [
        ({"rule": "global"}, "rule='global'; choose"),
        ({"first_weights": [[0, 0]]}, "first: senses must be finite, and weights"),
        ({"second_weights": [[1, -1]]}, "second: senses must be finite"),
        ({"first_weights": [[1, 0, 0]]}, "first_weights"),
    ],
)
def test_senses_of_another_form_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        metrics.sense_similarity(np.ones((1, 2, 3)), np.ones((1, 2, 3)), **given)


def test_gains_are_shares_of_the_best_one():
    assert metrics.gain_ratio(0.3, 0.1, 0.5) == pytest.approx(0.5)
    scores = np.array([[0.1, 0.3], [0.2, -0.1]])
    found = metrics.gain_ratio(scores, np.array([[0.0], [0.1]]), scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, [[1 / 3, 1], [1, -2]])
    assert np.isnan(metrics.gain_ratio(0.3, 0.5, 0.5))


def test_the_choice_with_the_largest_cosine_is_taken():
    table, words = RNG.normal(size=(40, 6)), [f"w{i}" for i in range(40)]
    asked = [RNG.permutation(40)[:5] for _ in range(30)]
    answers = RNG.integers(0, 4, 30)
    best = [np.argmax([cosine(table[q[0]], table[i]) for i in q[1:]]) for q in asked]
    given = [words[q[0]] for q in asked], [[words[i] for i in q[1:]] for q in asked]
    found = metrics.choice_accuracy(table * 1e-30, words, *given, answers)
    assert found == {"accuracy": pytest.approx(np.mean(best == answers)), "questions": 30, "missing": 0}
    assert metrics.choice_accuracy(table, words, *given, best)["accuracy"] == 1
    capitals = [w.upper() for w in words]
    assert metrics.choice_accuracy(table, capitals, *given, best, fold=True)["accuracy"] == 1


def test_questions_with_a_missing_word_do_not_count():
    table = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [np.nan, 1.0]])
    given = ["a"] * 3, [["b", "c"], ["b", "x"], ["b", "d"]], [1, 0, 0]
    found = metrics.choice_accuracy(table, list("abcd"), *given)
    assert found == {"accuracy": 0, "questions": 1, "missing": 2}


def test_equal_cosines_share_the_answer():
    table = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, -1.0]])
    questions, choices = ["a", "a", "b"], [["b", "c"], ["b", "c", "d"], ["a", "c"]]
    found = metrics.choice_accuracy(table, list("abcd"), questions, choices, [0, 2, 1])
    assert found["accuracy"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)


@pytest.mark.parametrize(
    "given, said",
    [
        ((["a"], [["b", "c"]], [2]), "answers: 2 of 2 choices for 'a'"),
        ((["a"], [["b"]], [0]), "answers: 0 of 1 choices"),
        ((["a"], [["b", "c"]], [0.5]), "answers, for 'a': 0.5 is not an integer"),
        ((["a"], [["b", "c"]], []), "questions, choices, answers: lengths 1, 1 and 0"),
        ((["x"], [["b", "c"]], [0]), "none of 1 has all its words"),
    ],
)
def test_choices_of_another_form_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        metrics.choice_accuracy(np.eye(3), list("abc"), *given)
