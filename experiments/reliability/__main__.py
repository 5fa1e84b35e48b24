"""What is lost, and what goes wrong in silence, when runs are killed and files are damaged?

    python -m experiments.reliability            # the campaign: `make faults`
    python -m experiments.reliability --quick    # some tries of each kind

Kills and stops runs, damages checkpoints, indexes and the files of every reader, lets two writers meet, fills
disks up, and counts what a long run holds. About a quarter of an hour on 2 CPU cores.
"""

import contextlib
import dataclasses
import functools
import pathlib
import tempfile

import numpy as np

from experiments.reliability import fuzz, indexes, training
from experiments.reliability.outcomes import COLUMNS, RIGHT, TOLD, row
from experiments.shared import flags, results
from experiments.shared.results import Claim, Result, holds

TRIES, READERS, LONG = "tries", "readers", "one long run"


@dataclasses.dataclass(frozen=True)
class Config:
    """Tries every kind of fault, and counts how each try ended."""

    tries: int = 80
    """damaged files of each kind"""
    processes: int = 5
    """runs that are killed, and runs that are stopped, and meetings of two writers"""
    mutations: int = 12
    """damaged files of each reader"""
    steps: int = 20_000
    """steps of the long run, with a checkpoint every 20; 0 leaves it out"""
    seed: int = 0
    """seed of the faults"""
    workdir: pathlib.Path | None = None
    """folder for the runs and indexes that are damaged (default: a temporary one)"""
    quick: bool = False
    """some tries of each kind"""
    results: pathlib.Path | None = None
    """folder for results; default beside this experiment"""


QUICK = {"tries": 12, "processes": 1, "mutations": 1, "steps": 400}


def campaigns(cfg, base):
    """{what happens: ends of its tries}, each begun when it is read."""
    rng = np.random.default_rng(cfg.seed)
    yield "a file of a run is damaged", training.flips(base, cfg.tries, rng)
    for form in indexes.FORMS:
        yield f"a file of an index of {form} is damaged", indexes.flips(base, cfg.tries, rng, form)
    yield "the disk is full beside an index", indexes.full_disk(base, cfg.tries, rng)
    yield "the disk is full beside a run", training.full_disk(base, cfg.tries // 4, rng)
    yield "two processes add to one index", indexes.writers(base, cfg.processes)
    yield "two runs use one folder", training.two_runs(base, cfg.processes)
    yield "a run is killed", training.kills(base, cfg.processes, rng)
    yield "one process gets a signal", training.signals(base, cfg.processes, rng, 1)
    yield "two processes get signals, one later", training.signals(base, cfg.processes, rng, 2)
    yield "one of two processes is killed", training.losses(base, 3 * cfg.processes // 5)


def run(cfg):
    """The long run, what readers do, and the campaigns, one after the other; yields all that is known."""
    tables = {TRIES: [], READERS: [], LONG: []}
    with contextlib.ExitStack() as stack:
        base = cfg.workdir or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base.mkdir(parents=True, exist_ok=True)
        if cfg.steps:
            flags.stage(f"a run of {cfg.steps:,} steps")
            tables[LONG] = training.long_run(base / "long", cfg.steps, max(1, cfg.steps // 20))
        flags.stage("all readers")
        tables[READERS] = fuzz.rows(cfg.mutations, cfg.seed)
        yield told(tables)
        for name, ends in campaigns(cfg, base):
            flags.stage(name)
            tables[TRIES].append(row(name, ends))
            yield told(tables)


def told(tables):
    """The tables so far, and how many tries ended as none may."""
    rows = tables[TRIES] + tables[READERS]
    bad = {name: sum(r[name] for r in rows) for name in COLUMNS if name not in (RIGHT, TOLD)}
    tried = sum(r["tries"] for r in rows)
    closing = f"not as promised: {sum(bad.values())} of {tried} tries"
    return Result(tables, {"seeds": 1, "bad": bad, "tried": tried}, closing=closing)


def kept(numbers):
    """Is nothing lost, silent or nameless?"""
    return holds(not any(numbers["bad"].values()), sum(numbers["bad"].values()))


def flat(numbers):
    """Does a long run hold as much at its end as at its beginning?"""
    return holds(training.flat(numbers[LONG])) if numbers[LONG] else None


CLAIMS = (
    Claim("", "No fault ends in a loss, in silence, or without a file and a remedy (tries that do)", kept),
    Claim("", "A long run does not grow in memory, descriptors, threads or compiled programs", flat),
)


def draw(axes, rows):
    """How the tries of each campaign ended, as shares."""
    names, left = [r["campaign"] for r in rows], np.zeros(len(rows))
    for end, colour in zip(COLUMNS, ("C2", "C0", "C3", "C1", "k"), strict=True):
        share = np.array([r[end] / max(1, r["tries"]) for r in rows])
        axes.barh(names, share, left=left, color=colour, label=end)
        left = left + share
    axes.invert_yaxis()
    axes.set(xlabel="share of tries", xlim=(0, 1), title="How a fault ends")
    axes.legend(loc="upper center", bbox_to_anchor=(0.3, -0.12), ncols=5, fontsize=8)


def figures(numbers):
    """The ends of all campaigns."""
    return {"": functools.partial(draw, rows=numbers[TRIES] + numbers[READERS])}


if __name__ == "__main__":
    results.main("reliability", Config, run, CLAIMS, figures=figures, quick=QUICK)
