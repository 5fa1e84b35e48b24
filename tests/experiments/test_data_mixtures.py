"""The experiment on mixtures: Gaussian sources beside their closed form, styles of digits, claims."""

import numpy as np
import pytest

from experiments.data_mixtures import __main__ as story
from experiments.data_mixtures import digits as drawn
from experiments.data_mixtures import theory
from experiments.data_mixtures.__main__ import MIXED, SHIFTS, A, B, Config
from experiments.shared import flags, results


def test_slopes_are_those_of_the_closed_form():
    rows = theory.gaussian_slopes(flags.changed(Config(), draws=6))
    assert max(row["gap"] for row in rows) < 0.04
    assert story.towards({"Gaussian sources": rows}).value == 1
    assert [row["source"] for row in rows][:3] == [A, B, MIXED]


def test_styles_change_pictures_as_their_names_say():
    images = np.zeros((1, 8, 8), np.float32)
    images[0, 2:6, 3:5] = 1
    rng = np.random.default_rng(0)
    found = {style: drawn.styled(images, style, rng) for style in drawn.STYLES}
    np.testing.assert_array_equal(found["plain"], images)
    np.testing.assert_array_equal(found["inverted"], 1 - images)
    assert found["bold"].sum() > images.sum() > found["dotted"].sum()
    np.testing.assert_allclose(found["blurred"].sum(), images.sum(), rtol=0.02)
    assert abs(found["rotated"] - images).max() > 0.1
    assert all(x.shape == images.shape and x.min() >= -1e-6 and x.max() <= 1 + 1e-6 for x in found.values())


def test_captions_name_digit_and_style():
    bags = drawn.caption(np.array([3, 0]), np.array([1, 2]))
    assert bags.sum() == 4
    assert bags[0, 3] == bags[0, 11] == bags[1, 0] == bags[1, 12] == 1
    assert drawn.caption(np.array([3])).sum() == 1


@pytest.mark.slow
def test_towers_learn_what_their_captions_say():
    images, labels = drawn.digits()
    params = drawn.trained(images[:800], drawn.caption(labels[:800]), 0, steps=150)
    words = np.asarray(drawn.encode(params, "text", drawn.caption(np.arange(10))))
    shown = np.asarray(drawn.encode(params, "image", images[800:]))
    words, shown = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (words, shown))
    assert np.mean((shown @ words.T).argmax(axis=1) == labels[800:]) > 0.85


def lines(first, second, mixed, seeds=5):
    values = {A: first, B: second, MIXED: mixed}
    return [
        {"shift": shift, "arm": arm, "runs": [x[n] + 0.001 * seed for seed in range(seeds)]}
        for n, shift in enumerate(SHIFTS)
        for arm, x in values.items()
    ]


def test_dilution_needs_three_shifts_and_two_points():
    asked = story.below_the_best(MIXED)
    apart = lines([0.9, 0.9, 0.5, 0.5, 0.5], [0.5, 0.5, 0.9, 0.9, 0.5], [0.7, 0.7, 0.7, 0.7, 0.6])
    assert asked({"lines": apart}) == results.holds(True, 4)
    close = lines([0.9] * 5, [0.88] * 5, [0.89] * 5)
    assert asked({"lines": close}).verdict == results.NOT
    assert asked({"lines": lines([0.9] * 5, [0.5] * 5, [0.7] * 5, seeds=3)}) is None
    assert story.no_best_source({"lines": apart}).verdict == results.REPRODUCED
    assert story.no_best_source({"lines": close}).verdict == results.PARTLY


def test_a_line_needs_two_sizes():
    with pytest.raises(ValueError, match="--sizes: a line needs two sizes"):
        Config(sizes=(60,))
