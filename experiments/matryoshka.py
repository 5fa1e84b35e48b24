"""Does one encoder trained on prefixes and on layers keep what separate small models would have?

    python -m experiments.matryoshka                          # digits, digits by layer, docstrings
    python -m experiments.matryoshka --parts text --sts path/to/stsb --steps 40 --rates 3e-5 1e-4
    python -m experiments.matryoshka --model folder --pairs file.tsv    # your own pairs, with grades or not
    python -m experiments.matryoshka --paper --model bert-base --sts path/to/stsb     # AllNLI through TFDS

Papers: Matryoshka Representation Learning (arXiv:2205.13147), 2D Matryoshka Sentence Embeddings
(arXiv:2402.14776). `make data` brings the text encoder (all-MiniLM-L6-v2). Bars such as 5 points are ours.

5 minutes on 2 CPU cores. A, digits, 5 seeds, accuracy at 2 / 4 / 8 / 64 numbers: MRL .714 .940 .968 .971, a
network of each size .767 .941 .968 .971, the largest one cut .308 .532 .733 .971, its principal components
.499 .856 .969 .971: within 2 points of separate networks from 4 numbers on, at 2 numbers 5 below (interval
of the difference -11.7 to 1.2), and 9 below (.572, .665, -16.4 to -2.3) where the nearest neighbour
decides. Above the largest one cut at 2 and 4 by 41 points (33 to 49), by nearest neighbours 12 (8 to 16),
our bar being 10. B, 3 seeds, 1-NN over layers before the last and at the full last one: last layer alone
.811 .954, 1-D MRL .830 .937, 2DMSE .847 .924, all layers .856 .943: shallow layers gain 3.6 points, below
our bar of 5, and the last one loses 3.0. ESE's pairs give .839 .947; with its pull to principal components,
whose squares outweigh the rest here, .569 .749. C, 3 seeds, docstrings, Recall@10: untrained .195 .536,
last layer .204 .615, 2DMSE .216 .585: shallow layers gain 1.2 points, and layer 6 loses 3.0. STS-B (second
command, 3 seeds, 4 minutes), Spearman: untrained .418 .779, last layer .424 .793, 2DMSE .469 .752: 4.5
gained, 4.1 lost, where our bar was 2. At the default 24 steps and rate .0001 they are .430 .756 and .460
.765: that rate is too high for the last layer alone, so compare after a choice on the dev pairs.
"""

import dataclasses
import functools
import itertools
import pathlib
import time
from typing import Literal

import numpy as np

from experiments.common import inputs, nested, nested_texts, paired, prefix_heads, report, text_models
from jaxembed import encoders, losses

PARTS = ("prefixes", "layers", "text")
SEEDS = {"prefixes": 5, "layers": 3, "text": 3}


@dataclasses.dataclass(frozen=True)
class Config:
    """Compares encoders trained on prefixes and layers with plain ones."""

    parts: tuple[Literal["prefixes", "layers", "text"], ...] = PARTS
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    pairs: pathlib.Path | None = None  # own pairs in place of docstrings; runs the text part alone
    sts: pathlib.Path | None = None  # folder with stsb-en-{train,dev,test}.csv, in place of docstrings
    paper: bool = False  # train on AllNLI through TFDS, with the paper's settings
    seeds: int | None = None  # None: 5 for the prefixes, 3 for the layers and the text; claims need 5
    steps: int = 24  # of the text part
    batch_size: int = 32  # pairs
    rates: tuple[float, ...] = (1e-4,)  # the text part; of several the best on the dev pairs is taken
    length: int = 16  # tokens of a text
    sizes: tuple[int, ...] = (8, 32, 128)  # prefixes trained in the text part, beside the full width
    quick: bool = False  # digits alone, one seed, few layers, sizes and steps
    workdir: pathlib.Path = pathlib.Path("runs/matryoshka")
    results: pathlib.Path = report.RESULTS

    def __post_init__(self):
        limits = {"seeds": (1, 100), "steps": (1, 10**7), "batch_size": (2, 10**5), "length": (3, 8192)}
        report.check(self, limits | {"rates": (1e-9, 10), "sizes": (1, 10**5)})
        report.exclude(self, "pairs", ("parts", "sts", "paper"))
        if self.sts is not None and "text" not in self.parts and not self.paper:
            raise ValueError("--sts: only the text part reads it; give --parts text")


