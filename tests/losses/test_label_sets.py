"""Losses of label sets: loops, limits, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxembed import losses

RNG = np.random.default_rng(0)
LABELS = (RNG.random((6, 5)) < 0.3).astype(int)
X, P = (RNG.normal(size=(6, 4)).astype(np.float32) for _ in range(2))


def test_pairs_that_share_a_label_are_hidden():
    sets = [set(np.flatnonzero(row)) for row in LABELS]
    wanted = [[not (a & b) for b in sets[:4]] for a in sets]
    np.testing.assert_array_equal(losses.shared_label_mask(LABELS, LABELS[:4]), wanted)
    own = losses.info_nce(X, P, where=losses.shared_label_mask(LABELS))
    assert np.isfinite(own).all()  # the own partner is always kept


def test_retrofitting_loss_equals_a_loop():
    where = RNG.random((6, 6)) < 0.7
    cosines = oracles.unit(X) @ oracles.unit(P).T
    fixed = X + 0.1
    wanted = []
    for i in range(6):
        others = [cosines[i, j] for j in range(6) if j != i and where[i, j]]
        attract = max(0, 0.3 - cosines[i, i] + max(others)) if others else 0
        wanted.append(attract + 0.2 * np.sum((X[i] - fixed[i]) ** 2))
    found = losses.retrofit_loss(X, P, fixed, preserve=0.2, where=where)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert losses.retrofit_loss(X[:1], P[:1], X[:1])[0] == 0  # no other partner


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_concept_loss_equals_a_loop(weight):
    logits = RNG.normal(size=(6, 5)).astype(np.float32)
    p = 1 / (1 + np.exp(-logits.astype(float)))
    wanted = np.where(LABELS, -np.log(p), -weight * np.log(1 - p)).mean(axis=1)
    np.testing.assert_allclose(losses.concept_loss(logits, LABELS, unlabelled=weight), wanted, rtol=1e-5)
    listed = LABELS.any(axis=1)
    found = losses.concept_loss(logits, LABELS, unlabelled=weight, where=listed)
    np.testing.assert_allclose(found, np.where(listed, wanted, 0), rtol=1e-5)
    slope = jax.grad(lambda x: jnp.sum(losses.concept_loss(x, LABELS, unlabelled=weight)))(logits)
    np.testing.assert_allclose(slope, np.where(LABELS, p - 1, weight * p) / 5, rtol=1e-4, atol=1e-6)


def test_bad_arguments_get_one_line():
    with pytest.raises(ValueError, match="logits: no concepts; pass at least one column"):
        losses.concept_loss(jnp.zeros((2, 0)), jnp.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"labels: shape \(6, 5\); pass \[2, 5\]"):
        losses.concept_loss(jnp.zeros((2, 5)), LABELS)
    with pytest.raises(ValueError, match=r"second: shape \(6, 4\); pass \[any, 5\]"):
        losses.shared_label_mask(LABELS, LABELS[:, :4])
    with pytest.raises(ValueError, match=r"partners: shape \(5, 4\); pass \[6, 4\]"):
        losses.retrofit_loss(X, P[:5], X)
