"""Codes of finished vectors: each takes the bytes it says, and the whole of them finds what vectors find."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.shared import results
from experiments.vector_compression import __main__ as story
from experiments.vector_compression import codes
from jaxembed.arrays import unit

WIDTH, COUNT = 32, 300


@pytest.fixture(scope="module")
def texts():
    """Vectors of documents, and of queries near to the first of them."""
    documents = unit(jax.random.normal(jax.random.key(0), (COUNT, WIDTH)))
    noise = 0.4 * unit(jax.random.normal(jax.random.key(1), (COUNT, WIDTH)))
    queries, found = unit(documents + noise), {"documents": documents}
    for name, low, high in (("test", 0, 60), ("validation", 60, 90), ("train", 90, 210)):
        found[name] = queries[low:high], np.arange(low, high)
    return found


def test_large_codes_find_what_vectors_find_and_small_ones_less(texts):
    exact = codes.exact(texts, "test")
    assert exact > 0.95
    for way in (codes.FLOAT, codes.INT8):
        large, small = (codes.recall_of(way, texts, size, 0, "test") for size in (4 * WIDTH, 4))
        assert large > exact - 0.05 and small < large
    bits = [codes.recall_of(codes.BINARY, texts, size, 0, "test") for size in (32, 4, 1)]
    assert bits[0] >= bits[1] > bits[2]


def test_signs_of_all_coordinates_are_the_signs(texts):
    found = codes.decoded(codes.BINARY, texts, WIDTH // 8, 3)
    np.testing.assert_array_equal(found, jnp.where(texts["documents"] >= 0, 1.0, -1.0))


def test_training_codebooks_moves_them_towards_what_is_asked(texts, monkeypatch):
    monkeypatch.setitem(codes.CHOSEN, "steps", 30)
    plain, trained = (codes.decoded(way, texts, 4, 0) for way in ("PQ", "DPQ"))
    assert plain.shape == trained.shape == (COUNT, WIDTH) and (plain != trained).any()
    assert codes.decoded("PQ", texts, WIDTH, 0) is None and codes.decoded("PQ", texts, 5, 0) is None


def test_settings_differ_from_the_chosen_ones_in_one_and_are_asked_of_other_sentences(texts, monkeypatch):
    monkeypatch.setattr(codes, "CHOSEN", {"steps": 2, "rate": 1e-2, "softness": 0.01, "temperature": 0.05})
    monkeypatch.setattr(codes, "TRIED", {"steps": (2, 4), "rate": (1e-2, 0.1)})
    assert [sum(s[n] != codes.CHOSEN[n] for n in s) for s in codes.neighbours()] == [0, 1, 1]
    monkeypatch.setattr(
        codes, "recall_of", lambda *given, **settings: settings["rate"] * (given[4] != "test")
    )
    (best, *rest) = story.tried(story.Config(bytes=(384, 8, 4), seeds=1), texts)
    assert best["rate"] == best["recall@10"] == 0.1 and [row["recall@10"] for row in rest] == [0.01, 0.01]
    assert results.answered(story.CLAIMS, results.Result({"settings": [best]})) == []


def test_claims_follow_from_the_numbers():
    rows = [story.row_of("float32", 1536, [0.9]), story.row_of(codes.INT8, 384, [0.899])]
    rows += [story.row_of("PQ", 24, [0.8]), story.row_of("DPQ", 24, [0.85])]
    rows += [story.row_of(codes.BINARY, 24, [0.7]), story.row_of(codes.FLOAT, 24, [0.81])]
    said = results.answered(story.CLAIMS, results.Result({"recall": rows}))
    assert [r["ours"] for r in said] == pytest.approx([0.001, 0.5, 1.0])
    assert [r["verdict"] for r in said] == [results.REPRODUCED, results.PARTLY, results.REPRODUCED]


def test_seeds_are_spent_where_something_is_drawn():
    cfg = story.Config(seeds=4)
    assert len(story.seeds_of(cfg, "PQ")) == 4 and len(story.seeds_of(cfg, codes.INT8)) == 1


def test_bad_flags_are_named():
    with pytest.raises(ValueError, match="--queries 400: --documents 700; choose at most 200"):
        story.Config(documents=700)
