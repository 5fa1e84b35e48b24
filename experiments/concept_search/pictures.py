"""The pictures of this experiment: losses along the searches, and drawings."""

import numpy as np

from experiments.concept_search.methods import DIGIT
from experiments.shared import plots
from jaxembed.data import toy_drawings

LEARNED, CUT = "learned from a few images", "NeTI cut to its first hidden units"


def real():
    """Held-out drawings of the digit: seven plain ones, and one in each style."""
    drawn = toy_drawings.drawings()["test"]
    images = drawn["images"][drawn["digits"] == DIGIT][..., 0]
    return np.concatenate([images[7 * np.arange(1, 8)], images[:7]])


def losses(axes, numbers):
    """Held-out losses along the searches, and faithfulness beside style."""
    axes[0, 0].figure.set_size_inches(13, 4.4)
    left, right = axes[0]
    steps = numbers["config"]["steps"]
    for name, curve in numbers["curves"].items():
        curve = np.array(curve)
        places = steps * np.arange(1, curve.shape[1] + 1) / curve.shape[1]
        left.plot(places, curve.mean(axis=0), "o-", markersize=3, label=name)
    left.set(xlabel="steps of the search", ylabel="held-out v-loss")
    for row, mark in [*((r, "o") for r in numbers[LEARNED]), *((r, "v") for r in numbers[CUT][:-1])]:
        bars = row["± style"] or 0, row["± held-out"] or 0
        right.errorbar(row["held-out"], row["style"], *bars, mark, lw=0.8, label=row["arm"])
    right.set(xlabel="held-out v-loss: less is more faithful", ylabel="drawn in the asked style")
    plots.legend(right)


def drawings(axes, numbers):
    """A row of drawings for each arm, real ones first."""
    axes[0, 0].figure.set_size_inches(12, 0.62 * len(axes) + 0.7)
    rows = {"real, held out": real(), **numbers["gallery"]}
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        grid = np.pad(np.array(images), ((0, 0), (0, 0), (0, 1)), constant_values=0)
        row[0].imshow(grid.transpose(1, 0, 2).reshape(8, -1), cmap="gray_r", vmin=-1, vmax=1)
        row[0].set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    axes[0, 0].set_title("the learned digit in the plain style, then in all seven styles", fontsize=9)


def figures(numbers):
    """Both pictures; a run on validation images has none."""
    if "gallery" not in numbers:
        return {}
    panels = (len(numbers["gallery"]) + 1, 1)
    return {
        "losses": (lambda axes: losses(axes, numbers), (1, 2)),
        "drawings": (lambda axes: drawings(axes, numbers), panels),
    }
