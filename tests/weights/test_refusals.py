"""Arguments of banks, drift, masks and scores that would give wrong numbers without a word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
