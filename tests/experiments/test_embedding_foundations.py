"""The experiment on foundations: bags, topics and codes on data whose answer is known, and its claims."""

import collections

import numpy as np
import pytest

from experiments.embedding_foundations import __main__ as story
from experiments.embedding_foundations import contexts, documents, words
from experiments.embedding_foundations.__main__ import ROWS, Config
from experiments.shared import results
from jaxembed import data

Words = collections.namedtuple("Words", ["words", "vectors"])


@pytest.mark.slow
def test_planted_topics_are_found():
    found = documents.planted_topics(Config(documents=800), 0, topics=4, words=80)
    assert found["ours"] < 0.2 < 0.6 < found["beside"]


def test_language_models_are_asked_known_words_alone():
    ids = np.array([[5, 0, 7, 9, 4, 6, 0, 8]] * 50)
    batch = contexts.batch_of(np.random.default_rng(0), ids, contexts.MASKED)
    assert (batch["ids"] != ids).sum() <= batch["where"].sum() and (ids[batch["where"]] > 1).all()
    assert 0.1 < batch["where"].mean() < 0.2
    batch = contexts.batch_of(None, ids, contexts.CAUSAL)
    np.testing.assert_array_equal(batch["words"][0], ids[0, 1:])
    np.testing.assert_array_equal(batch["where"][0], ids[0, 1:] > 1)
    assert batch["ids"].shape == batch["words"].shape == (50, 7)


def test_a_model_of_both_sides_reads_letters_and_learns(monkeypatch):
    ids = np.array([[2, 3, 2, 3, 2, 3]] * 8, np.int32)
    known = ["cat", "dog", *(f"w{i}" for i in range(contexts.VOCABULARY - 2))]
    even = np.full(contexts.VOCABULARY + 2, -np.log(contexts.VOCABULARY), np.float32)
    monkeypatch.setattr(contexts, "sentences", lambda: (ids, ids, even, known))
    contexts.model.cache_clear()
    try:
        found = contexts.both(Config(steps=30), 0)
    finally:
        contexts.model.cache_clear()
    assert found["beside"] == pytest.approx(np.log(contexts.VOCABULARY), rel=1e-5)
    assert found["ours"] < 0.5  # each word tells its neighbours


def test_a_mix_of_layers_learns_the_layer_that_tells():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 400)
    layers = np.stack([rng.normal(size=(400, 24)), np.pad(np.eye(20)[labels], ((0, 0), (0, 4)))], axis=1)
    params = contexts.fit_mix(layers, labels)
    assert params["mix"][1] > params["mix"][0] + 0.5
    assert (np.asarray(contexts.told(params, layers)).argmax(axis=1) == labels).mean() > 0.95


def test_named_rows_run_alone(monkeypatch):
    monkeypatch.setitem(ROWS, "sif", ("14", "x", "y", "z", lambda cfg, seed: {"ours": seed, "beside": 0}))
    (row,) = story.run(Config(rows=("sif",), seeds=3)).tables["foundations"]
    assert row["ours"] == 1 and row["± ours"] == 1 and len(row["runs"]) == 3


def verdicts(ours, beside):
    rows = [
        {"name": name, "runs": [{"ours": ours[name] + 0.001 * s, "beside": beside[name]} for s in range(5)]}
        for name in ROWS
    ]
    found = results.answered(story.CLAIMS, results.Result({"foundations": rows}))
    return [row["verdict"] for row in found]


def test_claims_hold_for_what_the_formulas_promise_and_fail_for_the_opposite():
    good = {name: 0.5 for name in ROWS} | {"topics": -6.0, "planted": 0.1, "aligned": 0.95, "refined": 0.95}
    nats = {"masked", "causal", "both-sides"}
    good |= dict.fromkeys(nats, 0.1)
    plain = {name: 0.2 for name in ROWS} | {"topics": -6.1, "aligned": 0.0}
    assert set(verdicts(good, plain)) == {results.REPRODUCED}
    bad = {name: 0.1 for name in ROWS} | {"topics": -9.0, "planted": 0.5} | dict.fromkeys(nats, 0.5)
    assert set(verdicts(bad, plain)) == {results.NOT}


def test_few_words_grow_into_an_alignment_of_two_trainings(monkeypatch):
    rng = np.random.default_rng(1)
    x, turn = rng.normal(size=(160, 12)), np.linalg.qr(rng.normal(size=(12, 12)))[0]
    made = [Words(None, x), Words(None, x @ turn + 0.3 * rng.normal(size=x.shape))]
    monkeypatch.setattr(words, "trained", lambda seed, count: made[seed])
    found = words.refined(Config(), 0, frequent=40, known=12)
    assert found["ours"] > 0.9 > 0.85 > found["beside"]
    found = words.aligned(Config(), 0, frequent=40)
    assert found["ours"] > 0.9 > 0.2 > found["beside"]


def test_factors_and_shares_of_topics_tell_groups(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.array([0, 1] * 60)
    chance = np.where(labels[:, None] == np.arange(40) // 20, 1, 0.1)
    texts = [[int(w) for w in rng.choice(40, 30, p=row / row.sum())] for row in chance]
    parts = [(data.word_bags(texts[s], range(40)), labels[s]) for s in (slice(80), slice(80, 120))]
    monkeypatch.setattr(documents, "news", lambda count, seed: (parts, range(40)))
    documents.newsgroup_topics.cache_clear()
    try:
        found = documents.factors(Config(topics=2), 0), documents.proportions(Config(), 0)
    finally:
        documents.newsgroup_topics.cache_clear()
    assert min(row["ours"] for row in found) > 0.9 and found[0]["beside"] > 0.9


def test_an_unknown_row_is_one_line():
    with pytest.raises(ValueError, match="^--rows elmo: is none of bags, "):
        Config(rows=("elmo",))
