"""The pictures of experiments: how they are written and what several of them share."""

import os
import pathlib


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
