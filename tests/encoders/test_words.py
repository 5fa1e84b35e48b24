"""Bags of words equal their loop."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
from refusals import refused
from small_transformer import MASK, B, D, T

from jaxembed import encoders

# Bags of words


def test_weighted_bag_equals_the_oracle_and_ignores_padding():
    rng = np.random.default_rng(0)
    words = rng.normal(size=(6, D)).astype(np.float32)
    positions = rng.integers(0, 6, (B, T)).astype(np.int32)
    weights = np.where(MASK, rng.normal(size=(B, T)), 0).astype(np.float32)
    expected = oracles.weighted_bag(words, positions, weights)
    run = jax.jit(jax.value_and_grad(lambda w, p, x: jnp.sum(jnp.sin(encoders.weighted_bag(w, p, x)))))
    clean = run(words, positions, weights)
    for junk in (-1, 6, 10**9):
        spoiled = np.where(MASK, positions, junk).astype(np.int32)
        np.testing.assert_allclose(encoders.weighted_bag(words, spoiled, weights), expected, atol=1e-6)
        chex.assert_trees_all_close(run(words, spoiled, weights), clean, atol=1e-6)
    assert not encoders.weighted_bag(words, positions, weights)[3].any()
    half = encoders.weighted_bag(words.astype(jnp.bfloat16), positions, weights)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), expected, atol=0.05)


def test_sif_weights_are_the_formula_and_large_smoothing_gives_the_mean():
    rng = np.random.default_rng(0)
    shares = np.append(rng.dirichlet(np.full(5, 0.3)), 0)
    ids = rng.integers(0, 6, (B, T))
    expected = np.zeros((B, T))
    for b in range(B):
        for t in np.flatnonzero(MASK[b]):
            expected[b, t] = 0.01 / (0.01 + shares[ids[b, t]]) / MASK[b].sum()
    run = jax.jit(lambda s, i, m: encoders.sif_weights(s, i, m, smoothing=0.01))
    np.testing.assert_allclose(run(shares, np.where(MASK, ids, -9), MASK), expected, rtol=1e-6)
    table = rng.normal(size=(6, D)).astype(np.float32)
    means = [table[ids[b][MASK[b]]].mean(axis=0) if MASK[b].any() else np.zeros(D) for b in range(B)]
    wide = encoders.sif_weights(shares, ids, MASK, smoothing=1e9)
    np.testing.assert_allclose(encoders.weighted_bag(table, ids, wide), means, atol=1e-6)
    none = encoders.sif_weights(0 * shares, ids, MASK)
    np.testing.assert_allclose(none, wide, rtol=1e-6)


def test_sif_weights_refuse_other_arrays():
    ids, mask = np.zeros((2, 3), int), np.ones((2, 3), bool)
    refused("mask", lambda: encoders.sif_weights(np.ones(4), ids, mask[:1]))
    refused("shares", lambda: encoders.sif_weights(np.ones((4, 1)), ids, mask))
    for bad in (0, np.inf, np.nan):
        call = lambda bad=bad: encoders.sif_weights(np.ones(4), ids, mask, smoothing=bad)  # noqa: E731
        refused(f"smoothing: {bad} is not a number above 0", call)
    refused("^shares: .*NaN", lambda: encoders.sif_weights(np.full(4, np.nan), ids, mask))
