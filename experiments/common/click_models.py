"""Trained models of the experiment on tables of clicks: kept in a folder, used on new rows."""

import dataclasses

import jax
import numpy as np

from experiments.common import clicks, report
from jaxembed import data, files, tables

REMEDY = "train again with --workdir"
PIECE = 8192  # rows that are scored at once


def best(kept, params, history):
    """Of each seed the parameters after its best epoch so far.

    Args:
        kept: parameters kept so far, with a leading axis [S], or None.
        params: parameters after the last epoch.
        history: [epochs, S], validation AUCs up to now.
    """
    if kept is None:
        return jax.tree.map(np.asarray, params)
    better = np.argmax(history, axis=0) == len(history) - 1
    chosen = lambda old, new: np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)  # noqa: E731
    return jax.tree.map(chosen, kept, params)


def save(cfg, table, arm, plans, params):
    """Writes ``params.npz`` and ``model.json``, which holds all that reading and scoring new rows needs."""
    cfg.workdir.mkdir(parents=True, exist_ok=True)
    new = files.beside(cfg.workdir / "params.npz", ".new")
    flat = {"/".join(k.key for k in path): x for path, x in jax.tree.leaves_with_path(params)}
    with files.written(new) as file:
        np.savez(file, **flat)
    new.replace(cfg.workdir / "params.npz")
    model = {
        "arm": arm,
        "schema": dataclasses.asdict(clicks.schema_of(cfg)),
        "vocabularies": table["vocabularies"],
        "scaling": table["scaling"],
        "plans": [dataclasses.asdict(plan) for plan in plans],
        "network": {name: getattr(cfg, name) for name in ("width", "cross", "hidden")},
    }
    files.write_json(cfg.workdir / "model.json", model)
    print(f"wrote {cfg.workdir / 'model.json'}: {arm}, the best on the validation rows", flush=True)


def load(folder):
    """(model.json, parameters) as :func:`save` wrote them."""
    model = files.read_json(folder / "model.json", REMEDY)
    params = {}
    try:
        with np.load(folder / "params.npz") as stored:
            for path, array in stored.items():
                *names, last = path.split("/")
                level = params
                for name in names:
                    level = level.setdefault(name, {})
                level[last] = array
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / 'params.npz'}: {error}; {REMEDY}") from None
    return model, params


def predict(cfg, build, network):
    """Writes a line of ``predictions_NAME.csv`` for each row of a file: the mean probability of the seeds.

    Args:
        cfg: dataclass with ``workdir`` and ``predict``.
        build, network: functions of the experiment that make the model.
    """
    model, params = load(cfg.workdir)
    schema = {name: tuple(x) if isinstance(x, list) else x for name, x in model["schema"].items()}
    schema = data.Schema(**schema | {"separator": "\t" if ".tsv" in cfg.predict.suffixes else ","})
    columns = data.click_rows(cfg.predict, schema, model["vocabularies"], scaling=model["scaling"])
    plans, cfg = [tables.plan(**plan) for plan in model["plans"]], report.changed(cfg, **model["network"])
    width = len(plans[0].features) * cfg.width + columns["dense"].shape[1]
    _, logits = build(cfg, plans, network(cfg, width))
    score = jax.jit(lambda batch: jax.nn.sigmoid(logits(params, batch)).mean(axis=0))
    count = len(columns["dense"])
    pieces = np.resize(np.arange(count), (-(-count // PIECE), min(count, PIECE)))
    found = np.concatenate([score(data.take(columns, rows)) for rows in pieces])[:count]
    path = cfg.workdir / f"predictions_{cfg.predict.stem}.csv"
    new = files.beside(path, ".new")
    with files.written(new) as file:
        file.write("\n".join(["probability", *(f"{p:.6f}" for p in found), ""]).encode())
    new.replace(path)
    print(f"wrote {path}: {count} rows")
