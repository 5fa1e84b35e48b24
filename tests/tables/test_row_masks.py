"""Masks of rows and widths: the surrogate gradient piece by piece, nested prefixes, limits of thresholds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import losses, tables


def test_the_slope_has_its_pieces_and_is_even():
    x = jnp.array([0.0, 0.2, 0.4, 0.41, 0.9, 1.0, 1.01, 5.0])
    expected = [2.0, 1.2, 0.4, 0.4, 0.4, 0.4, 0.0, 0.0]
    np.testing.assert_allclose(tables.long_tail_slope(x), expected, rtol=1e-6)
    np.testing.assert_array_equal(tables.long_tail_slope(-x), tables.long_tail_slope(x))
    fine = jnp.linspace(-1.5, 1.5, 30_001)
    assert abs(float(jnp.trapezoid(tables.long_tail_slope(fine), fine)) - 1.44) < 1e-3


def test_the_step_is_hard_and_its_gradient_is_the_slope_that_is_given():
    x = jnp.array([-2.0, -0.3, 0.0, 1e-6, 0.7])
    np.testing.assert_array_equal(tables.surrogate_step(x), [0, 0, 0, 1, 1])
    gradient = jax.grad(lambda x: jnp.sum(jnp.arange(5.0) * tables.surrogate_step(x)))(x)
    np.testing.assert_allclose(gradient, jnp.arange(5.0) * tables.long_tail_slope(x))
    other = jax.grad(lambda x: jnp.sum(tables.surrogate_step(x, slope=jnp.ones_like)))(x)
    np.testing.assert_array_equal(other, np.ones(5))


@pytest.mark.parametrize("order", [1, 2])
def test_a_row_mask_trains_rows_and_thresholds_as_the_formula_says(order):
    rows = jax.random.normal(jax.random.key(0), (6, 4)) * 0.3
    thresholds = jnp.linspace(0.1, 1.0, 6)
    norms = np.linalg.norm(np.asarray(rows), ord=order, axis=1)
    np.testing.assert_array_equal(tables.row_mask(rows, thresholds, order=order), norms > thresholds)
    weights = jnp.arange(1.0, 7.0)
    both = jax.grad(lambda r, t: jnp.sum(weights * tables.row_mask(r, t, order=order)), (0, 1))
    to_rows, to_thresholds = both(rows, thresholds)
    slopes = np.asarray(weights * tables.long_tail_slope(jnp.asarray(norms) - thresholds))
    np.testing.assert_allclose(to_thresholds, -slopes, rtol=1e-4)
    direction = np.sign(rows) if order == 1 else rows / norms[:, None]
    np.testing.assert_allclose(to_rows, slopes[:, None] * direction, rtol=1e-4, atol=1e-6)


def test_scaling_rows_and_thresholds_leaves_the_mask_and_zero_rows_have_finite_gradients():
    rows = jax.random.normal(jax.random.key(1), (50, 4)).at[0].set(0.0)
    thresholds = jax.random.uniform(jax.random.key(2), (50,), maxval=4.0)
    for c in (0.01, 7.0):
        np.testing.assert_array_equal(
            tables.row_mask(rows, thresholds), tables.row_mask(c * rows, c * thresholds)
        )
    for order in (1, 2):
        gradient = jax.grad(lambda r, o=order: tables.row_mask(r, thresholds * 0, order=o).sum())(rows)
        assert jnp.isfinite(gradient).all()


def test_prefixes_are_nested_and_read_as_matryoshka_cuts():
    one, two = tables.prefix_mask(jnp.array([2, 5, 8]), 8), tables.prefix_mask(jnp.array([4, 3, 8]), 8)
    np.testing.assert_array_equal(one * two, tables.prefix_mask(jnp.array([2, 3, 8]), 8))
    queries, documents = jax.random.normal(jax.random.key(0), (2, 5, 8))
    cut = losses.matryoshka(losses.dot_nce, (3,))(queries, documents)
    mask = tables.prefix_mask(3, 8)
    np.testing.assert_allclose(losses.dot_nce(queries * mask, documents * mask), cut, rtol=1e-5)


def test_widths_are_drawn_evenly():
    widths = tables.sample_widths(jax.random.key(0), (40_000,), 5)
    shares = np.bincount(widths, minlength=6)[1:] / 40_000
    np.testing.assert_allclose(shares, 0.2, atol=0.01)
    kept = tables.prefix_mask(widths, 5).mean(axis=0)
    np.testing.assert_allclose(kept, (5 - np.arange(5)) / 5, atol=0.01)


def test_the_penalty_pushes_thresholds_up_as_its_derivative_says():
    start = jnp.array([-1.0, 0.0, 2.0])
    gradient = jax.grad(tables.threshold_penalty)(start, 0.3)
    np.testing.assert_allclose(gradient, -0.3 * np.exp(-np.asarray(start)), rtol=1e-6)
    t, rate, weight = jnp.zeros(2), 0.01, 0.001
    for _ in range(50):
        t = t - rate * jax.grad(tables.threshold_penalty)(t, weight)
    np.testing.assert_allclose(t, rate * weight * 50, rtol=1e-3)


def test_margins_take_a_threshold_for_each_field_or_each_row():
    table = jax.random.normal(jax.random.key(0), (5, 3))
    of_fields = tables.row_margins(table, jnp.array([0.5, 2.0]), (2, 3))
    of_rows = tables.row_margins(table, jnp.array([0.5, 0.5, 2.0, 2.0, 2.0]), (2, 3))
    np.testing.assert_array_equal(of_fields, of_rows)
    np.testing.assert_allclose(of_fields[:2], np.abs(table[:2]).sum(axis=1) - 0.5, rtol=1e-6)


def test_bad_input_is_named():
    table = jnp.ones((5, 3))
    with pytest.raises(ValueError, match=r"sizes: \(2, 2\) for a table of 5 rows"):
        tables.row_margins(table, jnp.zeros(2), (2, 2))
    with pytest.raises(ValueError, match=r"thresholds: shape \(3,\); give one for each of 2"):
        tables.row_margins(table, jnp.zeros(3), (2, 3))
    with pytest.raises(ValueError, match="order=3; choose 1 or 2"):
        tables.row_mask(table, jnp.zeros(5), order=3)
