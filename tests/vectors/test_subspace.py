"""Subspaces of rows and of bias: singular vectors, idempotence, theorems of debiasing, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import metrics, vectors

RNG = np.random.default_rng(0)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_row_space_spans_the_rows_and_keeps_no_more_than_their_rank():
    x = (RNG.normal(size=(7, 3)) @ RNG.normal(size=(3, 5))).astype(np.float32)
    basis, kept = jax.jit(vectors.row_space)(x)
    assert basis.shape == (5, 5) and kept.sum() == 3 and not basis[3:].any()
    np.testing.assert_allclose(basis[:3] @ basis[:3].T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(vectors.project_out(x, basis), np.zeros((7, 5)), atol=1e-5)
    right = np.linalg.svd(x.astype(np.float64))[2]
    np.testing.assert_allclose(np.abs(basis[:3] @ right[:3].T), np.eye(3), atol=1e-4)


@pytest.mark.parametrize(("energy", "count"), [(0.5, 1), (0.8, 1), (0.82, 2), (1.0, 3), (0.0, 0)])
def test_energy_keeps_the_fewest_directions_that_hold_the_share(energy, count):
    x = np.diag([4.0, 1.8, 0.7]).astype(np.float32)  # squares 16, 3.24, .49: shares .81, .16, .02
    assert int(vectors.row_space(x, energy=energy)[1].sum()) == count


def test_project_out_is_idempotent_and_its_strength_is_linear():
    x, basis = RNG.normal(size=(2, 4, 6)), vectors.row_space(RNG.normal(size=(2, 6)))[0]
    once = vectors.project_out(x, basis)
    np.testing.assert_allclose(vectors.project_out(once, basis), once, atol=1e-5)
    np.testing.assert_allclose(once @ basis.T, np.zeros((2, 4, 2)), atol=1e-5)
    np.testing.assert_allclose(vectors.project_out(x, basis, strength=0), x, rtol=1e-6)
    half = vectors.project_out(x, basis, strength=jnp.full((2, 4, 1), 0.5))
    np.testing.assert_allclose(half, (x + once) / 2, atol=1e-5)
    mirrored = vectors.project_out(x, basis, strength=2)
    np.testing.assert_allclose(vectors.project_out(mirrored, basis, strength=2), x, atol=1e-5)


def test_one_pair_gives_its_difference_and_more_the_principal_direction():
    pair = RNG.normal(size=(1, 2, 5)).astype(np.float32)
    basis, explained = vectors.bias_subspace(pair)
    np.testing.assert_allclose(basis[0], unit(pair[0, 0] - pair[0, 1]), atol=1e-5)
    np.testing.assert_allclose(explained, [1.0], rtol=1e-5)
    sets = RNG.normal(size=(9, 2, 5)) + 2 * np.array([1, -1])[:, None] * np.eye(5)[0]
    basis, explained = jax.jit(lambda s: vectors.bias_subspace(s, size=3))(sets)
    rows = (sets - sets.mean(axis=1, keepdims=True)).reshape(-1, 5)
    _, values, right = np.linalg.svd(rows)
    np.testing.assert_allclose(np.abs(np.diag(basis @ right[:3].T)), np.ones(3), atol=1e-3)
    np.testing.assert_allclose(explained, (values**2 / np.sum(values**2))[:3], atol=1e-5)
    assert np.sum((sets[:, 0] - sets[:, 1]) @ basis.T, axis=0).min() >= 0


def test_sets_of_different_sizes_count_alike_and_their_padding_never_matters():
    sets = RNG.normal(size=(4, 3, 5))
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 1, 1]], bool)
    moments = np.zeros((5, 5))
    for words, kept in zip(sets, mask, strict=True):
        own = words[kept] - words[kept].mean(axis=0)
        moments += own.T @ own / len(own)
    expected = np.linalg.eigh(moments)[1][:, ::-1].T
    found, _ = vectors.bias_subspace(np.where(mask[..., None], sets, np.nan), mask=mask, size=2)
    np.testing.assert_allclose(np.abs(np.sum(found * expected[:2], axis=1)), np.ones(2), atol=1e-4)


def test_neutral_words_are_equally_near_to_all_words_of_an_equal_set():
    words, basis = unit(RNG.normal(size=(30, 6))), np.asarray(vectors.row_space(RNG.normal(size=(2, 6)))[0])
    sets = unit(RNG.normal(size=(3, 4, 6)))
    neutral = np.asarray(jax.jit(vectors.neutralise)(words, basis))
    np.testing.assert_allclose(neutral @ basis.T, np.zeros((30, 2)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(neutral, axis=1), np.ones(30), atol=1e-5)
    np.testing.assert_allclose(vectors.neutralise(neutral, basis), neutral, atol=1e-6)
    even = np.asarray(jax.jit(vectors.equalise)(sets, basis))
    np.testing.assert_allclose(np.linalg.norm(even, axis=2), np.ones((3, 4)), atol=1e-5)
    near = np.einsum("nd,msd->nms", neutral, even)
    np.testing.assert_allclose(near, near[..., :1].repeat(4, axis=2), atol=1e-5)
    pairs = np.asarray(vectors.equalise(sets[:, :2], basis[:1]))
    np.testing.assert_allclose((pairs @ basis[0]).sum(axis=1), np.zeros(3), atol=1e-5)


def equalised_pair(a, b, g):
    """The released form for a pair and one direction, from the formula of its card."""
    y = (a + b) / 2
    y = y - (y @ g) * g
    z = np.sqrt(1 - y @ y)
    z = -z if (a - b) @ g < 0 else z
    return z * g + y, -z * g + y


def test_equalised_pairs_are_those_of_the_form_for_one_direction():
    pairs, g = unit(RNG.normal(size=(5, 2, 4))), unit(RNG.normal(size=4))
    found = vectors.equalise(pairs, g[None])
    for pair, own in zip(pairs, found, strict=True):
        np.testing.assert_allclose(own, equalised_pair(*pair, g), atol=1e-5)


def test_masked_words_of_a_set_come_back_and_change_nothing():
    sets, basis = unit(RNG.normal(size=(2, 3, 4))), np.eye(4)[:1]
    mask = np.array([[1, 1, 0], [1, 1, 0]], bool)
    found = vectors.equalise(np.where(mask[..., None], sets, 7), basis, mask=mask)
    np.testing.assert_allclose(found[:, :2], vectors.equalise(sets[:, :2], basis), atol=1e-6)
    np.testing.assert_array_equal(found[:, 2], np.full((2, 4), 7))
    same = np.tile(unit(np.array([1.0, 1, 0, 0])), (1, 2, 1))
    np.testing.assert_allclose(vectors.equalise(same, basis)[0, 0], [0, 2**-0.5, 0, 0], atol=1e-6)


def table(size=60, width=8):
    return unit(RNG.normal(size=(size, width)))


def test_hard_debiasing_ends_pair_bias_and_turns_with_the_space():
    words = table()
    basis, _ = vectors.bias_subspace(words[:10].reshape(5, 2, 8))
    neutral, sets = np.arange(60) >= 20, np.array([[0, 1], [2, 3], [30, 31]])
    found = vectors.hard_debias(3 * words, basis, neutral=neutral, sets=sets)
    untouched = np.setdiff1d(np.arange(20, 60), sets)
    assert metrics.pair_bias(words[untouched], words[sets]) > 0.1
    assert metrics.pair_bias(found[untouched], found[sets]) < 1e-6
    assert metrics.direct_bias(found[untouched], basis) < 1e-6
    np.testing.assert_allclose(found[4:20], words[4:20], atol=1e-6)
    turn = np.linalg.qr(RNG.normal(size=(8, 8)))[0]
    turned, _ = vectors.bias_subspace((words @ turn)[:10].reshape(5, 2, 8))
    again = vectors.hard_debias(words @ turn, turned, neutral=neutral, sets=sets)
    np.testing.assert_allclose(again, found @ turn, atol=1e-5)
    mask = np.array([[True, True], [True, True], [True, False]])
    part = vectors.hard_debias(words, basis, neutral=neutral, sets=np.where(mask, sets, -5), mask=mask)
    np.testing.assert_allclose(part[31], vectors.neutralise(words[31:32], basis)[0], atol=1e-6)


def test_bad_subspaces_and_sets_get_one_line():
    words = table()
    refused("basis: spans all 8 dimensions", lambda: vectors.neutralise(words, np.eye(8)))
    refused("basis: spans all 8", lambda: vectors.hard_debias(words, np.eye(8), neutral=np.ones(60, bool)))
    refused("sets: .* fewer than two words", lambda: vectors.bias_subspace(words[None, :1]))
    refused("sets: .* there is none", lambda: vectors.bias_subspace(np.zeros((0, 2, 8))))
    missing = np.array([[True, False]] * 3)
    refused("fewer than two", lambda: vectors.bias_subspace(words[:6].reshape(3, 2, 8), mask=missing))
    broken = np.full((2, 2, 8), np.nan)
    refused("sets: hold NaN", lambda: vectors.bias_subspace(broken))
    refused("size: 5 is outside 1..4", lambda: vectors.bias_subspace(words[:4].reshape(2, 2, 8), size=5))
    given = {"neutral": np.ones(60, bool)}
    refused(
        "a word is in two", lambda: vectors.hard_debias(words, np.eye(8)[:1], sets=[[1, 2], [2, 3]], **given)
    )
    refused(
        "sets: rows 1 to 60 of", lambda: vectors.hard_debias(words, np.eye(8)[:1], sets=[[1, 60]], **given)
    )
    refused("vectors: hold NaN", lambda: vectors.hard_debias(words * np.nan, np.eye(8)[:1], **given))
    refused("basis: shape", lambda: vectors.project_out(words, np.eye(3)))
    refused("rank: 9 is outside 1..8", lambda: vectors.row_space(words, rank=9))
    refused("energy: 2 is outside", lambda: vectors.row_space(words, energy=2))
    refused("^x: .*NaN", lambda: vectors.row_space(np.full((2, 3), np.nan)))
    refused("x: shape .0, 3.; pass", lambda: vectors.row_space(np.zeros((0, 3))))