PAPER = {"steps": 15_000, "batch_size": 128, "rates": (5e-5,), "length": 64, "parts": ("text",)}
PAPER |= {"sizes": (8, 16, 32, 64, 128, 256, 512)}
QUICK = {"seeds": 1, "steps": 4, "sizes": (32,), "parts": ("prefixes", "layers")}
RUNS = {"matryoshka_text_sts": {"steps": 40, "rates": (3e-5, 1e-4)}}  # the second command above
PREFIXES = (2, 4, 8, 16, 32, 64)
ESE = 8  # the short size that ESE trains at every layer
FEW = (4, 16, 64)  # with --quick
COMPARED = ("last layer", "2DMSE")  # arms of the criteria, of the text part and of --quick
DIGITS = {"width": 64, "steps": 240, "batch": 64, "rate": 2e-3}


def prefixes(cfg):
    """Part A: accuracy at every size of five ways to get vectors of that size."""
    report.stage("digits, prefixes of one network")
    images, labels = nested.digits(cfg.seeds or SEEDS["prefixes"])
    sizes, steps = (FEW, 20) if cfg.quick else (PREFIXES, 400)
    fit = functools.partial(prefix_heads.fit_network, images, labels, steps=steps)
    names = {str(m): m for m in sizes}
    own, one = (functools.partial(f, sizes=sizes) for f in (prefix_heads.own_heads, prefix_heads.one_head))
    (heads, nest), (tied, nest_tied) = fit(64, own, names), fit(64, one, {"all": 64})
    found = {}
    for m in sizes:
        report.stage(f"digits, a network of {m} numbers")
        alone = fit(m, functools.partial(prefix_heads.one_head, sizes=(m,)), {"all": m})
        found["MRL", m] = prefix_heads.accuracies(heads[str(m)], nest[..., :m], labels)
        found["MRL-E", m] = prefix_heads.accuracies(
            prefix_heads.cut(tied["all"], m), nest_tied[..., :m], labels
        )
        found["alone", m] = prefix_heads.accuracies(alone[0]["all"], alone[1], labels)
    head, plain = alone[0]["all"], alone[1]  # the last one has the full size
    for m in sizes:
        found["cut", m] = prefix_heads.accuracies(prefix_heads.cut(head, m), plain[..., :m], labels)
        found["PCA", m] = prefix_heads.accuracies(*prefix_heads.components(plain, head, m), labels)
    rows = []
    for arm, by in itertools.product(("MRL", "MRL-E", "alone", "cut", "PCA"), ("head", "1-NN")):
        row = {"arm": arm, "by": by}
        for m in sizes:
            row |= {str(m): float(found[arm, m][by].mean()), f"±{m}": spread(found[arm, m][by])}
        rows.append(row)
    claims = []
    for by in ("head", "1-NN"):
        gap = np.stack([found["MRL", m][by] - found["alone", m][by] for m in sizes], axis=1)
        near = f"A: MRL is at most 2 points below fixed sizes at every size, by {by}"
        gain = np.stack([found["MRL", m][by] - found["cut", m][by] for m in sizes[:2]], axis=1)
        far = f"A: MRL is 10 points above cut vectors at {sizes[0]} and {sizes[1]}, by {by}"
        claims += [paired.claim(near, gap, margin=-0.02), paired.claim(far, gain, margin=0.1)]
    return {"table": rows, "seeds": labels.shape[1]} | paired.told(claims)


