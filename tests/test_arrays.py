"""Unit vectors, masked means and inner products equal their loops at any size."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from small_transformer import MASK, B, D, T

from jaxembed import arrays

# Arrays


def test_unit_masked_mean_and_inner_equal_their_oracles():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(B, T, D)).astype(np.float32), rng.normal(size=(3, D)).astype(np.float32)
    x[0, 0] = 0
    np.testing.assert_allclose(arrays.unit(x), oracles.unit(x), atol=1e-6)
    np.testing.assert_allclose(arrays.masked_mean(x, MASK), oracles.masked_mean(x, MASK), atol=1e-6)
    np.testing.assert_allclose(arrays.inner(x[0], y), oracles.inner(x[0], y), atol=1e-5)


@pytest.mark.parametrize("size", [1e-30, 1e-8, 1.0, 1e8, 1e30])
def test_unit_has_length_one_at_any_size(size):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, D)).astype(np.float32)) * size
    np.testing.assert_allclose(jnp.linalg.norm(arrays.unit(x), axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(arrays.unit(arrays.unit(x)), arrays.unit(x), atol=1e-6)
    across = jax.grad(lambda v: jnp.sum(arrays.unit(v) * jnp.arange(D)))(x) * x
    np.testing.assert_allclose(across.sum(-1), 0, atol=1e-4)  # a longer vector has the same direction


def test_unit_vectors_of_integers_are_floats():
    found = arrays.unit(jnp.array([[3, 4]], jnp.uint8))
    np.testing.assert_allclose(found, [[0.6, 0.8]], atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_unit_along_any_axis(axis):
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    expected = np.moveaxis(oracles.unit(np.moveaxis(x, axis, -1)), -1, axis)
    np.testing.assert_allclose(arrays.unit(x, axis=axis), expected, atol=1e-6)


def test_numerical_gradients_of_the_arrays_in_float64():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 3, 4)), rng.normal(size=(2, 4))
    mask = np.array([[True, False, True]])
    functions = [
        lambda v: jnp.sum(y[0] * jnp.sin(arrays.unit(v))),
        lambda v: jnp.sum(y * jnp.sin(arrays.masked_mean(v, mask))),
        lambda v: jnp.sum(jnp.sin(arrays.inner(v, y))),
    ]
    with jax.enable_x64(True):
        for f in functions:
            numerical = oracles.numerical_gradient(jax.jit(f), x)
            np.testing.assert_allclose(jax.grad(f)(jnp.asarray(x)), numerical, atol=1e-8)
