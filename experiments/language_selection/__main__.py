r"""Which texts of a pool should a language model be trained on, to be good at a target?

    python -m experiments.language_selection                       # models that count, on this machine's text
    python -m experiments.language_selection --prior bytes --taus 8 --length 128 --pieces 4000 --hidden 270
    python -m experiments.language_selection --prior smollm2 --taus 8 --length 128 --pieces 320 --hidden 24 \
        --examples 32        # transformers on bytes, and SmolLM2-135M; --validate compares how it is tuned
    python -m experiments.language_selection --pool folder --target folder --keep 0.1    # your own corpus

Paper: CoLoR-Filter (arXiv:2406.10670). `make data` brings SmolLM2. The pool is licences, Perl and C headers,
in which some Python is hidden; the target is other Python. With a pool of yours, `kept.tsv` in --workdir
names the pieces to keep. 1 minute on 2 CPU cores; 5 with `--prior`, and 3 GB with SmolLM2.
"""

import dataclasses
import pathlib
from typing import Literal

import numpy as np

from experiments.language_selection import arms, own_corpus, published
from experiments.shared import flags, results
from experiments.shared.results import Claim, Result
from jaxembed import data

RANDOM, WHOLE, COLOR, BATCHWISE, WIDE = arms.RANDOM, arms.WHOLE, arms.COLOR, arms.BATCHWISE, arms.WIDE
CONDITIONAL, MOORE, RHO, COUNTED = arms.CONDITIONAL, arms.MOORE, arms.RHO, arms.COUNTED


@dataclasses.dataclass(frozen=True)
class Config:
    """Scores a pool by how much the loss of a prior falls once it knows the target, and keeps the best."""

    prior: Literal["counts", "bytes", "smollm2"] = "counts"  # counted bytes, transformers, a published model
    pieces: int = 15000  # of the pool
    hidden: int = 1000  # of them are Python
    examples: int = 150  # pieces of the target
    test: int = 500  # pieces of the target that are kept for the test
    length: int = 256  # bytes of a piece
    taus: tuple[int, ...] = (4, 8, 16)  # so many are scored for each that is kept
    prior_share: float = 0.1  # of the pool that the prior is trained on
    smoothing: float = 8.0  # of the counts; it and the weight were chosen with --validate
    weight: float = 4.0  # of the counts of the target beside those of the prior
    width: int = 64  # of transformers
    layers: int = 2
    steps: int = 120  # of a transformer
    wide_steps: int = 40  # of one 4 times as wide
    tuning: int = 30  # further steps, on the target
    tuning_rate: float = 1e-3  # of SmolLM2; it and the epochs were chosen with --validate
    epochs: int = 3  # on the target
    batch_size: int = 8
    learning_rate: float = 3e-3
    seeds: int = 5
    validate: bool = False  # test on other files of Python
    pool: pathlib.Path | None = None  # folder with your own texts; needs --target
    target: pathlib.Path | None = None  # folder with texts as you want them
    keep: float = 0.1  # share of your pool that is kept
    quick: bool = False  # one seed, a pool of 2,000
    workdir: pathlib.Path = pathlib.Path("runs/language_selection")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"pieces": (40, 10**7), "hidden": (1, 10**6), "examples": (2, 10**6), "test": (2, 10**6)}
        limits |= {"length": (8, 1 << 16), "taus": (1, 1000), "prior_share": (1e-4, 1), "seeds": (1, 100)}
        limits |= {"smoothing": (1e-3, 1e3), "weight": (1e-3, 1e3), "width": (32, 4096), "layers": (1, 64)}
        limits |= {"steps": (1, 10**7), "wide_steps": (1, 10**7), "tuning": (1, 10**6), "keep": (1e-9, 1)}
        limits |= {"learning_rate": (1e-9, 10), "tuning_rate": (1e-9, 10), "epochs": (1, 1000)}
        flags.check(self, limits | {"batch_size": (1, 10**5)})
        if (self.pool is None) != (self.target is None):
            raise ValueError("--pool, --target: give both folders, or neither")
        others = ("prior", "pieces", "hidden", "examples", "test", "taus", "seeds", "validate")
        flags.exclude(self, "pool", others)
        if self.prior == "smollm2" and self.examples < published.ROWS:
            raise ValueError(f"--examples {self.examples}: SmolLM2 reads {published.ROWS} a step; give more")
        if self.hidden >= self.pieces:
            raise ValueError(f"--hidden {self.hidden}: choose fewer than the {self.pieces} --pieces")


RUNS = {  # usual settings that are not the defaults
    "bytes": {"taus": (8,), "length": 128, "pieces": 4000, "hidden": 270},
    "smollm2": {"taus": (8,), "length": 128, "pieces": 320, "hidden": 24, "examples": 32},
}
QUICK = dict(seeds=1, pieces=2000, hidden=150, examples=60, test=100, steps=20, tuning=5, wide_steps=2)


def look(cfg):
    """Refuses a run whose model is missing."""
    if cfg.prior == "smollm2":
        data.package_file(*published.FILE)


def run(cfg):
    """Every arm at every tau; the rates of a published prior; or the kept pieces of a user's pool."""
    if cfg.pool is not None:
        return own_corpus.write_kept(cfg)
    if cfg.validate and cfg.prior == "smollm2":
        return Result({"rates": published.validated(cfg)})
    return compared(cfg)


