"""Chamfer similarity, ball carving and implicit scores equal their loops."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles_search as oracles
import pytest
from token_sets import MASK, TOKENS, estimates, identity, random_mask, unit_tokens

from jaxembed import vectors


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_chamfer_equals_the_loops(chunk):
    documents, mask = unit_tokens(11, 6, 12), random_mask(11, 6)
    found = vectors.chamfer(TOKENS, documents, MASK, mask, chunk=chunk)
    queries = [t[m] for t, m in zip(TOKENS, MASK, strict=True)]
    wanted = [[oracles.chamfer(q, d[m]) for d, m in zip(documents, mask, strict=True)] for q in queries]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.all(found[:-1, -1] == -np.inf) and np.all(found[-1] == 0)


@pytest.mark.parametrize("chunk", [2, None])
def test_chamfer_padding_and_gradients(chunk):
    documents, mask = unit_tokens(5, 6, 12), random_mask(5, 6)

    def total(queries, documents):
        scores = vectors.chamfer(queries, documents, MASK, mask, chunk=chunk)
        return jnp.sum(jnp.where(jnp.isfinite(scores), scores, 0))

    def dirty(x, keep):
        return np.where(keep[..., None], x, np.nan).astype(np.float32)

    grad = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    clean = grad(TOKENS, documents)
    chex.assert_tree_all_finite(clean)
    chex.assert_trees_all_equal(grad(dirty(TOKENS, MASK), dirty(documents, mask)), clean)
    assert not np.any(clean[1][0][~MASK]) and not np.any(clean[1][1][~mask])
    wanted = np.zeros_like(TOKENS), np.zeros_like(documents)
    for b, t in zip(*np.nonzero(MASK), strict=True):
        for n in np.nonzero(mask.any(1))[0]:
            best = np.argmax(np.where(mask[n], documents[n] @ TOKENS[b, t], -np.inf))
            wanted[0][b, t] += documents[n, best]
            wanted[1][n, best] += TOKENS[b, t]
    chex.assert_trees_all_close(clean[1], wanted, atol=1e-5)


def flattened(documents, mask, extra=3):
    """Tokens one behind the other with unowned NaN rows at the end, and offsets."""
    rows = np.concatenate([documents[mask], np.full((extra, documents.shape[2]), np.nan, np.float32)])
    return rows, np.concatenate([[0], np.cumsum(mask.sum(axis=1))])


def test_flat_chamfer_is_chamfer_in_values_and_gradients():
    documents, mask = unit_tokens(11, 6, 12), random_mask(11, 6)
    mask[3] = False
    rows, offsets = flattened(documents, mask)
    dirty = np.where(MASK[..., None], TOKENS, np.nan).astype(np.float32)

    def finite(scores):
        return jnp.sum(jnp.where(jnp.isfinite(scores), jnp.sin(scores), 0)), scores

    def plain(queries, documents):
        return finite(vectors.chamfer(queries, documents, MASK, mask))

    def flat(queries, rows):
        return finite(vectors.chamfer_flat(queries, MASK, rows, offsets))

    (wanted_q, wanted_d), wanted = jax.grad(plain, argnums=(0, 1), has_aux=True)(TOKENS, documents)
    (ours_q, ours_d), ours = jax.jit(jax.grad(flat, argnums=(0, 1), has_aux=True))(dirty, rows)
    np.testing.assert_allclose(ours, wanted, atol=1e-5)
    assert np.all(ours[:-1, 3] == -np.inf) and np.all(ours[-1] == 0)
    chex.assert_trees_all_close((ours_q, ours_d[:-3]), (wanted_q, wanted_d[mask]), atol=1e-5)
    assert not np.any(ours_d[-3:])


def test_flat_chamfer_of_nothing_and_of_bad_shapes():
    none = vectors.chamfer_flat(TOKENS, MASK, np.zeros((4, 12)), np.array([0]))
    assert none.shape == (5, 0)
    empty = vectors.chamfer_flat(TOKENS, MASK, np.zeros((0, 12)), np.array([0, 0, 0]))
    assert np.all(empty[:-1] == -np.inf) and empty.shape == (5, 2)
    with pytest.raises(ValueError, match="tokens, offsets"):
        vectors.chamfer_flat(TOKENS, MASK, TOKENS, np.array([0]))
    with pytest.raises(ValueError, match="documents: width 11"):
        vectors.chamfer_flat(TOKENS, MASK, np.zeros((4, 11)), np.array([0, 4]))
    for offsets in ([0, 3, 2], [0, 5], [-1, 4], [0.0, 4.0], np.array([0, 3, 2, 4], np.uint32)):
        with pytest.raises(ValueError, match="^offsets: .*; "):
            vectors.chamfer_flat(TOKENS, MASK, np.zeros((4, 12)), np.asarray(offsets))


def test_flat_chamfer_of_some_documents_passes_over_rows_before_them():
    rows, offsets = flattened(TOKENS, MASK)
    whole = vectors.chamfer_flat(TOKENS, MASK, rows, offsets)
    some = vectors.chamfer_flat(TOKENS, MASK, rows, offsets[2:5])
    np.testing.assert_allclose(some, whole[:, 2:4], rtol=1e-6)
    first = np.arange(len(rows)) < offsets[2]
    dirty = np.where(first[:, None], np.nan, rows).astype(np.float32)
    np.testing.assert_allclose(vectors.chamfer_flat(TOKENS, MASK, dirty, offsets[2:5]), some)


@pytest.mark.parametrize("planes", [0, 1, 4])
def test_implicit_scores_equal_the_loops_and_the_encodings(planes):
    params = identity(planes)
    documents, mask = unit_tokens(6, 5, 12), random_mask(6, 5)
    dirty = np.where(mask[..., None], documents, np.nan).astype(np.float32)
    found = vectors.implicit_fde_score(params["planes"], TOKENS, dirty, MASK, mask)
    np.testing.assert_allclose(found, estimates(params, documents, mask), atol=1e-5)
    matrices = np.asarray(params["planes"])
    for b, n in ((0, 0), (2, 3), (1, 1), (0, 5), (4, 0)):
        wanted = oracles.implicit_fde(matrices, TOKENS[b][MASK[b]], documents[n][mask[n]])
        np.testing.assert_allclose(found[b, n], wanted, atol=1e-5)


@pytest.mark.parametrize("threshold", [-1.01, 0.0, 0.3, 1.01])
def test_ball_carving_equals_the_loops(threshold):
    tokens = np.where(MASK[..., None], TOKENS, np.nan).astype(np.float32)
    sums, kept = vectors.ball_carve(tokens, MASK, threshold=threshold)
    for b in range(5):
        wanted = oracles.ball_carve(TOKENS[b][MASK[b]], threshold)
        assert kept[b].tolist() == [i < len(wanted) for i in range(7)]
        np.testing.assert_allclose(sums[b][: len(wanted)], np.reshape(wanted, (-1, 12)), atol=1e-5)
        assert not np.any(sums[b][len(wanted) :])
    carved = np.asarray(vectors.chamfer(sums, TOKENS, kept, MASK))[:, :-1]
    exact = np.asarray(vectors.chamfer(TOKENS, TOKENS, MASK, MASK))[:, :-1]
    assert np.all(carved <= exact + 1e-5)
    if threshold > 1:
        np.testing.assert_allclose(carved, exact, atol=1e-5)
    else:
        assert np.any(carved < exact - 1e-3)
