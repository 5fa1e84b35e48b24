"""Does searching the embeddings of classes adapt a frozen classifier to classes that it never saw?

    python -m experiments.concept_recognition
    python -m experiments.concept_recognition --validate   # chooses the rates, on validation images
    python -m experiments.concept_recognition --quick

A tower of images is aligned to the space of a text encoder by eight digits and their names; a class is the
token states of its name, scored by alignment logits. Two other digits are then learned from few images: by
their names as they are, by the encoder's inputs (prompt tuning), or by its outputs (ConES).

Paper: ConES (arXiv:2305.18993). `make data` brings all-MiniLM-L6-v2. About 3 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.concept_recognition import frozen, searches
from experiments.concept_recognition.answers import (
    ALIGNER,
    ARMS,
    CLAIMS,
    CONES,
    HAND,
    MOMENTS,
    PROMPT,
    TUNED,
    figures,
)
from experiments.concept_recognition.searches import KINDS
from experiments.shared import flags, inputs, results, text_models
from experiments.shared.results import Result
from jaxembed import diffusion
from jaxembed.arrays import unit


@dataclasses.dataclass(frozen=True)
class Config:
    """Learns two unseen digits from a few images by several searches."""

    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    shots: tuple[int, ...] = (1, 4, 16)  # images of each unseen class
    steps: int = 100  # of a search
    tower_steps: int = 300
    align_steps: int = 600
    prompt_rate: float = 0.001  # of prompt tuning
    rate: float = 0.01  # of ConES
    tune_rate: float = 0.001  # of the aligner, in the second stage
    rates: tuple[float, ...] = (0.0003, 0.001, 0.003, 0.01, 0.03)  # that --validate compares
    canvases: int = 20  # of 8 x 8 digits each, in the test of the detector
    seeds: int = 5  # of the split, the unseen pair and the images
    validate: bool = False  # compares rates on validation images, by other seeds and other pairs
    quick: bool = False  # 20 steps, one number of shots, one seed
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"shots": (1, 50), "steps": (1, 10**5), "tower_steps": (1, 10**5), "align_steps": (1, 10**5)}
        limits |= {"prompt_rate": (1e-7, 1), "rate": (1e-7, 1), "tune_rate": (1e-7, 1), "rates": (1e-7, 1)}
        flags.check(self, limits | {"canvases": (1, 10**4), "seeds": (1, 50)})


QUICK = {"steps": 20, "tower_steps": 30, "align_steps": 100, "shots": (4,), "canvases": 2, "seeds": 1}
PAIRS = (
    (7, 4),
    (3, 8),
    (2, 6),
    (9, 1),
    (0, 5),
    (8, 1),
    (6, 3),
)  # unseen digits of a seed; the last: validation
RATED = {PROMPT: "prompt_rate", CONES: "rate", MOMENTS: "rate", ALIGNER: "tune_rate", TUNED: "tune_rate"}


class World:
    """The frozen parts of one seed, and features of all its images."""

    def __init__(self, cfg, encoder, read, seed, part):
        self.names, self.mask, self.through = read
        self.unseen = np.array(PAIRS[seed % len(PAIRS)])
        self.text = {name: x for name, x in encoder.params.items() if name != "table"}
        self.known = np.setdiff1d(np.arange(10), self.unseen)
        parts = frozen.split(seed)
        images, self.labels = parts["train"]
        see = frozen.tower(images[np.isin(self.labels, self.known)], cfg.tower_steps, seed)
        self.features, self.asked = np.asarray(see(images)), np.asarray(see(parts[part][0]))
        self.truth = parts[part][1]
        given = (self.features, self.labels, self.names, self.known)
        self.aligner = frozen.aligned(*given, cfg.align_steps, seed)
        self.concepts = unit(self.names.states)

    def shots(self, count, seed):
        """(features, labels) of ``count`` training images of each unseen class."""
        order = np.random.default_rng(seed).permutation(len(self.labels))
        rows = np.concatenate([order[self.labels[order] == n][:count] for n in self.unseen])
        return self.features[rows], self.labels[rows]

    def held(self, count, seed):
        """What a search reads and leaves as it is."""
        x, labels = self.shots(count, seed)
        held = {"aligner": self.aligner, "text": self.text, "mask": self.mask[self.unseen], "x": x}
        held |= {"labels": labels, "concepts": self.concepts, "unseen": self.unseen}
        return held | {"where": self.names.where}


def start_of(arm, world, seed):
    """Where the search of an arm begins."""
    if KINDS[arm] == "aligner":
        return world.aligner["kernel"]
    if arm == PROMPT:
        return world.names.rows[world.unseen]
    if arm == CONES:
        return world.names.states[world.unseen]
    known = world.names.states[world.known][world.names.where[world.known]]
    shape = world.names.states[world.unseen].shape
    return diffusion.draw_rows(jax.random.key(seed), known, shape[0] * shape[1]).reshape(shape)


def searched(cfg, world, arm, count, rate, seed, concepts=None):
    """(aligner, concepts) that an arm finds from ``count`` images of each unseen class."""
    held = world.held(count, seed)
    held |= {} if concepts is None else {"concepts": concepts}
    run = searches.program(KINDS[arm], cfg.steps, world.through)
    return run(start_of(arm, world, seed), held, jnp.float32(rate), jax.random.key(seed))


def told(world, found, features):
    aligner, concepts = found
    return np.asarray(frozen.logits(frozen.regions(aligner, features), concepts, world.names.where))


def measured(cfg, world, found, seed):
    """{"unseen", "known", "cells"} of one arm: accuracy among ten classes, and precision of a detector."""
    right = told(world, found, world.asked).argmax(axis=1) == world.truth
    unseen = np.isin(world.truth, world.unseen)
    row = {"unseen": float(right[unseen].mean()), "known": float(right[~unseen].mean())}
    scores = told(world, found, world.asked)[:, world.unseen]
    return row | {"cells": frozen.cell_precision(scores, world.truth, world.unseen, cfg.canvases, seed)}


def one_seed(cfg, world, seed):
    """Rows of all arms and numbers of shots."""
    rows = []
    for count in cfg.shots:
        flags.stage(f"seed {seed}: {count} images of each unseen digit")
        for arm in ARMS:
            if arm == HAND:
                found = world.aligner, world.concepts
            elif arm == TUNED:
                concepts = searched(cfg, world, CONES, count, cfg.rate, seed)[1]
                found = searched(cfg, world, arm, count, cfg.tune_rate, seed, concepts)
            else:
                found = searched(cfg, world, arm, count, getattr(cfg, RATED[arm]), seed)
            rows.append({"arm": arm, "shots": count, "seed": seed} | measured(cfg, world, found, seed))
    return rows


def costs(world):
    """Operations of one gradient of prompt tuning and of ConES, by XLA's count."""
    found = {}
    for arm in (PROMPT, CONES):
        loss = searches.loss_of(KINDS[arm], world.through)
        slope = jax.jit(jax.grad(lambda rows, held, loss=loss: jnp.mean(loss(rows, held, None, None))))
        lowered = slope.lower(start_of(arm, world, 0), world.held(4, 0))
        found[arm] = float(lowered.cost_analysis()["flops"])
    return found


