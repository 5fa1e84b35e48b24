"""What word vectors are measured by: judged pairs, and a classifier of posts on mean vectors."""

import functools

import numpy as np

from experiments.shared import results
from jaxembed import data, metrics

SETS = {"WordSim-353": "wordsim353", "SimLex-999": "simlex999"}
# Where a model of counts differs from the others; from the papers, for a small text.
SETTINGS = {"glove": {"epochs": 15, "window": 10}, "ppmi": {"negatives": 1, "epochs": 1}}


@functools.cache
def judged(name):
    found = data.word_pairs(name)
    return list(zip(found["first"], found["second"], strict=True)), found["scores"]


def sets(more=None):
    """{name: judged pairs}, with those of a user's file."""
    return SETS if more is None else SETS | {more.stem: more}


def similarity(words, vectors, more=None):
    """{set: Spearman's correlation} in small letters; pairs with an unknown word are left out."""
    found = {}
    for name, file in sets(more).items():
        pairs, scores = judged(file)
        found[name] = metrics.word_similarity(vectors, words, pairs, scores, fold=True)["spearman"]
    return found


@functools.cache
def posts(split):
    """{"words": lists of words, "labels": int [N]} of 20 Newsgroups."""
    found = data.newsgroups(split)
    groups = sorted(set(found["labels"]))
    labels = np.array([groups.index(label) for label in found["labels"]])
    return {"words": [data.words(text) for text in found["texts"]], "labels": labels}


def bags(words):
    """Sparse rows [N, V] of the posts of "train" and "test", whose products with vectors are their means."""
    from scipy import sparse

    index, found = {word: i for i, word in enumerate(words)}, {}
    for split in ("train", "test"):
        rows = [[index[w] for w in text if w in index] for text in posts(split)["words"]]
        counts = np.array([len(row) for row in rows])
        shares = np.repeat(1 / np.maximum(counts, 1), counts)
        ids, ends = np.concatenate([np.array(row, np.int64) for row in rows]), np.cumsum([0, *counts])
        found[split] = sparse.csr_matrix((shares, ids, ends), (len(rows), len(words)))
    return found


def topic_accuracy(model, counted=None):
    """Accuracy of logistic regression on mean unit vectors of posts: fitted on "train", read on "test".

    ``counted`` is what :func:`bags` gives of the words of the model.
    """
    unit = model.vectors / np.maximum(np.linalg.norm(model.vectors, axis=1, keepdims=True), 1e-9)
    counted = bags(model.words) if counted is None else counted
    sides = {split: (rows @ unit).astype(np.float32) for split, rows in counted.items()}
    fitted = metrics.fit_logistic(sides["train"], posts("train")["labels"], 20, c=10.0)
    told = np.argmax(sides["test"] @ np.asarray(fitted["kernel"]) + np.asarray(fitted["bias"]), axis=1)
    return float(np.mean(told == posts("test")["labels"]))


def means(rows, names, columns):
    """Means over the seeds with their deviation, of the rows that agree in some columns."""
    found = []
    for key in dict.fromkeys(tuple(row[n] for n in names) for row in rows):
        own, line = [r for r in rows if tuple(r[n] for n in names) == key], dict(zip(names, key, strict=True))
        for column in columns:
            line[column], line[f"± {column}"] = results.spread([r[column] for r in own])
        found.append(line)
    return found


def over_seeds(rows, column, **wanted):
    """A column of the rows that hold some values, in the order of the seeds; None where there are none."""
    found = [row[column] for row in rows if all(row[n] == v for n, v in wanted.items())]
    return np.array(found) if found else None
