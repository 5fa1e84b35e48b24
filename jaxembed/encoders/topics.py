"""Documents as counts of words: tf-idf, latent semantic analysis and latent Dirichlet allocation.

A bag is ``ids`` int [B, U], the numbers of the distinct words of each document, and ``counts`` [B, U], how
often each occurs. Padding has count 0 and any id.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln

from jaxembed.arrays import accumulator, check_shape, unit
from jaxembed.encoders.words import weighted_bag

ROOM = 2**24  # numbers that a block of documents may take beside the result


def fit_idf(ids, counts, words):
    """Inverse document frequency: measures for each word how few documents hold it.

    ``idf[v] = log((1 + N) / (1 + df[v])) + 1``, df[v] being the number of documents that hold word v.

    >>> ids, counts = jnp.array([[0, 1], [1, 0]]), jnp.array([[2.0, 1.0], [1.0, 0.0]])
    >>> print(np.asarray(fit_idf(ids, counts, 3)).round(3))
    [1.405 1.    2.099]

    Args:
        ids: int [N, U].
        counts: [N, U].
        words: the number V of words.

    Returns:
        [V] in at least float32.

    Raises:
        ValueError: for an empty corpus, ids outside 0..V-1, or counts that are negative or not finite.

    References:
        The smoothed inverse document frequency of scikit-learn's ``TfidfTransformer``.
    """
    ids, counts = check_bags(ids, counts, words)
    held = jnp.zeros(words, counts.dtype).at[ids].add(counts > 0)
    return jnp.log((1 + len(ids)) / (1 + held)) + 1


def tfidf(idf, ids, counts):
    """Tf-idf: weighs the words of documents by their count and by how few documents hold them.

    Each row has length 1: the inner product of two rows, word by word, is the cosine of the documents.

    >>> print(tfidf(jnp.array([1.0, 3.0]), jnp.array([[0, 1]]), jnp.array([[4.0, 1.0]])))
    [[0.8 0.6]]

    Args:
        idf: [V], of :func:`fit_idf`; ones give plain counts.
        ids: int [B, U].
        counts: [B, U].

    Returns:
        Weights [B, U] of the words; 0 at padding, and all 0 for a document without words.

    Raises:
        ValueError: as :func:`fit_idf`.
    """
    idf = jnp.asarray(idf)
    ids, counts = check_bags(ids, counts, len(idf))
    return unit(counts * idf[ids]) if counts.shape[1] else counts


def fit_lsa(key, ids, weights, words, *, size=100, oversample=100, powers=2):
    """Latent semantic analysis: the strongest directions of a document-word matrix, as a table of words.

    ``X ~ U S V'`` by a randomised singular value decomposition; X [N, V] is never written out. The vector of
    a document is :func:`lsa`, ``X V = U S``.

    >>> ids, weights = jnp.array([[0], [1]]), jnp.array([[3.0], [1.0]])
    >>> found = fit_lsa(jax.random.key(0), ids, weights, 2, size=1)
    >>> print(found["singular"].round(), abs(found["embedding"]).round(3).tolist())
    [3.] [[1.0], [0.0]]

    Args:
        key: random key.
        ids: int [N, U].
        weights: [N, U], counts or :func:`tfidf`, at least 0.
        words: V.
        size: D, at most N and V.
        oversample: columns more than ``size`` that the sketch has.
        powers: how often the sketch is multiplied by ``X X'``, which sharpens it where singular values fall
            slowly.

    Returns:
        {"embedding": [V, D], orthonormal columns, "singular": [D], falling}.

    Raises:
        ValueError: for a size outside 1..min(N, V), or as :func:`fit_idf`.

    References:
        S. Deerwester et al., doi:10.1002/(SICI)1097-4571(199009)41:6<391::AID-ASI1>3.0.CO;2-9; the
        decomposition: N. Halko et al., arXiv:0909.4061.
    """
    ids, weights = check_bags(ids, weights, words)
    most = min(len(ids), words)
    if not 1 <= size <= most:
        raise ValueError(f"size: {size} is outside 1..{most}, the number of documents or words")

    columns = min(size + oversample, most)
    times, transposed = bag_products(ids, weights, words, columns)
    drawn = jax.random.normal(key, (words, columns), weights.dtype)
    sketch = jnp.linalg.qr(times(drawn))[0]
    for _ in range(powers):
        sketch = jnp.linalg.qr(times(jnp.linalg.qr(transposed(sketch))[0]))[0]
    directions, values, _ = jnp.linalg.svd(transposed(sketch), full_matrices=False)
    return {"embedding": directions[:, :size], "singular": values[:size]}


def bag_products(ids, weights, words, columns):
    """Products with the matrix X [N, V] of bags and with its transpose, block by block.

    Args:
        ids: int [N, U].
        weights: [N, U].
        words: V.
        columns: m, width of the other factors.

    Returns:
        ``times``: y [V, m] -> X y [N, m]; ``transposed``: y [N, m] -> X' y [V, m].
    """
    blocks, count = _blocks(ids, weights, columns), len(ids)

    def times(y):
        return jax.lax.map(lambda block: weighted_bag(y, *block), blocks).reshape(-1, columns)[:count]

    def transposed(y):
        def add(total, given):
            (ids, weights), rows = given
            return total.at[ids].add(weights[..., None] * rows[:, None]), None

        y = jnp.pad(y, ((0, blocks[0].shape[0] * blocks[0].shape[1] - count), (0, 0)))
        y = y.reshape(*blocks[0].shape[:2], columns)
        return jax.lax.scan(add, jnp.zeros((words, columns), y.dtype), (blocks, y))[0]

    return times, transposed


def _blocks(ids, weights, columns):
    """Bags [N, U] as blocks [n, B, U], of which one with ``columns`` numbers a word has ROOM numbers."""
    size = max(1, min(len(ids), ROOM // max(1, ids.shape[1] * columns)))
    count = -(-len(ids) // size)
    given = ((0, count * size - len(ids)), (0, 0))
    return tuple(jnp.pad(x, given).reshape(count, size, x.shape[1]) for x in (ids, weights))


def lsa(params, ids, weights):
    """Latent semantic analysis: vectors of documents, of those it was fitted to and of others.

    >>> params = {"embedding": jnp.array([[1.0], [2.0]])}
    >>> print(lsa(params, jnp.array([[0, 1]]), jnp.array([[0.5, 1.0]])))
    [[2.5]]

    Args:
        params: of :func:`fit_lsa`.
        ids: int [B, U].
        weights: [B, U], made as those that were fitted.

    Returns:
        [B, D]; zeros for a document without words.

    Raises:
        ValueError: as :func:`fit_idf`.
    """
    ids, weights = check_bags(ids, weights, len(params["embedding"]))
    return weighted_bag(jnp.asarray(params["embedding"]), ids, weights)


def init_lda(key, topics, words):
    """Latent Dirichlet allocation: draws the topics' distributions over words.

    >>> print(init_lda(jax.random.key(0), 3, 7)["topics"].shape)
    (3, 7)

    Args:
        key: random key.
        topics: K.
        words: V.

    Returns:
        {"topics": [K, V]}, parameters of Dirichlet distributions (lambda), drawn near 1. Rows divided by
        their sum are the topics.

    Raises:
        ValueError: for fewer than one topic or word.
    """
    for name, size in (("topics", topics), ("words", words)):
        if size < 1:
            raise ValueError(f"{name}: {size} is below 1; pass a larger number")
    return {"topics": jax.random.gamma(key, 100.0, (topics, words)) / 100}


def lda(params, ids, counts, *, prior=None, rounds=50, tolerance=1e-3):
    """Latent Dirichlet allocation: how much of each document each topic wrote.

    For each document ``phi[u, k]`` is in proportion to ``exp(E log theta[k] + E log beta[k, u])``, and
    ``gamma[k] = prior + sum_u counts[u] phi[u, k]``; both are repeated until gamma moves little.

    >>> params = {"topics": jnp.array([[99.0, 1.0], [1.0, 99.0]])}
    >>> gamma = lda(params, jnp.array([[0, 1]]), jnp.array([[8.0, 0.0]]))
    >>> print((gamma / gamma.sum(axis=1, keepdims=True)).round(2))
    [[0.94 0.06]]

    Args:
        params: of :func:`init_lda` or :func:`update_lda`.
        ids: int [B, U].
        counts: [B, U].
        prior: alpha, of topics in a document; default 1 / K.
        rounds: most rounds.
        tolerance: a document stops when the mean absolute change of its gamma is below.

    Returns:
        gamma [B, K], parameters of Dirichlet distributions; divided by its sum, a vector of the document. A
        document without words has ``prior`` everywhere.

    Raises:
        ValueError: for a prior that is not above 0, or as :func:`fit_idf`.

    References:
        M. Hoffman et al., "Online Learning for Latent Dirichlet Allocation", NeurIPS 2010.
    """
    topics = jnp.asarray(params["topics"])
    ids, counts = check_bags(ids, counts, topics.shape[1])
    prior = _prior("prior", prior, len(topics))
    beta = _of_words(_expected_log(topics), ids)

    def step(state):
        count, gamma, moves = state
        new = prior + _responsible(beta, gamma, counts).sum(axis=1)
        new = jnp.where(moves[:, None], new, gamma)
        return count + 1, new, moves & (jnp.mean(jnp.abs(new - gamma), axis=1) >= tolerance)

    start = jnp.ones((len(ids), len(topics)), beta.dtype), jnp.ones(len(ids), bool)

    def going(state):
        return (state[0] < rounds) & jnp.any(state[2])

    return jax.lax.while_loop(going, step, (0, *start))[1]


def update_lda(params, ids, counts, *, documents, rate, prior=None, word_prior=None, **options):
    """Online variational Bayes: moves the topics towards what a batch of documents says.

    ``lambda <- (1 - rate) lambda + rate (word_prior + documents / B sum_d counts[d, u] phi[d, u])``. With
    ``rate=1`` and all documents in the batch it is a round of batch variational Bayes. Online, the rate of
    step t falls as ``(offset + t) ** -decay``, with decay from 0.5 to 1.

    >>> params = init_lda(jax.random.key(0), 2, 3)
    >>> bag = jnp.array([[0, 1]]), jnp.array([[5.0, 1.0]])
    >>> params = update_lda(params, *bag, documents=1, rate=1.0, word_prior=0.5)
    >>> print(params["topics"].sum().round(3))  # 6 words and 6 times the prior
    9.0

    Args:
        params: of :func:`init_lda`.
        ids: int [B, U].
        counts: [B, U].
        documents: the number N of documents of the whole corpus; may be traced.
        rate: rho; may be traced.
        prior: alpha; default 1 / K.
        word_prior: eta, of words in a topic; default 1 / K.
        options: ``rounds`` and ``tolerance`` of :func:`lda`.

    Returns:
        Params of the same shapes.

    Raises:
        ValueError: for a prior that is not above 0, or as :func:`fit_idf`.

    References:
        M. Hoffman et al., NeurIPS 2010.
    """
    topics = jnp.asarray(params["topics"])
    ids, counts = check_bags(ids, counts, topics.shape[1])
    word_prior = _prior("word_prior", word_prior, len(topics))
    gamma = lda(params, ids, counts, prior=prior, **options)
    written = _responsible(_of_words(_expected_log(topics), ids), gamma, counts)
    seen = jnp.zeros(topics.shape[::-1], topics.dtype).at[ids].add(written).T
    return {"topics": (1 - rate) * topics + rate * (word_prior + documents / len(ids) * seen)}


def lda_bound(params, ids, counts, gamma, *, prior=None):
    """Evidence lower bound of documents under given topics; divided by their words it compares models.

    ``E log p(words, theta) - E log q(theta)``. It never falls within the rounds of :func:`lda`.

    >>> params = {"topics": jnp.array([[1e6, 1e6]])}
    >>> bag = jnp.array([[0, 1]]), jnp.array([[1.0, 1.0]])
    >>> print(lda_bound(params, *bag, lda(params, *bag)).round(3), 2 * jnp.log(0.5).round(3))
    [-1.386] -1.386

    Args:
        params: of :func:`update_lda`.
        ids: int [B, U].
        counts: [B, U].
        gamma: [B, K], of :func:`lda`.
        prior: alpha, as it was for gamma.

    Returns:
        [B], in nats; 0 for a document without words. With :func:`topic_bound` it is the bound of all.

    Raises:
        ValueError: as :func:`lda`.
    """
    topics = jnp.asarray(params["topics"])
    ids, counts = check_bags(ids, counts, topics.shape[1])
    prior, k = _prior("prior", prior, len(topics)), len(topics)
    theta = _expected_log(gamma)
    log_beta = jnp.moveaxis(_expected_log(topics)[:, ids], 0, -1)
    likely = jnp.sum(counts * jax.nn.logsumexp(log_beta + theta[:, None], axis=-1), axis=1)
    apart = jnp.sum((prior - gamma) * theta + gammaln(gamma), axis=1) - gammaln(jnp.sum(gamma, axis=1))
    return likely + apart + gammaln(k * prior) - k * gammaln(prior)


def topic_bound(params, *, word_prior=None):
    """Evidence lower bound: the part of the topics, ``E log p(beta) - E log q(beta)``.

    >>> print(f"{topic_bound({'topics': jnp.full((2, 3), 2.0)}):.2f}")
    -1.70

    Args:
        params: of :func:`update_lda`.
        word_prior: eta; default 1 / K.

    Returns:
        Scalar in nats, to be added once to the sum of :func:`lda_bound` over all documents.
    """
    topics = jnp.asarray(params["topics"])
    k, words = topics.shape
    prior = _prior("word_prior", word_prior, k)
    apart = jnp.sum((prior - topics) * _expected_log(topics) + gammaln(topics))
    apart = apart - jnp.sum(gammaln(jnp.sum(topics, axis=1)))
    return apart + k * (gammaln(words * prior) - words * gammaln(prior))


def _expected_log(dirichlet):
    """E log x [..., K] of Dirichlet distributions."""
    return digamma(dirichlet) - digamma(jnp.sum(dirichlet, axis=-1, keepdims=True))


def _of_words(log_topics, ids):
    """exp(E log beta) of the words of each document: [B, U, K]."""
    return jnp.exp(jnp.moveaxis(log_topics[:, ids], 0, -1))


def _responsible(beta, gamma, counts):
    """counts[u] phi[u, k] of each document: [B, U, K]."""
    mixed = beta * jnp.exp(_expected_log(gamma))[:, None]
    total = jnp.sum(mixed, axis=-1)
    share = jnp.where(counts > 0, counts / jnp.maximum(total, jnp.finfo(total.dtype).tiny), 0)
    return mixed * share[..., None]


def _prior(name, prior, topics):
    prior = jnp.asarray(1 / topics if prior is None else prior, jnp.float32)
    if not isinstance(prior, jax.core.Tracer) and not prior > 0:
        raise ValueError(f"{name}: {prior} is not above 0; pass a positive number")
    return prior


def check_bags(ids, counts, words):
    """Bags as arrays, the ids of padding 0. Refuses other arrays, where their values are known."""
    known = not any(isinstance(x, jax.core.Tracer) for x in (ids, counts))
    if known:
        ids, counts = np.asarray(ids), np.asarray(counts)
        if ids.ndim != 2 or not len(ids):
            raise ValueError(f"ids: shape {ids.shape}; pass [B, U] of at least one document")
        check_shape("counts", counts, ids.shape)
        if not np.isfinite(counts).all() or (counts < 0).any():
            raise ValueError("counts: negative or not finite; pass how often each word occurs")
        real = ids[counts > 0]
        if real.size and not 0 <= real.min() <= real.max() < words:
            wrong = real.max() if real.max() >= words else real.min()
            raise ValueError(f"ids: {wrong} is outside 0..{words - 1}, the words of the vocabulary")
    counts = jnp.asarray(counts)
    counts = counts.astype(accumulator(counts) if jnp.issubdtype(counts.dtype, jnp.floating) else jnp.float32)
    return jnp.where(counts > 0, jnp.asarray(ids, jnp.int32), 0), counts
