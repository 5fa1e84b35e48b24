"""Does one table that all features share predict clicks better than a table for each feature, at equal bytes?

    python -m experiments.ctr_tables                       # MovieLens-100K, four arms at four budgets
    python -m experiments.ctr_tables --data flights        # six schemes, each per feature and shared
    python -m experiments.ctr_tables --table clicks.csv --label clicked --dense price --workdir model
    python -m experiments.ctr_tables --workdir model --predict new.csv    # the saved model on new rows
    python -m experiments.ctr_tables --data criteo --path train.txt    # the paper's settings; avazu alike

Papers: Unified Embedding (arXiv:2305.12102), DCN-V2 (arXiv:2008.13535). `make data` brings the data. About
5 minutes on 2 CPU cores. Test AUC, 5 seeds, at 1 / .5 / .25 / .1 of the rows (collisionless .854): 1 chunk
per feature .827 .802 .778 .746, unified .839 .828 .808 .777; 2 chunks per feature .853 .846 .828 .791,
unified .855 .853 .846 .814: 2.9 5.1 6.8 6.8 points over 1 chunk per feature, .2 .7 1.8 2.3 over 2.
Flights, 5 minutes, one epoch (a second costs every arm a point on the later test rows): not reproduced, every
arm is within .002 of .607, which is also what collisionless tables reach: the budgets cost nothing there.
"""

import dataclasses
import functools
import pathlib
import time
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import click_models, clicks, report
from jaxembed import data, encoders, metrics, tables, train


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
    fill: float | None = None  # stands for a missing number; None: the mean of the training rows
    time: str | None = None  # orders the rows: the last tenth is the test; None splits at random
    strip: bool = False  # take spaces off both ends of cells and names
    least: int = 2  # values rarer in the training rows share code 0 with those never seen
    workdir: pathlib.Path | None = None  # folder for the arm of --table that is best on the validation rows
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
    angles: bool = True  # measure the angles between readers too
    results: pathlib.Path = report.RESULTS


SMALL = {"compare": "chunks", "budgets": (1, 0.5, 0.25, 0.1), "width": 16, "chunks": (1, 2), "cross": 1}
SMALL |= {"hidden": (64,), "batch_size": 512, "learning_rate": 1e-3, "decay": 0.0, "epochs": 12, "seeds": 5}
PAPER = SMALL | {"budgets": (1, 0.5, 0.1), "learning_rate": 2e-4, "decay": 1e-5, "seeds": 1}
CRITEO = {"rows": 83_886, "width": 39, "chunks": (1, 3), "cross": 2, "hidden": (748, 748), "epochs": 4}
picture = clicks.picture
RUNS = {"ctr_tables_schemes": {"budgets": (0.25, 0.1)}}  # usual settings that are not the defaults
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
        "product quantization": dict(chunks=2, width=d // 2, tables=2),
        "quotient-remainder": dict(chunks=2, width=d, scheme="mixed_radix", merge="product"),
    }


def make_plans(cfg, sizes, rows, *, tiny, chunks=1, scale=1, **options):
    """One plan for each seed; features of at most `tiny` values have exact rows."""
    exact = {name: size if size <= tiny else None for name, size in sizes.items()}
    features = [tables.Feature(n, chunks=chunks, vocabulary=exact[n], size=s) for n, s in sizes.items()]
    plan = functools.partial(tables.plan, features, rows=max(1, round(rows * scale)), **options)
    return [plan(seed=seed) for seed in range(cfg.seeds)]


def dcn(cfg, width):
    """DCN-V2, the network above the tables: (init, apply)."""

    def apply(params, found, dense):
        return encoders.dcn(params, jnp.concatenate([*found.values()], axis=1), dense)

    return lambda key: encoders.init_dcn(key, width, layers=cfg.cross, hidden=cfg.hidden), apply


def readers(cfg, count):
    """One vector reads each feature, all of them equal at first: the model of the paper's analysis."""

    def init(key):
        return {"readers": jnp.tile(jax.random.normal(key, (1, cfg.width)) * cfg.width**-0.5, (count, 1))}

    def apply(params, found, dense):
        return jnp.einsum("tbd,td->b", jnp.stack([*found.values()]), params["readers"])

    return init, apply


def build(cfg, plans, network):
    """(init, logits) of all seeds at once: parameters have a leading axis [S], logits are [S, B]."""
    plan, (init_network, apply) = plans[0], network
    spread = 0.05 if getattr(plan, "merge", "concat") != "product" else (3 * 0.05**2) ** 0.25
    initializer = jax.nn.initializers.uniform(2 * spread)
    values = {f.name: np.arange(f.size) for f in plan.features}
    known = [tables.codes(p, values) for p in plans]  # every seed has salts of its own
    known = jax.tree.map(lambda *rows: jnp.stack(rows), *known)

    def init_one(key):
        below, above = jax.random.split(key)
        made = tables.init_tables(below, plan, initialiser=lambda k, shape: initializer(k, shape) - spread)
        return {"tables": made, "network": init_network(above)}

    def logits(params, batch):
        def one(params, known):
            rows = {name: known[name][batch["ids"][name.split("/")[0]]] for name in known}
            found = tables.lookup(plan, params["tables"], rows, masks=batch["masks"])
            return apply(params["network"], found, batch["dense"])

        return jax.vmap(one)(params, known)

    return lambda key: jax.vmap(init_one)(jax.random.split(key, len(plans))), logits


