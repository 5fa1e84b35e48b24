"""Does a short fixed list of layers and sizes that grow together train better small models than random draws?

    python -m experiments.nesting.starbucks                 # digits, then pre-training on WordNet's glosses
    python -m experiments.nesting.starbucks --parts text --sts folder --rates 2e-5 5e-5 1e-4 2e-4 --seeds 3
    python -m experiments.nesting.starbucks --model folder --pairs file.tsv --layers 1 2 6 --sizes 32 64 384
    python -m experiments.nesting.starbucks --paper --model bert-base --sts path/to/stsb   # AllNLI by TFDS

The list holds pairs (layer, size): after block n, the first `size` numbers of the vector. SRL fine-tunes all
pairs at once and pulls the small ones to the full model; 2DMSE draws a pair a step. SMAE pre-trains the pairs
by masked words.

Papers: Starbucks (arXiv:2410.13230), 2D Matryoshka Sentence Embeddings (arXiv:2402.14776). The first command
takes 5 minutes on 2 CPU cores, the second 15. `make data` brings WordNet and all-MiniLM-L6-v2.
"""

import dataclasses
import functools
import math
import pathlib
from typing import Literal

import numpy as np

from experiments.nesting import digits, grid_results, texts
from experiments.nesting.grid_results import figures
from experiments.shared import flags, inputs, results
from jaxembed import data, losses, recipes

PARTS = ("digits", "glosses", "text")
TITLES = {
    "digits": "Digits: accuracy by the nearest neighbour at the pairs (layer, size) of the list",
    "glosses": "Glosses: loss of masked words through the pairs (layer, size), in nats",
    "text": "A text encoder: Spearman with grades, or Recall@10 of pairs without",
}


@dataclasses.dataclass(frozen=True)
class Config(texts.TextSettings):
    """Compares a fixed list of layers and sizes with random draws and with separate models."""

    parts: tuple[Literal["digits", "glosses", "text"], ...] = ("digits", "glosses")
    layers: tuple[int, ...] = (1, 2, 4, 6)  # of the text part, with the sizes below one by one
    sizes: tuple[int, ...] = (32, 64, 128, 384)
    digit_steps: int = 140
    gloss_steps: int = 160
    glosses: int = 30_000
    vocabulary: int = 2000  # commonest words of glosses
    workdir: pathlib.Path = pathlib.Path("runs/starbucks")

    def __post_init__(self):
        super().__post_init__()
        limits = {"digit_steps": (1, 10**6), "gloss_steps": (2, 10**6), "vocabulary": (10, 10**6)}
        flags.check(self, limits | {"glosses": (1000, 10**6), "layers": (1, 1000)})
        losses.diagonal_grid(self.layers, self.sizes)


PAPER = {"steps": 2200, "batch_size": 128, "rates": (5e-5,), "length": 64, "parts": ("text",)}
PAPER |= {"layers": (2, 4, 6, 8, 10, 12), "sizes": (32, 64, 128, 256, 512, 768)}
QUICK = {"seeds": 1, "steps": 4, "digit_steps": 4, "gloss_steps": 20, "glosses": 2000, "parts": ("digits",)}
RUNS = {"text_sts": {"rates": (2e-5, 5e-5, 1e-4, 2e-4), "seeds": 3}}  # the second command above
# The best of three on validation images, for every arm; `--validate` tries them.
DIGIT_RATES = {"separate": 2e-3, "2DMSE": 2e-3, "SRL": 2e-3, "SRL, no KL": 2e-3, "SRL, sampled": 2e-3}
DIGIT_SIZES = (4, 8, 16, 24, 48, 64)
HELD = 500  # glosses that are not trained on
GLOSS_GRID = losses.diagonal_grid((1, 2, 3, 4), (8, 16, 32, 64))


