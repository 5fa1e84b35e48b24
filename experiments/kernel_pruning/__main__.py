"""Which filters can be cut from a net that was trained on few and unbalanced pictures?

    python -m experiments.kernel_pruning              # digits and Fashion-MNIST, unbalanced and balanced
    python -m experiments.kernel_pruning --quick      # digits only, two seeds

A net of three convolutions with batch norm loses a part of the filters of each, chosen by one batch, and is
tuned for a few steps. Each class has 0.7 of the pictures of the one before; the test is balanced. The arms
with "x (1 + score)" multiply what they keep, as the released code of the paper does for all methods.

Paper: Beta-Rank (arXiv:2304.07461). About 5 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.kernel_pruning import nets
from experiments.shared import flags, plots, results
from experiments.shared.results import Claim, Result


@dataclasses.dataclass(frozen=True)
class Config:
    """Prunes a convolutional net by several scores of its filters."""

    sets: tuple[str, ...] = ("digits", "fashion")
    shares: tuple[float, ...] = (0.5, 0.25)  # of filters kept; the first one is compared
    steps: int = 400  # of training; this and its rate were chosen on validation pictures
    tuning: int = 50  # steps after pruning
    batch_size: int = 64
    learning_rate: float = 0.5  # of training; falls to 0 as a cosine
    tuning_rate: float = 0.01  # the paper's
    scored: int = 128  # pictures by which filters are scored
    batches: int = 10  # over which selections are compared
    seeds: int = 10  # of digits; half of them of other sets
    validate: bool = False  # ask pictures that are neither trained on nor tested
    quick: bool = False  # digits only, two seeds
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"shares": (0.01, 1), "steps": (1, 10**6), "tuning": (1, 10**6), "batch_size": (2, 300)}
        limits |= {"learning_rate": (1e-9, 10), "tuning_rate": (1e-9, 10), "scored": (2, 300)}
        flags.check(self, limits | {"batches": (1, 1000), "seeds": (1, 100)})
        if not set(self.sets) <= set(nets.SETS):
            raise ValueError(f"--sets {' '.join(self.sets)}: choose of {' '.join(nets.SETS)}")


QUICK = {"seeds": 2, "sets": ("digits",), "shares": (0.5,)}
RANDOM, L1, RANK, SPREAD, TURNED = "random", "L1", "HRank", "spread out/in", "spread in/out"
TIMES = " x (1 + score)"
METHODS = (RANDOM, L1, RANK, SPREAD, TURNED)
MULTIPLIED = (L1, RANK, SPREAD)


def one_seed(cfg, name, balanced, seed):
    """Numbers of all arms and shares, [{"arm", "share", "accuracy", "F1", "MACs", ...}], and stability."""
    task = nets.task(name, balanced, seed, cfg.validate)
    known, asked = task["known"], task["asked"]
    side = known["images"].shape[1]
    whole = nets.fit(nets.NET.init, known, cfg.batch_size, cfg.steps, seed, cfg.learning_rate, falling=True)
    tuning = (known, cfg.batch_size, cfg.tuning, seed + 1000, cfg.tuning_rate)
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(known["labels"]), cfg.scored, replace=False)
    found = dict(nets.scores(whole, known["images"][rows])) | {RANDOM: nets.random_scores(whole, seed)}

    def row(arm, share, tree):
        return {"arm": arm, "share": share} | nets.measured(tree, asked) | nets.cost(tree, side)

    rows = [row("whole net", 1.0, whole), row("whole net, tuned", 1.0, nets.tune(whole, *tuning))]
    for share in cfg.shares:
        for method in METHODS:
            small = nets.pruned(whole, found[method], share)
            rows.append(row(method, share, nets.tune(small, *tuning)))
        for method in MULTIPLIED if share == cfg.shares[0] else ():
            factors = nets.released(method, found[method], side)
            small = nets.pruned(whole, found[method], share, factors)
            rows.append(row(method + TIMES, share, nets.tune(small, *tuning)))
    steady = {} if balanced else nets.stability(whole, known, cfg.batch_size, cfg.batches)
    return rows, steady


def tabled(name, balanced, runs):
    """One row for each arm and share, from the rows of every seed."""
    found = []
    for rows in zip(*runs, strict=True):
        first = {key: rows[0][key] for key in ("arm", "share")}
        line = {"set": name, "pictures": "balanced" if balanced else "unbalanced"} | first
        for key in ("accuracy", "F1"):
            line[key], line[f"± {key}"] = results.spread([row[key] for row in rows])
        found.append(line | {key: rows[0][key] for key in ("MACs", "parameters")} | {"runs": list(rows)})
    return found


def run(cfg):
    """Every arm on every set, unbalanced and balanced."""
    arms, stable = [], []
    for name in cfg.sets:
        for balanced in (False, True):
            seeds = cfg.seeds if name == "digits" else -(-cfg.seeds // 2)
            runs, steady = zip(*(one_seed(cfg, name, balanced, seed) for seed in range(seeds)), strict=True)
            arms += tabled(name, balanced, runs)
            flags.stage(f"{name}, {'balanced' if balanced else 'unbalanced'}: {seeds} seeds are done")
            for method in steady[0]:
                mean, spread = results.spread([s[method] for s in steady])
                stable.append({"set": name, "score": method, "stability": mean, "± stability": spread})
    return Result({"arms": arms, "stability": stable}, {"compared share": cfg.shares[0]})


def numbers(t, arm, name, pictures="unbalanced"):
    """The accuracy of an arm at the compared share, [seeds]; None where the run has no such arm."""
    found = [
        [run["accuracy"] for run in row["runs"]]
        for row in t["arms"]
        if (row["set"], row["pictures"], row["arm"]) == (name, pictures, arm)
        and row["share"] == t["compared share"]
    ]
    return np.array(found[0]) if found else None


def asked(name, one, other, pictures="unbalanced", **options):
    """The answer to a claim about two arms on a set."""

    def ours(t):
        first, second = numbers(t, one, name, pictures), numbers(t, other, name, pictures)
        return None if first is None else results.paired(first - second, **options)

    return ours


def wins(name, one, other, least=0.8):
    """In how many seeds an arm is above another, as a share."""

    def ours(t):
        first, second = numbers(t, one, name), numbers(t, other, name)
        if first is None or len(first) < results.LEAST:
            return None
        return results.holds(np.mean(first > second) >= least, np.mean(first > second))

    return ours


def ties(name):
    """Whether spread and L1 are within 1 point on balanced pictures, by the interval of their difference."""

    def ours(t):
        first, second = (numbers(t, arm, name, "balanced") for arm in (SPREAD, L1))
        if first is None:
            return None
        below = results.paired(np.stack([first - second, second - first], axis=1), margin=-0.01)
        return below._replace(value=float(np.mean(first - second)))

    return ours


BETA = "2304.07461"
SAID = {"digits": "digits", "fashion": "clothes"}
CLAIMS = tuple(
    claim
    for name, said in SAID.items()
    for claim in (
        Claim(
            BETA,
            f"Unbalanced {said}: spread out/in is 1 point above L1",
            asked(name, SPREAD, L1, margin=0.01),
            0.04,
        ),
        Claim(
            BETA,
            f"Unbalanced {said}: spread out/in is above random in 8 of 10 seeds",
            wins(name, SPREAD, RANDOM),
        ),
        Claim(BETA, f"Balanced {said}: spread out/in and L1 are within 1 point", ties(name), 0.001),
        Claim(
            "",
            f"Unbalanced {said}: multiplying by 1 + score takes 1 point and more from L1",
            asked(name, L1, L1 + TIMES, margin=0.01),
        ),
        Claim(
            "",
            f"Unbalanced {said}: multiplying by 1 + score takes 1 point and more from HRank",
            asked(name, RANK, RANK + TIMES, margin=0.01),
        ),
        Claim(
            "",
            f"Unbalanced {said}: with it, spread out/in looks 1 point better than L1",
            asked(name, SPREAD + TIMES, L1 + TIMES, margin=0.01),
        ),
        Claim(
            "",
            f"Unbalanced {said}: the printed ratio, in/out, is below the released one",
            asked(name, SPREAD, TURNED),
        ),
    )
)


def figures(numbers):
    """Accuracy against multiply-accumulates, a panel for each set and balance."""
    rows = numbers["arms"]
    panels = list(dict.fromkeys((row["set"], row["pictures"]) for row in rows))

    def draw(axes):
        axes[0, 0].figure.set_size_inches(4.2 * len(panels) + 2.4, 4.2)
        for panel, key in zip(axes[0], panels, strict=True):
            here = [row for row in rows if (row["set"], row["pictures"]) == key]
            whole = next(row for row in here if row["arm"] == "whole net, tuned")
            for i, arm in enumerate([*METHODS, *(m + TIMES for m in MULTIPLIED)]):
                points = sorted(
                    (r["MACs"], r["accuracy"], r["± accuracy"] or 0) for r in here if r["arm"] == arm
                )
                points += (
                    [] if TIMES in arm else [(whole["MACs"], whole["accuracy"], whole["± accuracy"] or 0)]
                )
                x, y, bars = np.array(points).T
                colour = f"C{METHODS.index(arm.removesuffix(TIMES))}"
                style = {"marker": "x", "ls": "none", "ms": 9} if TIMES in arm else {"marker": "o"}
                panel.errorbar(x * (1 + 0.012 * i), y, bars, label=arm, capsize=2, color=colour, **style)
            panel.set(xscale="log", xlabel="multiply-accumulates of a picture", title=", ".join(key))
            panel.grid(alpha=0.3)
        axes[0, 0].set_ylabel("balanced accuracy")
        axes[0, 0].figure.suptitle("Nets after pruning and tuning; bars: deviation over the seeds")
        plots.legend(axes[0, -1])

    return {"": (draw, (1, len(panels)))}


if __name__ == "__main__":
    results.main("kernel_pruning", Config, run, CLAIMS, figures=figures, quick=QUICK)
