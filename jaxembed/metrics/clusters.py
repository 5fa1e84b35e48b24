"""Groups of words beside groups that people made: purity, adjusted Rand index, coherence of topics."""

import collections
import itertools

import numpy as np

from jaxembed.arrays import check_shape


def purity(labels, clusters):
    """Purity: the share of things whose label is the commonest of their cluster.

    >>> print(purity(["a", "a", "b", "b"], [0, 0, 0, 1]))
    0.75

    Args:
        labels: [N], of any kind.
        clusters: [N], of any kind.

    Returns:
        float in 0..1; 1 also where every thing is a cluster of its own, so the number of clusters has to be
        fixed.

    Raises:
        ValueError: for lists of different lengths or none.

    References:
        C. D. Manning et al., Introduction to Information Retrieval, Cambridge 2008, chapter 16.
    """
    table = _contingency(labels, clusters)
    return float(table.max(axis=0).sum() / table.sum())


def _contingency(labels, clusters):
    """Counts [labels, clusters]."""
    check_shape("clusters", np.empty(len(clusters)), (len(labels),))
    if not len(labels):
        raise ValueError("labels: none is given; pass at least one")
    sides = [np.unique(np.asarray(x), return_inverse=True)[1].reshape(-1) for x in (labels, clusters)]
    for name, x in (("labels", labels), ("clusters", clusters)):
        if any(v != v for v in np.asarray(x).reshape(-1).tolist()):
            raise ValueError(f"{name}: hold NaN, which is not a class; leave those out")
    table = np.zeros([side.max() + 1 for side in sides], np.int64)
    np.add.at(table, tuple(sides), 1)
    return table


def adjusted_rand(labels, clusters):
    """Adjusted Rand index: on how many pairs two groupings agree, beyond chance.

    ``(index - expected) / ((rows + columns) / 2 - expected)`` with index the number of pairs that both
    groupings join, rows and columns those that either joins, and ``expected = rows columns / pairs``.

    >>> print(round(adjusted_rand([0, 0, 1, 1], [0, 0, 1, 2]), 4))
    0.5714

    Args:
        labels: [N], of any kind.
        clusters: [N], of any kind.

    Returns:
        float, at most 1; 1 for equal groupings, whatever their names, and 0 on average for random ones. Where
        both put everything together, or everything apart, it is 1.

    Raises:
        ValueError: for lists of different lengths or none.

    References:
        L. Hubert and P. Arabie, Journal of Classification 1985.
    """
    table = _contingency(labels, clusters).astype(np.float64)

    def pairs(counts):
        return float(np.sum(counts * (counts - 1) / 2))

    index, total = pairs(table), pairs(table.sum())
    rows, columns = pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / total if total else 0.0
    most = (rows + columns) / 2
    return 1.0 if most == expected else (index - expected) / (most - expected)


def topic_coherence(topics, texts, *, window=10):
    """Topic coherence by NPMI: do the top words of a topic meet in texts more often than by chance?

    The mean over pairs of a topic's words of ``log(p[i, j] / (p[i] p[j])) / -log p[i, j]``, with p the
    shares of windows that hold the words.

    >>> texts = [["cat", "dog", "pet"], ["cat", "dog"], ["oil", "gas"]]
    >>> print(topic_coherence([["cat", "dog"], ["cat", "oil"]], texts))
    [ 1. -1.]

    Args:
        topics: sequence of K sequences of words, usually the 10 most probable; any hashable names.
        texts: iterable of sequences of words; read once.
        window: words of a window, which slides by one word; a shorter text is one window. None takes whole
            texts.

    Returns:
        float64 [K], each in -1..1. Words that never meet have -1, words that come together only 1.

    Raises:
        ValueError: for a topic of fewer than two different words, a window below 2, or no texts.

    References:
        G. Bouma, GSCL 2009; M. Roeder et al., WSDM 2015, doi:10.1145/2684822.2685324. There a small
        constant keeps the logarithm of words that never meet finite; here that is its limit, -1.
    """
    if window is not None and window < 2:
        raise ValueError(f"window: {window} is below 2; pass at least two words, or None")
    topics = [list(dict.fromkeys(topic)) for topic in topics]
    for topic in topics:
        if len(topic) < 2:
            raise ValueError(f"topics: {topic} holds fewer than two different words; pass more")
    pairs = [list(itertools.combinations(topic, 2)) for topic in topics]
    single, joint, count = _window_counts({w for t in topics for w in t}, texts, window)
    if not count:
        raise ValueError("texts: hold no words; pass at least one text")

    def npmi(a, b):
        both = (joint[a, b] + joint[b, a]) / count
        if not both:
            return -1.0
        return 1.0 if both == 1 else np.log(both * count**2 / (single[a] * single[b])) / -np.log(both)

    return np.array([np.mean([npmi(*pair) for pair in found]) for found in pairs])


def _window_counts(words, texts, window):
    """How many windows hold a word, or two words, of a set; how many windows there are."""
    single, joint, count = collections.Counter(), collections.Counter(), 0
    for text in texts:
        length = len(text) if window is None else min(window, len(text))
        starts = range(len(text) - length + 1) if length else ()
        count += len(starts)
        places = [i for i, word in enumerate(text) if word in words]
        if not places:
            continue
        for start in starts:
            held = sorted({text[i] for i in places if start <= i < start + length}, key=str)
            single.update(held)
            joint.update(itertools.combinations(held, 2))
    return single, joint, count
