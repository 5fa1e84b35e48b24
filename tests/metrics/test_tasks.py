"""Evaluation of text encoders: numbers of scipy and scikit-learn, ties, edges, and bad input."""

import math

import numpy as np
import pytest
from texts_and_encoders import encoder, texts_and_vectors

from jaxembed import metrics, train

sklearn_metrics = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")


def cosines(vectors, first, second):
    a, b = (np.stack([vectors[t] for t in side]).astype(np.float64) for side in (first, second))
    return np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


# Similarity


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_spearman_equals_scipy_with_ties(levels):
    rng = np.random.default_rng(levels)
    x, y = rng.integers(0, levels, (2, 60))
    np.testing.assert_allclose(metrics.spearman(x, y), stats.spearmanr(x, y).statistic, rtol=1e-12)
    np.testing.assert_allclose(metrics.spearman(x, np.exp(x / levels)), 1, rtol=1e-12)
    np.testing.assert_allclose(metrics.spearman(x, -x), -1, rtol=1e-12)


def test_similarity_equals_scipy_and_encodes_each_text_once():
    texts, vectors = texts_and_vectors(20)
    rng = np.random.default_rng(1)
    first, second = ([texts[i] for i in rng.integers(0, 20, 50)] for _ in range(2))
    scores = rng.integers(0, 6, 50)
    encode = encoder(vectors)
    found = metrics.evaluate_similarity(encode, first, second, list(scores))
    cosine = cosines(vectors, first, second).round(6)  # a text with itself has cosine 1
    np.testing.assert_allclose(found["spearman"], stats.spearmanr(cosine, scores).statistic, atol=1e-3)
    np.testing.assert_allclose(found["pearson"], stats.pearsonr(cosine, scores).statistic, atol=1e-5)
    assert len(encode.seen) == len(set(encode.seen))
    assert math.isnan(metrics.spearman([1, 1], [1, 2]))


# Retrieval


def source(count=30, queries=8, seed=0):
    texts, vectors = texts_and_vectors(count + queries, seed=seed)
    rng = np.random.default_rng(seed)
    documents = {f"d{i}": t for i, t in enumerate(texts[:count])}
    asked = {f"q{i}": t for i, t in enumerate(texts[count:])}
    judgments = {q: {f"d{j}": int(rng.integers(0, 3)) for j in rng.permutation(count)[:4]} for q in asked}
    return {"documents": documents, "queries": asked, "judgments": {"test": judgments}}, vectors


def plain_ndcg(data, vectors, k):
    """nDCG@k from the formula, query by query."""
    values = []
    for query, grades in data["judgments"]["test"].items():
        if not any(g > 0 for g in grades.values()):
            continue
        names = [d for d in data["documents"] if d != query]
        score = cosines(vectors, [data["queries"][query]] * len(names), [data["documents"][d] for d in names])
        ranked = [names[i] for i in np.argsort(-score, kind="stable")][:k]
        grades = {d: g for d, g in grades.items() if d != query}
        gain = sum(max(grades.get(d, 0), 0) / math.log2(r + 2) for r, d in enumerate(ranked))
        ideal = sorted((g for g in grades.values() if g > 0), reverse=True)[:k]
        values.append(gain / sum(g / math.log2(r + 2) for r, g in enumerate(ideal)))
    return np.mean(values), len(values)


@pytest.mark.parametrize("k", [1, 5, 10, 100])
def test_retrieval_equals_the_formula(k):
    data, vectors = source()
    data["judgments"]["test"]["q1"] = {"d3": 0}  # nothing relevant: the query does not count
    data["judgments"]["test"]["q2"] = {"d3": 1, "not in the corpus": 2}
    data["judgments"]["test"]["q of another file"] = {"d1": 1}
    missing = data["judgments"]["test"].pop("q of another file")
    expected, count = plain_ndcg(data, vectors, k)
    data["judgments"]["test"]["q of another file"] = missing
    found = metrics.evaluate_retrieval(encoder(vectors), data, k=k)
    np.testing.assert_allclose(found[f"ndcg@{k}"], expected, rtol=1e-5)
    assert found["queries"] == count == 7
    assert found["without_text"] == 1
    assert set(found) == {f"ndcg@{k}", f"recall@{k}", f"mrr@{k}", "queries", "without_text"}


def judging(judgments):
    """A call on two queries and these judgments."""
    data = {"documents": {"d0": "text 0", "q1": "text 1"}, "queries": {"q1": "text 2", "q2": "text 1"}}
    return lambda e: metrics.evaluate_retrieval(e, data | {"judgments": {"test": judgments}})


