"""Texts of several domains that installed packages carry, and the same budget of words of each."""

import numpy as np

from jaxembed import data

NEWS, DICTIONARY, CODE, AGENCY = "newsgroups", "WordNet", "docstrings", "Reuters"


def dictionary():
    """One text for each sense of WordNet: its words, its gloss and its examples."""
    senses = data.wordnet()
    return [" ".join([*(s["lemmas"]), s["gloss"], *s["examples"]]).replace("_", " ") for s in senses]


def domains():
    """{domain: texts as lists of words}."""
    splits = ("train", "test")
    texts = {
        NEWS: [t for split in splits for t in data.newsgroups(split)["texts"]],
        DICTIONARY: dictionary(),
        AGENCY: [t for split in splits for t in data.reuters(split)["texts"]],
        CODE: [record["docstring"] for record in data.docstrings()],
    }
    return {name: [row for row in map(data.words, some) if row] for name, some in texts.items()}


def mixed(found, seed=0):
    """The texts of all domains in one order of chance."""
    texts = [text for name in sorted(found) for text in found[name]]
    return [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))]


def cut(texts, budget):
    """The first texts with at most so many words together."""
    ends = np.cumsum([len(text) for text in texts])
    return texts[: int(np.searchsorted(ends, budget, side="right"))]
