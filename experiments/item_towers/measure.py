"""Recall of the towers on pairs as the log has them, on rare items and on new ones; what an arm gains."""

import functools

import numpy as np

from experiments.shared import plots, results
from jaxembed import metrics, search

SLICES = ("all", "rare", "new")
LEAST = 10  # pairs of a slice that is measured


def recalls(model, log, k, rare, validate):
    """({slice: recall at k}, {slice: pairs}); "rare" and "new" are those of the pairs drawn for them."""
    found, counts = {}, {}
    for part, names in (("test", ("all",)), ("flat", ("new", "rare"))):
        rows = log["validation" if validate else part]
        _, ids = search.top_k(model.query_vectors(rows), model.item_vectors, min(k, len(model.counts)))
        wanted = model.events["items"][rows]
        ones = np.ones((len(rows), 1), np.float32)
        hits = metrics.recall(metrics.gains(ids, wanted[:, None], ones), ones, k=k)
        if names == ("all",):
            found["all"], counts["all"] = float(hits.mean()), len(rows)
            continue
        means, sizes = metrics.sliced_means(hits, model.counts[wanted], (0, rare))
        for name, mean, size in zip(names, means.tolist(), sizes.tolist(), strict=False):
            if size >= LEAST:
                found[name], counts[name] = mean, size
    return {name: found[name] for name in SLICES if name in found}, counts


def rows(runs):
    """A row for each arm: the mean of each recall and its spread over the seeds."""
    made = []
    for arm, found in runs.items():
        row = {"second loss": arm}
        for name in found[0]:
            row[name], row[f"± {name}"] = results.spread([run[name] for run in found])
        made.append(row | {"runs": found})
    return made


def recall_of(rows, arm, name):
    """The recalls [S] of an arm on a slice, or None where it was not measured."""
    for row in rows:
        if row["second loss"] == arm and name in row:
            return np.array([run[name] for run in row["runs"]])
    return None


def difference(rows, first, second, slices, minus=None):
    """Paired differences [S, slices] of two arms, less those on the slice ``minus``; None if not measured."""
    columns = []
    for name in slices:
        pairs = [recall_of(rows, arm, n) for n in (name, minus) if n for arm in (first, second)]
        if any(x is None for x in pairs):
            return None
        gain = pairs[0] - pairs[1]
        columns.append(gain - (pairs[2] - pairs[3]) if minus else gain)
    return np.stack(columns, axis=1)


def gains(rows, base):
    """What each arm gains over the base on each slice, with half of its 95 % interval."""
    made = []
    for row in rows:
        if row["second loss"] == base:
            continue
        line = {"second loss": row["second loss"]}
        for name in SLICES:
            found = difference(rows, row["second loss"], base, (name,))
            if found is not None:
                mean, low, _ = metrics.paired_interval(found[:, 0])
                line[name], line[f"± {name}"] = float(mean), float(mean - low)
        made.append(line)
    return made


def draw(found, axes):
    """A group of bars for each slice."""
    shown = [name for name in SLICES if name in found[0]]
    wide = 0.8 / len(found)
    for i, row in enumerate(found):
        place = np.arange(len(shown)) + (i - (len(found) - 1) / 2) * wide
        bars = [row[n] for n in shown], [row[f"± {n}"] for n in shown]
        axes.bar(place, bars[0], wide * 0.9, yerr=bars[1], capsize=3, label=row["second loss"])
    axes.axhline(0, color="black", lw=0.8)
    labels = {"all": "as the log", "rare": "rare items", "new": "items never trained"}
    axes.set_xticks(np.arange(len(shown)), [labels[name] for name in shown])
    axes.set(ylabel="gain in recall over no second loss", title="Bars: 95 % interval over the seeds")
    axes.grid(alpha=0.3, axis="y")
    plots.legend(axes)


def picture(numbers):
    """What draws the gains of a saved run."""
    return functools.partial(draw, numbers["gain over none"])
