"""One number for a text encoder on one task: similarity, retrieval, classes, clusters, pairs.

Every function takes ``encode_texts``, a function list of str -> [n, D], and lists of texts. Runs on the
host. Classification and clustering need the package scikit-learn, which they import when called.
"""

import warnings

import numpy as np

from jaxembed.arrays import unit
from jaxembed.extras import brings
from jaxembed.metrics.ranking import gains, has_relevant, judgments, masked_mean, mrr, ndcg, recall
from jaxembed.search.topk import top_k


def spearman(x, y):
    """Spearman's correlation: that of the ranks of two lists; equal numbers share the mean of their ranks.

    >>> round(spearman([1, 2, 3, 3], [10, 20, 40, 30]), 4)
    0.9487

    Args:
        x: [N], N at least 2.
        y: [N].

    Returns:
        A float in -1..1; NaN where all numbers of one list are equal.

    Raises:
        ValueError: for different lengths, fewer than two numbers, or a NaN.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(f"x, y: shapes {x.shape} and {y.shape}; pass two lists of one length, at least 2")
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("x, y: hold NaN, which has no rank; look for empty or broken vectors")
    return pearson(_ranks(x), _ranks(y))


def pearson(x, y):
    """Pearson's correlation: how near two lists are to lying on a rising line.

    >>> round(pearson([1, 2, 3], [10, 20, 40]), 4)
    0.982

    Args:
        x: [N], N at least 1.
        y: [N].

    Returns:
        A float in -1..1; NaN where all numbers of one list are equal.

    Raises:
        ValueError: for different lengths.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"x, y: shapes {x.shape} and {y.shape}; pass two lists of one length")
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt(np.sum(x**2) * np.sum(y**2))
    return float(np.clip(np.sum(x * y) / scale, -1, 1)) if scale > 0 else float("nan")


def evaluate_similarity(encode_texts, first, second, scores):
    """Semantic textual similarity: do cosines put pairs of texts into the order of people's scores?

    >>> vectors = {"a": [1.0, 0.0], "b": [0.9, 0.1], "c": [0.0, 1.0]}
    >>> encode = lambda texts: [vectors[t] for t in texts]
    >>> print(evaluate_similarity(encode, ["a", "a"], ["b", "c"], [5.0, 1.0]))
    {'spearman': 1.0, 'pearson': 1.0}

    Args:
        encode_texts: list of str -> [n, D]; each text is encoded once.
        first: list of N texts.
        second: list of N texts.
        scores: [N], higher is more similar.

    Returns:
        Dict with ``spearman`` (the number to report) and ``pearson`` of the cosines.

    Raises:
        ValueError: for lists of different lengths.
    """
    cosines, scores = _cosines(encode_texts, first, second, scores=scores)
    scores = np.asarray(scores)
    if scores.dtype.kind not in "biuf":
        raise ValueError(f"scores: are {scores.dtype}; pass numbers")
    scores = scores.astype(np.float64)
    return {"spearman": spearman(cosines, scores), "pearson": pearson(cosines, scores)}


