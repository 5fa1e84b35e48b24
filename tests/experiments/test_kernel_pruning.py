"""The experiment on pruning: unbalanced pictures, scores of a net, what is cut, claims."""

import functools

import jax
import numpy as np
import pytest

from experiments.kernel_pruning import __main__ as story
from experiments.kernel_pruning import nets
from experiments.shared import results
from jaxembed import weights


@functools.cache
def whole():
    return nets.NET.init(jax.random.key(0))


def test_classes_are_unbalanced_and_what_is_asked_is_balanced_and_unseen():
    for balanced in (False, True):
        task = nets.task("digits", balanced, 3, False)
        known, asked = (np.bincount(task[part]["labels"], minlength=10) for part in ("known", "asked"))
        assert (asked == 60).all() and known.sum() == pytest.approx(nets.counts(96, False).sum(), abs=10)
        assert (known == known[0]).all() if balanced else sorted(known)[-1] == 96 and known.min() == 4
        seen = {x.tobytes() for x in task["known"]["images"]}
        assert sum(x.tobytes() in seen for x in task["asked"]["images"]) <= 2  # digits that occur twice
    held = nets.task("digits", False, 3, True)
    assert (np.bincount(held["asked"]["labels"]) == 20).all()
    shown = {x.tobytes() for x in nets.task("digits", False, 3, False)["asked"]["images"]}
    assert sum(x.tobytes() in shown for x in held["asked"]["images"]) <= 2


def test_scores_name_the_filters_of_every_layer_and_half_of_them_stay():
    task = nets.task("digits", False, 0, False)
    found = nets.scores(whole(), task["known"]["images"][:16])
    assert set(found) == set(story.METHODS) - {story.RANDOM}
    for by_layer in (*found.values(), nets.random_scores(whole(), 0)):
        assert [x.shape for x in by_layer.values()] == [(16,), (32,), (32,)]
        small = nets.pruned(whole(), by_layer, 0.5)
        assert small[0]["stages"]["stage_1"]["kernel"].shape == (3, 3, 8, 16)
        assert nets.measured(small, task["asked"])["accuracy"] <= 1
    costs = nets.cost(whole(), 8), nets.cost(small, 8)
    assert costs[0]["MACs"] == 64 * 9 * 16 + 16 * 9 * 16 * 32 + 4 * 9 * 32 * 32 + 320
    assert costs[1]["parameters"] == weights.count_parameters(small[0])


def test_the_artefact_multiplies_by_the_scores_of_the_released_code():
    found = nets.random_scores(whole(), 1)
    factors = nets.released("L1", found, 8)
    assert all((factors[p] == found[p] * s).all() for p, s in zip(found, (64, 16, 4), strict=True))
    plain, multiplied = nets.pruned(whole(), found, 0.5), nets.pruned(whole(), found, 0.5, factors)
    first = [tree[0]["stages"]["stage_0"]["kernel"] for tree in (plain, multiplied)]
    scores = np.asarray(factors["0/stages/stage_0/kernel"])[: first[0].shape[-1]]
    np.testing.assert_allclose(first[1], first[0] * (1 + scores), rtol=1e-5)
    spread = nets.released("spread out/in", found, 8)
    assert all(x.min() >= 0 and x.max() < 1.0001 for x in spread.values())


def test_measures_are_means_over_classes(monkeypatch):
    logits = np.eye(10)[[0, 0, 1, 1]]
    monkeypatch.setattr(nets, "_logits", lambda tree, images: logits)
    monkeypatch.setattr(nets, "CLASSES", 2)
    found = nets.measured(None, {"images": None, "labels": np.array([0, 0, 0, 1])})
    assert found["accuracy"] == pytest.approx((2 / 3 + 1) / 2) and found["F1"] == pytest.approx(
        (0.8 + 2 / 3) / 2
    )


def tables(**means):
    def row(arm, mean, pictures):
        runs = [{"accuracy": mean + 0.001 * s} for s in range(5)]
        return {"set": "digits", "pictures": pictures, "arm": arm, "share": 0.5, "runs": runs}

    rows = [row(arm, mean, p) for arm, mean in means.items() for p in ("unbalanced", "balanced")]
    return {"arms": rows, "compared share": 0.5}


def test_claims_read_their_arms():
    level = {arm: 0.5 for arm in (*story.METHODS, *(m + story.TIMES for m in story.MULTIPLIED))}
    t = tables(**level | {story.SPREAD: 0.52, story.L1 + story.TIMES: 0.4})
    said = [claim.ours(t) for claim in story.CLAIMS if "digits" in claim.sentence]
    yes, no = results.REPRODUCED, results.NOT
    assert [x.verdict for x in said] == [yes, yes, no, yes, no, yes, yes]
    assert all(claim.ours(t) is None for claim in story.CLAIMS if "clothes" in claim.sentence)
