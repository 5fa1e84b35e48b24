"""Scattering and unit variance: energies, shifts, and deep nets that keep their scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import encoders, weights

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((3, 16, 16, 2)), jnp.float32)


@pytest.mark.parametrize(("order", "maps"), [(0, 1), (1, 1 + 2 * 4), (2, 1 + 2 * 4 + 4 * 4)])
def test_scattering_has_a_map_for_every_path(order, maps):
    found = weights.scattering(IMAGES, 2, angles=4, order=order)
    assert found.shape == (3, 4, 4, 2 * maps)
    full = weights.scattering(IMAGES, 2, angles=4)
    each = full.reshape(3, 4, 4, 2, -1)[..., :maps]
    np.testing.assert_allclose(found.reshape(each.shape), each, atol=1e-5)


def test_constant_pictures_have_the_mean_path_alone():
    found = weights.scattering(jnp.full((1, 16, 16, 1), 0.7), 2, angles=4)
    np.testing.assert_allclose(found[..., 0], 0.7, atol=1e-3)
    assert float(jnp.abs(found[..., 1:]).max()) < 1e-4


def test_small_shifts_change_scattering_less_than_pixels():
    from jaxembed import data

    pictures = np.repeat(np.repeat(data.digits()["images"][:40], 4, axis=1), 4, axis=2) / 16
    padded = jnp.asarray(np.pad(pictures, ((0, 0), (8, 8), (8, 8), (0, 0))), jnp.float32)
    moved = jnp.roll(padded, 1, axis=2)

    def change(f):
        a, b = (f(x).reshape(40, -1) for x in (padded, moved))
        return float(jnp.mean(jnp.linalg.norm(a - b, axis=1) / jnp.linalg.norm(a, axis=1)))

    assert change(lambda x: weights.scattering(x, 3, angles=4)) < 0.5 * change(lambda x: x)


def test_wavelets_find_their_direction():
    wave = np.cos(0.75 * np.pi * np.arange(32))[None, None, :, None] * np.ones((1, 32, 1, 1))
    found = weights.scattering(jnp.asarray(wave, jnp.float32), 2, angles=4, order=1)[0, 4, 4]
    assert int(jnp.argmax(found[1:5])) == 0  # along x
    turned = weights.scattering(jnp.asarray(wave.swapaxes(1, 2), jnp.float32), 2, angles=4, order=1)[0, 4, 4]
    assert int(jnp.argmax(turned[1:5])) == 2


def plain_net(depth=8, scale=0.05):
    keys = jax.random.split(jax.random.key(0), depth)
    shapes = [(3, 3, 2 if i == 0 else 8, 8) for i in range(depth)]
    params = {f"layer_{i}": {"kernel": scale * jax.random.normal(keys[i], shapes[i])} for i in range(depth)}
    paths = [f"layer_{i}/kernel" for i in range(depth)]

    def outputs(params):
        x, found = IMAGES, []
        for i in range(depth):
            found.append(encoders.convolve(params[f"layer_{i}"]["kernel"], x))
            x = jax.nn.relu(found[-1])
        return found

    return params, paths, outputs


@pytest.mark.parametrize("scale", [0.02, 3.0])
def test_every_layer_has_unit_variance(scale):
    params, paths, outputs = plain_net(scale=scale)
    before = np.array([float(jnp.var(x)) for x in outputs(params)])
    assert (np.abs(before - 1) > 0.1).all()
    found = weights.unit_variance(params, paths, outputs, tolerance=0.05)
    after = [float(jnp.var(x)) for x in outputs(found)]
    np.testing.assert_allclose(after, 1, atol=0.05)
    for i, path in enumerate(paths):  # scaled, not turned
        ratio = found[f"layer_{i}"]["kernel"] / params[f"layer_{i}"]["kernel"]
        np.testing.assert_allclose(ratio, ratio.ravel()[0], rtol=1e-4, err_msg=path)


def test_bad_input_is_refused_in_one_line():
    refused(r"images: shape \(3, 16, 16, 2\); pass .* steps of 32", lambda: weights.scattering(IMAGES, 5))
    refused("order: 3", lambda: weights.scattering(IMAGES, 1, order=3))
    params, paths, outputs = plain_net(2)
    refused("paths: 'other' is not", lambda: weights.unit_variance(params, ["other"], outputs))
    refused("outputs: 2 arrays for 1 paths", lambda: weights.unit_variance(params, paths[:1], outputs))
    zero = jax.tree.map(jnp.zeros_like, params)
    refused("'layer_0/kernel' have variance 0.0", lambda: weights.unit_variance(zero, paths, outputs))
    broken = jax.tree.map(lambda x: x.at[0, 0, 0, 0].set(jnp.nan), params)
    refused("'layer_0/kernel' have variance nan", lambda: weights.unit_variance(broken, paths, outputs))
