"""Which pooling, which negatives and in which order of training make one encoder good at several tasks?

    python -m experiments.pooling                                  # all four questions
    python -m experiments.pooling --parts stages                   # stages, labels, pools, toys
    python -m experiments.pooling --pairs file.tsv --model folder  # trains a pooling head on your own pairs
    python -m experiments.pooling --pairs file.tsv --paper         # with the sizes and rates of the paper

Paper: NV-Embed (arXiv:2405.17428). `make data` brings all-MiniLM-L6-v2, WordNet and 20 Newsgroups.
About 4 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import itertools
import pathlib
from typing import Literal

from experiments.pooling import own_pairs, pools, texts, toys
from experiments.pooling.states import pooled
from experiments.shared import flags, inputs, plots, results, text_models
from experiments.shared.results import Claim, Result


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains pooling heads on frozen token states."""

    parts: tuple[Literal["stages", "labels", "pools", "toys"], ...] = ("stages", "labels", "pools", "toys")
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    pairs: pathlib.Path | None = None  # your own pairs in place of the parts
    length: int = 24  # tokens of a text, at most as many as the encoder reads
    width: int | None = 128  # principal directions of the token states that are kept; None keeps all
    latents: int = 64
    heads: int = 4
    head_width: int | None = 32  # None: the width of the states
    factor: int = 2  # hidden width of the gated network over the width
    size: int = 64  # rows of a batch
    negatives: int = 1  # hard negatives of a row
    steps: tuple[int, int] = (60, 60)  # of the first and the second stage
    temperature: float = 0.05
    rate: float = 1e-3
    retrieval: int = 2000  # training pairs
    posts: int = 1200  # training posts
    tested: int = 400  # queries and, twice, posts
    seeds: int = 3
    toy_steps: int = 200
    paper: bool = False  # the paper's sizes, batch, negatives, steps and rate
    quick: bool = False  # the stages alone, one seed, few texts and steps
    workdir: pathlib.Path = pathlib.Path("runs/pooling")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"length": (4, 512), "latents": (1, 10**4), "size": (4, 10**5), "negatives": (1, 100)}
        limits |= {"seeds": (1, 100), "retrieval": (100, 10**7), "posts": (100, 11_293), "tested": (20, 3700)}
        limits |= {"toy_steps": (1, 10**6), "heads": (1, 1000), "head_width": (1, 10**4), "width": (1, 10**5)}
        limits |= {"factor": (1, 100), "steps": (0, 10**7), "temperature": (1e-3, 100), "rate": (1e-9, 10)}
        flags.check(self, limits, multiples={"size": 2})
        flags.exclude(self, "pairs", ("parts", "retrieval", "posts", "tested", "toy_steps"))
        if not sum(self.steps):
            raise ValueError("--steps: give at least one step of training")


QUICK = {"parts": ("stages",), "steps": (10, 10), "retrieval": 200, "posts": 200, "tested": 60}
QUICK |= {"seeds": 1, "toy_steps": 100}
PAPER = {"width": None, "latents": 512, "heads": 8, "head_width": None, "factor": 4, "length": 512}
PAPER |= {"size": 128, "negatives": 7, "steps": (20_000, 18_000), "rate": 2e-5, "temperature": 0.02}
TWO, ON, OFF = "two stages", "one stage, in-batch on", "one stage, in-batch off"
NEEDLE, ENDS = "needle: ", "both ends: "


def schedules(cfg, pairs, examples):
    """{name: stages} of the paper's ablation, all of the same number of steps."""
    (one, two), mixed = cfg.steps, [pairs, examples]
    return {
        ON: [(one + two, mixed, True)],
        OFF: [(one + two, mixed, False)],
        TWO: [(one, [pairs], True), (two, mixed, False)],
        "reversed": [(one, mixed, False), (two, [pairs], True)],
    }


def compare(cfg, sets):
    """Rows {arm, seed, metrics} of the parts on real texts; every arm of a seed sees the same rows."""
    states = sets["states"]
    plain = texts.judge(sets, functools.partial(pools.untrained, states))
    rows = [{"arm": "mean, untrained", "seed": None} | plain]
    for seed in range(cfg.seeds):
        flags.stage(f"seed {seed}: trains every arm")
        pairs, examples, named = texts.tables(cfg, sets, seed)
        plans = schedules(cfg, pairs, examples)
        arms = {name: ("latent", plan) for name, plan in plans.items() if "stages" in cfg.parts}
        arms |= {TWO: ("latent", plans[TWO])}
        if "labels" in cfg.parts:
            arms[f"{TWO}, labels"] = "latent", [plans[TWO][0], (cfg.steps[1], [pairs, named], False)]
        if "pools" in cfg.parts:
            arms |= {f"{TWO}, {kind}": (kind, plans[TWO]) for kind in pools.POOLS}
        for name, (kind, plan) in arms.items():
            head = pools.head(cfg, kind, states)
            params = pools.fit(cfg, head, states, plan, seed)
            found = texts.judge(sets, functools.partial(pooled, head[1], params, states))
            rows.append({"arm": name, "seed": seed} | found)
            print(results.table(rows[-1:]), flush=True)
    return rows


