"""Codes and axes that people can read, and numbers as vectors: optimality, planted answers, closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import vectors

RNG = np.random.default_rng(0)


def test_sparse_codes_meet_the_conditions_of_the_minimum():
    x, entries = RNG.normal(size=(20, 6)), RNG.normal(size=(15, 6))
    entries /= np.linalg.norm(entries, axis=1, keepdims=True)
    codes = np.asarray(jax.jit(lambda a: vectors.sparse_codes(a, entries, penalty=0.3, steps=3000))(x))
    slope = (codes @ entries - x) @ entries.T + 0.3  # of the smooth part, plus the penalty
    assert (codes >= 0).all() and (slope > -1e-3).all()
    np.testing.assert_allclose(slope[codes > 1e-3], 0, atol=2e-3)
    assert 0.3 < np.mean(codes == 0) < 0.95
    assert not np.asarray(vectors.sparse_codes(x, entries, penalty=1e3)).any()


@pytest.mark.peers
def test_scikit_learn_reaches_the_same_objective():
    decomposition = pytest.importorskip("sklearn.decomposition")
    x, entries = RNG.normal(size=(10, 6)), RNG.normal(size=(9, 6))
    entries /= np.linalg.norm(entries, axis=1, keepdims=True)
    given = {"algorithm": "lasso_cd", "alpha": 0.2, "positive": True, "max_iter": 5000}
    theirs = decomposition.sparse_encode(x, entries, **given)
    ours = np.asarray(vectors.sparse_codes(x, entries, penalty=0.2, steps=3000))
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_a_planted_dictionary_is_found():
    truth = np.linalg.qr(RNG.normal(size=(8, 8)))[0]
    codes = RNG.random((600, 8)) * (RNG.random((600, 8)) < 0.2)
    x = (codes @ truth).astype(np.float32)
    found = np.asarray(vectors.fit_dictionary(jax.random.key(1), x, 8, penalty=0.05, steps=300))
    assert np.sort((found @ truth.T).max(axis=0))[2:].min() > 0.9
    refused("count: 9 is outside 1..4", lambda: vectors.fit_dictionary(jax.random.key(0), x[:4], 9))


def test_polar_axes_are_the_pseudo_inverse_and_tell_the_nearer_pole():
    first, second = RNG.normal(size=(3, 6)), RNG.normal(size=(3, 6))
    found = np.asarray(jax.jit(vectors.polar_axes)(first, second))
    np.testing.assert_allclose(found, np.linalg.pinv(first - second), atol=1e-5)
    middle = (first + second) / 2
    poles = np.array([[0.5, 0, 0], [-0.5, 0, 0]])
    np.testing.assert_allclose(
        np.stack([first[0] - middle[0], second[0] - middle[0]]) @ found, poles, atol=1e-5
    )
    twice = vectors.polar_axes(np.tile(first[:1], (2, 1)), np.tile(second[:1], (2, 1)))
    assert np.isfinite(twice).all()
    refused("pass at least one pair", lambda: vectors.polar_axes(first[:0], second[:0]))


def test_dice_has_length_one_and_is_a_cosine_in_the_plane():
    x = jnp.linspace(0, 10, 41)
    for size in (2, 3, 7):
        found = vectors.encode_numbers(x, "dice", size=size, low=0, high=10)
        np.testing.assert_allclose(jnp.linalg.norm(found, axis=1), np.ones(41), atol=1e-5)
    plane = vectors.encode_numbers(x, "dice", size=2, low=0, high=10)
    np.testing.assert_allclose(plane @ plane.T, np.cos(np.pi * (x[:, None] - x) / 10), atol=1e-5)


def test_bins_are_monotone_and_count_the_edges_below():
    edges = jnp.array([0.0, 1.0, 3.0, 3.5])
    x = jnp.array([-1.0, 0.0, 0.5, 2.0, 3.25, 9.0])
    found = np.asarray(vectors.encode_numbers(x, "bins", edges=edges))
    np.testing.assert_allclose(found.sum(axis=1), [0, 0, 0.5, 1.5, 2.5, 3], atol=1e-6)
    assert (np.diff(found, axis=0) >= 0).all()
    twin = vectors.encode_numbers(x, "bins", edges=jnp.array([0.0, 1.0, 1.0, 3.0]))
    assert np.isfinite(twin).all()


def test_values_logarithms_digits_and_waves():
    value = vectors.encode_numbers(jnp.array([-4.0, 2.0]), "value", low=-4, high=2)
    np.testing.assert_allclose(value, [[-5.0], [2.5]])
    found = vectors.encode_numbers(jnp.array([0.0, -250.0]), "log")
    np.testing.assert_allclose(found, [[0, 0, 0], [-1, np.log10(251), 2.5]], atol=1e-4)
    digits = np.asarray(vectors.encode_numbers(jnp.array([-407]), "digits", size=3))[0]
    np.testing.assert_array_equal(digits[:30].reshape(3, 10).argmax(axis=1), [4, 0, 7])
    assert digits[30] == -1 and digits[:30].sum() == 3
    waves = np.asarray(vectors.encode_numbers(jnp.array([1.0]), "fourier", size=4, low=0, high=4))[0]
    angles = np.pi * 0.25 * np.array([1, 2])
    np.testing.assert_allclose(waves, [*np.sin(angles), *np.cos(angles)], atol=1e-6)


def test_bad_encodings_get_one_line():
    x = jnp.ones(3)
    refused("kind='roman'", lambda: vectors.encode_numbers(x, "roman"))
    refused("edges: is missing", lambda: vectors.encode_numbers(x, "bins"))
    refused("edges: 1 given", lambda: vectors.encode_numbers(x, "bins", edges=[1.0]))
    refused("low, high: 2 to 1", lambda: vectors.encode_numbers(x, "value", low=2, high=1))
    refused("size: 1 is below 2", lambda: vectors.encode_numbers(x, "dice", size=1))
    refused("size: 12 is outside 1..9", lambda: vectors.encode_numbers(x, "digits", size=12))
    refused("size: 3; ", lambda: vectors.encode_numbers(x, "fourier", size=3))
