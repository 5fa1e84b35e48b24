"""Phrases: scores by hand, gensim's phrases, joined pairs, and what they do for vectors of texts."""

import collections
import math

import numpy as np
import pytest

from jaxembed import data, recipes

TEXTS = [["new", "york", "is", "big"], ["i", "like", "new", "york"], ["a", "big", "new", "car"], ["york"], []]


def random_texts(count=300, seed=0):
    """Texts in which two pairs of words stand together most of the time."""
    rng, texts = np.random.default_rng(seed), []
    inside = ["new", "york"], ["hot", "dog"], ["york"], ["hot"]
    for _ in range(count):
        words = rng.choice(list("abcdefgh"), 6).tolist()
        place = int(rng.integers(6))
        words[place:place] = inside[rng.choice(4, p=[0.4, 0.4, 0.1, 0.1])]
        texts.append(words)
    return texts


@pytest.mark.parametrize("scoring, threshold", [("counts", 0.5), ("npmi", 0.1)])
def test_scores_are_those_of_the_formula(scoring, threshold):
    texts = random_texts()
    found = data.find_phrases(iter(texts), min_count=3, threshold=threshold, scoring=scoring)
    words = collections.Counter(w for t in texts for w in t)
    pairs = collections.Counter(p for t in texts for p in zip(t, t[1:], strict=False))
    total, wanted = sum(words.values()), {}
    for (a, b), n in pairs.items():
        score = (n - 3) / words[a] / words[b] * total
        if scoring == "npmi":
            score = math.log(n * total / words[a] / words[b]) / -math.log(n / total)
        if n >= 3 and score > threshold:
            wanted[a, b] = score
    assert found == pytest.approx(wanted)
    assert list(found)[:2] in ([("new", "york"), ("hot", "dog")], [("hot", "dog"), ("new", "york")])
    assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.peers
@pytest.mark.parametrize("scoring", ["default", "npmi"])
def test_gensim_finds_and_joins_the_same_phrases(scoring):
    models = pytest.importorskip("gensim.models.phrases")
    texts = random_texts()
    threshold = 0.2 if scoring == "npmi" else 0.05
    theirs = models.Phrases(texts, min_count=4, threshold=threshold, scoring=scoring)
    asked = {tuple(k.split("_")): s for k, s in theirs.export_phrases().items()}
    scale = 1.0
    if scoring == "default":  # gensim multiplies by the number of words and pairs it knows
        scale = sum(map(len, texts)) / len(theirs.vocab)
    ours = "npmi" if scoring == "npmi" else "counts"
    found = data.find_phrases(texts, min_count=4, threshold=threshold * scale, scoring=ours)
    asked = {pair: score * scale for pair, score in asked.items() if score > threshold}
    assert found == pytest.approx(asked) and len(found) >= 2
    best = dict(list(found.items())[:2])
    frozen = theirs.freeze()
    frozen.phrasegrams = {"_".join(pair): score for pair, score in best.items()}
    assert data.join_phrases(texts, best) == [list(frozen[text]) for text in texts]


def test_pairs_are_joined_from_left_to_right_or_added():
    phrases = {("new", "york"), ("york", "is"), ("big", "new")}
    assert data.join_phrases(TEXTS, phrases) == [
        ["new_york", "is", "big"], ["i", "like", "new_york"], ["a", "big_new", "car"], ["york"], [],
    ]  # fmt: skip
    assert data.join_phrases(TEXTS[:1], phrases, keep=True) == [[*TEXTS[0], "new_york", "york_is"]]
    assert data.join_phrases(TEXTS, {}) == TEXTS
    again = data.join_phrases(data.join_phrases(TEXTS, phrases), {("like", "new_york")}, joiner=" ")
    assert again[1] == ["i", "like new_york"]


def test_texts_with_added_phrases_train_vectors_of_texts():
    texts = random_texts(60)
    more = data.join_phrases(texts, data.find_phrases(texts, min_count=3, threshold=2.0), keep=True)
    words = recipes.train_words(more, kind="pv_dbow", width=4, epochs=1, sample=0, progress=False)
    assert {"new_york", "hot_dog"} <= set(words.words) and words.documents.shape == (60, 4)


@pytest.mark.parametrize(
    "call, error, said",
    [
        (lambda: data.find_phrases(TEXTS, scoring="pmi"), ValueError, "scoring='pmi': choose one of"),
        (lambda: data.find_phrases(TEXTS, scoring="npmi"), ValueError, "threshold=10.0: no npmi exceeds 1"),
        (lambda: data.find_phrases(TEXTS, threshold=float("nan")), ValueError, "threshold: is NaN; give"),
        (lambda: data.find_phrases([[]]), ValueError, "lists: hold no word"),
        (lambda: data.find_phrases(["one text"]), TypeError, "lists: hold 'one text', which is not a list"),
        (
            lambda: data.join_phrases(["one text"], {}),
            TypeError,
            "lists: hold 'one text', which is not a list",
        ),
    ],
)
def test_bad_input_is_named(call, error, said):
    with pytest.raises(error, match=said):
        call()
