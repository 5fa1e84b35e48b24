"""Does one table that all features share predict clicks better than a table for each feature, at equal bytes?

    python -m experiments.ctr_tables                   # MovieLens-100K: 1 and 2 chunks at four budgets
    python -m experiments.ctr_tables --compare schemes --budgets 0.25 0.1
    python -m experiments.ctr_tables --data flights    # six schemes, a split in time
    python -m experiments.ctr_tables --data criteo --path train.txt    # the paper's settings; so does avazu
    python -m experiments.ctr_tables --table clicks.csv --label clicked --dense price --workdir model
    python -m experiments.ctr_tables --workdir model --predict new.csv    # the saved model on new rows

Papers: Unified Embedding (arXiv:2305.12102), DCN V2 (arXiv:2008.13535). `make data` brings the data. About
5 minutes each on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib
import time
from typing import Literal

import numpy as np

from experiments.ctr_tables import click_flags, dots, gains, readers
from experiments.shared import flags, results
from jaxembed import metrics, recipes, tables


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains one network on tables of several kinds and sizes; None takes the setting of the data set."""

    data: Literal["movielens_100k", "flights", "movielens_1m", "criteo", "avazu"] = "movielens_100k"
    path: pathlib.Path | None = None  # the raw file of criteo or avazu
    table: pathlib.Path | None = None  # a table of your own in place of data; described by the flags to least
    label: str = "label"
    threshold: float | None = None  # the label is 1 above it; None: the column holds 0 and 1
    positive: str | None = None  # the text of a label that is 1, where labels are texts
    categorical: tuple[str, ...] = ()  # none: all columns that no other flag names
    dense: tuple[str, ...] = ()  # columns of numbers
    counts: tuple[str, ...] = ()  # those of them whose logarithm is taken first
    scaling: Literal["standardise", "none"] = "standardise"  # of dense, fitted on the training rows
    fill: float | None = None  # replaces a missing number; None: the mean of the training rows
    time: str | None = None  # orders the rows: the last tenth is the test; None splits at random
    strip: bool = False  # take spaces off both ends of cells and names
    least: int = 2  # values rarer in the training rows share code 0 with those never seen
    workdir: pathlib.Path | None = None  # folder for the model of --table that is best on the validation rows
    predict: pathlib.Path | None = None  # new rows of such a table; the model in workdir predicts them
    limit: int | None = None  # rows to read
    compare: Literal["chunks", "schemes"] | None = None
    budgets: tuple[float, ...] | None = None  # shares of `rows`
    rows: int | None = None  # rows of a budget of 1; None: the number of values of all features
    width: int | None = None
    chunks: tuple[int, ...] | None = None  # each divides the width
    cross: int | None = None  # cross layers
    hidden: tuple[int, ...] | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    decay: float | None = None  # L2 weight on all parameters
    epochs: int | None = None  # of these, each seed is tested after the best on the validation rows
    seeds: int | None = None  # of parameters and hashes, trained side by side on the same batches
    tiny: int = 128  # features with at most so many values keep exact rows in every arm
    angles: bool = True  # with compare chunks: the single-layer model too, its readers and its rows
    results: pathlib.Path | None = None


SMALL = {"compare": "chunks", "budgets": (1, 0.5, 0.25, 0.1), "width": 16, "chunks": (1, 2), "cross": 1}
SMALL |= {"hidden": (64,), "batch_size": 512, "learning_rate": 1e-3, "decay": 0.0, "epochs": 12, "seeds": 5}
PAPER = SMALL | {"budgets": (1, 0.5, 0.1), "learning_rate": 2e-4, "decay": 1e-5, "seeds": 1}
CRITEO = {"rows": 83_886, "width": 39, "chunks": (1, 3), "cross": 2, "hidden": (748, 748), "epochs": 4}
RUNS = {"schemes": {"budgets": (0.25, 0.1)}}  # usual settings that are not the defaults
SETTINGS = {
    "movielens_100k": SMALL,
    "flights": SMALL | {"compare": "schemes", "budgets": (0.25, 0.1), "epochs": 1},
    "movielens_1m": PAPER | {"rows": 13_653, "width": 30, "hidden": (192,), "batch_size": 128, "epochs": 50},
    "criteo": PAPER | CRITEO,
    "avazu": PAPER | {"rows": 26_542, "width": 32, "hidden": (512, 512), "epochs": 5},
}


