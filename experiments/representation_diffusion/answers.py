"""What the tables say of the paper's claims, and the picture."""

import numpy as np

from experiments.shared import results
from experiments.shared.results import Claim

GIVEN, FREE, OTHER = "given its embedding", "without an embedding", "given another embedding"
REAL, TEXT = "real", "from a text"
BETWEEN, EACH = "overlapping windows", "overlapping windows, an embedding of each"
TILES, AXES = "windows side by side", "overlapping windows, principal axes of each"


def column(t, table, name, number):
    """A number of one arm, [seeds]."""
    for row in t[table]:
        if name in row.values():
            return np.array([run[number] for run in row["runs"]])
    raise KeyError(name)


def gap(t, table, first, second, number, margin=0.0, share=False):
    """Whether ``first`` is above ``second``, by seed; ``share`` divides by the second."""
    ours, theirs = (column(t, table, name, number) for name in (first, second))
    return results.paired((ours - theirs) / (theirs if share else 1), margin=margin)


def right(t, arm):
    return column(t, "canvases", arm, "right cells")


def each(t, ours):
    """Asks about canvases with an embedding of each window, where the run has them."""
    known = any(row.get("canvases") == EACH for row in t["canvases"])
    return ours(right(t, EACH)) if known else None


PAPER = "2312.07330"
CLAIMS = (
    Claim(
        PAPER,
        "Windows given embeddings are at least 20 % nearer to real ones in Frechet distance than without",
        lambda t: results.paired(
            1
            - column(t, "windows", GIVEN, "Frechet distance")
            / column(t, "windows", FREE, "Frechet distance"),
            margin=0.2,
        ),
    ),
    Claim(
        PAPER,
        "The embedding of a drawn window is nearer to its own than to another by a cosine of 0.4",
        lambda t: gap(t, "windows", GIVEN, OTHER, "similarity", 0.4),
    ),
    Claim(
        PAPER,
        "Overlapping windows leave weaker seams than windows side by side, by 0.4 of the gradient elsewhere",
        lambda t: gap(t, "canvases", TILES, BETWEEN, "seam", 0.4),
    ),
    Claim(
        PAPER,
        "More than 80 % of the cells of a canvas show the digit of the reference",
        lambda t: results.paired(column(t, "canvases", BETWEEN, "right cells") - 0.8),
    ),
    Claim(
        PAPER,
        "With drawn variations of five labelled digits a class, a classifier gains a point",
        lambda t: gap(t, "labels", "and drawn variations", "labelled digits", "accuracy", 0.01),
    ),
    Claim(
        PAPER,
        "More than 80 % of the cells of a canvas show the digit that the text asks for",
        lambda t: results.paired(column(t, "canvases", TEXT, "right cells") - 0.8),
    ),
    Claim(
        "",
        "With an embedding of each window, more than 80 % of the cells show the digit of the reference",
        lambda t: each(t, lambda x: results.paired(x - 0.8)),
    ),
    Claim(
        "",
        "Interpolation is the cause: an embedding of each window shows the digit in 30 % more cells",
        lambda t: each(t, lambda x: results.paired(x - right(t, BETWEEN), margin=0.3)),
    ),
    Claim(
        "",
        "With an embedding of each window, overlapping ones show the digit as often as those side by side",
        lambda t: each(t, lambda x: results.paired(x - right(t, TILES), margin=-0.02)),
    ),
)


def figures(t):
    """Canvases moved by half a cell above, aligned ones below: real ones, then drawn ones."""
    kinds = ["real", "between cells", "each window", "side by side", "principal axes"]
    names = [*kinds, *kinds[:-1], "text: rows of " + " ".join(map(str, t["shown"]["asked"]))]

    def draw(axes):
        axes[0, 0].figure.set_size_inches(13, 5.6)
        for panel, image, name in zip(axes.ravel(), t["shown"]["pictures"], names, strict=True):
            panel.imshow(image, cmap="gray_r", vmin=0, vmax=255)
            panel.set(xticks=[], yticks=[])
            panel.set_title(name, fontsize=9)

    return {"": (draw, (2, 5))}
