"""Vectors spread evenly: centring, whitening, removed directions, scores of isotropy, entry vectors."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import losses, metrics, vectors

N, D = 200, 6
FITS = {
    "centre": vectors.fit_centre,
    "zca": vectors.fit_whiten,
    "pca": lambda x, **o: vectors.fit_whiten(x, kind="pca", size=4, **o),
    "removal": lambda x, **o: vectors.fit_removal(x, components=2, **o),
    "removal from 0": lambda x, **o: vectors.fit_removal(x, components=2, centre=False, **o),
}


def skewed(seed=0, rows=N):
    """Vectors with a large mean and very different variances, as text encoders give them."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, D)) * [9, 4, 2, 1, 0.6, 0.3] @ rotation() + 3).astype(np.float32)


def rotation(seed=5):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(D, D)))[0]


@pytest.mark.parametrize("name", FITS)
def test_fits_are_affine_maps_under_jit_and_ignore_rows_that_do_not_count(name):
    x = skewed()
    params = FITS[name](x)
    assert set(params) == {"mean", "kernel"}
    expected = (x - np.asarray(params["mean"])) @ np.asarray(params["kernel"])
    np.testing.assert_allclose(vectors.standardise(params, x), expected, rtol=1e-4, atol=1e-4)
    keep = np.random.default_rng(1).random(N) < 0.8
    spoiled = np.where(keep[:, None], x, np.nan)
    found, wanted = jax.jit(FITS[name])(spoiled, where=keep), FITS[name](x[keep])
    moved = (vectors.standardise(p, x[keep]) for p in (found, wanted))
    if name == "pca":  # the sign of a direction is open
        moved = (np.abs(m) for m in moved)
    np.testing.assert_allclose(*moved, atol=1e-2)


@pytest.mark.parametrize("name", FITS)
def test_float64_and_bfloat16(name):
    assert vectors.standardise(FITS[name](skewed()), jnp.zeros((2, D), jnp.bfloat16)).dtype == np.float32
    with jax.enable_x64(True):
        params = FITS[name](jnp.asarray(skewed().astype(np.float64)))
        assert params["kernel"].dtype == np.float64


@pytest.mark.parametrize("name", ["centre", "zca", "pca", "removal"])
def test_the_mean_of_fitted_vectors_is_zero(name):
    moved = vectors.standardise(FITS[name](skewed()), skewed())
    np.testing.assert_allclose(np.mean(moved, axis=0), 0, atol=1e-3)


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_whitened_vectors_have_the_identity_as_covariance(kind):
    x = skewed()
    white = np.asarray(vectors.standardise(vectors.fit_whiten(x, kind=kind), x), np.float64)
    np.testing.assert_allclose(white.T @ white / N, np.eye(D), atol=2e-3)
    centred = x - x.mean(axis=0, dtype=np.float64)
    inverse = np.linalg.inv(centred.T @ centred / N)
    np.testing.assert_allclose(white @ white.T, centred @ inverse @ centred.T, atol=0.1, rtol=1e-2)
    if kind == "zca":  # the symmetric root of the inverse covariance
        values, directions = np.linalg.eigh(inverse)
        root = directions @ np.diag(np.sqrt(values)) @ directions.T
        np.testing.assert_allclose(vectors.fit_whiten(x)["kernel"], root, atol=1e-2)


def test_whitening_keeps_the_strongest_directions_and_does_not_blow_up_empty_ones():
    x = skewed()
    full = vectors.standardise(vectors.fit_whiten(x, kind="pca"), x)
    short = vectors.standardise(vectors.fit_whiten(x, kind="pca", size=2), x)
    np.testing.assert_allclose(np.abs(short), np.abs(full[:, :2]), atol=1e-4)
    flat = x.copy()
    flat[:, 2] = flat[:, 0]
    moved = vectors.standardise(vectors.fit_whiten(flat), flat)
    assert np.abs(moved).max() < 50
    chex.assert_tree_all_finite(vectors.standardise(vectors.fit_whiten(np.ones((3, D))), np.ones((2, D))))


