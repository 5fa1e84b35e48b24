"""The experiment on grounded words: drawn scenes, captions, claims."""

import json

import jax
import numpy as np
import pytest
from refusals import refused

from experiments.grounded_words import __main__ as story
from experiments.grounded_words import captions, projector, scenes
from experiments.shared import results
from jaxembed import arrays, metrics


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


def test_a_margin_in_means_is_never_reached_and_batch_norm_ignores_scale_and_mean():
    cfg, rng = story.Config(hidden=6, dropout=0.0), np.random.default_rng(0)
    params = projector.init(jax.random.key(0), (5, 6, 16))
    x, text = rng.normal(size=(8, 5)), np.asarray(arrays.unit(rng.normal(size=(8, 16))))
    batch = {"feature": x, "text": text, "name": np.arange(8)}
    means, _ = projector.make_loss(cfg, projector.MEANS)(params, batch, None)
    sums, _ = projector.make_loss(cfg, projector.PAPER)(params, batch, None)
    assert means > sums and means == pytest.approx(hinges(cfg, params, batch, 16 * cfg.margin), rel=1e-5)
    assert sums == pytest.approx(hinges(cfg, params, batch, cfg.margin), rel=1e-5)
    moved = {"layers": dict(params["layers"]), "norm": params["norm"]}
    moved["layers"]["layer_1"] = {k: 3 * v + (k == "bias") for k, v in params["layers"]["layer_1"].items()}
    both = [projector.project(cfg, projector.PAPER, p, x) for p in (params, moved)]
    np.testing.assert_allclose(*both, atol=1e-3)


def hinges(cfg, params, batch, margin):
    """The mean over names of the hinge to the nearest other text, by loops."""
    x, text = np.asarray(projector.project(cfg, projector.PAPER, params, batch["feature"])), batch["text"]
    apart = [[np.sum((a - b) ** 2) for b in text] for a in x]
    away = [min(d for j, d in enumerate(row) if j != i) for i, row in enumerate(apart)]
    return np.mean([max(0, margin + apart[i][i] - away[i]) for i in range(len(x))])


def test_projectors_put_pictures_beside_their_texts():
    rng = np.random.default_rng(0)
    text = np.asarray(arrays.unit(rng.normal(size=(60, 8))))
    feature = (text @ rng.normal(size=(8, 20))).astype(np.float32)
    cfg = story.Config(hidden=64, dropout=0.0, steps=150, learning_rate=3e-3)
    for way, update in projector.updates(cfg).items():
        found = projector.fitted(cfg, way, update, feature, text, np.arange(50), 0)
        assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
        ranks = metrics.partner_ranks(found[50:], text[50:])
        assert np.mean(ranks <= 3) > 0.6, way