def validated(cfg, encoder, read):
    """Rows of every rate on validation images, two seeds and pairs that the test does not have."""
    rows = []
    for seed in (5, 6):
        world = World(cfg, encoder, read, seed, "validation")
        for arm in (PROMPT, CONES, ALIGNER):
            for rate in cfg.rates:
                flags.stage(f"validation {seed}: {arm} at {rate:g}")
                found = searched(cfg, world, arm, 4, rate, seed)
                rows.append(
                    {"arm": arm, "rate": f"{rate:g}", "seed": seed} | measured(cfg, world, found, seed)
                )
    return rows


def means(rows, by):
    """One row for each value of ``by``: means over seeds and their standard deviations."""
    table = []
    for names in dict.fromkeys(tuple(r[b] for b in by) for r in rows):
        mine = [r for r in rows if tuple(r[b] for b in by) == names]
        row = dict(zip(by, names, strict=True))
        for key in ("unseen", "known", "cells"):
            row[key], row[f"± {key}"] = results.spread([r[key] for r in mine])
        table.append(row)
    return table


def run(cfg):
    """All arms of all seeds, or the rates on validation images."""
    encoder = text_models.load(cfg.model)
    read = frozen.read_names(encoder)
    if cfg.validate:
        rows = validated(cfg, encoder, read)
        return Result({"rates": means(rows, ("arm", "rate"))}, {"validated": rows, "seeds": 2})
    worlds = [World(cfg, encoder, read, seed, "test") for seed in range(cfg.seeds)]
    rows = [row for seed, world in enumerate(worlds) for row in one_seed(cfg, world, seed)]
    cost = costs(worlds[0])
    shares = [
        {"arm": arm, "share of prompt tuning's operations": x / cost[PROMPT]} for arm, x in cost.items()
    ]
    return Result({"accuracy": means(rows, ("shots", "arm")), "cost": shares}, {"rows": rows, "costs": cost})


def look(cfg):
    """Refuses a run whose data are missing."""
    text_models.find_model(cfg.model)
    inputs.installed("sklearn")


if __name__ == "__main__":
    results.main("concept_recognition", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
