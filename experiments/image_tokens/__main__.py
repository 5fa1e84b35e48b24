"""Which tokens of a large picture does a question need?

    python -m experiments.image_tokens                 # coloured digits in 9 tiles, questions about one
    python -m experiments.image_tokens --validate      # the digits on which settings were chosen

Paper: SliME (arXiv:2406.08487). About 5 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import jax
import numpy as np

from experiments.image_tokens import reader, scenes
from experiments.shared import flags, plots, results
from experiments.shared.results import Claim, Result
from jaxembed import encoders, train

JOINT, TURNS = "joint", "alternating"
ALL, ROUTER, MEAN, RANDOM = "all tokens", "router", "router, mean of words", "random"
SPREADS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a reader of a small view, of compressed tiles and of a question."""

    steps: int = 400
    share: float = 0.15  # of the steps in each of the first two stages of the alternating arm
    batch_size: int = 64
    test: int = 1024  # pictures that are asked about
    learning_rate: float = 3e-3
    top_p: float = 0.9
    temperature: float = 0.15  # of the router's softmax
    width: int = 32
    layers: int = 1
    seeds: int = 5
    validate: bool = False  # ask about other digits; settings were chosen there
    quick: bool = False  # one seed, 40 steps
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"steps": (1, 10**6), "share": (0.001, 0.49), "batch_size": (2, 4096), "test": (64, 10**6)}
        limits |= {"learning_rate": (1e-9, 1), "top_p": (0, 1), "temperature": (1e-3, 100)}
        limits |= {"width": (4, 1024), "layers": (1, 24), "seeds": (1, 100)}
        flags.check(self, limits, {"width": 4, "test": 64})


QUICK = {"seeds": 1, "steps": 40, "test": 128}


def trained(cfg, digits, how, seed):
    sizes = {"width": cfg.width, "layers": cfg.layers}
    state = train.fit(
        init=lambda key: reader.init(key, **sizes),
        update=reader.update_of(cfg, reader.rule_of(cfg, how == TURNS)),
        batches=scenes.Batches(digits, cfg.batch_size, seed),
        steps=cfg.steps,
        key=seed,
        mesh=train.make_mesh(1),
    )
    return state.params


def asked(cfg, params, rule, test):
    """{"accuracy", "kept": share of tokens, "own": share of the asked tile's tokens}."""
    run, found = reader.evaluate_of(cfg.width, cfg.layers, rule), []
    for i in range(0, cfg.test, 64):
        part = {name: x[i : i + 64] for name, x in test.items()}
        found.append([np.asarray(x) for x in run(params, part, jax.random.fold_in(jax.random.key(0), i))])
    right, kept, own = (np.concatenate(x) for x in zip(*found, strict=True))
    numbers = {"accuracy": right, "kept": kept, "own": own}
    return {name: float(x.mean()) for name, x in numbers.items()}


def rules(cfg):
    """{name: rule}: all tokens, those that the question finds, and as many at random."""
    router = {ROUTER: "sum", MEAN: "mean"}
    found = {name: ("router", how, cfg.top_p, cfg.temperature) for name, how in router.items()}
    found |= {f"{ROUTER}, temperature 1": ("router", "sum", cfg.top_p, 1.0)}
    return {ALL: ("all",)} | found | {f"{RANDOM}, {s:.0%}": ("share", s) for s in (0.1, 0.25, 0.5)}


def rows_of(runs, names, **labels):
    """A row with mean and deviation of numbers over seeds."""
    row = dict(labels)
    for name in names:
        row[name], row[f"± {name}"] = results.spread([r[name] for r in runs])
    return row | {"runs": runs}


def flatness(tokens=864, p=0.95, draws=50):
    """How many tokens top-p keeps at temperature 1, by the spread of their scores."""
    rng = np.random.default_rng(0)
    rows = []
    for spread in SPREADS:
        kept = encoders.top_p_mask(spread * rng.normal(size=(draws, tokens)), p).mean(axis=1)
        rows.append({"spread": spread, "kept": float(kept.mean())})
    return rows


def of(table, name, **labels):
    """The numbers of a row's runs."""
    row = next(r for r in table if labels.items() <= r.items())
    return np.array([run[name] for run in row["runs"]])


