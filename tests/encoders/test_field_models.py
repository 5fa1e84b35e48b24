"""Models of fields: loops, independence of examples, gradients, dtypes, dropout, sizes."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_ctr
import pytest
from field_cases import DENSE, LINEAR, MODELS, VECTORS, WIDTH, B, D, F, X, drawn, wide

from jaxembed import encoders


@functools.cache
def jitted(name):
    return jax.jit(MODELS[name][1])


@pytest.mark.parametrize("name", MODELS)
def test_models_equal_the_loops_jitted_or_not(name):
    params, (_, apply, oracle) = drawn(name), MODELS[name]
    found = apply(params, VECTORS, DENSE, LINEAR)
    wanted = oracle(wide(params), *(x.astype(np.float64) for x in (VECTORS, DENSE, LINEAR)))
    assert found.shape == (B,) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jitted(name)(params, VECTORS, DENSE, LINEAR), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_examples_do_not_see_each_other(name):
    order = np.array([2, 0, 3, 1])
    run = functools.partial(jitted(name), drawn(name))
    np.testing.assert_allclose(
        run(VECTORS[order], DENSE[order], LINEAR[order]), run(VECTORS, DENSE, LINEAR)[order], rtol=1e-5
    )
    if name == "dcn mixture":  # one example keeps its axis
        one = run(VECTORS[:1], DENSE[:1], LINEAR[:1])
        np.testing.assert_allclose(one, run(VECTORS, DENSE, LINEAR)[:1], rtol=1e-5, atol=1e-5)
    assert jax.eval_shape(run, VECTORS[:0], DENSE[:0], LINEAR[:0]).shape == (0,)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_and_input_has_its_numerical_gradient(name):
    init, apply, _ = MODELS[name]
    params = wide(drawn(name))
    with jax.enable_x64(True):
        flat, restore = jax.flatten_util.ravel_pytree(
            (params, *(jnp.asarray(x, jnp.float64) for x in (VECTORS, DENSE, LINEAR)))
        )
        both = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(apply(*restore(x))))))
        gradient = both(flat)[1]
        assert gradient.dtype == jnp.float64
        for seed in range(3):
            way = np.random.default_rng(seed).normal(size=flat.size)
            slope = oracles.numerical_gradient(lambda t, way=way: both(flat + t[0] * way)[0], np.zeros(1))[0]
            np.testing.assert_allclose(gradient @ way, slope, rtol=1e-6, atol=1e-7)
        used = jax.tree.map(lambda g: bool(jnp.any(g != 0)), restore(gradient))
    assert all(jax.tree.leaves((used[0], used[1:3])))


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_vectors_give_float32_logits_near_the_exact_ones(name):
    init, apply, oracle = MODELS[name]
    small = [jnp.asarray(x, jnp.bfloat16) for x in (VECTORS, DENSE, LINEAR)]
    found = jitted(name)(drawn(name), *small)
    wanted = oracle(wide(drawn(name)), *(np.asarray(x, np.float64) for x in small))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, atol=0.03 * np.abs(wanted).max())
    gradient = jax.grad(lambda *x: jnp.sum(apply(*x)), argnums=(0, 1))
    gradients = jax.eval_shape(gradient, drawn(name), *small)
    assert {g.dtype for g in jax.tree.leaves(gradients[0])} == {jnp.dtype(jnp.float32)}
    assert gradients[1].dtype == jnp.bfloat16


def test_models_without_dense_features():
    linear = np.zeros_like(LINEAR)
    params = encoders.init_deepfm(jax.random.key(0), F, D, hidden=(4,))
    found = encoders.deepfm(params, VECTORS)
    np.testing.assert_allclose(
        found, oracles_ctr.deepfm(wide(params), VECTORS, None, linear), rtol=1e-4, atol=1e-5
    )
    params = encoders.init_dlrm(jax.random.key(0), F, D, top=(4,))
    found = encoders.dlrm(params, VECTORS)
    np.testing.assert_allclose(found, oracles_ctr.dlrm(wide(params), VECTORS, None), rtol=1e-4, atol=1e-5)
    params = encoders.init_dcn(jax.random.key(0), F * D, layers=1, hidden=())
    found = encoders.dcn(params, VECTORS)
    crossed = encoders.cross_network(params["cross"], VECTORS.reshape(B, -1))
    np.testing.assert_allclose(found, crossed @ params["head"]["kernel"][:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoders.dcn(params, VECTORS.reshape(B, -1)), found)  # [B, total]


def test_seeds_are_an_axis_to_map_over():
    keys = jax.random.split(jax.random.key(0), 3)
    params = jax.jit(jax.vmap(MODELS["dcn mixture"][0]))(keys)
    run = jax.jit(jax.vmap(encoders.dcn, in_axes=(0, None, None)))
    one = jax.tree.map(lambda x: x[1], params)
    wanted = jitted("dcn mixture")(one, VECTORS, DENSE, LINEAR)
    np.testing.assert_allclose(run(params, VECTORS, DENSE)[1], wanted, rtol=1e-4, atol=1e-5)


def test_options_of_the_cross_network_reach_it():
    params = drawn("dcn full")
    diagonal = functools.partial(encoders.cross_network, diagonal=0.5)
    found = encoders.dcn(params, VECTORS, DENSE, cross=diagonal)
    shifted = {"kernel": params["cross"]["kernel"] + 0.5 * jnp.eye(WIDTH), "bias": params["cross"]["bias"]}
    np.testing.assert_allclose(
        found, encoders.dcn({**params, "cross": shifted}, VECTORS, DENSE), rtol=1e-3, atol=1e-4
    )


def test_dropout_needs_a_key_and_keeps_the_mean():
    params = encoders.init_mlp(jax.random.key(0), (6, 4000))
    plain = encoders.mlp(params, X, final=True)
    np.testing.assert_array_equal(encoders.mlp(params, X, final=True, dropout=0.5), plain)
    key = jax.random.key(5)
    noisy = encoders.mlp(params, X, final=True, dropout=0.25, key=key)
    active = plain > 0
    np.testing.assert_allclose((noisy == 0)[active].mean(), 0.25, atol=0.03)
    np.testing.assert_allclose(noisy[noisy > 0], plain[noisy > 0] / 0.75, rtol=1e-5)
    np.testing.assert_array_equal(encoders.mlp(params, X, dropout=0.25, key=key), encoders.mlp(params, X))
    for name in ("deepfm", "dlrm", "dcn full"):
        noise = jax.jit(functools.partial(MODELS[name][1], dropout=0.9, key=key))
        found = noise(drawn(name), VECTORS, DENSE, LINEAR)
        assert not np.allclose(found, jitted(name)(drawn(name), VECTORS, DENSE, LINEAR)), name


def test_initial_sizes_are_the_documented_ones():
    params = jax.jit(lambda key: encoders.init_dlrm(key, 26, 16, dense=13))(jax.random.key(0))
    kernel, bias = params["bottom"]["layer_0"]["kernel"], params["bottom"]["layer_0"]["bias"]
    assert [params["bottom"][f"layer_{i}"]["kernel"].shape for i in range(4)] == [
        (13, 512),
        (512, 256),
        (256, 64),
        (64, 16),
    ]
    np.testing.assert_allclose(kernel.std(), (2 / (13 + 512)) ** 0.5, rtol=0.03)
    np.testing.assert_allclose(bias.std(), 512**-0.5, rtol=0.1)
    cross = encoders.init_cross(jax.random.key(0), 100, layers=2)
    np.testing.assert_allclose(cross["kernel"].std(axis=(1, 2)), 0.1, rtol=0.03)
    assert not cross["bias"].any()
    other = encoders.init_cross(
        jax.random.key(0), 100, layers=1, kernel_init=jax.nn.initializers.constant(0.3)
    )
    np.testing.assert_allclose(other["kernel"], 0.3)
