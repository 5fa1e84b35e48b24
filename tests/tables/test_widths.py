"""Widths of features: limits, closed forms, the choice of a search, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import tables

SIZES = {"user": 1000, "film": 100, "sex": 2}


def test_the_full_width_is_a_plain_table_without_a_matrix():
    method = tables.narrow_table(10, 4, inner=4)
    params = method.init(jax.random.key(0))
    assert list(params) == ["narrow"]
    np.testing.assert_array_equal(
        method.vectors(params, np.arange(10)), np.asarray(params["narrow"]["embedding"])
    )


def test_a_fraction_gives_the_first_values_one_number_more():
    method = tables.narrow_table(10, 6, inner=2.3)
    params = jax.tree.map(np.asarray, method.init(jax.random.key(0)))
    assert params["wide"]["embedding"].shape == (3, 3) and params["narrow"]["embedding"].shape == (7, 2)
    kernel = params["project"]["kernel"]
    expected = np.concatenate(
        [params["wide"]["embedding"] @ kernel, params["narrow"]["embedding"] @ kernel[:2]]
    )
    np.testing.assert_allclose(method.vectors(params, np.arange(10)), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(3), atol=1e-5)  # vectors are as long as rows


def test_bytes_of_mixed_dimensions_are_their_closed_form():
    method = tables.mixed_dimensions(SIZES, 16, alpha=0.3, powers=True)
    widths = {n: 2 ** round(np.log2(max(1, 16 * (2 / size) ** 0.3))) for n, size in SIZES.items()}
    expected = sum(4 * (size * widths[n] + (widths[n] < 16) * widths[n] * 16) for n, size in SIZES.items())
    assert tables.storage_bytes(method) == expected and widths["sex"] == 16


def test_alpha_0_is_a_full_table_for_every_feature_and_alpha_1_one_number_for_large_ones():
    full, least = (tables.mixed_dimensions(SIZES, 16, alpha=alpha) for alpha in (0.0, 1.0))
    assert tables.storage_bytes(full) == 4 * 16 * sum(SIZES.values())
    assert (
        least.settings["features"]["user"]["inner"] == 1 and least.settings["features"]["sex"]["inner"] == 16
    )


def test_searched_widths_are_scaled_to_a_budget():
    found, asked = {"user": 2, "film": 8, "sex": 16}, 16_000
    method = tables.within(
        lambda c: tables.narrow_tables(SIZES, 16, inner={n: c * w for n, w in found.items()}),
        asked,
        low=0.0,
        high=16.0,
    )
    assert 0.99 * asked <= tables.storage_bytes(method) <= asked
    inner = {n: part["inner"] for n, part in method.settings["features"].items()}
    assert inner["film"] == pytest.approx(4 * inner["user"])


def test_autodim_mixes_normalised_widths_by_its_logits():
    method = tables.autodim(30, 4, widths=(2, 4))
    params = method.init(jax.random.key(0))
    params["values"]["logits"] = jnp.array([0.0, 2.0])
    served = np.asarray(method.vectors(params, np.arange(30)))
    np.testing.assert_allclose(served.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(served.std(0), 1, rtol=1e-3)
    assert tables.autodim_widths(params) == {"values": 4}
    key = jax.random.fold_in(jax.random.key(5), 0)
    noise = np.asarray(jax.random.gumbel(key, (2,)))
    shares = jax.nn.softmax(jax.nn.log_softmax(params["values"]["logits"]) + noise)
    other = params["values"] | {"logits": jnp.array([2.0, 0.0])}
    narrow = np.asarray(method.vectors({"values": other}, np.arange(30)))
    expected = shares[0] * narrow + shares[1] * served
    found = method.vectors(params, np.arange(30), jax.random.key(5))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_low_temperature_picks_one_width():
    method = tables.autodim(30, 4, widths=(2, 4), temperature=1e-4)
    params = method.init(jax.random.key(0))
    found = np.asarray(method.vectors(params, np.arange(30), jax.random.key(1)))
    each = []
    for chosen in range(2):
        logits = {"logits": jax.nn.one_hot(chosen, 2)}
        each.append(np.asarray(method.vectors({"values": params["values"] | logits}, np.arange(30))))
    assert min(np.abs(found - e).max() for e in each) < 1e-4


def test_settings_out_of_range_are_refused():
    refused("inner=0.5", lambda: tables.narrow_table(10, 4, inner=0.5))
    refused("inner=5", lambda: tables.narrow_table(10, 4, inner=5))
    refused("film", lambda: tables.narrow_tables(SIZES, 4, inner={"user": 2}))
    refused("alpha=2", lambda: tables.mixed_dimensions(SIZES, 4, alpha=2))
    for temperature in (0, -1, np.nan):
        refused("temperature", lambda t=temperature: tables.autodim(10, 4, temperature=t))
    for widths in ((), (0, 2), (2, 5), (2, 2)):
        refused("widths", lambda widths=widths: tables.autodim(10, 4, widths=widths))
