"""Rows on words: hierarchical softmax, aligned spaces, post-processing, averages of sentences, numbers."""

import functools

import numpy as np

from jaxembed import arrays, data, encoders, metrics, ragged, recipes, vectors

EPOCHS = 3
TREE_RATE, COMPONENTS = 0.05, 1  # chosen by --validate, of which the rate is the largest tried


@functools.cache
def corpus(count):
    """Word numbers of the first posts, in an order of chance that is the same for all."""
    texts = [text.split() for text in data.newsgroups("train")["texts"]]
    return data.corpus([texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:count]])


@functools.cache
def trained(seed, count, objective="negative_sampling", rate=0.025):
    """Word vectors of newsgroup posts, those of an objective and a seed."""
    given = {"width": 50, "epochs": EPOCHS, "objective": objective, "seed": seed, "rate": rate}
    return recipes.train_words(corpus(count), progress=False, **given)


def similarity(words, vectors=None, name="wordsim353"):
    """Spearman's correlation with judged pairs; pairs with unknown words are left out."""
    pairs, vectors = data.word_pairs(name), words.vectors if vectors is None else np.asarray(vectors)
    both = list(zip(pairs["first"], pairs["second"], strict=True))
    return metrics.word_similarity(vectors, words.words, both, pairs["scores"], fold=True)["spearman"]


def hierarchical(cfg, seed):
    """Row 5: hierarchical softmax, beside negative sampling on the same text."""
    tree, plain = trained(seed, cfg.texts, "hierarchical", TREE_RATE), trained(seed, cfg.texts)
    return {"ours": similarity(tree), "beside": similarity(plain)}


def both_trainings(cfg, seed, count):
    """The most frequent words of two trainings: unit rows [N, D] without their mean."""
    made = (trained(seed + i, cfg.texts).vectors[:count] for i in (0, 1))
    x, y = (np.asarray(arrays.unit(rows)) for rows in made)
    return x - x.mean(axis=0), y - y.mean(axis=0)


def aligned(cfg, seed, frequent=500):
    """Row 18: how often the nearest word of another training is the word itself, turned and as it is."""
    x, y = both_trainings(cfg, seed, 4 * frequent)
    turn = vectors.procrustes(x[frequent:], y[frequent:])  # fitted to other words than those asked

    def share(x):
        nearest = np.asarray(vectors.csls(x[:frequent], y)).argmax(axis=1)
        return float(np.mean(nearest == np.arange(frequent)))

    return {"ours": share(x @ np.asarray(turn)), "beside": share(x)}


def refined(cfg, seed, frequent=500, known=20):
    """Row 18: the same from a dictionary of few words that are not asked, after rounds and before."""
    x, y = both_trainings(cfg, seed, 4 * frequent)
    some = frequent + np.random.default_rng(seed).choice(len(x) - frequent, known, replace=False)
    found = {}
    for name, rounds in (("ours", 5), ("beside", 0)):
        turned = vectors.refined_procrustes(x, y, np.stack([some, some], axis=1), rounds=rounds)
        found[name] = float(np.mean(np.asarray(turned["nearest"])[:frequent] == np.arange(frequent)))
    return found


def agreement(cfg, seed, frequent=500):
    """Row 27: representational similarity of two trainings, and of one with its words shuffled."""
    one, two = (trained(seed + i, cfg.texts).vectors[:frequent] for i in (0, 1))
    mixed = np.random.default_rng(seed).permutation(frequent)
    return {"ours": metrics.rsa(one, two), "beside": metrics.rsa(one, two[mixed])}


def removed(words, components):
    """Vectors without their mean and strongest directions."""
    return vectors.standardise(vectors.fit_removal(words.vectors, components=components), words.vectors)


def post_processed(cfg, seed):
    """Row 26: WordSim-353 after the mean and the strongest direction are removed, and before."""
    words = trained(seed, cfg.texts)
    return {"ours": similarity(words, removed(words, COMPONENTS)), "beside": similarity(words)}


def settings(cfg):
    """Choices of rows 5, 14 and 26 on data that no row measures: MEN's pairs, and posts of "train"."""
    seeds, found = range(cfg.seeds), []
    for rate in (0.0125, 0.025, 0.05):
        runs = [similarity(trained(s, cfg.texts, "hierarchical", rate), name="men") for s in seeds]
        found.append(("5", "rate", rate, runs))
    for count in (0, 1, 2, 5):
        made = [trained(s, cfg.texts) for s in seeds]
        runs = [similarity(w, removed(w, count) if count else None, "men") for w in made]
        found.append(("26", "directions", count, runs))
    for smoothing in (1e-4, 1e-3, 1e-2):
        runs = [sentences(cfg, s, smoothing, "train")["ours"] for s in seeds]
        found.append(("14", "smoothing", smoothing, runs))
    return [{"row": r, "setting": n, "value": v, "measure": float(np.mean(x))} for r, n, v, x in found]


def sentences(cfg, seed, smoothing=1e-3, split="test"):
    """Row 14: SIF, beside the mean of words: the group of the nearest posts' first words."""
    words = trained(seed, cfg.texts)
    source = data.newsgroups(split)
    order = np.random.default_rng(seed).permutation(len(source["texts"]))[: 2 * cfg.documents]
    labels = np.array(source["labels"])[order]
    rows = {word: i for i, word in enumerate(words.words)}
    lists = [[rows[w] for w in source["texts"][i].split() if w in rows] for i in order]
    ids, mask = ragged.pad(lists, 30)
    share = words.counts / words.counts.sum()
    found, half = {}, len(ids) // 2
    for name, shares in (("beside", np.zeros(len(rows))), ("ours", share)):
        weights = encoders.sif_weights(shares, ids, mask, smoothing=smoothing)
        x = np.asarray(encoders.weighted_bag(words.vectors, ids, weights))
        if name == "ours":
            x = vectors.standardise(vectors.fit_removal(x[:half], components=1, centre=False), x)
        x = np.asarray(arrays.unit(x))
        found[name] = metrics.nearest_accuracy(x[:half], labels[:half], x[half:], labels[half:])
    return found
