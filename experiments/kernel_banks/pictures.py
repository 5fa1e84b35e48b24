"""Pictures: accuracy by labels, steps to learn, shifted copies, deep nets; and the filters themselves."""

import numpy as np

from experiments.kernel_banks.banks import DRAWN
from experiments.shared import plots

STYLES = ("-", "--", "-.", ":")


def figures(numbers):
    """{suffix: (draw, panels)} of a run."""
    panels = [(name, draw) for name, draw in DRAW.items() if numbers.get(name)]
    found = {}
    if panels:
        found[""] = lambda axes: paint(axes, panels, numbers), (-(-len(panels) // 2), min(2, len(panels)))
    if numbers.get("banks"):
        found["filters"] = lambda axes: grids(axes, numbers["banks"])
    return found


def paint(axes, panels, numbers):
    axes[0, 0].figure.set_size_inches(7.5 * axes.shape[1], 4.6 * len(axes))
    for panel in axes.ravel()[len(panels) :]:
        panel.set_axis_off()
    for panel, (name, draw) in zip(axes.ravel(), panels, strict=False):
        draw(panel, numbers[name])
        panel.grid(alpha=0.3)


def by_labels(panel, rows):
    """Accuracy of frozen banks above that of random filters, by the number of labels."""
    base = {row["labels"]: row["accuracy"] for row in rows if row["bank"] == DRAWN}
    for i, name in enumerate(dict.fromkeys(row["bank"] for row in rows)):
        some = [row for row in rows if row["bank"] == name]
        x, y = [r["labels"] for r in some], [100 * (r["accuracy"] - base[r["labels"]]) for r in some]
        panel.plot(x, y, marker="o", ls=STYLES[i // 4 % 4], label=name, lw=1.4)
    panel.set(xscale="log", xlabel="pictures with labels", title="frozen filters, ridge classifier")
    panel.set_ylabel("accuracy above random filters, points")
    panel.set_xticks(list(base), list(base))
    panel.set_xticks([], minor=True)
    plots.legend(panel)


def bars(label, title):
    """A function that draws one bar for each row with the deviation over the seeds."""

    def draw(panel, rows):
        names, values = [next(iter(row.values())) for row in rows], [list(row.values())[1:3] for row in rows]
        heights, deviations = zip(*[(v, d or 0) for v, d in values], strict=True)
        panel.barh(names, heights, xerr=deviations, capsize=3, color="tab:blue", alpha=0.7)
        panel.invert_yaxis()
        panel.set(xlabel=label, title=title)

    return draw


DRAW = {
    "frozen": by_labels,
    "start": bars("steps until 90 % of the training set is right", "the same filters, trained on"),
    "shifts": bars("mean largest |cosine| over shifts", "shifted copies among filters"),
    "deep": bars("accuracy", "a net of many layers without norms"),
}


def grids(axes, banks):
    """A row of filters for each bank."""
    axes.figure.set_size_inches(11, 0.62 * len(banks) + 0.5)
    side, count = len(next(iter(banks.values()))[0]), max(map(len, banks.values()))
    canvas = np.full((len(banks) * (side + 1) - 1, count * (side + 1) - 1), np.nan)
    for row, filters in enumerate(banks.values()):
        for column, tile in enumerate(np.array(filters)):
            top, left = row * (side + 1), column * (side + 1)
            canvas[top : top + side, left : left + side] = tile / (np.abs(tile).max() or 1)
    axes.imshow(canvas, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_yticks([row * (side + 1) + (side - 1) / 2 for row in range(len(banks))], list(banks))
    axes.set_xticks([])
    for edge in axes.spines.values():
        edge.set_visible(False)
