"""Texts with labels, and their vectors: contextual, from a table of word pieces, from words with n-grams."""

import collections
import dataclasses

import jax
import numpy as np

from jaxembed import arrays, data, recipes, vectors

CONTEXT, FIRST, EMBEDDED = "contextual", "contextual, first token", "embedding layer"
TABLE, PIECES = "table", "table, same text"
FASTTEXT, WORDS, CODED = "fastText", "words alone", "fastText, quantised"


def corpus(most=None):
    """Texts that word vectors are trained on: news, newsgroups, definitions and books of the machine."""
    lists = [data.words(gloss["gloss"]) for gloss in data.wordnet()]
    for source in (data.newsgroups("train"), data.reuters("train"), data.book_excerpts()):
        lists += [data.words(text) for text in source["texts"]]
    order = np.random.default_rng(0).permutation(len(lists))
    return [lists[i] for i in order[:most]]


def tasks(count, part=0):
    """{name: (texts, labels)} of ``count`` texts each; part 0 is measured, settings are chosen on part 1.

    Texts that word vectors are trained on are not left out.
    """
    senses = [(s["gloss"], str(s["file"])) for s in data.wordnet() if s["gloss"]]
    found = {"WordNet": senses}
    for name, source in (("newsgroups", data.newsgroups("test")), ("R8", data.reuters("test"))):
        found[name] = list(zip(source["texts"], source["labels"], strict=True))
    return {name: chosen(pairs, count, part=part) for name, pairs in found.items()}


def chosen(pairs, count, least=10, part=0):
    """At most ``count`` pairs, of labels with at least ``least`` texts among them; parts are disjoint."""
    order = np.random.default_rng(1).permutation(len(pairs))[part * count : (part + 1) * count]
    pairs = [pairs[i] for i in order]
    held = collections.Counter(label for _, label in pairs)
    kept = [pair for pair in pairs if held[pair[1]] >= least]
    if len({label for _, label in kept}) < 2:
        raise ValueError(f"texts: fewer than two labels have {least} texts or more; give more texts")
    return [text for text, _ in kept], [label for _, label in kept]


def own(folder):
    """{file: (texts, labels)} of the labelled files in a folder: .csv and .tsv, or .txt as fastText's."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".csv", ".tsv", ".txt"):
            source = data.labelled_lines(path) if path.suffix == ".txt" else data.labelled_table(path)
            found[path.name] = list(zip(source["texts"], source["labels"], strict=True))
    if not found:
        raise ValueError(f"--texts {folder}: holds no .csv, .tsv or .txt file; put labelled texts into it")
    return found


def of_encoder(encoder, texts, length, rows=64):
    """{name: [N, D]} of a text encoder: means of the last states, of what block 1 reads, and of the table.

    Special tokens are in no mean; the last state of the first one is a feature of its own.
    """
    batch = encoder.tokenize(texts, prompt="", length=min(length, encoder.max_length))
    special = np.unique(encoder.tokenize([""], prompt="")["ids"])
    table = encoder.params["table"]["embedding"]

    @jax.jit
    def run(ids, mask, real):
        given = {"ids": ids, "mask": mask}
        context = encoder.hidden(encoder.params, given)["tokens"]
        embedded = encoder.hidden(encoder.params, given, layers=0)["tokens"]
        states = {CONTEXT: context, EMBEDDED: embedded, TABLE: table[ids]}
        means = {name: arrays.masked_mean(x, real) for name, x in states.items()}
        return means | {FIRST: context[:, 0]}

    order = np.argsort(batch["mask"].sum(axis=1), kind="stable")
    found = {}
    for start in range(0, len(texts), rows):
        part = np.resize(order[start : start + rows], rows)  # repeats texts to fill the last batch
        ids, mask = batch["ids"][part], batch["mask"][part]
        cut = min(ids.shape[1], -(-int(mask.sum(axis=1).max()) // 16) * 16)
        real = mask & ~np.isin(ids, special)
        for name, x in run(ids[:, :cut], mask[:, :cut], real[:, :cut]).items():
            found.setdefault(name, np.zeros((len(texts), x.shape[1]), np.float32))[part] = x
    return found


def train(lists, *, width, epochs, buckets, ngrams=None, seed=0):
    """Word vectors of lists of words, by skip-gram; with fastText's settings where there are ``ngrams``."""
    power, sample = (0.5, 1e-4) if ngrams else (0.75, 1e-3)
    rates = {"rate": 0.05, "power": power, "sample": sample}
    return recipes.train_words(
        lists, width=width, epochs=epochs, ngrams=ngrams, buckets=buckets, seed=seed, progress=False, **rates
    )


def quantised(words, group):
    """The words with rows of product codes, a byte for each ``group`` coordinates."""
    rows = np.asarray(words.rows if words.rows is not None else words.vectors)
    params = vectors.fit_product(jax.random.key(0), rows, group=group)
    coded = np.asarray(vectors.decode_product(params, vectors.encode_product(params, rows)))
    if words.rows is None:
        return dataclasses.replace(words, vectors=coded)
    ids, mask = data.fasttext_ids(words.words, len(words), sizes=words.sizes, buckets=words.buckets)
    total = (coded[ids] * mask[..., None]).sum(axis=1) + coded[: len(words)]
    return dataclasses.replace(words, vectors=total / (1 + mask.sum(axis=1))[:, None], rows=coded)


def flat(x, seed=0):
    """t-SNE [N, 2] of vectors by scikit-learn's usual settings, and its trustworthiness for 10 neighbours."""
    from sklearn.manifold import TSNE, trustworthiness

    places = TSNE(init="pca", random_state=seed).fit_transform(x)
    return places, float(trustworthiness(x, places, n_neighbors=10))


def maps(task, arms, found, labels, points):
    """A map of some texts of a task by each of several features: places, trustworthiness and classes."""
    kinds = sorted(set(labels))
    drawn = {"task": task, "labels": [kinds.index(label) for label in labels[:points]], "names": kinds}
    for arm in arms:
        places, trust = flat(found[arm][:points])
        drawn[arm] = {"places": places.round(2).tolist(), "trustworthiness": trust}
    return drawn


def size_in_mb(words, group=None):
    """Megabytes of the rows of words and n-grams, as floats or as product codes."""
    count, width = (words.rows if words.rows is not None else words.vectors).shape
    return count * (width * 4 if group is None else width // group) / 1e6
