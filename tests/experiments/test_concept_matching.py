"""The experiment on named dimensions: senses above, related pairs, hard negatives, claims, a small run."""

import json

import numpy as np
import pytest

from experiments.concept_matching import __main__ as story
from experiments.concept_matching import measures, senses
from experiments.concept_matching.__main__ import CLASSIFIER, ESA, FEWER, LATENT, LINEAR, SESA, Config
from experiments.shared import results, text_models
from jaxembed import data

RNG = np.random.default_rng(0)


def sense(name, *parents):
    return {"id": name, "parents": list(parents), "gloss": f"what {name} is", "lemmas": [name]}


def test_all_senses_above_and_the_least_depth_are_found():
    above, depth = senses.closure(
        [sense("dog", "canine", "pet"), sense("canine", "animal"), sense("pet"), sense("animal", "elsewhere")]
    )
    assert above["dog"] == {"canine", "pet", "animal"} and above["pet"] == set()
    assert depth == {"pet": 0, "animal": 0, "canine": 1, "dog": 1}
    circle, _ = senses.closure([sense("a", "b"), sense("b", "a")])
    assert "b" in circle["a"]


def task():
    has = RNG.random((60, 8)) < 0.3
    has[:, 0] |= ~has[:, :5].any(axis=1)  # each item has a deep concept
    return {"has": has, "deep": np.arange(8) < 5}


def test_related_rows_share_a_deep_concept_and_others_do_not():
    made, rows = task(), np.arange(10, 60)
    pairs = senses.related(made, rows, 30, 0)
    deep = made["has"][:, :5]
    assert pairs.shape == (30, 2) and (pairs[:, 0] != pairs[:, 1]).all() and pairs.min() >= 10
    assert (deep[pairs[:, 0]] & deep[pairs[:, 1]]).any(axis=1).all()
    queries, documents = senses.candidates(made, rows, 12, negatives=6)
    for query, shown in zip(queries, documents, strict=True):
        shared = (deep[shown] & deep[query]).any(axis=1)
        assert shared[0] and not shared[1:].any() and len(set(shown)) == 7
        near = (made["has"][shown[1:], 5:] & made["has"][query, 5:]).any(axis=1)
        assert near.sum() <= 3 and (near[: near.sum()]).all()  # hard ones come first


def test_latent_axes_are_put_into_the_order_of_concepts():
    made = {"has": RNG.random((200, 6)) < 0.4, "train": np.arange(150)}
    order = RNG.permutation(6)
    noisy = made["has"][:, order] + 0.1 * RNG.normal(size=(200, 6))
    found = measures.aligned(noisy, made)
    assert [np.corrcoef(found[:, c], made["has"][:, c])[0, 1] > 0.9 for c in range(6)] == [True] * 6


def test_what_is_judged_is_counted_by_hand():
    has = np.eye(6, dtype=bool)[[0, 0, 1, 2]]
    asked, shown = np.array([0]), np.array([[1, 2, 3]])
    numbers = measures.judge({"has": has}, has, asked, shown, np.arange(4))
    assert numbers["MRR"] == 1 and numbers["precision@5"] == 1 and numbers["concept AUC"] == 1
    assert numbers["completeness@5"] == pytest.approx(1)


def row(arm, pairs, value, precise=0.5):
    runs = [
        {"MRR": value + s / 1000 * (1 + value), "precision@5": precise + s / 1000 * precise} for s in range(5)
    ]
    return {"arm": arm, "pairs": pairs, "runs": runs}


def test_claims_are_those_of_the_table():
    rows = [
        row(SESA, 3000, 0.72, 0.9),
        row(SESA, 500, 0.70),
        row(LATENT, 3000, 0.74, 0.6),
        row(LATENT, 500, 0.66),
    ]
    rows += [row(ESA, 0, 0.3, 0.1), row(CLASSIFIER, 0, 0.69)]
    yes, no = results.REPRODUCED, results.NOT
    found = results.answered(story.CLAIMS, results.Result({"arms": rows}))
    assert [a["verdict"] for a in found] == [yes] * 7
    rows[1] = row(SESA, 500, 0.6)
    found = results.answered(story.CLAIMS, results.Result({"arms": rows}))
    assert [a["verdict"] for a in found] == [yes, no, no, yes, yes, yes, yes]


class Encoder:
    """Random vectors."""

    def encode_texts(self, texts, **_):
        return np.random.default_rng(len(texts)).normal(size=(len(texts), 16)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.experiment
def test_a_small_run_has_every_arm(monkeypatch, tmp_path):
    chain = [sense(f"c{i}", *([f"c{i - 1}"] if i else [])) for i in range(6)]
    groups = [sense(f"g{i}", "c5") for i in range(12)]
    items = [sense(f"i{i}", f"g{i % 12}") for i in range(720)]
    monkeypatch.setattr(data, "wordnet", lambda parts: [*chain, *groups, *items])
    monkeypatch.setattr(text_models, "load", lambda folder: Encoder())
    cfg = Config(items=500, concepts=18, pairs=(40, 20), steps=2, batch_size=8, tested=20, seeds=1)
    found = story.run(cfg)
    arms = [(r["arm"], r["pairs"]) for r in found.tables["arms"]]
    assert len(arms) == 12 and {(FEWER, 40), (LINEAR, 20), (CLASSIFIER, 0), (ESA, 0)} <= set(arms)
    cfg = story.flags.changed(cfg, results=tmp_path)
    path = results.finish("concept_matching", "small", cfg, found, story.CLAIMS, story.figures, 1)
    assert [c["verdict"] for c in json.loads(path.read_text())["claims"]] == [None] * 7
    assert path.with_suffix(".png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="--concepts 99: only 18 senses cover 50 to 3,000 nouns"):
        story.run(story.flags.changed(cfg, concepts=99))


def test_bad_flags_are_refused_in_one_line():
    with pytest.raises(ValueError, match="--listed 2: choose 0.01 to 1"):
        Config(listed=2)
