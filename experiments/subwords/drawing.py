"""Pictures: macro-F1 of all features, and maps of texts."""

import numpy as np

from experiments.shared import plots
from experiments.subwords.features import CONTEXT, FASTTEXT, TABLE

MAPS = CONTEXT, TABLE, FASTTEXT  # the features that are drawn as maps


def figures(numbers):
    """Macro-F1 of all arms, a panel for each task; hollow bars are compressed. A map of texts by t-SNE."""
    rows = numbers.get("features")
    if not rows:
        return {}
    tasks = list(dict.fromkeys(row["task"] for row in rows))

    def draw(axes):
        axes[0, 0].figure.set_size_inches(4.5 * len(tasks) + 1, 4.5)
        for panel, task in zip(axes[0], tasks, strict=True):
            some = [row for row in rows if row["task"] == task]
            arms = list(dict.fromkeys(row["arm"] for row in some))
            for shift, narrow in ((-0.2, False), (0.2, True)):
                bars = [r for r in some if r["compressed"] == narrow]
                panel.barh(
                    [arms.index(r["arm"]) + shift for r in bars],
                    [r["standardised"] for r in bars],
                    height=0.38,
                    xerr=[r["± standardised"] or 0 for r in bars],
                    color="C0" if not narrow else "white",
                    edgecolor="C0",
                    label="compressed" if narrow else "full width",
                )
            panel.set_yticks(range(len(arms)), arms if panel is axes[0, 0] else [])
            panel.invert_yaxis()
            panel.set(title=task, xlabel="macro-F1, standardised")
            panel.grid(alpha=0.3, axis="x")
        plots.legend(axes[0, -1])

    found = {"": (draw, (1, len(tasks)))}
    return found | ({"map": (maps(numbers["places"]), (1, 3))} if "places" in numbers else {})


def maps(found):
    """Draws t-SNE maps of the same texts by several features; colours are classes."""

    def draw(axes):
        axes[0, 0].figure.set_size_inches(15, 5)
        labels = np.array(found["labels"])
        for panel, arm in zip(axes[0], MAPS, strict=True):
            places = np.array(found[arm]["places"])
            panel.scatter(*places.T, c=labels, s=10, cmap="tab20")
            trust = found[arm]["trustworthiness"]
            panel.set(title=f"{arm}: trustworthiness {trust:.2f}", xticks=[], yticks=[])
        axes[0, 0].set(ylabel=f"{found['task']}, a colour for each of {len(found['names'])} groups")

    return draw
