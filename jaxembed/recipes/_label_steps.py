"""FastText's classifier: a text is the mean of the rows of its words and n-grams, which tells its label."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import data, losses
from jaxembed.arrays import NONFINITE, first_nonfinite
from jaxembed.checks import check_whole
from jaxembed.data.fasttext import END
from jaxembed.ragged import segment_places
from jaxembed.recipes import _word_steps as steps

TEXTS = 1024  # texts of a call, and texts whose means are held at once
TOLD = "softmax", "one_vs_all", "hierarchical"


def split(texts, tokenize):
    """Lists of words, each with fastText's mark of a line's end."""
    if isinstance(texts, str | bytes):
        raise ValueError(f"texts: {str(texts)[:40]!r} is one text; put it into a list")
    return [[*_words(text, tokenize), END] for text in texts]


def _words(text, tokenize):
    if isinstance(text, str):
        return tokenize(text)
    if not isinstance(text, list | tuple | np.ndarray) or not all(isinstance(word, str) for word in text):
        raise TypeError(f"texts: {str(text)[:40]!r} is neither a text nor a list of words; decode or mend it")
    return text


def _named(labels):
    """A list of str."""
    labels = [labels] if isinstance(labels, str | bytes) else list(labels)
    for n, label in enumerate(labels):
        if not isinstance(label, str):
            raise TypeError(f"labels[{n}]: {str(label)[:40]!r} is not a str; give one for each text")
    return labels


def labelled_corpus(texts, labels, settings, *, min_count, tokenize):
    """What ``data.corpus`` gives, with the rows of all texts, and the labels by falling count."""
    if isinstance(texts, dict):
        raise ValueError("texts: are numbers of words already; give texts, or lists of words")
    lists = split(texts, data.words if tokenize is None else tokenize)
    names, numbers, counts = np.unique(_named(labels), return_inverse=True, return_counts=True)
    if len(numbers) != len(lists):
        raise ValueError(f"labels: {len(numbers)} for {len(lists)} texts; give one str for each")
    if len(names) < 2:
        raise ValueError(f"labels: {len(names)} different ones; a classifier needs at least 2")
    found = data.corpus(lists, min_count=min_count)
    options = {"sizes": settings["ngrams"] or (0, 0), "longest": settings["word_ngrams"]}
    rows = data.fasttext_text_ids(lists, found["words"], buckets=settings["buckets"], **options)
    order = np.argsort(-counts, kind="stable")
    found |= {"rows": rows, "names": names[order].tolist(), "label_counts": counts[order].tolist()}
    return found | {"labels": np.argsort(order)[numbers].astype(np.int32)}


class Labelled:
    """Batches of texts, in another order each epoch: the rows of one text after the other, and its label."""

    def __init__(self, corpus, epochs, rate, seed, tree=None):
        (self.rows, offsets), self.labels = corpus["rows"], corpus["labels"]
        self.starts, self.counts = offsets[:-1], np.diff(offsets)
        self.size, self.tree = min(TEXTS, len(self.labels)), tree or {}
        self.epoch, self.seed, self.rate = -(-len(self.labels) // self.size), seed, rate
        self.steps = epochs * self.epoch
        self.most = int(np.sort(self.counts)[-self.size :].sum()) + steps.PIECE

    def __getitem__(self, t):
        epoch, place = divmod(int(t), self.epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.labels))
        chosen = order[place * self.size : (place + 1) * self.size]
        counts = self.counts[chosen]
        ends, total = np.cumsum(counts), int(counts.sum())
        found = {"pieces": np.zeros(self.most, np.int32), "places": np.zeros(self.most, np.int32)}
        found["pieces"][:total] = self.rows[segment_places(self.starts[chosen], counts)]
        found["bounds"] = np.pad(ends, (1, self.size - len(chosen)), mode="edge").astype(np.int32)
        found["bounds"][0] = 0
        found["sizes"] = np.pad(np.maximum(counts, 1), (0, self.size - len(chosen))).astype(np.float32)
        found["labels"] = np.pad(self.labels[chosen], (0, self.size - len(chosen)))
        ends = [self.rate * (1 - x / self.steps) for x in (t, t + 1)]
        return found | {"rates": np.array(ends, np.float32), "steps": np.int32(len(chosen))} | self.tree


def text_loss(hidden, output, label, batch, count):
    """The loss of one text [1, D]: softmax over ``count`` labels, or the way to its label in a tree."""
    if "codes" in batch:
        way = (batch[name][label] for name in ("codes", "points", "inside"))
        return losses.hierarchical_softmax(hidden, output, *way)[0]
    where = jnp.arange(len(output))[None] < count
    return losses.softmax_loss(hidden @ output.T, positives=label, where=where)[0]


@functools.lru_cache(maxsize=32)
def label_update(count):
    """``(init, step)`` for ``train.fit``: SGD of one text after the other, each row by its share of the mean.

    The arithmetic of ``tables.row_update`` with ``optax.sgd`` on batches of one text.
    """
    slopes = jax.value_and_grad(functools.partial(text_loss, count=count), argnums=(0, 1))

    def small(at, state, batch):
        params, total = state
        read, write = steps.listed_means(batch, 1)
        label = jax.lax.dynamic_slice_in_dim(batch["labels"], at, 1)
        hidden, table = read(params, at, None), params["output"]["embedding"]
        loss, (one, two) = slopes(hidden, table, label, batch)
        rate = batch["rates"][0] + (batch["rates"][1] - batch["rates"][0]) * at / batch["steps"]
        inputs = write(params, at, None, -rate * one / batch["sizes"][at])
        changed = {"input": {"embedding": inputs}, "output": {"embedding": table - rate * two}}
        return changed, total + loss

    def step(state, batch, key):
        start = state.params, jnp.zeros(())
        params, total = jax.lax.fori_loop(0, batch["steps"], lambda at, x: small(at, x, batch), start)
        metrics = {"loss": total / batch["steps"], NONFINITE: first_nonfinite(params)}
        return dataclasses.replace(state, params=params), metrics

    return lambda params: (), step


def label_tree(counts):
    """The Huffman tree of labels, as arrays that every batch carries."""
    return dict(zip(("codes", "points", "inside"), losses.huffman(np.array(counts)), strict=True))


def text_means(model, lists):
    """The mean rows [N, D] of texts, and which texts have a row, bool [N]."""
    table = model.vectors if model.rows is None else model.rows
    options = {"sizes": model.sizes, "longest": model.settings.get("word_ngrams", 1)}
    options |= {"buckets": model.buckets, "kept": model.kept}
    found = np.zeros((len(lists), table.shape[1]), np.float32)
    real = np.zeros(len(lists), bool)
    for start in range(0, len(lists), TEXTS):
        ids, offsets = data.fasttext_text_ids(lists[start : start + TEXTS], model._index, **options)
        counts = np.diff(offsets)
        own = np.flatnonzero(counts)
        if len(own):
            sums = np.add.reduceat(table[ids], offsets[own], axis=0)
            found[start + own], real[start + own] = sums / counts[own][:, None], True
    return found, real


def text_vectors(model, texts, tokenize):
    """fastText's vectors of texts float32 [N, D], see ``Words.text_vectors``."""
    lists = split(texts, _tokenizer(model, tokenize))
    if model.labels is not None:
        return text_means(model, lists)[0]
    table, places = [np.zeros(model.vectors.shape[1], np.float32)], {}
    for word in {word for words in lists for word in words[:-1]}:
        vector = model.vector(word) if word in model or len(model._ngram_rows(word)) else table[0]
        norm = np.linalg.norm(vector)
        if norm:
            places[word] = len(table)
            table.append(vector / norm)
    known, table = [[places[w] for w in words[:-1] if w in places] for words in lists], np.stack(table)
    found = np.zeros((len(lists), table.shape[1]), np.float32)
    for n, rows in enumerate(known):
        found[n] = table[rows].mean(axis=0) if rows else 0
    return found


