"""Scalar quantisation: the nearest level by a loop, the error bound, dtypes and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import vectors
from jaxembed.arrays import squared_distances, unit


def unit_rows(count=300, width=16, seed=0):
    return np.asarray(unit(np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)))


@pytest.mark.parametrize("per", ["all", "coordinate"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_are_the_nearest_levels(bits, per):
    x = unit_rows(40, 5) * np.array([1, 0.1, 3, 0, 2], np.float32)  # one coordinate is always 0
    params = vectors.fit_scalar(x, bits=bits, per=per)
    levels = 2 ** (bits - 1) - 1
    assert params["levels"] == levels
    codes = np.asarray(jax.jit(vectors.encode_scalar)(params, x))
    assert codes.dtype == np.int8 and np.abs(codes).max() == levels
    steps = np.broadcast_to(np.asarray(params["step"], np.float64), (5,))
    if per == "coordinate":
        np.testing.assert_allclose(steps, np.abs(x).max(axis=0) / levels, rtol=1e-6)
    for row, code in zip(x, codes, strict=True):
        for value, found, step in zip(row.astype(np.float64), code, steps, strict=True):
            gaps = {k: abs(value - k * step) for k in range(-levels, levels + 1)}
            assert gaps[int(found)] <= min(gaps.values()) + 1e-7
    decoded = np.asarray(vectors.decode_scalar(params, codes))
    assert (np.abs(decoded - x) <= steps / 2 * (1 + 1e-5) + 1e-9).all()


def test_codes_are_their_own_codes():
    x = unit_rows()
    params = vectors.fit_scalar(x)
    codes = vectors.encode_scalar(params, x)
    np.testing.assert_array_equal(vectors.encode_scalar(params, vectors.decode_scalar(params, codes)), codes)


@pytest.mark.parametrize("per", ["all", "coordinate"])
@pytest.mark.parametrize("width", [4, 128])
def test_distances_move_by_less_than_the_bound(width, per):
    x = unit_rows(500, width)
    params = vectors.fit_scalar(x, per=per)
    decoded = vectors.decode_scalar(params, vectors.encode_scalar(params, x))
    true, found = (np.asarray(squared_distances(v, v), np.float64) for v in (x, decoded))
    bound = np.asarray(vectors.scalar_distance_bound(params, true, width))
    gap = np.abs(found - true)
    assert (gap <= bound + 1e-5).all()
    assert gap.max() > bound.max() / 40  # and the bound says something
    if width == 128 and per == "all":
        assert gap.max() < 0.02
        step = float(params["step"])
        np.testing.assert_allclose(bound, 2 * np.sqrt(true * 128) * step + 128 * step**2, rtol=1e-5)


def test_larger_numbers_are_clipped_and_zeros_stay():
    params = vectors.fit_scalar(jnp.array([[0.5, -0.5]]))
    codes = vectors.encode_scalar(params, jnp.array([[9.0, -9.0], [0.0, 0.1]]))
    assert codes[0].tolist() == [127, -127] and codes[1, 0] == 0
    none = vectors.fit_scalar(jnp.zeros((2, 3)))
    np.testing.assert_array_equal(
        vectors.decode_scalar(none, vectors.encode_scalar(none, jnp.ones((1, 3)))), np.zeros((1, 3))
    )


def test_narrow_vectors_are_measured_in_float32():
    x = jnp.asarray(unit_rows(), jnp.bfloat16)
    params = vectors.fit_scalar(x)
    assert params["step"].dtype == np.float32
    wide = vectors.encode_scalar(params, x.astype(jnp.float32))
    np.testing.assert_array_equal(vectors.encode_scalar(params, x), wide)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: vectors.fit_scalar(x, bits=9), "bits: 9 is outside 2..8; choose 8"),
        (lambda x: vectors.fit_scalar(x, per="row"), "per: 'row' is unknown; choose"),
        (lambda x: vectors.fit_scalar(x[:0]), r"x: shape \(0, 4\) holds no number; pass"),
        (lambda x: vectors.fit_scalar(x[0]), r"x: shape \(4,\); pass \[any, any\]"),
        (lambda x: vectors.fit_scalar(x * np.nan), "x: holds NaN or infinite numbers; leave"),
        (
            lambda x: vectors.encode_scalar(vectors.fit_scalar(x), x * np.nan),
            "x: NaN has no code and no score; mend",
        ),
        (
            lambda x: vectors.encode_scalar(vectors.fit_scalar(x, per="coordinate"), x[:, :2]),
            r"x: shape \(3, 2\) for 4 steps; pass",
        ),
        (
            lambda x: vectors.decode_scalar(
                vectors.fit_scalar(x, per="coordinate"), np.zeros((3, 2), np.int8)
            ),
            r"scalar_codes: shape \(3, 2\) for 4 steps; pass",
        ),
    ],
)
def test_bad_input_gets_one_line(call, message):
    refused(message, lambda: call(unit_rows(3, 4)))


def test_vectors_may_be_constants_under_jit():
    x = jnp.asarray(unit_rows(3, 4))
    found = jax.jit(lambda: vectors.fit_scalar(x))()
    np.testing.assert_allclose(found["step"], vectors.fit_scalar(x)["step"], rtol=1e-6)
