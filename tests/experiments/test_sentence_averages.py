"""The experiment on averages of words: the four ways, files of pairs, and its claims."""

import numpy as np
import pytest

from experiments.sentence_averages import __main__ as story
from experiments.sentence_averages import texts
from experiments.sentence_averages.__main__ import Config
from experiments.shared import results

RNG = np.random.default_rng(0)
WORDS = [a + b for a in "abcdef" for b in "uvxyz"]
TABLE = {
    "rows": {word: 29 - i for i, word in enumerate(WORDS)},
    "vectors": RNG.normal(size=(30, 6)).astype(np.float32) + 2,
    "shares": RNG.dirichlet(np.ones(30)),
}
LISTS = [[WORDS[i] for i in RNG.integers(0, 30, 5)] + ["unknown"] for _ in range(12)] + [[]]


def test_the_four_ways_are_their_loops():
    rows = [[TABLE["rows"][w] for w in text if w in TABLE["rows"]] for text in LISTS]
    found = texts.averages(TABLE, LISTS, 0.1, fitted=8)
    assert tuple(found) == texts.WAYS
    for plain, removed, smoothing in ((texts.MEAN, texts.REMOVED, 1e12), (texts.WEIGHTED, texts.SIF, 0.1)):
        x = np.zeros((13, 6))
        for i, row in enumerate(rows):
            for r in row:
                x[i] += smoothing / (smoothing + TABLE["shares"][r]) * TABLE["vectors"][r] / len(row)
        np.testing.assert_allclose(found[plain], x, atol=1e-5)
        direction = np.linalg.svd(x[:8])[2][0]
        np.testing.assert_allclose(found[removed], x - np.outer(x @ direction, direction), atol=1e-4)


def test_pairs_of_sick_and_of_any_file_are_read(tmp_path):
    head = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_label\tSemEval_set\n"
    lines = "1\tA dog\tThe cat\t4.5\tNEUTRAL\tTEST\n2\ta\tb\t1\tNEUTRAL\tTRAIN\n"
    (tmp_path / "SICK.txt").write_text(head + lines)
    (tmp_path / "msr.tsv").write_text("A dog\tThe cat\t4.5\n")
    head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    (tmp_path / "msr_paraphrase_test.txt").write_text(f"{head}4.5\t7\t8\tA dog\tThe cat\n", encoding="utf-8")
    head = "index\tgenre\tsentence1\tsentence2\tscore\n"
    (tmp_path / "dev.tsv").write_text(f"{head}0\tnews\tA dog\tThe cat\t4.5\n")
    for name in ("SICK.txt", "msr.tsv", "msr_paraphrase_test.txt", "dev.tsv"):
        lists, scores = texts.judged(tmp_path / name)
        assert lists == [["a", "dog"], ["the", "cat"]] and scores.tolist() == [4.5]
    (tmp_path / "plain.tsv").write_text("A dog\tThe cat\n")
    with pytest.raises(ValueError, match="--pairs .*: holds no scores; give them in a third column"):
        texts.judged(tmp_path / "plain.tsv")
    (tmp_path / "equal.tsv").write_text("A dog\tThe cat\t2\n" * 12)
    with pytest.raises(ValueError, match="--pairs .*: all scores are 2; give some that differ"):
        story.look(Config(pairs=tmp_path / "equal.tsv"))
    with pytest.raises(ValueError, match="^texts: none of their words has a vector"):
        texts.averages(TABLE, [["unknown"], []], 0.1, fitted=2)


def test_pairs_are_correlated_with_their_scores(tmp_path):
    rows = [(f"{WORDS[i]} {WORDS[j]}", f"{WORDS[j]} {WORDS[k]}") for i, j, k in RNG.integers(0, 30, (40, 3))]
    x = texts.averages(TABLE, [r.split() for pair in zip(*rows, strict=True) for r in pair], 1e-3, fitted=80)
    unit = {way: v / np.linalg.norm(v, axis=1, keepdims=True) for way, v in x.items()}
    scores = np.sum(unit[texts.SIF][:40] * unit[texts.SIF][40:], axis=1)
    lines = (f"{a}\t{b}\t{score}\n" for (a, b), score in zip(rows, scores, strict=True))
    (tmp_path / "a.tsv").write_text("".join(lines))
    found = {row["way"]: row for row in story.by_pairs(Config(pairs=tmp_path / "a.tsv"), TABLE)}
    assert found[texts.SIF]["Pearson"] == pytest.approx(1, abs=1e-4) and len(found[texts.SIF]["runs"]) == 2
    assert found[texts.MEAN]["Pearson"] < 0.999


def test_posts_are_told_by_their_neighbours(monkeypatch):
    labels = np.array([0, 1] * 150)
    lists = [[WORDS[i] for i in RNG.integers(0, 15, 6) + 15 * label] for label in labels]
    monkeypatch.setattr(texts, "posts", lambda split: (lists, labels))
    rows = story.by_posts(Config(documents=150, seeds=2), TABLE)
    assert [row["way"] for row in rows] == list(texts.WAYS)
    assert all(row["10-neighbour accuracy"] > 0.7 for row in rows)


def verdicts(values):
    rows = {
        name: [
            {"way": way, "runs": {m: [value + 0.001 * s for s in range(5)]}}
            for way, value in zip(texts.WAYS, values, strict=True)
        ]
        for name, m in (story.POSTS, story.PAIRS)
    }
    return [row["verdict"] for row in results.answered(story.CLAIMS, results.Result(rows))]


def test_claims_hold_for_what_the_paper_promises_and_fail_for_the_opposite():
    assert set(verdicts([0.1, 0.2, 0.3, 0.4])) == {results.REPRODUCED}
    assert set(verdicts([0.4, 0.3, 0.2, 0.1])) == {results.NOT}
    found = results.answered(story.CLAIMS, results.Result({}))
    assert all(row["verdict"] is None for row in found)
