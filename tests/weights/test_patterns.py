"""Banks without data, and initialisers from banks: closed forms, SciPy, Flax, our nets and torch's names."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy.fft import dctn

from jaxembed import encoders, weights

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_dct_bank_is_orthonormal_and_scipys_transform(size):
    bank = weights.dct_bank(size)
    np.testing.assert_allclose(bank @ bank.T, np.eye(size * size), atol=1e-5)
    patch = RNG.normal(size=(size, size))
    coefficients = bank @ patch.ravel()
    theirs = dctn(patch, norm="ortho")
    np.testing.assert_allclose(np.sort(coefficients), np.sort(theirs.ravel()), atol=1e-4)
    np.testing.assert_array_equal(weights.dct_bank(size, 1), bank[:1])


def test_dct_bank_goes_from_low_to_high_frequencies():
    theirs = [dctn(x.reshape(3, 3), norm="ortho") for x in weights.dct_bank(3)]
    places = [np.unravel_index(np.argmax(np.abs(x)), (3, 3)) for x in theirs]
    assert places == [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (1, 2), (2, 1), (2, 2)]  # zigzag


def test_gabor_bank_is_even_and_odd_and_without_a_mean():
    bank = weights.gabor_bank(7, orientations=6)
    assert bank.shape == (12, 49)
    even, odd = bank[::2], bank[1::2]
    np.testing.assert_allclose(even[:, ::-1], even, atol=1e-5)
    np.testing.assert_allclose(odd[:, ::-1], -odd, atol=1e-5)
    np.testing.assert_allclose(bank.sum(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(bank, axis=1), 1, rtol=1e-5)


def test_gabor_filters_find_their_orientation():
    bank = weights.gabor_bank(9, orientations=4, wavelengths=(4.0,), phases=(0.0,))
    place = np.arange(9) - 4
    y, x = np.meshgrid(place, place, indexing="ij")
    for m, turn in enumerate(np.pi * np.arange(4) / 4):
        grating = np.cos(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / 4)
        assert np.argmax(np.abs(bank @ grating.ravel())) == m
    assert weights.gabor_bank(9, wavelengths=(3.0, 6.0)).shape == (32, 81)


def test_dirac_passes_pictures_through():
    x = jnp.asarray(RNG.normal(size=(2, 5, 5, 3)), jnp.float32)
    same = encoders.convolve(weights.dirac(KEY, (3, 3, 3, 3)), x)
    np.testing.assert_array_equal(same, x)
    more = encoders.convolve(weights.dirac(KEY, (3, 3, 3, 5)), x)
    np.testing.assert_array_equal(more[..., 3:], x[..., :2])


def test_filters_of_a_bank_and_their_negatives_and_mixtures():
    bank = weights.dct_bank(3)[1:]
    kernel = weights.bank_initializer(bank, gain=2.0)(KEY, (3, 3, 1, 20), jnp.float32)
    filters = np.asarray(kernel).reshape(9, 20).T
    np.testing.assert_allclose(filters[:8], 2 * bank, atol=1e-6)
    np.testing.assert_allclose(filters[8:16], -2 * bank, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(filters, axis=1), 2, rtol=1e-5)
    np.testing.assert_allclose(filters[16:].sum(axis=1), 0, atol=1e-5)  # mixtures of a bank without means
    plain = weights.bank_initializer(bank, gain=2.0, signs=False)(KEY, (3, 3, 1, 20))
    assert float(jnp.abs(plain[..., 8:16] + kernel[..., :8]).max()) > 0.1


def test_patterns_of_one_channel_are_spread_over_the_inputs():
    bank = weights.gabor_bank(5)
    kernel = weights.bank_initializer(bank)(KEY, (5, 5, 3, 32), jnp.float32)
    for o in range(32):
        u, s, v = np.linalg.svd(np.asarray(kernel[..., o]).reshape(25, 3))
        np.testing.assert_allclose(s, [math.sqrt(2), 0, 0], atol=1e-5)
        assert abs(u[:, 0] @ bank[o % 16]) == pytest.approx(1, abs=1e-5)


def test_the_usual_scale_is_he_s():
    he = jax.nn.initializers.he_normal()(KEY, (5, 5, 3, 64))
    ours = weights.bank_initializer(weights.dct_bank(5))(KEY, (5, 5, 3, 64), jnp.float32)
    assert float(jnp.std(ours)) == pytest.approx(float(jnp.std(he)), rel=0.1)


INITIALISERS = {
    "dct": weights.bank_initializer(weights.dct_bank(3)),
    "gabor": weights.bank_initializer(weights.gabor_bank(3)),
    "dirac": weights.dirac,
    "patches": weights.bank_initializer(RNG.normal(size=(5, 27))),
    "jax": jax.nn.initializers.orthogonal(),
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialisers_serve_flax_and_every_tree(name):
    init = INITIALISERS[name]
    module = nn.Conv(8, (3, 3), kernel_init=init)
    params = module.init(KEY, jnp.ones((1, 6, 6, 3)))["params"]
    assert params["kernel"].shape == (3, 3, 3, 8) and bool(jnp.isfinite(params["kernel"]).all())
    net = encoders.convnet([8, 4])
    params = net.init(KEY)
    drawn = weights.redraw_kernels(KEY, params, init, "stage_0")
    kernel = drawn["stages"]["stage_0"]["kernel"]
    expected = init(jax.random.fold_in(KEY, 0), (3, 3, 3, 8), jnp.dtype("float32"))
    np.testing.assert_array_equal(kernel, expected)
    assert drawn["stages"]["stage_1"]["kernel"] is params["stages"]["stage_1"]["kernel"]
    torch = {"conv.weight": np.zeros((8, 3, 3, 3), np.float32)}
    np.testing.assert_array_equal(
        weights.redraw_kernels(KEY, torch, init)["conv.weight"], expected.transpose(3, 2, 0, 1)
    )
    if name != "jax":  # jax's takes no half precision on CPU
        assert init(KEY, (3, 3, 3, 8), jnp.bfloat16).dtype == jnp.bfloat16


def test_a_bank_starts_a_dense_layer():
    bank = RNG.normal(size=(4, 6)).astype(np.float32)
    kernel = weights.bank_initializer(bank, gain=1.0)(KEY, (6, 4), jnp.float32)
    np.testing.assert_allclose(kernel.T, bank / np.linalg.norm(bank, axis=1, keepdims=True), rtol=1e-5)


def test_kernels_give_inner_products_of_patches_and_filters():
    filters, x = RNG.normal(size=(4, 18)), RNG.normal(size=(1, 3, 3, 2))
    kernel = weights.filters_to_kernel(filters, (3, 3, 2))
    found = encoders.convolve(kernel, jnp.asarray(x, jnp.float32), padding="VALID")
    np.testing.assert_allclose(found[0, 0, 0], filters @ x.ravel(), rtol=1e-4)


def test_receptive_fields_of_known_nets():
    assert weights.receptive_fields([(3, 1)] * 3) == [(3, 1), (5, 1), (7, 1)]  # three 3 x 3 see as a 7 x 7
    alexnet = [(11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2)]
    assert weights.receptive_fields(alexnet)[-1] == (195, 32)
    assert weights.receptive_fields([(3, 1, 4)]) == [(9, 1)]


def test_receptive_fields_are_where_gradients_are():
    net, params = encoders.convnet([4, 4, 4], norm=None, inputs=1), None
    params = jax.tree.map(jnp.ones_like, net.init(KEY))
    x = jnp.ones((1, 33, 33, 1))
    seen = jax.grad(lambda x: net.maps(params, x)[-1][0, 4, 4, 0])(x)[0, ..., 0]
    (side, step) = weights.receptive_fields([(3, 1), (3, 2), (3, 2)])[-1]
    assert int((seen.sum(axis=0) > 0).sum()) == side and step == 4


def test_bad_input_is_refused_in_one_line():
    refused("count: 10 is outside 1..9", lambda: weights.dct_bank(3, 10))
    refused(r"bank: shape \(9,\)", lambda: weights.bank_initializer(np.ones(9)))
    init = weights.bank_initializer(weights.dct_bank(5))
    refused(r"shape: \(3, 3, 1, 8\) has filters of 9", lambda: init(KEY, (3, 3, 1, 8)))
    params = {"dense": {"kernel": jnp.ones((2, 2))}}
    refused("pattern: '' matches no kernel", lambda: weights.redraw_kernels(KEY, params, init))
    refused(r"filters: shape \(4, 8\); pass", lambda: weights.filters_to_kernel(np.ones((4, 8)), (3, 3, 1)))
    refused(r"layers: \(3, 0\); pass", lambda: weights.receptive_fields([(3, 0)]))
