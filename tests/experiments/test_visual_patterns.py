"""The experiment on visual patterns: what pictures hold, mining of their channels, features, claims."""

import numpy as np

from experiments.shared import results
from experiments.visual_patterns import __main__ as story
from experiments.visual_patterns import glyphs, mining
from experiments.visual_patterns.__main__ import Config
from jaxembed import metrics, vectors


def test_every_class_shows_every_glyph_alike_and_boxes_hold_the_pair():
    drawn = glyphs.drawn(0, 120)
    assert set(drawn["labels"]) == set(range(glyphs.CLASSES)) and drawn["images"].shape == (120, 48, 48, 1)
    side = drawn["boxes"][:, 0, 2:] - drawn["boxes"][:, 0, :2]
    assert {tuple(s) for s in side.tolist()} == {(9.0, 18.0), (18.0, 9.0)}
    again = glyphs.drawn(0, 120)
    np.testing.assert_array_equal(again["images"], drawn["images"])
    pairs = [
        {frozenset(glyphs.GROUPS[g][k] for k in glyphs.PAIRS[(c + 2 * g) % 6]) for g in range(3)}
        for c in range(6)
    ]
    assert len(set().union(*pairs)) == 18  # no pair belongs to two classes
    for n in range(20):  # the ground is dark, glyphs are bright
        x0, y0, x1, y1 = drawn["boxes"][n, 0].astype(int)
        picture = drawn["images"][n, ..., 0]
        assert (picture[y0:y1, x0:x1] > 0.6).mean() > 0.15 and (picture > 0.6).mean() < 0.25


def test_crops_show_one_glyph_or_none():
    drawn = glyphs.crops(0, 200)
    counts = drawn["present"].sum(axis=1)
    assert set(counts) == {0, 1} and drawn["present"].any(axis=0).all()
    bright = (drawn["images"] > 0.6).mean(axis=(1, 2, 3))
    assert bright[counts == 1].min() > bright[counts == 0].max()


def planted(count=48):
    """Maps of two channels that are near one another in class 1 and apart in class 0."""
    rng = np.random.default_rng(0)
    maps = 0.2 * rng.random((count, 12, 12, 4)).astype(np.float32)
    labels = np.arange(count) % 2
    maps[:, 5, 5, 0] = maps[labels == 1, 5, 7, 1] = maps[labels == 0, 0, 11, 1] = 2
    maps *= rng.uniform(1, 2, (count, 1, 1, 1)).astype(np.float32)  # as pictures of different contrast
    return maps, labels


def test_mined_patterns_tell_classes_on_other_pictures():
    maps, labels = planted()
    cfg = Config(quantile=0.2)
    local, image = (mining.mine(maps, labels, cfg, size=2, radius=r, top=3) for r in (1, None))
    parts = mining.features(maps, local, 1)
    assert parts.max() <= 2 and mining.accuracy(parts, labels, parts, labels) == 1
    found = mining.held_out(local, maps, labels, 1)
    assert 0 < found["support"] <= 1 and found["precision"] > 0.5
    wide = mining.features(maps, image, None)
    assert mining.accuracy(wide, labels, wide, labels) < 1
    nothing = np.zeros((48, 3))
    assert mining.accuracy(nothing, labels, nothing, labels) == 0.5


def test_proposals_are_ranked_and_random_boxes_have_the_size_of_a_pair():
    maps, labels = planted()
    patterns = mining.mine(maps, labels, Config(quantile=0.2), size=2, radius=1, top=3)
    strong = np.argmax(maps.max(axis=(1, 2, 3)) * labels)
    boxes, scores = mining.proposals(maps[strong : strong + 1], patterns, radius=1, budget=3, field=8.0)
    assert (np.sort(scores[0])[::-1] == np.asarray(scores[0])).all() and scores.shape == (1, 3)
    truth = np.array([[[16.5, 16.5, 32.5, 24.5]]])
    assert metrics.proposal_recall(np.asarray(boxes), np.asarray(scores), truth, budget=3) == 1
    random = mining.random_boxes(0, 50, 4)
    assert random.min() >= 0 and random.max() <= 48
    np.testing.assert_allclose((random[..., 2:] - random[..., :2]).prod(axis=-1), 162)


def test_rules_of_patches_become_features_of_pictures():
    active = np.zeros((8, 3, 4), bool)
    active[::2, 1, :2] = True
    rules = mining.patch_rules(active, np.arange(8) % 2, 2, Config(), 2, 2)
    assert rules.valid[0, 0] and not rules.valid[1].any()
    np.testing.assert_array_equal(mining.patch_features(active, rules)[:, 0], [1, 0] * 4)
    assert isinstance(rules, vectors.Rules)


def test_claims_read_their_arms():
    def rows(**accuracy):
        return [
            {
                "form": f,
                "channels": n,
                "patterns": 20,
                "runs": [{"accuracy": a + 0.001 * s} for s in range(5)],
            }
            for (f, n), a in accuracy["by"].items()
        ]

    by = {(story.LOCAL, 1): 0.2, (story.LOCAL, 2): 0.5, (story.IMAGE, 2): 0.45, (story.PATCHED, 2): 0.3}
    t = {"accuracy": rows(by=by), "compared": 20, "budget": 20}
    t["recall"] = [
        {"boxes": b, "runs": [{"recall, 20 boxes": x}] * 5}
        for b, x in (("patterns", 0.6), ("random boxes", 0.2))
    ]
    t["seconds"] = [
        {"miner": m, "runs": [{"s": x}] * 5} for m, x in (("patterns", 1.0), (story.PATCHED, 4.0))
    ]
    t["digits"] = [{"features": f, "runs": [{"accuracy": 0.9}] * 5} for f in (story.POOLED, "patterns of 2")]
    yes, no = results.REPRODUCED, results.NOT
    assert [claim.ours(t).verdict for claim in story.CLAIMS] == [yes, no, yes, no, yes, yes]