def _tokenizer(model, tokenize):
    """That of the training: fastText's own program splits at white space."""
    return tokenize or (str.split if "loss" in model.settings else data.words)


def classify(model, texts, k, tokenize):
    """Lists of (label, probability), see ``Words.classify``."""
    if model.labels is None:
        raise ValueError('words: hold no labels; train them with kind="supervised", labels=...')
    own = model.settings.get("objective")
    check_whole(1, k=k)
    objective = own or model.settings.get("loss")
    if objective not in (TOLD if own else TOLD[:2]):
        raise ValueError(f"words: a file with loss {objective!r} is not read; train it with softmax")
    hidden, real = text_means(model, split(texts, _tokenizer(model, tokenize)))
    told = []
    for start in range(0, len(hidden), TEXTS):
        chances = _chances(model, hidden[start : start + TEXTS], objective)
        order = np.argsort(-chances, axis=1, kind="stable")[:, :k]
        for row, best in zip(chances, order, strict=True):
            told.append([(model.labels[i], float(row[i])) for i in best])
    return [row if known else [] for row, known in zip(told, real, strict=True)]


def _chances(model, hidden, objective):
    """Probabilities [N, L] of the labels."""
    scores = hidden @ model.output.T
    if objective == "softmax":
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)
    if objective == "one_vs_all":
        return 1 / (1 + np.exp(-scores))
    tree = label_tree(model.settings["label_counts"])
    turns = np.where(tree["codes"] == 1, -1, 1) * scores[:, tree["points"]]
    return np.exp(-np.sum(np.where(tree["inside"], np.logaddexp(0, -turns), 0), axis=2))
