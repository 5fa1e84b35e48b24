"""Purity, adjusted Rand index, coherence of topics, similarity of spaces: loops, packages, bad input."""

import itertools

import numpy as np
import pytest
from refusals import refused

from jaxembed import metrics

RNG = np.random.default_rng(0)


def test_purity_counts_the_commonest_label_of_each_cluster():
    labels, clusters = RNG.integers(0, 4, 50), RNG.integers(0, 3, 50)
    expected = sum(max(np.sum((labels == a) & (clusters == c)) for a in range(4)) for c in range(3)) / 50
    assert metrics.purity(labels, clusters) == pytest.approx(expected)
    assert metrics.purity([str(x) for x in labels], clusters) == pytest.approx(expected)


def rand_by_pairs(labels, clusters):
    """From the four kinds of pairs."""
    kinds = np.zeros((2, 2))
    for i, j in itertools.combinations(range(len(labels)), 2):
        kinds[int(labels[i] == labels[j]), int(clusters[i] == clusters[j])] += 1
    (a, b), (c, d) = kinds
    return 2 * (a * d - b * c) / ((a + b) * (b + d) + (a + c) * (c + d))


def test_adjusted_rand_equals_a_count_of_pairs_and_does_not_know_names():
    for _ in range(5):
        labels, clusters = RNG.integers(0, 3, 25), RNG.integers(0, 4, 25)
        found = metrics.adjusted_rand(labels, clusters)
        assert found == pytest.approx(rand_by_pairs(labels, clusters))
        assert metrics.adjusted_rand(clusters, np.array(["z", "b", "a"])[labels]) == pytest.approx(found)
        ari = pytest.importorskip("sklearn.metrics").adjusted_rand_score
        assert found == pytest.approx(ari(labels, clusters))
    assert metrics.adjusted_rand([0, 0, 1], [1, 1, 0]) == 1
    assert metrics.adjusted_rand([0, 0, 0], [0, 0, 0]) == metrics.adjusted_rand([1, 2], [3, 4]) == 1
    chance = [metrics.adjusted_rand(RNG.integers(0, 2, 40), RNG.integers(0, 2, 40)) for _ in range(300)]
    assert abs(np.mean(chance)) < 0.01


def coherence_by_hand(topic, texts, window):
    held = []
    for text in texts:
        last = max(1, len(text) - window + 1)
        held += [set(text[i : i + window]) for i in range(last)]

    def share(*words):
        return np.mean([all(w in h for w in words) for h in held])

    found = []
    for a, b in itertools.combinations(topic, 2):
        both = share(a, b)
        found.append(np.log(both / share(a) / share(b)) / -np.log(both) if both else -1.0)
    return np.mean(found)


def test_coherence_equals_a_loop_over_windows():
    texts = [[f"w{i}" for i in RNG.integers(0, 8, n)] for n in (3, 12, 25, 8)]
    topics = [["w0", "w1", "w2"], ["w3", "w4", "w5", "w6"]]
    found = metrics.topic_coherence(topics, texts, window=4)
    np.testing.assert_allclose(found, [coherence_by_hand(t, texts, 4) for t in topics], atol=1e-12)
    whole = metrics.topic_coherence(topics, iter(texts), window=None)
    np.testing.assert_allclose(whole, [coherence_by_hand(t, texts, 99) for t in topics], atol=1e-12)


@pytest.mark.peers
def test_gensim_finds_the_same_coherence_where_all_words_meet():
    models = pytest.importorskip("gensim.models")
    corpora = pytest.importorskip("gensim.corpora")
    texts = [[f"w{i}" for i in RNG.permutation(12)] for _ in range(40)]  # none twice, which gensim miscounts
    topics = [["w0", "w1", "w2"], ["w2", "w3", "w4"]]
    given = {"texts": texts, "dictionary": corpora.Dictionary(texts), "coherence": "c_npmi", "window_size": 4}
    theirs = models.CoherenceModel(topics=topics, processes=1, **given).get_coherence_per_topic()
    np.testing.assert_allclose(metrics.topic_coherence(topics, texts, window=4), theirs, atol=1e-6)


def test_rsa_is_the_rank_correlation_of_all_cosines():
    stats = pytest.importorskip("scipy.stats")
    x, y = RNG.normal(size=(12, 4)), RNG.normal(size=(12, 7))
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
    cosines = [[u[i] @ u[j] for i, j in itertools.combinations(range(12), 2)] for u in unit]
    assert metrics.rsa(x, y) == pytest.approx(stats.spearmanr(*cosines)[0], abs=1e-5)
    turn = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    assert metrics.rsa(x, 3 * x @ turn) == pytest.approx(1, abs=1e-3)


def test_bad_input_gets_one_line():
    refused("clusters: shape", lambda: metrics.purity([1, 2], [1]))
    refused("labels: none is given", lambda: metrics.adjusted_rand([], []))
    refused("labels: hold NaN", lambda: metrics.adjusted_rand([np.nan, 1.0], [0, 1]))
    refused("fewer than two different words", lambda: metrics.topic_coherence([["a", "a"]], [["a"]]))
    refused("window: 1 is below 2", lambda: metrics.topic_coherence([["a", "b"]], [["a"]], window=1))
    refused("texts: hold no words", lambda: metrics.topic_coherence([["a", "b"]], []))
    refused("first: 2 things", lambda: metrics.rsa(np.eye(2), np.eye(2)))
    refused("second: shape", lambda: metrics.rsa(np.eye(3), np.eye(4)))
