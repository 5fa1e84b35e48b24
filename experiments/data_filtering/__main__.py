r"""Which pairs of picture and caption should be kept: does a network trained on a few clean ones know?

    python -m experiments.data_filtering                    # latent factors, in closed form
    python -m experiments.data_filtering --data digits --clean 200 --filter-pairs 2000 --pool 8000 \
        --bad 0 0.5 0.8                                     # towers that learn, weight averages
    python -m experiments.data_filtering --data pictures --size 64 --ridge 1 --filter-pairs 2000 \
        --bad 0 0.5 0.8                                     # Open Clip Art, stamps, emoji

Paper: data filtering networks (arXiv:2309.17425). Most pairs of the pool do not belong together. A filter
scores each by a cosine; a second model is trained on what is kept. `make data` brings the pictures.
About 1 minute on 2 CPU cores, also with `--data digits`; 4 with `--data pictures`.
"""

import dataclasses
import pathlib
from typing import Literal

import numpy as np

from experiments.data_filtering import worlds
from experiments.data_mixtures import digits as drawn
from experiments.shared import flags, results
from experiments.shared.results import Claim, Result
from jaxembed import data, encoders, metrics, weights

RANDOM, TEMPLATES, CLEAN = "random", "templates", "clean"
TUNED, AVERAGED, MIXED = "tuned on clean", "weights averaged", "random, clean pairs added"
NUMBERS = {
    "own zero-shot": "the filter's accuracy",
    "precision": "good pairs among those kept",
    "zero-shot": "accuracy of the model",
    "R@1": "captions found first",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Filters a pool by networks that were trained on other pairs, and trains on what they keep."""

    data: Literal["latents", "digits", "pictures"] = "latents"
    pool: int = 20000  # pairs of the pool; of pictures, all that are left
    pool_bad: float = 0.8  # share of them that do not belong together
    keep: float = 0.2  # share of the pool that is kept
    clean: int = 300  # pairs of the small filter
    filter_pairs: int = 5000  # pairs of the other filters
    bad: tuple[float, ...] = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8)  # shares of them that do not belong together
    size: int = 24  # directions of towers in closed form
    ridge: float = 1e-2  # of them, in units of the mean variance
    steps: int = 300  # of towers that learn
    seeds: int = 5
    quick: bool = False  # one seed
    workdir: pathlib.Path = pathlib.Path("runs/data_filtering")  # keeps the vectors of pictures
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"pool": (100, 10**7), "pool_bad": (0, 1), "keep": (1e-3, 1), "clean": (10, 10**6)}
        limits |= {"filter_pairs": (10, 10**6), "bad": (0, 1), "size": (1, 64), "ridge": (0, 1e3)}
        flags.check(self, limits | {"steps": (1, 10**6), "seeds": (1, 100)})


RUNS = {  # usual settings that are not the defaults
    "digits": {"clean": 200, "filter_pairs": 2000, "pool": 8000, "bad": (0.0, 0.5, 0.8)},
    "pictures": {"size": 64, "ridge": 1.0, "filter_pairs": 2000, "bad": (0.0, 0.5, 0.8)},
}
QUICK = {"seeds": 1, "pool": 4000, "steps": 100}


def accuracies(towers, world):
    """Zero-shot accuracy over classes, and how often the model finds the caption of a picture first."""
    image, text = towers
    test = world["test"]
    shown, known = image(test["first"]), test["labels"] >= 0
    scores = encoders.cosine_logits(shown[known], text(world["classes"]))
    found = {"zero-shot": float(np.mean(np.argmax(scores, axis=1) == test["labels"][known]))}
    if "captions" in world:  # that repeat: the right one of all
        first = np.argmax(encoders.cosine_logits(shown, text(world["captions"])), axis=1) == test["place"]
    else:
        first = np.asarray(metrics.partner_ranks(shown, text(test["second"]))) == 1
    return found | {"R@1": float(first.mean())}


def fitted(cfg, pairs, seed):
    """Towers trained on pairs; with digits also their params."""
    if cfg.data == "digits":
        return worlds.learned_towers(cfg, pairs["first"], pairs["second"], seed)
    return worlds.linear_towers(pairs["first"], pairs["second"], cfg.size, cfg.ridge), None


def more_filters(cfg, world, params, seed):
    """The filter of the worst pairs after further training on clean ones, and the mean of both weights."""
    clean, start = world["filters"][CLEAN], params[f"{max(cfg.bad):.0%} bad"]
    tuned = drawn.trained(clean["first"], clean["second"], seed, steps=cfg.steps // 3, start=start)
    mean = weights.merge(start, [weights.task_vector(tuned, start)], [0.5])
    return {TUNED: worlds.functions(tuned), AVERAGED: worlds.functions(mean)}


def one_seed(cfg, world, seed):
    """Rows of all filters: their own accuracy, what they keep, and the model that is trained on it."""
    pool, keep, rng = world["pool"], int(cfg.keep * len(world["pool"]["good"])), np.random.default_rng(seed)
    filters, params = {}, {}
    for name, pairs in world["filters"].items():
        filters[name], params[name] = fitted(cfg, pairs, seed)
    if cfg.data == "digits":
        filters |= more_filters(cfg, world, params, seed)
    rows = []
    for name, towers in {RANDOM: None, **filters}.items():
        if towers is None:
            scores = rng.random(len(pool["good"]))
        else:
            scores = data.pair_scores(towers[0](pool["first"]), towers[1](pool["second"]))
        kept = data.select(scores, keep)
        report = data.filter_report(scores, pool["good"], keep)
        model, _ = fitted(cfg, {side: pool[side][kept] for side in ("first", "second")}, seed + 10)
        own = {} if towers is None else {"own zero-shot": accuracies(towers, world)["zero-shot"]}
        own |= {"precision": report["precision"], "AP": float(metrics.pr_auc(pool["good"], scores))}
        rows.append({"filter": name, **own, **accuracies(model, world)})
        if name == RANDOM:  # the clean pairs in the training set in place of a filter
            both = {
                s: np.concatenate([pool[s][kept], world["filters"][CLEAN][s]]) for s in ("first", "second")
            }
            model, _ = fitted(cfg, both, seed + 10)
            rows.append({"filter": MIXED, **accuracies(model, world)})
    return rows


def run(cfg):
    """Every filter with every seed."""
    read = worlds.read_pictures(cfg.workdir) if cfg.data == "pictures" else None
    found = []
    for seed in range(cfg.seeds):
        flags.stage(f"seed {seed}")
        make = {"latents": worlds.latents, "digits": worlds.digits}.get(cfg.data)
        found.append(one_seed(cfg, make(cfg, seed) if make else worlds.pictures(cfg, seed, read), seed))
    rows = []
    for same in zip(*found, strict=True):
        row = {"filter": same[0]["filter"]}
        for name in ("own zero-shot", "precision", "AP", "zero-shot", "R@1"):
            known = name in same[0]
            row[name], row[f"± {name}"] = results.spread([r[name] for r in same]) if known else (None, None)
        rows.append(row | {"runs": list(same)})
    return Result({"filters": rows})


def of(t, name, number):
    """A number of a filter, one for each seed; None without it."""
    found = {r["filter"]: [x.get(number) for x in r["runs"]] for r in t["filters"]}.get(name)
    return None if found is None or found[0] is None else np.array(found)


def over(first, second, numbers, margin=0.0):
    """Answers whether a filter is above another in all of some numbers."""

    def ours(t):
        pairs = [(of(t, first, n), of(t, second, n)) for n in numbers]
        if any(x is None or y is None for x, y in pairs):
            return None
        return results.paired(np.stack([x - y for x, y in pairs], axis=1), margin=margin)

    return ours


def best_is_not_best(t):
    """Answers whether templates make the better classifier and the worse filter."""
    gaps = [of(t, TEMPLATES, "own zero-shot") - of(t, CLEAN, "own zero-shot")]
    gaps += [of(t, CLEAN, n) - of(t, TEMPLATES, n) for n in ("precision", "R@1")]
    return results.paired(np.stack(gaps, axis=1))


def faster(t):
    """Answers whether bad pairs cost the filter a larger share of its precision than of its accuracy."""
    names = [r["filter"] for r in t["filters"] if r["filter"].endswith("bad")]
    start, end = (
        {n: of(t, name, n) for n in ("own zero-shot", "precision")} for name in (names[0], names[-1])
    )
    lost = {n: 1 - end[n] / start[n] for n in start}
    return results.paired(lost["precision"] - lost["own zero-shot"])


DFN = "2309.17425"
SELECTS, TRAINS = ("precision", "R@1"), ("zero-shot", "R@1")
CLAIMS = (
    Claim(
        DFN, "Templates make a better classifier and a worse filter than a few clean pairs", best_is_not_best
    ),
    Claim(DFN, "A few clean pairs select better than chance by 5 points", over(CLEAN, RANDOM, SELECTS, 0.05)),
    Claim(DFN, "Templates select better than chance by 5 points", over(TEMPLATES, RANDOM, SELECTS, 0.05)),
    Claim(DFN, "Bad pairs among a filter's own cost more precision than accuracy", faster),
    Claim(DFN, "Clean pairs are worth more in a filter than in the training set", over(CLEAN, MIXED, TRAINS)),
    Claim(DFN, "Further training on clean pairs improves a filter", over(TUNED, "80% bad", SELECTS[:1])),
    Claim(DFN, "The mean of the weights before and after filters better", over(AVERAGED, TUNED, SELECTS[:1])),
)


def figures(numbers):
    """A panel for each number, a bar for each filter."""
    rows = numbers["filters"]

    def draw(axes):
        axes[0, 0].figure.set_size_inches(10, 7.5)
        for panel, (name, label) in zip(axes.flat, NUMBERS.items(), strict=True):
            shown = [r for r in rows if r[name] is not None]
            bars = [r[name] for r in shown], [r[f"± {name}"] or 0 for r in shown]
            panel.barh([r["filter"] for r in shown], bars[0], xerr=bars[1], color="tab:blue")
            panel.invert_yaxis()
            panel.set(title=label, xlim=(0, 1))
            panel.grid(axis="x", alpha=0.3)

    return {"": (draw, (2, 2))}


if __name__ == "__main__":
    presets = {"quick": QUICK, "runs": RUNS}
    results.main("data_filtering", Config, run, CLAIMS, figures=figures, **presets)