def spread(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def recipes(layers, sizes):
    width = max(sizes)
    return {
        "last layer": nested.one_pair(layers, width),
        "1-D MRL": nested.Recipe(losses.full_grid((layers,), sizes)),
        "2DMSE": nested.sampled(layers, sizes),
        "all layers": nested.everything(layers, sizes),
    }


def by_layer(cfg):
    """Part B: 1-NN accuracy of every layer and size of transformers over the rows of digits."""
    images, labels = nested.digits(cfg.seeds or SEEDS["layers"])
    layers, sizes, options = 6, PREFIXES, DIGITS
    if cfg.quick:
        layers, sizes, options = 3, FEW, DIGITS | {"steps": 4}
    found, cells = {}, losses.full_grid(range(1, layers + 1), sizes)
    arms = recipes(layers, sizes)
    if cfg.quick:
        arms = {name: arms[name] for name in COMPARED}
    else:
        arms["ESE"] = nested.espresso(layers, max(sizes), ESE)
        arms["ESE, no compression"] = dataclasses.replace(arms["ESE"], pulled=())
    for name, recipe in arms.items():
        pull = nested.compression(ESE) if name == "ESE" else nested.pull_features
        fitted = nested.fit_digits(recipe, images, labels, layers=layers, pull=pull, **options)
        found[name] = nested.nearest(fitted, labels, cells)
        print(f"digits, {name}: {found[name].mean():.3f}", flush=True)
    return summary("B", found, cells, *COMPARED, gain=0.05, loss=0.03)


def summary(part, found, cells, plain, nest, *, gain, loss):
    """The table, the criteria and the grids of arms: {arm: [S, P]} over P pairs (layer, size)."""
    last = max(cells)
    below = np.array([n < last[0] for n, _ in cells])
    rows, full = [], cells.index(last)
    for arm, values in found.items():
        row = {"arm": arm}
        for name, x in (("layers before the last", values[:, below].mean(1)), ("full", values[:, full])):
            row |= {name: float(x.mean()), f"± {name}": spread(x)}
        rows.append(row)
    up = (found[nest] - found[plain])[:, below].mean(axis=1)
    at_full = (found[nest] - found[plain])[:, full]
    shallow = f"{part}: {nest} is {f'{gain} ' if gain else ''}above {plain} before the last layer"
    claims = [paired.claim(shallow, up, margin=gain)]
    claims.append(paired.claim(f"{part}: it loses at most {loss} at full", at_full, margin=-loss))
    grids = {arm: x.mean(axis=0).tolist() for arm, x in found.items()}
    made = {"table": rows, "seeds": len(at_full), "cells": cells, "grids": grids}
    return made | paired.told(claims)


# Text


def by_text(cfg):
    """Part C: every layer and size of a published encoder, untrained, trained plainly and on all."""
    encoder = encoders.pretrained.load(text_models.find_model(cfg.model))
    given = {"sts": cfg.sts, "pairs": cfg.pairs, "paper": cfg.paper, "most": 60 if cfg.quick else 500}
    parts = nested_texts.read_pairs(**given)
    batch = {n: nested_texts.arrays(encoder, pairs, cfg.length) for n, pairs in parts.items()}
    layers = encoder.depth
    sizes = tuple(dict.fromkeys((*sorted(s for s in cfg.sizes if s < encoder.width), encoder.width)))
    grid = losses.full_grid(range(1, layers + 1), sizes)
    cells = losses.full_grid(range(1, layers + 1), (*vectors_sizes(encoder.width), encoder.width))
    score, size = nested_texts.scores, len(parts["train"]["first"])
    if cfg.pairs is not None:
        text_models.told(batch["train"]["mask"], size, cfg.steps * min(cfg.batch_size, size))
    found = {"untrained": np.array([score(encoder, batch["test"], cells)])}
    chosen, dev = {}, {}
    arms = recipes(layers, sizes)
    for name in COMPARED:
        targets = grid if name == "2DMSE" else ((layers, encoder.width),)
        options = {"seeds": cfg.seeds or SEEDS["text"], "steps": cfg.steps, "size": min(cfg.batch_size, size)}
        given = encoder, arms[name], batch, cfg.rates, targets
        fitted, rate, dev[name] = nested_texts.choose(*given, **options)
        chosen[name] = rate
        found[name] = np.array([score(e, batch["test"], cells) for e in fitted])
        print(f"text, {name}, rate {rate}: {found[name].mean():.3f}", flush=True)
    if cfg.pairs is not None:
        text_models.save_trained(fitted[0], cfg.workdir, "the encoder trained on layers and sizes (seed 0)")
    made = summary("C", found, cells, *COMPARED, gain=0.0, loss=0.02)
    return made | {"rates": chosen, "dev": dev, "pairs": {n: len(p["first"]) for n, p in parts.items()}}


def vectors_sizes(width):
    """8, 16, 32, ... below the width."""
    return tuple(itertools.takewhile(lambda s: s < width, (8 * 2**i for i in range(20))))


def look(cfg, parts):
    """Refuses what the parts would stumble over, before the first of them begins."""
    inputs.installed("sklearn")
    if "text" in parts:
        inputs.sts(cfg.sts, "train", "dev", "test")
        encoder = text_models.load(cfg.model)
        if cfg.sizes != PAPER["sizes"]:
            report.at_most(cfg, "sizes", encoder.width, f"the encoder has width {encoder.width}")


def main(cfg):
    began, name = time.perf_counter(), report.named("matryoshka", cfg, RUNS)
    cfg = report.preset(cfg, quick=QUICK, paper=PAPER)
    run = {"prefixes": prefixes, "layers": by_layer, "text": by_text}
    parts = ("text",) if cfg.pairs is not None else cfg.parts
    look(cfg, parts)
    numbers = {part: run[part](cfg) for part in PARTS if part in parts}
    report.layers_and_sizes(name, numbers, cfg, began)


if __name__ == "__main__":
    report.run(main, Config)
