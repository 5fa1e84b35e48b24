"""Grids of layers and sizes, and the samplers of papers."""

import collections

import jax
import numpy as np
import pytest

from jaxembed import losses

# Samplers and fixed grids


def test_the_grids_of_papers():
    grid, weights = losses.espresso_grid(4, 64, size=16)
    assert grid == ((1, 16), (2, 16), (3, 16), (4, 16), (4, 64))
    expected = [1 / 3, 1 / (1 + np.log(2)) / 3, 1 / (1 + np.log(3)) / 3, 1, 1]
    np.testing.assert_allclose(weights, expected)
    assert losses.espresso_grid(1, 8, size=4) == (((1, 4), (1, 8)), (1.0, 1.0))
    assert losses.diagonal_grid((1, 2, 4, 6), (32, 64, 128, 384)) == ((1, 32), (2, 64), (4, 128), (6, 384))
    np.testing.assert_allclose(losses.layer_weights("linear", 4), [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(losses.layer_weights("log", 3), [1, 1 / (1 + np.log(2)), 1 / (1 + np.log(3))])
    assert losses.layer_weights("uniform", 2) == (1, 1)
    assert losses.layer_weights(lambda n: n**2, 3) == (1, 4, 9)


def draws(sample, count=400):
    return np.asarray(jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(1), count)))


def test_sampled_weights_draw_every_part_equally_often():
    found = draws(lambda key: losses.sampled_weights(key, 6, picks=2, always=(5, 1)))
    assert set(np.unique(found)) == {0, 1}
    assert (found.sum(axis=1) == 4).all()
    assert (found[:, [1, 5]] == 1).all()
    np.testing.assert_allclose(found[:, [0, 2, 3, 4]].mean(axis=0), 0.5, atol=0.1)
    assert (draws(lambda key: losses.sampled_weights(key, 3, picks=3), 4) == 1).all()


def test_two_dimensional_weights_are_the_four_terms_of_one_draw():
    grid = losses.full_grid((1, 2, 4), (2, 4, 8))
    found = draws(lambda key: losses.two_dimensional_weights(key, grid, weighting="linear"))
    seen = collections.Counter()
    for row in found:
        kept = {pair: float(w) for pair, w in zip(grid, row, strict=True) if w}
        (n,) = {n for n, _ in kept} - {4}
        (size,) = {size for _, size in kept} - {8}
        assert kept == {(4, 8): 1, (4, size): 1, (n, 8): 1 / n, (n, size): 1 / n}
        seen[n, size] += 1
    assert set(seen) == {(n, size) for n in (1, 2) for size in (2, 4)}
    assert min(seen.values()) > 70
    expected = [1 / n / 2 if n < 4 else 1 for n, _ in grid] * np.array([0.5, 0.5, 1] * 3)
    np.testing.assert_allclose(found.mean(axis=0), expected, atol=0.08)


def test_the_same_key_draws_the_same_layer_for_tasks_and_alignment():
    grid, align = losses.full_grid((1, 2, 3, 4), (2, 4, 8)), losses.full_grid((1, 2, 3, 4), (8,))
    for key in jax.random.split(jax.random.key(3), 8):
        task = np.asarray(losses.two_dimensional_weights(key, grid)).reshape(4, 3)
        np.testing.assert_array_equal(losses.two_dimensional_weights(key, align), task[:, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda key: losses.sampled_weights(key, 3, picks=4), "picks: 4 is outside 0..3"),
        (lambda key: losses.sampled_weights(key, 3, always=(3,)), "always="),
        (lambda key: losses.two_dimensional_weights(key, [(1, 2), (2, 4)]), "each pair"),
        (lambda key: losses.layer_weights("square", 3), "weighting='square'"),
        (lambda key: losses.diagonal_grid((1, 2), (4,)), "sizes: 1 for 2 layers"),
        (lambda key: losses.diagonal_grid((2, 1), (4, 8)), "layers="),
        (lambda key: losses.espresso_grid(3, 8, size=8), "below the width 8"),
    ],
)
def test_wrong_arguments_of_grids_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call(jax.random.key(0))
