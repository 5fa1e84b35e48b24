"""What the tables say of the paper's claims, and the picture."""

import numpy as np

from experiments.shared import results
from experiments.shared.results import Claim

GIVEN, FREE, OTHER = "given its embedding", "without an embedding", "given another embedding"
OVERLAP, TILES, REAL, TEXT = "overlapping windows", "windows side by side", "real", "from a text"


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
        lambda t: gap(t, "canvases", TILES, OVERLAP, "seam", 0.4),
    ),
    Claim(
        PAPER,
        "More than 80 % of the cells of a canvas show the digit of the reference",
        lambda t: results.paired(column(t, "canvases", OVERLAP, "right cells") - 0.8),
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
)


def figures(t):
    """Canvases: a real one, drawn from its grid in two ways, an aligned one and its copy, one from a text."""
    names = ["real", "overlapping", "side by side", "real, aligned", "drawn, aligned"]
    names.append("text: rows of " + " ".join(map(str, t["shown"]["asked"])))

    def draw(axes):
        for panel, image, name in zip(axes.ravel(), t["shown"]["pictures"], names, strict=True):
            panel.imshow(image, cmap="gray_r", vmin=0, vmax=255)
            panel.set(xticks=[], yticks=[])
            panel.set_title(name, fontsize=9)

    return {"": (draw, (2, 3))}
