"""Aligned spaces: planted turns, formulas in NumPy, scikit-learn, limits, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import vectors

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)) * np.array([3, 2, 1, 1, 0.5])
Y = X[:, :4] @ RNG.normal(size=(4, 4)) + 0.5 * RNG.normal(size=(60, 4))
TURN = np.linalg.qr(RNG.normal(size=(5, 5)))[0]


def test_procrustes_finds_a_planted_turn_and_none_is_better():
    found = np.asarray(jax.jit(vectors.procrustes)(X, X @ TURN))
    np.testing.assert_allclose(found, TURN, atol=1e-5)
    noisy = X @ TURN + RNG.normal(size=X.shape)
    found = np.asarray(vectors.procrustes(X, noisy))
    np.testing.assert_allclose(found.T @ found, np.eye(5), atol=1e-5)
    best = np.linalg.norm(X @ found - noisy)
    others = (np.linalg.qr(RNG.normal(size=(5, 5)))[0] for _ in range(50))
    assert all(np.linalg.norm(X @ q - noisy) > best for q in others)
    linalg = pytest.importorskip("scipy.linalg")
    np.testing.assert_allclose(found, linalg.orthogonal_procrustes(X, noisy)[0], atol=1e-4)


def test_procrustes_to_another_width_is_orthonormal_the_smaller_way():
    found = np.asarray(vectors.procrustes(X, Y))
    assert found.shape == (5, 4)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-5)


def test_csls_equals_its_definition_and_orders_as_cosines_where_all_are_hubs():
    x, y = RNG.normal(size=(7, 3)), RNG.normal(size=(9, 3))
    cosines = (x / np.linalg.norm(x, axis=1)[:, None]) @ (y / np.linalg.norm(y, axis=1)[:, None]).T
    near = [np.sort(c, axis=1)[:, -3:].mean(axis=1) for c in (cosines, cosines.T)]
    expected = [[2 * cosines[i, j] - near[0][i] - near[1][j] for j in range(9)] for i in range(7)]
    np.testing.assert_allclose(jax.jit(lambda a, b: vectors.csls(a, b, k=3))(x, y), expected, atol=1e-5)


def test_csls_finds_partners_that_a_hub_hides():
    y = np.eye(6)
    x = y + 0.5
    hub = np.ones((1, 6))
    candidates = np.concatenate([y, hub])
    assert (np.argmax(x @ (candidates / np.linalg.norm(candidates, axis=1)[:, None]).T, axis=1) == 6).all()
    found = np.asarray(vectors.csls(x, candidates, k=3))
    np.testing.assert_array_equal(np.argmax(found, axis=1), np.arange(6))


def root(m):
    values, directions = np.linalg.eigh(m)
    return (directions / np.sqrt(values)) @ directions.T


def test_cca_equals_the_formula_and_its_projections_correlate_as_told():
    found = jax.jit(vectors.canonical)(X, Y)
    cx, cy = X - X.mean(axis=0), Y - Y.mean(axis=0)
    expected = np.linalg.svd(root(cx.T @ cx) @ cx.T @ cy @ root(cy.T @ cy))[1]
    np.testing.assert_allclose(found["values"], expected, atol=1e-5)
    one, two = vectors.standardise(found["x"], X), vectors.standardise(found["y"], Y)
    np.testing.assert_allclose(one.T @ one / 60, np.eye(4), atol=1e-4)
    np.testing.assert_allclose(one.T @ two / 60, np.diag(expected), atol=1e-4)


def test_cca_correlations_do_not_change_with_invertible_maps():
    mapped = X @ RNG.normal(size=(5, 5)) + 7
    np.testing.assert_allclose(
        vectors.canonical(1e6 * mapped, Y)["values"], vectors.canonical(X, Y)["values"], atol=1e-3
    )
    np.testing.assert_allclose(vectors.canonical(X, X @ TURN)["values"], np.ones(5), atol=1e-4)


@pytest.mark.peers
def test_scikit_learn_has_the_same_correlations():
    cross = pytest.importorskip("sklearn.cross_decomposition")
    both = cross.CCA(n_components=3, max_iter=10_000, tol=1e-10).fit(X, Y).transform(X, Y)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(both[0].T, both[1].T, strict=True)]
    np.testing.assert_allclose(vectors.canonical(X, Y, size=3)["values"], expected, atol=1e-3)


def test_pls_is_the_svd_of_the_covariance_and_the_limit_of_a_large_ridge():
    found = vectors.canonical(X, Y, kind="pls")
    cx, cy = X - X.mean(axis=0), Y - Y.mean(axis=0)
    left, values, right = np.linalg.svd(cx.T @ cy / 60, full_matrices=False)
    np.testing.assert_allclose(found["values"], values, rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.diag(left.T @ found["x"]["kernel"])), np.ones(4), atol=1e-4)
    np.testing.assert_allclose(np.abs(np.diag(right @ found["y"]["kernel"])), np.ones(4), atol=1e-4)
    much = vectors.canonical(X, Y, ridge=1e6)["x"]["kernel"]
    much = much / np.linalg.norm(much, axis=0)
    np.testing.assert_allclose(np.abs(np.diag(left.T @ much)), np.ones(4), atol=1e-3)


def test_ppmi_is_zero_for_independent_things_and_blind_to_a_common_factor():
    rows, columns = RNG.integers(1, 9, 6), RNG.integers(1, 9, 5)
    np.testing.assert_allclose(
        vectors.ppmi(np.outer(rows, columns), smoothing=1), np.zeros((6, 5)), atol=1e-5
    )
    counts = RNG.integers(0, 9, (6, 5))
    smoothed = counts.sum(axis=0) ** 0.75
    with np.errstate(divide="ignore"):
        pmi = np.log(counts * smoothed.sum() / (counts.sum(axis=1)[:, None] * smoothed)) - np.log(2)
    np.testing.assert_allclose(vectors.ppmi(counts, shift=2.0), np.maximum(pmi, 0), atol=1e-5)
    np.testing.assert_allclose(vectors.ppmi(1e9 * counts), vectors.ppmi(counts), atol=1e-4)
    even = counts[:5] + counts[:5].T
    plain = vectors.ppmi(even, smoothing=1.0)
    np.testing.assert_allclose(plain, plain.T, atol=1e-5)
    assert not np.asarray(vectors.ppmi(np.zeros((2, 3)))).any()


def test_spectral_embeddings_keep_inner_products_at_full_rank():
    matrix = RNG.normal(size=(8, 6))
    rows, columns = vectors.spectral_embedding(matrix, 6, power=1.0)
    np.testing.assert_allclose(rows @ rows.T, matrix @ matrix.T, atol=1e-4)
    rows, columns = vectors.spectral_embedding(matrix, 6)
    np.testing.assert_allclose(rows @ columns.T, matrix, atol=1e-4)
    positive = matrix.T @ matrix
    rows, _ = vectors.spectral_embedding(positive, 6)
    np.testing.assert_allclose(rows @ rows.T, positive, atol=1e-3)


def test_the_randomised_decomposition_comes_near_to_the_exact_one():
    matrix = (RNG.normal(size=(80, 12)) * 0.5 ** np.arange(12)) @ RNG.normal(size=(12, 50))
    exact = vectors.spectral_embedding(matrix, 5, power=1.0)[0]
    drawn = vectors.spectral_embedding(matrix, 5, power=1.0, key=jax.random.key(0))[0]
    np.testing.assert_allclose(np.abs(np.sum(exact * drawn, axis=0)), np.sum(exact**2, axis=0), rtol=1e-3)


def test_combined_spaces_of_one_space_keep_its_distances():
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    for align in ("none", "procrustes", "pls"):
        found = vectors.combine_spaces([X, X], [3, 1], align=align)
        np.testing.assert_allclose(found @ found.T, unit @ unit.T, atol=1e-4)
    for align in ("procrustes", "pls"):
        turned = vectors.combine_spaces([X, X @ TURN, 2 * X @ TURN.T], align=align)
        np.testing.assert_allclose(turned @ turned.T, unit @ unit.T, atol=1e-4)
    alone = vectors.combine_spaces([X, Y], [1, 0], align="pls", size=4)
    left = np.linalg.svd(unit.T @ (Y / np.linalg.norm(Y, axis=1, keepdims=True)))[0][:, :4]
    np.testing.assert_allclose(np.abs(alone), np.abs(unit @ left), atol=1e-4)
    part = vectors.combine_spaces([X, Y], align="cca", where=np.arange(60) < 50)
    assert part.shape == (60, 4) and np.isfinite(part).all()


def test_bad_input_gets_one_line():
    refused("y: shape", lambda: vectors.procrustes(X, Y[:5]))
    refused("pass at least one pair", lambda: vectors.procrustes(X[:0], Y[:0]))
    refused("k: 10 is outside 1..4", lambda: vectors.csls(X[:4], X))
    refused("size: 5 is outside 1..4", lambda: vectors.canonical(X, Y, size=5))
    refused("kind='lda'", lambda: vectors.canonical(X, Y, kind="lda"))
    refused("ridge: -1 is below 0", lambda: vectors.canonical(X, Y, ridge=-1))
    refused("counts: hold a negative number", lambda: vectors.ppmi(jnp.array([[1.0, jnp.nan]])))
    refused("shift: 0.5 is below 1", lambda: vectors.ppmi(np.ones((2, 2)), shift=0.5))
    refused("size: 7 is outside 1..5", lambda: vectors.spectral_embedding(X, 7))
    refused("align='turn'", lambda: vectors.combine_spaces([X], align="turn"))
    refused("spaces: none is given", lambda: vectors.combine_spaces([]))
    refused("weights: shape", lambda: vectors.combine_spaces([X, X], [1.0]))