def fit(cfg, table, plans, network, epochs):
    """Trains all seeds of an arm: {test AUCs, best epochs, all AUCs, last and best parameters, seconds}."""
    began, columns, splits = time.perf_counter(), table["columns"], table["splits"]
    init, logits = build(cfg, plans, network)
    size = min(cfg.batch_size, len(splits["train"]))
    score, take, history = jax.jit(logits), functools.partial(data.take, columns), []
    held = np.concatenate([splits["validation"], splits["test"]])
    pieces = np.resize(held, (-(-len(held) // 8192), 8192))  # repeats rows to fill the last
    cuts = slice(len(splits["validation"])), slice(len(splits["validation"]), len(held))
    kept = {}  # of each seed the parameters after its best epoch, where they are to be saved

    def loss_fn(params, batch, key):
        loss = optax.sigmoid_binary_cross_entropy(logits(params, batch), batch["labels"][None])
        return jnp.mean(jnp.sum(loss, axis=0)), {}  # a sum over seeds, so that each has its own gradient

    def evaluate(state):
        scores = np.concatenate([score(state.params, take(rows)) for rows in pieces], axis=1)
        aucs = [[metrics.auc(columns["labels"][held[cut]], s[cut]) for s in scores] for cut in cuts]
        history.append(aucs)
        if cfg.workdir is not None:
            kept["params"] = click_models.best(kept.get("params"), state.params, [h[0] for h in history])
        return {"validation AUC": float(np.mean(aucs[0]))}

    steps = len(splits["train"]) // size
    tx = optax.chain(optax.add_decayed_weights(cfg.decay), optax.adam(cfg.learning_rate))
    run = {"batches": data.batches(splits["train"], size, make=take), "steps": epochs * steps}
    state = train.fit(init=init, loss_fn=loss_fn, tx=tx, evaluate=evaluate, evaluate_every=steps, **run)
    found = np.array(history)  # [epochs, 2, S]
    best = found[:, 0].argmax(axis=0)
    aucs = {"AUCs": found[best, 1, np.arange(len(plans))], "epochs": best + 1, "history": found}
    aucs |= {"validation": float(found[best, 0, np.arange(len(plans))].mean()), "best": kept.get("params")}
    return aucs | {"params": state.params, "seconds": time.perf_counter() - began}


def compare(cfg, table, total):
    sizes = table["sizes"]
    network = dcn(cfg, len(sizes) * cfg.width + table["columns"]["dense"].shape[1])
    make = functools.partial(make_plans, cfg, sizes, tiny=cfg.tiny)
    arms = [(None, "collisionless", "", make(1, tiny=max(sizes.values()), width=cfg.width))]
    arms += [  # all plans first: an impossible one is refused before any training
        (budget, name, f"{kind}, ", make(round(budget * total), multiplexed=kind == "unified", **options))
        for budget in cfg.budgets
        for name, options in schemes(cfg).items()
        for kind in ("per feature", "unified")
    ]
    rows, known, saved = [], {}, (-1.0, None)
    for budget, name, kind, plans in arms:
        found, others = (
            fit(cfg, table, plans, network, cfg.epochs),
            (known.get((budget, name)), known.get(budget)),
        )
        rows.append(clicks.row_of(kind + name, budget, plans, found, *others))
        aucs = found["AUCs"]
        print(f"{kind}{name} at {budget}: {aucs.mean():.4f}", flush=True)
        known = {budget: aucs} | known | {(budget, name): aucs}
        if cfg.workdir is not None and found["validation"] > saved[0]:
            saved = found["validation"], (f"{kind}{name} at {budget}", plans, found["best"])
    if cfg.workdir is not None:
        click_models.save(cfg, table, *saved[1])
    return rows


def reader_angles(cfg, table, total):
    """Mean angle between the readers of two features, for each budget, all features in the one table."""
    rows, pairs = [], np.triu_indices(len(table["sizes"]), 1)
    for budget in (2, *cfg.budgets):
        plans = make_plans(cfg, table["sizes"], round(budget * total), tiny=0, width=cfg.width)
        params = fit(cfg, table, plans, readers(cfg, len(table["sizes"])), 10)["params"]
        angles = [np.asarray(tables.reader_angles(r))[pairs] for r in params["network"]["readers"]]
        rows.append({"budget": budget, "mean angle": float(np.mean(angles))})
    return rows


def main(cfg):
    began, name = time.perf_counter(), report.named("ctr_tables", cfg, RUNS)
    clicks.check_flags(cfg, Config)
    if cfg.predict is not None:
        return click_models.predict(cfg, build, dcn)
    given = {key: value for key, value in vars(cfg).items() if value is not None}
    cfg = Config(**SETTINGS["movielens_100k" if cfg.table else cfg.data] | given)
    clicks.check(cfg)
    table = clicks.read(cfg)
    total = cfg.rows or sum(table["sizes"].values())
    rows = compare(cfg, table, total)
    angles = reader_angles(cfg, table, total) if cfg.angles else []
    print(report.table(rows, list(rows[0])[:-3]), report.table(angles) if angles else "", sep="\n")
    seconds = round(time.perf_counter() - began)
    numbers = {"sizes": table["sizes"], "table": rows, "angles": angles, "seconds": seconds}
    numbers["config"] = report.settings(cfg)
    report.save(name, numbers, picture(numbers), cfg.results)


if __name__ == "__main__":
    report.run(main, Config)