def near_all(t):
    """Few tokens within two points of all; no answer where the router keeps more than a quarter."""
    few = of(t["budgets"], "kept", rule=ROUTER)
    if few.mean() > 0.25:
        return results.holds(False, few.mean())
    return results.paired(
        of(t["budgets"], "accuracy", rule=ROUTER) - of(t["budgets"], "accuracy", rule=ALL), margin=-0.02
    )


def above_random(t):
    found = of(t["budgets"], "accuracy", rule=ROUTER) - of(t["budgets"], "accuracy", rule=f"{RANDOM}, 25%")
    return results.paired(found, margin=0.15)


def turns_win(t):
    found = of(t["training"], "accuracy", how=TURNS) - of(t["training"], "accuracy", how=JOINT)
    return results.paired(found, margin=0.01)


def flat(t):
    kept = {row["spread"]: row["kept"] for row in t["flatness"]}
    return results.holds(kept[0.5] > 0.8 and kept[2.0] < 0.4, kept[0.5])


PAPER = "2406.08487"
CLAIMS = (
    Claim(
        PAPER, "With at most a quarter of the tokens, the router is within 2 points of all of them", near_all
    ),
    Claim(PAPER, "The router is more than 15 points above a quarter of the tokens at random", above_random),
    Claim(PAPER, "Alternating training is more than 1 point above joint training at equal steps", turns_win),
    Claim(
        "",
        "At temperature 1 scores with a deviation of 0.5 keep over 80 % of the tokens, those of 2 under 40 %",
        flat,
    ),
)


def figures(numbers):
    """Accuracy against tokens kept; ways of training; how flat the softmax is."""

    def draw(axes):
        axes[0, 0].figure.set_size_inches(13, 4)
        budgets, turns, spread = axes[0]
        for row in numbers["budgets"]:
            budgets.errorbar(
                row["kept"],
                row["accuracy"],
                yerr=row["± accuracy"] or 0,
                marker="o",
                capsize=3,
                label=row["rule"],
            )
        budgets.set(
            xlabel="share of the tiles' tokens kept",
            ylabel="accuracy",
            xlim=(0, 1.05),
            ylim=(0, 1),
        )
        plots.legend(budgets, loc="lower right")
        rows = numbers["training"]
        errors = [r["± accuracy"] or 0 for r in rows]
        turns.bar([r["how"] for r in rows], [r["accuracy"] for r in rows], 0.6, yerr=errors, capsize=3)
        turns.set(ylabel="accuracy, all tokens", ylim=(0, 1))
        spread.plot(
            [r["spread"] for r in numbers["flatness"]], [r["kept"] for r in numbers["flatness"]], marker="o"
        )
        spread.set(
            xlabel="deviation of the scores",
            ylabel="kept by top-p 0.95 at temperature 1",
            ylim=(0, 1),
        )
        for panel in axes[0]:
            panel.grid(alpha=0.3)

    return {"": (draw, (1, 3))}


def run(cfg):
    """Every arm over seeds; rules are asked of the joint readers."""
    digits, held = scenes.splits(cfg.validate)
    test = scenes.scenes(held, cfg.test, np.random.default_rng(1))
    table, models = [], []
    for how in (JOINT, TURNS):
        flags.stage(f"trains {cfg.seeds} x {cfg.steps} steps: {how}")
        params = [trained(cfg, digits, how, seed) for seed in range(cfg.seeds)]
        models = models or params
        found = [asked(cfg, p, ("all",), test) for p in params]
        table.append(rows_of(found, ("accuracy",), how=how))
        print(f"{how}: {table[-1]['accuracy']:.3f}", flush=True)
    flags.stage("asks with fewer tokens")
    budgets = []
    for name, rule in rules(cfg).items():
        found = [asked(cfg, p, rule, test) for p in models]
        budgets.append(rows_of(found, ("kept", "accuracy", "own"), rule=name))
    return Result({"training": table, "budgets": budgets, "flatness": flatness()})


if __name__ == "__main__":
    results.main("image_tokens", Config, run, CLAIMS, figures=figures, quick=QUICK)
