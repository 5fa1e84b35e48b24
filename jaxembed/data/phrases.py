"""Phrases: pairs of words that stand together more often than chance, as words of their own."""

import collections
import math

SCORINGS = ("counts", "npmi")


def find_phrases(lists, *, min_count=5, threshold=10.0, scoring="counts"):
    """Phrases: finds pairs of neighbouring words that occur together more often than their counts suggest.

    - "counts": ``(n(a b) - min_count) N / (n(a) n(b))`` with N words in all, as word2vec's program has it;
    - "npmi": normalised pointwise mutual information, ``log(p(a b) / (p(a) p(b))) / -log p(a b)``, at most 1.

    >>> texts = [["new", "york", "is", "new"], ["new", "york"]]
    >>> print(find_phrases(texts, min_count=1, threshold=0.7))
    {('new', 'york'): 1.0}

    Args:
        lists: iterable of lists of words, read once. No pair reaches across two texts.
        min_count: least count of a pair and of its words; "counts" subtracts it too, so that rare pairs score
            low.
        threshold: score that a pair exceeds; 10 for "counts", below 1 for "npmi", such as 0.5.
        scoring: "counts" or "npmi".

    Returns:
        {(first, second): score}, the highest first.

    Raises:
        ValueError: for another scoring, a threshold that is NaN or that no pair exceeds ("npmi"), or texts
            without a word.
        TypeError: for a text that is not a list of words.

    References:
        T. Mikolov et al., arXiv:1310.4546; G. Bouma, Normalized (Pointwise) Mutual Information, 2009.
    """
    if scoring not in SCORINGS:
        raise ValueError(f"scoring={scoring!r}: choose one of {', '.join(SCORINGS)}")
    if threshold != threshold:
        raise ValueError("threshold: is NaN; give the score that a pair must exceed")
    if scoring == "npmi" and threshold >= 1:
        raise ValueError(f"threshold={threshold}: no npmi exceeds 1; give a number below it, such as 0.5")
    words, pairs = collections.Counter(), collections.Counter()
    for text in lists:
        _check_text(text)
        words.update(text)
        pairs.update(zip(text, text[1:], strict=False))
    total = words.total()
    if not total:
        raise ValueError("lists: hold no word; give texts as lists of words")
    found = {}
    for (a, b), n in pairs.items():
        if min(n, words[a], words[b]) >= min_count:
            score = _score(n, words[a], words[b], total, min_count, scoring)
            if score > threshold:
                found[a, b] = score
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _check_text(text):
    if isinstance(text, str | bytes) or not isinstance(text, list | tuple):
        raise TypeError(f"lists: hold {text!r:.40}, which is not a list of words; split it, with data.words")


def _score(both, first, second, total, min_count, scoring):
    if scoring == "counts":
        return (both - min_count) * total / (first * second)
    chance = math.log(both / total)
    return (chance - math.log(first / total) - math.log(second / total)) / -chance if chance else 1.0


def join_phrases(lists, phrases, *, joiner="_", keep=False):
    """Phrases as words: writes found pairs as one word each.

    Pairs are joined from left to right, and no word is in two of them. A second pass over the result finds
    phrases of three and four words. With ``keep`` the words stay, and every pair comes behind them as a word
    more, for models that predict a text's words in no order.

    >>> print(join_phrases([["in", "new", "york", "city"]], {("new", "york"), ("york", "city")}))
    [['in', 'new_york', 'city']]

    Args:
        lists: N lists of words.
        phrases: collection of (first, second), for example of :func:`find_phrases`.
        joiner: str between the two words.
        keep: whether the words stay.

    Returns:
        N lists of words.

    Raises:
        TypeError: for a text that is not a list of words.
    """
    return [_joined(text, phrases, joiner, keep) for text in lists]


def _joined(text, phrases, joiner, keep):
    _check_text(text)
    if keep:
        pairs = zip(text, text[1:], strict=False)
        return [*text, *(joiner.join(pair) for pair in pairs if pair in phrases)]
    found, place = [], 0
    while place < len(text):
        pair = tuple(text[place : place + 2])
        size = 2 if pair in phrases else 1
        found.append(joiner.join(pair[:size]))
        place += size
    return found
