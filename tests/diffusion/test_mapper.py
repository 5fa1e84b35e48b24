"""NeTI's mapper: kernels of its features, anchors, norms, prefixes and the bypass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import diffusion

FREQUENCIES = diffusion.draw_frequencies(jax.random.key(0), 1024, (0.03, 2.0))
TIMES, LAYERS = np.meshgrid(np.arange(0, 1000, 100), np.arange(16), indexing="ij")
COORDINATES = np.stack([TIMES, LAYERS], axis=-1).reshape(-1, 2)
ANCHORS = diffusion.fourier_features(FREQUENCIES, COORDINATES)
PARAMS = diffusion.init_mapper(jax.random.key(1), ANCHORS, 6, hidden=8)
ASKED = diffusion.fourier_features(FREQUENCIES, np.array([[500, 5], [3, 15], [999, 0]]))


def test_features_are_unit_vectors_whose_products_are_the_kernel():
    np.testing.assert_allclose(np.linalg.norm(ANCHORS, axis=1), np.ones(160), rtol=1e-5)
    at = lambda *x: diffusion.fourier_features(FREQUENCIES, np.array(x))  # noqa: E731
    for other in ((510, 5), (500, 6), (530, 5)):
        distance = np.subtract((500, 5), other) * (0.03, 2.0)
        assert abs(at(500, 5) @ at(*other) - np.exp(-np.sum(distance**2) / 2)) < 0.1  # of 1,024 draws: 0.03


def test_an_axis_without_frequencies_makes_no_difference():
    still = diffusion.draw_frequencies(jax.random.key(0), 16, (0.0, 2.0))
    same = diffusion.fourier_features(still, np.array([[0, 3], [900, 3], [0, 4]]))
    np.testing.assert_array_equal(same[0], same[1])
    assert np.abs(same[0] - same[2]).max() > 0.1


def test_each_unit_of_the_first_layer_answers_most_to_its_own_anchor():
    similar = ANCHORS @ PARAMS["anchors"]["kernel"]
    np.testing.assert_array_equal(similar.argmax(axis=0), np.arange(160))
    np.testing.assert_allclose(np.diag(similar), np.ones(160), rtol=1e-5)


def slow(params, x, keep):
    """Token and bypass of one feature vector, in float64."""
    p = jax.tree.map(np.float64, params)
    h = np.float64(x) @ p["anchors"]["kernel"] + p["anchors"]["bias"]
    for name in ("first", "second"):
        h = h @ p[name]["kernel"] + p[name]["bias"]
        h = (h - h.mean()) / np.sqrt(h.var() + 1e-5) * p[name]["norm"]["scale"] + p[name]["norm"]["bias"]
        h = np.maximum(h, 0.01 * h)
    h[keep:] = 0
    y = np.concatenate([h @ p[name]["kernel"] + p[name]["bias"] for name in ("token", "bypass")])
    return np.split(3 * y / np.linalg.norm(y), 2)


@pytest.mark.parametrize("keep", [0, 3, 8])
def test_the_mapper_is_its_formula(keep):
    found = jax.jit(lambda p, x: diffusion.map_tokens(p, x, norm=3.0, keep=keep))(PARAMS, ASKED)
    for i in range(3):
        for part, expected in zip(found, slow(PARAMS, ASKED[i], keep), strict=True):
            np.testing.assert_allclose(part[i], expected, atol=1e-4)
    np.testing.assert_allclose(sum(np.sum(np.square(x), axis=1) for x in found), [9, 9, 9], rtol=1e-5)


def test_a_prefix_reads_its_columns_alone_and_the_whole_is_no_dropout():
    whole = diffusion.map_tokens(PARAMS, ASKED)
    np.testing.assert_array_equal(diffusion.map_tokens(PARAMS, ASKED, keep=8)[0], whole[0])
    each = diffusion.map_tokens(PARAMS, ASKED, keep=jnp.array([2, 8, 5]))[0]
    np.testing.assert_allclose(each[0], diffusion.map_tokens(PARAMS, ASKED, keep=2)[0][0], rtol=1e-6)
    slope = jax.grad(lambda p: diffusion.map_tokens(p, ASKED, keep=3)[0].sum())(PARAMS)
    assert not slope["token"]["kernel"][3:].any() and slope["token"]["kernel"][:3].any()


def test_output_layers_may_be_scaled_and_a_mapper_may_have_no_bypass():
    doubled = PARAMS | {n: jax.tree.map(lambda x: 2 * x, PARAMS[n]) for n in ("token", "bypass")}
    for one, two in zip(
        diffusion.map_tokens(PARAMS, ASKED), diffusion.map_tokens(doubled, ASKED), strict=True
    ):
        np.testing.assert_allclose(one, two, atol=1e-6)
    plain = diffusion.init_mapper(jax.random.key(1), ANCHORS, 6, hidden=8, bypass=False)
    token, bypass = diffusion.map_tokens(plain, ASKED, norm=2.0)
    assert bypass is None
    np.testing.assert_allclose(np.linalg.norm(token, axis=1), [2, 2, 2], rtol=1e-5)


def test_nested_dropout_keeps_prefixes_of_every_length_alike():
    x = jnp.ones((8000, 5))
    found = np.asarray(jax.jit(lambda k: diffusion.nested_dropout(k, x, drop=0.5))(jax.random.key(0)))
    lengths = found.sum(axis=1).astype(int)
    np.testing.assert_array_equal(found, np.arange(5) < lengths[:, None])
    np.testing.assert_allclose(np.bincount(lengths) / 8000, [0.1] * 5 + [0.5], atol=0.02)
    np.testing.assert_array_equal(diffusion.nested_dropout(jax.random.key(0), x, drop=0.0), x)
    dropped, _ = diffusion.map_tokens(PARAMS, ASKED, key=jax.random.key(2), drop=1.0)
    assert np.abs(dropped - diffusion.map_tokens(PARAMS, ASKED)[0]).max() > 1e-3


def test_the_bypass_adds_its_share_at_the_slot_and_nothing_elsewhere():
    rng = np.random.default_rng(0)
    states, bypass = rng.normal(size=(2, 4, 3)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    slots = np.array([[False, True, False, False], [False, False, False, True]])
    found = np.asarray(jax.jit(diffusion.bypass_states)(states, bypass, slots))
    np.testing.assert_array_equal(found[~slots], states[~slots])
    added = (found - states)[slots]
    np.testing.assert_allclose(
        np.linalg.norm(added, axis=1), 0.2 * np.linalg.norm(states[slots], axis=1), rtol=1e-4
    )
    np.testing.assert_allclose(np.cross(added, bypass), np.zeros((2, 3)), atol=1e-5)
    np.testing.assert_allclose(diffusion.bypass_states(states, 7 * bypass, slots), found, atol=1e-5)
    for plain in (
        diffusion.bypass_states(states, bypass, slots, weight=0),
        diffusion.bypass_states(states, 0 * bypass, slots),
    ):
        np.testing.assert_array_equal(plain, states)


def test_bad_input_is_named():
    refused(
        r"coordinates: shape \(3,\); pass \[2\]", lambda: diffusion.fourier_features(FREQUENCIES, np.zeros(3))
    )
    refused(
        r"features: shape \(3, 9\); pass \[any, 2048\]",
        lambda: diffusion.map_tokens(PARAMS, np.zeros((3, 9))),
    )
    refused(
        r"bypass: shape \(2,\); pass \[3\]",
        lambda: diffusion.bypass_states(np.zeros((4, 3)), np.zeros(2), np.zeros(4)),
    )
    refused(
        r"slots: shape \(5,\); pass \[4\]",
        lambda: diffusion.bypass_states(np.zeros((4, 3)), np.zeros(3), np.zeros(5)),
    )
