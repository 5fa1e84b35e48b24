"""Combined aspects and moved vectors: inner products, one aspect alone, the start."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from refusals import refused

from jaxembed import vectors

RNG = np.random.default_rng(0)
Q, N = RNG.normal(size=(4, 3, 5)).astype(np.float32), RNG.normal(size=(9, 3, 5)).astype(np.float32)


def cosines(a):
    return oracles.unit(Q[:, a]) @ oracles.unit(N[:, a]).T


def test_inner_products_are_weighted_sums_of_cosines():
    weights = np.array([0.2, 0.5, 1.3], np.float32)
    found = vectors.combine_aspects(Q, weights) @ vectors.combine_aspects(N, weights).T
    np.testing.assert_allclose(
        found, sum(w * cosines(a) for a, w in enumerate(weights)), rtol=1e-4, atol=1e-5
    )
    run = jax.jit(vectors.combine_aspects)
    np.testing.assert_allclose(run(Q, weights), vectors.combine_aspects(Q, weights), rtol=1e-5)


@pytest.mark.parametrize("a", range(3))
def test_one_weight_is_the_search_in_one_aspect(a):
    weights = np.eye(3)[a]
    found = vectors.combine_aspects(Q, weights) @ vectors.combine_aspects(N, weights).T
    np.testing.assert_array_equal(np.argsort(-found, axis=1), np.argsort(-cosines(a), axis=1))
    even = vectors.combine_aspects(Q) @ vectors.combine_aspects(N).T
    np.testing.assert_allclose(even, sum(map(cosines, range(3))), rtol=1e-4, atol=1e-5)


def test_retrofitting_starts_at_the_fixed_vectors_and_is_a_residual_network():
    x = Q[:, 0]
    params = vectors.init_retrofit(jax.random.key(0), 5, hidden=(7, 6))
    np.testing.assert_array_equal(vectors.retrofit(params, x), x)
    params = jax.tree.map(lambda p: p + 0.3 * RNG.normal(size=p.shape), params)
    h = x.astype(float)
    for i in range(3):
        layer = jax.tree.map(np.asarray, params[f"layer_{i}"])
        h = h @ layer["kernel"] + layer["bias"]
        h = np.maximum(h, 0) if i < 2 else h
    np.testing.assert_allclose(vectors.retrofit(params, x), x + h, rtol=1e-4, atol=1e-5)


def test_bad_arguments_get_one_line():
    with pytest.raises(ValueError, match="weights: hold a negative number"):
        vectors.combine_aspects(Q, jnp.array([1.0, -1.0, 0.0]))
    with pytest.raises(ValueError, match=r"weights: shape \(2,\); pass \[3\]"):
        vectors.combine_aspects(Q, jnp.ones(2))
    with pytest.raises(ValueError, match=r"vectors: shape \(5,\); pass"):
        vectors.combine_aspects(Q[0, 0])
    with pytest.raises(ValueError, match=r"x: shape \(4, 3\); pass \[any, 5\]"):
        vectors.retrofit(vectors.init_retrofit(jax.random.key(0), 5), Q[:, 0, :3])


def test_nan_is_refused_and_under_jit_stays_in_its_document():
    documents, weights = jnp.ones((3, 2, 4)).at[1, 0, 0].set(jnp.nan), jnp.array([0.5, 1.0])
    refused("vectors: NaN has no", lambda: vectors.combine_aspects(documents))
    found = jax.jit(lambda x: vectors.combine_aspects(x, weights))(documents)
    np.testing.assert_array_equal(np.isnan(found).any(axis=1), [False, True, False])


def test_retrofitting_refuses_nan_and_under_jit_keeps_it_in_its_row():
    params, x = (
        vectors.init_retrofit(jax.random.key(0), 4, hidden=(3,)),
        jnp.ones((2, 4)).at[0, 1].set(jnp.nan),
    )
    refused("x: NaN has no code and no score; mend", lambda: vectors.retrofit(params, x))
    np.testing.assert_array_equal(np.isnan(jax.jit(vectors.retrofit)(params, x)).any(axis=1), [True, False])


@pytest.mark.parametrize("position", [0.0, 0.3, 1.0])
def test_slerp_is_its_formula_and_keeps_unit_length(position):
    rng = np.random.default_rng(0)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.normal(size=(2, 5, 3)))
    angle = np.arccos((a * b).sum(1, keepdims=True))
    expected = (np.sin((1 - position) * angle) * a + np.sin(position * angle) * b) / np.sin(angle)
    found = vectors.slerp(a, b, position)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors.slerp(a, a, position), a, atol=1e-6)
    np.testing.assert_allclose(vectors.slerp(a, 0 * a, position), (1 - position) * a, atol=1e-6)


def test_slerp_of_positions_by_row_has_finite_gradients_everywhere():
    a = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    b = jnp.array([[0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    found = vectors.slerp(a, b, jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(found, [[1, 0], [0, 0], [1, 0]], atol=1e-6)
    slopes = jax.grad(lambda *x: jnp.sum(vectors.slerp(*x)), argnums=(0, 1, 2))(a, b, jnp.full(3, 0.4))
    assert all(np.isfinite(s).all() for s in slopes)
    with pytest.raises(ValueError, match=r"second: shape \(2,\) for \(3,\); pass vectors of one width"):
        vectors.slerp(jnp.ones(3), jnp.ones(2), 0.5)