@pytest.mark.parametrize(
    "judgments, message",
    [
        ({}, "split='test': no judged queries; the source has"),
        ({"q1": {}}, "no judged queries"),
        (
            {"q7": {"d0": 1}, "q8": {"d0": 1}},
            "none of 2 judged queries has a text \\('q7'\\); check their ids",
        ),
        ({"q1": {"d0": 0}, "q2": {"d0": -1}}, "no judgment of 2 queries is above 0, so nothing can be found"),
        ({"q1": {"q1": 1}}, "no judgment of 1 queries is above 0"),  # only of itself
    ],
    ids=str,
)
def test_judgments_from_which_no_number_comes_are_refused(judgments, message):
    with pytest.raises(ValueError, match=message) as caught:
        judging(judgments)(encoder(texts_and_vectors(3)[1]))
    assert "\n" not in str(caught.value)


def test_judgments_become_arrays():
    data = {"documents": {"a": "x", "b": "y", "q2": "z"}, "queries": {"q1": "u", "q2": "v", "q3": "w"}}
    dev = {"q1": {"b": 2, "lost": 1, "lost too": 0}, "gone": {"a": 1}, "q2": {"q2": 3, "a": 1}, "q3": {}}
    queries, ids, grades = metrics.judgments(data | {"judgments": {"dev": dev}}, "dev")
    assert queries == ["q1", "q2"]  # one has no text, one no judgment
    assert ids.tolist() == [[1, 3, 4], [0, -1, -1]]  # missing documents keep a number, a query's own does not
    assert grades.tolist() == [[2, 1, 0], [1, 0, 0]]
    assert metrics.gains(np.array([[1, 0, 2], [0, 1, 2]]), ids, grades).tolist() == [[2, 0, 0], [1, 0, 0]]
    with pytest.raises(ValueError, match=r"split='test': no judged queries; the source has \['dev'\]"):
        metrics.judgments(data | {"judgments": {"dev": dev}})


def test_queries_without_text_are_counted():
    found = judging({"q1": {"d0": 1}, "q7": {"d0": 1}, "q8": {"d0": 0}, "q9": {}})(
        encoder(texts_and_vectors(3)[1])
    )
    assert found["queries"] == 1 and found["without_text"] == 2


def test_a_document_that_is_the_query_is_left_out():
    data, vectors = source()
    renamed = {f"d{i}": f"q{i}" for i in range(4)}  # ids that both have
    data["documents"] = {renamed.get(d, d): t for d, t in data["documents"].items()}
    data["judgments"]["test"] = {
        q: {renamed.get(d, d): g for d, g in grades.items()} | {q: 3, "d9": 1}
        for q, grades in data["judgments"]["test"].items()
    }
    for i in range(4):  # it would stand first
        vectors[data["documents"][f"q{i}"]] = vectors[data["queries"][f"q{i}"]]
    for k in (1, 10, 100):
        found = metrics.evaluate_retrieval(encoder(vectors), data, k=k)
        np.testing.assert_allclose(found[f"ndcg@{k}"], plain_ndcg(data, vectors, k)[0], rtol=1e-5)


def test_retrieval_over_a_mesh_and_with_another_query_encoder():
    data, vectors = source(count=32)
    expected = metrics.evaluate_retrieval(encoder(vectors), data)
    assert metrics.evaluate_retrieval(encoder(vectors), data, mesh=train.make_mesh(8, 1)) == pytest.approx(
        expected
    )
    flipped = encoder({t: -v for t, v in vectors.items()})
    found = metrics.evaluate_retrieval(encoder(vectors), data, encode_queries=flipped)
    assert found["ndcg@10"] != expected["ndcg@10"]
    assert metrics.evaluate_retrieval(flipped, data, encode_queries=flipped) == pytest.approx(expected)


# Classes, clusters, pairs


