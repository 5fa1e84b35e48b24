"""The flags that describe tables of clicks: checked, read, and a saved model asked about new rows."""

import dataclasses
import difflib
import re

import numpy as np

from experiments.shared import flags
from jaxembed import data, files, recipes

OF_TABLE = ("label", "threshold", "categorical", "dense", "time", "positive", "strip")
OF_TABLE += ("counts", "scaling", "fill", "least")  # flags that describe a table of one's own


def check_flags(cfg, defaults):
    """Refuses flags that do not go together, before anything is read; ``defaults`` has the unset values."""
    if cfg.predict is not None:
        if cfg.workdir is None:
            raise ValueError("--predict: needs --workdir, the folder of a saved model")
        flags.exclude(cfg, "predict", sorted(flags.given(cfg).keys() - {"predict", "workdir", "results"}))
        return
    described = [flags.flag(n) for n in OF_TABLE if getattr(cfg, n) != getattr(defaults, n)]
    if cfg.table is None and described:
        raise ValueError(f"{', '.join(described)}: describes a table of your own; name its file with --table")
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
        raise ValueError("--counts: has no meaning with --scaling none; leave one of them out")


def check(cfg):
    """Refuses settings outside their limits."""
    limits = dict.fromkeys(
        ("width", "chunks", "epochs", "seeds", "batch_size", "hidden", "least"), (1, 10**6)
    )
    limits |= {"cross": (0, 100), "tiny": (0, 2**31), "budgets": (1e-6, 1e6), "limit": (1, 10**12)}
    unit = int(np.lcm.reduce(cfg.chunks)) if cfg.compare == "chunks" else 8
    flags.check(cfg, limits, multiples={"width": unit})


def schema_of(cfg):
    """The schema of a table of one's own."""
    separator = "\t" if ".tsv" in cfg.table.suffixes else ","
    form = {"separator": separator, "strip": cfg.strip}
    named = {cfg.label, cfg.time, *cfg.dense}
    names = data.column_names(cfg.table, **form)
    _known(cfg, names)
    others = [n for n in names if n not in named]
    rule = {"label": cfg.label, "threshold": cfg.threshold, "positive": cfg.positive, "time": cfg.time}
    return data.Schema(categorical=cfg.categorical or tuple(others), dense=cfg.dense, **rule, **form)


def _known(cfg, names):
    """Refuses a flag that names a column which the table lacks."""
    for field in ("label", "time", "dense", "categorical"):
        value = getattr(cfg, field)
        for name in value if isinstance(value, tuple) else (value,):
            if name is not None and name not in names:
                near = difflib.get_close_matches(name, names)
                found = (
                    f"did you mean {' or '.join(map(repr, near))}?" if near else f"the columns are {names}"
                )
                raise ValueError(f"{flags.flag(field)} {name}: is not a column of {cfg.table}; {found}")


def as_flags(text):
    """An error of the library with flags in the place of its arguments.

    >>> print(as_flags("no row holds positive='yes'; set threshold= or strip=True"))
    no row holds --positive 'yes'; set --threshold or --strip
    """
    names = "|".join(OF_TABLE)
    return re.sub(rf"\b({names})=(True)?", _as_flag, text)


def _as_flag(found):
    follows = found.string[found.end() :][:1]
    return flags.flag(found[1]) + " " * (follows.isdigit() or follows == "'")


def read(cfg):
    """The table of clicks, with its splits and the number of ids of every feature."""
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


def predict(cfg):
    """Writes a line of ``predictions_NAME.csv`` into the workdir for each row of a file: its probability."""
    try:
        model = recipes.load_clicks(cfg.workdir)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(
            f"--workdir: {str(error).rpartition('; ')[0]}; train again with --workdir"
        ) from None
    separator = "\t" if ".tsv" in cfg.predict.suffixes else ","
    schema = dataclasses.replace(model.reading["schema"], separator=separator)
    try:
        found = model.predict(cfg.predict, schema=schema)
    except ValueError as error:
        cause = as_flags(str(error)).removeprefix(f"{cfg.predict}: ").removeprefix("source: ")
        raise ValueError(f"--predict {cfg.predict}: {cause.rpartition('; ')[0]}; mend the file") from None
    path = cfg.workdir / f"predictions_{cfg.predict.stem}.csv"
    new = files.beside(path, ".new")
    with files.written(new) as file:
        file.write("\n".join(["probability", *(f"{p:.6f}" for p in found), ""]).encode())
    new.replace(path)
    print(f"wrote {path}: {len(found)} rows")
