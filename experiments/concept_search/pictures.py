"""The pictures of this experiment: losses along the searches, and drawings."""

import numpy as np

from experiments.shared import plots

LEARNED, CUT = "learned from a few images", "NeTI cut to its first hidden units"


def figures(numbers):
    """Held-out losses along the searches, faithfulness beside style, and drawings of every arm."""

    def lines(axes):
        axes[0, 0].figure.set_size_inches(11, 4.4)
        left, right = axes[0]
        steps = numbers["config"]["steps"]
        for name, curve in numbers["curves"].items():
            curve = np.array(curve)
            places = steps * np.arange(1, curve.shape[1] + 1) / curve.shape[1]
            left.plot(places, curve.mean(axis=0), "o-", markersize=3, label=name)
        left.set(xlabel="steps of the search", ylabel="held-out v-loss")
        plots.legend(left, loc="upper right", fontsize=7)
        for row in [*numbers[LEARNED], *numbers[CUT][:-1]]:
            right.errorbar(row["held-out"], row["style"], row["± style"] or 0, row["± held-out"] or 0, "o")
            right.annotate(row["arm"], (row["held-out"], row["style"]), fontsize=7)
        right.set(xlabel="held-out v-loss: less is more faithful", ylabel="drawn in the asked style")

    def drawings(axes):
        axes[0, 0].figure.set_size_inches(12, 0.62 * len(axes) + 0.7)
        for row, (name, images) in zip(axes, numbers["gallery"].items(), strict=True):
            grid = np.pad(np.array(images), ((0, 0), (0, 0), (0, 1)), constant_values=0)
            row[0].imshow(grid.transpose(1, 0, 2).reshape(8, -1), cmap="gray_r", vmin=-1, vmax=1)
            row[0].set(xticks=[], yticks=[])
            row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axes[0, 0].set_title("the learned digit in the plain style, then in all seven styles", fontsize=9)

    return {"losses": (lines, (1, 2)), "drawings": (drawings, (len(numbers["gallery"]), 1))}
