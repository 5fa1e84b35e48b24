"""Pairs per second of locality batches: a part of the benchmark of codes."""

import numpy as np

from experiments.benchmarks import timing
from jaxembed import data

LEAST = 100_000  # pairs per second that training on accelerators asks of the host


def rows(queries=50_000, window=200, clusters=200, sizes=(64, 1024), rounds=3):
    """Rows of the report: pairs per second of an epoch, beside batches in random order.

    The documents of a query are drawn from one of ``clusters``, so that walks find neighbours.
    """
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, clusters, (queries, 1))
    ranked = (cluster * 500 + rng.integers(0, 500, (queries, window))).astype(np.int32)
    graph = data.proximity_graph(ranked, query_window=(0, window), document_window=(0, window))
    own, found = rng.integers(0, 500 * clusters, queries), []
    for size in sizes:
        calls = {
            "random": lambda size=size: np.random.default_rng(0).permutation(queries)[
                : queries // size * size
            ]
        }
        for order in ("depth", "breadth"):
            calls[order] = lambda size=size, order=order: data.locality_batches(
                graph, own, size, seed=0, order=order
            )
        for arm, times in timing.in_turns(calls, rounds).items():
            if arm != "random":
                found.append(
                    {"what": f"locality batches of {size}", "arm": arm, "pairs/s": queries / times["median"]}
                )
                found[-1] |= {"pairs per CPU second": queries / times["cpu"], "asked": LEAST}
    return found
