"""Does one encoder trained on prefixes and on layers keep what separate small models would have?

    python -m experiments.nesting.matryoshka                # digits, digits by layer, docstrings
    python -m experiments.nesting.matryoshka --parts text --sts folder --steps 40 --rates 3e-5 1e-4 --seeds 3
    python -m experiments.nesting.matryoshka --model folder --pairs file.tsv     # your own, graded or not
    python -m experiments.nesting.matryoshka --paper --model bert-base --sts path/to/stsb  # AllNLI by TFDS

Papers: Matryoshka Representation Learning (arXiv:2205.13147); 2D Matryoshka Sentence Embeddings, later
Espresso Sentence Embeddings (arXiv:2402.14776). The first command takes 5 minutes on 2 CPU cores, the second
10. `make data` brings the text encoder, all-MiniLM-L6-v2.
"""

import dataclasses
import functools
import itertools
import pathlib
from typing import Literal

import numpy as np

from experiments.nesting import digits, grid_results, prefix_heads, prefix_search, texts
from experiments.nesting.grid_results import figures
from experiments.shared import flags, inputs, results
from jaxembed import losses

PARTS = ("prefixes", "layers", "text")
TITLES = {
    "prefixes": "Prefixes on digits: accuracy",
    "search": "Search of digits by prefixes: accuracy of the nearest neighbour, and bytes read for a query",
    "layers": "Layers and sizes on digits: accuracy by the nearest neighbour",
    "text": "Layers and sizes of a text encoder: Spearman with grades, or Recall@10 of pairs without",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Compares encoders trained on prefixes and layers with plain ones."""

    parts: tuple[Literal["prefixes", "layers", "text"], ...] = PARTS
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    pairs: pathlib.Path | None = None  # own pairs in place of docstrings; runs the text part alone
    sts: pathlib.Path | None = None  # folder with stsb-en-{train,dev,test}.csv, in place of docstrings
    paper: bool = False  # train on AllNLI through TFDS, with the paper's settings
    seeds: int = 5  # of the layers and the text; claims need 5
    prefix_seeds: int = 5  # of the prefixes
    steps: int = 24  # of the text part
    batch_size: int = 32  # pairs
    rates: tuple[float, ...] = (1e-4,)  # the text part; of several the best on the dev pairs is taken
    length: int = 16  # tokens of a text
    sizes: tuple[int, ...] = (8, 32, 128)  # prefixes trained in the text part, beside the full width
    validate: bool = False  # digits: try all rates on other images
    quick: bool = False  # digits alone, one seed, few layers, sizes and steps
    workdir: pathlib.Path = pathlib.Path("runs/matryoshka")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"seeds": (1, 100), "prefix_seeds": (1, 100), "steps": (1, 10**7), "batch_size": (2, 10**5)}
        flags.check(self, limits | {"length": (3, 8192), "rates": (1e-9, 10), "sizes": (1, 10**5)})
        flags.exclude(self, "pairs", ("parts", "sts", "paper"))
        if self.sts is not None and "text" not in self.parts and not self.paper:
            raise ValueError("--sts: only the text part reads it; give --parts text")


PAPER = {"steps": 15_000, "batch_size": 128, "rates": (5e-5,), "length": 64, "parts": ("text",)}
PAPER |= {"sizes": (8, 16, 32, 64, 128, 256, 512)}
QUICK = {"seeds": 1, "prefix_seeds": 1, "steps": 4, "sizes": (32,), "parts": ("prefixes", "layers")}
RUNS = {"text_sts": {"steps": 40, "rates": (3e-5, 1e-4), "seeds": 3}}  # the second command above
PREFIXES = (2, 4, 8, 16, 32, 64)
ESE = 8  # the short size that ESE trains at every layer
FEW = (4, 16, 64)  # with --quick
COMPARED = ("last layer", "2DMSE")  # arms of the claims, of the text part and of --quick
DIGITS = {"width": 64, "steps": 240, "batch": 64}
# Of three rates the best on validation images, for each arm; `--validate` tries them.
PREFIX_RATES = {"MRL": 4e-3, "MRL-E": 4e-3, "alone": 4e-3}
LAYER_RATES = {"last layer": 2e-3, "1-D MRL": 1e-3, "2DMSE": 1e-3, "all layers": 2e-3, "ESE": 1e-3}
LAYER_RATES |= {"ESE, no compression": 2e-3}


def prefixes(cfg):
    """Accuracy at every size of five ways to get vectors of that size; with validate, at every rate."""
    flags.stage("digits, prefixes of one network")
    images, labels = digits.read(cfg.prefix_seeds, cfg.validate)
    sizes, steps = (FEW, 20) if cfg.quick else (PREFIXES, 400)
    fit = functools.partial(prefix_heads.fit_network, images, labels, steps=steps)
    measure, cut, found = prefix_heads.accuracies, prefix_heads.cut, {}
    own, one = (functools.partial(f, sizes=sizes) for f in (prefix_heads.own_heads, prefix_heads.one_head))
    for label, arm, rate in digits.runs(PREFIX_RATES, cfg.validate):
        if arm == "MRL":
            heads, nest = fit(64, own, {str(m): m for m in sizes}, rate=rate)
            found |= {(label, m): measure(heads[str(m)], nest[..., :m], labels) for m in sizes}
        elif arm == "MRL-E":
            tied, z = fit(64, one, {"all": 64}, rate=rate)
            found |= {(label, m): measure(cut(tied["all"], m), z[..., :m], labels) for m in sizes}
        for m in sizes if arm == "alone" else ():
            flags.stage(f"digits, a network of {m} numbers")
            alone = fit(m, functools.partial(prefix_heads.one_head, sizes=(m,)), {"all": m}, rate=rate)
            found[label, m] = measure(alone[0]["all"], alone[1], labels)
    if cfg.validate:
        return grid_results.prefix_rows(found, sizes), {"seeds": cfg.prefix_seeds, "differences": {}}
    head, plain = alone[0]["all"], alone[1]  # the last one has the full size
    for m in sizes:
        found["cut", m] = measure(cut(head, m), plain[..., :m], labels)
        found["PCA", m] = measure(*prefix_heads.components(plain, head, m), labels)
    gaps = {}
    for by in ("head", "1-NN"):
        for other, some in (("alone", sizes), ("cut", sizes[:2])):
            gap = [found["MRL", m][by] - found[other, m][by] for m in some]
            gaps[f"MRL - {other}, {by}"] = np.stack(gap, axis=1).tolist()
    searched = prefix_search.measure({"MRL": nest, "plain network": plain}, labels)
    details = {"seeds": cfg.prefix_seeds, "differences": gaps, "search": searched}
    return grid_results.prefix_rows(found, sizes), details


def arms(layers, sizes):
    """What each arm trains: {name: loss -> objective}."""
    last, width = (layers,), max(sizes)
    shallow = losses.full_grid(range(1, layers), (width,))
    pulls = {
        "pull": losses.vector_kl_to_last,
        "pulled": shallow,
        "pulled_weights": (1 / max(1, len(shallow)),) * len(shallow),
    }
    grid, full = losses.full_grid(range(1, layers + 1), sizes), losses.layer_objective
    return {
        "last layer": functools.partial(full, grid=losses.full_grid(last, (width,))),
        "1-D MRL": functools.partial(full, grid=losses.full_grid(last, sizes)),
        "2DMSE": functools.partial(losses.two_dimensional, layers=layers, sizes=sizes),
        "all layers": functools.partial(full, grid=grid, **pulls),
    }


def by_layer(cfg):
    """1-NN accuracy of every layer and size of transformers over the rows of digits."""
    images, labels = digits.read(cfg.seeds, cfg.validate)
    layers, sizes, options = 6, PREFIXES, DIGITS
    if cfg.quick:
        layers, sizes, options = 3, FEW, DIGITS | {"steps": 4}
    found, cells = {}, losses.full_grid(range(1, layers + 1), sizes)
    compared = arms(layers, sizes)
    if cfg.quick:
        compared = {name: compared[name] for name in COMPARED}
    else:
        espresso = functools.partial(losses.espresso, layers=layers, width=max(sizes), size=ESE)
        compared["ESE"] = espresso
        compared["ESE, no compression"] = functools.partial(espresso, compress=False)
    for label, name, rate in digits.runs({name: LAYER_RATES[name] for name in compared}, cfg.validate):
        fitted = digits.fit(compared[name], images, labels, layers=layers, rate=rate, **options)
        found[label] = digits.nearest(fitted, labels, cells)
        print(f"digits, {label}: {found[label].mean():.3f}", flush=True)
    grids = {arm: x.mean(axis=0).tolist() for arm, x in found.items()}
    rows, differences = summary(found, cells)
    return rows, {"seeds": cfg.seeds, "differences": differences, "cells": cells, "grids": grids}


def summary(found, cells):
    """The table of arms {arm: [S, P]} over P pairs (layer, size), and what 2DMSE gains."""
    last, (plain, nest) = max(cells), COMPARED
    below, full = np.array([n < last[0] for n, _ in cells]), cells.index(last)
    names = {"layers before the last": lambda x: x[:, below].mean(axis=1), "full": lambda x: x[:, full]}
    names["all pairs"] = lambda x: x.mean(axis=1)
    rows = [
        {"arm": arm} | grid_results.spreads({name: take(x) for name, take in names.items()})
        for arm, x in found.items()
    ]
    if plain not in found:
        return rows, {}
    return rows, {name: take(found[nest] - found[plain]).tolist() for name, take in names.items()}


def by_text(cfg):
    """Every layer and size of a published encoder, untrained, trained plainly and on all."""
    encoder = texts.checked_encoder(cfg)
    layers, width = encoder.depth, encoder.width
    sizes = tuple(dict.fromkeys((*sorted(s for s in cfg.sizes if s < width), width)))
    doubled = tuple(itertools.takewhile(lambda s: s < width, (8 * 2**i for i in range(20))))
    cells = losses.full_grid(range(1, layers + 1), (*doubled, width))
    targets = {"last layer": ((layers, width),), "2DMSE": losses.full_grid(range(1, layers + 1), sizes)}
    compared = {name: (arms(layers, sizes)[name], targets[name]) for name in COMPARED}
    kept = "the encoder trained on layers and sizes (seed 0)"
    found, details = texts.compare(cfg, encoder, compared, cells, kept)
    rows, differences = summary(found, cells)
    return rows, {"seeds": cfg.seeds, "differences": differences} | details


def parts_of(cfg):
    """The parts that run, in their order."""
    return [part for part in PARTS if part in (("text",) if cfg.pairs is not None else cfg.parts)]


def look(cfg):
    """Refuses what the parts would stumble over, before the first of them begins."""
    inputs.installed("sklearn")
    if "text" in parts_of(cfg):
        encoder = texts.checked_encoder(cfg)
        if cfg.sizes != PAPER["sizes"]:
            flags.at_most(cfg, "sizes", encoder.width, f"the encoder has width {encoder.width}")


def run(cfg):
    made = {"prefixes": prefixes, "layers": by_layer, "text": by_text}
    found = {part: made[part](cfg) for part in parts_of(cfg)}
    tables = {TITLES[part]: rows for part, (rows, _) in found.items()}
    searched = found.get("prefixes", (None, {}))[1].pop("search", None)  # not with --validate
    tables |= {TITLES["search"]: searched} if searched else {}
    return results.Result(tables, {part: details for part, (_, details) in found.items()})


MRL, TWO = "2205.13147", "2402.14776"
CLAIMS = tuple(
    results.Claim(
        MRL,
        f"On digits {sentence}, by {by}",
        grid_results.above("prefixes", f"MRL - {other}, {name}", margin),
    )
    for name, by in (("head", "its heads"), ("1-NN", "the nearest neighbour"))
    for sentence, other, margin in (
        (
            "prefixes of one network are at most 2 points below separate networks at every size",
            "alone",
            -0.02,
        ),
        ("the two shortest prefixes are 10 points above those of a plain network", "cut", 0.1),
    )
)
CLAIMS += tuple(
    results.Claim(TWO, f"{of} {sentence}", grid_results.above(part, name, margin))
    for part, of, gain, loss in (
        ("layers", "On digits", 0.05, 0.03),
        ("text", "With a text encoder", 0.0, 0.02),
    )
    for sentence, name, margin in (
        (f"2DMSE is {f'{100 * gain:.0f} points ' if gain else ''}above training the last layer alone, "
         "at layers before the last", "layers before the last", gain),
        (f"2DMSE loses at most {100 * loss:.0f} points at the full last layer", "full", -loss),
    )
)  # fmt: skip


if __name__ == "__main__":
    options = {"figures": figures, "quick": QUICK, "paper": PAPER, "check": look, "runs": RUNS}
    results.main("nesting.matryoshka", Config, run, CLAIMS, **options)
