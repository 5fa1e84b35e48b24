"""What experiments that fine-tune a text encoder over layers and sizes share: pairs, training, scores."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import nested, text_models
from jaxembed import data, losses, metrics, train
from jaxembed.arrays import unit

STS = {"train": "stsb-en-train.csv", "dev": "stsb-en-dev.csv", "test": "stsb-en-test.csv"}
LEAST = 40  # pairs of a file: a tenth of them are dev, a tenth test


def read_pairs(*, sts=None, pairs=None, paper=False, most=500):
    """The three parts of a set of pairs, each as ``data.sentence_pairs`` gives it, in a fixed order.

    Args:
        sts: folder of STS-B, for dev and test, and for train without ``paper``.
        pairs: a file of pairs of one's own; a tenth is dev and a tenth test.
        paper: train on AllNLI.
        most: pairs of dev and of test that are kept where docstrings are the data.

    Returns:
        {"train", "dev", "test"}. Without ``sts`` and ``pairs``: the first sentences of docstrings and the
        rest of them, dev and test from modules that are not trained on.
    """
    if sts is not None and pairs is not None:
        raise ValueError("--sts --pairs: choose one of them")
    if paper and sts is None:
        raise ValueError("--paper: needs --sts, the folder of STS-B, to choose and to test on")
    if sts is not None:
        found = {part: data.sentence_pairs(sts / name) for part, name in STS.items()}
        return found | {"train": all_nli()} if paper else found
    if pairs is not None:
        return _split(data.sentence_pairs(pairs), pairs)
    records = [r for r in data.docstrings(progress=True) if len(r["docstring"].split()) >= 5]
    names, found = {"train": "train", "dev": "validation", "test": "test"}, {}
    for part, split in names.items():
        some = [r for r in records if r["split"] == split]
        some = list({r["query"]: r for r in {r["docstring"]: r for r in some}.values()}.values())
        order = np.random.default_rng(0).permutation(len(some))[: None if part == "train" else most]
        found[part] = {
            n: [some[i][m] for i in order] for n, m in (("first", "query"), ("second", "docstring"))
        }
    return found


def _split(pairs, path):
    count = len(pairs["first"])
    if count < LEAST:
        raise ValueError(f"--pairs {path}: {count} pairs; at least {LEAST}, of which a fifth is held out")
    order, tenth = np.random.default_rng(0).permutation(count), count // 10
    cuts = {"dev": order[:tenth], "test": order[tenth : 2 * tenth], "train": order[2 * tenth :]}
    return {part: {n: [x[i] for i in rows] for n, x in pairs.items()} for part, rows in cuts.items()}


def all_nli():
    """SNLI and MultiNLI through TFDS: premise, a sentence that follows, one that contradicts."""
    found = {}
    for name in ("snli", "multi_nli"):
        for record in data.tfds(name, "train"):
            if record["label"] in (0, 2):
                found.setdefault(record["premise"], {}).setdefault(int(record["label"]), record["hypothesis"])
    rows = [(p, h[0], h[2]) for p, h in found.items() if len(h) == 2]
    return dict(zip(("first", "second", "negatives"), map(list, zip(*rows, strict=True)), strict=True))


def arrays(encoder, pairs, length):
    """Token ids of the 2 or 3 texts of each pair, its grade, and what tells equal texts apart.

    Returns:
        {"ids": int32 [N, K, length], "mask": bool [N, K, length], "keys": int32 [N, K][, "targets": [N]]}.
    """
    sides = [pairs[n] for n in ("first", "second", "negatives") if n in pairs]
    made = [text_models.tokens(encoder, side, length) for side in sides]
    batch = {n: np.stack([m[n] for m in made], axis=1) for n in ("ids", "mask")}
    batch["keys"] = text_models.keys(*sides)
    return batch | ({"targets": np.asarray(pairs["scores"], np.float32)} if "scores" in pairs else {})


def layer_vectors(encoder, params, batch):
    """The vector of every block of every text: arrays ids and mask [N, K, T] -> [N, K, L+1, D].

    Vectors are scaled to the length sqrt(D), the scale of a layer norm, whatever head the encoder has.
    """
    count, texts, length = batch["ids"].shape
    flat = {n: batch[n].reshape(count * texts, length) for n in ("ids", "mask")}
    found = encoder.encode_layers(params, flat)
    return (unit(found) * found.shape[-1] ** 0.5).reshape(count, texts, *found.shape[1:])


def make_update(encoder, recipe, rate, steps, *, pull=nested.pull_features):
    """One step of AdamW on all but the word vectors: CoSENT where pairs have grades, else InfoNCE."""

    def loss_fn(params, batch, key):
        layers = layer_vectors(encoder, params, batch)
        first, second, *hard = (layers[:, k] for k in range(layers.shape[1]))
        if "targets" in batch:

            def loss(*vectors):
                return losses.cosent(*vectors, targets=batch["targets"])
        else:
            where = losses.duplicate_mask(*text_models.sides(batch["keys"]), blocks=("qd",))

            def loss(first, second):
                return losses.info_nce(first, second, where=where)

        second = jnp.concatenate([second, *hard])
        return nested.objective(recipe, loss, pull, key, first, second), {}

    warm = optax.warmup_cosine_decay_schedule(0, rate, max(1, steps // 10), max(2, steps))
    return train.gradient_update(loss_fn, train.frozen(optax.adamw(warm), "^table/"))


def fit(encoder, update, *, batch, steps, size, seed):
    """Trains the encoder on rows of a batch; returns it with the new parameters."""

    def make(rows):
        return text_models.take(batch, rows)

    rows = data.batches(np.arange(len(batch["keys"])), size, make=make, seed=seed)
    given = {"batches": rows, "steps": steps, "key": seed, "mesh": text_models.mesh_for(size)}
    params = train.fit(init=encoder_init(encoder), update=update, **given).params
    return dataclasses.replace(encoder, params=params)


def finite(encoder):
    """Whether all parameters are numbers."""
    return all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(encoder.params))


def choose(encoder, recipe, batch, rates, targets, *, seeds, steps, size):
    """Trains an arm at the rate that is best on the dev pairs, for each seed.

    Args:
        encoder: where training starts.
        recipe: of the arm.
        batch: {"train", "dev"} of :func:`arrays`.
        rates: learning rates; seed 0 is trained with each of them.
        targets: pairs (layer, size) whose mean score on dev is compared.
        seeds: of the order of the pairs and of what the recipe draws.
        steps, size: of the training.

    Returns:
        (list of one encoder per seed, the rate, {rate: its mean score on dev}), which is empty for one rate.
    """
    update = {rate: make_update(encoder, recipe, rate, steps) for rate in rates}
    run = functools.partial(fit, encoder, batch=batch["train"], steps=steps, size=size)
    first = {rate: run(update[rate], seed=0) for rate in rates}
    good = [rate for rate in rates if finite(first[rate])]
    for rate in set(rates) - set(good):
        print(f"at rate {rate} training diverges", flush=True)
    if not good:
        raise ValueError(f"--rates {' '.join(map(str, rates))}: training diverges; choose smaller ones")
    dev = {}
    if len(good) > 1:
        dev = {rate: float(scores(first[rate], batch["dev"], targets).mean()) for rate in good}
    best = max(dev, key=dev.get) if dev else good[0]
    return [first[best], *(run(update[best], seed=s) for s in range(1, seeds))], best, dev


@functools.lru_cache(maxsize=2)
def encoder_init(encoder):
    """``key -> params``: those of the encoder, whatever the key."""
    return lambda key: jax.tree.map(jnp.copy, encoder.params)


def scores(encoder, batch, pairs, size=128):
    """What every pair (layer, size) is worth: Spearman with the grades, or Recall@10 among all second texts.

    Args:
        encoder: an ``Encoder``.
        batch: of :func:`arrays`.
        pairs: list of P pairs (layer, size).
        size: rows that are encoded together.

    Returns:
        float [P].
    """
    count = len(batch["keys"])
    filled = np.resize(np.arange(count), -(-count // size) * size).reshape(-1, size)
    given = {n: batch[n][:, :2] for n in ("ids", "mask")}
    found = [
        np.asarray(layer_vectors(encoder, encoder.params, text_models.take(given, rows))) for rows in filled
    ]
    layers = np.concatenate(found)[:count]

    def one(n, size):
        first, second = np.moveaxis(np.asarray(unit(layers[:, :, n, :size])), 1, 0)
        if "targets" in batch:
            return metrics.spearman((first * second).sum(axis=1), batch["targets"])
        table = first @ second.T
        ahead = ~(table <= np.diag(table)[:, None])  # what is no number is never found
        return float((ahead.sum(axis=1) < 10).mean())

    return np.array([one(*pair) for pair in pairs])