def compared(cfg):
    """Yields all that is known of the arms: after each seed, where models are transformers."""
    prepare = {"counts": arms.counts, "bytes": arms.byte_models, "smollm2": arms.smollm2}[cfg.prior]
    for rows, checks in prepare(cfg):
        shown = []
        for arm, tau in dict.fromkeys((r["arm"], r["tau"]) for r in rows):
            runs = [r for r in rows if (r["arm"], r["tau"]) == (arm, tau)]
            row = {"arm": arm, "tau": tau}
            row["nats per byte"], row["± nats per byte"] = results.spread([r["nats"] for r in runs])
            row["Python kept"] = float(np.mean([r["python"] for r in runs]))
            shown.append(row | {"runs": [{"nats": r["nats"], "Python kept": r["python"]} for r in runs]})
        yield Result({"arms": shown}, checks | {"seeds": len(runs)})


def nats(t, arm, tau=None):
    """The nats of an arm, one for each seed, at a tau or the largest one; None without it."""
    found = {r["tau"]: [x["nats"] for x in r["runs"]] for r in t.get("arms", ()) if r["arm"] == arm}
    return np.array(found[max(found) if tau is None else tau]) if found else None


def cheaper(better, worse, margin=0.0):
    """Answers whether an arm costs fewer nats than another, by more than a margin, at the largest tau."""

    def ours(t):
        x, y = nats(t, better), nats(t, worse)
        return None if x is None or y is None else results.paired(y - x, margin=margin)

    return ours


def worst(t):
    """Answers whether the conditional model alone is the worst arm, at every tau."""
    taus = sorted({r["tau"] for r in t.get("arms", ()) if r["arm"] == CONDITIONAL})
    if not taus:
        return None
    others = [r["arm"] for r in t["arms"] if r["arm"] not in (CONDITIONAL, WHOLE) and r["tau"] in taus]
    gaps = [nats(t, CONDITIONAL, tau) - nats(t, arm, tau) for tau in taus for arm in dict.fromkeys(others)]
    return results.paired(np.stack(gaps, axis=1))


def as_good(t):
    """Answers whether batch by batch is within 0.02 nats of global, at every tau."""
    taus = sorted({r["tau"] for r in t.get("arms", ()) if r["arm"] == BATCHWISE})
    if not taus:
        return None
    gaps = [-np.abs(nats(t, BATCHWISE, tau) - nats(t, COLOR, tau)) for tau in taus]
    return results.paired(np.stack(gaps, axis=1), margin=-0.02)


def no_gain(t):
    """Answers whether a target that is drawn as the pool is gains nothing, at any tau."""
    if "same" not in t:
        return None
    gains = np.array([[run[tau] for tau in sorted(run)] for run in t["same"]])
    return results.paired(gains, denied=True)


PAPER = "2406.10670"
CLAIMS = (
    Claim(PAPER, "CoLoR-Filter needs 0.03 nats fewer than random pieces", cheaper(COLOR, RANDOM, 0.03)),
    Claim(PAPER, "1/16 of the pool needs 0.05 nats fewer than the whole pool", cheaper(COLOR, WHOLE, 0.05)),
    Claim(PAPER, "The tuned model alone, without the prior, selects worst at every tau", worst),
    Claim(PAPER, "Selecting batch by batch is within 0.02 nats of selecting in the whole pool", as_good),
    Claim(PAPER, "A tuned prior selects better than a model of the target alone", cheaper(COLOR, MOORE)),
    Claim(PAPER, "CoLoR-Filter selects better than RHO by the model in training", cheaper(COLOR, RHO)),
    Claim(PAPER, "What small models select serves one 4 times as wide", cheaper(WIDE + COLOR, WIDE + RANDOM)),
    Claim(PAPER, "Where the target is drawn as the pool is, selection gains nothing", no_gain),
    Claim("", "With SmolLM2 as the prior, selection is better than with counts", cheaper(COLOR, COUNTED)),
)


def figures(numbers):
    """Nats on held-out Python: against tau, a line for each arm; or, of one tau, a bar for each."""
    rows = numbers.get("arms")
    taus = sorted({r["tau"] for r in rows or () if r["arm"] != WHOLE})

    def lines(axes):
        for arm in dict.fromkeys(r["arm"] for r in rows):
            own = [r for r in rows if r["arm"] == arm]
            if arm == WHOLE:
                axes.axhline(own[0]["nats per byte"], color="grey", ls=":", label=arm)
                continue
            values = [[r[k] or 0 for r in own] for k in ("tau", "nats per byte", "± nats per byte")]
            style = "--" if arm in (RANDOM, BATCHWISE) else "-"
            axes.errorbar(*values, marker="o", capsize=3, label=arm, ls=style)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="tau: pieces scored for each that is kept", ylabel="nats per byte of held-out Python")
        axes.set_xticks(taus, [str(t) for t in taus])
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))

    def marks(axes):
        values = [[r[k] or 0 for r in rows] for k in ("nats per byte", "± nats per byte")]
        axes.errorbar(values[0], [r["arm"] for r in rows], xerr=values[1], fmt="o", capsize=3)
        axes.invert_yaxis()
        axes.set(xlabel=f"nats per byte of held-out Python; one of {taus[0]} pieces is kept")

    def draw(axes):
        (lines if len(taus) > 1 else marks)(axes)
        axes.grid(alpha=0.3)
        axes.set_title("A model trained on the kept pieces; bars: deviation over the seeds")

    return {"": draw} if rows else {}


if __name__ == "__main__":
    given = {"figures": figures, "quick": QUICK, "check": look, "runs": RUNS}
    results.main("language_selection", Config, run, CLAIMS, **given)
