"""Visual patterns: mined sets against loops and a public miner, planted patterns, responses, boxes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import vectors

RNG = np.random.default_rng(0)
ALL = {"min_support": 0.0, "min_precision": 0.0, "max_overlap": 1.0}


def slow_supports(active, labels, chosen):
    """Share of each class in which all chosen items occur at one place: loops from the definition."""
    fired = [any(all(place[k] for k in chosen) for place in row) for row in active]
    return [np.mean([f for f, y in zip(fired, labels, strict=True) if y == c]) for c in range(3)]


def drawn(places=40, count=30, items=6, share=0.25):
    active = RNG.random((count, places, items)) < share
    return active, np.arange(count) % 3


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("places", [1, 5, 33])
def test_supports_and_precisions_are_those_of_loops(places, size):
    active, labels = drawn(places, share=0.5 if places == 1 else 0.2)
    sets = list(itertools.combinations(range(6), size))
    rules = vectors.association_rules(
        active, labels, np.arange(6)[None].repeat(3, 0), size=size, top=len(sets), **ALL
    )
    for c in range(3):
        seen = {}
        for items, valid, r, d in zip(*(np.asarray(x[c]) for x in rules), strict=True):
            if valid:
                seen[tuple(int(i) for i in items)] = (r, d)
        expected = {s: slow_supports(active, labels, s) for s in sets}
        expected = {s: x for s, x in expected.items() if x[c] > 0}
        assert seen.keys() == expected.keys()
        for s, x in expected.items():
            np.testing.assert_allclose(seen[s], (x[c], x[c] / sum(x)), rtol=1e-5)
        worth = [2 * r * d / (r + d) for r, d in zip(*np.asarray(rules[2:])[:, c], strict=True) if r > 0]
        assert all(a >= b - 1e-6 for a, b in itertools.pairwise(worth))


def test_rules_are_those_of_mlxtend():
    frequent = pytest.importorskip("mlxtend.frequent_patterns")
    import pandas

    active, labels = drawn(1, count=60, share=0.5)
    rules = vectors.association_rules(
        active, labels, np.arange(6)[None].repeat(3, 0), size=2, top=15, **ALL | {"min_support": 0.15}
    )
    for c in range(3):
        table = pandas.DataFrame(active[labels == c, 0])
        theirs = frequent.apriori(table, min_support=0.15)
        theirs = {
            tuple(sorted(map(int, s))): v
            for s, v in zip(theirs["itemsets"], theirs["support"], strict=True)
            if len(s) == 2
        }
        ours = {
            tuple(map(int, s)): r
            for s, v, r in zip(rules.items[c], rules.valid[c], rules.support[c], strict=True)
            if v
        }
        assert ours.keys() == theirs.keys() and theirs
        for items, support in theirs.items():
            np.testing.assert_allclose(ours[items], support, rtol=1e-5)


def test_confidence_is_that_of_mlxtend_on_classes_of_equal_size():
    frequent = pytest.importorskip("mlxtend.frequent_patterns")
    import pandas

    active, labels = drawn(1, count=60, share=0.5)
    classes = np.eye(3, dtype=bool)[labels]
    table = pandas.DataFrame(np.concatenate([active[:, 0], classes], axis=1))
    found = frequent.association_rules(frequent.apriori(table, min_support=0.02), min_threshold=0.0)
    theirs = {
        (tuple(sorted(map(int, a))), int(next(iter(b))) - 6): conf
        for a, b, conf in zip(found["antecedents"], found["consequents"], found["confidence"], strict=True)
        if len(a) == 2 and max(a) < 6 and len(b) == 1 and min(b) >= 6
    }
    rules = vectors.association_rules(
        active, labels, np.arange(6)[None].repeat(3, 0), size=2, top=15, **ALL | {"min_support": 0.061}
    )
    compared = 0
    for c in range(3):
        for items, valid, precision in zip(rules.items[c], rules.valid[c], rules.precision[c], strict=True):
            if valid:
                np.testing.assert_allclose(precision, theirs[tuple(map(int, items)), c], rtol=1e-5)
                compared += 1
    assert compared > 20


def test_larger_sets_occur_no_more_often():
    active, labels = drawn(8)
    everything = np.arange(6)[None].repeat(3, 0)
    by_set = {}
    for size, count in ((1, 6), (2, 15), (3, 20)):
        rules = vectors.association_rules(active, labels, everything, size=size, top=count, **ALL)
        for c in range(3):
            for items, valid, r in zip(rules.items[c], rules.valid[c], rules.support[c], strict=True):
                by_set |= {(c, frozenset(map(int, items))): float(r)} if valid else {}
    for (c, items), support in by_set.items():
        for other in itertools.combinations(items, len(items) - 1):
            assert not other or support <= by_set[c, frozenset(other)] + 1e-6
    assert len(by_set) > 60


def test_a_planted_set_is_found_with_its_support():
    labels = np.repeat(np.arange(3), 40)
    active = np.zeros((120, 20, 8), bool)
    with_set = np.flatnonzero(labels == 1)[:30]
    active[with_set, 7, 2] = active[with_set, 7, 4] = active[with_set, 7, 6] = True
    for k in (2, 4, 6):  # each alone in other classes, at places of its own
        active[np.flatnonzero(labels != 1), k, k] = True
    rules = jax.jit(lambda a, y, q: vectors.association_rules(a, y, q))(
        active, labels, np.tile(np.arange(8), (3, 1))
    )
    assert int(rules.valid.sum()) == 1 and bool(rules.valid[1, 0])
    np.testing.assert_array_equal(rules.items[1, 0], [2, 4, 6])
    assert rules.precision[1, 0] == 1 and rules.support[1, 0] == 0.75
    image = vectors.association_rules(active.any(axis=1), labels, np.tile(np.arange(8), (3, 1)))
    assert not image.valid.any()  # anywhere on a picture, the three occur in all classes


def test_overlapping_rules_and_padded_candidates_are_left_out():
    active = np.zeros((20, 4), bool)
    active[:10, :3], active[:5, 3] = True, True
    labels = np.repeat([0, 1], 10)
    candidates = np.array([[0, 1, 2, 3], [0, 1, -1, -1]])
    rules = vectors.association_rules(active, labels, candidates, size=2, top=6, min_support=0.1)
    np.testing.assert_array_equal(
        rules.items[0, rules.valid[0]], [[0, 1], [0, 3]]
    )  # 5 of 10 is no more than half
    tight = vectors.association_rules(active, labels, candidates, size=2, top=6, max_overlap=0.4)
    assert int(tight.valid.sum()) == 1
    loose = vectors.association_rules(active, labels, candidates, size=2, top=6, max_overlap=1.0)
    assert int(loose.valid[0].sum()) == 6
    padded = vectors.association_rules(active, 1 - labels, candidates[::-1], size=2, top=6, max_overlap=1.0)
    assert int(padded.valid[0].sum()) == 0 and int(padded.valid[1].sum()) == 6
    padded = vectors.association_rules(active, labels, candidates[::-1], size=2, top=6, max_overlap=1.0)
    assert int(padded.valid[0].sum()) == 1


def picture(*spots, size=6, channels=4):
    maps = np.zeros((size, size, channels), np.float32)
    for row, column, channel, value in spots:
        maps[row, column, channel] = value
    return maps


NEAR = picture((1, 1, 0, 2), (1, 2, 1, 3), (5, 5, 2, 9))
FAR = picture((0, 0, 0, 2), (5, 5, 1, 3), (5, 0, 2, 9))
MAPS, LABELS = np.stack([NEAR] * 4 + [FAR] * 4), np.repeat([0, 1], 4)
EVERY = np.tile(np.arange(4), (2, 1))


def test_the_local_form_tells_what_the_image_form_does_not():
    local = vectors.mine_patterns(MAPS, LABELS, np.full(4, 1.0), EVERY, size=2)
    assert int(local.valid.sum()) == 1
    np.testing.assert_array_equal(local.channels[0, 0], [0, 1])
    np.testing.assert_array_equal(local.thresholds[0, 0], [1, 1])
    assert not vectors.mine_patterns(MAPS, LABELS, np.full(4, 1.0), EVERY, size=2, radius=None).valid.any()
    features = [vectors.pattern_features(MAPS, local, radius=r)[:, 0] for r in (1, None)]
    np.testing.assert_array_equal(features[0], [2] * 4 + [0] * 4)
    np.testing.assert_array_equal(features[1], 2)
    random = RNG.normal(size=(5, 6, 6, 4)).astype(np.float32)
    both = [vectors.pattern_features(random, local, radius=r) for r in (0, 1, None)]
    assert (both[0] <= both[1]).all() and (both[1] <= both[2]).all()


def test_one_channel_is_a_filter_and_no_threshold_is_the_prior():
    single = vectors.mine_patterns(MAPS, LABELS, np.full(4, 1.0), EVERY, size=1, **ALL)
    supports = dict(zip(map(int, single.channels[0, :3, 0]), map(float, single.support[0, :3]), strict=True))
    assert supports == {0: 1.0, 1: 1.0, 2: 1.0}
    every = vectors.mine_patterns(MAPS, LABELS, np.full(4, -np.inf), EVERY, size=3, **ALL)
    np.testing.assert_array_equal(every.support[:, :4], 1)
    np.testing.assert_array_equal(every.precision[:, :4], 0.5)
    assert int(every.valid.sum()) == 8


def test_mining_maps_is_mining_their_active_places():
    maps = np.maximum(RNG.normal(size=(40, 5, 7, 6)), 0).astype(np.float32)
    labels, limits = np.arange(40) % 2, RNG.uniform(0.5, 1.5, (2, 6)).astype(np.float32)
    candidates = np.tile(np.arange(6), (2, 1))
    given = {"size": 2, "top": 15} | ALL
    mined = vectors.mine_patterns(maps, labels, limits, candidates, **given)
    wide = np.asarray(vectors.dilate(maps)).reshape(40, 35, 6)
    for c in range(2):
        rules = vectors.association_rules(wide > limits[c], labels, candidates, **given)
        for ours, theirs in zip(mined[:4], rules, strict=True):
            np.testing.assert_allclose(ours[c], theirs[c], rtol=1e-6)
        np.testing.assert_array_equal(mined.thresholds[c], limits[c][np.asarray(mined.channels[c])])
    order = RNG.permutation(6)
    turned = vectors.mine_patterns(maps[..., order], labels, limits[:, order], candidates, **given)
    sets = [
        {tuple(sorted(map(int, s))) for s in channels[0]}
        for channels in (mined.channels, order[np.asarray(turned.channels)])
    ]
    assert sets[0] == sets[1]


def mined():
    return vectors.mine_patterns(MAPS, LABELS, np.full(4, 1.0), EVERY, size=2)


def test_responses_move_with_the_picture_and_ignore_the_scale_of_a_channel():
    patterns = mined()
    response = vectors.pattern_response(MAPS[:1], patterns)
    moved = vectors.pattern_response(np.roll(MAPS[:1], (2, 1), axis=(1, 2)), patterns)
    np.testing.assert_array_equal(np.roll(response[..., 0], (2, 1), axis=(1, 2)), moved[..., 0])
    boxes = [vectors.pattern_boxes(r, 60)[0][0, 0] for r in (response, moved)]
    np.testing.assert_allclose(boxes[1] - boxes[0], [10, 20, 10, 20])
    factors = np.array([2, 5, 1, 3], np.float32)
    scaled = patterns._replace(thresholds=patterns.thresholds * factors[np.asarray(patterns.channels)])
    np.testing.assert_allclose(vectors.pattern_response(MAPS[:1] * factors, scaled), response, rtol=1e-6)
    more = vectors.pattern_features(MAPS + np.abs(RNG.normal(size=MAPS.shape)), patterns)
    assert (more >= vectors.pattern_features(MAPS, patterns)).all()


def test_thresholds_are_quantiles_of_other_classes_and_positive():
    peaks, labels = np.abs(RNG.normal(size=(50, 3))), np.arange(50) % 2
    peaks[:, 2] = 0
    found = vectors.channel_thresholds(peaks, labels, quantile=0.9)
    expected = [np.quantile(peaks[labels != c], 0.9, axis=0)[:2] for c in range(2)]
    np.testing.assert_allclose(found[:, :2], expected, rtol=1e-5)
    assert (found[:, 2] > 0).all() and (found[:, 2] < 1e-30).all()
    np.testing.assert_allclose(
        vectors.channel_thresholds(peaks, quantile=0.5)[:2], np.median(peaks[:, :2], axis=0), rtol=1e-5
    )


def test_the_informative_threshold_gains_most():
    def entropy(p):
        return -sum(x * np.log(x) for x in (p, 1 - p) if x > 0)

    peaks, labels = np.round(RNG.normal(size=(40, 4)) + 3, 1), RNG.integers(2, size=40)
    peaks[:, 3] += 2 * labels
    found = vectors.channel_thresholds(peaks, labels, rule="information")
    for c in range(2):
        for k in range(4):
            own, gains = labels == c, {}
            for t in np.unique(peaks[:, k])[:-1]:
                parts = [own[peaks[:, k] > t], own[peaks[:, k] <= t]]
                gains[t] = entropy(own.mean()) - sum(len(p) / 40 * entropy(p.mean()) for p in parts)
            best = max(gains.values())
            nearest = min(gains, key=lambda t: abs(t - float(found[c, k])))
            assert gains[nearest] == pytest.approx(best, abs=1e-6)
            assert float(found[c, k]) == pytest.approx(nearest, rel=1e-5)


def test_candidates_are_positive_weights_in_falling_order():
    kernel = RNG.normal(size=(10, 3))
    found = np.asarray(vectors.candidate_channels(kernel, 8))
    for c in range(3):
        order = [k for k in np.argsort(-kernel[:, c]) if kernel[k, c] > 0][:8]
        np.testing.assert_array_equal(found[c], order + [-1] * (8 - len(order)))


def test_nan_never_fires():
    maps = MAPS.copy()
    maps[0, :, :, 0] = np.nan
    patterns = vectors.mine_patterns(maps, LABELS, np.full(4, 1.0), EVERY, size=2)
    assert patterns.support[0, 0] == 0.75
    np.testing.assert_array_equal(vectors.pattern_features(maps, patterns)[:2, 0], [0, 2])
    active = vectors.top_active(np.array([[np.nan, 1, 2], [0, 0, 0]]), 2)
    assert not active[:, 0].any() and not active[1].any()


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.95, 1.0])
def test_quantiles_are_those_of_the_pictures_of_other_classes(quantile):
    rng = np.random.default_rng(0)
    peaks, labels = rng.integers(1, 6, size=(50, 4)).astype(np.float32), rng.integers(3, size=50)
    peaks[labels == 2, 3] = np.nan  # which only class 2 does not see
    found = vectors.channel_thresholds(peaks, labels, quantile=quantile)
    expected = [np.quantile(peaks[labels != c], quantile, axis=0) for c in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("count", [3, 8])
def test_few_and_many_candidates_give_the_same_patterns(count):
    rng = np.random.default_rng(0)
    maps, labels = jnp.asarray(rng.random((40, 5, 5, 24)), jnp.float32), np.arange(40) % 2
    limits, chosen = rng.uniform(0.9, 0.99, (2, 24)), np.stack([rng.permutation(24)[:count] for _ in "ab"])
    given = {"size": 2, "min_support": 0.0, "min_precision": 0.0, "max_overlap": 1.0, "top": 30}
    found = vectors.mine_patterns(maps, labels, limits, chosen, **given)
    active = vectors.dilate(maps).reshape(40, 25, 24) > limits[:, None, None]
    for c in range(2):
        rules = vectors.association_rules(active[c], labels, chosen, **given)
        for mine, theirs in zip(found[:4], rules, strict=True):
            np.testing.assert_array_equal(mine[c], theirs[c])


def test_bad_input_has_one_line():
    refused("size: 5", lambda: vectors.mine_patterns(MAPS, LABELS, np.ones(4), EVERY, size=5))
    refused("size: 3, top 0", lambda: vectors.mine_patterns(MAPS, LABELS, np.ones(4), EVERY, top=0))
    refused("thresholds: shape", lambda: vectors.mine_patterns(MAPS, LABELS, np.ones(3), EVERY))
    refused("labels: shape", lambda: vectors.mine_patterns(MAPS, LABELS[:3], np.ones(4), EVERY))
    refused("maps: shape", lambda: vectors.mine_patterns(MAPS[0], LABELS, np.ones(4), EVERY))
    refused("labels: 1 classes", lambda: vectors.channel_thresholds(np.ones((3, 2)), [0, 0, 0]))
    refused(
        "candidates: 4 is outside 0..3", lambda: vectors.mine_patterns(MAPS, LABELS, np.ones(4), EVERY + 1)
    )
    refused("rule: 'information'", lambda: vectors.channel_thresholds(np.ones((3, 2)), rule="information"))
    refused("quantile 2", lambda: vectors.channel_thresholds(np.ones((3, 2)), quantile=2))
    refused("count: 9 of 4", lambda: vectors.candidate_channels(np.ones((4, 2)), 9))
    refused("count: 0 of 4", lambda: vectors.top_active(np.ones((2, 4)), 0))
    refused("active: shape", lambda: vectors.association_rules(np.ones(3, bool), [0], [[0]]))
    assert jnp.isfinite(vectors.mine_patterns(MAPS, LABELS, np.full(4, np.nan), EVERY, **ALL).support).all()


def test_candidates_may_be_constants_under_jit():
    maps, every = jnp.asarray(MAPS), jnp.asarray(EVERY)
    found = jax.jit(lambda: vectors.mine_patterns(maps, LABELS, np.ones(4), every, **ALL).support)()
    wanted = vectors.mine_patterns(MAPS, LABELS, np.ones(4), EVERY, **ALL).support
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
