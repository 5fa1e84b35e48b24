"""Classifiers of documents on word vectors: the mean, a convolution, and RCNN, at equal steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shared import results
from jaxembed import data, encoders, losses, metrics, train

MEAN, CNN, RCNN = "mean of words", "CNN", "RCNN"
KINDS = {
    MEAN: {"kind": "mean"},
    CNN: {"kind": "cnn", "sizes": (3, 4, 5), "filters": 50},
    RCNN: {"kind": "rcnn", "context": 50, "width": 100},
}
TRIED = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # rates of Adam
RATES = {MEAN: 3e-2, CNN: 1e-2, RCNN: 3e-3}  # those chosen on validation texts, by --validate
GROUPS = ("comp", "politics", "rec", "religion")  # of 20 Newsgroups, the four of the paper
LETTERS = 8  # of the toy texts


def group(label):
    """Which of GROUPS a newsgroup is in, or None."""
    first, _, rest = label.partition(".")
    found = next((part for part in rest.split(".") if part in GROUPS), first)
    return GROUPS.index(found) if found in GROUPS else None


def read(split, most=None, seed=0):
    """Words and labels of the newsgroups of GROUPS: (list of lists of str, int [N])."""
    source = data.newsgroups(split)
    pairs = [(text.split(), group(label)) for text, label in zip(*source.values(), strict=True)]
    pairs = [pair for pair in pairs if pair[1] is not None]
    order = np.random.default_rng(seed).permutation(len(pairs))[:most]
    lists, labels = zip(*(pairs[i] for i in order), strict=True)
    return list(lists), np.array(labels, np.int32)


def numbered(lists, labels, words, length):
    """Texts as arrays: known words alone, the first ``length`` of each; row 0 of a table is padding."""
    rows = {word: i for i, word in enumerate(words, start=1)}
    ids = np.zeros((len(lists), length), np.int32)
    for row, text in zip(ids, lists, strict=True):
        known = [rows[word] for word in text if word in rows][:length]
        row[: len(known)] = known
    return {"ids": ids, "mask": ids > 0, "labels": labels}


def load(*, words=None, documents=3000, test=1500, length=80, least=3):
    """{"train", "validation", "test": arrays, "words": list}; a sixth of the training texts validates."""
    lists, labels = read("train", documents)
    cut = len(lists) // 6
    if words is None:
        words = data.corpus(lists[cut:], min_count=least)["words"]
    parts = {"validation": (lists[:cut], labels[:cut]), "train": (lists[cut:], labels[cut:])}
    parts["test"] = read("test", test)
    return {name: numbered(*part, words, length) for name, part in parts.items()} | {"words": words}


def network(name, table, classes):
    """(init, logits) of a classifier whose word vectors start at ``table`` [V, E]."""
    width = table.shape[1]
    net = encoders.text_network(
        lambda key: {"table": {"embedding": jnp.concatenate([jnp.zeros((1, width)), table])}},
        lambda params, batch: (params["table"]["embedding"][batch["ids"]], batch["mask"]),
        inputs=width,
        dropout=0.5 if len(table) > LETTERS else 0.0,
        **KINDS[name],
    )
    size = {MEAN: width, CNN: 150, RCNN: 100}[name]

    def init(key):
        first, second = jax.random.split(key)
        return net.init(first) | {"head": encoders.init_mlp(second, (size, classes))}

    def logits(params, batch, key=None):
        return encoders.mlp(params["head"], net.encode(params, batch, key))

    return init, logits


def fit(name, table, texts, steps, batch_size, seed, rate=None):
    """A function batch -> classes int [B] of a classifier that was trained on texts."""
    init, logits = network(name, table, int(texts["labels"].max()) + 1)

    def loss_fn(params, batch, key):
        scores = logits(params, batch, key)
        return losses.softmax_loss(scores, positives=batch["labels"]).mean(), {}

    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate or RATES[name]))
    given = {"init": init, "loss_fn": loss_fn, "tx": tx, "steps": steps, "key": seed, "progress": False}
    state = train.fit(batches=data.batches(texts, batch_size, seed=seed), **given)
    tell = jax.jit(lambda batch: jnp.argmax(logits(state.params, batch), axis=1))

    def told(texts):
        parts = [{k: x[i : i + 500] for k, x in texts.items()} for i in range(0, len(texts["ids"]), 500)]
        return np.concatenate([np.asarray(tell(part)) for part in parts])

    return told


def compare(texts, vectors=None, *, seeds=5, steps=300, batch_size=32, part="test", rates=None):
    """A row for each classifier: macro-F1 and accuracy on a part of the texts, with "runs" of all seeds.

    Args:
        texts: of :func:`load`.
        vectors: [V, E] of ``texts["words"]``; random ones of width 50 when None.
        seeds: number of runs.
        steps: of ``batch_size`` texts.
        part: "test", or "validation" where settings are chosen.
        rates: optional {classifier: rate} in place of RATES.
    """
    rows = []
    for name in KINDS:
        runs = []
        for seed in range(seeds):
            table = vectors
            if table is None:
                table = 0.1 * np.random.default_rng(seed).normal(size=(len(texts["words"]), 50))
            table = jnp.asarray(table, jnp.float32)
            told = fit(name, table, texts["train"], steps, batch_size, seed, (rates or {}).get(name))
            truth, said = texts[part]["labels"], told(texts[part])
            runs.append(
                {"macro-F1": metrics.macro_f1(truth, said), "accuracy": float(np.mean(truth == said))}
            )
        rows.append(_row({"classifier": name}, runs))
    return rows


@functools.cache
def toy_texts(count=2048):
    """Texts of ``data.toy.far_order``; letter n is row n + 1 of the table."""
    sets = [data.toy.far_order(seed, count=count, letters=LETTERS) for seed in (0, 1)]
    return [{**s, "ids": s["ids"] + 1, "mask": np.ones(s["ids"].shape, bool)} for s in sets]


def order(*, seeds=3, steps=400):
    """A row for each classifier: accuracy in telling which of two letters, far apart, comes first."""
    known, asked = toy_texts()
    rows = []
    for name in KINDS:
        runs = []
        for seed in range(seeds):
            told = fit(name, jnp.eye(LETTERS), known, steps, 128, seed, 1e-2)
            runs.append({"accuracy": float(np.mean(told(asked) == asked["labels"]))})
        rows.append(_row({"classifier": name}, runs))
    return rows


def _row(row, runs):
    for name in runs[0]:
        row[name], row[f"± {name}"] = results.spread([run[name] for run in runs])
    return row | {"runs": runs}
