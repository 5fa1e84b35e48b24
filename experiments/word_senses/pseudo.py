"""Pseudo-words: pairs of nouns of a corpus as one token each, whose senses are known, and their contexts."""

import collections

import numpy as np

from jaxembed import data

GAP = 5  # places between two posts, marked -1, so that no context reaches across


def corpus(length, least):
    """Ids of the first words of 20 Newsgroups, its words by frequency, and which of them are nouns only.

    Left out: words that ``least`` does not reach, of fewer than three letters, or that WordNet does not
    have, which are most function words.
    """
    known = {part: _lemmas(part) for part in ("noun", "verb", "adj", "adv")}
    texts = _listed(_texts(), set().union(*known.values()))
    counts = collections.Counter(word for text in texts for word in text)
    words = [word for word, count in counts.most_common() if count >= least]
    rows, found = {word: i for i, word in enumerate(words)}, []
    for text in texts:
        found += [rows[w] for w in text if w in rows] + [-1] * GAP
        if len(found) >= length:
            break
    others = known["verb"] | known["adj"] | known["adv"]
    nouns = np.array([word in known["noun"] and word not in others and len(word) > 3 for word in words])
    return np.array(found[:length], np.int32), words, nouns


def _listed(texts, known):
    return [[w for w in text.split() if len(w) > 2 and w in known] for text in texts]


def _texts():
    posts = data.newsgroups("train")["texts"]
    return [posts[i] for i in np.random.default_rng(0).permutation(len(posts))]


def _lemmas(part):
    return {word.lower() for sense in data.wordnet(parts=(part,)) for word in sense["lemmas"]}


def merge(ids, nouns, pairs, seed, *, low=200, high=1500):
    """Joins pairs of nouns of middling frequency into one token each.

    Returns the ids with the second word of each pair written as the first, the pairs [P, 2], and which of
    its two words each place holds, -1 elsewhere.
    """
    counts = np.bincount(ids[ids >= 0], minlength=len(nouns))
    able = np.flatnonzero(nouns & (counts >= low) & (counts <= high))
    drawn = np.random.default_rng(seed).permutation(able)[: 2 * pairs]
    if len(drawn) < 2 * pairs:
        raise ValueError(f"--pairs {pairs}: only {len(able)} nouns come {low} to {high} times; choose fewer")
    hidden, merged = np.full(len(ids), -1, np.int32), ids.copy()
    for first, second in drawn.reshape(pairs, 2):
        hidden[ids == first], hidden[ids == second] = 0, 1
        merged[ids == second] = first
    return merged, drawn.reshape(pairs, 2), hidden


def windows(ids, places, reach):
    """Contexts int [B, 2 reach] around places, and the mask of the words that are there."""
    at = places[:, None] + np.delete(np.arange(-reach, reach + 1), reach)
    inside = (at >= 0) & (at < len(ids))
    found = np.where(inside, ids[np.clip(at, 0, len(ids) - 1)], -1)
    return np.maximum(found, 0), found >= 0


class Batches:
    """Batch t: places in an order of each epoch, their contexts, drawn words, the temperature of step t.

    ``noise`` [V] are log probabilities of the words that are drawn for a sampled softmax.
    """

    def __init__(self, ids, places, size, noise, *, reach, negatives, seed, cooling=0):
        self.ids, self.places, self.size, self.reach = ids, places, min(size, len(places)), reach
        self.seed, self.cooling, self.steps = seed, cooling, len(places) // self.size
        self.noise, self.ends, self.negatives = noise, np.cumsum(np.exp(noise)), negatives
        self.epoch, self.order = -1, None

    def __getitem__(self, t):
        epoch, step = divmod(t, self.steps)
        if epoch != self.epoch:
            self.order = np.random.default_rng([self.seed, epoch]).permutation(self.places)
            self.epoch = epoch
        at = self.order[step * self.size : (step + 1) * self.size]
        contexts, mask = windows(self.ids, at, self.reach)
        heat = 1 - 0.5 * min(1, t / self.cooling) if self.cooling else 1.0
        batch = {"words": self.ids[at], "contexts": contexts, "mask": mask, "noise": self.noise}
        drawn = np.random.default_rng([self.seed, 1, t]).random(self.negatives) * self.ends[-1]
        batch["samples"] = np.searchsorted(self.ends, drawn, side="right").astype(np.int32)
        return batch | {"temperature": np.full(len(at), heat, np.float32)}


def prepared(cfg, seed, whole):
    """The corpus with pseudo-words of a seed, or with the labelled contexts of a user before it."""
    ids, words, nouns = whole
    if cfg.contexts is not None:
        return _with_noise(*own(cfg.contexts, ids, words))
    merged, pairs, hidden = merge(ids, nouns, cfg.pairs, seed, low=max(20, cfg.tokens // 5000))
    names = [[words[i] for i in pair] for pair in pairs]
    return _with_noise(merged, words, hidden, pairs[:, 0], names)


def _with_noise(ids, words, hidden, asked, names):
    places = np.flatnonzero(ids >= 0)
    counts = np.bincount(ids[places], minlength=len(words)) ** 0.75
    noise = np.log(np.maximum(counts / counts.sum(), 1e-9)).astype(np.float32)
    found = {"ids": ids, "words": words, "asked": asked, "names": names, "hidden": hidden}
    return found | {"places": places, "noise": noise}


def own(path, ids, words):
    """Labelled contexts put before a corpus: (ids, words, hidden, asked words, names of their senses).

    The file has columns of texts and labels; a label "line.cord" says that the first "line" of its text has
    the sense "cord". Words that the corpus lacks are new.
    """
    rows, senses, found, hidden = {word: i for i, word in enumerate(words)}, {}, [], []
    source = data.labelled_table(path)
    for number, (text, label) in enumerate(zip(source["texts"], source["labels"], strict=True), 1):
        word, _, sense = label.partition(".")
        said = data.words(text)
        if not sense or word not in said:
            raise ValueError(
                f"--contexts {path}, text {number}: label {label!r} is not word.sense of a word in the text"
            )
        known = senses.setdefault(word, {})
        found += [rows.setdefault(w, len(rows)) for w in said] + [-1] * GAP
        place = [-1] * (len(said) + GAP)
        place[said.index(word)] = known.setdefault(sense, len(known))
        hidden += place
    asked = [word for word, known in senses.items() if len(known) > 1]
    if not asked:
        raise ValueError(f"--contexts {path}: no word has two senses; give contexts of both")
    ids = np.concatenate([np.array(found, np.int32), ids])
    hidden = np.pad(np.array(hidden, np.int32), (0, len(ids) - len(hidden)), constant_values=-1)
    names = [list(senses[word]) for word in asked]
    hidden[~np.isin(ids, [rows[word] for word in asked])] = -1
    return ids, list(rows), hidden, np.array([rows[word] for word in asked]), names


def groups(x, count, seed):
    """k-means on unit vectors."""
    from sklearn.cluster import KMeans

    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    return KMeans(count, n_init=4, random_state=seed).fit_predict(x)


def flat(x):
    """Vectors [N, 2]: the parts along their two strongest directions around the mean."""
    x = x.astype(np.float64) - x.mean(axis=0)
    return x @ np.linalg.svd(x, full_matrices=False)[2][:2].T