def groups(count=90, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    texts = [f"text {i}" for i in range(count)]
    labels = [f"class {i}" for i in rng.integers(0, classes, count)]
    centres = {f"class {i}": c for i, c in enumerate(rng.normal(size=(classes, 6)) * 6)}
    vectors = {t: centres[label] + rng.normal(size=6) for t, label in zip(texts, labels, strict=True)}
    return texts, labels, vectors


def test_classification_tells_groups_apart_and_noise_does_not():
    texts, labels, vectors = groups()
    found = metrics.evaluate_classification(
        encoder(vectors), texts[:60], labels[:60], texts[60:], labels[60:]
    )
    assert found == {"accuracy": 1.0, "f1": 1.0}
    _, noise = texts_and_vectors(90)
    found = metrics.evaluate_classification(encoder(noise), texts[:60], labels[:60], texts[60:], labels[60:])
    assert found["accuracy"] < 0.7


def test_classification_equals_scikit_learn_and_hides_that_steps_ran_out():
    from sklearn.linear_model import LogisticRegression

    texts, labels, vectors = groups()
    rng = np.random.default_rng(3)
    vectors = {t: (v + 4 * rng.normal(size=6)) * 100 for t, v in vectors.items()}
    x = np.stack([vectors[t] for t in texts])
    told = LogisticRegression(max_iter=1000, tol=1e-4).fit(x[:60], labels[:60]).predict(x[60:])
    found = metrics.evaluate_classification(
        encoder(vectors), texts[:60], labels[:60], texts[60:], labels[60:], steps=1000
    )
    assert found["accuracy"] == np.mean(told == np.array(labels[60:]))
    metrics.evaluate_classification(
        encoder(vectors), texts[:60], labels[:60], texts[60:], labels[60:], steps=1
    )


def test_clustering_finds_groups_and_gives_the_same_number_twice():
    texts, labels, vectors = groups()
    assert metrics.evaluate_clustering(encoder(vectors), texts, labels) == {"v_measure": pytest.approx(1)}
    _, noise = texts_and_vectors(90)
    first, second = (metrics.evaluate_clustering(encoder(noise), texts, labels) for _ in range(2))
    assert first == second
    assert first["v_measure"] < 0.2


@pytest.mark.parametrize("kind", ["ties", "no ties"])
def test_average_precision_of_pairs_equals_scikit_learn(kind):
    rng = np.random.default_rng(0)
    texts, vectors = texts_and_vectors(40)
    if kind == "ties":  # cosines are 0 or 1, exactly
        vectors = {t: 2.0**i * np.eye(5)[i % 5] for i, t in enumerate(texts)}
    chosen = [rng.permutation(40)[:2] for _ in range(80)]
    first, second = ([texts[pair[side]] for pair in chosen] for side in (0, 1))
    labels = rng.integers(0, 2, 80)
    found = metrics.evaluate_pairs(encoder(vectors), first, second, list(labels))
    scores = cosines(vectors, first, second)
    expected = sklearn_metrics.average_precision_score(labels, scores)
    np.testing.assert_allclose(found["ap"], expected, rtol=1e-9)
    for kind in (bool, float):
        assert metrics.evaluate_pairs(encoder(vectors), first, second, labels.astype(kind)) == found


# Bad input


pair = ["text 0", "text 1"], ["text 1", "text 2"]


def unknown_gain():
    documents = {f"d{i}": f"text {i}" for i in range(3)}
    judgments = {"test": {"q": {"d0": math.nan, "d1": 1}}}
    return {"documents": documents, "queries": {"q": "text 2"}, "judgments": judgments}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: metrics.spearman([1], [2]), "at least 2"),
        (lambda e: metrics.spearman([1, 2], [1, 2, 3]), "one length"),
        (lambda e: metrics.spearman([1, math.nan], [1, 2]), "NaN"),
        (lambda e: metrics.evaluate_similarity(e, ["text 0"], [], [1]), "lengths"),
        (lambda e: metrics.evaluate_pairs(e, [], [], []), "above 0"),
        (lambda e: metrics.evaluate_pairs(e, ["text 0"], ["text 1"], [0]), "no pair belongs together"),
        (lambda e: metrics.evaluate_pairs(e, *pair, ["0", "1"]), "labels: hold something else than 0, 1"),
        (lambda e: metrics.evaluate_pairs(e, *pair, [math.nan, 1]), "labels: hold something else than 0, 1"),
        (lambda e: metrics.evaluate_pairs(e, *pair, [None, True]), "labels: hold something else than 0, 1"),
        (lambda e: metrics.evaluate_pairs(e, *pair, [2, 1]), "labels: hold something else than 0, 1"),
        (lambda e: metrics.evaluate_similarity(e, *pair, ["0", "1"]), "scores: are <U1; pass numbers"),
        (lambda e: metrics.evaluate_similarity(e, *pair, [None, 1]), "scores: are object; pass numbers"),
        (lambda e: metrics.evaluate_clustering(e, pair[0], [math.nan, 1]), "labels: hold NaN"),
        (
            lambda e: metrics.evaluate_classification(e, pair[0], [0, math.nan], *pair),
            "labels: hold NaN",
        ),
        (lambda e: metrics.evaluate_retrieval(e, unknown_gain()), "judgments: hold NaN"),
        (lambda e: metrics.evaluate_clustering(e, ["text 0"], []), "lengths"),
        (
            lambda e: metrics.evaluate_classification(e, ["text 0"] * 2, [1, 1], ["text 1"], [1]),
            "1 class; pass at least two",
        ),
        (lambda e: metrics.evaluate_retrieval(e, source()[0], split="dev"), "split='dev'"),
        (lambda e: metrics.evaluate_clustering(lambda t: np.zeros((1, 2)), ["a", "b"], [0, 1]), "gave shape"),
        (
            lambda e: metrics.evaluate_clustering(lambda t: np.full((2, 2), np.nan), ["a", "b"], [0, 1]),
            "gave NaN",
        ),
    ],
)
def test_bad_input_raises_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(encoder(texts_and_vectors(3)[1]))
    assert "\n" not in str(caught.value)
