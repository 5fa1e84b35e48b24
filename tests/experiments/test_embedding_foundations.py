"""The experiment on foundations: bags, topics and codes on data whose answer is known, and its claims."""

import numpy as np
import pytest

from experiments.embedding_foundations import __main__ as story
from experiments.embedding_foundations import contexts, documents, words
from experiments.embedding_foundations.__main__ import NUMBERS, ROWS, Config
from experiments.shared import results


@pytest.mark.slow
def test_planted_topics_are_found():
    found = documents.planted_topics(Config(documents=800), 0, topics=4, words=80)
    assert found["ours"] < 0.2 < 0.6 < found["beside"]


def test_a_linear_value_goes_beyond_the_numbers_that_were_seen():
    found = words.numbers(0)
    assert found.keys() == words.KINDS.keys()
    assert min(row["within"] for row in found.values()) > 0.95
    assert found["value"]["beyond"] == pytest.approx(1, abs=1e-3) and found["digits"]["beyond"] < 0


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
    table = story.run(Config(rows=(NUMBERS,), seeds=2)).tables
    assert [row["code"] for row in table["numbers"]] == list(words.KINDS) and "foundations" not in table
    monkeypatch.setitem(ROWS, "sif", ("14", "x", "y", "z", lambda cfg, seed: {"ours": seed, "beside": 0}))
    (row,) = story.run(Config(rows=("sif",), seeds=3)).tables["foundations"]
    assert row["ours"] == 1 and row["± ours"] == 1 and len(row["runs"]) == 3


def verdicts(ours, beside, codes):
    rows = [
        {"name": name, "runs": [{"ours": ours[name] + 0.001 * s, "beside": beside[name]} for s in range(5)]}
        for name in ROWS
    ]
    numbers = [
        {"code": code, "runs": [{"beyond": value + 0.001 * s} for s in range(5)]}
        for code, value in codes.items()
    ]
    tables = {"foundations": rows, "numbers": numbers}
    return [row["verdict"] for row in results.answered(story.CLAIMS, results.Result(tables))]


def test_claims_hold_for_what_the_formulas_promise_and_fail_for_the_opposite():
    good = {name: 0.5 for name in ROWS} | {"topics": -6.0, "planted": 0.1, "aligned": 0.95}
    nats = {"masked", "causal", "both-sides"}
    good |= dict.fromkeys(nats, 0.1)
    plain = {name: 0.2 for name in ROWS} | {"topics": -6.1, "aligned": 0.0}
    assert set(verdicts(good, plain, {"value": 1.0, "digits": -9.0})) == {results.REPRODUCED}
    bad = {name: 0.1 for name in ROWS} | {"topics": -9.0, "planted": 0.5} | dict.fromkeys(nats, 0.5)
    assert set(verdicts(bad, plain, {"value": -9.0, "digits": 1.0})) == {results.NOT}


def test_an_unknown_row_is_one_line():
    with pytest.raises(ValueError, match="^--rows elmo: is none of bags, "):
        Config(rows=("elmo",))
