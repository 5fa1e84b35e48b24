"""Arguments of banks, drift, masks and scores that would give wrong numbers without a word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import vectors, weights


def test_arguments_without_a_meaning_are_refused():
    rows = np.random.default_rng(0).normal(size=(20, 9))
    maps = jnp.ones((2, 4, 4, 3))
    params, graph = {"a": jnp.ones((1, 1, 1, 4))}, {"a": (None, None, None, "a")}
    for match, call in (
        ("wavelengths", lambda: weights.gabor_bank(3, wavelengths=[0.0])),
        ("0 orientations", lambda: weights.gabor_bank(3, orientations=0)),
        ("count 0", lambda: weights.draw_patches(jax.random.key(0), np.ones((1, 4, 4, 1)), 2, 0)),
        ("candidates: 3", lambda: vectors.mine_patterns(maps, [0, 1], np.ones(3), np.array([[0, 3]] * 2))),
        ("bins: 0", lambda: weights.drift_matrix({"a": rows, "b": rows}, bins=0)),
        ("1 shares", lambda: weights.weighted_symmetric_kl(rows, rows, jnp.ones(1))),
        ("keep: 'a' has numbers outside", lambda: weights.channel_masks({"a": [4]}, {"a": 4})),
        (
            "scores",
            lambda: weights.prune(params, graph, {"a": [3]}, scores={"a": jnp.ones(2)}, rescale="own"),
        ),
        ("masks: 'a' has int32", lambda: weights.mask_channels(params, graph, {"a": np.array([0, 1, 2, 3])})),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    kernel = weights.bank_initializer(np.eye(9, dtype=int))(jax.random.key(0), (3, 3, 4, 8))
    assert kernel.dtype == jnp.float32


def test_counts_that_are_not_integers_are_refused_in_one_line():
    kernel, scores, rows = np.ones((3, 3, 2, 4)), np.ones(3), np.ones((20, 9))
    key, maps = jax.random.key(0), np.ones((2, 4, 4, 3))
    weights.filter_orthogonality(kernel, groups=2)  # 2.0 does not pass as what is compiled for 2
    every = np.array([[0, 1, 2]] * 2)
    for match, call in (
        ("keep: 1.5 is not an integer", lambda: weights.select_filters(scores, 1.5)),
        ("count: 8.0 is not", lambda: weights.selection_stability([[0]], 8.0)),
        ("size: 3.0 is not an integer", lambda: weights.dct_bank(3.0)),
        ("count: 2.0 is not", lambda: weights.dct_bank(3, 2.0)),
        ("orientations: True is not", lambda: weights.gabor_bank(3, orientations=True)),
        ("groups: 2.0 is not an integer", lambda: weights.filter_orthogonality(kernel, groups=2.0)),
        ("groups: 2.0 is not", lambda: weights.layer_quality(kernel, groups=2.0)),
        (
            "groups.*: 2.0 is",
            lambda: weights.model_quality({"a": {"kernel": kernel}}, groups={"a/kernel": 2.0}),
        ),
        (r"layers: 3; pass integers \(kernel", lambda: weights.receptive_fields([3])),
        (r"layers: \(3, 1.0\); pass", lambda: weights.receptive_fields([(3, 1), (3, 1.0)])),
        (r"layers: \(3,\); pass", lambda: weights.receptive_fields([(3,)])),
        ("bins: 7.0 is not", lambda: weights.drift_matrix({"a": rows, "b": rows}, bins=7.0)),
        ("size: 2.0 is not", lambda: weights.draw_patches(key, np.ones((1, 4, 4, 1)), 2.0, 3)),
        ("count: 2.0 is not", lambda: weights.pca_filters(rows, 2.0)),
        ("count: 1.0 is not", lambda: weights.lda_filters(rows, np.arange(20) % 2, 1.0)),
        ("count: 2.0 is not", lambda: weights.kmeans_filters(key, rows, 2.0)),
        ("count: 2.0 is not", lambda: weights.sparse_filters(key, rows, 2.0)),
        ("steps: 9.0 is not", lambda: weights.oja_filters(key, rows, 2, steps=9.0)),
        (r"grid\[1\]: 2.0 is not", lambda: weights.som_filters(key, rows, (2, 2.0))),
        ("scales: 1.0 is not", lambda: weights.scattering(np.ones((1, 4, 4, 1)), 1.0)),
        ("count: 2.0 is not", lambda: vectors.candidate_channels(np.ones((3, 2)), 2.0)),
        ("count: 2.0 is not", lambda: vectors.top_active(rows, 2.0)),
        ("size: 2.0 is not", lambda: vectors.association_rules(rows > 0, np.zeros(20, int), every, size=2.0)),
        ("radius: 1.0 is", lambda: vectors.mine_patterns(maps, [0, 1], np.ones(3), every, radius=1.0)),
    ):
        refused(match, call)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_patches_with_nan_are_refused_by_every_fit(bad):
    key, rows = jax.random.key(0), np.ones((20, 9))
    rows[3, 3] = bad
    for call in (
        lambda: weights.som_filters(key, rows, (2, 2)),
        lambda: weights.oja_filters(key, rows, 2),
        lambda: weights.sparse_filters(key, rows, 2),
        lambda: weights.sparse_codes(rows, np.eye(9)),
        lambda: weights.kmeans_filters(key, rows, 2),
        lambda: weights.pca_filters(rows, 2),
        lambda: weights.lda_filters(rows, np.arange(20) % 2, 1),
    ):
        refused("patches: NaN or infinite numbers; leave those patches out", call)


def test_classes_without_variance_have_no_discriminants():
    labels = np.arange(20) % 2
    for rows in (np.zeros((20, 9)), np.where(labels[:, None] == 1, 1.0, np.zeros((20, 9)))):
        refused("patches: no variance within classes", lambda rows=rows: weights.lda_filters(rows, labels, 1))


def test_spread_reads_the_places_of_dilated_kernels_and_refuses_other_maps():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((5, 8, 8, 2), (3, 3, 2, 4)))

    def run(params, x):
        return jax.lax.conv_general_dilated(
            x, params["k"], (1, 1), "SAME", rhs_dilation=(2, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    tap = weights.convolution_taps(run, {"k": kernel}, x)["k"]
    found = weights.activation_spread(**tap)
    padded, wanted = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0))).astype(float), 0
    for i, j in np.ndindex(8, 8):
        read = padded[:, i : i + 5 : 2, j : j + 5 : 2].std()
        wanted = wanted + np.asarray(tap["outputs"])[:, i, j].std(axis=0) / read
    np.testing.assert_allclose(found, wanted * np.abs(kernel).mean((0, 1, 2)), rtol=1e-4)
    with pytest.raises(ValueError, match="outputs: maps of"):
        weights.activation_spread(kernel, x, tap["outputs"][:, 1:-1, 1:-1])
