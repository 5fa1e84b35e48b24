"""Softmax over classes of which some are masked, and classes one versus the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles_losses
import pytest
from refusals import refused

from jaxembed import losses

LOGITS = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32) * 3
LABELS, CLASSES = np.array([0, 1, 2, 0, 4]), np.array([True, True, True, False, True, False, False])


@pytest.mark.parametrize("masked", ["drop", "zero"])
def test_class_loss_equals_the_oracle(masked):
    value = losses.class_loss(LOGITS, LABELS, classes=CLASSES, masked=masked)
    np.testing.assert_allclose(value, oracles_losses.class_loss(LOGITS, LABELS, CLASSES, masked), rtol=1e-5)


def test_without_masked_classes_it_is_the_cross_entropy():
    plain = losses.class_loss(LOGITS, LABELS)
    for masked in ("drop", "zero"):
        every = losses.class_loss(LOGITS, LABELS, classes=np.ones(7, bool), masked=masked)
        np.testing.assert_array_equal(every, plain)
    np.testing.assert_allclose(plain, losses.softmax_loss(LOGITS, positives=LABELS))


def test_zeros_cost_what_the_masked_classes_add_to_the_softmax():
    drop, zero = (losses.class_loss(LOGITS, LABELS, classes=CLASSES, masked=m) for m in ("drop", "zero"))
    rest = np.exp(LOGITS[:, CLASSES].astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(zero - drop, np.log1p((~CLASSES).sum() / rest), rtol=1e-4, atol=1e-6)


def test_zeros_matter_less_the_surer_the_true_class_is():
    gaps = []
    for cosine in (0.0, 0.05, 0.1, 0.3):
        logits = jnp.zeros((1, 7)).at[0, 0].set(100 * cosine)
        drop, zero = (
            losses.class_loss(logits, np.array([0]), classes=CLASSES, masked=m) for m in ("drop", "zero")
        )
        gaps.append(float(zero[0] - drop[0]))
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 0.5 and 0 <= gaps[-1] < 1e-6


def test_what_masked_classes_hold_does_not_matter():
    spoiled = np.where(CLASSES, LOGITS, np.nan)
    for masked in ("drop", "zero"):
        pair = [losses.class_loss(x, LABELS, classes=CLASSES, masked=masked) for x in (LOGITS, spoiled)]
        np.testing.assert_array_equal(*pair)


def slow_one_vs_rest(logits, own, weight):
    found = []
    for row, mine in zip(np.asarray(logits, np.float64), own, strict=True):
        s = 1 / (1 + np.exp(-row))
        found.append(-sum(weight * np.log(p) if y else np.log(1 - p) for p, y in zip(s, mine, strict=True)))
    return found


def test_one_versus_the_rest_is_that_of_the_formula():
    own = np.arange(7) == LABELS[:, None]
    np.testing.assert_allclose(
        losses.one_vs_rest_loss(LOGITS, LABELS), slow_one_vs_rest(LOGITS, own, 6), rtol=1e-5
    )
    found = losses.one_vs_rest_loss(LOGITS, LABELS, positive_weight=2.5)
    np.testing.assert_allclose(found, slow_one_vs_rest(LOGITS, own, 2.5), rtol=1e-5)
    several = np.random.default_rng(1).random((5, 7)) < 0.4
    np.testing.assert_allclose(
        losses.one_vs_rest_loss(LOGITS, several), slow_one_vs_rest(LOGITS, several, 1), rtol=1e-5
    )
    np.testing.assert_array_equal(
        losses.one_vs_rest_loss(LOGITS, own, positive_weight=6.0), losses.one_vs_rest_loss(LOGITS, LABELS)
    )


def test_one_versus_the_rest_is_finite_far_out_and_has_one_line_for_bad_shapes():
    far = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
    value, gradient = jax.value_and_grad(lambda x: losses.one_vs_rest_loss(x, jnp.array([0, 0])).sum())(far)
    assert value == 2e4 and jnp.isfinite(gradient).all()
    refused("labels: shape", lambda: losses.one_vs_rest_loss(LOGITS, LABELS[:2]))
    refused("logits: shape", lambda: losses.one_vs_rest_loss(LOGITS[0], LABELS))
