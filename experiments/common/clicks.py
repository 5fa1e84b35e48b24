"""The input of the experiment on tables of clicks, and one line of its results."""

import numpy as np

from experiments.common import report
from jaxembed import data, tables


def check(cfg, defaults):
    """Refuses flags that do not go together, before anything is read; ``defaults`` has the unset values."""
    of_table = {n: getattr(cfg, n) for n in ("label", "threshold", "categorical", "dense", "time")}
    if cfg.table is None and of_table != {n: getattr(defaults, n) for n in of_table}:
        raise ValueError(
            "--label, --threshold, --categorical, --dense, --time: they describe --table, name it"
        )
    raw = cfg.table is None and cfg.data in ("criteo", "avazu")
    if raw != (cfg.path is not None):
        need = (
            "needs --path of its raw training file"
            if raw
            else "takes no --path; give --table a file of yours"
        )
        raise ValueError(f"--data {cfg.data} {need}")
    limits = dict.fromkeys(("width", "chunks", "epochs", "seeds", "batch_size", "hidden"), (1, 10**6))
    limits |= {"cross": (0, 100), "tiny": (0, 2**31), "budgets": (1e-6, 1e6), "limit": (1, 10**12)}
    unit = int(np.lcm.reduce(cfg.chunks)) if cfg.compare == "chunks" else 8
    report.check(cfg, limits, multiples={"width": unit})


def read(cfg):
    """The table of clicks, with its splits and the number of codes of every feature."""
    if cfg.table is not None:
        separator = "\t" if ".tsv" in cfg.table.suffixes else ","
        rule = {"label": cfg.label, "threshold": cfg.threshold, "time": cfg.time, "separator": separator}
        named = {cfg.label, cfg.time, *cfg.dense}
        others = [n for n in data.column_names(cfg.table, separator=separator) if n not in named]
        schema = data.Schema(categorical=cfg.categorical or tuple(others), dense=cfg.dense, **rule)
        table = data.ctr_table(cfg.table, schema, split="time" if cfg.time else "random", limit=cfg.limit)
    else:
        raw = cfg.data in ("criteo", "avazu")
        table = getattr(data, cfg.data)(*[cfg.path] * raw, limit=cfg.limit)
    for name, rows in table["splits"].items():
        if len(np.unique(table["columns"]["labels"][rows])) < 2:
            raise ValueError(f"--label {cfg.label}: the {name} rows need both classes; give more rows")
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
