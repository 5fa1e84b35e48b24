"""SAFREE: triggers, both orders, both rules of steps, schedules of conditions, damped spectra, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import diffusion, vectors

RNG = np.random.default_rng(0)
STATES, REMOVED = (RNG.normal(size=(5, 8)).astype(np.float32) for _ in range(2))
WORDS = np.array([False, True, True, True, False])
PHRASES = RNG.normal(size=(2, 8)).astype(np.float32)
CONCEPT = np.asarray(vectors.row_space(PHRASES)[0])
INPUTS = np.asarray(vectors.row_space(REMOVED[1:4])[0])


def onto(rows):
    """The projector E pinv(E^T E) E^T of the paper, for rows E^T."""
    e = np.float64(rows).T
    return e @ np.linalg.pinv(e.T @ e) @ e.T


C, IN = onto(PHRASES), onto(REMOVED[1:4])


# Triggers


def slow_triggers(removed, words, alpha):
    d = {i: np.linalg.norm(removed[i] - C @ removed[i]) for i in np.flatnonzero(words)}
    means = {i: np.mean([d[j] for j in d if j != i]) for i in d}
    return [bool(i in d and d[i] >= (1 + alpha) * means[i]) for i in range(len(words))]


@pytest.mark.parametrize("alpha", [-0.2, 0.01, 0.1, 0.3])
def test_triggers_are_those_of_the_formula(alpha):
    found = jax.jit(diffusion.trigger_tokens)(REMOVED, CONCEPT, WORDS, alpha=alpha)
    assert found.tolist() == slow_triggers(np.float64(REMOVED), WORDS, alpha)


def test_triggers_at_their_limits():
    triggers = diffusion.trigger_tokens
    np.testing.assert_array_equal(triggers(REMOVED, CONCEPT, WORDS, alpha=-1), WORDS)
    assert not triggers(REMOVED, CONCEPT, WORDS, alpha=1e6).any()
    even = np.tile(REMOVED[:1], (5, 1))
    assert not triggers(even, CONCEPT, WORDS).any()
    alone = np.array([False, True, False, False, False])
    np.testing.assert_array_equal(triggers(REMOVED, CONCEPT, alone, alpha=1e6), alone)
    noisy = np.where(WORDS[:, None], REMOVED, np.nan)
    np.testing.assert_array_equal(triggers(noisy, CONCEPT, WORDS), triggers(REMOVED, CONCEPT, WORDS))


def test_leave_one_out_hides_one_token_a_row():
    seen = []

    def encode(batch):
        seen.append(batch)
        return jnp.where(batch["mask"], batch["ids"], 0).sum(axis=1)[:, None].astype(float)

    ids, mask = np.array([4, 5, 6, 0]), np.array([True, True, True, False])
    found = diffusion.leave_one_out(encode, ids, mask, 9)
    np.testing.assert_array_equal(found[:, 0], [15 + 5, 15 + 4, 15 + 3, 15])
    assert seen[0]["mask"].shape == (4, 4) and bool((seen[0]["mask"] == mask).all())
    many = jax.vmap(lambda i, m: diffusion.leave_one_out(encode, i, m, 9))(ids[None], mask[None])
    np.testing.assert_array_equal(many[0], found)


# Filtering


def test_both_orders_are_their_formulas():
    last = diffusion.filter_states(STATES, CONCEPT, INPUTS)
    np.testing.assert_allclose(last, STATES @ IN @ (np.eye(8) - C), atol=1e-5)
    np.testing.assert_allclose(last @ PHRASES.T, np.zeros((5, 2)), atol=1e-5)
    first = diffusion.filter_states(STATES, CONCEPT, INPUTS, order="input_last")
    np.testing.assert_allclose(first, STATES @ (np.eye(8) - C) @ IN, atol=1e-5)
    np.testing.assert_allclose(first @ (np.eye(8) - IN), np.zeros((5, 8)), atol=1e-5)
    assert np.abs(first @ PHRASES.T).max() > 0.1
    plain = diffusion.filter_states(STATES, CONCEPT)
    np.testing.assert_allclose(plain, STATES @ (np.eye(8) - C), atol=1e-5)


@pytest.mark.parametrize("order", ["concept_last", "input_last"])
def test_a_concept_apart_from_the_inputs_changes_nothing_within_them(order):
    concept, inputs = np.eye(8, dtype=np.float32)[:2], np.eye(8, dtype=np.float32)[2:5]
    states = STATES @ inputs.T @ inputs
    np.testing.assert_allclose(
        diffusion.filter_states(states, concept, inputs, order=order), states, atol=1e-6
    )


def test_rows_without_a_trigger_come_back_bit_for_bit():
    some = np.array([False, True, False, False, False])
    found = diffusion.filter_states(STATES, CONCEPT, INPUTS, triggers=some)
    np.testing.assert_array_equal(np.asarray(found)[~some], STATES[~some])
    none = diffusion.filter_states(STATES, CONCEPT, INPUTS, triggers=np.zeros(5, bool))
    np.testing.assert_array_equal(none, STATES)


# Steps


def turned(z):
    """States [1, 2] and others at the cosine 1 - z."""
    return np.array([[2.0, 0.0]], np.float32), np.array([[1 - z, np.sqrt(1 - (1 - z) ** 2)]], np.float32)


@pytest.mark.parametrize(
    ("z", "calibrated", "paper"),
    [(0, 0, 5), (0.45, 0, 6), (0.5, 2, 6), (0.53, 5, 6), (0.55, 7, 6), (0.6, 10, 6), (1, 10, 7)],
)
def test_both_rules_of_steps(z, calibrated, paper):
    mask = np.array([True])
    assert int(diffusion.filter_steps(*turned(z), mask)) == calibrated
    assert int(diffusion.filter_steps(*turned(z), mask, rule="paper")) == paper


def test_steps_read_the_tokens_of_the_mask_alone():
    states, filtered = turned(0.5)
    padded = (np.concatenate([x, np.full((1, 2), np.nan, np.float32)]) for x in (states, filtered))
    assert int(jax.jit(diffusion.filter_steps)(*padded, np.array([True, False]))) == 2


def test_a_known_concept_may_be_closed_over_by_a_jitted_function():
    def filtered(states, words):
        found = diffusion.trigger_tokens(states, CONCEPT, WORDS)
        return diffusion.filter_states(states, CONCEPT, triggers=found & words)

    expected = filtered(STATES, WORDS)
    np.testing.assert_allclose(jax.jit(filtered)(STATES, WORDS), expected, atol=1e-6)
    closed = jax.jit(lambda states: diffusion.decor(states, PHRASES, where=np.array([True, False])))
    np.testing.assert_allclose(closed(STATES) @ PHRASES[0], np.zeros(5), atol=1e-5)


# The whole


def whole(phrases, words=WORDS, **options):
    return diffusion.safree(STATES, REMOVED, phrases, words, **options)


def test_safree_is_its_parts_and_its_phrases_count_by_what_they_span():
    found = jax.jit(whole)(PHRASES)
    triggers = slow_triggers(np.float64(REMOVED), WORDS, 0.01)
    assert found.triggers.tolist() == triggers and any(triggers)
    filtered = STATES @ IN @ (np.eye(8) - C)
    expected = np.where(np.array(triggers)[:, None], filtered, STATES)
    np.testing.assert_allclose(found.states, expected, atol=1e-5)
    assert int(found.steps) == int(diffusion.filter_steps(STATES, filtered.astype(np.float32), WORDS))
    again = whole(np.concatenate([PHRASES, 3 * PHRASES[:1]]))
    np.testing.assert_allclose(again.states, found.states, atol=1e-5)
    wider = whole(PHRASES, mask=np.ones(5, bool), rule="paper")
    assert 5 <= int(wider.steps) <= 7
    batch = jax.vmap(lambda s, r: diffusion.safree(s, r, PHRASES, WORDS))(STATES[None], REMOVED[None])
    np.testing.assert_allclose(batch.states[0], found.states, atol=1e-6)


def test_a_sampler_reads_the_filtered_states_first_and_a_filter_that_is_off_changes_no_bit():
    table = diffusion.schedule("cosine", 20)
    seen = {"a": jnp.ones((2, 3)), "b": jnp.full((2, 1), 2.0)}
    filtered = jax.tree.map(lambda x: -x, seen)

    def denoise(params, x, t, condition, key=None):
        return 0.1 * x + condition["a"]

    def sampled(at_step):
        guided = diffusion.guided(denoise, 2.0, jax.tree.map(lambda x: 0 * x[0], seen))
        options = {"condition": seen, "steps": 4, "at_step": at_step, "prediction": "v"}
        return diffusion.sample(guided, {}, table, jax.random.key(0), (2, 3), **options)

    plain = sampled(None)
    np.testing.assert_array_equal(sampled(diffusion.filtered_first(filtered, -1)), plain)
    always = sampled(lambda number, condition: filtered)
    np.testing.assert_allclose(sampled(diffusion.filtered_first(filtered, 3)), always, rtol=1e-6)
    each = sampled(diffusion.filtered_first(filtered, jnp.array([-1, 3])))
    np.testing.assert_allclose(each, np.stack([plain[0], always[1]]), rtol=1e-6)
    at_step = diffusion.filtered_first(filtered, 1)
    assert [float(at_step(n, seen)["b"][0, 0]) for n in range(3)] == [-2, -2, 2]


# Spectra


def slow_damp(f, r, radius, scale, mode, compare, symmetric):
    """Loops over the shifted spectrum, as the code of the paper cuts it."""
    big, small = (np.fft.fftshift(np.fft.fft2(np.float64(x), axes=(1, 2)), axes=(1, 2)) for x in (f, r))
    part = np.real if compare == "real" else np.abs
    for b, i, j, c in np.ndindex(big.shape):
        inside = all(
            -radius <= n - size // 2 < radius + symmetric
            for n, size in zip((i, j), big.shape[1:3], strict=True)
        )
        new, old = part(big[b, i, j, c]), part(small[b, i, j, c])
        if inside and (new > old if mode == "multiply" else new >= old):
            big[b, i, j, c] = scale * big[b, i, j, c] if mode == "multiply" else scale
    return np.fft.ifft2(np.fft.ifftshift(big, axes=(1, 2)), axes=(1, 2))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("compare", ["real", "magnitude"])
@pytest.mark.parametrize("mode", ["multiply", "constant"])
def test_damped_spectra_are_those_of_the_loops(mode, compare, symmetric):
    f, r = RNG.normal(size=(2, 2, 6, 8, 3)).astype(np.float32)
    options = {"mode": mode, "compare": compare, "symmetric": symmetric}
    expected = slow_damp(f, r, 1, 0.2, **options)
    found = jax.jit(lambda f, r: diffusion.spectral_damp(f, r, scale=0.2, **options))(f, r)
    np.testing.assert_allclose(found, expected.real, atol=1e-5)
    assert (np.abs(expected.imag).max() < 1e-12) == symmetric
    same = diffusion.spectral_damp(f, r, scale=1.0, compare=compare, symmetric=symmetric)
    np.testing.assert_allclose(same, f, atol=1e-5)


# Bad input


def test_bad_input_is_named():
    refused("concepts: spans all 8 dimensions, so nothing is left", lambda: whole(np.eye(8)))
    refused("concept: spans all 8", lambda: diffusion.filter_states(STATES, np.eye(8)))
    refused(
        "where: marks no row of removed; its prompt has no known word",
        lambda: whole(PHRASES, np.zeros(5, bool)),
    )
    refused("order='both'; choose one of concept_last, input_last", lambda: whole(PHRASES, order="both"))
    refused("rule='code'; choose one of paper, calibrated", lambda: whole(PHRASES, rule="code"))
    refused(r"basis: shape \(2, 7\)", lambda: whole(PHRASES[:, :7]))
    refused(
        r"inputs: shape \(3, 7\); pass \[any, 8\]",
        lambda: diffusion.filter_states(STATES, CONCEPT, INPUTS[:, :7]),
    )
    refused(
        r"filtered: shape \(4, 8\); pass \[5, 8\]", lambda: diffusion.filter_steps(STATES, STATES[:4], WORDS)
    )
    refused(
        r"mask: shape \(2,\); pass \[3\]", lambda: diffusion.leave_one_out(None, np.arange(3), WORDS[:2], 9)
    )
    other = diffusion.filtered_first({"a": STATES}, 1)
    refused("filtered: another tree than the condition", lambda: other(0, STATES))
    refused(r"filtered: shape \(5, 8\); pass \[4, 8\]", lambda: other(0, {"a": STATES[:4]}))
    maps = np.zeros((1, 4, 4, 1), np.float32)
    refused("radius: 3 for maps of 4 x 4; pass 1..2", lambda: diffusion.spectral_damp(maps, maps, radius=3))
    refused("mode='add'", lambda: diffusion.spectral_damp(maps, maps, mode="add"))
    refused("reference: shape", lambda: diffusion.spectral_damp(maps, maps[:, :2]))
