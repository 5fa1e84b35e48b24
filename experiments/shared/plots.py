"""Pictures of results: saving them, and the kinds that several experiments draw."""

import os
import pathlib

import numpy as np


def save(path, draw, panels=None):
    """Writes a PNG in one step.

    Args:
        path: of the file.
        draw: function of matplotlib axes, of an array of them with ``panels``.
        panels: optional (rows, columns).
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path = pathlib.Path(path)
    rows, columns = panels or (1, 1)
    size = (9, 5) if panels is None else (3 * columns + 1, 2.6 * rows)
    figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    draw(axes if panels else axes[0, 0])
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=120, format="png")
    pyplot.close(figure)
    os.replace(partial, path)
