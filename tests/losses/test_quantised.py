"""Losses on inner products and on codes: the formula, masks, weights."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxembed import losses

RNG = np.random.default_rng(0)
Q, D = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 3), (7, 3)))


def test_the_loss_on_inner_products_equals_loops():
    where = RNG.random((4, 7)) < 0.6
    wanted = oracles.softmax_loss(oracles.inner(Q, D), where=where, temperature=0.7)
    np.testing.assert_allclose(losses.dot_nce(Q, D, where=where, temperature=0.7), wanted, rtol=1e-5)


def test_scale_one_is_logsumexp_less_the_diagonal_and_one_row_is_zero():
    scores = oracles.inner(Q, D)
    wanted = np.log(np.exp(scores).sum(axis=1)) - np.diagonal(scores)
    np.testing.assert_allclose(losses.dot_nce(Q, D), wanted, rtol=1e-5)
    assert losses.dot_nce(Q[:1], D[:1])[0] == 0
    same = np.tile(Q[:1], (4, 1))
    np.testing.assert_allclose(losses.dot_nce(same, same), np.log(4), rtol=1e-6)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        np.mean(losses.dot_nce(Q, D[:4])), np.mean(losses.dot_nce(Q[order], D[:4][order])), rtol=1e-6
    )


def test_copies_of_the_own_document_change_nothing_when_they_are_masked():
    keys = np.array([0, 1, 2, 3, 4, 5, 0])
    twice = D.copy()
    twice[6] = D[0]
    where = losses.duplicate_mask(keys[:4], keys)
    found = losses.dot_nce(Q, twice, where=where)
    assert found[0] == losses.dot_nce(Q, D[:6])[0]
    assert losses.dot_nce(Q, twice)[0] > found[0]


def test_both_parts_add_up_with_their_weights():
    def half(d):
        return d / 2

    loss = losses.quantised(losses.dot_nce, half, weight=0.3, reconstruction=0.1)
    gap = np.mean(np.sum((D / 2) ** 2, axis=1))
    wanted = losses.dot_nce(Q, D) + 0.3 * losses.dot_nce(Q, D / 2) + 0.1 * gap
    np.testing.assert_allclose(loss(Q, D), wanted, rtol=1e-5)
    options = {"temperature": 0.5, "where": RNG.random((4, 7)) < 0.5}
    masked = losses.quantised(losses.dot_nce, half)(Q, D, **options)
    wanted = losses.dot_nce(Q, D, **options) + losses.dot_nce(Q, D / 2, **options)
    np.testing.assert_allclose(masked, wanted, rtol=1e-5)
    slope = jax.grad(lambda d: jnp.sum(loss(Q, d)))(D)
    assert np.isfinite(slope).all()


def test_widths_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"documents: shape \(7, 2\); pass \[any, 3\]"):
        losses.dot_nce(Q, D[:, :2])
