"""Boxes of patterns: the connected region of the peak, and what the channels see."""

import jax
import numpy as np
import pytest
from refusals import refused

from jaxembed import vectors


def test_boxes_hold_the_connected_region_of_the_peak():
    response = np.zeros((1, 5, 8, 2), np.float32)
    response[0, 1:3, 1:4, 0] = 4
    response[0, 3, 4, 0] = 2.5  # touches at a corner
    response[0, 4, 7, 0] = 4  # apart
    response[0, 0, 0, 0] = 2  # half is not above half
    boxes, scores = jax.jit(lambda r: vectors.pattern_boxes(r, (50, 160)))(response)
    np.testing.assert_array_equal(boxes[0], [[20, 10, 100, 40], [0, 0, 0, 0]])
    np.testing.assert_array_equal(scores[0], [4, 0])
    tight, _ = vectors.pattern_boxes(response, (50, 160), relative=0.7)
    np.testing.assert_array_equal(tight[0, 0], [20, 10, 80, 30])
    wider, _ = vectors.pattern_boxes(response, (50, 160), relative=0.7, margin=15)
    np.testing.assert_array_equal(wider[0, 0], [5, 0, 95, 45])


def slow_box(maps, response, channels, field, first, step, size, radius=1):
    """The box of one pattern on one picture, by loops."""
    rows, columns = response.shape
    i, j = np.unravel_index(response.argmax(), response.shape)
    near = [(a, b) for a in range(i - radius, i + radius + 1) for b in range(j - radius, j + radius + 1)]
    near = [(a, b) for a, b in near if 0 <= a < rows and 0 <= b < columns]
    best = np.array([max(near, key=lambda p, k=k: maps[p[0], p[1], k]) for k in channels])
    centre = best * step + first
    low, high = centre.min(axis=0) - field / 2, centre.max(axis=0) + field / 2
    return [*np.clip(low, 0, size)[::-1], *np.clip(high, 0, size)[::-1]]


@pytest.mark.parametrize("first", [None, 0.5])
def test_channels_are_boxed_where_each_is_strongest(first):
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(3, 6, 6, 4)), 0).astype(np.float32)
    channels = np.array([[[0, 1], [2, 3]], [[1, 3], [0, 2]]])
    ones = np.ones((2, 2), np.float32)
    patterns = vectors.Patterns(channels, ones > 0, ones, ones, np.full((2, 2, 2), 0.5, np.float32))
    boxes, scores = vectors.channel_boxes(maps, patterns, 30, field=7.0, first=first)
    response = np.asarray(vectors.pattern_response(maps, patterns))
    for n in range(3):
        for p, pair in enumerate(channels.reshape(-1, 2)):
            start = 2.5 if first is None else first
            expected = slow_box(maps[n], response[n, ..., p], pair, 7.0, start, 5.0, 30)
            np.testing.assert_allclose(boxes[n, p], expected, atol=1e-5)
    np.testing.assert_allclose(scores, response.max(axis=(1, 2)), rtol=1e-6)
    jitted = jax.jit(lambda m: vectors.channel_boxes(m, patterns, 30, field=7.0, first=first))(maps)
    np.testing.assert_allclose(jitted[0], boxes, atol=1e-5)
    silent = vectors.channel_boxes(np.zeros_like(maps), patterns, 30, field=7.0)
    assert not silent[0].any() and not silent[1].any()


def test_bad_shapes_have_one_line():
    refused("response: shape", lambda: vectors.pattern_boxes(np.ones((2, 2)), 8))
    ones = np.ones((1, 1), np.float32)
    patterns = vectors.Patterns(np.zeros((1, 1, 1), int), ones > 0, ones, ones, np.ones((1, 1, 1)))
    refused("maps: shape", lambda: vectors.channel_boxes(np.ones((2, 2)), patterns, 8, field=1))