def small_tasks(cfg):
    """Rows {arm, seed, accuracy} of the needle among noise and of the question about both ends."""
    kinds = ("mean", "mean, then block", "latent")
    arms = {f"{NEEDLE}{kind}": (toys.needle_model(kind), toys.needles) for kind in kinds}
    for causal, pool in ((False, "mean"), (True, "mean"), (True, "last")):
        name = f"{ENDS}{'causal' if causal else 'bidirectional'}, {pool}"
        arms[name] = toys.ends_model(causal, pool), toys.both_ends
    rows = []
    for (name, (model, draw)), seed in itertools.product(arms.items(), range(cfg.seeds)):
        flags.stage(f"{name}, seed {seed}")
        accuracy = toys.learn(*model, draw, seed=seed, steps=cfg.toy_steps)
        rows.append({"arm": name, "seed": seed, "accuracy": accuracy})
    return rows


def summary(rows):
    """One row for each arm: the mean of every number over the seeds and its standard deviation."""
    table = []
    for name in dict.fromkeys(row["arm"] for row in rows):
        row, mine = {"arm": name}, [r for r in rows if r["arm"] == name]
        for key in [k for k in mine[0] if k not in ("arm", "seed")]:
            row[key], row[f"± {key}"] = results.spread([r[key] for r in mine])
        table.append(row)
    return table


def above(better, worse, key, margin=0.0):
    """The answer to a claim that one arm is above another by a margin; None where one of them did not run."""

    def ours(t):
        one, two = ({r["seed"]: r[key] for r in t["rows"] if r["arm"] == arm} for arm in (better, worse))
        found = [one[seed] - two[seed] for seed in one.keys() & two.keys()]
        return results.paired(found, margin=margin) if found else None

    return ours


NV = "2405.17428"
CLAIMS = (
    Claim(
        NV,
        "The kNN accuracy is at least 0.02 higher without in-batch negatives than with them.",
        above(OFF, ON, "kNN", 0.02),
        paper=0.036,
    ),
    Claim(
        NV,
        "The MRR@10 of two stages is above that of one stage with in-batch negatives.",
        above(TWO, ON, "MRR@10"),
        paper=0.0140,
    ),
    Claim(
        NV,
        "The MRR@10 of two stages is above that of one stage without in-batch negatives.",
        above(TWO, OFF, "MRR@10"),
        paper=0.0128,
    ),
    Claim(
        NV,
        "The MRR@10 of two stages is above that of the stages reversed.",
        above(TWO, "reversed", "MRR@10"),
        paper=0.0074,
    ),
    Claim(
        NV,
        "The kNN accuracy of two stages is above that of the stages reversed.",
        above(TWO, "reversed", "kNN"),
        paper=0.0011,
    ),
    Claim(
        NV,
        "Examples of a class give a V-measure at least 0.02 above that of class names.",
        above(TWO, f"{TWO}, labels", "V-measure", 0.02),
        paper=0.0542,
    ),
    Claim(
        NV,
        "The MRR@10 of latent attention is above that of the same block after the mean.",
        above(TWO, f"{TWO}, mean", "MRR@10"),
        paper=0.0084,
    ),
    Claim(
        NV,
        "Toy: the block before the mean finds the needle by 0.1 more often than the mean.",
        above(f"{NEEDLE}latent", f"{NEEDLE}mean", "accuracy", 0.1),
    ),
    Claim(
        NV,
        "Toy: the block before the mean finds the needle by 0.1 more often than the block after it.",
        above(f"{NEEDLE}latent", f"{NEEDLE}mean, then block", "accuracy", 0.1),
    ),
    Claim(
        NV,
        "Toy: under the mean a bidirectional encoder compares both ends better than a causal one.",
        above(f"{ENDS}bidirectional, mean", f"{ENDS}causal, mean", "accuracy"),
    ),
)


def draw(axes, rows):
    """Retrieval against classification, a mark for each seed of an arm."""
    for i, name in enumerate(dict.fromkeys(r["arm"] for r in rows)):
        mine = [r for r in rows if r["arm"] == name]
        marks = {"marker": "osD^v<>P*X"[i % 10], "label": name, "linestyle": "none"}
        axes.plot([r["kNN"] for r in mine], [r["MRR@10"] for r in mine], **marks)
    axes.set(xlabel="kNN accuracy on posts", ylabel="MRR@10 on WordNet", title="Retrieval against classes")
    axes.grid(alpha=0.3)
    plots.legend(axes)


def figures(numbers):
    """The arms on real texts; the small tasks and pairs of a user have no picture."""
    rows = [r for r in numbers["rows"] if "kNN" in r]
    return {"": functools.partial(draw, rows=rows)} if rows else {}


def look(cfg):
    """Refuses a run whose data are missing."""
    reads = cfg.pairs is None and set(cfg.parts) != {"toys"}
    inputs.sets(*(["wordnet", "newsgroups"] if reads else []))


def run(cfg):
    """The parts, or every head on pairs of a user."""
    if cfg.pairs is not None:
        rows = own_pairs.train(cfg, text_models.load(cfg.model))
        return Result({"own pairs": summary(rows)}, {"rows": rows})
    real = set(cfg.parts) != {"toys"}
    encoder = text_models.load(cfg.model) if real else None
    small = small_tasks(cfg) if "toys" in cfg.parts else []
    large = compare(cfg, texts.read(cfg, encoder)) if real else []
    tables = {"real texts": summary(large), "small tasks": summary(small)}
    return Result({name: rows for name, rows in tables.items() if rows}, {"rows": large + small})


if __name__ == "__main__":
    results.main("pooling", Config, run, CLAIMS, figures=figures, quick=QUICK, paper=PAPER, check=look)
