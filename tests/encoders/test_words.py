"""Bags of words equal their loop."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
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
