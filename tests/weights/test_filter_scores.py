"""Scores of filters: oracles from the formula and from the loop of the released code, laws, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import encoders, weights

RNG = np.random.default_rng(0)


def slow_spread(kernel, x, y, stride, pads, ratio="out_over_in"):
    """The score as loops over filters and places, from the formula."""
    kh, kw, read, filters = kernel.shape
    groups = x.shape[-1] // read
    x = np.pad(x, ((0, 0), *pads, (0, 0))).astype(np.float64)
    score = np.zeros(filters)
    for k in range(filters):
        first = k // (filters // groups) * read
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                window = x[
                    :, i * stride : i * stride + kh, j * stride : j * stride + kw, first : first + read
                ]
                a, b = y[:, i, j, k].astype(np.float64).std(), window.std()
                if b > 0:
                    score[k] += a / b if ratio == "out_over_in" else (b / a if a > 0 else np.inf)
        score[k] *= np.abs(kernel[..., k]).mean()
    return score


def released_spread(kernel, x, y):
    """The loop of the released code, on [N, C, H, W], with its slices of channels and rows."""
    f, x, y = kernel.transpose(3, 2, 0, 1), x.transpose(0, 3, 1, 2), y.transpose(0, 3, 1, 2)
    kh, kw = f.shape[2:]
    step, score = x.shape[3] // y.shape[3], np.zeros(len(f))
    for k in range(len(f)):
        for p in np.ndindex(y.shape[2:]):
            part = x[:, p[0] * step : p[0] * step + kh, p[1] * step : p[1] * step + kw, :]
            if part.size and part.std() > 0:
                score[k] += y[:, k, p[0], p[1]].std() / part.std()
        score[k] *= np.abs(f[k]).mean()
    return score


def layer(filters=5, read=4, groups=1, side=6, size=3, stride=1):
    kernel = RNG.normal(size=(size, size, read, filters)).astype(np.float32)
    x = (RNG.normal(size=(7, side, side, read * groups)) + 3).astype(np.float32)
    y = encoders.convolve(jnp.asarray(kernel), jnp.asarray(x), stride=stride, groups=groups)
    return kernel, x, np.asarray(y)


@pytest.mark.parametrize("ratio", ["out_over_in", "in_over_out"])
@pytest.mark.parametrize(
    ("options", "stride"),
    [
        ({}, 1),
        ({"side": 7}, 2),
        ({"size": 1}, 1),
        ({"groups": 2, "filters": 6}, 1),
        ({"read": 1, "groups": 5}, 1),
    ],
    ids=["3x3", "stride", "1x1", "grouped", "depthwise"],
)
def test_spread_is_that_of_the_formula(options, stride, ratio):
    kernel, x, y = layer(stride=stride, **options)
    half = len(kernel) // 2
    expected = slow_spread(kernel, x, y, stride, ((half, half),) * 2, ratio)
    found = weights.activation_spread(kernel, x, y, stride=stride, ratio=ratio)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    jitted = jax.jit(lambda *given: weights.activation_spread(*given, stride=stride, ratio=ratio))
    np.testing.assert_allclose(jitted(kernel, x, y), found, rtol=1e-5)


def test_paddings_are_those_of_the_convolution():
    kernel, x, _ = layer(side=7)
    for padding, pads in (
        ("VALID", ((0, 0),) * 2),
        ("SAME", ((1, 1),) * 2),
        (((2, 0), (1, 1)), ((2, 0), (1, 1))),
    ):
        y = encoders.convolve(jnp.asarray(kernel), jnp.asarray(x), stride=2, padding=padding)
        found = weights.activation_spread(kernel, x, y, stride=(2, 2), padding=padding)
        np.testing.assert_allclose(found, slow_spread(kernel, x, np.asarray(y), 2, pads), rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("read", [3, 9])
def test_the_released_slices_are_those_of_its_loop(stride, read):
    kernel, x, y = layer(read=read, side=8, stride=stride)
    found = weights.activation_spread(kernel, x, y, stride=stride, released=True)
    np.testing.assert_allclose(found, released_spread(kernel, x, y), rtol=1e-4)


def test_a_factor_of_a_filter_counts_twice_or_not_at_all():
    kernel, x, _ = layer()
    factors = np.array([1, 2, 0.5, 3, 10], np.float32)
    for ratio, power in (("out_over_in", 2), ("in_over_out", 0)):
        both = [
            weights.activation_spread(k, x, encoders.convolve(jnp.asarray(k), x), ratio=ratio)
            for k in (kernel, kernel * factors)
        ]
        np.testing.assert_allclose(both[1], both[0] * factors**power, rtol=1e-4)


def test_a_copy_of_white_data_scores_its_l1():
    x = RNG.normal(size=(4000, 2, 2, 1)).astype(np.float32)
    kernel = np.array([1, -2, 3], np.float32).reshape(1, 1, 1, 3)
    found = weights.activation_spread(kernel, x, x * np.array([1, 1, 1]))
    np.testing.assert_allclose(found / 4, [1, 2, 3], rtol=0.05)
    np.testing.assert_allclose(weights.filter_l1(kernel), [1, 2, 3])


def test_a_dead_filter_scores_nothing_or_infinity():
    kernel, x, _ = layer()
    kernel[..., 2] = 0
    y = encoders.convolve(jnp.asarray(kernel), x)
    dead = weights.activation_spread(kernel, x, y)
    assert dead[2] == 0 and (np.delete(dead, 2) > 0).all()
    turned = weights.activation_spread(np.where(kernel == 0, 1, kernel), x, y, ratio="in_over_out")
    assert np.isinf(turned[2]) and np.isfinite(np.delete(turned, 2)).all()
    kept = weights.activation_spread(
        np.where(kernel == 0, 1, kernel), x, y, ratio="in_over_out", epsilon=1e-3
    )
    assert np.isfinite(kept).all()


def test_places_without_contrast_and_nan_are_left_out():
    kernel, x, _ = layer(size=1)
    x[:, 0, 0], x[:, 1, 1] = 2, np.nan
    y = np.asarray(encoders.convolve(jnp.asarray(kernel), x))
    found = weights.activation_spread(kernel, x, y)
    there = np.ones((6, 6), bool)
    there[0, 0] = there[1, 1] = False
    rest = x[:, there][:, :, None], y[:, there][:, :, None]
    np.testing.assert_allclose(found, slow_spread(kernel, *rest, 1, ((0, 0),) * 2), rtol=1e-4)
    kernel[0, 0, 0, 3] = np.nan
    scores = weights.activation_spread(kernel, x, y)
    assert np.isnan(scores[3]) and 3 not in weights.select_filters(scores, 4)


def test_ranks_are_those_of_numpy():
    maps = np.maximum(RNG.normal(size=(3, 6, 5, 4)), 0).astype(np.float32)
    maps[:, 1:, :, 1], maps[..., 2] = maps[:, :1, :, 1], 0
    expected = [np.mean([np.linalg.matrix_rank(maps[n, :, :, c]) for n in range(3)]) for c in range(4)]
    np.testing.assert_allclose(weights.feature_rank(maps), expected)
    maps[0, 0, 0, 3] = np.nan
    assert np.isnan(weights.feature_rank(maps)[3]) and weights.feature_rank(maps)[0] == expected[0]


def test_min_max_keeps_the_selection():
    scores = jnp.asarray(RNG.normal(size=20), jnp.float32)
    scaled = weights.min_max(scores)
    assert scaled.min() == 0 and scaled.max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(weights.select_filters(scores, 7), weights.select_filters(scaled, 7))
    np.testing.assert_array_equal(weights.min_max(jnp.full(3, 2.0)), 0)
    found = weights.min_max(jnp.array([1.0, jnp.inf, 3.0, -jnp.inf, jnp.nan]))
    np.testing.assert_allclose(found, [0, 1, 1, 0, np.nan], atol=1e-6)


def test_selection_follows_a_permutation_and_settles_ties_by_number():
    scores, order = RNG.normal(size=12), RNG.permutation(12)
    kept = weights.select_filters(scores, 5)
    np.testing.assert_array_equal(kept, np.sort(np.argsort(scores)[-5:]))
    np.testing.assert_array_equal(np.sort(order[weights.select_filters(scores[order], 5)]), kept)
    assert kept.dtype == jnp.int32
    np.testing.assert_array_equal(weights.select_filters(jnp.zeros(6), 3), [0, 1, 2])  # a layer of zeros
    np.testing.assert_array_equal(weights.select_filters(jnp.array([jnp.nan, 1, jnp.nan]), 2), [0, 1])
    np.testing.assert_array_equal(weights.select_filters(scores, 1), [scores.argmax()])
    both = jax.vmap(lambda s: weights.select_filters(s, 2))(jnp.array([[3.0, 1, 2], [1, 2, 3]]))
    np.testing.assert_array_equal(both, [[0, 2], [1, 2]])


def test_stability_of_equal_and_of_disjoint_selections():
    assert weights.selection_stability([[0, 1], [1, 0], [0, 1]], 8) == 0.25
    assert weights.selection_stability([[0, 1], [4, 5]], 8) == 0.5


def test_bad_input_has_one_line():
    kernel, x, y = layer()
    refused("keep: 0 of 3", lambda: weights.select_filters(jnp.ones(3), 0))
    refused("one picture", lambda: weights.activation_spread(kernel, x[:1], y[:1]))
    refused("ratio: 'both'", lambda: weights.activation_spread(kernel, x, y, ratio="both"))
    refused("inputs: 3 channels", lambda: weights.activation_spread(kernel, x[..., :3], y))
    refused("outputs: shape", lambda: weights.activation_spread(kernel, x, y[..., :2]))
    refused("kernel: shape", lambda: weights.filter_l1(kernel[0]))
    refused("selections: none", lambda: weights.selection_stability([], 8))
    refused("selections: none", lambda: weights.selection_stability([[8]], 8))