def evaluate_retrieval(encode_texts, source, *, split="test", k=10, encode_queries=None, mesh=None):
    """Retrieval: do queries find their documents by cosine? (BEIR)

    >>> vectors = {"cat": [1.0, 0.0], "a cat": [0.9, 0.1], "a dog": [0.0, 1.0]}
    >>> source = {
    ...     "documents": {"d1": "a dog", "d2": "a cat"},
    ...     "queries": {"q": "cat"},
    ...     "judgments": {"test": {"q": {"d2": 1}}},
    ... }
    >>> print(evaluate_retrieval(lambda texts: [vectors[t] for t in texts], source, k=1))
    {'ndcg@1': 1.0, 'recall@1': 1.0, 'mrr@1': 1.0, 'queries': 1, 'without_text': 0}

    Args:
        encode_texts: list of str -> [n, D].
        source: dict as ``data.beir(folder)`` gives it: ``documents`` {id: text}, ``queries`` {id: text} and
            ``judgments`` {split: {query id: {document id: gain}}}.
        split: which judgments.
        k: how many places count.
        encode_queries: optional encoder of the queries where it differs (a prompt); default
            ``encode_texts``.
        mesh: optional mesh for :func:`top_k`; its "data" axis divides the documents.

    Returns:
        Dict with ``ndcg@k``, ``recall@k``, ``mrr@k`` and two counts. ``queries`` are those with a relevant
        judgment, over which the mean is taken. ``without_text`` are judged queries that are left out. A
        document whose id is that of the query is left out, as in BEIR; so is a judgment of it.

    Raises:
        ValueError: for a split without judgments, or in which no query with a text has a relevant one.
    """
    names, judged_ids, grades = judgments(source, split)
    places = {name: i for i, name in enumerate(source["documents"])}
    documents = _unit(encode_texts, list(source["documents"].values()))
    queries = _unit(encode_queries or encode_texts, [source["queries"][q] for q in names])
    found = np.asarray(top_k(queries, documents, min(k + 1, len(documents)), mesh=mesh)[1])
    own = np.array([places.get(q, -1) for q in names])
    kept = np.argsort(found == own[:, None], axis=1, kind="stable")[:, :k]
    same = np.take_along_axis(found == own[:, None], kept, axis=1)
    ids = np.where(same, -1, np.take_along_axis(found, kept, axis=1))
    hits, counts = gains(ids, judged_ids, grades), has_relevant(grades)
    metrics = {"ndcg": ndcg, "recall": recall, "mrr": mrr}
    values = {f"{name}@{k}": float(masked_mean(f(hits, grades, k=k), counts)) for name, f in metrics.items()}
    given = sum(1 for x in source["judgments"][split].values() if x)
    return values | {"queries": int(np.sum(counts)), "without_text": given - len(names)}


