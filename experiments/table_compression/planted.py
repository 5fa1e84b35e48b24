"""Clicks whose useful values and ranks are known: what OptEmbed ought to keep, and how wide."""

import numpy as np

from experiments.table_compression import training

FIELDS, VALUES = 8, 500
RANKS = (8, 8, 2, 2, 1, 1, 0, 0)  # coordinates through which a field meets its partner; 0 is noise
HALVES = (0, 2, 4, 5)  # fields whose rarer half has no effect at all


def task(rows, seed):
    """A task of planted clicks, and which values have an effect: bool [FIELDS, VALUES].

    Values are drawn by Zipf's law of exponent 1.2. Fields meet in pairs, (0, 1), (2, 3) and (4, 5), by inner
    products of as many coordinates as their rank; each useful value also adds a number of its own.
    """
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, VALUES + 1) ** 1.2
    ids = rng.choice(VALUES, size=(rows, FIELDS), p=chances / chances.sum())
    useful = np.ones((FIELDS, VALUES), bool)
    useful[list(HALVES), VALUES // 2 :] = False
    useful[[f for f, rank in enumerate(RANKS) if rank == 0]] = False
    alone = rng.normal(size=(FIELDS, VALUES)) * useful * 0.5
    logit = sum(alone[f, ids[:, f]] for f in range(FIELDS))
    for f in (0, 2, 4):
        rank = RANKS[f]
        factors = rng.normal(size=(2, VALUES, rank)) * useful[f : f + 2, :, None]
        logit = logit + 0.7 * (factors[0, ids[:, f]] * factors[1, ids[:, f + 1]]).sum(axis=1)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    names = [f"f{f}" for f in range(FIELDS)]
    columns = {name: ids[:, f].astype(np.int32) for f, name in enumerate(names)}
    ends = np.cumsum([0, 4 * rows // 6, rows // 6, rows - 4 * rows // 6 - rows // 6])
    parts = {
        part: ({n: x[low:high] for n, x in columns.items()}, labels[low:high])
        for part, low, high in zip(("train", "validation", "test"), ends, ends[1:], strict=False)
    }
    counts = {n: np.bincount(x, minlength=VALUES) for n, x in parts["train"][0].items()}
    return training.Task(dict.fromkeys(names, VALUES), parts, counts, 1024, 4), useful
