"""The pictures of visual_patterns: what sets of channels tell, and where they fire."""

import numpy as np

from experiments.shared import plots


def figures(numbers):
    """Accuracy against the number of patterns, and boxes on a few pictures."""

    def accuracy(axes):
        rows = [row for row in numbers["accuracy"] if row.get("patterns")]
        for i, form in enumerate(("on one patch", "anywhere")):
            for size in (1, 2, 3):
                here = [r for r in rows if r["form"] == form and r["channels"] == size]
                x, y, bars = np.array([(r["patterns"], r["accuracy"], r["± accuracy"] or 0) for r in here]).T
                label = f"{size} channel{'s' * (size > 1)}, {form}"
                axes.errorbar(
                    x * (1 + 0.02 * size),
                    y,
                    bars,
                    label=label,
                    capsize=3,
                    marker="o",
                    ls="-:"[i],
                    color=f"C{size}",
                )
        for row, ls in zip(
            [r for r in numbers["accuracy"] if r["form"] in ("peaks of all channels", "patch miner")],
            ("--", "-."),
            strict=True,
        ):
            axes.axhline(row["accuracy"], label=row["form"], ls=ls, color="grey")
        axes.set(xscale="log", xlabel="patterns of a class", ylabel="accuracy of a linear classifier")
        axes.set_title("Which glyphs touch; bars: deviation over the seeds")
        axes.grid(alpha=0.3)
        plots.legend(axes)

    def boxes(axes):
        from matplotlib.patches import Rectangle

        shown = numbers["shown"]
        for panel, image, *found in zip(
            axes.flat, shown["images"], shown["truth"], shown["boxes"], strict=True
        ):
            panel.imshow(image, cmap="gray")
            for (x0, y0, x1, y1), colour in zip(found, ("tab:green", "tab:orange"), strict=True):
                panel.add_patch(
                    Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=colour, lw=2)
                )
            panel.set_axis_off()
        axes.flat[0].figure.suptitle("Pairs that touch (green) and the best box of a pattern (orange)")

    return {"": accuracy, "boxes": (boxes, (2, 3))}
