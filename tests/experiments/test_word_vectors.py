"""The experiment on word vectors: texts of a budget, the measure, claims; its benchmark beside gensim."""

import numpy as np
import pytest

from experiments.benchmarks import words as benchmark
from experiments.shared import plots, results
from experiments.word_vectors import __main__ as story
from experiments.word_vectors import analogies, corpora, documents, gains, measure
from jaxembed import data, recipes


def test_texts_are_cut_at_a_budget_of_words_and_mixed_the_same_way():
    texts = [["a"] * 3, ["b"] * 4, ["c"]]
    assert [corpora.cut(texts, n) for n in (2, 3, 7, 9)] == [[], texts[:1], texts[:2], texts]
    domains = {"x": [["a"], ["b"]], "y": [["c"]]}
    assert corpora.mixed(domains) == corpora.mixed(dict(reversed(domains.items())))
    assert sorted(corpora.mixed(domains)) == [["a"], ["b"], ["c"]]


def test_accuracy_of_topics_reads_mean_vectors(monkeypatch):
    rng = np.random.default_rng(0)
    names = [f"w{i}" for i in range(20)]
    labels = np.tile(np.arange(20), 5)
    texts = {"words": [[names[y]] * 3 + ["unknown"] for y in labels], "labels": labels}
    monkeypatch.setattr(measure, "posts", lambda split: texts)
    assert measure.topic_accuracy(recipes.Words(names, rng.normal(size=(20, 16)).astype(np.float32))) == 1
    same = recipes.Words(names, np.ones((20, 16), np.float32))
    assert measure.topic_accuracy(same) == 1 / 20


def rows_of(gensim, simple, small, rcnn):
    """Tables of five seeds with chosen differences."""
    seeds = range(5)
    jitter = [0.0, 0.001, -0.001, 0.002, -0.002]
    pairs = [
        {"arm": arm, "seed": s, **dict.fromkeys(story.SETS, value + jitter[s] * (arm == story.OURS))}
        for arm, value in ((story.OURS, 0.3 + gensim), (story.PEER, 0.3))
        for s in seeds
    ]
    models = [
        {"arm": kind, "seed": s, "WordSim-353": 0.2 + jitter[s] + simple * (kind in story.SIMPLE)}
        for kind in (*story.SIMPLE, *story.COMPLEX)
        for s in seeds
    ]
    values = {(corpora.NEWS, "small"): 0.5 + small, (corpora.NEWS, "large"): 0.6 + small}
    values |= {("other", "small"): 0.4, ("other", "large"): 0.5}
    texts = [
        {"domain": d, "size": size, "seed": s, "accuracy": value + jitter[s] * (d == corpora.NEWS)}
        for (d, size), value in values.items()
        for s in seeds
    ]
    found = {documents.CNN: 0.8, documents.RCNN: 0.8 + rcnn, documents.MEAN: 0.7}
    classifiers = [
        {"classifier": name, "runs": [{"macro-F1": value + jitter[s] * len(name)} for s in seeds]}
        for name, value in found.items()
    ]
    order = [
        {"classifier": n, "accuracy": a} for n, a in ((documents.CNN, 0.6), (documents.RCNN, 0.5 + rcnn))
    ]
    return {"classifiers": classifiers, "order": order}, {
        "seeds_gensim": pairs,
        "seeds_models": models,
        "seeds_texts": texts,
    }


def test_claims_read_the_rows():
    found = results.answered(story.CLAIMS, results.Result(*rows_of(-0.01, 0.05, 0.05, 0.5)))
    assert [row["verdict"] for row in found] == [results.REPRODUCED] * 6
    found = results.answered(story.CLAIMS, results.Result(*rows_of(-0.03, -0.05, 0.0, -0.1)))
    wrong = [row["verdict"] for row in found]
    assert wrong == [results.NOT] * 3 + [results.REPRODUCED] + [results.NOT] * 2


def test_without_gensim_its_claim_is_not_asked():
    tables, seeds = rows_of(0, 0.05, 0.05, 0.5)
    seeds["seeds_gensim"] = [row for row in seeds["seeds_gensim"] if row["arm"] == story.OURS]
    assert len(results.answered(story.CLAIMS, results.Result(tables, seeds))) == 5


