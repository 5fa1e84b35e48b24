"""Does one encoder trained on layers and prefixes keep what its last layer alone would have?

    python -m experiments.nesting.matryoshka                # digits by layer, docstrings
    python -m experiments.nesting.matryoshka --parts text --sts folder --steps 40 --rates 3e-5 1e-4 --seeds 3
    python -m experiments.nesting.matryoshka --model folder --pairs file.tsv     # your own, graded or not
    python -m experiments.nesting.matryoshka --paper --model bert-base --sts path/to/stsb  # AllNLI by TFDS

Papers: 2D Matryoshka Sentence Embeddings, later Espresso Sentence Embeddings (arXiv:2402.14776). The first
command takes 7 minutes on 2 CPU cores, the second 10. `make data` brings the text encoder, all-MiniLM-L6-v2.
"""

import dataclasses
import functools
import itertools
import pathlib
from typing import Literal

import numpy as np

from experiments.nesting import digits, grid_results, texts
from experiments.nesting.grid_results import figures
from experiments.shared import flags, inputs, results
from jaxembed import losses

PARTS = ("layers", "text")
TITLES = {
    "layers": "Layers and sizes on digits: accuracy by the nearest neighbour",
    "text": "Layers and sizes of a text encoder: Spearman with grades, or Recall@10 of pairs without",
}


@dataclasses.dataclass(frozen=True)
class Config(texts.TextSettings):
    """Compares encoders trained on layers and prefixes with plain ones."""

    parts: tuple[Literal["layers", "text"], ...] = PARTS
    steps: int = 24  # of the text part
    sizes: tuple[int, ...] = (8, 32, 128)  # prefixes trained in the text part, beside the full width
    workdir: pathlib.Path = pathlib.Path("runs/matryoshka")


PAPER = {"steps": 15_000, "batch_size": 128, "rates": (5e-5,), "length": 64, "parts": ("text",)}
PAPER |= {"sizes": (8, 16, 32, 64, 128, 256, 512)}
QUICK = {"seeds": 1, "steps": 4, "sizes": (32,), "parts": ("layers",)}
RUNS = {"text_sts": {"steps": 40, "rates": (3e-5, 1e-4), "seeds": 3}}  # the second command above
SIZES, FEW = (2, 4, 8, 16, 32, 64), (4, 16, 64)  # all, and with --quick
ESE = 8  # the short size that ESE trains at every layer
COMPARED = ("last layer", "2DMSE")  # arms of the claims, of the text part and of --quick
DIGITS = {"width": 64, "steps": 240, "batch": 64}
# The best of digits.RATES on validation images, for each arm; `--validate` tries them.
RATES = {"last layer": 2e-3, "1-D MRL": 1e-3, "2DMSE": 1e-3, "all layers": 2e-3, "ESE": 1e-3}
RATES |= {"2DMSE, weights 1/n": 2e-3, "ESE, no compression": 2e-3}


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
    drawn = functools.partial(losses.two_dimensional, layers=layers, sizes=sizes)
    return {
        "last layer": functools.partial(full, grid=losses.full_grid(last, (width,))),
        "1-D MRL": functools.partial(full, grid=losses.full_grid(last, sizes)),
        "2DMSE": drawn,
        "2DMSE, weights 1/n": functools.partial(drawn, weighting="linear"),
        "all layers": functools.partial(full, grid=grid, **pulls),
    }


def by_layer(cfg):
    """1-NN accuracy of every layer and size of transformers over the rows of digits."""
    images, labels = digits.read(cfg.seeds, cfg.validate)
    layers, sizes, options = (3, FEW, DIGITS | {"steps": 4}) if cfg.quick else (6, SIZES, DIGITS)
    found, cells = {}, losses.full_grid(range(1, layers + 1), sizes)
    compared = arms(layers, sizes)
    if cfg.quick:
        compared = {name: compared[name] for name in COMPARED}
    else:
        espresso = functools.partial(losses.espresso, layers=layers, width=max(sizes), size=ESE)
        compared["ESE"] = espresso
        compared["ESE, no compression"] = functools.partial(espresso, compress=False)
    for label, name, rate in digits.runs({name: RATES[name] for name in compared}, cfg.validate):
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


def look(cfg):
    """Refuses what the parts would stumble over, before the first of them begins."""
    inputs.installed("sklearn")
    if "text" in cfg.chosen_parts(PARTS):
        encoder = texts.checked_encoder(cfg)
        if cfg.sizes != PAPER["sizes"]:
            flags.at_most(cfg, "sizes", encoder.width, f"the encoder has width {encoder.width}")


def run(cfg):
    made = {"layers": by_layer, "text": by_text}
    found = {part: made[part](cfg) for part in cfg.chosen_parts(PARTS)}
    tables = {TITLES[part]: rows for part, (rows, _) in found.items()}
    return results.Result(tables, {part: details for part, (_, details) in found.items()})


CLAIMS = tuple(
    results.Claim("2402.14776", f"{of} {sentence}", grid_results.above(part, name, margin))
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
