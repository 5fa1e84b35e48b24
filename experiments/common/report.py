"""What every experiment does with its numbers: a table, a JSON file, a picture."""

import copy
import dataclasses
import functools
import math
import os
import pathlib
import platform
import sys
import time

import numpy as np

from jaxembed import files

RESULTS = pathlib.Path(__file__).parents[1] / "results"


def table(rows, columns=None):
    """Lays rows out as an aligned text table.

    >>> print(table([{"method": "BM25", "mrr": 0.381}, {"method": "encoder", "mrr": None}]))
    method   mrr
    BM25    .381
    encoder    -

    Args:
        rows: list of dicts.
        columns: keys to show, default those of the first row; floats below 10 get three digits.

    Returns:
        str.
    """
    columns = list(rows[0]) if columns is None else list(columns)
    cells = [columns] + [[_cell(row.get(c)) for c in columns] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    left = [not any(isinstance(r.get(c), int | float) for r in rows) for c in columns]
    return "\n".join(
        "  ".join(
            x.ljust(w) if flush else x.rjust(w) for x, w, flush in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in cells
    )


def _cell(value):
    if value is None:
        return "-"
    if isinstance(value, float):
        return (
            f"{value:.3f}".replace("0.", ".", 1)
            if abs(value) < 1
            else f"{value:,.3g}"
            if value < 100
            else f"{value:,.0f}"
        )
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def save(name, numbers, draw=None, folder=None, panels=None):
    """Writes ``name.json`` and, from ``draw(axes)``, ``name.png``; each file is replaced in one step.

    Args:
        name: of the experiment.
        numbers: JSON value; what machine it was measured on is added.
        draw: optional function that draws on matplotlib axes.
        folder: default ``experiments/results``.
        panels: optional (rows, columns) of a picture of several axes; ``draw`` gets their array then.

    Returns:
        The paths written.
    """
    import jax

    folder = pathlib.Path(folder or RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    machine = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
        "peak_memory_gb": round(peak_memory() / 1e9, 2),
    }
    written = [folder / f"{name}.json"]
    files.write_json(written[0], finite({"machine": machine, **numbers}))
    if draw is not None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        rows, columns = panels or (1, 1)
        size = (9, 5) if panels is None else (3 * columns, 2.6 * rows)
        figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
        draw(axes if panels else axes[0, 0])
        partial = folder / f".{name}.partial"
        figure.savefig(partial, dpi=120, format="png")
        pyplot.close(figure)
        written.append(folder / f"{name}.png")
        os.replace(partial, written[1])
    for path in written:
        print(f"wrote {path}")
    return written


def finite(value):
    """A JSON value with None in the place of numbers that JSON has not: NaN and infinities.

    >>> finite({"a": [1.5, float("nan")]})
    {'a': [1.5, None]}
    """
    if isinstance(value, dict):
        return {name: finite(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def peak_memory():
    """Returns the largest resident memory of this process so far, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def check(config, limits, multiples=None):
    """Refuses settings outside their limits and tuples that were emptied, by the name of the flag.

    Args:
        config: dataclass.
        limits: {field: (lowest, highest)}, for every entry of a tuple; None passes.
        multiples: optional {field: number that must divide it}.
    """
    for name, value in given(config).items():
        if value == ():
            raise ValueError(f"{flag(name)}: is empty; give at least one")
    for name, (low, high) in limits.items():
        for value in _entries(config, name):
            if not low <= value <= high:
                raise ValueError(f"{flag(name)} {value}: choose {low:,} to {high:,}")
    for name, divisor in (multiples or {}).items():
        if getattr(config, name) % divisor:
            raise ValueError(f"{flag(name)} {getattr(config, name)}: choose a multiple of {divisor}")


def at_most(config, name, most, why):
    """Refuses a setting above what only the data or the model tell, with the reason.

    Args:
        config: dataclass.
        name: of a field, of which every entry of a tuple counts; None passes.
        most: number.
        why: text of what has that limit.
    """
    for value in _entries(config, name):
        if value > most:
            raise ValueError(f"{flag(name)} {value}: {why}; choose at most {most:,}")


def _entries(config, name):
    value = getattr(config, name)
    return [x for x in (value if isinstance(value, tuple) else (value,)) if x is not None]


def flag(name):
    """The flag of a field: "gloss_steps" -> "--gloss-steps"."""
    return f"--{name.replace('_', '-')}"


def given(config):
    """The fields of a dataclass that differ from their defaults, as a dict."""
    found = {f.name: (getattr(config, f.name), f.default) for f in dataclasses.fields(config)}
    return {name: value for name, (value, default) in found.items() if value != default}


def exclude(config, name, others):
    """Refuses flags that have no meaning beside another one.

    Args:
        config: dataclass.
        name: of the field that, when it is given, makes the others meaningless.
        others: names of fields.
    """
    chosen = given(config)
    for other in others if name in chosen else ():
        if other in chosen:
            raise ValueError(f"{flag(other)}: has no meaning beside {flag(name)}; leave one of them out")


def preset(config, together=(), **presets):
    """Takes the settings of a flag, such as ``quick``, where the user gave none.

    A value that equals the default counts as none.

    Args:
        config: dataclass.
        together: groups of fields; where one of a group was given, none of it is set.
        **presets: {field of bool: {field: value}}; at most one of those flags may be set.

    Returns:
        A copy whose settings are not checked again: they are those of a preset and of the user.
    """
    on = [name for name in presets if getattr(config, name)]
    if len(on) > 1:
        raise ValueError(f"{flag(on[0])} {flag(on[1])}: choose one of them")
    chosen, made = given(config), copy.copy(config)
    kept = {*chosen, *(name for group in together if chosen.keys() & set(group) for name in group)}
    for name, value in (presets[on[0]] if on else {}).items():
        if name not in kept:
            object.__setattr__(made, name, value)  # replace() would take it for the user's
    return made


OWN = ("pairs", "texts")  # fields that hold files of a user


def named(name, config):
    """The name of the files of a run. Only runs with the default parts and data have the plain name.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     sts: str | None = None
    ...     quick: bool = False
    >>> print(named("pooling", Config()), named("pooling", Config(sts="stsb", quick=True)))
    pooling pooling_sts_quick

    Args:
        name: of the experiment.
        config: its dataclass as the user gave it.
    """
    chosen = given(config)
    parts = [name]
    if any(isinstance(chosen.get(field), pathlib.Path) for field in OWN):
        parts.append("own")
    else:
        parts += [pathlib.Path(chosen[n]).resolve().name for n in ("beir", "model") if n in chosen]
        parts += [chosen["split"]] if "split" in chosen else []
        parts += [*chosen.get("parts", ()), *(["sts"] if "sts" in chosen else [])]
    return "_".join([*parts, *(n for n in ("quick", "paper") if n in chosen)])


def settings(config):
    """The fields of a dataclass as JSON values; of a path its last name, and not where results go."""
    found = {k: v for k, v in vars(config).items() if k not in ("results", "workdir", "folder")}
    return {k: v.resolve().name if isinstance(v, pathlib.Path) else v for k, v in found.items()}


def run(main, config):
    """Runs ``main`` with flags made from a dataclass; an error that names its remedy is one line."""
    import tyro

    try:
        main(tyro.cli(config))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as error:
        sys.exit(f"{error or 'stopped'}")


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
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))


def auc_against_bytes(axes, rows):
    """Draws "AUC" and "spread" against "bytes": a colour for each scheme, dashes where nothing is shared."""
    schemes = list(dict.fromkeys(r["tables"].split(", ")[-1] for r in rows))
    for name in dict.fromkeys(r["tables"] for r in rows):
        lines = [[r[key] or 0 for r in rows if r["tables"] == name] for key in ("bytes", "AUC", "spread")]
        colour, dashes = f"C{schemes.index(name.split(', ')[-1])}", "--" if "per feature" in name else "-"
        axes.errorbar(*lines, label=name, capsize=3, marker="o", ls=dashes, color=colour)
    axes.set(xscale="log", xlabel="bytes of all tables", ylabel="test AUC", title="AUC against memory")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))


def heat_map(axes, title, values, layers, sizes, low, high):
    """Draws numbers of layers and sizes, the deepest layer on top, each number in its cell.

    Args:
        axes: matplotlib axes.
        title: of the panel.
        values: [N, M].
        layers: N block numbers.
        sizes: M prefix widths.
        low, high: the numbers at the ends of the colours.
    """
    axes.imshow(values, origin="lower", aspect="auto", vmin=low, vmax=high, cmap="viridis")
    for i, j in np.ndindex(np.shape(values)):
        value = values[i][j]
        ink = "black" if value > (low + high) / 2 else "white"
        axes.text(j, i, f"{value:.2f}".removeprefix("0"), ha="center", va="center", color=ink, fontsize=7)
    axes.set_xticks(range(len(sizes)), sizes, fontsize=7)
    axes.set_yticks(range(len(layers)), layers, fontsize=7)
    axes.set_title(title, fontsize=8)


def layers_and_sizes(name, numbers, config, began):
    """Prints the tables and criteria of the parts of an experiment and saves them with their heat maps.

    Args:
        name: of the files.
        numbers: {part: {"table": rows, "criteria": {sentence: bool}}}; a part may have "cells", its pairs
            (layer, size), and "grids", {arm: one number per pair}, which are drawn.
        config: dataclass with the folder ``results``.
        began: ``time.perf_counter()`` at the start.
    """
    criteria = {}
    for found in numbers.values():
        print(table(found["table"]), flush=True)
        criteria |= found.pop("criteria")
    for sentence, holds in criteria.items():
        print(f"{'holds' if holds else 'not reproduced'}: {sentence}", flush=True)
    parts = {part: found for part, found in numbers.items() if "grids" in found}
    seconds = round(time.perf_counter() - began)
    numbers = numbers | {"criteria": criteria, "seconds": seconds, "config": settings(config)}
    panels = (len(parts), max(len(found["grids"]) for found in parts.values())) if parts else None
    draw = functools.partial(_heat_maps, parts=parts) if parts else None
    save(name, numbers, draw, config.results, panels)


def _heat_maps(axes, parts):
    for row, (part, found) in zip(axes, parts.items(), strict=True):
        values = np.array(list(found["grids"].values()))
        layers, sizes = (sorted(set(numbers)) for numbers in zip(*found["cells"], strict=True))
        for panel in row[len(found["grids"]) :]:
            panel.axis("off")
        for panel, (arm, grid) in zip(row, found["grids"].items(), strict=False):
            shaped = np.reshape(grid, (len(layers), len(sizes)))
            heat_map(panel, f"{part}: {arm}", shaped, layers, sizes, values.min(), values.max())
        row[0].set_ylabel("layer", fontsize=8)
