"""The pictures of experiments: how they are written and what several of them share."""

import functools
import os
import pathlib

import numpy as np


def write(path, draw, panels=None):
    """Writes what ``draw(axes)`` draws as a PNG file, which is replaced in one step.

    With ``panels`` (rows, columns), ``draw`` gets an array of axes.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, columns = panels or (1, 1)
    size = (9, 5) if panels is None else (3 * columns + 0.6, 2.8 * rows)
    figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    draw(axes if panels else axes[0, 0])
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.stem}.partial")
    figure.savefig(partial, dpi=120, format="png")
    pyplot.close(figure)
    os.replace(partial, path)


def legend(axes, **options):
    """A legend that tells dashed lines from solid ones; without ``loc`` it is right of the axes."""
    beside = {} if "loc" in options else {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    axes.legend(**{"fontsize": 8, "handlelength": 3.6} | beside | options)


def heat_map(axes, title, values, layers, sizes, low, high):
    """Draws numbers of layers and sizes, the deepest layer on top, each number in its cell.

    Args:
        axes: matplotlib axes.
        title: of the panel.
        values: [N, M].
        layers: N block numbers.
        sizes: M prefix widths.
        low, high: the numbers at the ends of the colours.

    Returns:
        The image, for a colour bar.
    """
    image = axes.imshow(values, origin="lower", aspect="auto", vmin=low, vmax=high, cmap="viridis")
    for i, j in np.ndindex(np.shape(values)):
        value = values[i][j]
        ink = "black" if value > (low + high) / 2 else "white"
        axes.text(j, i, f"{value:.2f}".replace("0.", ".", 1), ha="center", va="center", color=ink, fontsize=7)
    axes.set_xticks(range(len(sizes)), sizes, fontsize=7)
    axes.set_yticks(range(len(layers)), layers, fontsize=7)
    axes.set_xlabel("first numbers of the vector", fontsize=8)
    axes.set_ylabel("layer", fontsize=8)
    axes.set_title(title, fontsize=9)
    return image


def heat_maps(numbers):
    """The picture of parts with grids: a row of heat maps for each part, its metric on a colour bar.

    Args:
        numbers: {part: {"cells": pairs (layer, size), "grids": {arm: one number per pair}}}; parts without
            "grids" are left out. "config" tells what the grids of a text part hold.

    Returns:
        (draw, panels), both None where no part has grids.
    """
    parts = {n: found for n, found in numbers.items() if isinstance(found, dict) and "grids" in found}
    if not parts:
        return None, None
    panels = (len(parts), max(len(found["grids"]) for found in parts.values()))
    return functools.partial(_draw_heat_maps, parts=parts, config=numbers["config"]), panels


def _metric(part, config):
    if part != "text":
        return "accuracy by the nearest neighbour"
    if config["pairs"] is not None:
        return "Spearman, or Recall@10 without grades"
    return "Recall@10" if config["sts"] is None else "Spearman on STS-B"


def _draw_heat_maps(axes, parts, config):
    figure = axes[0, 0].figure
    figure.clear()  # rows have panels of their own width
    for row, (part, found) in zip(np.ravel(figure.subfigures(len(parts), 1)), parts.items(), strict=True):
        values = np.array(list(found["grids"].values()))
        layers, sizes = (sorted(set(numbers)) for numbers in zip(*found["cells"], strict=True))
        panels = row.subplots(1, len(values), squeeze=False)[0]
        for panel, (arm, grid) in zip(panels, found["grids"].items(), strict=True):
            shaped = np.reshape(grid, (len(layers), len(sizes)))
            image = heat_map(panel, f"{part}: {arm}", shaped, layers, sizes, values.min(), values.max())
        bar = row.colorbar(image, ax=panels, pad=0.01, fraction=0.05, aspect=16)
        bar.set_label(_metric(part, config), fontsize=8)
        bar.ax.tick_params(labelsize=7)
