"""The picture of the arms: a dot for each mean AUC, with its interval over the seeds."""

import functools

import numpy as np

from experiments.shared import plots
from jaxembed import metrics


def picture(rows):
    """What draws the rows of a run."""
    return functools.partial(draw, rows=rows)


def draw(axes, rows):
    """Draws test AUCs as dots with 95 % intervals over the seeds: a line an arm, a colour a budget."""
    exact, arms = rows[0], list(dict.fromkeys(row["tables"] for row in rows[1:]))
    budgets = list(dict.fromkeys(row["budget"] for row in rows[1:]))
    axes.axvspan(*_ends(exact), color="0.9")
    axes.axvline(exact["AUC"], color="0.5", ls="--", label=f"collisionless, {exact['bytes']:,} bytes")
    for i, budget in enumerate(budgets):
        found = [row for row in rows[1:] if row["budget"] == budget]
        aucs = np.array([row["AUC"] for row in found])
        places = [arms.index(row["tables"]) + 0.5 * (i + 0.5) / len(budgets) - 0.25 for row in found]
        bars = np.abs(np.array([_ends(row) for row in found]).T - aucs)
        axes.errorbar(aucs, places, xerr=bars, fmt="none", ecolor=f"C{i}", elinewidth=1.5)
        inner = ["white" if "per feature" in row["tables"] else f"C{i}" for row in found]
        label = f"{budget:g} of the rows, {max(row['bytes'] for row in found):,} bytes"
        axes.scatter(aucs, places, c=inner, edgecolors=f"C{i}", s=30, zorder=3)
        axes.plot([], [], "o", color=f"C{i}", label=label)
    axes.plot([], [], "o", color="0.4", mfc="white", label="empty: a table for each feature")
    axes.set_yticks(range(len(arms)), arms, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="test AUC, mean over seeds and its 95 % interval", title="AUC at equal bytes")
    axes.grid(alpha=0.3, axis="x")
    plots.legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)


def _ends(row):
    """The ends of the interval of a row's mean AUC; with one seed the AUC itself."""
    if len(row["AUCs"]) < 2:
        return row["AUC"], row["AUC"]
    return tuple(map(float, metrics.paired_interval(row["AUCs"])[1:]))
