"""Non-negative factors of bags: the formula, scikit-learn, planted topics, limits, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bags import COUNTS, DENSE, IDS, RNG, SPOILED, K, N, U, V
from refusals import refused

from jaxembed import encoders
from jaxembed.encoders import nonnegative
from jaxembed.encoders.topics import bag_products

LEFT, TOPICS = RNG.random((N, K)) + 0.1, RNG.random((K, V)) + 0.1


def loops(left, topics, rounds):
    """W [N, K] and H [K, V] after so many rounds, entry by entry."""
    for _ in range(rounds):
        wanted, given = DENSE @ topics.T, left @ (topics @ topics.T)
        given[4] = 1  # the document without words
        left = np.array([[left[n, k] * wanted[n, k] / given[n, k] for k in range(K)] for n in range(N)])
        wanted, given = left.T @ DENSE, (left.T @ left) @ topics
        topics = np.array([[topics[k, v] * wanted[k, v] / given[k, v] for v in range(V)] for k in range(K)])
    return left, topics


def factors(rounds):
    products = bag_products(*encoders.topics.check_bags(SPOILED, COUNTS, V), V, K)
    return nonnegative._factors(jnp.asarray(LEFT, jnp.float32), jnp.asarray(TOPICS), products, rounds)


def test_rounds_are_the_formula_and_the_error_never_rises():
    errors = []
    for rounds in (1, 3, 10, 30):
        expected, found = loops(LEFT, TOPICS, rounds), factors(rounds)
        for one, two in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, two, rtol=2e-3, atol=1e-5)
        errors.append(np.sum((DENSE - found[0] @ found[1]) ** 2))
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[-1] * 1.05


@pytest.mark.peers
def test_scikit_learn_makes_the_same_factors():
    decomposition = pytest.importorskip("sklearn.decomposition")
    peer = decomposition.NMF(K, init="custom", solver="mu", tol=0, max_iter=50)
    left = peer.fit_transform(DENSE, W=LEFT.copy(), H=TOPICS.copy())
    found = factors(50)
    np.testing.assert_allclose(found[0], left, rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(found[1], peer.components_, rtol=1e-2, atol=1e-4)


def test_documents_are_the_least_squares_that_are_not_negative():
    optimize = pytest.importorskip("scipy.optimize")
    found = jax.jit(lambda i, w: encoders.nmf({"topics": TOPICS}, i, w, rounds=3000))(SPOILED, COUNTS)
    expected = [optimize.nnls(TOPICS.T, row)[0] for row in DENSE]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_array_equal(found[4], 0)
    alone = encoders.nmf({"topics": TOPICS}, SPOILED[:1], COUNTS[:1], rounds=3000)
    np.testing.assert_allclose(alone, found[:1], rtol=1e-4, atol=1e-6)  # not of the others of the batch


def test_planted_topics_are_found():
    beta = np.kron(np.eye(4), RNG.random(8) + 0.2)  # four topics of eight words each
    mixed = RNG.dirichlet(np.full(4, 0.3), 300) @ beta
    ids = np.tile(np.arange(32), (300, 1))
    params = encoders.fit_nmf(jax.random.key(0), ids, mixed, 32, size=4, rounds=500)
    found = np.asarray(params["topics"] / params["topics"].sum(axis=1, keepdims=True))
    beta = beta / beta.sum(axis=1, keepdims=True)
    apart = 0.5 * np.abs(found[:, None] - beta).sum(axis=2)
    assert sorted(apart.argmin(axis=1)) == [0, 1, 2, 3] and apart.min(axis=1).max() < 0.05
    told = encoders.nmf(params, ids, mixed)
    np.testing.assert_allclose(told @ params["topics"], mixed, atol=0.02)


def test_bags_in_blocks_give_the_topics_of_all_at_once(monkeypatch):
    whole = encoders.fit_nmf(jax.random.key(0), IDS, COUNTS, V, size=K, rounds=5)
    monkeypatch.setattr("jaxembed.encoders.topics.ROOM", 7 * U * K)  # 5 blocks, the last one not full
    parts = encoders.fit_nmf(jax.random.key(0), IDS, COUNTS, V, size=K, rounds=5)
    np.testing.assert_allclose(parts["topics"], whole["topics"], rtol=1e-4)


def test_empty_documents_and_empty_topics_stay_zero():
    params = encoders.fit_nmf(jax.random.key(0), IDS, 0 * COUNTS, V, size=2)
    np.testing.assert_array_equal(params["topics"], 0)
    np.testing.assert_array_equal(encoders.nmf(params, IDS, COUNTS), 0)


def test_bad_input_is_one_line():
    def fit(counts=COUNTS, **options):
        return lambda: encoders.fit_nmf(jax.random.key(0), IDS, counts, V, **options)

    refused("size: 13 is outside 1..12", fit(size=13))
    refused("rounds: 0 is below 1", fit(size=2, rounds=0))
    refused("counts: negative or not finite", fit(-COUNTS, size=2))
    refused("rounds: 0 is below 1", lambda: encoders.nmf({"topics": TOPICS}, IDS, COUNTS, rounds=0))