@pytest.mark.parametrize(("count", "width"), [(5, 16), (50, 384)])
def test_fewer_vectors_than_directions_do_not_blow_up_unseen_ones(count, width):
    rng = np.random.default_rng(0)
    x, unseen = rng.normal(size=(count, width)), rng.normal(size=(100, width))
    x, unseen = x.astype(np.float32), unseen.astype(np.float32)
    white = np.asarray(vectors.standardise(vectors.fit_whiten(x), unseen))
    centred = x - x.mean(axis=0, dtype=np.float64)
    left, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    directions, sizes = directions[: count - 1], sizes[: count - 1] / np.sqrt(count)
    expected = (unseen - x.mean(axis=0)) @ directions.T / sizes @ directions
    np.testing.assert_allclose(white, expected, atol=2e-3)
    assert np.abs(white).max() < 50
    assert metrics.isotropy(x)["condition"] == math.inf


@pytest.mark.parametrize("centre", [True, False])
def test_removed_directions_are_gone_and_removing_again_changes_nothing(centre):
    x = skewed()
    params = vectors.fit_removal(x, components=2, centre=centre)
    moved = np.asarray(vectors.standardise(params, x))
    origin = x.mean(axis=0, dtype=np.float64) if centre else 0
    _, _, directions = np.linalg.svd(x - origin, full_matrices=False)
    expected = (x - origin) - (x - origin) @ directions[:2].T @ directions[:2]
    np.testing.assert_allclose(moved, expected, atol=2e-3)
    kernel = np.asarray(params["kernel"])
    np.testing.assert_allclose(kernel @ kernel, kernel, atol=1e-5)
    assert np.linalg.matrix_rank(kernel, tol=1e-3) == D - 2
    nothing = vectors.fit_removal(x, components=0, centre=False)
    np.testing.assert_allclose(vectors.standardise(nothing, x), x, rtol=1e-5)


# Isotropy


def isoscore(x):
    """The definition, step by step."""
    variances = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    n = len(variances)
    scaled = math.sqrt(n) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(scaled - 1) / math.sqrt(2 * (n - math.sqrt(n)))
    return (n * (n - defect**2 * (n - math.sqrt(n))) ** 2 / n**2 - 1) / (n - 1)


def test_scores_of_isotropy_equal_their_definitions():
    x = skewed() / 10
    scores = {name: float(value) for name, value in jax.jit(metrics.isotropy)(x).items()}
    lengths = np.linalg.norm(x, axis=1)
    cosines = (x @ x.T) / np.outer(lengths, lengths)
    np.testing.assert_allclose(scores["cosine"], (cosines.sum() - N) / (N * (N - 1)), rtol=1e-4)
    variances = np.linalg.eigvalsh(np.cov(x.T.astype(np.float64), bias=True))
    np.testing.assert_allclose(scores["condition"], variances[-1] / variances[0], rtol=1e-2)
    np.testing.assert_allclose(scores["isoscore"], isoscore(x), rtol=1e-3)
    _, directions = np.linalg.eigh(x.T.astype(np.float64) @ x)
    sums = np.exp(x @ np.concatenate([directions, -directions], axis=1)).sum(axis=0)
    np.testing.assert_allclose(scores["partition"], sums.min() / sums.max(), rtol=1e-3)


def test_isotropy_rises_when_vectors_are_evened_out():
    x = skewed() / 10
    before = metrics.isotropy(x)
    for name in ("zca", "removal"):
        after = metrics.isotropy(vectors.standardise(FITS[name](x), x))
        assert abs(after["cosine"]) < abs(before["cosine"]) - 0.3
        assert after["partition"] > before["partition"]
    white = metrics.isotropy(vectors.standardise(FITS["zca"](x), x))
    np.testing.assert_allclose([white["condition"], white["isoscore"]], 1, atol=1e-2)
    assert before["condition"] > 100
    assert before["isoscore"] < 0.5


