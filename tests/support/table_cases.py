"""A plan with every kind of feature, and batches of it."""

import numpy as np

from jaxembed import tables
from jaxembed.tables import Feature

FEATURES = [
    Feature("user", chunks=2),
    Feature("gender", vocabulary=3, chunks=2),
    Feature("mean", chunks=3, combine="mean"),
    Feature("sum", combine="sum"),
    Feature("max", chunks=2, combine="max"),
]
PLAN = tables.plan(FEATURES, rows=16, width=3, tables=3, seed=5)


def example(seed=0):
    rng = np.random.default_rng(seed)
    batch = {
        "user": rng.integers(0, 2**32, 4),
        "gender": rng.integers(0, 3, 4),
        **{name: rng.integers(0, 1000, (4, 5)).astype(np.int32) for name in ("mean", "sum", "max")},
    }
    masks = {name: rng.random((4, 5)) < 0.6 for name in ("mean", "sum", "max")}
    masks["mean"][1] = masks["max"][2] = False
    weights = {name: rng.random((4, 5)).astype(np.float32) for name in ("mean", "sum")}
    return batch, masks, weights


def numbered(count, **options):
    names = [f"f{i}" for i in range(count)]
    return names, tables.plan([Feature(n) for n in names], **options)
