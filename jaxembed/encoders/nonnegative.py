"""Documents as sums of topics: non-negative matrix factorisation of bags of words."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import exact_product
from jaxembed.encoders.topics import bag_products, check_bags


def fit_nmf(key, ids, weights, words, *, size=20, rounds=200):
    """Non-negative matrix factorisation: topics as lists of words, whose sums make up the documents.

    ``X ~ W H`` with W [N, K] and H [K, V] at least 0. Each round multiplies W by ``X H' / (W H H')``, then H
    by ``W' X / (W' W H)``: the squared error ``|X - W H|**2`` never rises. X [N, V] is never written out.
    The vector of a document is :func:`nmf`.

    >>> ids, weights = jnp.array([[0, 1], [2, 0]]), jnp.array([[2.0, 2.0], [3.0, 0.0]])
    >>> found = fit_nmf(jax.random.key(0), ids, weights, 3, size=2)
    >>> print((nmf(found, ids, weights) @ found["topics"]).astype("float16"))
    [[2. 2. 0.]
     [0. 0. 3.]]

    Args:
        key: random key of the start, half-normal numbers of the size that the mean of X asks.
        ids: int [N, U].
        weights: [N, U], counts or :func:`tfidf`, at least 0.
        words: the number V of words.
        size: the number K of topics, at most N and V.
        rounds: of updates.

    Returns:
        {"topics": [K, V]} in at least float32, at least 0. Rows divided by their sum are distributions over
        words. Order and scale of the topics are open.

    Raises:
        ValueError: for a size outside 1..min(N, V), fewer than one round, or as :func:`fit_idf`.

    References:
        D. Lee and H. Seung, "Algorithms for Non-negative Matrix Factorization", NeurIPS 2000.
    """
    ids, weights = check_bags(ids, weights, words)
    most = min(len(ids), words)
    if not 1 <= size <= most:
        raise ValueError(f"size: {size} is outside 1..{most}, the number of documents or words; choose fewer")
    _check_rounds(rounds)
    scale = jnp.sqrt(jnp.sum(weights) / (len(ids) * words * size))
    one, two = jax.random.split(key)
    left = scale * jnp.abs(jax.random.normal(one, (len(ids), size), weights.dtype))
    topics = scale * jnp.abs(jax.random.normal(two, (size, words), weights.dtype))
    return {"topics": _factors(left, topics, bag_products(ids, weights, words, size), rounds)[1]}


def _factors(left, topics, products, rounds):
    """W [N, K] and H [K, V] after rounds of updates of both."""
    times, transposed = products

    def step(_, state):
        left, topics = state
        left = _scaled(left, times(topics.T), exact_product(topics, topics.T))
        return left, _scaled(topics.T, transposed(left), exact_product(left.T, left)).T

    return jax.lax.fori_loop(0, rounds, step, (left, topics))


def _scaled(factor, wanted, moments):
    """A factor times what it should give over what it gives; 0 where it gives nothing."""
    given = exact_product(factor, moments)
    return factor * jnp.where(given > 0, wanted / jnp.where(given > 0, given, 1), 0)


def nmf(params, ids, weights, *, rounds=200):
    """Non-negative matrix factorisation: how much of each topic a document holds.

    The topics stay; each round multiplies w by ``x H' / (w H H')``, which leads to the least squared error
    ``|x - w H|**2`` with w at least 0. A document does not depend on the others of its batch.

    >>> params = {"topics": jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])}
    >>> print(nmf(params, jnp.array([[0, 1, 2]]), jnp.array([[3.0, 3.0, 1.0]])).astype("float16"))
    [[3.  0.5]]

    Args:
        params: of :func:`fit_nmf`.
        ids: int [B, U].
        weights: [B, U], made as those that were fitted.
        rounds: of updates.

    Returns:
        [B, K], at least 0; zeros for a document without words.

    Raises:
        ValueError: for fewer than one round, or as :func:`fit_idf`.
    """
    topics = jnp.asarray(params["topics"])
    ids, weights = check_bags(ids, weights, topics.shape[1])
    _check_rounds(rounds)
    wanted = bag_products(ids, weights, *topics.shape[::-1])[0](topics.T)
    total = jnp.sum(topics)
    start = jnp.sum(weights, axis=1) / jnp.where(total > 0, total, 1)
    start = jnp.broadcast_to(start[:, None], wanted.shape)
    moments = exact_product(topics, topics.T)
    return jax.lax.fori_loop(0, rounds, lambda _, left: _scaled(left, wanted, moments), start)


def _check_rounds(rounds):
    if rounds < 1:
        raise ValueError(f"rounds: {rounds} is below 1; pass a larger number")
