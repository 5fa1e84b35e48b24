"""Texts as lists of words, tables of word vectors with frequencies, and four ways to average."""

import collections
import functools

import numpy as np

from experiments.shared import results
from jaxembed import data, encoders, ragged, vectors

WAYS = MEAN, REMOVED, WEIGHTED, SIF = "mean of words", "common direction out", "SIF's weights", "SIF"

COLUMNS = (  # of the paraphrase corpus of Microsoft Research, and of STS-B in GLUE
    ("#1 String", "#2 String", "Quality"),
    ("sentence1", "sentence2", "score"),
)


@functools.cache
def posts(split):
    """Lists of words of the posts, and their groups [N]."""
    source = data.newsgroups(split)
    labels = np.unique(source["labels"], return_inverse=True)[1]
    return [data.words(text) for text in source["texts"]], labels


def judged(path):
    """Lists of words of all first, then all second sentences, and scores [N]; of SICK its test pairs."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        top = file.readline()
    if "relatedness_score" in top:
        found = data.sick(path, "test" if "SemEval_set" in top else None)
    else:
        named = next((names for names in COLUMNS if {*names} <= {*top.rstrip("\r\n").split("\t")}), None)
        found = data.sentence_pairs(path, columns=named)
    if "scores" not in found:
        raise ValueError(f"--pairs {path}: holds no scores; give them in a third column")
    return [data.words(text) for text in found["first"] + found["second"]], found["scores"].astype(float)


def table(path=None):
    """{"rows": {word: row}, "vectors": [V, D], "shares": [V]}, in small letters; frequencies of the posts."""
    found = data.glove() if path is None else data.read_word_vectors(path)
    counts = collections.Counter(word for text in posts("train")[0] for word in text)
    rows = {}
    for row, word in enumerate(found["words"]):
        rows.setdefault(word.lower(), row)
    total, shares = sum(counts.values()), np.zeros(len(found["words"]))
    for word, row in rows.items():
        shares[row] = counts[word] / total
    return {"rows": rows, "vectors": np.asarray(found["vectors"], np.float32), "shares": shares}


def averages(table, lists, smoothing, *, fitted):
    """{way: vectors [N, D]} of texts; the common direction is that of the first ``fitted`` ones."""
    known = sorted({table["rows"][w] for text in lists for w in text if w in table["rows"]})
    if not known:
        raise ValueError("texts: none of their words has a vector; pass other --pairs or --vectors")
    used = {row: i for i, row in enumerate(known)}
    places = [[used[table["rows"][w]] for w in text if w in table["rows"]] for text in lists]
    ids, mask = ragged.pad(places, max(map(len, places)))
    words, shares = table["vectors"][known], table["shares"][known]
    found = {}
    for ways, weighing in (((MEAN, REMOVED), 0 * shares), ((WEIGHTED, SIF), shares)):
        weights = encoders.sif_weights(weighing, ids, mask, smoothing=smoothing)
        x = np.asarray(encoders.weighted_bag(words, ids, weights))
        params = vectors.fit_removal(x[:fitted], components=1, centre=False)
        found |= dict(zip(ways, (x, np.asarray(vectors.standardise(params, x))), strict=True))
    return {way: found[way] for way in WAYS}


def row(way, runs):
    """A row of a table: means over the draws with their deviation."""
    found = {"way": way}
    for name, values in runs.items():
        found[name], found[f"± {name}"] = results.spread(list(values))
    return found | {"runs": {name: list(values) for name, values in runs.items()}}
