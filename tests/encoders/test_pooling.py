"""Poolings equal their loops, ignore padding, keep dtypes and stay finite."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from models import golden
from small_transformer import MASK, B, D, T

from jaxembed import arrays, encoders

# Poolings


QUERY = np.random.default_rng(7).normal(size=(2, D)).astype(np.float32)
KERNEL = np.random.default_rng(8).normal(size=(D, 3)).astype(np.float32)
LATENTS = jax.tree.map(
    lambda p: p + 0.3 * np.random.default_rng(9).normal(size=p.shape).astype(np.float32),
    encoders.init_latent_attention(jax.random.key(0), D, latents=3, heads=2, head_width=4),
)
POOLINGS = {
    "mean_pool": (encoders.mean_pool, oracles.masked_mean),
    "cls_pool": (encoders.cls_pool, oracles.cls_pool),
    "last_pool": (encoders.last_pool, oracles.last_pool),
    "attention_pool": (
        lambda t, m: encoders.attention_pool({"query": QUERY}, t, m),
        lambda t, m: oracles.attention_pool(QUERY, t, m),
    ),
    "multi_vector": (encoders.multi_vector, oracles.multi_vector),
    "multi_vector with kernel": (
        lambda t, m: encoders.multi_vector(t, m, KERNEL),
        lambda t, m: oracles.multi_vector(t, m, KERNEL),
    ),
    "masked_mean": (arrays.masked_mean, oracles.masked_mean),
    "max_pool": (
        encoders.max_pool,
        lambda t, m: np.where(m.any(1)[:, None], np.where(m[..., None], t, -np.inf).max(1), 0),
    ),
    "weighted_mean_pool": (
        encoders.weighted_mean_pool,
        lambda t, m: np.stack([_weighted(x, k) for x, k in zip(t, m, strict=True)]),
    ),
    "latent_attention_pool": (
        lambda t, m: encoders.latent_attention_pool(LATENTS, t, m, heads=2),
        lambda t, m: oracles.latent_attention_pool(LATENTS, t, m, heads=2),
    ),
}


def _weighted(x, keep):
    weights = np.arange(1, len(x) + 1) * keep
    return np.average(x, axis=0, weights=weights) if keep.any() else np.zeros(x.shape[1])


def tokens(seed=0):
    return np.random.default_rng(seed).normal(size=(B, T, D)).astype(np.float32)


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_equal_their_oracles_and_jit(name):
    pool, oracle = POOLINGS[name]
    out = pool(jnp.asarray(tokens()), jnp.asarray(MASK))
    np.testing.assert_allclose(out, oracle(tokens(), MASK), atol=1e-5)
    np.testing.assert_allclose(jax.jit(pool)(tokens(), MASK), out, atol=1e-6)


@pytest.mark.parametrize("junk", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_ignore_padding_in_values_and_gradients(name, junk):
    pool, _ = POOLINGS[name]
    spoiled = np.where(MASK[..., None], tokens(), np.float32(junk))

    @jax.jit
    def run(x):
        def total(x):
            out = pool(x, MASK)
            return jnp.sum(jnp.sin(out)), out

        return jax.grad(total, has_aux=True)(x)

    clean, result = run(tokens()), run(spoiled)
    chex.assert_tree_all_finite(clean)
    chex.assert_trees_all_equal(result, clean)
    gradient, out = clean
    assert not out[3].any()
    assert not np.asarray(gradient)[~MASK].any()
    assert np.asarray(gradient)[MASK].any()


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_are_finite_at_extreme_values_and_permute_with_the_batch(name):
    pool, _ = POOLINGS[name]
    run = jax.jit(jax.value_and_grad(lambda x, m: jnp.sum(pool(x, m))))
    for size in (1e4, -1e4, 0):
        chex.assert_tree_all_finite(run(np.float32(size) * tokens(), MASK))
    order = np.array([3, 1, 0, 2])
    out, moved = pool(tokens(), MASK), pool(tokens()[order], MASK[order])
    np.testing.assert_allclose(moved, np.asarray(out)[order], atol=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_keep_the_dtype(name):
    pool, _ = POOLINGS[name]
    expected = jnp.float32 if "kernel" in name else jnp.bfloat16  # the kernel is float32
    assert pool(jnp.asarray(tokens(), jnp.bfloat16), jnp.asarray(MASK)).dtype == expected


def test_a_zero_query_pools_as_the_mean():
    params = {"query": jnp.zeros((3, D))}
    out = encoders.attention_pool(params, tokens(), MASK)
    np.testing.assert_allclose(out, oracles.masked_mean(tokens(), MASK), atol=1e-6)
    drawn = encoders.init_attention_pool(jax.random.key(0), 4000, heads=3)["query"]
    assert drawn.shape == (3, 4000)
    assert float(drawn.std()) == pytest.approx(4000**-0.5, rel=0.03)


def test_tokens_become_unit_vectors():
    lengths = np.linalg.norm(encoders.multi_vector(tokens(), MASK, KERNEL), axis=-1)
    np.testing.assert_allclose(lengths, MASK.astype(float), atol=1e-6)


# Latent attention


def latents(seed=0, heads=2):
    """Parameters away from their start, and the pooling with its number of heads."""
    params = encoders.init_latent_attention(jax.random.key(0), D, latents=3, heads=heads, head_width=4)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda p: jnp.asarray(p + 0.3 * rng.normal(size=p.shape), jnp.float32), params)
    return params, functools.partial(encoders.latent_attention_pool, heads=heads)


def test_latent_attention_starts_as_the_mean():
    params = encoders.init_latent_attention(jax.random.key(0), D, latents=3, heads=2)
    assert params["query"]["kernel"].shape == (D, 2 * D)
    out = encoders.latent_attention_pool(params, tokens(), MASK, heads=2)
    np.testing.assert_allclose(out, oracles.masked_mean(tokens(), MASK), atol=1e-6)


def test_latent_attention_is_a_map_of_single_tokens_and_of_a_set_of_latents():
    params, pool = latents()
    out = pool(params, tokens(), MASK)
    each = np.stack(
        [
            np.stack(
                [pool(params, tokens()[b : b + 1, t : t + 1], np.ones((1, 1), bool))[0] for t in range(T)]
            )
            for b in range(2)
        ]
    )
    np.testing.assert_allclose(out[:2], oracles.masked_mean(each, MASK[:2]), atol=1e-5)
    turned = {**params, "latents": {"embedding": params["latents"]["embedding"][::-1]}}
    np.testing.assert_allclose(pool(turned, tokens(), MASK), out, atol=1e-5)
    assert np.abs(out[:3] - oracles.masked_mean(tokens(), MASK)[:3]).max() > 0.1
    with pytest.raises(ValueError, match="heads=3 does not divide the inner width 8"):
        encoders.latent_attention_pool(params, tokens(), MASK, heads=3)


def test_latent_attention_and_its_gradient_equal_torch():
    file = golden("latent_attention")
    p = {k.removeprefix("param."): v for k, v in file.items() if k.startswith("param.")}
    params = {"latents": {"embedding": p["latents"]}}
    params |= {name: {"kernel": p[name].T} for name in ("query", "key_value", "out")}
    params |= {n: {"kernel": p[n].T, "bias": p[f"{n}_bias"]} for n in ("mlp_in", "mlp_out")}
    norms = ("query_norm", "latent_norm", "mlp_norm")
    params |= {n: {"scale": p[f"{n}_scale"], "bias": p[f"{n}_bias"]} for n in norms}

    def total(params):
        out = encoders.latent_attention_pool(params, file["tokens"], file["mask"], heads=3)
        return jnp.sum(jnp.sin(out)), out

    gradient, out = jax.grad(total, has_aux=True)(params)
    np.testing.assert_allclose(out, file["out"], atol=1e-5)
    np.testing.assert_allclose(gradient["latents"]["embedding"], file["gradient_latents"], atol=1e-5)
    np.testing.assert_allclose(gradient["query"]["kernel"].T, file["gradient_query"], atol=1e-5)


def test_a_scalar_mix_is_one_layer_or_the_mean_and_learns_which():
    layers = np.random.default_rng(4).normal(size=(3, B, T, D)).astype(np.float32)
    np.testing.assert_allclose(
        encoders.scalar_mix(layers, np.zeros(3), 2.0), 2 * layers.mean(axis=0), atol=1e-5
    )
    one = encoders.scalar_mix(layers, np.array([0.0, 100.0, 0.0]))
    np.testing.assert_allclose(one, layers[1], atol=1e-6)
    wanted = jax.grad(lambda w: -jnp.sum(encoders.scalar_mix(layers, w) * layers[2]))(jnp.zeros(3))
    assert np.argmin(wanted) == 2
    with pytest.raises(ValueError, match=r"logits: shape \(2,\); pass \[3\]"):
        encoders.scalar_mix(layers, np.zeros(2))
