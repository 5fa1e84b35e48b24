"""Crowding of vectors and the smoothing of attention: slow loops, bounds, limits and padding."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders, metrics

RNG = np.random.default_rng(0)


def stochastic(n, strength, seed=0, batch=()):
    """Softmax of independent normal scores, float64."""
    powers = np.exp(strength * np.random.default_rng(seed).normal(size=(*batch, n, n)))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_mean_cosine_equals_a_loop_over_pairs():
    x = RNG.normal(size=(3, 5, 4)).astype(np.float32)
    x[1, 2] = 0
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 0]], bool)
    found = jax.jit(metrics.mean_cosine)(jnp.where(mask[..., None], x, jnp.nan), mask)
    for b, wanted in enumerate(found):
        rows = [v / max(np.linalg.norm(v), 1e-30) for v in x[b][mask[b]].astype(np.float64)]
        pairs = [u @ v for i, u in enumerate(rows) for j, v in enumerate(rows) if i != j]
        assert wanted == pytest.approx(np.mean(pairs) if pairs else 0, abs=1e-6)
    np.testing.assert_allclose(metrics.mean_cosine(x[0]), found[0], atol=1e-6)


def test_high_frequency_is_a_projection_that_removes_the_mean_of_real_tokens():
    x = RNG.normal(size=(2, 6, 3)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 0, 0], [0] * 6], bool)
    found = np.asarray(metrics.high_frequency(np.where(mask[..., None], x, np.nan), mask))
    centre = np.eye(4) - 1 / 4
    np.testing.assert_allclose(found[0, :4], centre @ x[0, :4], atol=1e-6)
    assert not found[0, 4:].any() and not found[1].any()
    np.testing.assert_allclose(metrics.high_frequency(found, mask), found, atol=1e-6)


def test_filter_rate_equals_the_singular_value_of_the_definition():
    weights = stochastic(5, 1.5, batch=(2, 3)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    junk = np.where(mask[:, None, :, None] & mask[:, None, None], weights, np.nan)
    found = jax.jit(metrics.filter_rate)(junk, mask[:, None])
    for b, n in ((0, 5), (1, 3)):
        for h in range(3):
            rest = (np.eye(n) - 1 / n) @ weights[b, h, :n, :n].astype(np.float64)
            assert found[b, h] == pytest.approx(np.linalg.svd(rest)[1][0], rel=1e-5)
    one = metrics.filter_rate(weights[:1], np.array([[[True] + [False] * 4]]))
    np.testing.assert_array_equal(one, np.zeros((1, 3)))


def test_what_passes_one_attention_is_bounded_by_its_rate():
    weights, x = stochastic(12, 2.0), RNG.normal(size=(12, 4))
    rest = np.asarray(metrics.high_frequency(weights @ x))
    passed = np.asarray(metrics.high_frequency(weights)) @ np.asarray(metrics.high_frequency(x))
    np.testing.assert_allclose(rest, passed, atol=1e-5)
    bound = metrics.filter_rate(weights) * np.linalg.norm(metrics.high_frequency(x))
    assert 0 < np.linalg.norm(rest) <= bound
    kernel = RNG.normal(size=(4, 4))
    after = np.linalg.norm(metrics.high_frequency(weights @ x @ kernel))
    assert after <= bound * np.linalg.norm(kernel, 2)


@pytest.mark.parametrize("strength, wanted", [(0.5, (0.230, 0.127, 0.065)), (0.625, (0.283, 0.178, 0.086))])
def test_the_rate_of_random_attention_falls_with_length_and_rises_with_sharpness(strength, wanted):
    """Scores of standard deviation .5 at temperature 1 and .8; from 64 tokens near 2 sqrt((e^v - 1) / n)."""
    for n, number in zip((16, 64, 256), wanted, strict=True):
        rates = metrics.filter_rate(stochastic(n, strength, batch=(256 // n,)))
        assert np.mean(rates) == pytest.approx(number, rel=0.12)
        if n >= 64 and strength == 0.5:
            assert np.mean(rates) == pytest.approx(2 * np.sqrt(np.expm1(strength**2) / n), rel=0.1)


def test_gradients_are_finite_where_nothing_is_left():
    mask = jnp.array([[True, False, False], [False] * 3])
    junk = jnp.full((2, 3, 3), jnp.nan).at[0, 0].set(1.0)  # the one real token
    for function in (metrics.filter_rate, metrics.mean_cosine, metrics.high_frequency):
        value, gradient = jax.value_and_grad(lambda x, f=function: jnp.sum(f(x, mask)))(junk)
        assert value == 0 and not np.asarray(gradient).any()
    big = 1e4 * jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)
    chex.assert_tree_all_finite(jax.grad(lambda x: metrics.filter_rate(x) + metrics.mean_cosine(x))(big))


def test_wrong_shapes_raise_one_line():
    with pytest.raises(ValueError, match=r"weights: shape \(2, 3\); pass \[..., T, T\]"):
        metrics.filter_rate(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"mask: shape \(2,\) for vectors \(3, 2\)"):
        metrics.mean_cosine(jnp.ones((3, 2)), jnp.ones(2, bool))


# Attention of an encoder, read


def test_attention_weights_are_those_of_the_attention():
    queries, keys = (jnp.asarray(RNG.normal(size=(2, 5, h, 3)), jnp.float32) for h in (4, 2))
    values, bias = (
        jnp.asarray(RNG.normal(size=(2, 5, 2, 3)), jnp.float32),
        jnp.asarray(RNG.normal(size=(4, 5, 5))),
    )
    mask = jnp.array([[True] * 5, [False] * 5])
    options = {"bias": bias, "temperature": 0.7}
    weights = encoders.attention_weights(queries, keys, mask, **options)
    wanted = encoders.dot_product_attention(queries, keys, values, mask, **options)
    mixed = np.einsum("bhts,bshd->bthd", weights, np.repeat(values, 2, axis=2))
    np.testing.assert_allclose(mixed, wanted, atol=1e-5)
    np.testing.assert_allclose(weights[0].sum(axis=-1), 1, rtol=1e-5)
    assert weights.shape == (2, 4, 5, 5) and not np.asarray(weights[1]).any()


def encoder(**options):
    def init_embed(key):
        return {"table": {"embedding": 3 * jax.random.normal(key, (20, 8))}}

    def embed(params, batch):
        return params["table"]["embedding"][batch["ids"]], batch["mask"]

    made = encoders.transformer(init_embed, embed, width=8, layers=3, heads=2, mlp_width=8, **options)
    ids = jnp.array([[16, 7, 0, 13, 8, 4], [18, 1, 6, 3, 8, 13]])  # distinct: equal tokens tie
    batch = {"ids": ids, "mask": jnp.array([[True] * 6, [True] * 4 + [False] * 2])}
    params = made.init(jax.random.key(0))
    query = params["blocks"]["attention"]["query"]
    params["blocks"]["attention"]["query"] = jax.tree.map(lambda x: 4 * x, query)  # far from uniform
    return made.hidden, params, batch


def test_hidden_reads_the_attention_of_every_block():
    hidden, params, batch = encoder()
    keep = jax.jit(lambda p, b: hidden(p, b, attention=lambda weights, mask: weights))(params, batch)
    plain = hidden(params, batch)
    chex.assert_trees_all_close(keep["layers"], plain["layers"], atol=1e-6)
    assert "attention" not in plain and keep["attention"].shape == (2, 3, 2, 6, 6)
    x = params["table"]["embedding"][batch["ids"][0]]
    block = jax.tree.map(lambda p: p[0], params["blocks"])
    x = (x - x.mean(axis=1, keepdims=True)) / jnp.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
    q, k = ((x @ block["attention"][n]["kernel"]).reshape(6, 2, 4) for n in ("query", "key"))
    first = jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k) / 2, axis=-1)
    np.testing.assert_allclose(keep["attention"][0, 0], first, atol=1e-5)
    short = hidden(params, batch, layers=2, attention=lambda weights, mask: weights[:, :, 0, 0])
    np.testing.assert_allclose(short["attention"], keep["attention"][:, :2, :, 0, 0], atol=1e-6)


def test_lower_temperatures_sharpen_the_attention_of_the_first_block():
    hidden, params, batch = encoder()
    found = {}
    for t in (1.0, 0.5, 1e-3, 1e6):
        keep = hidden(params, batch, temperature=t, attention=lambda weights, mask: weights)
        weights = np.asarray(keep["attention"][1, 0, :, :4], np.float64)
        assert not weights[..., 4:].any()  # padding is never read
        found[t] = weights[..., :4]
    entropy = {t: -np.sum(w * np.log(np.maximum(w, 1e-30)), axis=-1) for t, w in found.items()}
    assert (entropy[0.5] <= entropy[1.0] + 1e-6).all() and (entropy[0.5] < entropy[1.0] - 1e-3).any()
    np.testing.assert_array_equal(found[0.5].argmax(axis=-1), found[1.0].argmax(axis=-1))
    np.testing.assert_allclose(found[1e-3].max(axis=-1), 1, atol=1e-3)
    rates = np.asarray(metrics.filter_rate(found[1e6]))
    np.testing.assert_allclose(found[1e6], 0.25, atol=1e-4)
    assert rates.max() < 1e-3


# Directions that vectors use, and gates


def test_the_spectrum_is_that_of_numpys_covariance():
    x = RNG.normal(size=(50, 6)) @ np.diag([5, 3, 2, 1, 0.5, 0]) + 7
    found = np.asarray(jax.jit(metrics.covariance_spectrum)(x.astype(np.float32)))
    wanted = np.linalg.svd(x - x.mean(axis=0))[1] ** 2 / 50
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert (np.diff(found) <= 0).all() and (found >= 0).all()


def test_effective_rank_equals_its_definition_and_its_limits():
    x = RNG.normal(size=(40, 5)) * [4, 2, 1, 1, 0.1]
    shares = np.linalg.svd(x - x.mean(axis=0))[1] ** 2
    shares /= shares.sum()
    assert metrics.effective_rank(x) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-4)
    even = RNG.normal(size=(50_000, 8))
    assert metrics.effective_rank(even) == pytest.approx(8, rel=1e-3)
    line = RNG.normal(size=(30, 1)) * RNG.normal(size=8) + 3
    assert metrics.effective_rank(line) == pytest.approx(1, abs=1e-3)
    for n, k in ((4, 9), (12, 3)):
        assert metrics.effective_rank(RNG.normal(size=(n, k))) <= min(n - 1, k) + 1e-3
    assert metrics.effective_rank(np.ones((5, 3))) == 0
    rotation = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    assert metrics.effective_rank(9 * x @ rotation) == pytest.approx(
        float(metrics.effective_rank(x)), rel=1e-3
    )


def test_rows_that_do_not_count_are_left_out_of_the_spectrum():
    x, keep = RNG.normal(size=(20, 4)).astype(np.float32), RNG.random(20) < 0.6
    spoiled = np.where(keep[:, None], x, np.nan)
    for function in (metrics.covariance_spectrum, metrics.effective_rank):
        np.testing.assert_allclose(function(spoiled, where=keep), function(x[keep]), rtol=1e-4)


def test_gate_statistics_equal_a_loop():
    gates = RNG.random((4, 3, 5)).astype(np.float32)
    gates[0, 0, :2] = 0, 1
    found = metrics.gate_statistics(gates)
    entropy = [-(g * np.log(g) + (1 - g) * np.log(1 - g)) if 0 < g < 1 else 0 for g in gates.ravel()]
    assert found["activation"] == pytest.approx(gates.sum(axis=-1).mean(), rel=1e-5)
    assert found["entropy"] == pytest.approx(np.mean(entropy), rel=1e-5)
    chex.assert_tree_all_finite(jax.grad(lambda g: metrics.gate_statistics(g)["entropy"])(jnp.eye(3)))


def test_linear_cka_is_its_formula_and_forgets_turns_moves_and_scales():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 4))
    a, b = (v - v.mean(0) for v in (x, y))
    k, m = a @ a.T, b @ b.T
    expected = np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m))
    np.testing.assert_allclose(metrics.linear_cka(x, y), expected, rtol=1e-4)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    np.testing.assert_allclose(metrics.linear_cka(1e-20 * x @ turn + 1e-20, y), expected, rtol=1e-3)
    np.testing.assert_allclose(metrics.linear_cka(x, 1e18 * x @ turn), 1, rtol=1e-4)
    assert metrics.linear_cka(x, np.ones((50, 2))) == 0
    with pytest.raises(ValueError, match=r"second: shape \(49, 4\); pass \[50, any\]"):
        metrics.linear_cka(x, y[1:])
