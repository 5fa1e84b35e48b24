"""Merging gives the numbers of FusionBench; tests/support/golden_merging.py wrote them."""

import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import weights

PATH = pathlib.Path(__file__).parents[1] / "support" / "golden" / "merging.npz"


@functools.cache
def golden():
    with np.load(PATH, allow_pickle=False) as file:
        return dict(file)


def added(vectors, coefficients, **options):
    zero = {"w": jnp.zeros(vectors.shape[1])}
    return weights.merge(zero, [{"w": v} for v in vectors], coefficients, **options)["w"]


@pytest.mark.parametrize("position", [0.0, 0.3, 1.0])
def test_slerp(position):
    found = added(golden()["vectors"][:2], [position], rule="slerp")
    np.testing.assert_allclose(found, golden()[f"slerp_{position}"], atol=2e-6)


def test_slerp_of_one_line():
    first = golden()["vectors"][0]
    found = added(np.stack([first, np.float32(1.0001) * first]), [0.3], rule="slerp")
    np.testing.assert_allclose(found, golden()["slerp_line"], atol=2e-6)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_ties(reduce):
    vectors, density = golden()["vectors"], float(golden()["density"])
    kept = int(density * vectors.shape[1]) + 1  # the package keeps one more than the share
    found = added(vectors, 1.0, rule="ties", density=kept / vectors.shape[1], reduce=reduce)
    np.testing.assert_allclose(found, golden()[f"ties_{reduce}"], atol=2e-6)


@pytest.mark.parametrize(("name", "normalise"), [("fisher", True), ("fisher_plain", False)])
def test_fisher(name, normalise):
    fishers = [{"w": f} for f in golden()["diagonals"]]
    options = {"rule": "fisher", "fishers": fishers, "normalise": normalise}
    found = added(golden()["vectors"], [1.0, 2.0, 0.5], **options)
    np.testing.assert_allclose(found, golden()[name], atol=1e-4)  # 1e-6 is added at another place
    assert np.abs(golden()["fisher"] - golden()["fisher_plain"]).max() > 1e-2
