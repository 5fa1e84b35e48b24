"""The experiment on word bias: lists, what a table lacks, claims."""

import numpy as np
import pytest

from experiments.shared import results
from experiments.word_bias import __main__ as story
from experiments.word_bias import measures, words


def test_lists_hold_no_word_twice_where_that_would_matter():
    used = [word for pair in words.EQUAL for word in pair]
    assert len(used) == len(set(used)) and len(words.PAIRS) == 10
    assert len(words.JOBS) == len(set(words.JOBS)) > 150
    assert not set(words.JOBS) & ({*words.SPECIFIC} | {*used})


def test_pairs_that_a_table_lacks_are_named_and_left_out():
    rows, missing = measures.known(
        {"rows": {"she": 0, "he": 1, "mary": 2}}, [("she", "he"), ("mary", "john")]
    )
    assert rows.tolist() == [[0, 1]] and missing == ["mary john"]
    rows, missing = measures.known({"rows": {}}, [("she", "he")])
    assert rows.shape == (0, 2) and missing == ["she he"]


def test_pairs_come_in_every_case_and_a_word_in_one_of_them():
    found = measures.cased([("nun", "priest"), ("nun", "monk")])
    assert found == [("nun", "priest"), ("Nun", "Priest"), ("NUN", "PRIEST")]


def test_claims_read_the_rows():
    arms = [
        {"arm": story.BEFORE, "direct bias": 0.2, "pair bias": 0.1, "wordsim353": 0.5},
        {"arm": story.HARD, "direct bias": 0.0, "pair bias": 1e-8, "wordsim353": 0.503},
        {"arm": story.SOFT, "direct bias": 0.02, "pair bias": 0.05, "wordsim353": 0.48},
        {"arm": story.SUMS, "direct bias": 0.199, "pair bias": 0.1, "wordsim353": 0.5},
    ]
    told = [limit_row(story.KERNEL, 0.8), limit_row(story.LINEAR, 0.52)]
    rows = results.answered(story.CLAIMS, results.Result({"arms": arms, "limit": told}))
    yes, no = results.REPRODUCED, results.NOT
    assert [row["verdict"] for row in rows] == [yes, yes, yes, no, yes, yes, yes, no]


def limit_row(classifier, accuracy):
    runs = list(np.linspace(accuracy, accuracy + 0.05, 5))
    row = {"arm": story.HARD, "classifier": classifier, "chance up to": 0.535, "runs": runs}
    return row | dict(zip(("accuracy", "± accuracy"), results.spread(runs), strict=True))


def test_classifiers_tell_what_a_table_still_says_and_guess_where_it_says_nothing():
    rng = np.random.default_rng(0)
    lean, noise = rng.normal(size=400), rng.normal(size=(400, 3))
    made = {story.BEFORE: np.c_[noise, 3 * np.sign(lean)], story.HARD: noise}
    found = measures.limit(story.Config(extreme=150, seeds=2), made, np.ones(400, bool), lean)
    assert [row["arm"] for row in found] == [story.BEFORE] * 2 + [story.HARD] * 2
    assert all(row["accuracy"] > 0.95 for row in found[:2])
    assert all(abs(row["accuracy"] - 0.5) < 0.12 for row in found[2:])
    assert found[0]["chance up to"] == 0.5 + 0.98 / 240**0.5


def test_pairs_that_are_generated_again_are_counted():
    before = [["she", "he", 1.0], ["nun", "monk", 0.9]]
    assert measures.kept_share(before, [["she", "he", 0.4]]) == 0.5 and measures.kept_share([], []) == 0


def test_vectors_of_ones_own_without_the_pairs_are_refused(tmp_path):
    path = tmp_path / "own.vec"
    path.write_text("3 2\nshe 1 0\nhe 0 1\nnurse 1 1\n")
    table = measures.chosen(story.Config(vectors=path))
    assert measures.known(table, table["pairs"])[0].tolist() == [[0, 1]]
    path.write_text("2 2\nshe 1 0\nnurse 1 1\n")
    with pytest.raises(ValueError, match="^--vectors .*own.vec: lack she, he or all pairs of words"):
        measures.chosen(story.Config(vectors=path))


def test_words_with_a_gender_are_learned_from_a_seed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8))
    x[:60, 0] += 6  # sixty words lie apart, most of them are of the seed
    words = [f"w{i}" for i in range(199)] + ["W0"]
    table = {"words": words, "vectors": x, "seed": words[:50], "specific": words[:60]}
    found = measures.learned(table)
    assert found[50:60].mean() > 0.5 and found[199] and found[60:199].mean() < 0.1
    (row,) = measures.lists_of(table)
    assert row["seed"] == 50 and row["listed"] == 60 and row["both"] == found[:60].sum()
    assert row["of the listed"] == found[:60].mean() and measures.lists_of(table | {"specific": None}) == []


def test_indirect_bias_of_known_examples():
    words = ["softball", "pitcher", "receptionist"]
    vectors = np.array([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    table = {"words": words, "rows": {w: i for i, w in enumerate(words)}, "vectors": vectors}
    one, two = measures.indirect(table, np.eye(3)[:1])
    assert (one["beside"], two["beside"]) == ("pitcher", "receptionist")
    assert one["indirect bias"] == pytest.approx((0.8 - 1) / 0.8) and two["indirect bias"] == pytest.approx(1)
