"""The experiment on arbitrary pairs: data, measures against loops, claims, gates of attributes, bad flags."""

import json

import jax
import numpy as np
import pytest

from experiments.arbitrary_pairs import __main__ as story
from experiments.arbitrary_pairs import attributes, pairs_of_digits
from experiments.arbitrary_pairs.__main__ import ARMS, GATED, OPEN, SUPERVISED, Config
from experiments.shared import results
from jaxembed import losses

YES, NO = results.REPRODUCED, results.NOT


def test_validation_reads_no_test_digit():
    images, labels, count = pairs_of_digits.read(2)
    assert images.shape == (1797, 2, 64) and count == 1437
    held, truth, fewer = pairs_of_digits.read(2, validate=True)
    assert len(held) == 1437 and fewer == 1077
    np.testing.assert_array_equal(held, images[:1437])
    np.testing.assert_array_equal(truth, labels[:1437])
    some, seen = pairs_of_digits.only_seen(images, labels, count)
    assert seen.max() == 6 and some.shape[0] == seen.shape[0]
    assert some.shape[0] == min((labels[:count, s] < 7).sum() for s in range(2))


def test_pair_auc_equals_a_loop():
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3
    gates = rng.random((3, 3, 4)).astype(np.float32)
    gates = gates + gates.transpose(1, 0, 2)
    found = pairs_of_digits.pair_auc(z, labels, lambda a, b: gates[a, b])
    each = []
    for a, b, third in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        gated = z * gates[a, b]
        gated /= np.linalg.norm(gated, axis=1, keepdims=True)
        scores = gated[labels == a] @ gated.T
        inside, outside = scores[:, labels == b].ravel(), scores[:, labels == third].ravel()
        each.append(np.mean(inside[:, None] > outside))
    assert found == pytest.approx(np.mean(each), abs=1e-5)


def test_every_arm_has_a_loss_with_gradients():
    cfg, key = Config(), jax.random.key(0)
    images, labels, _ = pairs_of_digits.read(1)
    x, y = images[:60, 0], labels[:60, 0]
    params = pairs_of_digits.init(key, 10)
    moved = {}
    for name, arm in ARMS.items():
        loss = pairs_of_digits.make_loss(arm, cfg, 10)
        momentum = params if arm.momentum else None
        value, gradients = jax.jit(jax.value_and_grad(loss))(params, x, y, key, momentum)
        assert value > 0
        moved[name] = {
            part for part, g in gradients.items() if any(np.abs(v).max() > 0 for v in jax.tree.leaves(g))
        }
    trained = {"backbone", "projector"}
    assert moved == {
        GATED: trained | {"gate"},
        SUPERVISED: trained,
        OPEN: trained,
        story.CROSS_ENTROPY: {"backbone", "head"},
        story.MOMENTUM: trained | {"gate"},
    }


def test_two_views_differ_and_the_supervised_arm_is_that_of_one_class():
    images, labels, _ = pairs_of_digits.read(1)
    first, second = pairs_of_digits.views(jax.random.key(0), images[:5, 0], 0.1)
    assert first.shape == (5, 64) and np.abs(first - second).max() > 0.1
    pairs = losses.partner_pairs(labels[:50, 0], labels[:50, 0])
    own = losses.label_pairs(labels[:50, 0])
    np.testing.assert_array_equal(pairs["positives"], own["positives"])


def test_agreement_is_1_for_the_shared_attributes_and_half_for_others():
    has, trained = attributes.problem(0)
    assert has.shape == (attributes.CLASSES, attributes.ATTRIBUTES)
    assert len({tuple(x) for x in has}) == attributes.CLASSES
    assert trained.diagonal().all() and (trained == trained.T).all()
    assert (~trained).mean() == pytest.approx(attributes.HELD_OUT, abs=0.06)
    shared = (has[:, None] == has).astype(float)
    assert attributes.agreement(shared, has, trained) == 1
    assert attributes.agreement(1 - shared, has, trained) == 0
    noise = np.random.default_rng(0).random(shared.shape)
    assert attributes.agreement(noise, has, trained) == pytest.approx(0.5, abs=0.05)


def table(gated, supervised, opened, learned=0.9):
    rows = []
    for arm, numbers in ((GATED, gated), (SUPERVISED, supervised), (OPEN, opened)):
        keys = ("probe", "rank of h", "rank of z", "pair AUC", "probe of new classes")
        rows.append({"arm": arm, "runs": [{k: n + s / 1000 for k in keys} for s, n in enumerate(numbers)]})
    known = [{"runs": [0.5] * 5}, {"runs": [learned] * 5}, {"runs": [learned] * 5}]
    return {"digits": rows, "attributes": known}


def verdicts(*arguments):
    return [x["verdict"] for x in results.answered(story.CLAIMS, results.Result(table(*arguments)))]


def test_claims_read_the_arms_they_are_about():
    assert verdicts([0.9] * 5, [0.8] * 5, [0.5] * 5) == [YES] * 6
    assert verdicts([0.895] * 5, [0.9] * 5, [0.85] * 5, 0.7) == [YES, NO, NO, NO, NO, NO]
    assert verdicts([0.9] * 4 + [0.7], [0.8] * 5, [0.5] * 5)[1:3] == [YES, YES]
    assert verdicts([0.9] * 4, [0.8] * 4, [0.5] * 4)[:5] == [None] * 5


def test_bad_flags_are_refused_in_one_line():
    for options, message in [
        ({"epochs": 0}, "--epochs 0: choose 1 to"),
        ({"batch_size": 5000}, "--batch-size 5000: choose 2 to 1,077"),
        ({"momentum": 1.0}, "--momentum 1.0: choose 0 to"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            Config(**options)
        assert "\n" not in str(error.value)


def test_the_kept_picture_shows_spectra_and_gates():
    from matplotlib import pyplot

    saved = json.loads(results.path_of("arbitrary_pairs", "default").read_text())
    draw, panels = story.figures(results.numbers_of(saved))[""]
    figure, axes = pyplot.subplots(*panels, squeeze=False)
    draw(axes)
    assert [t.get_text() for t in axes[0, 0].get_legend().get_texts()] == list(ARMS)
    assert axes[0, 1].get_title() == "gates"
    pyplot.close(figure)
