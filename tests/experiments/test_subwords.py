"""The experiment on subwords: what each feature reads, n-grams in any script, the claims of its table."""

import copy
import json

import numpy as np
import pytest
from models import write_model

from experiments.benchmarks import timing
from experiments.shared import results
from experiments.subwords import __main__ as story
from experiments.subwords import classifiers, features
from experiments.subwords.__main__ import Config
from experiments.subwords.features import CODED, CONTEXT, EMBEDDED, FASTTEXT, FIRST, PIECES, TABLE, WORDS
from jaxembed import encoders, metrics


def test_no_special_token_is_in_a_mean_and_a_table_forgets_the_order(tmp_path):
    encoder = encoders.pretrained.load(write_model(tmp_path / "model"))
    texts = ["w5 w6 w7", "w7 w5 w6", "w9", ""]
    found = features.of_encoder(encoder, texts, 16, rows=3)
    table = np.asarray(encoder.params["table"]["embedding"], np.float32)
    ids = [encoder.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    wanted = np.stack([table[row].mean(axis=0) if row else 0 * table[0] for row in ids])
    np.testing.assert_allclose(found[TABLE], wanted, atol=1e-5)
    np.testing.assert_allclose(found[TABLE][0], found[TABLE][1], atol=1e-6)
    assert np.abs(found[CONTEXT][0] - found[CONTEXT][1]).max() > 1e-3
    tokens = encoder.hidden(encoder.params, encoder.tokenize(texts, prompt=""))["tokens"]
    np.testing.assert_allclose(found[CONTEXT][0], np.asarray(tokens)[0, 1:4].mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(found[FIRST][0], np.asarray(tokens)[0, 0], atol=1e-3)
    assert found[EMBEDDED].shape == found[CONTEXT].shape and not found[CONTEXT][3].any()


HINDI = {"खेल": ["मैच", "टीम", "खिलाड़ी", "गोल"], "देश": ["सरकार", "मंत्री", "संसद", "नीति"]}


def lines(count, seed):
    """Texts in Devanagari, of which every other one has words that occur once, with endings of their own."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        label = sorted(HINDI)[i % 2]
        words = list(rng.choice(HINDI[label], 5))
        yield label, " ".join(words) + f" {words[0]}ओं"


@pytest.mark.slow
def test_a_run_on_texts_of_ones_own_in_devanagari(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    rows = [f"__label__{label} {text}" for label, text in lines(60, 0)]
    (folder / "hindi.txt").write_text("\n".join(rows), encoding="utf-8")
    rows = ["label\ttext", *(f"{label}\t{text}" for label, text in lines(60, 1))]
    (folder / "more.tsv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "notes.md").write_text("not read")
    cfg = Config(texts=folder, width=8, seeds=1, folds=2, epochs=2, buckets=200)
    found = story.run(cfg).tables["features"]
    assert {row["task"] for row in found} == {"hindi.txt", "more.tsv"}
    assert {row["arm"] for row in found} == {FASTTEXT, WORDS}
    assert all(0 < row["words known"] <= 1 and 0 <= row["macro-F1"] <= 1 for row in found)
    assert [row["width"] for row in found[:2]] == [8, 2]
    json.dumps(found)


def test_ngrams_give_unseen_words_a_vector_and_words_alone_do_not():
    lists = [text.split() for _, text in lines(60, 0)]
    given = {"width": 8, "epochs": 1, "buckets": 200}
    both = [features.train(lists, ngrams=n, **given) for n in ((3, 6), None)]
    unseen = [["सरकारें", "unknown"], []]
    with_ngrams, without = (words.text_vectors(unseen) for words in both)
    assert with_ngrams[0].any() and not without.any() and not with_ngrams[1].any()
    known = both[1].text_vectors([["सरकार", "unknown"]])[0]
    assert np.linalg.norm(known) == pytest.approx(1, abs=1e-5)  # unknown words are not counted


def test_quantised_rows_keep_words_near_what_they_were():
    lists = [text.split() for _, text in lines(400, 0)]
    words = features.train(lists, width=8, epochs=1, buckets=300, ngrams=(3, 6))
    coded = features.quantised(words, 2)
    error = np.linalg.norm(coded.vectors - words.vectors) / np.linalg.norm(words.vectors)
    assert 0 < error < 0.5
    assert features.size_in_mb(words) == 8 * features.size_in_mb(words, 2)


def rows(**arms):
    """A table of two tasks with one number for each arm, (full, compressed)."""
    return [
        {
            "task": task,
            "arm": arm,
            "compressed": narrow,
            "runs": [[value + 0.01 * fold for fold in range(15)]],
        }
        for task in ("one", "two")
        for arm, pair in arms.items()
        for narrow, value in zip((False, True), pair, strict=True)
    ]


def verdicts(table):
    found = results.answered(story.CLAIMS, results.Result({"features": table}))
    return [row["verdict"] for row in found]


def test_claims_hold_for_the_order_of_the_paper_and_fail_for_another():
    names = {CONTEXT: (0.8, 0.75), TABLE: (0.6, 0.4), FASTTEXT: (0.5, 0.3), PIECES: (0.4, 0.3)}
    assert verdicts(rows(**names)) == [results.REPRODUCED] * 5
    turned = {CONTEXT: (0.4, 0.1), TABLE: (0.5, 0.45), FASTTEXT: (0.6, 0.3), PIECES: (0.7, 0.3)}
    assert verdicts(rows(**turned)) == [results.NOT] * 5
    few = [row for row in rows(**names) if row["task"] == "one"]
    assert verdicts(few) == []  # one task says nothing


def test_the_classifier_is_judged_in_the_folds_of_the_features(monkeypatch):
    given = [(text, label) for label, text in lines(60, 0)]
    monkeypatch.setattr(features, "tasks", lambda count: {"hindi": tuple(zip(*given, strict=True))})
    monkeypatch.setattr(timing, "optional", lambda name: None)
    table = classifiers.compare(Config(width=8, seeds=2, folds=3, buckets=300))
    assert [row["reads"] for row in table] == list(classifiers.LONGEST)
    assert all(np.shape(row["runs"]) == (2, 3) and row["macro-F1"] == 1 for row in table)
    texts, labels = zip(*given, strict=True)
    asked = []

    def tell(known, labels, texts, seed):
        asked.append(texts)
        return ["x"] * len(texts)

    classifiers.judged(Config(seeds=1, folds=3), tell, texts, labels)
    parts = metrics.stratified_folds([label == "खेल" for label in labels], folds=3)
    assert sorted(map(len, asked)) == sorted(np.bincount(parts))


@pytest.mark.peers
def test_fasttexts_own_program_tells_labels():
    given = list(lines(60, 0))
    known, labels = [text.split() for _, text in given], [label for label, _ in given]
    program = pytest.importorskip("fasttext")
    told = classifiers.there(program, Config(width=8, buckets=300), known, labels, known, 2, 0)
    assert told == labels


def test_claims_about_the_classifier_compare_runs_of_one_task():
    def row(reads, arm, value):
        return {"task": "one", "reads": reads, "arm": arm, "runs": [[value + 0.01 * f for f in range(5)]]}

    one, two = classifiers.LONGEST
    table = {
        "classifiers": [row(one, "jaxembed", 0.5), row(one, "fasttext", 0.51), row(two, "jaxembed", 0.6)]
    }
    assert classifiers.near(table).verdict == classifiers.pairs_help(table).verdict == results.REPRODUCED
    table["classifiers"][1] = row(one, "fasttext", 0.53)
    assert classifiers.near(table).verdict == results.NOT
    assert classifiers.near({}) is None and classifiers.pairs_help({}) is None


def test_bad_texts_and_settings_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="^--texts .*: holds no .csv, .tsv or .txt file"):
        features.own(tmp_path)
    with pytest.raises(ValueError, match="^texts: fewer than two labels have 10 texts or more"):
        features.chosen([("a", "x")] * 20 + [("b", "y")] * 3, 100)
    with pytest.raises(ValueError, match="^--group 3: does not divide --width 100"):
        Config(group=3)


def test_a_run_that_chooses_settings_asks_no_claim():
    assert not results.answered(story.CLAIMS, results.Result({"settings": [{"arm": FASTTEXT}]}))


def test_settings_are_tried_on_texts_of_their_own_and_kept_after_each_step(monkeypatch):
    given = [(text, label) for label, text in lines(80, 0)]
    parts = []

    def tasks(count, part=0):
        parts.append(part)
        return {"hindi": tuple(zip(*given, strict=True))}

    monkeypatch.setattr(features, "corpus", lambda most: [text.split() for text, _ in given])
    monkeypatch.setattr(features, "tasks", tasks)
    monkeypatch.setattr(story, "TRIED", {"epochs": (1, 2), "group": (2, 4)})
    cfg = Config(validate=True, width=8, epochs=2, seeds=2, folds=2, buckets=300)
    first, last = (len(found.tables["settings"]) for found in map(copy.deepcopy, story.run(cfg)))
    assert (first, last) == (1, 4) and parts == [1]
    rows = [(row["arm"], row["epochs"], row["group"]) for row in list(story.run(cfg))[-1].tables["settings"]]
    assert rows == [(FASTTEXT, 1, None), (FASTTEXT, 2, None), (CODED, 2, 2), (CODED, 2, 4)]