def evaluate_classification(encode_texts, texts, labels, test_texts, test_labels, *, seed=0, steps=100):
    """Classification: how well does a logistic regression on the vectors tell classes apart?

    Args:
        encode_texts: list of str -> [n, D].
        texts: list of N training texts.
        labels: [N], their classes, numbers or str; at least two classes.
        test_texts: list of M texts.
        test_labels: [M].
        seed: of the solver.
        steps: most steps of the solver; the default is that of the MTEB benchmark.

    Returns:
        Dict with ``accuracy`` and ``f1`` (the mean over the classes).

    Raises:
        ValueError: for lists of different lengths, a NaN among the labels or a single class.
    """
    _same_length(texts=texts, labels=labels)
    _same_length(test_texts=test_texts, test_labels=test_labels)
    if len(set(labels)) < 2:
        raise ValueError(f"labels: {len(set(labels))} class; pass at least two")
    with brings("experiments"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import accuracy_score, f1_score
    labels, test_labels = _classes(labels=labels), _classes(test_labels=test_labels)
    model = LogisticRegression(max_iter=steps, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(checked_vectors(encode_texts, texts), labels)
    told = model.predict(checked_vectors(encode_texts, test_texts))
    return {
        "accuracy": float(accuracy_score(test_labels, told)),
        "f1": float(f1_score(test_labels, told, average="macro")),
    }


def evaluate_clustering(encode_texts, texts, labels, *, seed=0):
    """Clustering: does k-means on the vectors find the classes again?

    There are as many clusters as classes.

    Args:
        encode_texts: list of str -> [n, D].
        texts: list of N texts.
        labels: [N], their classes, numbers or str.
        seed: of the starting points; the best of 10 starts counts.

    Returns:
        Dict with ``v_measure`` in 0..1, the harmonic mean of how pure and how whole the clusters are.

    Raises:
        ValueError: for lists of different lengths or a NaN among the labels.

    References:
        A. Rosenberg and J. Hirschberg, EMNLP-CoNLL 2007, aclanthology.org/D07-1043.
    """
    _same_length(texts=texts, labels=labels)
    with brings("experiments"):
        from sklearn.cluster import KMeans
        from sklearn.metrics import v_measure_score
    labels = _classes(labels=labels)
    model = KMeans(len(set(labels)), n_init=10, random_state=seed)
    found = model.fit_predict(checked_vectors(encode_texts, texts))
    return {"v_measure": float(v_measure_score(labels, found))}


def evaluate_pairs(encode_texts, first, second, labels):
    """Pair classification: do cosines tell pairs that belong together from pairs that do not?

    ``ap = sum over relevant pairs of precision / number of relevant pairs``, where precision is the part
    of the pairs with at least that cosine that is relevant; equal cosines share one threshold.

    >>> vectors = {"a": [1.0, 0.0], "b": [0.9, 0.1], "c": [0.0, 1.0]}
    >>> encode = lambda texts: [vectors[t] for t in texts]
    >>> print(evaluate_pairs(encode, ["a", "a", "b"], ["b", "c", "c"], [1, 0, 0]))
    {'ap': 1.0}

    Args:
        encode_texts: list of str -> [n, D]; each text is encoded once.
        first: list of N texts.
        second: list of N texts.
        labels: [N], 1 or True where the pair belongs together.

    Returns:
        Dict with ``ap``.

    Raises:
        ValueError: for lists of different lengths, labels beyond 0 and 1, or no pair that belongs together.
    """
    cosines, labels = _cosines(encode_texts, first, second, labels=labels)
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise ValueError("labels: hold something else than 0, 1, False and True; compare them with a class")
    labels = labels.astype(bool)
    if not labels.any():
        raise ValueError("labels: no pair belongs together, so nothing can be averaged")
    order = np.argsort(-cosines, kind="stable")
    cosines, labels = cosines[order], labels[order]
    ends = np.append(np.flatnonzero(np.diff(cosines)), len(cosines) - 1)  # last pair of each cosine
    hits = np.cumsum(labels)[ends]
    return {"ap": float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / hits[-1])}


def checked_vectors(encode_texts, texts):
    """Encodes texts and checks that finite vectors come back.

    Args:
        encode_texts: list of str -> [n, D].
        texts: iterable of n str.

    Returns:
        NumPy array [n, D].

    Raises:
        ValueError: for another shape, NaN or infinite numbers.
    """
    texts = list(texts)
    vectors = np.asarray(encode_texts(texts))
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ValueError(f"encode_texts: gave shape {vectors.shape} for {len(texts)} texts; [n, D] is needed")
    if not np.isfinite(vectors).all():
        raise ValueError("encode_texts: gave NaN or infinite numbers")
    return vectors


def _rows(vectors):
    return unit(np.atleast_2d(np.asarray(vectors, np.float32)))


def _unit(encode_texts, texts):
    return np.asarray(_rows(checked_vectors(encode_texts, texts)))


def _cosines(encode_texts, first, second, **values):
    """Float64 cosines of pairs, and the list that comes with them."""
    ((name, value),) = values.items()
    _same_length(first=first, second=second, **values)
    texts = list(dict.fromkeys([*first, *second]))
    place = {t: i for i, t in enumerate(texts)}
    vectors = _unit(encode_texts, texts).astype(np.float64)
    one, two = (vectors[[place[t] for t in side]] for side in (first, second))
    return np.sum(one * two, axis=1), value


def _ranks(x):
    """Ranks from 1; equal numbers share the mean of theirs."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def _classes(**lists):
    """An array of labels as scikit-learn compares them; refuses NaN, which is not a class."""
    ((name, values),) = lists.items()
    values = np.asarray(values, object)
    if any(x is None or x != x for x in values):
        raise ValueError(f"{name}: hold NaN or None, which is not a class; leave those texts out")
    return np.array(values.tolist())


def _same_length(**lists):
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) != 1 or not next(iter(lengths.values())):
        raise ValueError(f"{', '.join(lists)}: lengths {list(lengths.values())}; pass equal lengths, above 0")
