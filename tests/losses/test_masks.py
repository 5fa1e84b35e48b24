"""Masks of pairs: loops from the rules, laws, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_losses
import pytest
from loss_families import BLOCKS, B, D, N, columns, vectors

from jaxembed import losses


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_violators_are_the_pairs_that_a_guided_mask_of_the_encoder_would_hide(margin, blocks):
    """Where the encoder guides itself, hidden are exactly the pairs above the limit; ties stay in both."""
    q, d = vectors()
    seen = np.asarray(losses.violator_mask(q, d, margin=margin, blocks=blocks))
    hidden = ~np.asarray(losses.guided_mask(q, d, margin=margin, blocks=blocks))
    every = np.asarray(losses.guided_mask(q, d, margin=-9.0, blocks=blocks))  # all but self pairs
    own = np.asarray(losses.guided_mask(q, d, margin=9.0, blocks=blocks))
    np.testing.assert_array_equal(seen, (hidden & every) | own)
    assert seen.dtype == bool
    both = losses.info_nce(q, d, where=seen, blocks=blocks)
    assert (np.asarray(both) <= np.asarray(losses.info_nce(q, d, blocks=blocks)) + 1e-6).all()


def test_a_query_that_ranks_its_document_first_has_no_violator_and_no_loss():
    q = d = np.eye(3, dtype=np.float32)
    mask = losses.violator_mask(q, d)
    np.testing.assert_array_equal(mask, np.eye(3, dtype=bool))
    value, slope = jax.value_and_grad(lambda x: jnp.sum(losses.info_nce(x, d, where=mask)))(q)
    assert value == 0 and not np.asarray(slope).any()


@pytest.mark.parametrize("other", [None, np.array([1, 2, 1, 5, 9, 2])])
def test_duplicate_mask_equals_the_oracle(other):
    keys = np.array([1, 2, 1, 3, 3])
    mask = losses.duplicate_mask(keys, other)
    np.testing.assert_array_equal(mask, oracles.duplicate_mask(keys, other))
    assert mask.dtype == bool


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("margin", [0.0, 0.3, -0.2])
def test_guided_mask_equals_the_oracle(margin, kind, blocks):
    q, d = vectors()
    mask = losses.guided_mask(q, d, margin=margin, kind=kind, blocks=blocks)
    np.testing.assert_array_equal(mask, oracles_losses.guided_mask(q, d, margin, kind, blocks))
    assert mask.dtype == bool
    assert mask.shape == (B, columns(blocks))
    losses.info_nce(q, d, where=mask, blocks=blocks)  # the shapes fit


@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_a_larger_margin_drops_more_and_lowers_the_loss(kind):
    q, d = vectors()
    blocks = ("qd", "qq", "dd")
    masks = [np.asarray(losses.guided_mask(q, d, margin=m, kind=kind, blocks=blocks)) for m in (0, 0.2, 5)]
    values = [np.asarray(losses.info_nce(q, d, where=m, blocks=blocks)) for m in masks]
    for before, after in ((0, 1), (1, 2)):
        assert (masks[after] <= masks[before]).all()
        assert (values[after] <= values[before] + 1e-6).all()
    if kind == "absolute":
        assert masks[2].sum() == B
        assert not values[2].any()


def test_a_guide_that_sees_no_difference_drops_self_pairs_only():
    same = np.ones((4, 3), np.float32)
    mask = losses.guided_mask(same, same, blocks=("qd", "qq"))
    np.testing.assert_array_equal(mask, np.concatenate([np.ones((4, 4), bool), ~np.eye(4, dtype=bool)], 1))


def test_a_guide_is_seen_through_its_cosines_and_gets_no_gradient():
    q, d = vectors()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))
    scales = np.random.default_rng(2).uniform(0.1, 10, (N, 1))
    expected = losses.guided_mask(q, d, blocks=("qd", "dd"))
    turned = losses.guided_mask(q @ rotation, scales * (d @ rotation), blocks=("qd", "dd"))
    np.testing.assert_array_equal(turned, expected)

    def total(guide):
        return jnp.sum(losses.info_nce(q, d, where=losses.guided_mask(guide, d)))

    assert not np.asarray(jax.grad(total)(jnp.asarray(q))).any()