def schemes(cfg):
    """{name: options of the plan} at the bytes of `rows` rows of the full width."""
    d = cfg.width
    if cfg.compare == "chunks":
        return {f"{c} chunk{'s' * (c > 1)}": dict(chunks=c, width=d // c, tables=c) for c in cfg.chunks}
    return {
        "hashing trick": dict(width=d),
        "hash embedding": dict(chunks=2, width=d, merge="weighted", scale=d / (d + 2)),
        "HashedNet": dict(chunks=d, width=1, scale=d),
        "ROBE-8": dict(chunks=d // 8, width=1, span=8, scale=d),
        "product quantisation": dict(chunks=2, width=d // 2, tables=2),
        "quotient-remainder": dict(chunks=2, width=d, scheme="mixed_radix", merge="product"),
    }


def make_plan(sizes, rows, *, tiny, chunks=1, scale=1, **options):
    """The plan of an arm; features of at most `tiny` values have exact rows."""
    exact = {name: size if size <= tiny else None for name, size in sizes.items()}
    features = [tables.Feature(n, chunks=chunks, vocabulary=exact[n], size=s) for n, s in sizes.items()]
    return tables.plan(features, rows=max(1, round(rows * scale)), **options)


def fit(cfg, table, plan, epochs, **model):
    """Trains all seeds of an arm side by side: the model and the seconds it took."""
    began = time.perf_counter()
    names = {"batch_size": cfg.batch_size, "rate": cfg.learning_rate, "decay": cfg.decay}
    trained = recipes.fit_clicks(table, plan, epochs=epochs, members=cfg.seeds, **names, **model)
    return trained, time.perf_counter() - began


def row_of(arm, budget, table, model, seconds, alone=None, first=None):
    """One line; `alone` holds the AUCs [S] of the same scheme per feature, `first` those of the first arm."""
    test = table["splits"]["test"]
    labels = table["columns"]["labels"][test]
    aucs = np.array([metrics.auc(labels, scores) for scores in model.scores(table["columns"], test)], float)
    row = {"tables": arm, "budget": budget, "bytes": tables.bytes_of(model.plan), "AUC": float(aucs.mean())}
    row["± AUC"] = float(aucs.std(ddof=1)) if len(aucs) > 1 else None
    for name, other in (("gain", alone), ("over the first", first)):
        row[name] = None if other is None else float((aucs - other).mean())
    row["seeds won"] = None if alone is None else f"{(aucs > alone).sum()}/{len(aucs)}"
    lists = {"AUCs": aucs.tolist(), "epochs": model.epochs, "validation": model.history}
    return row | {"seconds": round(seconds), **lists}


def compare(cfg, table, total):
    """A row for every arm; with a workdir the model that is best on the validation rows is saved."""
    arms = [(None, "collisionless", "", dict(rows=1, tiny=max(table["sizes"].values()), width=cfg.width))]
    arms += [
        (
            budget,
            name,
            f"{kind}, ",
            dict(rows=round(budget * total), multiplexed=kind == "unified", **options),
        )
        for budget in cfg.budgets
        for name, options in schemes(cfg).items()
        for kind in ("per feature", "unified")
    ]
    # all plans first: an impossible one is refused before any training
    plans = [make_plan(table["sizes"], **{"tiny": cfg.tiny} | options) for *_, options in arms]
    rows, known, saved = [], {}, (-1.0, None, None)
    for (budget, name, kind, _), plan in zip(arms, plans, strict=True):
        network = {"layers": cfg.cross, "hidden": cfg.hidden}
        model, seconds = fit(cfg, table, plan, cfg.epochs, model="dcn", network=network)
        others = known.get((budget, name)), known.get(budget)
        rows.append(row_of(kind + name, budget, table, model, seconds, *others))
        print(f"{kind}{name} at {budget}: {rows[-1]['AUC']:.4f}", flush=True)
        aucs = np.array(rows[-1]["AUCs"])
        known = {budget: aucs} | known | {(budget, name): aucs}
        saved = max(saved, (float(np.max(model.history, axis=0).mean()), f"{kind}{name} at {budget}", model))
    if cfg.workdir is not None:
        saved[2].save(cfg.workdir)
        print(f"wrote {cfg.workdir / 'model.json'}: {saved[1]}, the best on the validation rows", flush=True)
    return rows


def run(cfg):
    click_flags.check_flags(cfg, Config)
    if cfg.predict is not None:
        return click_flags.predict(cfg)
    given = {name: value for name, value in vars(cfg).items() if value is not None}
    settings = SETTINGS["movielens_100k" if cfg.table else cfg.data]
    cfg = flags.changed(cfg, **settings | {name: x for name, x in given.items() if name in vars(cfg)})
    click_flags.check(cfg)
    table = click_flags.read(cfg)
    total = cfg.rows or sum(table["sizes"].values())
    found = {"test AUC": compare(cfg, table, total)}
    if cfg.angles and cfg.compare == "chunks":
        plan = functools.partial(make_plan, table["sizes"], tiny=0, width=cfg.width)
        found["readers"] = readers.measure(cfg, table, lambda b: plan(round(b * total)), cfg.budgets)
    return results.Result(found, {"sizes": table["sizes"]}, config=cfg)


UNIFIED, OWN = "2305.12102", ""
WHOLE = "hashing trick", "hash embedding", "product quantisation"
APART = "HashedNet", "ROBE-8", "quotient-remainder"
CLAIMS = (
    results.Claim(
        UNIFIED,
        "At equal bytes a table that all features share predicts better than a table for each feature (share "
        "of schemes and budgets)",
        gains.everywhere,
    ),
    results.Claim(
        UNIFIED,
        "Two chunks of shared tables predict better than one chunk of a table for each feature",
        gains.second_chunk,
    ),
    results.Claim(
        UNIFIED,
        "The fewer rows the features share, the more their readers turn away from one another (degrees)",
        gains.turning,
    ),
    results.Claim(
        UNIFIED,
        "Where readers are frozen, the mean square of rows grows as rows get fewer (times, first to last)",
        gains.growing,
    ),
    results.Claim(
        OWN, f"Sharing gains where whole rows collide: {', '.join(WHOLE)}", gains.of_schemes(*WHOLE)
    ),
    results.Claim(
        OWN,
        f"Sharing gains less than half a point where values rarely coincide: {', '.join(APART)}",
        gains.of_schemes(*APART, margin=0.005, denied=True),
    ),
)


def figures(numbers):
    return {"": dots.picture(numbers["test AUC"])}


if __name__ == "__main__":
    results.main("ctr_tables", Config, run, CLAIMS, figures=figures, runs=RUNS)
