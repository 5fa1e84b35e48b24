"""Drift of kernels: bases, histograms, divergences, and what they cannot see."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import weights
from jaxembed.weights import kernel_drift

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(9, 9))
ONE, TWO = RNG.normal(size=(400, 9)) @ MIX, RNG.normal(size=(300, 9))


def slow_drift(first, second, bins=70):
    """The divergence by the paper's formulas: PCA by SVD, NumPy's histograms, both directions of KL."""
    scaled = [x / np.abs(x).max(axis=1, keepdims=True) for x in (first, second)]
    rows = np.concatenate(scaled)
    mean = rows.mean(axis=0)
    _, s, v = np.linalg.svd(rows - mean, full_matrices=False)
    shares = s**2 / np.sum(s**2)
    found = [(x - mean) @ v.T for x in scaled]
    bounds = min(x.min() for x in found), max(x.max() for x in found)
    total = 0
    for i, share in enumerate(shares):
        p, q = (np.histogram(x[:, i], bins, bounds, density=True)[0] for x in found)
        p, q = (np.where(x == 0, np.finfo(np.float32).eps, x) for x in (p, q))
        p, q = p / p.sum(), q / q.sum()
        total += share * (np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p)))
    return total


def test_drift_is_that_of_the_formulas():
    found = weights.drift_matrix({"one": ONE, "two": TWO, "again": 7 * ONE})
    expected = slow_drift(np.concatenate([ONE, ONE]), TWO)  # the basis has all rows
    assert found[0, 1] == pytest.approx(expected, rel=0.01)  # signs of components move edges of bins
    np.testing.assert_array_equal(found, found.T)
    assert (found >= 0).all() and np.diag(found).tolist() == [0, 0, 0]
    assert found[0, 2] == pytest.approx(0, abs=1e-3)  # scaled kernels do not differ


def test_basis_is_that_of_the_singular_vectors():
    basis = jax.jit(weights.fit_kernel_basis)(ONE)
    _, s, v = np.linalg.svd(ONE - ONE.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(basis["shares"], s**2 / np.sum(s**2), atol=1e-5)
    cosines = np.abs(np.sum(np.asarray(basis["components"]) * v, axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-3)
    coefficients = weights.kernel_coefficients(basis, ONE)
    back = coefficients @ basis["components"] + basis["mean"]
    np.testing.assert_allclose(back, ONE, atol=1e-4)
    assert all(row[np.argmax(np.abs(row))] > 0 for row in np.asarray(basis["components"]))


def test_shares_of_rows_without_a_direction_are_equal():
    even = weights.fit_kernel_basis(RNG.normal(size=(100_000, 9)))["shares"]
    np.testing.assert_allclose(even, 1 / 9, atol=0.002)
    np.testing.assert_allclose(weights.fit_kernel_basis(np.ones((5, 9)))["shares"], 1 / 9, rtol=1e-6)


def test_disjoint_histograms_are_as_far_as_the_floor_lets_them():
    first, second = np.zeros((8, 1)), np.ones((8, 1))
    eps = float(np.finfo(np.float32).eps)
    found = weights.weighted_symmetric_kl(first, second, np.ones(1), bounds=(0.0, 3.0))
    assert float(found) == pytest.approx(2 * math.log(70 / 3 / eps), rel=1e-4)  # densities are floored
    assert float(found) == pytest.approx(38.18, abs=0.01)
    one = weights.weighted_symmetric_kl(first, second, np.ones(1), bounds=(0.0, 70.0))
    assert float(one) == pytest.approx(31.88, abs=0.01)  # bins of width 1: masses
    half = weights.weighted_symmetric_kl(first, second, np.full(1, 0.5), bounds=(0.0, 3.0))
    assert float(half) == pytest.approx(float(found) / 2, rel=1e-6)


def test_the_largest_coefficient_is_in_the_last_bin():
    x = np.array([[0.0], [1.0], [1.0]])
    found = weights.weighted_symmetric_kl(x, x[:2], np.ones(1), bins=2)
    p, q = np.array([1, 2]) / 3, np.array([1, 1]) / 2
    assert float(found) == pytest.approx(np.sum((p - q) * np.log(p / q)), rel=1e-5)


def test_rows_are_scaled_by_their_own_largest_weight():
    rows = np.array([[2.0, -4.0], [0.0, 0.0], [1e-30, 0.0]])
    np.testing.assert_allclose(weights.scaled_rows(rows), [[0.5, -1], [0, 0], [1, 0]], rtol=1e-6)


def test_drift_with_a_basis_of_others():
    basis = weights.fit_kernel_basis(weights.scaled_rows(ONE))
    groups = {"one": ONE, "two": TWO}
    found = weights.drift_matrix(groups, basis=basis)[0, 1]
    assert found > 0 and found != weights.drift_matrix(groups)[0, 1]


@pytest.mark.parametrize(("count", "bins"), [(1, 1), (20_000, 70), (8192, 7)])
def test_counts_are_those_of_numpy_on_every_kind_of_device(count, bins):
    places = RNG.integers(bins, size=(3, count)).astype(np.int32)
    expected = [np.bincount(row, minlength=bins) for row in places]
    for counts in (kernel_drift._counts, kernel_drift._counts_by_product):
        np.testing.assert_array_equal(counts(jnp.asarray(places), bins), expected)


def test_divergence_is_mapped_over_many_populations():
    first, second = jnp.asarray(RNG.normal(size=(2, 5, 40, 3)))
    drift = lambda x, y: weights.weighted_symmetric_kl(x, y, jnp.ones(3), bins=9)  # noqa: E731
    np.testing.assert_allclose(jax.vmap(drift)(first, second), [*map(drift, first, second)], rtol=1e-4)


def test_bad_input_is_refused_in_one_line():
    refused("groups: 1; pass at least two", lambda: weights.drift_matrix({"one": ONE}))
    refused(r"groups: kernels of \[4, 9\] numbers", lambda: weights.drift_matrix({"a": ONE, "b": ONE[:, :4]}))
    empty = {"a": ONE, "b": ONE[:0]}
    refused(r"groups\['b'\]: shape \(0, 9\); pass", lambda: weights.drift_matrix(empty))
    broken = ONE.copy()
    broken[3, 3] = np.nan
    refused(r"groups\['b'\]: NaN or infinite", lambda: weights.drift_matrix({"a": ONE, "b": broken}))
    basis = weights.fit_kernel_basis(ONE)
    refused("the basis has kernels of 9", lambda: weights.kernel_coefficients(basis, ONE[:, :4]))
    other = weights.fit_kernel_basis(ONE[:, :4])
    refused("basis: of 4 numbers", lambda: weights.drift_matrix({"a": ONE, "b": TWO}, basis=other))
    assert math.isnan(weights.weighted_symmetric_kl(broken, ONE, jnp.full(9, 1 / 9)))
    assert np.isnan(weights.fit_kernel_basis(broken)["shares"]).all()
