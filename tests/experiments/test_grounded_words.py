"""The experiment on grounded words: drawn scenes, captions, claims."""

import json

import numpy as np
import pytest
from refusals import refused

from experiments.grounded_words import __main__ as story
from experiments.grounded_words import captions, scenes
from experiments.shared import results


def test_scenes_show_names_of_one_topic_and_pictures_tell_the_kind():
    drawn = scenes.scenes(0, names=200, pictures=400)
    same = [np.bincount(drawn["topic"][names]).max() for names in drawn["shown"]]
    assert np.mean(same) > 4
    kind, x = drawn["kind"], drawn["feature"]
    near = [np.linalg.norm(x - row, axis=1).argsort()[1] for row in x]
    assert np.mean(kind[near] == kind) > 0.95
    first, second = scenes.text_spaces(drawn, 16)
    assert first.shape == second.shape == (200, 16)


def test_captions_of_coco_and_of_wordnet(tmp_path):
    lines = [{"image_id": 1, "caption": "A Dog runs."}, {"image_id": 1, "caption": "a dog"}]
    lines.append({"image_id": 2, "caption": "two cats"})
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"annotations": lines}))
    assert captions.texts(path) == [["a", "dog", "runs", "a", "dog"], ["two", "cats"]]
    path.write_text("[]")
    refused("--path .*captions.json: is not COCO's", lambda: captions.texts(path))


def test_words_are_numbered_by_frequency_without_the_commonest():
    said = [[f"word{i}" for i in range(60) for _ in range(2)]] * 6 + [["dog"]] * 5 + [["rare"]]
    sets, words = captions.numbered(said, 100)
    assert "dog" in words and "rare" not in words and len(words) == 11
    assert sets[6] == [words.index("dog")]


def test_a_batch_holds_the_text_of_its_names():
    feature, text = np.arange(8.0).reshape(8, 1), np.arange(16.0).reshape(8, 2)
    batch = scenes.Batches(feature, text, np.array([2, 5]), 6, 0)[3]
    assert set(batch["name"]) <= {2, 5}
    np.testing.assert_array_equal(batch["text"], text[batch["name"]])


def test_claims_read_the_runs():
    maps = {
        n: {"recall@10": 0.7 - 0.1 * i, "no topic in pictures": 0.17}
        for i, n in enumerate(("projector", "CCA"))
    }
    told = {
        story.TEXT: {"topic": 1.0, "kind": 0.1},
        story.IMAGE: {"topic": 0.4, "kind": 1.0},
        story.JOINT: {"topic": 1.0, "kind": 0.3},
    }
    texts = {"PPMI": {"wordsim353": 0.6, "purity": 0.6}, "raw counts": {"wordsim353": 0.4, "purity": 0.5}}
    details = {"recalls": [maps] * 5, "told": [told] * 5, "texts": [texts] * 5, "chance": 1 / 6}
    rows = results.answered(story.CLAIMS, results.Result({}, details))
    assert [row["verdict"] for row in rows][3] == results.NOT
    assert rows[0]["ours"] == pytest.approx(0.7 - 1 / 6)


def test_spaces_of_the_same_texts_have_a_row_for_each_word():
    rng = np.random.default_rng(0)
    sets = [list(rng.choice([0, 1, 2] if i % 2 else [3, 4, 5], 4)) for i in range(400)]
    made = captions.spaces(sets, 7, 4, 0)
    assert set(made) == {"PPMI", "raw counts", "skip-gram"}
    assert all(table.shape == (7, 4) and not table[6].any() for table in made.values())
    assert made["skip-gram"][:6].any(axis=1).all()
    for name in ("PPMI", "raw counts"):
        table = made[name]
        x = table[:6] / np.linalg.norm(table[:6], axis=1, keepdims=True)
        near = (x @ x.T)[np.triu_indices(6, 1)]
        same = np.equal.outer(np.arange(6) < 3, np.arange(6) < 3)[np.triu_indices(6, 1)]
        assert near[same].mean() > near[~same].mean() + 0.1, name