def by_digits(cfg):
    """1-NN accuracy on the list and off it: separate models, 2DMSE, the list with and without the pull.

    A separate model has n blocks of the full width and is trained on its first ``size`` numbers alone.
    """
    images, labels = digits.read(cfg.seeds, cfg.validate)
    sizes = DIGIT_SIZES[::2] if cfg.quick else DIGIT_SIZES
    layers = range(1, len(sizes) + 1)
    listed, cells = losses.diagonal_grid(layers, sizes), losses.full_grid(layers, sizes)
    options = {"width": 64, "steps": cfg.digit_steps, "batch": 64, "warm": cfg.digit_steps // 8}
    fit = functools.partial(digits.fit, images=images, labels=labels, **options)
    found, others = {}, {}
    for label, _, rate in digits.runs({"separate": DIGIT_RATES["separate"]}, cfg.validate):
        alone = []
        for n, size in listed:
            flags.stage(f"digits, a model of {n} layers and {size} numbers")
            vectors = fit(functools.partial(losses.layer_objective, grid=((n, size),)), layers=n, rate=rate)
            alone.append(digits.nearest(vectors, labels, [(n, size)])[:, 0])
        found[label] = np.stack(alone, axis=1)
    # As in the code behind the paper: a pull of scores where search is trained, of vectors for similarity.
    kl = functools.partial(losses.score_kl_to_last, temperature=0.1)
    arms = {
        "2DMSE": functools.partial(losses.two_dimensional, layers=len(sizes), sizes=sizes),
        "SRL": functools.partial(losses.starbucks, grid=listed, pull=kl),
        "SRL, no KL": functools.partial(losses.starbucks, grid=listed, pull=None),
        "SRL, sampled": functools.partial(losses.starbucks, grid=listed, pull=kl, sampled=True),
    }
    chosen = {name: DIGIT_RATES[name] for name in (("2DMSE", "SRL") if cfg.quick else arms)}
    for label, name, rate in digits.runs(chosen, cfg.validate):
        others[label] = digits.nearest(fit(arms[name], layers=len(sizes), rate=rate), labels, cells)
        found[label] = others[label][:, [cells.index(pair) for pair in listed]]
        print(f"digits, {label}: {found[label].mean():.3f}", flush=True)
    differences = {} if cfg.validate else grid_results.digit_differences(found)
    grids = {name: x.mean(axis=0).tolist() for name, x in others.items()}
    details = {"cells": cells, "grids": grids, "by seed": grid_results.by_seed(found)}
    return listed_rows(found, others, listed, cells), differences, details


def listed_rows(found, others, listed, cells):
    """Rows of arms {arm: [S, P]}: the mean at each of P pairs of the list, their mean, and that of the rest.

    ``others`` is {arm: [S, C]} on all C cells, for arms that have them.
    """
    off, rows = [i for i, pair in enumerate(cells) if pair not in listed], []
    for name, values in found.items():
        row = {"arm": name} | {str(pair): float(x) for pair, x in zip(listed, values.mean(0), strict=True)}
        rest = float(others[name][:, off].mean()) if name in others else None
        rows.append(row | grid_results.spreads({"mean": values.mean(axis=1)}) | {"off the list": rest})
    return rows


def by_glosses(cfg):
    """Loss of masked words through every pair, of a model trained with SMAE and one by masked words alone."""
    glosses = sorted({r["gloss"] for r in data.wordnet()})
    order = np.random.default_rng(0).permutation(len(glosses))[: cfg.glosses]
    batch = data.word_ids([glosses[i] for i in order], cfg.vocabulary, length=16)
    train, held = np.split(np.arange(len(order)), [-HELD])
    model, found = recipes.masked_word_model(cfg.vocabulary, length=16), {}
    options = {"grid": GLOSS_GRID, "rows": train, "steps": cfg.gloss_steps}
    for name in ("SMAE", "MLM"):
        runs = []
        for seed in range(cfg.seeds):
            params = recipes.pre_train(model, batch, nested=name == "SMAE", seed=seed, **options)
            runs.append(recipes.masked_word_losses(model, params, batch, GLOSS_GRID, rows=held))
        found[name] = np.array(runs)  # [S, 3, P]
        print(f"glosses, {name}: {found[name][:, 0].mean():.3f}", flush=True)
    rows, chance = [], math.log(cfg.vocabulary)
    for name, values in found.items():
        kinds = ("words from states", "from the vector", "from a shuffled vector")
        for k, kind in enumerate(kinds if name == "SMAE" else kinds[:1]):
            row = {"arm": name, "loss": kind}
            row |= {str(p): float(x) for p, x in zip(GLOSS_GRID, values[:, k].mean(axis=0), strict=True)}
            rows.append(row | grid_results.spreads({"mean": values[:, k].mean(axis=1)}))
    rows.append({"arm": "chance", "loss": "log V"} | {str(p): chance for p in GLOSS_GRID} | {"mean": chance})
    differences = {
        "before the last": (found["MLM"] - found["SMAE"])[:, 0, :-1],
        "chance": -np.abs(found["MLM"][:, 0, 0] - chance),
        "shuffled": found["SMAE"][:, 2] - found["SMAE"][:, 1],
    }
    return rows, differences, {"by seed": grid_results.by_seed({name: x[:, 0] for name, x in found.items()})}


def by_text(cfg):
    """The list on a published encoder: untrained, 2DMSE, SRL."""
    listed = losses.diagonal_grid(cfg.layers, cfg.sizes)
    cells = losses.full_grid(range(1, cfg.layers[-1] + 1), cfg.sizes)
    drawn = functools.partial(losses.two_dimensional, layers=cfg.layers[-1], sizes=cfg.sizes)
    srl = functools.partial(losses.starbucks, grid=listed, pull=losses.vector_kl_to_last)
    arms, kept = {"2DMSE": (drawn, listed), "SRL": (srl, listed)}, "the encoder trained on the list (seed 0)"
    found, details = texts.compare(cfg, texts.checked_encoder(cfg), arms, cells, kept)
    on = {name: values[:, [cells.index(pair) for pair in listed]] for name, values in found.items()}
    differences = {"on the list": (on["SRL"] - on["2DMSE"]).mean(axis=1)}
    details |= {"by seed": grid_results.by_seed(on)}
    return listed_rows(on, found, listed, cells), differences, details


def look(cfg):
    """Refuses what the parts would stumble over, before the first of them begins."""
    inputs.installed("sklearn")
    inputs.sets(*(["wordnet"] if "glosses" in cfg.chosen_parts(PARTS) else []))
    if "text" in cfg.chosen_parts(PARTS):
        encoder = texts.checked_encoder(cfg)
        flags.at_most(cfg, "layers", encoder.depth, f"the encoder has {encoder.depth} blocks")
        flags.at_most(cfg, "sizes", encoder.width, f"the encoder has width {encoder.width}")


def run(cfg):
    made, tables, details = {"digits": by_digits, "glosses": by_glosses, "text": by_text}, {}, {}
    for part in cfg.chosen_parts(PARTS):
        tables[TITLES[part]], differences, rest = made[part](cfg)
        differences = {name: np.asarray(x).tolist() for name, x in differences.items()}
        details[part] = {"differences": differences} | rest
    return results.Result(tables, details)


above, within = grid_results.above, grid_results.within
PAPER_GAIN = 0.034  # mean Spearman of STS12 to STS16, STS-B and SICK-R over six pairs of BERT
CLAIMS = tuple(
    results.Claim("2410.13230", sentence, ours, paper)
    for sentence, ours, paper in (
        ("On digits SRL is above 2DMSE on the list", above("digits", "on the list"), None),
        ("On digits each of the two smallest pairs gains more over 2DMSE than every other",
         above("digits", "smallest"), None),
        ("On digits SRL is at most 1.5 points below separate models",
         above("digits", "separate", -0.015), None),
        ("On glosses SMAE is 1 nat below plain masked words for words read from states, before the last pair",
         above("glosses", "before the last", 1.0), None),
        ("On glosses plain masked words, read from states, are within 1 nat of chance at the smallest pair",
         within("glosses", "chance", 1.0), None),
        ("On glosses words from the true vector have a lower loss than from a shuffled one, at every pair",
         above("glosses", "shuffled"), None),
        ("With a text encoder SRL is above 2DMSE on the list", above("text", "on the list"), PAPER_GAIN),
    )
)  # fmt: skip


if __name__ == "__main__":
    options = {"figures": figures, "quick": QUICK, "paper": PAPER, "check": look, "runs": RUNS}
    results.main("nesting.starbucks", Config, run, CLAIMS, together=[("layers", "sizes")], **options)
