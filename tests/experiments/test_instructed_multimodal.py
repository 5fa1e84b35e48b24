"""Tasks over digits hold what their instruction asks for, and candidates are pooled."""

import numpy as np
import pytest

from experiments.instructed_multimodal import __main__ as story
from experiments.instructed_multimodal import tasks


@pytest.fixture(scope="module")
def pictures():
    return tasks.splits(True)[0]


def test_answers_are_those_of_the_digits():
    assert len(tasks.ANSWERS) == len(set(tasks.ANSWERS)) == 17
    told = {asked: [tasks.ANSWERS[n] for n in right] for asked, right in tasks.QUESTIONS.items()}
    assert told["odd or even"][:3] == ["even", "odd", "even"]
    assert told["name the digit before"][0] == "nine"
    assert told["count the holes"][8] == "double" and told["large or small"][4:6] == ["small", "large"]
    assert not set(tasks.HELD_OUT) & set(tasks.TRAINED)
    trained = {word for asked in tasks.TRAINED for word in asked.split()}
    assert {word for asked in tasks.HELD_OUT for word in asked.split()} <= trained


@pytest.mark.parametrize("part", [None, 4])
def test_targets_of_a_batch_are_right(pictures, part):
    ds = tasks.batches(pictures, 16, 0, part)
    batch = ds[3]
    assert batch["query"]["ids"].shape == batch["target"]["ids"].shape == (16, tasks.LENGTH)
    for i, right in enumerate(batch["right"]):
        words = [tasks.WORDS[n - 3] for n in batch["target"]["ids"][i] if n > 2]
        if right < 17:
            assert words == [tasks.ANSWERS[right]]
            assert not batch["target"]["patch_mask"][i].any()
        else:
            shown = np.flatnonzero((pictures["patches"] == batch["target"]["patches"][i]).all(axis=(1, 2)))
            assert pictures["labels"][shown[0]] == right - 17
            assert " ".join(words) == tasks.PICTURE
    for name in ("ids", "patches"):
        np.testing.assert_array_equal(
            batch["query"][name], tasks.batches(pictures, 16, 0, part)[3]["query"][name]
        )


def test_candidates_are_pooled_and_ties_share(pictures):
    few = {name: x[:120] for name, x in pictures.items()}
    asked = tasks.questions(few)
    lists, right = asked["find the digit after"]
    np.testing.assert_array_equal(few["labels"][lists], np.tile(np.arange(10), (120, 1)))
    assert not (lists == np.arange(120)[:, None]).any()
    np.testing.assert_array_equal(right, (few["labels"] + 1) % 10)
    alike = np.ones((120, 3))
    assert tasks.precision(alike, np.ones((17, 3)), alike, None, right) == pytest.approx(1 / 17)
    own = np.eye(10)[few["labels"]]
    assert tasks.precision(np.eye(10)[right], np.eye(17)[:, :10] + 1e-9, own, lists, right) == 1


def test_masked_instructions_leave_picture_and_end():
    rows = [{"patches": np.ones((8, 8)), "instruction": "odd or even"}, {"text": "odd"}]
    batch = tasks.batch_of(rows)
    found = story.without(batch)
    assert found["mask"].sum(axis=1).tolist() == [9, 2]
    assert (batch["ids"][0][np.asarray(found["mask"][0])] == [1] * 8 + [2]).all()


def test_no_claim_has_a_verdict_below_five_seeds():
    runs = [{"mean": 0.9, "held out": 0.5}] * 4
    rows = [{"arm": arm, "runs": runs} for arm in story.ARMS]
    assert all(claim.ours({"arms": rows}).verdict is None for claim in story.CLAIMS)
