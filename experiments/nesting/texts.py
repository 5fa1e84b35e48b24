"""A text encoder trained over layers and sizes: flags, pairs of texts, training, the choice of a rate."""

import dataclasses
import pathlib

import numpy as np
import optax

from experiments.shared import flags, inputs, text_models
from jaxembed import data, recipes

LEAST = 40  # pairs of a file: a tenth of them are dev, a tenth test
HELD = 500  # docstrings that are kept for dev, and for test
SPLITS = {"train": "train", "dev": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class TextSettings:
    """Which encoder and pairs the text part takes, and how it trains."""

    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    pairs: pathlib.Path | None = None  # own pairs, with grades or without; runs the text part alone
    sts: pathlib.Path | None = None  # folder with stsb-en-{train,dev,test}.csv, in place of docstrings
    paper: bool = False  # train on AllNLI through TFDS, with the paper's settings
    seeds: int = 5  # with fewer, claims get no interval and no verdict
    steps: int = 40  # of the text part
    batch_size: int = 32  # pairs
    rates: tuple[float, ...] = (1e-4,)  # the text part; of several the best on the dev pairs is taken
    length: int = 16  # tokens of a text
    validate: bool = False  # digits: try all rates on other images
    quick: bool = False  # digits alone, one seed, few layers, sizes and steps
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"seeds": (1, 100), "steps": (1, 10**7), "batch_size": (2, 10**5), "length": (3, 8192)}
        flags.check(self, limits | {"rates": (1e-9, 10), "sizes": (1, 10**5)})
        flags.exclude(self, "pairs", ("parts", "sts", "paper"))
        if self.sts is not None and "text" not in self.parts and not self.paper:
            raise ValueError("--sts: only the text part reads it; give --parts text")

    def chosen_parts(self, known):
        """The parts that run, in their order."""
        return [part for part in known if part in (("text",) if self.pairs is not None else self.parts)]


def checked_encoder(cfg):
    """Refuses what the text part would stumble over; returns the encoder."""
    if cfg.paper and cfg.sts is None:
        raise ValueError("--paper: needs --sts, the folder of STS-B, to choose and to test on")
    inputs.sts(cfg.sts, *inputs.STS)
    encoder = text_models.load(cfg.model)
    flags.at_most(cfg, "length", encoder.max_length, f"the encoder reads {encoder.max_length} tokens")
    return encoder


def read_pairs(cfg):
    """{"train", "dev", "test"}, each as ``data.sentence_pairs`` gives it, in a fixed order.

    Without ``sts`` and ``pairs``: the first sentences of docstrings and the rest of them, each text once, dev
    and test from modules that are not trained on.
    """
    if cfg.sts is not None:
        found = {part: data.sentence_pairs(cfg.sts / name) for part, name in inputs.STS.items()}
        return found | {"train": data.all_nli()} if cfg.paper else found
    if cfg.pairs is not None:
        found = data.sentence_pairs(cfg.pairs)
        if (count := len(found["first"])) < LEAST:
            told = f"{count} pairs; at least {LEAST}, of which a fifth is held out"
            raise ValueError(f"--pairs {cfg.pairs}: {told}")
        return data.split_pairs(found)
    parts, records = {}, [r for r in data.docstrings(progress=True) if len(r["docstring"].split()) >= 5]
    for part, split in SPLITS.items():
        some = {r["docstring"]: r for r in records if r["split"] == split}.values()
        some = list({r["query"]: r for r in some}.values())
        most = None if part == "train" else 60 if cfg.quick else HELD
        order = np.random.default_rng(0).permutation(len(some))[:most]
        parts[part] = {"first": [some[i]["query"] for i in order]}
        parts[part]["second"] = [some[i]["docstring"] for i in order]
    return parts


def compare(cfg, encoder, arms, cells, kept):
    """Scores an encoder untrained, and trained as each arm says at the rate that dev pairs choose.

    Args:
        cfg, encoder: the settings, and where training starts.
        arms: {name: (loss -> objective, pairs whose mean score on dev chooses the rate)}.
        cells: list of P pairs (layer, size) that are scored on test pairs.
        kept: what the encoder of the last arm is, which is saved where the pairs are the user's own.

    Returns:
        ({"untrained" or arm: [S, P]}, {"cells", "grids", "rates", "dev", "pairs"}).
    """
    parts = read_pairs(cfg)
    counts = {part: len(pairs["first"]) for part, pairs in parts.items()}
    size = min(cfg.batch_size, counts["train"])
    if cfg.pairs is not None:
        read = [encoder.tokenize(parts["train"][n], length=cfg.length)["mask"] for n in ("first", "second")]
        text_models.print_reading(np.stack(read), counts["train"], cfg.steps * size)
    rising = max(1, cfg.steps // 10), max(2, cfg.steps)
    schedules = {rate: optax.warmup_cosine_decay_schedule(0, rate, *rising) for rate in cfg.rates}

    def fit(arm, rate, seed):
        options = {"layers": arm, "rate": schedules[rate], "steps": cfg.steps, "seed": seed}
        options |= {"batch_size": size, "length": cfg.length, "frozen": "^table/"}
        return recipes.fine_tune(encoder, parts["train"], **options)

    def score(encoder, part, cells):
        return recipes.score_layers(encoder, parts[part], cells, length=cfg.length)

    found, rates, dev = {"untrained": np.array([score(encoder, "test", cells)])}, {}, {}
    for name, (arm, targets) in arms.items():
        first = {rate: unless_diverging(fit, arm, rate, 0) for rate in cfg.rates}
        rates[name], dev[name] = choose(first, lambda e, targets=targets: score(e, "dev", targets).mean())
        fitted = [first[rates[name]], *(fit(arm, rates[name], s) for s in range(1, cfg.seeds))]
        found[name] = np.array([score(e, "test", cells) for e in fitted])
        print(f"text, {name}, rate {rates[name]}: {found[name].mean():.3f}", flush=True)
    if cfg.pairs is not None:
        text_models.save_trained(fitted[0], cfg.workdir, kept)
    grids = {name: x.mean(axis=0).tolist() for name, x in found.items()}
    return found, {"cells": cells, "grids": grids, "rates": rates, "dev": dev, "pairs": counts}


def unless_diverging(run, arm, rate, seed):
    """What a training returns, or None where its loss or gradient is not finite."""
    try:
        return run(arm, rate, seed)
    except FloatingPointError:
        print(f"at rate {rate} training diverges", flush=True)


def choose(fitted, score):
    """The best rate of {rate: encoder or None} by a score, and {rate: score}, empty where one is left."""
    good = {rate: encoder for rate, encoder in fitted.items() if encoder is not None}
    if not good:
        raise ValueError(f"--rates {' '.join(map(str, fitted))}: training diverges; choose smaller ones")
    dev = {rate: float(score(encoder)) for rate, encoder in good.items()} if len(good) > 1 else {}
    return max(dev, key=dev.get) if dev else next(iter(good)), dev
