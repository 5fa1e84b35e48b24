"""The input of the experiment on tables of clicks, and one line of its results."""

import functools
import re

import numpy as np

from experiments.common import paired, plots, report
from jaxembed import data, tables

OF_TABLE = ("label", "threshold", "categorical", "dense", "time", "positive", "strip")
OF_TABLE += ("counts", "scaling", "fill", "least")  # flags that describe a table of one's own


def check_flags(cfg, defaults):
    """Refuses flags that do not go together, before anything is read; ``defaults`` has the unset values."""
    if cfg.predict is not None:
        if cfg.workdir is None:
            raise ValueError("--predict: needs --workdir, the folder of a saved model")
        report.exclude(cfg, "predict", sorted(report.given(cfg).keys() - {"predict", "workdir", "results"}))
        return
    if cfg.table is None and any(getattr(cfg, n) != getattr(defaults, n) for n in OF_TABLE):
        flags = ", ".join(report.flag(name) for name in OF_TABLE)
        raise ValueError(f"{flags}: they describe --table, name it")
    if cfg.table is None and cfg.workdir is not None:
        raise ValueError("--workdir: keeps a model of --table, or holds one for --predict; name one of them")
    raw = cfg.table is None and cfg.data in ("criteo", "avazu")
    if raw != (cfg.path is not None):
        need = (
            "needs --path of its raw training file"
            if raw
            else "takes no --path; give --table a file of yours"
        )
        raise ValueError(f"--data {cfg.data} {need}")
    if cfg.positive is not None and cfg.threshold is not None:
        raise ValueError("--positive, --threshold: one is for texts, one for numbers; leave one out")
    if set(cfg.counts) - set(cfg.dense):
        raise ValueError(f"--counts {' '.join(cfg.counts)}: name columns of --dense {' '.join(cfg.dense)}")
    if cfg.counts and cfg.scaling == "none":
        raise ValueError("--counts: has no meaning beside --scaling none; leave one of them out")


def check(cfg):
    """Refuses settings outside their limits."""
    limits = dict.fromkeys(
        ("width", "chunks", "epochs", "seeds", "batch_size", "hidden", "least"), (1, 10**6)
    )
    limits |= {"cross": (0, 100), "tiny": (0, 2**31), "budgets": (1e-6, 1e6), "limit": (1, 10**12)}
    unit = int(np.lcm.reduce(cfg.chunks)) if cfg.compare == "chunks" else 8
    report.check(cfg, limits, multiples={"width": unit})


def schema_of(cfg):
    """The schema of a table of one's own."""
    separator = "\t" if ".tsv" in cfg.table.suffixes else ","
    form = {"separator": separator, "strip": cfg.strip}
    named = {cfg.label, cfg.time, *cfg.dense}
    others = [n for n in data.column_names(cfg.table, **form) if n not in named]
    rule = {"label": cfg.label, "threshold": cfg.threshold, "positive": cfg.positive, "time": cfg.time}
    return data.Schema(categorical=cfg.categorical or tuple(others), dense=cfg.dense, **rule, **form)


def as_flags(text):
    """An error of the library with flags in the place of its arguments.

    >>> print(as_flags("no row holds positive='yes'; set threshold= or strip=True"))
    no row holds --positive 'yes'; set --threshold or --strip
    """
    names = "|".join(OF_TABLE)
    return re.sub(rf"\b({names})=(True)?", _as_flag, text)


def _as_flag(found):
    follows = found.string[found.end() :][:1]
    return report.flag(found[1]) + " " * (follows.isdigit() or follows == "'")


def read(cfg):
    """The table of clicks, with its splits and the number of codes of every feature."""
    if cfg.table is not None:
        scaling = {name: "log" if name in cfg.counts else cfg.scaling for name in cfg.dense}
        options = {"scaling": scaling, "fill": cfg.fill, "least": cfg.least, "limit": cfg.limit}
        try:
            table = data.ctr_table(
                cfg.table, schema_of(cfg), split="time" if cfg.time else "random", **options
            )
        except ValueError as error:
            raise ValueError(as_flags(str(error))) from None
    else:
        raw = cfg.data in ("criteo", "avazu")
        table = getattr(data, cfg.data)(*[cfg.path] * raw, limit=cfg.limit)
    for name, rows in table["splits"].items():
        if len(np.unique(table["columns"]["labels"][rows])) < 2:
            raise ValueError(f"--label {cfg.label}: the {name} rows need both classes; give more rows")
    size, name = max((size, name) for name, size in table["sizes"].items())
    if size <= cfg.tiny:
        found = f"no field above --tiny, the largest is {name!r} with {size} values"
        raise ValueError(f"--tiny {cfg.tiny}: {found}: nothing to share; lower --tiny")
    return table


def row_of(arm, budget, plans, found, alone=None, first=None):
    """One line; `alone` holds the AUCs [S] of the same scheme per feature, `first` those of the first arm."""
    aucs = found["AUCs"]
    row = {"tables": arm, "budget": budget, "bytes": tables.bytes_of(plans[0]), "AUC": float(aucs.mean())}
    row["spread"] = float(aucs.std(ddof=1)) if len(aucs) > 1 else None
    for name, other in (("gain", alone), ("over the first", first)):
        row[name] = None if other is None else float((aucs - other).mean())
    row["seeds won"] = None if alone is None else f"{(aucs > alone).sum()}/{len(aucs)}"
    lists = {name: found[name].tolist() for name in ("AUCs", "epochs", "history")}
    return row | {"seconds": round(found["seconds"]), **lists}


def picture(numbers):
    """What draws the saved rows."""
    return functools.partial(draw, rows=numbers["table"])


def draw(axes, rows):
    """Draws test AUCs as dots with 95 % intervals over the seeds: a line an arm, a colour a budget."""
    exact, arms = rows[0], list(dict.fromkeys(row["tables"] for row in rows[1:]))
    budgets = list(dict.fromkeys(row["budget"] for row in rows[1:]))
    axes.axvspan(*_ends(exact), color="0.9")
    axes.axvline(exact["AUC"], color="0.5", ls="--", label=f"collisionless, {exact['bytes']:,} bytes")
    for i, budget in enumerate(budgets):
        found = [row for row in rows[1:] if row["budget"] == budget]
        aucs = np.array([row["AUC"] for row in found])
        places = [arms.index(row["tables"]) + 0.5 * (i + 0.5) / len(budgets) - 0.25 for row in found]
        bars = np.abs(np.array([_ends(row) for row in found]).T - aucs)
        axes.errorbar(aucs, places, xerr=bars, fmt="none", ecolor=f"C{i}", elinewidth=1.5)
        inner = ["white" if "per feature" in row["tables"] else f"C{i}" for row in found]
        label = f"{budget:g} of the rows, {max(row['bytes'] for row in found):,} bytes"
        axes.scatter(aucs, places, c=inner, edgecolors=f"C{i}", s=30, zorder=3)
        axes.plot([], [], "o", color=f"C{i}", label=label)
    axes.plot([], [], "o", color="0.4", mfc="white", label="empty: a table for each feature")
    axes.set_yticks(range(len(arms)), arms, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="test AUC, mean over seeds and its 95 % interval", title="AUC at equal bytes")
    axes.grid(alpha=0.3, axis="x")
    plots.legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)


def _ends(row):
    """The ends of the interval of a row's mean AUC; with one seed the AUC itself."""
    if len(row["AUCs"]) < 2:
        return row["AUC"], row["AUC"]
    return tuple(map(float, paired.interval(row["AUCs"])[1:]))
