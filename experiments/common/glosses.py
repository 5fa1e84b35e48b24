"""What experiments on definitions and pairs of texts share: WordNet's senses, own files, ranks."""

import jax.numpy as jnp
import numpy as np

from jaxembed import data, metrics
from jaxembed.arrays import inner, unit


def shorten(text, rng, share=0.3):
    """Drops a share of the words of a text, at least one of them and never all."""
    words = text.split()
    dropped = min(max(1, round(share * len(words))), len(words) - 1)
    kept = np.sort(rng.permutation(len(words))[dropped:])
    return " ".join(words[i] for i in kept)


def places(queries, documents):
    """The place of each query's own document among all documents by cosine, from 1; ties count against it."""
    scores = np.asarray(inner(unit(jnp.asarray(queries)), unit(jnp.asarray(documents))))
    own = np.diagonal(scores)[:, None]
    return (~(scores < own)).sum(axis=1)  # what is no number is never found


def similarity(folder):
    """A function ``encode_texts -> Spearman correlation`` on the test pairs of STS-B in a folder."""
    pairs = data.sentence_pairs(folder / "stsb-en-test.csv")

    def score(encode_texts):
        found = metrics.evaluate_similarity(encode_texts, pairs["first"], pairs["second"], pairs["scores"])
        return found["spearman"]

    return score


def own_pairs(path):
    """Texts of a file of pairs that belong together: queries, documents and, or None, hard negatives."""
    pairs = data.sentence_pairs(path)
    if "scores" in pairs:
        raise ValueError(f"--pairs {path}: the third column holds scores; leave pairs that belong together")
    return pairs["first"], pairs["second"], pairs.get("negatives")


def entailments(**options):
    """The same of SNLI and MultiNLI: a premise, what it entails and what contradicts it.

    ``options`` are those of ``data.tfds``, which opens both.
    """
    found = {}
    for name in ("snli", "multi_nli"):
        for record in data.tfds(name, "train", **options):
            found.setdefault(record["premise"], {}).setdefault(int(record["label"]), record["hypothesis"])
    triplets = [(premise, texts[0], texts[2]) for premise, texts in found.items() if {0, 2} <= texts.keys()]
    return tuple(map(list, zip(*triplets, strict=True)))


def spread(values):
    """Mean and standard deviation of a list of numbers, the latter None for one number."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
