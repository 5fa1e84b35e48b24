"""Do embeddings that were learnt without labels tell a diffusion model what to draw, and where?

    python -m experiments.representation_diffusion             # mosaics of digits
    python -m experiments.representation_diffusion --quick     # fewer steps, one seed

An encoder learns windows of mosaics by contrast. A small U-Net learns to draw a window from its embedding.
Large canvases are then drawn by windows that overlap. Each has an embedding between those of the cells of a
real mosaic, or one of its own, or one that a second diffusion model draws from the digits asked for.

Paper: Learned representation-guided diffusion models for large-image generation (arXiv:2312.07330). About 5
minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.representation_diffusion import models
from experiments.representation_diffusion.answers import (
    AXES,
    BETWEEN,
    CLAIMS,
    EACH,
    FREE,
    GIVEN,
    OTHER,
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
    text_stride: int = 4  # of those that the prior draws embeddings of
    labels: int = 5  # of each class, in the test of augmentation
    copies: int = 8  # of each labelled digit
    seeds: int = 5  # of sampling, mosaics and labels; each network is trained once
    quick: bool = False  # 60 steps, one seed
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"steps": (1, 10**6), "encoder_steps": (1, 10**6), "prior_steps": (1, 10**6)}
        limits |= {
            "batch_size": (1, 10**4),
            "scale": (0, 100),
            "canvas_scale": (0, 100),
            "drawn": (32, 10**5),
        }
        limits |= {
            "sampling_steps": (1, 1000),
            "canvases": (1, 1000),
            "stride": (1, 8),
            "text_stride": (1, 8),
            "labels": (1, 100),
        }
        flags.check(self, limits | {"copies": (1, 1000), "seeds": (1, 100)})


QUICK = {"steps": 60, "encoder_steps": 60, "prior_steps": 60, "seeds": 1, "sampling_steps": 10}


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


def references(images, labels, cfg, seed):
    """({kind: canvases}, truth): mosaics whose cells are windows, and ones that are moved by half a cell."""
    real, truth = models.mosaics(images, labels, cfg.canvases, 100 + seed)
    wide, _ = models.mosaics(images, labels, 2 * cfg.canvases, 200 + seed)
    moved = np.concatenate([wide[::2], wide[1::2]], axis=2)[:, :, 4:36]  # borders of cells cut digits
    return {"moved": moved, "aligned": real}, truth


def conditions(cfg, encode, real):
    """{arm: (embeddings [N, W, D] of its windows, stride)} for one kind of canvas."""
    cells, every = models.grids(encode, real), models.grids(encode, real, cfg.stride)
    flat = lambda z: z.reshape(len(z), -1, models.WIDTH)  # noqa: E731
    between = models.between(cells, cfg.stride)
    return {
        BETWEEN: (between, cfg.stride),
        EACH: (flat(every), cfg.stride),
        TILES: (flat(cells), models.SIDE),
    }


def of_canvases(cfg, nets, judge, draw, parts, seed):
    """Rows of one seed, and a picture of each kind of canvas."""
    both, truth = references(*parts, cfg, seed)
    row = {"canvases": REAL, "seam": seam(both["moved"]), "right cells": right(judge, both["aligned"], truth)}
    rows, pictures = [row], {kind: [x[0]] for kind, x in both.items()}
    for net, (encode, params) in nets.items():
        given = {kind: conditions(cfg, encode, x) for kind, x in both.items()}
        for arm in (BETWEEN, EACH, TILES) if net == EACH else (EACH,):
            drawn = {k: models.canvases(cfg, params, g[arm][0], seed, g[arm][1]) for k, g in given.items()}
            row = {"canvases": arm if net == EACH else net, "seam": seam(drawn["moved"])}
            row["right cells"] = right(judge, drawn["aligned"], truth)
            row["crop Frechet"] = crops(both["aligned"], drawn["aligned"])
            own = models.grids(encode, both["aligned"], given["aligned"][arm][1]).reshape(-1, models.WIDTH)
            row["condition's cosine"] = alike(given["aligned"][arm][0].reshape(-1, models.WIDTH), own)
            rows.append(row)
            for kind, images in drawn.items():
                pictures[kind].append(images[0])
    asked = np.random.default_rng(300 + seed).integers(10, size=(cfg.canvases, models.CELLS))
    z = draw(words(asked), seed).reshape(cfg.canvases, -1, models.WIDTH)
    texts = models.canvases(cfg, nets[EACH][1], z, seed, cfg.text_stride)
    rows.append({"canvases": TEXT, "right cells": right(judge, texts, asked[:, :, None])})
    shown = [*pictures["moved"], *pictures["aligned"][:-1], texts[0]]
    return rows, shown, asked[0].tolist()


def crops(real, drawn):
    """Frechet distance of crops as large as a window, on 32 principal axes."""
    return float(metrics.crop_frechet(real, drawn, models.SIDE, size=32))


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


def fitted(cfg, parts, images):
    """{net: (encode, parameters of its denoiser)}, and a prior over the embeddings of the first."""
    nets = {EACH: models.encoder(cfg, images), AXES: models.principal(images)}
    flags.stage("encoder is trained")
    for name, encode in nets.items():
        nets[name] = (encode, models.denoiser(cfg, images, encode(images)))
        flags.stage(f"denoiser is trained: {name}")
    rows, labels = models.mosaics(*parts["train"], 2000, 3, rows=True)
    grids = models.grids(nets[EACH][0], rows, cfg.text_stride)
    draw = models.prior(cfg, grids, words(labels[:, :, 0]))
    flags.stage("prior is trained")
    return nets, draw


def run(cfg):
    parts = models.split()
    known, test = (models.mosaics(*parts[name], 400, n)[0] for n, name in enumerate(("train", "test")))
    nets, draw = fitted(cfg, parts, models.windows(known, 20_000, 2))
    encode, params = nets[EACH]
    judge, found, shown = (
        metrics.fit_judge(*parts["train"]),
        {"windows": [], "canvases": [], "labels": []},
        None,
    )
    for seed in range(cfg.seeds):
        found["windows"].append(of_windows(cfg, params, encode, test, seed))
        line, pictures, asked = of_canvases(cfg, nets, judge, draw, parts["test"], seed)
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
