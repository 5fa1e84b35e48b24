"""The experiment on cut-offs: its splits, its relevance, its claims, a small run."""

import json

import numpy as np
import pytest

from experiments.relevance_cutoff import __main__ as story
from experiments.relevance_cutoff import searched
from experiments.relevance_cutoff.__main__ import DRAWN, KIN, LINEAR, MAXIMUM, NORMED, POWER, RAW, Config
from experiments.shared import results, text_models
from jaxembed import data


def test_no_query_is_fitted_and_tested_and_folds_test_each_query_once():
    for cfg in (Config(seeds=3), story.flags.changed(Config(seeds=5), beir="folder")):
        parts = searched.splits(cfg, 40)
        assert len(parts) == cfg.seeds
        for known, asked in parts:
            assert sorted([*known, *asked]) == list(range(40))
    assert sorted(np.concatenate([asked for _, asked in parts])) == list(range(40))
    (known, asked), *others = searched.splits(story.flags.changed(Config(seeds=1), beir="folder"), 40)
    assert not others and sorted([*known, *asked]) == list(range(40)) and len(asked) == 10


def written(folder, lines):
    (folder / "qrels").mkdir()
    for name, rows in lines.items():
        rows = rows if name.endswith("tsv") else map(json.dumps, rows)
        (folder / name).write_text("".join(f"{row}\n" for row in rows))


def test_a_judged_corpus_of_a_folder_is_cut_with_one_seed_too(monkeypatch, tmp_path):
    corpus = [{"_id": f"d{i}", "title": "", "text": f"kind {i}{'abcde'[i % 5]}"} for i in range(60)]
    queries = [{"_id": f"q{i}", "text": f"of {'abcde'[i % 5]}"} for i in range(40)]
    judged = [f"q{i}\td{j}\t1" for i in range(40) for j in range(i % 5, 60, 10)]
    files = {"corpus.jsonl": corpus, "queries.jsonl": queries}
    written(tmp_path, files | {"qrels/test.tsv": ["query-id\tcorpus-id\tscore", *judged]})
    encoder = Encoder()
    encoder.prompts = {}
    monkeypatch.setattr(
        encoder, "encode_texts", lambda texts, **_: Encoder.encode_texts(encoder, texts), raising=False
    )
    monkeypatch.setattr(text_models, "load", lambda folder: encoder)
    monkeypatch.setattr(story, "KINDS", ("linear",))
    for seeds in (1, 2):
        cfg = Config(beir=tmp_path, candidates=20, hidden=4, epochs=1, seeds=seeds, recall=0.8)
        rows = story.run(cfg).tables["arms"]
        assert {row["data"] for row in rows} == {"judged"} and {len(row["runs"]) for row in rows} == {seeds}
        assert all(0 < row["PR AUC"] <= 1 for row in rows)


def row(source, arm, areas, **more):
    runs = [{"PR AUC": x} | {name: values[i] for name, values in more.items()} for i, x in enumerate(areas)]
    return {"data": source, "arm": arm, "runs": runs}


def test_claims_are_those_of_the_table():
    noise = np.arange(5) / 1000
    rows = [
        row(DRAWN, RAW, 0.2 + noise, precision=0.1 + noise, filter=0.3 + noise),
        row(DRAWN, MAXIMUM, 0.4 + noise),
        row(DRAWN, LINEAR, 0.6 + noise, precision=0.3 + noise, filter=0.6 + noise),
        row(DRAWN, NORMED, 0.7 - noise),
        row(KIN, RAW, 0.1 + noise, precision=0.1 + noise),
        row(KIN, POWER, 0.2 + noise, precision=0.09 + noise),
    ]
    yes, no = results.REPRODUCED, results.NOT
    found = results.answered(story.CLAIMS, results.Result({"arms": rows}))
    assert [r["verdict"] for r in found] == [yes, yes, yes, yes, yes, no, no]
    assert found[4]["ours"] == pytest.approx(2, rel=0.05)  # times
    assert len(results.answered(story.CLAIMS, results.Result({"arms": rows[:4]}))) == 5


class Encoder:
    """Vectors by the last letter of a text."""

    def encode_texts(self, texts, **_):
        vectors = np.array([[np.cos(ord(t[-1])), np.sin(ord(t[-1]))] for t in texts], np.float32)
        return vectors + np.arange(len(texts))[:, None] * 1e-4


def senses(count):
    return [
        {
            "gloss": f"a kind of {i}{'abcde'[i % 5]}",
            "parents": [str(i % 3)] if i % 2 else [],
            "examples": [f"x {'abcde'[i % 5]}"],
        }
        | ({} if i % 4 else {"examples": []})
        for i in range(count)
    ]


def test_kin_have_a_parent_in_common(monkeypatch):
    monkeypatch.setattr(text_models, "load", lambda folder: Encoder())
    monkeypatch.setattr(data, "wordnet", lambda: senses(120))
    cfg = Config(asked=40, others=10, candidates=30)
    found = searched.wordnet(cfg)
    assert found["sense"]["labels"].shape == (40, 30) and found["sense"]["labels"].sum(axis=1).max() == 1
    assert (found["kin"]["labels"] >= found["sense"]["labels"]).all()
    assert found["kin"]["labels"].sum() > 2 * found["sense"]["labels"].sum()
    with pytest.raises(ValueError, match="--asked 46: only 45 senses are there to ask"):
        searched.wordnet(Config(asked=46))


def test_what_validates_is_never_tested(monkeypatch):
    seen = []
    monkeypatch.setattr(text_models, "load", lambda folder: Encoder())
    monkeypatch.setattr(data, "wordnet", lambda: senses(120))
    monkeypatch.setattr(
        Encoder, "encode_texts", lambda self, texts: seen.append(texts) or np.eye(len(texts), 2)
    )
    for validate in (True, False):
        searched.wordnet(Config(asked=45, others=0, candidates=10, validate=validate))
    assert not set(seen[1]) & set(seen[3]) and len(set(seen[1] + seen[3])) == 90


@pytest.mark.slow
@pytest.mark.experiment
def test_a_small_run_saves_every_arm(monkeypatch, tmp_path):
    monkeypatch.setattr(text_models, "load", lambda folder: Encoder())
    monkeypatch.setattr(data, "wordnet", lambda: senses(240))
    monkeypatch.setattr(story, "OF_SCORES", story.OF_SCORES | {"epochs": 1})
    monkeypatch.setattr(story, "KINDS", ("linear", "power"))
    cfg = Config(queries=80, asked=80, others=10, candidates=40, hidden=4, epochs=1, seeds=1, recall=0.8)
    found = story.run(cfg)
    assert [len([r for r in found.tables["arms"] if r["data"] == name]) for name in (DRAWN, KIN)] == [7, 5]
    path = results.finish(
        "relevance_cutoff",
        "small",
        story.flags.changed(cfg, results=tmp_path),
        found,
        story.CLAIMS,
        story.figures,
        1,
    )
    assert [claim["verdict"] for claim in json.loads(path.read_text())["claims"]] == [None] * 7
    assert path.with_suffix(".png").stat().st_size > 10_000


def test_bad_flags_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="--recall 1.5: choose 0.01 to 1"):
        Config(recall=1.5)
    with pytest.raises(ValueError, match="--asked: has no meaning with --beir"):
        Config(beir=tmp_path, asked=50)
