"""Banks fitted to patches: against SVD, scikit-learn, closed forms and what each rule promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import encoders, vectors, weights

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
SPREAD = np.linalg.qr(RNG.normal(size=(6, 6)))[0] * np.array([3.0, 2.0, 1.4, 0.6, 0.4, 0.2])
PATCHES = RNG.normal(size=(3000, 6)) @ SPREAD.T  # columns of SPREAD are their principal directions


def cosines(found, expected):
    """|cos| of rows with rows."""
    found, expected = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found, expected))
    return np.abs(np.sum(np.asarray(found) * expected, axis=1))


def test_patches_are_squares_of_pictures():
    images = np.arange(2 * 5 * 6 * 2, dtype=np.float32).reshape(2, 5, 6, 2)
    found = weights.draw_patches(KEY, images, 3, 200)
    known = {images[b, y : y + 3, x : x + 3].tobytes() for b in range(2) for y in range(3) for x in range(4)}
    drawn = {np.asarray(row).tobytes() for row in found}
    assert found.shape == (200, 18) and drawn <= known and len(drawn) == len(known)
    moved = weights.draw_patches(KEY, images, 3, 50, shifts=1)
    assert moved.shape == (50, 4, 18)
    np.testing.assert_array_equal(moved[:, 3] - moved[:, 0], 2 * 6 + 2)  # one row and one column further
    assert weights.draw_patches(KEY, images.astype(np.uint8), 3, 2).dtype == jnp.float32


def test_normalised_patches_have_mean_0_and_variance_1():
    found = np.asarray(weights.normalise_patches(PATCHES, 1e-8))
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(found.var(axis=1), 1, atol=1e-4)
    assert float(jnp.abs(weights.normalise_patches(jnp.full((2, 4), 3.0))).max()) == 0


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_whitening_folds_into_kernel_and_bias(kind):
    images = jnp.asarray(RNG.random((2, 6, 6, 3)), jnp.float32)
    patches = weights.draw_patches(KEY, images, 3, 500)
    whitening = vectors.fit_whiten(patches, kind=kind, size=20, ridge=0.01)
    width = whitening["kernel"].shape[1]
    filters = RNG.normal(size=(4, width)).astype(np.float32)
    folded, bias = weights.fold_whitening(filters, whitening)
    kernel = weights.filters_to_kernel(folded, (3, 3, 3))
    found = encoders.convolve(kernel, images, padding="VALID") + bias
    patch = images[1, 2:5, 1:4].reshape(1, -1)
    expected = vectors.standardise(whitening, patch) @ filters.T
    np.testing.assert_allclose(found[1, 2, 1], expected[0], rtol=1e-3, atol=1e-4)


def test_pca_filters_are_singular_vectors():
    centred = PATCHES - PATCHES.mean(axis=1, keepdims=True)
    expected = np.linalg.svd(centred, full_matrices=False)[2]
    found = weights.pca_filters(PATCHES, 4)
    assert (cosines(found, expected[:4]) > 0.999).all()
    np.testing.assert_allclose(found @ found.T, np.eye(4), atol=1e-5)


def test_lda_filters_are_scikit_learn_s():
    discriminant_analysis = pytest.importorskip("sklearn.discriminant_analysis")
    labels = RNG.integers(3, size=len(PATCHES))
    x = PATCHES + labels[:, None] * np.array([0, 0, 0, 0.3, 0.5, 0.1]) + (labels == 2)[:, None] * 0.4
    found = weights.lda_filters(x, labels + 5, 2, ridge=1e-7)
    theirs = discriminant_analysis.LinearDiscriminantAnalysis(solver="eigen").fit(x, labels).scalings_[:, :2]
    assert (cosines(found, theirs.T) > 0.999).all()


def slow_spherical(patches, centres, steps):
    for _ in range(steps):
        groups = np.argmax(patches @ centres.T, axis=1)
        for k in range(len(centres)):
            total = patches[groups == k].sum(axis=0)
            centres[k] = total / np.linalg.norm(total)
    return centres


def test_spherical_k_means_is_the_loop():
    start = weights.kmeans_filters(KEY, PATCHES, 5, steps=0)
    found = weights.kmeans_filters(KEY, PATCHES, 5, steps=7)
    np.testing.assert_allclose(found, slow_spherical(PATCHES, np.array(start), 7), atol=1e-3)


def test_plain_k_means_ends_where_scikit_learn_does():
    cluster = pytest.importorskip("sklearn.cluster")
    start = np.asarray(weights.kmeans_filters(KEY, PATCHES, 4, steps=0, spherical=False))
    theirs = cluster.KMeans(4, init=start, n_init=1, tol=0, max_iter=60, algorithm="lloyd").fit(PATCHES)
    found = weights.kmeans_filters(KEY, PATCHES, 4, steps=60, spherical=False)
    np.testing.assert_allclose(found, theirs.cluster_centers_, atol=0.02)


def test_as_many_centres_as_patches_are_the_patches():
    few = RNG.normal(size=(6, 4)).astype(np.float32)
    found = np.asarray(weights.kmeans_filters(KEY, few, 6, steps=3, spherical=False))
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], few[np.argsort(few[:, 0])], rtol=1e-6)


def test_centres_without_patches_move_to_data():
    twins = np.concatenate([np.ones((50, 3)), RNG.normal(size=(50, 3)) - 9]).astype(np.float32)
    found = np.asarray(weights.kmeans_filters(KEY, twins, 8, steps=10, spherical=False))
    assert len(np.unique(found.round(4), axis=0)) >= 7 and np.isfinite(found).all()


def test_convolutional_k_means_lets_each_patch_take_the_shift_that_fits_best():
    windows = np.stack([np.roll(PATCHES[:400], i, axis=1) for i in range(3)], axis=1)
    centres = np.array(weights.kmeans_filters(KEY, windows, 4, steps=0))
    for _ in range(3):
        sums = np.zeros_like(centres)
        for shifts in windows:
            fit = shifts @ centres.T
            shift, group = np.unravel_index(np.argmax(fit), fit.shape)
            sums[group] += shifts[shift]
        centres = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(weights.kmeans_filters(KEY, windows, 4, steps=3), centres, atol=1e-3)
    one = weights.kmeans_filters(KEY, windows[:, :1], 4)
    np.testing.assert_array_equal(one, weights.kmeans_filters(KEY, windows[:, 0], 4))


def test_sparse_codes_lower_their_objective_and_end_at_scikit_learn_s():
    decomposition = pytest.importorskip("sklearn.decomposition")
    filters = np.random.default_rng(3).normal(size=(8, 6))
    filters /= np.linalg.norm(filters, axis=1, keepdims=True)
    x = PATCHES[:20]

    def objective(z):
        return np.sum((x - z @ filters) ** 2) / 2 + 0.3 * np.abs(z).sum()

    steps = (1, 3, 10, 100, 1000)
    values = [objective(np.asarray(weights.sparse_codes(x, filters, penalty=0.3, steps=n))) for n in steps]
    assert (np.diff(values) <= 1e-3).all()
    coder = decomposition.SparseCoder(filters, transform_algorithm="lasso_lars", transform_alpha=0.3)
    assert values[-1] == pytest.approx(objective(coder.transform(x)), rel=1e-3)
    assert float(jnp.abs(weights.sparse_codes(x, filters, penalty=1e4)).max()) == 0


def test_a_dictionary_is_found_again():
    truth = np.linalg.qr(RNG.normal(size=(8, 8)))[0][:6]
    codes = RNG.laplace(size=(4000, 6)) * (RNG.random((4000, 6)) < 0.25)
    found = np.asarray(weights.sparse_filters(KEY, codes @ truth, 6, penalty=0.1, steps=400))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-4)
    assert (np.abs(found @ truth.T).max(axis=0) > 0.98).all()


def test_oja_s_rule_finds_the_principal_components():
    found = weights.oja_filters(KEY, PATCHES + 3, 3)
    assert (cosines(found, SPREAD[:, :3].T) > 0.99).all()
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=0.05)


def slow_map(patches, order, filters, places, rate, width):
    steps = len(order)
    for t, row in enumerate(order):
        x = patches[row]
        c = np.argmin(np.sum((filters - x) ** 2, axis=1))
        pace, wide = (v[0] * (v[1] / v[0]) ** (t / steps) for v in (rate, width))
        near = np.exp(-np.sum((places - places[c]) ** 2, axis=1) / (2 * wide**2))
        filters = filters + pace * near[:, None] * (x - filters)
    return filters


def test_the_map_is_the_loop_and_its_neighbours_are_alike():
    first_key, order_key = jax.random.split(KEY)
    x = np.asarray(PATCHES[:, :2], np.float32)
    start = x[np.asarray(jax.random.randint(first_key, (12,), 0, len(x)))]
    order = np.asarray(jax.random.randint(order_key, (200,), 0, len(x)))
    places = np.array(list(np.ndindex(3, 4)))
    expected = slow_map(x, order, start, places, (0.5, 0.02), (2.0, 0.5))
    found = weights.som_filters(KEY, x, (3, 4), steps=200)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    grid = np.asarray(weights.som_filters(KEY, x, (6, 6), steps=5000)).reshape(6, 6, 2)
    beside = np.linalg.norm(np.diff(grid, axis=0), axis=-1).mean()
    apart = np.linalg.norm(grid[:3] - grid[3:], axis=-1).mean()
    assert beside < 0.6 * apart


def test_a_map_without_neighbours_moves_only_the_nearest_filter():
    x = np.asarray(PATCHES, np.float32)
    start = np.asarray(weights.som_filters(KEY, x, (2, 2), steps=0))
    found = np.asarray(weights.som_filters(KEY, x, (2, 2), steps=1, width=(1e-3, 1e-3)))
    assert np.sum(np.any(found != start, axis=1)) == 1


def test_bad_input_is_refused_in_one_line():
    images = np.zeros((2, 4, 4, 1))
    refused(r"images: shape \(2, 4, 4, 1\); pass .* from 5", lambda: weights.draw_patches(KEY, images, 5, 3))
    refused(r"images: shape \(4, 4\)", lambda: weights.draw_patches(KEY, images[0, ..., 0], 2, 3))
    refused("count: 7 is outside 1..6", lambda: weights.pca_filters(PATCHES, 7))
    refused("count: 7 is above 6", lambda: weights.oja_filters(KEY, PATCHES, 7))
    refused("count: 9 is outside 1..4", lambda: weights.kmeans_filters(KEY, PATCHES[:4], 9))
    refused("count: 9 is outside 1..4", lambda: weights.sparse_filters(KEY, PATCHES[:4], 9))
    refused(r"patches: shape \(6,\)", lambda: weights.kmeans_filters(KEY, PATCHES[0], 1))
    refused(r"patches: shape \(6,\)", lambda: weights.pca_filters(PATCHES[0], 1))
    labels = np.arange(len(PATCHES)) % 3
    refused("count: 3 is outside 1..2", lambda: weights.lda_filters(PATCHES, labels, 3))
    refused("labels: float64", lambda: weights.lda_filters(PATCHES, labels * 0.5, 1))
    refused("grid: .* pass", lambda: weights.som_filters(KEY, PATCHES, (0, 3)))
    whitening = vectors.fit_whiten(PATCHES)
    refused(r"filters: shape \(2, 5\)", lambda: weights.fold_whitening(np.ones((2, 5)), whitening))
