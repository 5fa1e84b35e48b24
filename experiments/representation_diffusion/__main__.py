"""Do embeddings that were learnt without labels tell a diffusion model what to draw, and where?

    python -m experiments.representation_diffusion             # mosaics of digits
    python -m experiments.representation_diffusion --quick     # fewer steps, one seed

An encoder learns windows of mosaics by contrast. A small U-Net learns to draw a window from its embedding.
Large canvases are then drawn by windows that overlap, each with an embedding between those of a coarse grid:
the grid of a real mosaic, or one that a second diffusion model draws from the digits asked for.

Paper: Learned representation-guided diffusion models for large-image generation (arXiv:2312.07330). About 5
minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.representation_diffusion import models
from experiments.representation_diffusion.answers import (
    CLAIMS,
    FREE,
    GIVEN,
    OTHER,
    OVERLAP,
    REAL,
    TEXT,
    TILES,
    figures,
)
from experiments.shared import flags, inputs, results
from experiments.shared.results import Result
from jaxembed import metrics


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains an encoder, a denoiser and a prior, and draws windows and canvases."""

    steps: int = 1500
    encoder_steps: int = 600
    prior_steps: int = 2000
    batch_size: int = 64
    scale: float = 2.0  # of guidance, for windows
    canvas_scale: float = 4.0  # for canvases; the paper's weight of 3
    sampling_steps: int = 25
    drawn: int = 192  # windows of a seed
    canvases: int = 3  # of a seed
    stride: int = 2  # of the overlapping windows
    labels: int = 5  # of each class, in the test of augmentation
    copies: int = 8  # of each labelled digit
    seeds: int = 5  # of sampling, mosaics and labels; each network is trained once
    quick: bool = False  # 200 steps, one seed
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"steps": (1, 10**6), "encoder_steps": (1, 10**6), "prior_steps": (1, 10**6)}
        limits |= {
            "batch_size": (1, 10**4),
            "scale": (0, 100),
            "canvas_scale": (0, 100),
            "drawn": (32, 10**5),
        }
        limits |= {"sampling_steps": (1, 1000), "canvases": (1, 1000), "stride": (1, 8), "labels": (1, 100)}
        flags.check(self, limits | {"copies": (1, 1000), "seeds": (1, 100)})


QUICK = {"steps": 200, "encoder_steps": 100, "prior_steps": 200, "seeds": 1, "sampling_steps": 10}


def of_windows(cfg, params, encode, test, seed):
    """Rows of one seed: drawn windows beside real ones."""
    real = models.windows(test, cfg.drawn, seed)
    z = encode(real)
    rows = []
    for name, scale in ((GIVEN, cfg.scale), (FREE, 0.0)):
        images = models.patches(cfg, params, z, seed, scale)
        distance = metrics.frechet_distance(
            real.reshape(len(real), -1), images.reshape(len(real), -1), size=32
        )
        rows.append(
            {"windows": name, "Frechet distance": float(distance), "similarity": alike(encode(images), z)}
        )
        if name == GIVEN:
            rows.append({"windows": OTHER, "similarity": alike(encode(images), np.roll(z, 1, axis=0))})
    return rows


