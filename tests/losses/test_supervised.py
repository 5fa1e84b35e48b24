"""Softmax over classes of which some are masked."""

import jax.numpy as jnp
import numpy as np
import oracles_losses
import pytest

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
