"""DECOR and the spectrum of prompts: projections, bounds, agreement with SciPy, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from refusals import refused

from jaxembed import diffusion, vectors

RNG = np.random.default_rng(0)
STATES, UNDESIRED = (RNG.normal(size=(n, 8)).astype(np.float32) for n in (6, 3))


def projector(rows):
    """P of the rows, from SciPy's basis."""
    basis = scipy.linalg.orth(np.float64(rows).T)
    return basis @ basis.T


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 1.5])
def test_decor_is_its_formula(strength):
    expected = STATES @ (np.eye(8) - strength * projector(UNDESIRED))
    found = jax.jit(diffusion.decor)(STATES, UNDESIRED, strength=strength)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    inside = np.linalg.norm(STATES @ projector(UNDESIRED)) ** 2
    power = np.linalg.norm(STATES) ** 2 - (2 * strength - strength**2) * inside
    np.testing.assert_allclose(np.linalg.norm(found) ** 2, power, rtol=1e-5)


def test_decor_in_float64_leaves_nothing_of_the_undesired_words():
    with jax.enable_x64(True):
        found = diffusion.decor(np.float64(STATES), np.float64(UNDESIRED))
        np.testing.assert_allclose(found @ UNDESIRED.T, np.zeros((6, 3)), atol=1e-14)


def test_of_a_prompt_that_is_undesired_itself_a_share_is_left():
    np.testing.assert_allclose(
        diffusion.decor(UNDESIRED, UNDESIRED, strength=0.25), 0.75 * UNDESIRED, atol=1e-6
    )


def test_strengths_multiply_and_rows_do_not_see_each_other():
    once = diffusion.decor(STATES, UNDESIRED)
    np.testing.assert_allclose(diffusion.decor(once, UNDESIRED), once, atol=1e-6)
    twice = diffusion.decor(diffusion.decor(STATES, UNDESIRED, strength=0.5), UNDESIRED, strength=0.5)
    np.testing.assert_allclose(twice, diffusion.decor(STATES, UNDESIRED, strength=0.75), atol=1e-6)
    rows = np.array([4, 1])
    np.testing.assert_allclose(diffusion.decor(STATES[rows], UNDESIRED), once[rows], atol=1e-6)


def test_only_what_the_rows_span_matters():
    once = diffusion.decor(STATES, UNDESIRED)
    mixed = RNG.normal(size=(3, 3)).astype(np.float32) @ UNDESIRED
    doubled = np.concatenate([UNDESIRED, UNDESIRED[:1], np.zeros((1, 8), np.float32)])
    for rows in (mixed, doubled):
        np.testing.assert_allclose(diffusion.decor(STATES, rows), once, atol=1e-5)
    padded = np.concatenate([UNDESIRED, RNG.normal(size=(2, 8)).astype(np.float32)])
    where = np.array([True, True, True, False, False])
    np.testing.assert_allclose(diffusion.decor(STATES, padded, where=where), once, atol=1e-6)
    several = jax.vmap(lambda x: diffusion.decor(STATES, x, strength=0.5))(np.stack([UNDESIRED, mixed]))
    np.testing.assert_allclose(several[0], several[1], atol=1e-5)


def test_weak_directions_stay_and_the_basis_has_no_gradient():
    rows = np.diag([1.0, 1e-3, 1e-5]).astype(np.float32)
    left = diffusion.decor(jnp.ones((1, 3)), rows)
    np.testing.assert_allclose(left, [[0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(diffusion.decor(jnp.ones((1, 3)), rows, tolerance=0.1), [[0, 1, 1]], atol=1e-6)
    np.testing.assert_allclose(diffusion.decor(jnp.ones((1, 3)), rows[:2], rank=1), [[0, 1, 1]], atol=1e-6)
    slope = jax.grad(lambda x: diffusion.decor(STATES, x).sum())(UNDESIRED)
    np.testing.assert_array_equal(slope, np.zeros_like(UNDESIRED))


def test_padding_rules_the_first_direction():
    pad = RNG.normal(size=8).astype(np.float32)
    states = np.concatenate([STATES, np.tile(pad, (40, 1))])
    is_pad = np.arange(46) >= 6
    values, directions = jax.jit(diffusion.prompt_spectrum)(states)
    np.testing.assert_allclose(values, np.linalg.svd(states, compute_uv=False), rtol=1e-5, atol=1e-5)
    assert values[0] ** 2 >= 40 * np.sum(pad**2)
    to_pad = diffusion.row_alignment(directions, states, is_pad)
    np.testing.assert_allclose(to_pad, np.abs(directions @ (pad / np.linalg.norm(pad))), atol=1e-5)
    assert to_pad[0] > 0.95 > diffusion.row_alignment(directions, states, ~is_pad)[0]
    alone, _ = diffusion.prompt_spectrum(states, where=~is_pad)
    np.testing.assert_allclose(alone[:6], np.linalg.svd(STATES, compute_uv=False), rtol=1e-4)


@pytest.mark.parametrize("rank", [0, 2, 6])
def test_the_two_parts_of_a_prompt(rank):
    left, values, right = np.linalg.svd(np.float64(STATES), full_matrices=False)
    part = diffusion.rank_part(STATES, rank)
    np.testing.assert_allclose(part, (left[:, :rank] * values[:rank]) @ right[:rank], atol=1e-5)
    np.testing.assert_allclose(part + diffusion.rank_part(STATES, rank, drop=True), STATES, atol=1e-5)


def test_bad_input_is_named():
    refused(
        "undesired: spans all 8 dimensions, so nothing is left", lambda: diffusion.decor(STATES, np.eye(8))
    )
    nothing = np.zeros(3, bool)
    refused(
        "where: marks no row of undesired; its prompt has no known word",
        lambda: diffusion.decor(STATES, UNDESIRED, where=nothing),
    )
    refused(r"where: shape \(2,\); pass \[3\]", lambda: diffusion.decor(STATES, UNDESIRED, where=nothing[:2]))
    refused(r"basis: shape \(3, 7\)", lambda: diffusion.decor(STATES, UNDESIRED[:, :7]))
    refused("tolerance: 2 is outside", lambda: diffusion.decor(STATES, UNDESIRED, tolerance=2))
    refused("rank: 7 is outside 0..6; the states have 6 directions", lambda: diffusion.rank_part(STATES, 7))
    refused("where: marks no row of states", lambda: diffusion.row_alignment(np.eye(8), STATES, np.zeros(6)))


def test_the_tolerance_of_a_row_space():
    kept = vectors.row_space(np.diag([1.0, 1e-2, 1e-5]).astype(np.float32), tolerance=1e-4)[1]
    np.testing.assert_array_equal(kept, [True, True, False])
