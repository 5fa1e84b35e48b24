"""A cut-off is learned from judged candidates, cuts the hits of a search, and refuses what it cannot use."""

import jax.numpy as jnp
import numpy as np
import pytest
from models import write_model

from jaxembed import data, encoders, metrics, recipes

DRAWN = data.toy.relevance_scores(0, queries=300, candidates=30)
JUDGED = DRAWN["queries"], DRAWN["scores"], DRAWN["labels"]
SMALL = {"kind": "linear", "hidden": (8,), "epochs": 10}


def test_an_adapter_beats_one_map_and_keeps_the_order_of_each_query():
    other = data.toy.relevance_scores(0, queries=400, candidates=30)
    asked = {name: x[300:] for name, x in other.items()}
    known = [other[name][:300] for name in ("queries", "scores", "labels")]
    platt = recipes.fit_cutoff(*known, kind="linear", hidden=None)
    learned = recipes.fit_cutoff(*known, kind="linear", hidden=(16,), rate=0.03, epochs=40)
    areas = []
    for cutoff in (platt, learned):
        logits = recipes.cutoff_logits(cutoff, asked["queries"], asked["scores"])
        areas.append(metrics.pr_auc(asked["labels"], logits))
        np.testing.assert_array_equal(np.argsort(logits, axis=1), np.argsort(asked["scores"], axis=1))
    assert areas[0] == pytest.approx(metrics.pr_auc(asked["labels"], asked["scores"]), abs=1e-6)
    assert areas[1] > areas[0] + 0.05


@pytest.mark.parametrize("kind", ["temperature", "offset", "linear", "square_root", "quadratic", "power"])
def test_every_kind_starts_at_one_map_and_its_threshold_keeps_the_recall(kind):
    scores = JUDGED[1] - 0.6 * (kind == "temperature")  # which has no b, so that 0 must be the middle
    cutoff = recipes.fit_cutoff(JUDGED[0], scores, JUDGED[2], kind=kind, hidden=None, recall=0.9)
    logits = recipes.cutoff_logits(cutoff, JUDGED[0], scores)
    np.testing.assert_array_equal(np.argsort(logits, axis=1), np.argsort(JUDGED[1], axis=1))
    kept = (logits >= cutoff["threshold"])[JUDGED[2]].mean()
    assert 0.85 < kept < 0.95 and cutoff["recall"] == 0.9


def test_platt_scaling_is_the_cutoff_without_a_network():
    cutoff = recipes.fit_cutoff(*JUDGED, kind="linear", hidden=None, share=0.01, seed=3)
    trained = np.random.default_rng(3).permutation(300)[3:]
    theta = metrics.fit_platt(JUDGED[2][trained], JUDGED[1][trained])
    wanted = metrics.score_map(JUDGED[1], theta.astype(np.float32), kind="linear", positive_slope=False)
    np.testing.assert_allclose(recipes.cutoff_logits(cutoff, *JUDGED[:2]), wanted, atol=1e-3)


def test_padding_never_matters():
    where = np.random.default_rng(0).random(JUDGED[1].shape) < 0.8
    found = [
        recipes.fit_cutoff(JUDGED[0], np.where(where, JUDGED[1], x), JUDGED[2], where=where, **SMALL)
        for x in (0.0, np.nan)
    ]
    assert found[0]["threshold"] == found[1]["threshold"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return encoders.pretrained.load(write_model(tmp_path_factory.mktemp("models") / "bert"))


TEXTS = ["w5 w6", "w7 w8 w9", "w10", "w5 w7", "w11 w12"]


@pytest.mark.parametrize("fused", [False, True])
def test_a_search_returns_what_is_above_the_threshold(encoder, fused):
    plain = recipes.search(encoder, TEXTS, ["w7 w8", "w12"], k=5, fused=fused)
    cosines = recipes.search(encoder, TEXTS, ["w7 w8", "w12"], k=5)
    cosine = [{hit["row"]: hit["score"] for hit in hits} for hits in cosines]
    middle = float(np.median([x for found in cosine for x in found.values()]))
    width = encoder.width
    bias = jnp.array([np.log(np.expm1(10.0)), -10 * middle], jnp.float32)  # logit = 10 (cosine - middle)
    cutoff = {"kind": "linear", "centre": 0.0, "scale": 1.0, "threshold": 1e-4}
    cutoff["params"] = {"layer_0": {"kernel": jnp.zeros((width, 2)), "bias": bias}}
    found = recipes.search(encoder, TEXTS, ["w7 w8", "w12"], k=5, fused=fused, cutoff=cutoff)
    for hits, before, known in zip(found, plain, cosine, strict=True):
        assert [h["row"] for h in hits] == [h["row"] for h in before if known[h["row"]] > middle + 1e-5]
        for hit in hits:
            wanted = 1 / (1 + np.exp(-10 * (known[hit["row"]] - middle)))
            assert hit["relevance"] == pytest.approx(wanted, abs=1e-4)
    assert 0 < sum(map(len, found)) < 10
    nothing = recipes.search(encoder, TEXTS, ["w12"], k=5, fused=fused, cutoff=cutoff | {"threshold": 99.0})
    assert nothing == [[]]


BROKEN = np.where(np.arange(32) == 3, np.nan, JUDGED[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recipes.fit_cutoff(*JUDGED, kind="raw"), "kind: 'raw'; choose one of temperature, offset"),
        (lambda: recipes.fit_cutoff(BROKEN, *JUDGED[1:]), "queries: row 0 is not finite; drop it"),
        (
            lambda: recipes.fit_cutoff(JUDGED[0], JUDGED[1] * np.nan, JUDGED[2]),
            "scores: hold NaN or an infinity",
        ),
        (lambda: recipes.fit_cutoff(*JUDGED[:2], 0 * JUDGED[2]), "labels: only negatives"),
        (lambda: recipes.fit_cutoff(*JUDGED[:2], 1 | JUDGED[2]), "labels: only positives"),
        (lambda: recipes.fit_cutoff(*JUDGED, recall=2), "recall: 2 is outside 0..1"),
        (lambda: recipes.fit_cutoff(*JUDGED, share=0), "share: 0 is outside 0..1"),
        (lambda: recipes.fit_cutoff(*(x[:1] for x in JUDGED)), "queries: 1 are too few for a share of 0.25"),
        (
            lambda: recipes.fit_cutoff(JUDGED[0], -JUDGED[1], JUDGED[2]),
            "scores: higher ones are less relevant",
        ),
        (
            lambda: recipes.fit_cutoff(JUDGED[0][:9], *JUDGED[1:]),
            r"scores: shape \(300, 30\); pass \[9, any\]",
        ),
    ],
)
def test_bad_arguments_get_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_a_search_refuses_broken_vectors_and_a_cutoff_of_another_encoder(encoder):
    cutoff = recipes.fit_cutoff(*JUDGED, hidden=None, kind="linear")
    with pytest.raises(
        ValueError, match=f"cutoff: is for queries of width 32, not {encoder.width}; fit it anew"
    ):
        recipes.search(encoder, TEXTS, ["w5"], k=2, cutoff=cutoff)
    vectors = recipes.embed_texts(encoder, TEXTS).copy()
    vectors[2, 0] = np.nan
    with pytest.raises(ValueError, match="vectors: row 2 is not finite; embed its text again"):
        recipes.search(encoder, TEXTS, ["w5"], k=2, vectors=vectors)
