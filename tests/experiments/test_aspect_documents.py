"""The experiment on aspects: pairs, batches, judgments, claims, a small run."""

import json

import numpy as np
import pytest

from experiments.aspect_documents import __main__ as story
from experiments.aspect_documents import papers
from experiments.aspect_documents.papers import GENERIC, MERGED, RETROFIT, SEPARATE, TRUNK
from experiments.shared import results, text_models
from jaxembed import data

LABELS = np.array([[0, 1], [0, 2], [1, 1], [1, 2], [2, 3], [0, 3]])


def test_pairs_and_masks_are_those_of_the_asked_aspects():
    source = {"labels": LABELS, "inputs": np.arange(6)}
    rows = np.array([0, 1, 2, 4, 5])
    first = papers.pairs_of(source, rows, (0,), None)
    assert first.tolist() == [[0, 1], [0, 5], [1, 5]]
    merged = papers.pairs_of(source, rows, (0, 1), None)
    assert merged.tolist() == [[0, 1], [0, 2], [0, 5], [1, 5], [4, 5]]
    batch = papers.batches(source, [first, merged], [(0,), (0, 1)], 3, 2, 0)[0]
    assert batch["first"].shape == (2, 3) and batch["where"].shape == (2, 3, 3)
    for part, aspects in enumerate([(0,), (0, 1)]):
        for i, j in np.ndindex(3, 3):
            a, b = LABELS[batch["first"][part, i]], LABELS[batch["second"][part, j]]
            assert batch["where"][part, i, j] == (not any(a[x] == b[x] for x in aspects))


def test_neighbours_leave_the_document_itself_out_and_are_judged_by_hand():
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    ids = papers.neighbours(x, 2)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = unit @ unit.T - 9 * np.eye(6)
    np.testing.assert_array_equal(ids, np.argsort(-scores, axis=1)[:, :2])
    found = papers.judge(ids, LABELS[:, 0], 2)
    hits = [[LABELS[j, 0] == LABELS[i, 0] for j in ids[i]] for i in range(6)]
    kept = [i for i in range(6) if (LABELS[:, 0] == LABELS[i, 0]).sum() > 1]
    assert found["P"] == pytest.approx(np.mean([np.mean(hits[i]) for i in kept]))
    with pytest.raises(ValueError, match="labels: no two documents share one"):
        papers.judge(ids, np.arange(6), 2)


def table(own, generic, merged, trunk, other, overlap=0.1):
    def row(source, arm, vector, judged, value):
        runs = [
            {"P": value + s / 1000 * (1 + value), "in generic list": overlap + s / 1000} for s in range(5)
        ]
        return {"data": source, "arm": arm, "vector of": vector, "judged": judged, "runs": runs}

    names, rows = ("task", "method", "dataset"), []
    for i, a in enumerate(names):
        rows += [row("generated", GENERIC, "all", a, generic[i]), row("generated", MERGED, "all", a, merged)]
        for b in names:
            for arm, value in ((SEPARATE, own), (RETROFIT, own - 0.1), (TRUNK, trunk)):
                rows.append(row("generated", arm, a, b, value if a == b else other))
    return rows


def verdicts(rows):
    return [a["verdict"] for a in results.answered(story.CLAIMS, results.Result({"aspects": rows}))]


def test_claims_are_those_of_the_table():
    yes, no = results.REPRODUCED, results.NOT
    assert verdicts(table(0.9, (0.3, 0.1, 0.5), 0.5, 0.88, 0.05)) == [yes] * 7
    assert verdicts(table(0.9, (0.1, 0.3, 0.5), 0.85, 0.8, 0.6, 0.9)) == [yes, no, no, no, no, yes, no]


class Encoder:
    """Random vectors."""

    def encode_texts(self, texts, **_):
        return np.random.default_rng(0).normal(size=(len(texts), 16)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.experiment
def test_a_small_run_has_every_arm(monkeypatch, tmp_path):
    senses = [{"gloss": f"a {i}", "parents": [str(i % 20)], "file": i % 5} for i in range(400)]
    monkeypatch.setattr(text_models, "load", lambda folder: Encoder())
    monkeypatch.setattr(data, "wordnet", lambda parts: senses)
    cfg = story.Config(documents=160, glosses=400, folds=2, steps=2, batch_size=4, k=5, seeds=1)
    found = story.run(cfg)
    rows = found.tables["aspects"]
    assert len([r for r in rows if r["data"] == "generated"]) == 3 + 3 + 3 * 9
    assert len([r for r in rows if r["data"] == "WordNet"]) == 2 + 2 + 2 * 4
    cfg = story.flags.changed(cfg, results=tmp_path)
    path = results.finish("aspect_documents", "small", cfg, found, story.CLAIMS, story.figures, 1)
    assert [c["verdict"] for c in json.loads(path.read_text())["claims"]] == [None] * 8
    assert path.with_suffix(".png").stat().st_size > 10_000


def test_bad_flags_are_refused_in_one_line():
    with pytest.raises(ValueError, match="--glosses 5: choose 0, or at least 400"):
        story.Config(glosses=5)
    with pytest.raises(ValueError, match="--folds 1: choose 2 to 20"):
        story.Config(folds=1)
