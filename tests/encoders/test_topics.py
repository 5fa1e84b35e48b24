"""Documents as bags: tf-idf, LSA and LDA equal their formulas, scikit-learn and the topics that made them."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bags import COUNTS, DENSE, IDS, SPOILED, K, N, U, V
from scipy.special import digamma, gammaln

from jaxembed import encoders


def test_tfidf_is_its_formula_and_unit_length():
    weights = encoders.tfidf(encoders.fit_idf(SPOILED, COUNTS, V), SPOILED, COUNTS)
    held = [np.sum(DENSE[:, v] > 0) for v in range(V)]
    wanted = DENSE * (np.log((1 + N) / (1 + np.array(held))) + 1)
    lengths = np.linalg.norm(wanted, axis=1, keepdims=True)
    found = np.zeros((N, V))
    np.add.at(found, (np.arange(N)[:, None], IDS), weights)
    np.testing.assert_allclose(found, wanted / np.where(lengths == 0, 1, lengths), atol=1e-6)
    np.testing.assert_array_equal(weights[COUNTS == 0], 0)


@pytest.mark.peers
def test_tfidf_and_lsa_agree_with_scikit_learn():
    text = pytest.importorskip("sklearn.feature_extraction.text")
    from sklearn.decomposition import TruncatedSVD

    theirs = text.TfidfTransformer().fit_transform(DENSE)
    weights = encoders.tfidf(encoders.fit_idf(IDS, COUNTS, V), IDS, COUNTS)
    found = encoders.lsa({"embedding": jnp.eye(V)}, IDS, weights)
    np.testing.assert_allclose(found, theirs.toarray(), atol=1e-6)
    ours = encoders.fit_lsa(jax.random.key(0), IDS, weights, V, size=4)
    peer = TruncatedSVD(4, algorithm="arpack").fit(theirs)
    np.testing.assert_allclose(ours["singular"], peer.singular_values_, rtol=1e-4)
    signs = np.sign(np.sum(np.asarray(ours["embedding"]) * peer.components_.T, axis=0))
    np.testing.assert_allclose(ours["embedding"] * signs, peer.components_.T, atol=1e-3)


def test_lsa_of_full_rank_keeps_every_inner_product_and_a_sketch_the_strongest(monkeypatch):
    params = encoders.fit_lsa(jax.random.key(0), SPOILED, COUNTS, V, size=V)
    vectors = encoders.lsa(params, SPOILED, COUNTS)
    np.testing.assert_allclose(vectors @ vectors.T, DENSE @ DENSE.T, atol=1e-3)
    np.testing.assert_array_equal(vectors[4], 0)
    left, values, right = np.linalg.svd(DENSE)
    np.testing.assert_allclose(params["singular"], values, rtol=1e-4)
    few = encoders.fit_lsa(jax.random.key(1), IDS, COUNTS, V, size=2, oversample=4, powers=3)
    rest = np.sum((DENSE - encoders.lsa(few, IDS, COUNTS) @ few["embedding"].T) ** 2)
    assert rest == pytest.approx(np.sum(values[2:] ** 2), rel=0.02)  # the tail of the spectrum
    assert rest >= np.sum(values[2:] ** 2) * (1 - 1e-5)
    np.testing.assert_allclose(few["embedding"].T @ few["embedding"], np.eye(2), atol=1e-5)


def test_lsa_in_blocks_is_lsa_at_once(monkeypatch):
    whole = encoders.fit_lsa(jax.random.key(0), IDS, COUNTS, V, size=3)
    monkeypatch.setattr("jaxembed.encoders.topics.ROOM", 7 * U * V)  # 5 blocks, the last one not full
    parts = encoders.fit_lsa(jax.random.key(0), IDS, COUNTS, V, size=3)
    np.testing.assert_allclose(parts["embedding"], whole["embedding"], atol=1e-5)


@functools.cache
def start():
    return encoders.init_lda(jax.random.key(0), K, V)


def expected_log(x):
    return digamma(x) - digamma(x.sum(axis=-1, keepdims=True))


def loops(topics, prior, rounds):
    """gamma [N, K] after so many rounds, and the expected counts [K, V] of topics and words."""
    log_beta, gamma, seen = expected_log(topics), np.ones((N, K)), np.zeros((K, V))
    for d in range(N):
        for last in [False] * rounds + [True]:
            log_theta, new = expected_log(gamma[d]), np.full(K, prior)
            for v in np.flatnonzero(DENSE[d]):
                phi = np.exp(log_theta + log_beta[:, v])
                phi *= DENSE[d, v] / phi.sum()
                new += phi
                seen[:, v] += phi * last
            gamma[d] = gamma[d] if last else new
    return gamma, seen


def test_inference_and_update_are_the_loops():
    topics = np.asarray(start()["topics"], np.float64)
    gamma, seen = loops(topics, 0.4, 20)
    options = {"prior": 0.4, "rounds": 20, "tolerance": 0.0}
    found = jax.jit(functools.partial(encoders.lda, **options))(start(), SPOILED, COUNTS)
    np.testing.assert_allclose(found, gamma, rtol=1e-4)
    np.testing.assert_allclose(found[4], 0.4, rtol=1e-6)
    moved = encoders.update_lda(start(), SPOILED, COUNTS, documents=90, rate=0.25, word_prior=0.1, **options)
    np.testing.assert_allclose(moved["topics"], 0.75 * topics + 0.25 * (0.1 + 3 * seen), rtol=1e-4)


def test_bounds_are_their_formulas_and_never_fall_within_the_rounds():
    topics = np.asarray(start()["topics"], np.float64)
    bounds = []
    for rounds in (1, 2, 4, 8, 30):
        gamma = encoders.lda(start(), IDS, COUNTS, prior=0.4, rounds=rounds, tolerance=0.0)
        bounds.append(np.asarray(encoders.lda_bound(start(), SPOILED, COUNTS, gamma, prior=0.4)))
    assert (np.diff(bounds, axis=0) > -1e-4).all() and bounds[-1].sum() > bounds[0].sum() + 0.1
    g, log_beta = np.asarray(gamma, np.float64), expected_log(topics)
    for d in range(N):
        theta = expected_log(g[d])
        wanted = sum(DENSE[d, v] * np.log(np.exp(theta + log_beta[:, v]).sum()) for v in range(V))
        wanted += np.sum((0.4 - g[d]) * theta + gammaln(g[d])) - gammaln(g[d].sum())
        wanted += gammaln(K * 0.4) - K * gammaln(0.4)
        assert bounds[-1][d] == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert bounds[-1][4] == pytest.approx(0, abs=1e-5)
    prior = 0.1
    apart = np.sum((prior - topics) * log_beta + gammaln(topics)) - gammaln(topics.sum(axis=1)).sum()
    apart += K * (gammaln(V * prior) - V * gammaln(prior))
    assert encoders.topic_bound(start(), word_prior=prior) == pytest.approx(apart, rel=1e-4)


def test_one_topic_takes_every_word():
    gamma = encoders.lda(encoders.init_lda(jax.random.key(0), 1, V), IDS, COUNTS, prior=0.7)
    np.testing.assert_allclose(gamma[:, 0], 0.7 + COUNTS.sum(axis=1), rtol=1e-5)


@pytest.mark.peers
def test_batch_inference_agrees_with_scikit_learn_from_the_same_topics():
    decomposition = pytest.importorskip("sklearn.decomposition")
    options = {"doc_topic_prior": 0.4, "topic_word_prior": 0.1, "max_doc_update_iter": 500}
    peer = decomposition.LatentDirichletAllocation(
        K, learning_method="batch", max_iter=1, mean_change_tol=1e-7, random_state=0, **options
    )
    peer.fit(DENSE)
    params = {"topics": jnp.asarray(peer.components_)}
    own = {"prior": 0.4, "rounds": 500, "tolerance": 1e-7}
    gamma = np.asarray(encoders.lda(params, IDS, COUNTS, **own))
    shares = gamma / gamma.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, peer.transform(DENSE), atol=1e-4)
    score = encoders.lda_bound(params, IDS, COUNTS, gamma, prior=0.4).sum()
    assert score + encoders.topic_bound(params, word_prior=0.1) == pytest.approx(peer.score(DENSE), rel=1e-4)
    peer.max_iter, peer.warm_start = 1, True
    peer._em_step(DENSE, total_samples=N, batch_update=True)
    moved = encoders.update_lda(params, IDS, COUNTS, documents=N, rate=1.0, word_prior=0.1, **own)
    np.testing.assert_allclose(moved["topics"], peer.components_, rtol=1e-3, atol=1e-3)


def planted(seed, topics, words, documents, length):
    """Documents of a Dirichlet mixture of sparse topics: (topics [K, V], counts [N, V])."""
    rng = np.random.default_rng(seed)
    beta = rng.dirichlet(np.full(words, 0.05), topics)
    theta = rng.dirichlet(np.full(topics, 0.1), documents)
    return beta, np.stack([rng.multinomial(length, t @ beta) for t in theta])


def test_online_updates_find_planted_topics():
    beta, dense = planted(0, 3, 40, 400, 60)
    ids = np.tile(np.arange(40), (400, 1))
    update = jax.jit(functools.partial(encoders.update_lda, documents=400))
    params = encoders.init_lda(jax.random.key(0), 3, 40)
    for t in range(40):
        rows = np.random.default_rng(t).permutation(400)[:100]
        params = update(params, ids[rows], dense[rows], rate=(1.0 + t) ** -0.6)
    found = params["topics"] / params["topics"].sum(axis=1, keepdims=True)
    apart = 0.5 * np.abs(np.asarray(found)[:, None] - beta).sum(axis=2)
    best = min(max(apart[list(order), range(3)]) for order in itertools.permutations(range(3)))
    assert best < 0.15


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: encoders.fit_idf(np.zeros((0, 3), int), np.zeros((0, 3)), 5), r"ids: shape \(0, 3\)"),
        (lambda: encoders.fit_idf(IDS, COUNTS[:, 1:], V), "counts: shape"),
        (lambda: encoders.fit_idf(IDS, COUNTS, 5), r"ids: \d+ is outside 0..4"),
        (lambda: encoders.fit_idf(IDS - 1, COUNTS + 1, V), r"ids: -1 is outside 0..11"),
        (lambda: encoders.tfidf(np.ones(V), IDS, COUNTS * np.nan), "counts: negative or not finite"),
        (lambda: encoders.lda(start(), IDS, -COUNTS), "counts: negative or not finite"),
        (lambda: encoders.fit_lsa(jax.random.key(0), IDS, COUNTS, V, size=13), r"size: 13 is outside 1..12"),
        (lambda: encoders.fit_lsa(jax.random.key(0), IDS, COUNTS, V, size=0), r"size: 0 is outside 1..12"),
        (lambda: encoders.init_lda(jax.random.key(0), 0, V), "topics: 0 is below 1; pass a larger number"),
        (lambda: encoders.init_lda(jax.random.key(0), 2, 0), "words: 0 is below 1; pass a larger number"),
        (lambda: encoders.lda(start(), IDS, COUNTS, prior=0.0), "prior: 0.0 is not above 0"),
        (
            lambda: encoders.update_lda(start(), IDS, COUNTS, documents=N, rate=1.0, word_prior=-1),
            "word_prior: -1.0 is not above 0",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call, said):
    with pytest.raises(ValueError, match=said) as found:
        call()
    assert "\n" not in str(found.value)


def test_a_corpus_of_unknown_words_has_no_directions_but_no_nan():
    nothing = np.zeros((4, 0), int), np.zeros((4, 0))
    assert encoders.tfidf(encoders.fit_idf(*nothing, V), *nothing).shape == (4, 0)
    found = encoders.fit_lsa(jax.random.key(0), *nothing, V, size=2)
    assert np.isfinite(found["embedding"]).all() and not found["singular"].any()
    np.testing.assert_allclose(encoders.lda(start(), *nothing), 1 / K, rtol=1e-6)
    moved = encoders.update_lda(start(), *nothing, documents=4, rate=1.0)
    np.testing.assert_allclose(moved["topics"], 1 / K, rtol=1e-6)
