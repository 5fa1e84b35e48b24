"""What is lost, and what goes wrong in silence, when runs are killed and files are damaged?

    python -m experiments.reliability            # the campaign: `make faults`
    python -m experiments.reliability --quick    # some tries of each kind

Kills and stops runs, damages checkpoints and indexes, lets two writers meet and disks fill up. About a
quarter of an hour on 2 CPU cores.
"""

import contextlib
import dataclasses
import pathlib
import tempfile

import numpy as np

from experiments.reliability import indexes, training
from experiments.reliability.outcomes import COLUMNS, RIGHT, TOLD, row
from experiments.shared import flags, results
from experiments.shared.results import Result


@dataclasses.dataclass(frozen=True)
class Config:
    """Tries every kind of fault, and counts how each try ended."""

    tries: int = 200
    """damaged files of each kind"""
    processes: int = 12
    """runs that are killed, and runs that are stopped, and meetings of two writers"""
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


QUICK = {"tries": 12, "processes": 1, "steps": 400}


def campaigns(cfg, base):
    """{what happens: ends of its tries}, each begun when it is read."""
    rng = np.random.default_rng(cfg.seed)
    yield "a run is killed", training.kills(base, cfg.processes, rng)
    yield "one process gets a signal", training.signals(base, cfg.processes, rng, 1)
    yield "two processes get signals, one later", training.signals(base, cfg.processes, rng, 2)
    yield "a file of a checkpoint is damaged", training.flips(base, cfg.tries, rng)
    for form in indexes.FORMS:
        yield f"a file of an index of {form} is damaged", indexes.flips(base, cfg.tries, rng, form)
    yield "two processes add to one index", indexes.writers(base, cfg.processes)
    yield "the disk is full", indexes.full_disk(base, cfg.tries, rng)


def run(cfg):
    """All campaigns, one after the other, and the long run."""
    with contextlib.ExitStack() as stack:
        base = cfg.workdir or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base.mkdir(parents=True, exist_ok=True)
        rows = []
        for name, ends in campaigns(cfg, base):
            flags.stage(name)
            rows.append(row(name, ends))
        tables = {"tries": rows}
        if cfg.steps:
            flags.stage(f"a run of {cfg.steps:,} steps")
            long = training.long_run(base / "long", cfg.steps, max(1, cfg.steps // 20))
            tables["one long run"] = long
        bad = {name: sum(r[name] for r in rows) for name in COLUMNS if name not in (RIGHT, TOLD)}
        grew = bool(cfg.steps) and not training.flat(long)
    details = {"seeds": 1, "bad": bad, "grew": grew}
    closing = f"not as promised: {sum(bad.values())} of {sum(r['tries'] for r in rows)} tries"
    return Result(tables, details, closing=closing)


if __name__ == "__main__":
    results.main("reliability", Config, run, quick=QUICK)
