"""The pictures of experiments: how they are written and what several of them share."""

import functools
import json
import os
import pathlib


def write(path, draw, panels=None):
    """Writes what ``draw(axes)`` draws as a PNG file, which is replaced in one step.

    Args:
        path: of the picture.
        draw: function that draws on matplotlib axes.
        panels: optional (rows, columns) of a picture of several axes; ``draw`` gets their array then.
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


def redraw(path, picture, folder=None):
    """Draws the picture of saved results anew, without running anything.

    Args:
        path: of ``name.json`` as ``report.save`` wrote it.
        picture: function numbers -> draw, None, or (draw, panels).
        folder: of the picture ``name.png``; None takes that of the file.

    Returns:
        The path of the picture.
    """
    path = pathlib.Path(path)
    found = picture(json.loads(path.read_text()))
    draw, panels = found if isinstance(found, tuple) else (found, None)
    if draw is None:
        raise ValueError(f"{path}: these results have no picture")
    made = pathlib.Path(folder or path.parent) / f"{path.stem}.png"
    write(made, draw, panels)
    return made


def legend(axes, **options):
    """A legend whose samples are long enough to tell dashed lines from solid ones behind their marks.

    Args:
        axes: matplotlib axes.
        **options: of ``axes.legend``. Without ``loc`` it stands right of the axes, where it hides nothing.
    """
    beside = {} if "loc" in options else {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    axes.legend(**{"fontsize": 8, "handlelength": 3.6} | beside | options)


def quality_against_bytes(axes, rows):
    """Draws the first recall of rows of ``retrieval.measure`` against their bytes; prefixes as a line."""
    quality = [c for c in rows[0] if c.startswith("Recall")][0]
    prefixes = [r for r in rows if r["method"].startswith("prefix ") and r["method"].split()[1].isdigit()]
    axes.plot(
        [r["bytes"] for r in prefixes], [r[quality] for r in prefixes], "o-", label="matryoshka prefixes"
    )
    for marker, row in zip("sDv^<>PX*hdp", [r for r in rows if r not in prefixes], strict=False):
        axes.plot(row["bytes"], row[quality], marker, label=row["method"], markersize=8)
    axes.set(
        xscale="log", xlabel="bytes per document", ylabel=quality, title="Quality against size of the index"
    )
    axes.grid(alpha=0.3)
    legend(axes)


def of_rows(numbers):
    """What draws the saved rows of a comparison of searches."""
    return functools.partial(quality_against_bytes, rows=numbers["rows"])
