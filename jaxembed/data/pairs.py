"""Who is positive with whom: pairs made from single texts, from labels and from a teacher."""

import numpy as np


def inverse_cloze(words, *, seed, shortest=5, longest=13):
    """Cuts a span out of a text, so that the span can be asked to find the rest.

    >>> span, rest = inverse_cloze(list("abcdefgh"), seed=0, shortest=2, longest=3)
    >>> print("".join(span), "".join(rest))
    def abcgh

    Args:
        words: list of n str.
        seed: int or tuple of ints; the same seed cuts the same span.
        shortest: least length of the span.
        longest: greatest length of the span.

    Returns:
        (span, rest), two lists whose words together are ``words``; (None, words) for a text that is not
        longer than ``longest``.

    References:
        K. Lee et al. (the inverse cloze task), arXiv:1906.00300.
    """
    if not 1 <= shortest <= longest:
        raise ValueError(f"shortest={shortest}, longest={longest}: need 1 <= shortest <= longest")
    if len(words) <= longest:
        return None, words
    rng = np.random.default_rng(seed)
    size = int(rng.integers(shortest, longest + 1))
    start = int(rng.integers(0, len(words) - size + 1))
    return words[start : start + size], words[:start] + words[start + size :]


def example_pairs(labels, *, seed, negatives=1):
    """Pairs each labelled text with another text of its class and with texts of other classes.

    >>> positives, negatives = example_pairs(["a", "b", "a", "b"], seed=0)
    >>> print(positives, negatives.shape)
    [2 3 0 1] (4, 1)

    Args:
        labels: [N], numbers or str; at least two classes, each with at least two texts.
        seed: int or tuple of ints.
        negatives: how many texts h of other classes each text gets, drawn with replacement, so that larger
            classes come more often.

    Returns:
        positives int [N] and negatives int [N, h], places among the labels.

    Raises:
        ValueError: for a single class, or a class with one text.

    References:
        C. Lee et al. (NV-Embed), arXiv:2405.17428, example-based pairs.
    """
    _, classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    if len(counts) < 2 or counts.min() < 2:
        raise ValueError("labels: at least two classes are needed, each with at least two texts")
    rng = np.random.default_rng(seed)
    order = np.argsort(classes, kind="stable")  # the texts class by class
    place, start = np.argsort(order), (np.cumsum(counts) - counts)[classes]
    own, count = place - start, counts[classes]
    other = (own + 1 + (rng.random(len(classes)) * (count - 1)).astype(int)) % count
    outside = (rng.random((len(classes), negatives)) * (len(classes) - count)[:, None]).astype(int)
    outside = np.where(outside >= start[:, None], outside + count[:, None], outside)
    return order[start + other], order[outside]


def hard_negatives(queries, documents, positives, *, count, share=0.95, block=1024):
    """Finds for each query the most similar documents that are clearly less similar than its own.

    A document j may be a negative of query i where ``cos(i, j) <= s - |s| (1 - share)`` with
    ``s = cos(i, positives[i])``; the ``count`` most similar of these are taken. Where fewer are left, the
    least similar documents fill the row.

    >>> queries, documents = np.array([[1.0, 0.0]]), np.array([[0.8, 0.6], [0.79, 0.61], [0.6, 0.8], [0.0, 1.0]])
    >>> print(hard_negatives(queries, documents, [0], count=1))
    [[2]]

    Args:
        queries: [N, D], vectors of a teacher; normalised inside.
        documents: [M, D], M above ``count``.
        positives: int [N], the document of each query.
        count: h.
        share: of the similarity of the query's own document, above which a document is left out.
        block: queries that are compared at once.

    Returns:
        int [N, h], places among the documents, the most similar first; never the query's own.

    Raises:
        ValueError: when there are no more than ``count`` documents.

    References:
        G. Moreira et al. (NV-Retriever), arXiv:2407.15831, the rule with a percentage of the positive.
    """  # noqa: E501
    queries, documents, positives = (np.asarray(x) for x in (queries, documents, positives))
    if len(documents) <= count:
        raise ValueError(f"count={count} negatives need more than {len(documents)} documents")
    queries, documents = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30) for x in (queries, documents)
    )
    found = np.empty((len(queries), count), np.int64)
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        scores, own = queries[rows] @ documents.T, positives[rows, None]
        limit = np.take_along_axis(scores, own, axis=1)
        limit = limit - np.abs(limit) * (1 - share)
        best = np.where(scores <= limit, scores, -5 - scores)  # behind all others, the least similar first
        np.put_along_axis(best, own, -np.inf, axis=1)
        found[rows] = np.argsort(-best, axis=1, kind="stable")[:, :count]
    return found
