"""Binary codes: straight-through gradients, packing, Hamming distances, against NumPy and closed forms."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import arrays, vectors

RNG = np.random.default_rng(41)
X = RNG.standard_normal((6, 16)).astype(np.float32) * 2
SIGNS = np.where(X >= 0, 1, -1)

# --- gradients ---


def test_the_sign_has_the_gradient_of_a_clipped_identity_whatever_its_size():
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(vectors.straight_through_sign(x) * X))(X)
    np.testing.assert_allclose(value, np.sum(SIGNS * X), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.where(np.abs(X) <= 1, X, 0))
    np.testing.assert_array_equal(vectors.straight_through_sign(1000 * X), SIGNS)
    edges = jnp.array([-1.0, 0.0, 1.0, 1.0000001])
    wide = jax.grad(lambda x: vectors.straight_through_sign(x).sum())(edges)
    np.testing.assert_array_equal(wide, [1, 1, 1, 0])
    assert vectors.straight_through_sign(jnp.zeros(1, jnp.bfloat16)).dtype == jnp.bfloat16
    free = jax.grad(lambda x: vectors.straight_through_sign(x, clip=jnp.inf).sum())(X)
    np.testing.assert_array_equal(free, np.ones_like(X))


def test_the_bottleneck_is_rounded_and_trains_as_the_sigmoid():
    codes = vectors.binary_bottleneck(X)
    np.testing.assert_array_equal(codes, X > 0)  # exactly 0 and 1, not nearly
    tangent = RNG.standard_normal(X.shape).astype(np.float32)
    _, hard = jax.jvp(vectors.binary_bottleneck, (X,), (tangent,))
    _, soft = jax.jvp(jax.nn.sigmoid, (X,), (tangent,))
    np.testing.assert_array_equal(hard, soft)
    h = jax.nn.sigmoid(X)
    gradient = jax.grad(lambda x: vectors.binary_bottleneck(x).sum())(X)
    np.testing.assert_allclose(gradient, h * (1 - h), rtol=1e-6)
    np.testing.assert_array_equal(vectors.binary_bottleneck(X, mode="none"), h)


def test_noise_pushes_activations_apart_and_vanishes_with_its_deviation():
    key = jax.random.key(0)
    quiet = vectors.binary_bottleneck(X, mode="noise", key=key, deviation=0.0)
    np.testing.assert_allclose(quiet, jax.nn.sigmoid(X), rtol=1e-6)
    many = jnp.zeros((20_000, 1))
    loud = vectors.binary_bottleneck(many, mode="noise", key=key, deviation=4.0)
    inputs = np.log(loud / (1 - loud))
    assert abs(inputs.std() - 4) < 0.1 and abs(inputs.mean()) < 0.1


def test_a_straight_through_value_has_its_own_value_and_the_other_gradient_under_jit_and_vmap():
    def function(x):
        return arrays.straight_through(jnp.round(x), x**2)

    expected = np.round(X[0]), 2 * X[0]
    for run in (jax.vmap(jax.value_and_grad(function)), jax.jit(jax.vmap(jax.value_and_grad(function)))):
        chex.assert_trees_all_close(run(X[0]), expected, rtol=1e-6)


# --- bytes ---


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_bits_are_packed_as_numpy_and_faiss_have_them_and_come_back(kind):
    packed = vectors.pack_bits(kind(SIGNS))
    assert packed.shape == (6, 2) and packed.dtype == np.uint8
    assert isinstance(packed, np.ndarray) == (kind is np.asarray)
    np.testing.assert_array_equal(packed, np.packbits(SIGNS > 0, axis=1, bitorder="little"))
    np.testing.assert_array_equal(vectors.unpack_bits(packed), SIGNS > 0)
    for same in (SIGNS > 0, (SIGNS > 0).astype(np.float16)):
        np.testing.assert_array_equal(vectors.pack_bits(kind(same)), packed)
    np.testing.assert_array_equal(vectors.sign_codes(kind(X)), packed)
    np.testing.assert_array_equal(vectors.sign_codes(kind(np.zeros((1, 8)))), [[255]])  # 0 is +1
    np.testing.assert_array_equal(jax.jit(vectors.pack_bits)(SIGNS), packed)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
def test_hamming_distances_equal_the_loops_inner_products_and_the_triangle(dtype):
    bits = RNG.integers(0, 2, (9, 64))
    packed = vectors.pack_bits(bits).view(dtype)
    loops = [[sum(a != b for a, b in zip(x, y, strict=True)) for y in bits] for x in bits]
    found = np.asarray(vectors.hamming(packed, packed))
    np.testing.assert_array_equal(found, loops)
    assert found.dtype == np.int32
    s = 2 * bits - 1
    np.testing.assert_array_equal(found, (64 - s @ s.T) // 2)
    assert (found[:, None] <= found[:, :, None] + found[None]).all()


def test_random_hyperplanes_hash_the_angle():
    planes = vectors.random_hyperplanes(jax.random.key(1), 16, 8192)
    codes = vectors.sign_codes(X @ np.asarray(planes))
    shares = np.asarray(vectors.hamming(codes, codes)) / 8192
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(shares, np.arccos(np.clip(units @ units.T, -1, 1)) / np.pi, atol=0.02)


# --- bad input ---


def test_bad_codes_are_named():
    refused("bits: shape .* M a multiple of 8", lambda: vectors.pack_bits(np.ones((2, 12))))
    refused("bits: NaN has no code", lambda: vectors.pack_bits(np.full((1, 8), np.nan)))
    refused("x: NaN has no code", lambda: vectors.sign_codes(jnp.full((1, 8), jnp.nan)))
    refused("packed: int32; pass the uint8", lambda: vectors.unpack_bits(np.zeros((1, 1), np.int32)))
    refused("packed: int64; pass the uint8", lambda: vectors.unpack_bits([[131]]))
    a, b = np.zeros((2, 4), np.uint8), np.zeros((2, 5), np.uint8)
    refused("queries: 32 bits .* codes have 40 .* one head", lambda: vectors.hamming(a, b))
    refused("codes: int8", lambda: vectors.hamming(a, a.astype(np.int8)))
    refused("mode: 'hard' is unknown", lambda: vectors.binary_bottleneck(X, mode="hard"))
    refused("key: None", lambda: vectors.binary_bottleneck(X, mode="noise"))