def alike(first, second):
    """Mean cosine of embeddings, row by row."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    return float((unit[0] * unit[1]).sum(axis=1).mean())


def seam(canvases):
    """Mean absolute difference of neighbours across the borders of cells, divided by that elsewhere."""
    across, inside = [], []
    for x in (canvases, canvases.swapaxes(1, 2)):
        gaps = np.abs(np.diff(x, axis=1))
        border = np.arange(1, gaps.shape[1] + 1) % models.SIDE == 0
        across.append(gaps[:, border].mean())
        inside.append(gaps[:, ~border].mean())
    return float(np.mean(across) / np.mean(inside))


def of_canvases(cfg, params, encode, judge, draw, test, seed):
    """Rows of one seed, and a picture of each kind of canvas."""
    images, labels = test
    real, truth = models.mosaics(images, labels, cfg.canvases, 100 + seed)
    wide, _ = models.mosaics(images, labels, 2 * cfg.canvases, 200 + seed)
    moved = np.concatenate([wide[::2], wide[1::2]], axis=2)[:, :, 4:36]  # borders of cells cut digits
    grids = {"aligned": models.grids(encode, real), "moved": models.grids(encode, moved)}
    rows, shown = (
        [{"canvases": REAL, "seam": seam(moved), "right cells": right(judge, real, truth)}],
        [moved[0]],
    )
    for name, stride in ((OVERLAP, cfg.stride), (TILES, models.SIDE)):
        drawn = {kind: models.canvases(cfg, params, g, seed, stride) for kind, g in grids.items()}
        row = {
            "canvases": name,
            "seam": seam(drawn["moved"]),
            "right cells": right(judge, drawn["aligned"], truth),
        }
        cells = models.grids(encode, drawn["aligned"]).reshape(-1, models.WIDTH)
        rows.append(row | {"similarity": alike(cells, grids["aligned"].reshape(-1, models.WIDTH))})
        shown.append(drawn["moved"][0])
        if name == OVERLAP:
            aligned = [real[0], drawn["aligned"][0]]
    asked = np.random.default_rng(300 + seed).integers(10, size=(cfg.canvases, models.CELLS))
    texts = models.canvases(cfg, params, draw(words(asked), seed), seed, cfg.stride)
    rows.append({"canvases": TEXT, "right cells": right(judge, texts, asked[:, :, None])})
    return rows, [*shown, *aligned, texts[0]], asked[0].tolist()


def right(judge, canvases, truth):
    """The share of cells that a judge takes for the digit they should show."""
    cells = models.cut(canvases)
    told = judge(cells.reshape(-1, models.SIDE, models.SIDE, 1)).reshape(cells.shape[:3])
    return float((told == truth).mean())


def words(asked):
    """The text "row of DIGIT, row of DIGIT, ..." as numbers [N, 40]: which digit each row has."""
    return np.eye(10, dtype=np.float32)[asked].reshape(len(asked), -1)


def of_labels(cfg, params, encode, parts, seed):
    """Rows of one seed: a logistic regression on few labelled digits, with and without drawn variations."""
    (images, labels), (asked, truth) = parts["train"], parts["test"]
    order = np.random.default_rng(seed).permutation(len(labels))
    rows = np.concatenate([order[labels[order] == n][: cfg.labels] for n in range(10)])
    known, names = images[rows], labels[rows]
    z = np.repeat(encode(known), cfg.copies, axis=0)
    more = np.concatenate([known, models.patches(cfg, params, z, seed, cfg.scale)])
    both = np.concatenate([names, np.repeat(names, cfg.copies)])
    found = []
    for name, x, y in (("labelled digits", known, names), ("and drawn variations", more, both)):
        flat = (v.reshape(len(v), -1) for v in (x, asked))
        accuracy = metrics.linear_probe(next(flat), y, next(flat), truth, standardise=False, c=0.1)
        found.append({"training": name, "accuracy": accuracy})
    return found


def tabled(runs):
    """One row for each arm, with means and deviations over the seeds."""
    found = []
    for rows in zip(*runs, strict=True):
        key = next(iter(rows[0]))
        line = {key: rows[0][key]}
        for name in rows[0].keys() - {key}:
            line[name], line[f"± {name}"] = results.spread([row[name] for row in rows])
        found.append(
            dict(sorted(line.items(), key=lambda x: (x[0] != key, x[0].lstrip("± ")))) | {"runs": list(rows)}
        )
    return found


def run(cfg):
    parts = models.split()
    known, test = (models.mosaics(*parts[name], 400, n)[0] for n, name in enumerate(("train", "test")))
    images = models.windows(known, 20_000, 2)
    encode = models.encoder(cfg, images)
    flags.stage("encoder is trained")
    params = models.denoiser(cfg, images, encode(images))
    flags.stage("denoiser is trained")
    rows, labels = models.mosaics(*parts["train"], 2000, 3, rows=True)
    draw = models.prior(cfg, models.grids(encode, rows), words(labels[:, :, 0]))
    judge, found, shown = (
        metrics.fit_judge(*parts["train"]),
        {"windows": [], "canvases": [], "labels": []},
        None,
    )
    flags.stage("prior is trained")
    for seed in range(cfg.seeds):
        found["windows"].append(of_windows(cfg, params, encode, test, seed))
        line, pictures, asked = of_canvases(cfg, params, encode, judge, draw, parts["test"], seed)
        found["canvases"].append(line)
        found["labels"].append(of_labels(cfg, params, encode, parts, seed))
        shown = shown or {
            "pictures": np.rint(127.5 * (np.stack(pictures)[..., 0] + 1)).astype(int).tolist(),
            "asked": asked,
        }
        flags.stage(f"seed {seed} is done")
    return Result({name: tabled(runs) for name, runs in found.items()}, {"shown": shown})


if __name__ == "__main__":
    look = lambda cfg: inputs.installed("sklearn")  # noqa: E731
    results.main("representation_diffusion", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
