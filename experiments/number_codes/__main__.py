"""Which codes of numbers tell sums, logarithms and the larger of two, also for numbers not seen before?

    python -m experiments.number_codes
    python -m experiments.number_codes --quick     # one seed, fewer pairs and steps

Paper: From Word Vectors to Multimodal Embeddings (arXiv:2411.05036), row 24 of its foundations. It needs no
data. About 1 minute on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.number_codes import probes
from experiments.shared import flags, plots, results
from experiments.shared.results import Claim, Result
from jaxembed import vectors


@dataclasses.dataclass(frozen=True)
class Config:
    """Fits maps from codes of two numbers to what is asked of them, and goes beyond the numbers seen."""

    seen: int = 500  # pairs that are fitted hold numbers below it
    most: int = 1000  # pairs beyond hold numbers from ``seen`` to here; codes know this range
    count: int = 2000  # pairs that are fitted, and as many that are asked
    bins: int = 32
    size: int = 8  # coordinates of waves and angles
    hidden: int = 64  # of the network
    steps: int = 400  # that it learns
    seeds: int = 5
    quick: bool = False  # one seed, 500 pairs, 100 steps
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"seen": (10, 10**6), "most": (20, 10**7), "count": (20, 10**5), "bins": (1, 1000)}
        limits |= {"size": (2, 100), "hidden": (1, 1000), "steps": (1, 10**6), "seeds": (1, 100)}
        flags.check(self, limits, multiples={"size": 2})
        if self.seen + 10 > self.most:
            raise ValueError(f"--seen {self.seen}: leaves no ten numbers to --most {self.most}; choose fewer")


QUICK = {"seeds": 1, "count": 500, "steps": 100}
VALUE, LOG, BINS, DIGITS = "value", "log", "bins", "digits"
WITHIN, BEYOND = "within", "beyond"


def options(cfg):
    """{code: what it is made with}, of a range that holds all numbers."""
    wide = {"low": 0, "high": cfg.most}
    return {
        VALUE: wide, LOG: {}, BINS: {"edges": np.linspace(0, cfg.most, cfg.bins + 1)},
        DIGITS: {"size": len(str(cfg.most))}, "fourier": wide | {"size": cfg.size},
        "dice": wide | {"size": cfg.size},
    }  # fmt: skip


def drawn(rng, low, high, count):
    """Pairs [N, 2] of different whole numbers from ``low`` to below ``high``."""
    first, step = rng.integers(low, high, count), rng.integers(1, high - low, count)
    return np.stack([first, low + (first - low + step) % (high - low)], axis=1).astype(np.float32)


def answers(pairs, most):
    """What is asked of pairs [N, 2]: the sum, its logarithm, and 1 or -1 for the larger one: [N, 3]."""
    total = pairs.sum(axis=1)
    return np.stack([total / most, np.log10(1 + total), np.sign(pairs[:, 0] - pairs[:, 1])], axis=1)


def told(given, wanted):
    """Shares of the variance of sums and logarithms that are told, and how often the larger one is."""
    left = np.mean((given - wanted) ** 2, axis=0) / np.var(wanted, axis=0)
    right = np.mean((given[:, 2] > 0) == (wanted[:, 2] > 0))
    return {"sum": float(1 - left[0]), "logarithm": float(1 - left[1]), "larger": float(right)}


def measured(cfg, kind, seed):
    """{probe: {"within": what is told, "beyond": ...}} of one code."""
    rng = np.random.default_rng(seed)
    known, near = drawn(rng, 0, cfg.seen, cfg.count), drawn(rng, 0, cfg.seen, cfg.count)
    asked = {WITHIN: near, BEYOND: drawn(rng, cfg.seen, cfg.most, cfg.count)}

    def code(pairs):
        both = np.asarray(vectors.encode_numbers(pairs, kind, **options(cfg)[kind]), np.float64)
        return both.reshape(len(pairs), -1)

    x, y, found = code(known), answers(known, cfg.most), {}
    for name, fit in probes.fits(cfg, seed).items():
        predict = fit(x, y)
        found[name] = {side: told(predict(code(p)), answers(p, cfg.most)) for side, p in asked.items()}
    return found


def run(cfg):
    """Every code, by a linear map and by a network."""
    rows, runs = [], {}
    for kind in options(cfg):
        flags.stage(kind)
        runs[kind] = [measured(cfg, kind, seed) for seed in range(cfg.seeds)]
        for probe in runs[kind][0]:
            row = {"code": kind, "probe": probe}
            for task in ("sum", "logarithm", "larger"):
                for side in (WITHIN, BEYOND):
                    values = [one[probe][side][task] for one in runs[kind]]
                    name = f"{task}, {side}"
                    row[name], row[f"± {name}"] = results.spread(values)
            rows.append(row)
    return Result({"numbers": rows}, {"runs": runs})


def scores(t, kind, probe, side, task):
    return np.array([one[probe][side][task] for one in t["runs"][kind]])


def beyond(one, other, task, probe=probes.LINEAR):
    """Asks whether a code tells more of a task than another, of numbers that were not seen."""
    return lambda t: results.paired(
        scores(t, one, probe, BEYOND, task) - scores(t, other, probe, BEYOND, task)
    )


def digits_fail(task):
    """Asks whether digits tell less beyond than the mean of what is asked would, by either probe."""

    def ours(t):
        both = [-scores(t, DIGITS, probe, BEYOND, task) for probe in probes.NAMES]
        return results.paired(np.stack(both, axis=1))

    return ours


def within(t):
    """Asks whether values and bins tell more than 0.99 of sums of numbers as they were seen."""
    both = [scores(t, kind, probes.LINEAR, WITHIN, "sum") for kind in (VALUE, BINS)]
    return results.paired(np.stack(both, axis=1), margin=0.99)


SURVEY = "2411.05036"
CLAIMS = (
    Claim(SURVEY, "A linear value extrapolates sums better than digits", beyond(VALUE, DIGITS, "sum")),
    Claim(SURVEY, "Digits do not tell sums beyond their range", digits_fail("sum")),
    Claim(SURVEY, "Digits do not tell logarithms of sums beyond their range", digits_fail("logarithm")),
    Claim(SURVEY, "Values and bins tell more than 0.99 of sums within their range", within),
    Claim(SURVEY, "A value compares numbers beyond better than digits", beyond(VALUE, DIGITS, "larger")),
    Claim(
        "",
        "Beyond the range logarithms and mantissas tell logarithms of sums better than a linear value",
        beyond(LOG, VALUE, "logarithm"),
    ),
)  # fmt: skip


def figures(t):
    """What each code tells within and beyond the numbers seen, by task and probe."""

    def draw(axes):
        axes[0, 0].figure.set_size_inches(12, 6)
        for line, probe in zip(axes, probes.NAMES, strict=True):
            rows = [row for row in t["numbers"] if row["probe"] == probe]
            places = np.arange(len(rows))
            for panel, task in zip(line, ("sum", "logarithm", "larger"), strict=True):
                for shift, side in ((-0.2, WITHIN), (0.2, BEYOND)):
                    told = np.array([row[f"{task}, {side}"] for row in rows], float)  # NaN: it has no value
                    heights = np.maximum(told, -1)
                    panel.bar(places + shift, heights, width=0.38, label=side)
                panel.set_xticks(places, [row["code"] for row in rows], fontsize=8)
                panel.set(ylim=(0, 1.1) if task == "larger" else (-1.1, 1.1), title=f"{task}: {probe}")
                panel.axhline(0.5 if task == "larger" else 0, color="gray", lw=0.8)
            line[0].set_ylabel("variance told; cut at -1")
            line[2].set_ylabel("accuracy; line: chance")
        plots.legend(axes[0, 2])

    return {"": (draw, (2, 3))}


if __name__ == "__main__":
    results.main("number_codes", Config, run, CLAIMS, figures=figures, quick=QUICK)
