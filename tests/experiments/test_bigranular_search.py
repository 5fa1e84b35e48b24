"""The experiment on codes and vectors: batches, candidates, claims, a small run."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bigranular_search import __main__ as story
from experiments.bigranular_search import heads
from experiments.bigranular_search.__main__ import CODES, LOCAL, LONGER, OPQ, RANDOM, TRAINED, Config
from experiments.shared import results, text_models
from jaxembed import data

TRAINED_ROWS = np.arange(3, 43)
RNG = np.random.default_rng(0)


def test_random_batches_read_every_pair_once_an_epoch_beside_its_own_document():
    rows = heads.random_rows(TRAINED_ROWS, 90, 8, 10, 0)
    assert rows["queries"].shape == (10, 8) and rows["documents"].shape == (10, 8, 2)
    assert sorted(rows["queries"][:5].reshape(-1)) == TRAINED_ROWS.tolist()
    np.testing.assert_array_equal(rows["documents"][..., 0], rows["queries"])


def test_local_batches_have_numbers_of_pairs_and_documents():
    ranked = np.stack([RNG.permutation(90)[:6] for _ in TRAINED_ROWS])
    graph = data.proximity_graph(ranked, query_window=(0, 6), document_window=(0, 6))
    rows = heads.local_rows(TRAINED_ROWS, graph, 90, 8, 7, 0, "depth")
    assert rows["queries"].shape == (7, 8) and set(rows["queries"].reshape(-1)) <= set(TRAINED_ROWS)
    np.testing.assert_array_equal(rows["documents"][..., 0], rows["queries"])


def test_candidates_leave_the_own_document_out():
    texts = {"queries": RNG.normal(size=(10, 4)).astype(np.float32)}
    texts["documents"] = np.concatenate([texts["queries"][:5], RNG.normal(size=(15, 4)).astype(np.float32)])
    params = heads.start(4) | {"codes": {"codebooks": jnp.asarray(RNG.normal(size=(2, 8, 2)), jnp.float32)}}
    trained = np.arange(5)
    found = heads.candidates(params, texts, trained, 6)
    assert found.shape == (5, 6) and not (found == trained[:, None]).any()
    assert all(len(set(row)) == 6 for row in found.tolist())


def row(arm, ten, hundred=0.5, **more):
    noise = np.arange(5) / 1000
    runs = [{"recall@10": ten + x, "recall@100": hundred + x * (1 + hundred)} for x in noise]
    return {"arm": arm, "runs": runs} | more


def test_claims_are_those_of_the_tables():
    codes = [row(OPQ, 0, 0.3, bytes=8), row(LONGER, 0, 0.41, bytes=8), row(TRAINED, 0, 0.4, bytes=8)]
    codes += [row(OPQ, 0, 0.5, bytes=48), row(LONGER, 0, 0.5, bytes=48), row(TRAINED, 0, 0.52, bytes=48)]
    found = [row(CODES, 0.2, bytes=8, mix=None), row(RANDOM, 0.3, bytes=8, mix=0.0)]
    found += [row(LOCAL, 0.4, bytes=8, mix=0.0), row(LOCAL, 0.38, bytes=8, mix=0.3)]
    found += [
        row(f"{LOCAL}, all documents", 0, 0.6, mix=None),
        row(f"{RANDOM}, all documents", 0, 0.7, mix=None),
    ]
    answers = results.answered(story.CLAIMS, results.Result({"codes": codes, "search": found}))
    yes, no = results.REPRODUCED, results.NOT
    assert [a["verdict"] for a in answers] == [yes, yes, no, yes, yes, yes, no]
    one_size = [r for r in codes if r["bytes"] == 8]
    assert len(results.answered(story.CLAIMS, results.Result({"codes": one_size, "search": found}))) == 6


class Encoder:
    """Vectors by the digits of a text."""

    def encode_texts(self, texts, **_):
        rng = np.random.default_rng(0)
        words = rng.normal(size=(2000, 16)).astype(np.float32)
        return np.stack([words[int("".join(c for c in t if c.isdigit())) % 2000] for t in texts])


def test_a_judged_corpus_gives_each_query_one_document_of_its_own(monkeypatch, tmp_path):
    (tmp_path / "qrels").mkdir()
    lines = [{"_id": f"d{i}", "title": "", "text": f"kind {i}"} for i in range(80)]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    lines = [{"_id": f"q{i}", "text": f"one {100 + i}"} for i in range(60)]
    (tmp_path / "queries.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    for name, part in (("train", range(40)), ("test", range(40, 60))):
        rows = [f"q{i}\td{i + 20}\t2\nq{i}\td{i}\t1\n" for i in part]
        (tmp_path / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    monkeypatch.setattr(text_models, "load", lambda folder: Encoder())
    texts, trained, test = heads.read(Config(beir=tmp_path))
    assert texts["documents"].shape == (80, 16) and texts["queries"].shape == (60, 16)
    assert (len(trained), len(test)) == (36, 12) and not set(trained) & set(test)  # the rest validates
    words = Encoder().encode_texts([str(100 + i) for i in range(60)])
    asked = [int(np.flatnonzero((words == query).all(axis=1))[0]) for query in texts["queries"]]
    wanted = Encoder().encode_texts([str(i) for i in [*(a + 20 for a in asked), *range(20)]])
    np.testing.assert_array_equal(texts["documents"], wanted)


@pytest.mark.slow
@pytest.mark.experiment
def test_a_small_run_has_every_arm(monkeypatch, tmp_path):
    senses = [{"gloss": f"a kind of {i}", "examples": [f"one {i}"] if i < 600 else []} for i in range(700)]
    monkeypatch.setattr(text_models, "load", lambda folder: Encoder())
    monkeypatch.setattr(data, "wordnet", lambda: senses)
    cfg = Config(pairs=500, others=50, bytes=(2, 4), steps=3, batch_size=16, window=10, reranked=20, seeds=1)
    found = story.run(cfg)
    assert [r["arm"] for r in found.tables["codes"]] == [OPQ, LONGER, TRAINED] * 2
    assert len(found.tables["search"]) == 7 and found.details["tested"] == 100
    assert all(0 <= r["recall@10"] <= r["recall@100"] <= 1 for t in found.tables.values() for r in t)
    cfg = story.flags.changed(cfg, results=tmp_path)
    path = results.finish("bigranular_search", "small", cfg, found, story.CLAIMS, story.figures, 1)
    assert path.with_suffix(".png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="--bytes 5: does not divide the width 16"):
        story.run(story.flags.changed(cfg, bytes=(5,)))


def test_bad_flags_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="--order random: choose depth or breadth"):
        Config(order="random")
    with pytest.raises(ValueError, match="--pairs: has no meaning with --beir"):
        Config(beir=tmp_path, pairs=600)