def test_benchmark_compares_rates_and_quality():
    rows = [
        {
            "task": benchmark.SKIP_GRAM,
            "arm": arm,
            "seed": s,
            "words/s": rate + s,
            **dict.fromkeys(benchmark.SETS, q),
        }
        for arm, rate, q in ((benchmark.OURS, 200, 0.3), (benchmark.PEER, 100, 0.25))
        for s in (-1, 0, 1)
    ]
    counted = [
        {"task": "the vocabulary", "arm": arm, benchmark.COUNTED: rate}
        for arm, rate in ((benchmark.OURS, 4.0), (benchmark.PEER, 2.0))
    ]
    found = benchmark.summary(None, benchmark.means(rows) + counted)
    assert [row["ratio"] for row in found] == [2.0, 2.0, 1.2, 1.2]
    assert found[1]["task"] == "skip-gram, words/s"


def test_analogies_of_both_kinds_and_the_questions_that_a_table_lacks(monkeypatch, tmp_path):
    questions = [("man", "king", "woman", "queen"), ("Athens", "Greece", "Oslo", "Norway")]
    source = {"questions": [*questions, ("big", "bigger", "old", "older")]}
    source["sections"] = ["family", analogies.SHOWN, "gram3-comparative"]
    monkeypatch.setattr(data, "word_questions", lambda: source)
    words = ["Man", "king", "woman", "queen", "athens", "greece", "queen"]
    table = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [0.5, 0, 0.1], [0, 0.3, 0], [9, 9, 9.0]])
    rows = analogies.answered({"arm": (words, table)})
    assert [(row["kind"], row["questions"], row["missing"]) for row in rows] == [
        ("semantic", 1, 1),
        ("syntactic", 0, 1),
    ]
    assert rows[0]["3CosAdd"] == rows[0]["3CosMul"] == 1.0 and "3CosAdd" not in rows[1]
    shown = analogies.places(words, table)
    assert shown["pairs"] == [("Athens", "Greece")] and np.shape(shown["places"]) == (1, 2, 2)
    plots.write(tmp_path / "shown.png", analogies.draw(shown))
    assert (tmp_path / "shown.png").stat().st_size > 1000


def test_judged_pairs_of_ones_own_are_a_column(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "SETS", {})
    path = tmp_path / "mine.tsv"
    path.write_text("man king 3\nking queen 9\nman yak 2\n")
    table = np.array([[1, 0], [0.4, 1], [0.3, 1.0]])
    assert measure.similarity(["man", "king", "queen"], table, path) == {"mine": pytest.approx(1)}


def test_gains_are_shares_of_the_best_models_gain_over_random_vectors():
    rows = [
        {"arm": arm, "seed": seed, "a": value + seed, "b": 0.1}
        for arm, value in (("x", 2.0), ("y", 4.0))
        for seed in (0, 1)
    ]
    random = [{"a": 0.0, "b": 0.5}, {"a": 1.0, "b": 0.5}]
    x, y = gains.table(rows, random, ("a", "b"))
    assert x["a"] == pytest.approx(0.5) and y["a"] == pytest.approx(1)
    assert y["± a"] == pytest.approx(np.sqrt(2) / 8)
    assert np.isnan(x["b"])  # where the best model gains nothing


def test_models_are_asked_for_synonyms_of_wordnet_and_of_a_file(monkeypatch, tmp_path):
    words = [f"w{a}{b}" for b in "abcde" for a in "xyz"]
    senses = [{"lemmas": [w for w in words if w[2] == b]} for b in "abcde"]
    monkeypatch.setattr(data, "wordnet", lambda: senses)
    monkeypatch.setattr(measure, "similarity", lambda words, vectors, pairs: {"WordSim-353": 0.0})
    (tmp_path / "toefl.txt").write_text("wxa | wya | wzb\nwxa | wyb | wzb\n")
    near = np.repeat(np.eye(5), 3, axis=0).astype(np.float32)
    cfg = story.Config(choices=tmp_path / "toefl.txt", seeds=2, narrow=5)
    found = gains.by_model(cfg, words, ["cbow"], lambda seed, kind, **o: recipes.Words(words, near))
    assert [row["synonyms"] for row in found["seeds_models"]] == [1, 1]
    assert all(row["toefl"] == 0.75 for row in found["seeds_models"])  # equal cosines share an answer
    assert all(row["synonyms"] < 0.8 for row in found["seeds_random"])