def test_scores_of_isotropy_at_the_edges():
    x = skewed()
    base = metrics.isotropy(x)
    chex.assert_trees_all_close(metrics.isotropy(x @ rotation(1).astype(np.float32)), base, rtol=2e-2)
    keep = np.arange(N) < 50
    spoiled = np.where(keep[:, None], x, np.inf)
    chex.assert_trees_all_close(metrics.isotropy(spoiled, where=keep), metrics.isotropy(x[:50]), rtol=1e-2)
    one_line = metrics.isotropy(np.outer(np.arange(-2.0, 3), np.ones(D)))
    assert one_line["isoscore"] < 1e-3
    same = metrics.isotropy(np.zeros((4, D)))
    assert (float(same["condition"]), float(same["isoscore"])) == (math.inf, 0)
    assert float(metrics.isotropy(x[:, :1])["isoscore"]) == 1
    np.testing.assert_allclose(metrics.isotropy(np.ones((5, D)))["cosine"], 1, rtol=1e-5)


# Entry vectors


def test_entry_means_average_definitions_in_any_order():
    rng = np.random.default_rng(0)
    x, entries = rng.normal(size=(12, D)).astype(np.float32), rng.integers(0, 5, 12)
    entries[entries == 3] = 2
    expected = [x[entries == e].mean(axis=0) if (entries == e).any() else np.zeros(D) for e in range(5)]
    value = vectors.entry_means(x, entries, 5)
    np.testing.assert_allclose(value, expected, atol=1e-6)
    order = rng.permutation(12)
    np.testing.assert_allclose(vectors.entry_means(x[order], entries[order], 5), value, atol=1e-6)
    twice = vectors.entry_means(np.concatenate([x, x]), np.concatenate([entries, entries]), 5)
    np.testing.assert_allclose(twice, value, atol=1e-6)
    outside = np.concatenate([entries, [-1, 5, 99]])
    more = np.concatenate([x, np.full((3, D), np.nan, np.float32)])
    np.testing.assert_allclose(
        jax.jit(vectors.entry_means, static_argnums=2)(more, outside, 5), value, atol=1e-6
    )


def test_a_mean_in_the_entry_vectors_changes_no_loss_but_whitening_does():
    rng = np.random.default_rng(0)
    table, x, positives = skewed(rows=40), rng.normal(size=(8, D)), rng.integers(0, 40, 8)

    def loss(table):
        return losses.frozen_softmax(x, table, positives=positives)

    centred = vectors.standardise(vectors.fit_centre(table), table)
    np.testing.assert_allclose(loss(centred), loss(table), rtol=1e-3, atol=1e-3)
    assert not np.allclose(loss(vectors.standardise(vectors.fit_whiten(table), table)), loss(table), atol=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: vectors.fit_whiten(x, kind="ica"), "kind='ica'"),
        (lambda x: vectors.fit_whiten(x, size=D + 1), "size: 7 is outside 1..6"),
        (lambda x: vectors.fit_removal(x, components=7), "components: 7 is outside 0..6"),
        (lambda x: vectors.fit_centre(x[0]), r"pass \[N, D\]"),
        (lambda x: metrics.isotropy(x[:0]), "at least one row"),
        (lambda x: vectors.standardise(vectors.fit_centre(x), x[:, :3]), "width 3, but params"),
    ],
)
def test_wrong_arguments_raise_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(skewed())
    assert "\n" not in str(caught.value)


def test_a_ridge_keeps_weak_directions_small():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3)) * np.array([2.0, 1.0, 0.1])
    covariance = np.cov(vectors.standardise(vectors.fit_whiten(x, ridge=0.5), x).T)
    values = np.linalg.eigvalsh(np.cov(x.T))
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance), values / (values + 0.5), rtol=0.01)
