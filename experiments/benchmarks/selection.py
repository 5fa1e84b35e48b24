"""Are pairs scored as fast as memory gives their vectors, and a pool selected as fast as NumPy partitions it?

    python -m experiments.benchmarks.selection
    python -m experiments.benchmarks.selection --pairs 100000 --scores 1000000 --rounds 3

1 minute on 2 CPU cores and 2 GB. A block of pairs that no cache holds is scored again and again; twenty
of them are a pool of 10 million. The floor is reading both sides once: the inner product of all their numbers
by BLAS. Beside it stands memcpy, which reads and writes as many bytes in sum. All work on as many threads.
A cosine is three products where the floor is one; numkong makes all three on one way through the vectors.
Rates are of wall time, and of CPU time for a busy machine. Selection is timed beside one `argpartition`,
which leaves the rows in no order, and beside a full sort.
"""

import concurrent.futures
import dataclasses
import os
import pathlib

import numpy as np

from experiments.benchmarks import timing
from experiments.shared import flags, results
from jaxembed import data

FLOOR, COPY, PARTITION, SORT = "reading both sides", "memcpy", "numpy argpartition", "numpy argsort"
POOL = 10_000_000  # pairs that the summary counts
THREADS = min(8, os.cpu_count() or 1)  # as many as pair_scores has


@dataclasses.dataclass(frozen=True)
class Config:
    """Times scoring of pairs and selection from a pool."""

    pairs: int = 500_000  # of a block
    width: int = 256  # floats of each side
    scores: int = 10_000_000  # of the pool
    keep: float = 0.1
    rounds: int = 9  # of selection; blocks of pairs, which take less time, have five times as many
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        limits = {"pairs": (1000, 10**8), "width": (1, 10**5), "scores": (100, 10**9), "rounds": (1, 1000)}
        flags.check(self, limits | {"keep": (1e-6, 1)})


def scoring(cfg):
    """{arm: function without arguments}, each of which reads 8 pairs width bytes in sum, or moves as many."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal((cfg.pairs, cfg.width), dtype=np.float32)
    second = first[::-1] + np.float32(0.1)
    target, threads = np.empty_like(first), concurrent.futures.ThreadPoolExecutor(THREADS)
    parts = [np.array_split(x.reshape(-1), THREADS) for x in (first, second, target)]
    return {
        "pair_scores": lambda: data.pair_scores(first, second),
        FLOOR: lambda: list(threads.map(np.dot, *parts[:2])),
        COPY: lambda: list(threads.map(np.copyto, parts[2], parts[0])),
    }


def selecting(cfg):
    """{arm: function without arguments} that choose rows of one pool."""
    scores = np.random.default_rng(1).standard_normal(cfg.scores, dtype=np.float32)
    keep = int(cfg.keep * cfg.scores)
    place = cfg.scores - keep
    return {
        "select": lambda: data.select(scores, keep),
        PARTITION: lambda: np.argpartition(scores, place)[place:],
        SORT: lambda: np.argsort(scores)[place:],
    }


def by_title(rows):
    """Rows as tables of their own: {title: rows}."""
    return {"selection": rows}


def summary(cfg, rows):
    """Our rates beside those of reading and copying memory, and our selection beside NumPy's."""
    named = {row["arm"]: row for row in rows}
    pool = f"score {POOL / 1e6:g}M pairs of {cfg.width} floats"
    chosen = f"select {cfg.keep:.0%} of {cfg.scores / 1e6:g}M scores, ms"
    found = [
        timing.compared(f"{pool}, {unit}", peer, named["pair_scores"][unit], named[peer][unit], rate=True)
        for unit in ("GB/s", "GB per CPU second")
        for peer in (FLOOR, COPY)
    ]
    return found + [
        timing.compared(chosen, peer, named["select"]["least ms"], named[peer]["least ms"], rate=False)
        for peer in (PARTITION, SORT)
    ]


def run(cfg):
    """Times of every arm; the least time of a turn is what the machine can do."""
    rows, moved = [], 8e-9 * cfg.pairs * cfg.width
    for calls, rounds in ((scoring(cfg), 5 * cfg.rounds), (selecting(cfg), cfg.rounds)):
        for arm, t in timing.in_turns(calls, rounds).items():
            row = {"arm": arm, "ms": 1e3 * t["median"], "least ms": 1e3 * t["least"]}
            row["CPU ms"] = 1e3 * t["cpu"]
            if "select" not in calls:
                row |= {"GB/s": moved / t["least"], "GB per CPU second": moved / t["cpu"]}
            rows.append(row)
    return results.Result({"summary": summary(cfg, rows)} | by_title(rows))


if __name__ == "__main__":
    results.main("benchmarks.selection", Config, run)
