"""Recall of the towers on pairs as the log has them, on rare items and on new ones; what an arm gains."""

import functools

import numpy as np

from experiments.shared import results
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
    """A panel for each slice, with a bar for each arm; slices differ too much for one scale."""
    labels = {"all": "pairs as the log has them", "rare": "rare items", "new": "items never trained"}
    names = [row["second loss"] for row in found][::-1]
    axes[0, 0].figure.set_size_inches(4 * axes.shape[1] + 2, 4)
    for panel, name in zip(axes[0], _shown(found), strict=True):
        values, spreads = ([row[label] for row in found][::-1] for label in (name, f"± {name}"))
        panel.barh(range(len(names)), values, xerr=spreads, capsize=3)
        panel.axvline(0, color="black", lw=0.8)
        panel.set_yticks(range(len(names)), names if panel is axes[0, 0] else [])
        panel.set(title=labels[name], xlabel="gain in recall over none, 95 % interval")
        panel.locator_params(axis="x", nbins=5)
        panel.grid(alpha=0.3, axis="x")


def _shown(found):
    """The slices that were measured."""
    return [name for name in SLICES if name in found[0]]


def picture(numbers):
    """What draws the gains of a saved run, and its panels."""
    found = numbers["gain over none"]
    return functools.partial(draw, found), (1, len(_shown(found)))
