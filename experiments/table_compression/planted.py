"""Clicks whose useful values and ranks are known: what OptEmbed ought to keep, and how wide."""

import jax
import numpy as np

from experiments.shared import results
from experiments.table_compression import supernets, training
from experiments.table_compression.training import WIDTH
from jaxembed import metrics, tables

FIELDS, VALUES = 8, 500
RANKS = (8, 8, 2, 2, 1, 1, 0, 0)  # coordinates through which a field meets its partner; 0 is noise
HALVES = (0, 2, 4, 5)  # fields whose rarer half has no effect at all
FIRST_SEED = 10  # the settings were chosen on seeds 0 and 1
TITLES = {
    "full table": "full table",
    "both": "rows and widths",
    "rows": "rows alone",
    "widths": "widths alone",
}
RATE, SIZE_WEIGHT = np.array([1e-2]), 0.02


def task(rows, seed):
    """A task of planted clicks, and which values have an effect: bool [FIELDS, VALUES].

    Values are drawn by Zipf's law of exponent 1.2. Fields meet in pairs, (0, 1), (2, 3) and (4, 5), by inner
    products of as many coordinates as their rank; each useful value also adds a number of its own.
    """
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, VALUES + 1) ** 1.2
    ids = rng.choice(VALUES, size=(rows, FIELDS), p=chances / chances.sum()).astype(np.int32)
    useful = np.ones((FIELDS, VALUES), bool)
    useful[list(HALVES), VALUES // 2 :] = False
    useful[[f for f, rank in enumerate(RANKS) if rank == 0]] = False
    alone = 0.5 * rng.normal(size=(FIELDS, VALUES)) * useful
    logit = sum(alone[f, ids[:, f]] for f in range(FIELDS))
    for f in (0, 2, 4):
        both = rng.normal(size=(2, VALUES, RANKS[f])) * useful[f : f + 2, :, None]
        logit = logit + 0.7 * (both[0, ids[:, f]] * both[1, ids[:, f + 1]]).sum(axis=1)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    ends = np.cumsum([0, 4 * rows // 6, rows // 6, rows // 6])
    parts = {}
    for part, low, high in zip(("train", "validation", "test"), ends, ends[1:], strict=False):
        parts[part] = {f"f{f}": ids[low:high, f] for f in range(FIELDS)}, labels[low:high]
    sizes = dict.fromkeys(parts["train"][0], VALUES)
    return training.Task(sizes, parts, training.counted(parts, sizes), 1024, 4), useful


def compute(cell):
    """One seed: the full table, both masks, and each of them alone."""
    seed = np.array([FIRST_SEED + cell["planted"]])
    clicks, useful = task(cell["rows"], seed[0])

    def tested(method):
        params, _ = training.fit(clicks, method, seed, RATE, update=supernets.decayed)
        return training.auc(clicks, training.scorer(method), training.member(params, 0), "test")

    full = tables.full_table(clicks.sizes, WIDTH, initialiser=training.uniform)
    found = {"full table": {"AUC": tested(full), "share": 1.0}}
    net = supernets.supernet(clicks)
    params = training.member(training.fit(clicks, net, seed, RATE, update=supernets.update)[0], 0)
    score, given = supernets.score(clicks, params["network"]), {"generations": supernets.GENERATIONS}
    whole = params["table"] | {"threshold": params["table"]["threshold"] - np.inf}
    for name in ("both", "rows", "widths"):
        mine = whole if name == "widths" else params["table"]
        kept, widths = tables.kept_rows(mine, clicks.sizes), np.full(FIELDS, WIDTH)
        if name != "rows":
            key = jax.random.key(seed[0])
            kept, widths = tables.search_masks(key, mine, clicks.sizes, score, weight=SIZE_WEIGHT, **given)
        method = tables.masked_table(
            clicks.sizes, WIDTH, kept=kept, widths=widths, initialiser=training.uniform
        )
        share = tables.kept_numbers(kept, widths, list(clicks.sizes.values())) / (FIELDS * VALUES * WIDTH)
        shares = kept.reshape(FIELDS, VALUES)
        found[name] = {"AUC": tested(method), "share": share, "kept": shares.mean(axis=1).tolist()}
        kinds = {"useful kept": useful, "useless kept": ~useful}
        found[name] |= {kind: float(shares[where].mean()) for kind, where in kinds.items()}
        found[name] |= {"widths": widths.tolist()}
        if name != "rows":
            found[name]["spearman"] = float(metrics.spearman(widths, np.array(RANKS)))
    return found


def table(seeds):
    """A row for each way, with means over the seeds."""
    rows = []
    for name, title in TITLES.items():
        row = {"table": title}
        for key in ("AUC", "share", "useful kept", "useless kept", "spearman"):
            values = [s[name][key] for s in seeds if key in s[name]]
            row[key], row[f"± {key}"] = results.spread(values) if values else (None, None)
        rows.append(row)
    return rows
