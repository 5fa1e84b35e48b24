"""Attention and its masks equal their loops; scores of any size stay finite."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from small_transformer import HEADS, LAYERS, MASK, B, T, built, example, full_run

from jaxembed import encoders

KEY = jax.random.key(0)

# Attention


@pytest.mark.parametrize("kind", ["none", "keys", "pairs"])
def test_attention_equals_the_oracle(kind):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(B, 3, HEADS, 4)).astype(np.float32)
    k, v = rng.normal(size=(2, B, T, HEADS, 4)).astype(np.float32)
    mask = {"none": None, "keys": MASK, "pairs": rng.random((B, 3, T)) < 0.5}[kind]
    if kind == "pairs":
        mask[0, 1] = False
    expected = oracles.dot_product_attention(q, k, v, mask)
    np.testing.assert_allclose(encoders.dot_product_attention(q, k, v, mask), expected, atol=1e-5)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_attention_is_finite_at_extreme_scores_and_without_keys(size):
    x = size * jax.random.normal(jax.random.key(0), (B, T, HEADS, 4))

    def total(x):
        out = encoders.dot_product_attention(x, x, x, MASK)
        return jnp.sum(out), out

    gradient, out = jax.grad(total, has_aux=True)(x)
    chex.assert_tree_all_finite((gradient, out))
    assert not out[3].any()
    assert not gradient[3].any()


def test_dropout_hides_weights_and_keeps_their_mean():
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 6, HEADS, 4)).astype(np.float32)
    eye = np.broadcast_to(np.eye(6, dtype=np.float32)[None, :, None], (1, 6, HEADS, 6))  # shows the weights
    whole = np.asarray(encoders.dot_product_attention(q, k, eye))
    attend = jax.jit(lambda key: encoders.dot_product_attention(q, k, eye, dropout=0.25, key=key))
    noisy = np.stack([attend(jax.random.key(n)) for n in range(400)])
    kept = noisy != 0
    np.testing.assert_allclose(noisy[kept], np.broadcast_to(whole / 0.75, noisy.shape)[kept], rtol=1e-5)
    np.testing.assert_allclose(kept.mean(axis=0), 0.75, atol=0.1)
    assert kept.mean() == pytest.approx(0.75, abs=0.01)
    np.testing.assert_array_equal(encoders.dot_product_attention(q, k, eye, dropout=0.25), whole)
    nothing = encoders.dot_product_attention(q, k, eye, np.zeros((1, 6), bool), dropout=0.25, key=KEY)
    assert not np.asarray(nothing).any()


def test_numerical_gradients_of_attention_in_float64():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(2, 3, 2, 2)), np.array([[True, False, True], [False, False, False]])
    with jax.enable_x64(True):

        @jax.jit
        def total(x):
            return jnp.sum(jnp.sin(encoders.dot_product_attention(x, jnp.cos(x), x**2, mask)))

        analytic = jax.grad(total)(jnp.asarray(x))
        np.testing.assert_allclose(analytic, oracles.numerical_gradient(total, x), atol=1e-8)


# Masks, temperature, positions and variants of the block


def test_shared_key_heads_bias_and_temperature_equal_the_oracle():
    rng = np.random.default_rng(0)
    q = rng.normal(size=(B, T, 4, 3)).astype(np.float32)
    k, v = rng.normal(size=(2, B, T, 2, 3)).astype(np.float32)
    bias, temperature = rng.normal(size=(4, T, T)), np.array([0.5, 1.0, 2.0, 3.0])
    out = encoders.dot_product_attention(q, k, v, MASK, bias=bias, temperature=temperature)
    for head in range(4):
        wide = np.concatenate([q[:, :, head] / 3**0.5, np.broadcast_to(np.eye(T), (B, T, T))], axis=-1)
        keys = np.concatenate([k[:, :, head // 2], np.broadcast_to(bias[head].T, (B, T, T))], axis=-1)
        values = np.concatenate([v[:, :, head // 2], np.zeros((B, T, T))], axis=-1)
        scale = (3 + T) ** 0.5 / temperature[head]
        expected = oracles.dot_product_attention(
            scale * wide[:, :, None], keys[:, :, None], values[:, :, None], MASK
        )
        np.testing.assert_allclose(out[:, :, head], expected[:, :, 0, :3], atol=1e-5)
    with pytest.raises(ValueError, match="keys have 3 heads, which do not divide the 4 heads"):
        encoders.dot_product_attention(q, np.zeros((B, T, 3, 3)), np.zeros((B, T, 3, 3)))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 0, 2])
@pytest.mark.parametrize("prefix", [None, [0, 2, 5, 1]])
def test_masks_follow_their_definition(causal, window, prefix):
    if prefix is not None and not causal:
        return
    out = encoders.attention_mask(jnp.asarray(MASK), causal=causal, window=window, prefix=prefix)
    out = np.broadcast_to(out if out.ndim == 3 else out[:, None], (B, T, T))
    for b, t, s in np.ndindex(B, T, T):
        seen = MASK[b, s] and (window is None or abs(t - s) <= window)
        if causal:
            seen = seen and (s <= t or (prefix is not None and s < prefix[b]))
        assert out[b, t, s] == seen


def test_temperatures_of_one_change_nothing_and_large_ones_average_the_values():
    encoder, params, run = built()
    for ones in (1.0, np.ones(LAYERS), np.ones((LAYERS, HEADS))):
        out = jax.jit(encoder.hidden)(params, example(), temperature=ones)
        chex.assert_trees_all_close(out, full_run(), atol=1e-5)
    x = np.random.default_rng(0).normal(size=(B, T, HEADS, 4)).astype(np.float32)
    flat = encoders.dot_product_attention(x, x, x, MASK, temperature=1e8)
    expected = oracles.masked_mean(x.reshape(B, T, -1), MASK).reshape(B, 1, HEADS, 4)
    np.testing.assert_allclose(flat, np.repeat(expected, T, axis=1), atol=1e-5)
    sharp = encoders.dot_product_attention(x, x, x, MASK, temperature=1e-6)
    nearest = np.argmax(np.where(MASK[0], np.einsum("thd,shd->hts", x[0], x[0]), -np.inf), axis=-1)
    np.testing.assert_allclose(sharp[0, :, 0], x[0, nearest[0], 0], atol=1e-5)
    with pytest.raises(ValueError, match=r"temperature \(2,\): give a float, \[L\] or \[L, H\] with L=3"):
        encoder.hidden(params, example(), temperature=np.ones(2))
