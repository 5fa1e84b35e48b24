"""Masks of features: which are hidden, how they divide, and that a new seed compiles nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders

KEYS = jax.random.split(jax.random.key(0), 400)


def groups(count):
    """Information of two groups whose features are copies of one another."""
    own = np.arange(count) < count // 2
    return (own[:, None] == own).astype(np.float32)


@pytest.mark.parametrize("count", [3, 4, 7, 8])
def test_correlated_masks_hide_the_seed_and_half_of_the_others(count):
    information = np.random.default_rng(count).random((count, count)).astype(np.float32)
    masks = np.asarray(jax.vmap(lambda k: encoders.correlated_mask(k, information))(KEYS))
    bare = np.asarray(jax.vmap(lambda k: encoders.correlated_mask(k, information, seed=False))(KEYS))
    assert (masks.sum(axis=1) == count // 2 + 1).all() and (bare.sum(axis=1) == count // 2).all()
    seeds = masks & ~bare
    assert (seeds.sum(axis=1) == 1).all()
    frequency = seeds.mean(axis=0)
    np.testing.assert_allclose(frequency, 1 / count, atol=4 * np.sqrt(1 / count / 400))
    for mask, seed in zip(masks, seeds.argmax(axis=1), strict=True):
        others = [j for j in range(count) if j != seed]
        told = sorted(others, key=lambda j: -information[seed, j])[: count // 2]
        assert set(np.flatnonzero(mask)) == {seed, *told}


@pytest.mark.parametrize("count", [4, 6, 8])
def test_copies_vanish_together(count):
    masks = np.asarray(jax.vmap(lambda k: encoders.correlated_mask(k, groups(count)))(KEYS))
    first, second = masks[:, : count // 2].all(axis=1), masks[:, count // 2 :].all(axis=1)
    assert (first ^ second).all() and 0.4 < first.mean() < 0.6


def test_ties_are_broken_at_random():
    """Constant features tell nothing of one another: any other may be hidden with the seed."""
    masks = np.asarray(jax.vmap(lambda k: encoders.correlated_mask(k, np.zeros((5, 5))))(KEYS))
    np.testing.assert_allclose(masks.mean(axis=0), 3 / 5, atol=0.1)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_random_masks_hide_a_half_and_the_complement_the_rest(count):
    masks = np.asarray(jax.vmap(lambda k: encoders.random_mask(k, count))(KEYS))
    assert (masks.sum(axis=1) == count // 2).all() and ((~masks).sum(axis=1) == -(-count // 2)).all()
    np.testing.assert_allclose(masks.mean(axis=0), count // 2 / count, atol=0.1)


def test_values_are_dropped_one_by_one_and_padding_stays_out():
    mask = np.random.default_rng(0).random((300, 8)) < 0.7
    kept = np.asarray(encoders.drop_values(jax.random.key(1), mask, 0.3))
    assert not (kept & ~mask).any()
    np.testing.assert_allclose(kept.sum() / mask.sum(), 0.7, atol=0.04)
    assert not encoders.drop_values(jax.random.key(1), mask, 1.0).any()
    np.testing.assert_array_equal(encoders.drop_values(jax.random.key(1), mask, 0.0), mask)


def test_a_new_seed_compiles_nothing():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def views(key):
        mask = encoders.correlated_mask(key, groups(6))
        return mask, ~mask, encoders.random_mask(key, 6), encoders.drop_values(key, jnp.ones((4, 3)), 0.5)

    found = [np.concatenate([np.ravel(x) for x in views(key)]) for key in KEYS[:20]]
    assert len({x.tobytes() for x in found}) > 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda key: encoders.random_mask(key, 1), "features: 1"),
        (lambda key: encoders.correlated_mask(key, np.zeros((2, 2))), "information: 2 features"),
        (lambda key: encoders.correlated_mask(key, np.zeros((3, 4))), "information: shape"),
        (lambda key: encoders.drop_values(key, np.ones((2, 2)), 1.5), "share=1.5"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jax.random.key(0))
