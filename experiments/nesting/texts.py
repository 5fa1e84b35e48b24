"""A text encoder fine-tuned over layers and sizes: pairs of texts, training, and what each pair is worth."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shared import flags, inputs, text_models
from jaxembed import data, losses, metrics, train
from jaxembed.arrays import unit

LEAST = 40  # pairs of a file: a tenth of them are dev, a tenth test
MOST = {"validation": 500, "test": 500}  # docstrings that are kept


def checked_encoder(cfg):
    """Refuses what the text part would stumble over; returns the encoder."""
    inputs.sts(cfg.sts, *inputs.STS)
    encoder = text_models.load(cfg.model)
    flags.at_most(cfg, "length", encoder.max_length, f"the encoder reads {encoder.max_length} tokens")
    return encoder


def read_pairs(*, sts=None, pairs=None, paper=False, quick=False):
    """The three parts of a set of pairs, each as ``data.sentence_pairs`` gives it, in a fixed order.

    Args:
        sts: folder of STS-B, for dev and test, and for train without ``paper``.
        pairs: a file of pairs of one's own; a tenth is dev and a tenth test.
        paper: train on AllNLI.
        quick: keep few docstrings for dev and test.

    Returns:
        {"train", "dev", "test"}. Without ``sts`` and ``pairs``: the first sentences of docstrings and the
        rest of them, dev and test from modules that are not trained on.
    """
    if sts is not None and pairs is not None:
        raise ValueError("--sts --pairs: choose one of them")
    if paper and sts is None:
        raise ValueError("--paper: needs --sts, the folder of STS-B, to choose and to test on")
    if sts is not None:
        found = {part: data.sentence_pairs(sts / name) for part, name in inputs.STS.items()}
        return found | {"train": data.all_nli()} if paper else found
    if pairs is not None:
        found = data.sentence_pairs(pairs)
        count = len(found["first"])
        if count < LEAST:
            raise ValueError(
                f"--pairs {pairs}: {count} pairs; at least {LEAST}, of which a fifth is held out"
            )
        return data.split_pairs(found)
    records = [r for r in data.docstrings(progress=True) if len(r["docstring"].split()) >= 5]
    names = {"train": "train", "dev": "validation", "test": "test"}
    return {part: _docstrings(records, split, quick) for part, split in names.items()}


def _docstrings(records, split, quick):
    """Pairs of one part, each query and each docstring once."""
    some = [r for r in records if r["split"] == split]
    some = list({r["query"]: r for r in {r["docstring"]: r for r in some}.values()}.values())
    most = 60 if quick and split in MOST else MOST.get(split)
    order = np.random.default_rng(0).permutation(len(some))[:most]
    return {n: [some[i][m] for i in order] for n, m in (("first", "query"), ("second", "docstring"))}


def arrays(encoder, pairs, length):
    """Token ids of the 2 or 3 texts of each pair, its grade, and what tells equal texts apart.

    Returns:
        {"ids": int32 [N, K, length], "mask": bool [N, K, length], "keys": int32 [N, K][, "targets": [N]]}.
    """
    sides = [pairs[n] for n in ("first", "second", "negatives") if n in pairs]
    made = [encoder.tokenize(side, length=length) for side in sides]
    batch = {n: np.stack([m[n] for m in made], axis=1) for n in ("ids", "mask")}
    batch["keys"] = np.stack([data.hashed(side).astype(np.int32) for side in sides], axis=1)
    return batch | ({"targets": np.asarray(pairs["scores"], np.float32)} if "scores" in pairs else {})


def layer_vectors(encoder, params, batch):
    """The vector of every block of every text: arrays ids and mask [N, K, T] -> [N, K, L+1, D].

    Vectors are scaled to the length sqrt(D), the scale of a layer norm, whatever head the encoder has.
    """
    count, texts, length = batch["ids"].shape
    flat = {n: batch[n].reshape(count * texts, length) for n in ("ids", "mask")}
    found = encoder.encode_layers(params, flat)
    return (unit(found) * found.shape[-1] ** 0.5).reshape(count, texts, *found.shape[1:])


def distinct_pairs(keys, blocks=("qd",)):
    """Which other texts of a batch are not equal to those of a pair, by keys int [B, K]: bool [B, M]."""
    return losses.duplicate_mask(keys[:, 0], keys[:, 1:].T.reshape(-1), blocks=blocks)


def make_update(encoder, arm, rate, steps):
    """One step of AdamW on all but the word vectors: CoSENT where pairs have grades, else InfoNCE.

    Args:
        encoder: an ``Encoder``.
        arm: loss -> objective, such as a partial ``losses.two_dimensional``.
        rate: highest learning rate.
        steps: over which it rises and falls.
    """

    def loss_fn(params, batch, key):
        layers = layer_vectors(encoder, params, batch)
        first, second, *hard = (layers[:, k] for k in range(layers.shape[1]))
        second = jnp.concatenate([second, *hard])
        if "targets" in batch:
            return arm(losses.cosent)(key, first, second, targets=batch["targets"]), {}
        return arm(losses.info_nce)(key, first, second, where=distinct_pairs(batch["keys"])), {}

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


@functools.lru_cache(maxsize=2)
def encoder_init(encoder):
    """``key -> params``: those of the encoder, whatever the key."""
    return lambda key: jax.tree.map(jnp.copy, encoder.params)


def unless_diverging(run, *given, **options):
    """What a training returns, or None where its loss or gradient is not finite."""
    try:
        return run(*given, **options)
    except FloatingPointError:
        return None


def choose(encoder, arm, batch, rates, targets, *, seeds, steps, size):
    """Trains an arm at the rate that is best on the dev pairs, for each seed.

    Args:
        encoder: where training starts.
        arm: loss -> objective.
        batch: {"train", "dev"} of :func:`arrays`.
        rates: learning rates; seed 0 is trained with each of them.
        targets: pairs (layer, size) whose mean score on dev is compared.
        seeds: of the order of the pairs and of what the objective draws.
        steps, size: of the training.

    Returns:
        (list of one encoder per seed, the rate, {rate: its mean score on dev}), which is empty for one rate.
    """
    update = {rate: make_update(encoder, arm, rate, steps) for rate in rates}
    run = functools.partial(fit, encoder, batch=batch["train"], steps=steps, size=size)
    first = {rate: unless_diverging(run, update[rate], seed=0) for rate in rates}
    good = [rate for rate in rates if first[rate] is not None]
    for rate in set(rates) - set(good):
        print(f"at rate {rate} training diverges", flush=True)
    if not good:
        raise ValueError(f"--rates {' '.join(map(str, rates))}: training diverges; choose smaller ones")
    dev = {}
    if len(good) > 1:
        dev = {rate: float(scores(first[rate], batch["dev"], targets).mean()) for rate in good}
    best = max(dev, key=dev.get) if dev else good[0]
    return [first[best], *(run(update[best], seed=s) for s in range(1, seeds))], best, dev


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
        return float((metrics.partner_ranks(first, second) <= 10).mean())

    return np.array([one(*pair) for pair in pairs])


def compare(cfg, encoder, arms, cells, kept):
    """Scores an encoder untrained, and trained as each arm says at the rate that dev pairs choose.

    Args:
        cfg: settings of a story: model, pairs, sts, paper, quick, seeds, steps, batch_size, rates, length,
            workdir.
        encoder: where training starts.
        arms: {name: (loss -> objective, pairs whose mean score on dev chooses the rate)}.
        cells: list of P pairs (layer, size) that are scored on test pairs.
        kept: what the encoder of the last arm is, which is saved where the pairs are the user's own.

    Returns:
        ({"untrained" or arm: [S, P]}, {"cells", "grids", "rates", "dev", "pairs"}).
    """
    parts = read_pairs(sts=cfg.sts, pairs=cfg.pairs, paper=cfg.paper, quick=cfg.quick)
    batch = {n: arrays(encoder, pairs, cfg.length) for n, pairs in parts.items()}
    counts = {n: len(pairs["first"]) for n, pairs in parts.items()}
    options = {"steps": cfg.steps, "size": min(cfg.batch_size, counts["train"]), "seeds": cfg.seeds}
    if cfg.pairs is not None:
        text_models.print_reading(batch["train"]["mask"], counts["train"], cfg.steps * options["size"])
    found, rates, dev = {"untrained": np.array([scores(encoder, batch["test"], cells)])}, {}, {}
    for name, (arm, targets) in arms.items():
        fitted, rates[name], dev[name] = choose(encoder, arm, batch, cfg.rates, targets, **options)
        found[name] = np.array([scores(e, batch["test"], cells) for e in fitted])
        print(f"text, {name}, rate {rates[name]}: {found[name].mean():.3f}", flush=True)
    if cfg.pairs is not None:
        text_models.save_trained(fitted[0], cfg.workdir, kept)
    grids = {name: x.mean(axis=0).tolist() for name, x in found.items()}
    return found, {"cells": cells, "grids": grids, "rates": rates, "dev": dev, "pairs": counts}
