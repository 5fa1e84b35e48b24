"""The experiment on word bias: lists, what a table lacks, claims."""

import numpy as np

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
    held = {story.HARD: list(np.linspace(0.8, 0.9, 5))}
    rows = results.answered(story.CLAIMS, results.Result({"arms": arms}, {"held": held}))
    yes, no = results.REPRODUCED, results.NOT
    assert [row["verdict"] for row in rows] == [yes, yes, yes, no, yes, yes, yes]
