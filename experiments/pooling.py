"""Which pooling, which negatives and in which order of training make one encoder good at several tasks?

    python -m experiments.pooling                                  # all four questions
    python -m experiments.pooling --parts stages                   # stages, labels, pools, toys
    python -m experiments.pooling --pairs file.tsv --model folder  # trains a pooling head on your own pairs
    python -m experiments.pooling --pairs file.tsv --paper         # with the sizes and rates of the paper

Paper: NV-Embed (arXiv:2405.17428). `make data` brings all-MiniLM-L6-v2, WordNet and 20 Newsgroups, whose
seven groups of posts stand in for Banking77. The encoder stays frozen; a pooling head learns for 120 steps.

4 minutes on 2 CPU cores, 3 seeds, too few for intervals and verdicts (--seeds 5 gives them). MRR@10 /
accuracy of nearest neighbours / V-measure: untrained mean .216 .710 .345, in-batch on .216 .717 .409, off
.216 .716 .417, two stages .219 .719 .386, reversed .225 .721 .381: nothing for two stages, whose differences
over the seeds have both signs. Examples against labels: V-measure .386 and .343 (+.012 +.040 +.075), MRR@10
.219 and .234, labels ahead. The latent-attention block on tokens is above the same block behind the mean on
every seed (.219 over .200), the first token (.176) and the last (.114), but hardly above the untrained mean.
What the block can do shows on a rare token among noise: accuracy 1.00, the mean .16, the block behind the
mean .19. Bidirectional over causal under the mean .77 over .66 after 200 steps (+.234 +.024 +.080); the last
token of the causal one learns the task.
"""

import dataclasses
import functools
import itertools
import pathlib
import time
from typing import Literal

import numpy as np

from experiments.common import frozen, inputs, mechanisms, paired, plots, pooling_sets, report, text_models


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains pooling heads on frozen token states."""

    parts: tuple[Literal["stages", "labels", "pools", "toys"], ...] = ("stages", "labels", "pools", "toys")
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    pairs: pathlib.Path | None = None  # your own pairs in place of the parts
    length: int = 24  # tokens of a text
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
    results: pathlib.Path = report.RESULTS

    def __post_init__(self):
        limits = {"length": (4, 512), "latents": (1, 10**4), "size": (4, 10**5), "negatives": (1, 100)}
        limits |= {"seeds": (1, 100), "retrieval": (100, 10**7), "posts": (100, 11_293), "tested": (20, 3700)}
        limits |= {"toy_steps": (1, 10**6), "heads": (1, 1000), "head_width": (1, 10**4), "width": (1, 10**5)}
        limits |= {"factor": (1, 100), "steps": (0, 10**7), "temperature": (1e-3, 100), "rate": (1e-9, 10)}
        report.check(self, limits, multiples={"size": 2})
        report.exclude(self, "pairs", ("parts", "retrieval", "posts", "tested", "toy_steps"))
        if not sum(self.steps):
            raise ValueError("--steps: give at least one step of training")


QUICK = {"parts": ("stages",), "steps": (10, 10), "retrieval": 200, "posts": 200, "tested": 60}
QUICK |= {"seeds": 1, "toy_steps": 100}
PAPER = {"width": None, "latents": 512, "heads": 8, "head_width": None, "factor": 4, "length": 512}
PAPER |= {"size": 128, "negatives": 7, "steps": (20_000, 18_000), "rate": 2e-5, "temperature": 0.02}


def schedules(cfg, pairs, examples):
    """{name: stages} of the paper's ablation, all of the same number of steps."""
    (one, two), mixed = cfg.steps, [pairs, examples]
    return {
        "one stage, in-batch on": [(one + two, mixed, True)],
        "one stage, in-batch off": [(one + two, mixed, False)],
        "two stages": [(one, [pairs], True), (two, mixed, False)],
        "reversed": [(one, mixed, False), (two, [pairs], True)],
    }


def compare(cfg, sets):
    """Rows {arm, seed, metrics} of the parts on real texts; every arm of a seed sees the same rows."""
    states = sets["states"]
    rows = [{"arm": "mean, untrained", "seed": None} | pooling_sets.judge(sets, frozen.plain, None)]
    options = {"size": cfg.size, "temperature": cfg.temperature, "rate": cfg.rate}
    for seed in range(cfg.seeds):
        report.stage(f"seed {seed}: trains every arm")
        pairs, examples, named = pooling_sets.tables(cfg, sets, seed)
        plans = schedules(cfg, pairs, examples)
        arms = {name: ("latent", plan) for name, plan in plans.items() if "stages" in cfg.parts}
        arms |= {"two stages": ("latent", plans["two stages"])}
        if "labels" in cfg.parts:
            label = [plans["two stages"][0], (cfg.steps[1], [pairs, named], False)]
            arms["two stages, labels"] = "latent", label
        if "pools" in cfg.parts:
            arms |= {f"two stages, {kind}": (kind, plans["two stages"]) for kind in frozen.POOLS}
        for name, (kind, plan) in arms.items():
            one = pooling_sets.made(cfg, states, kind)
            params = frozen.fit(one, states, plan, seed, **options)
            rows.append({"arm": name, "seed": seed} | pooling_sets.judge(sets, one[1], params))
            print(report.table(rows[-1:]), flush=True)
    return rows


def toys(cfg):
    """Rows {arm, seed, accuracy} of the needle among noise and of the question about both ends."""
    kinds = ("mean", "mean, then block", "latent")
    arms = {f"needle: {kind}": (mechanisms.needle_model(kind), mechanisms.needles) for kind in kinds}
    for causal, pool in ((False, "mean"), (True, "mean"), (True, "last")):
        name = f"both ends: {'causal' if causal else 'bidirectional'}, {pool}"
        arms[name] = mechanisms.ends_model(causal, pool), mechanisms.both_ends
    rows = []
    for (name, (model, draw)), seed in itertools.product(arms.items(), range(cfg.seeds)):
        report.stage(f"{name}, seed {seed}")
        accuracy = mechanisms.learn(*model, draw, seed=seed, steps=cfg.toy_steps)
        rows.append({"arm": name, "seed": seed, "accuracy": accuracy})
    return rows


def summary(rows):
    """One row for each arm: the mean of every number over the seeds and its standard deviation."""
    table = []
    for name in dict.fromkeys(r["arm"] for r in rows):
        row, mine = {"arm": name}, [r for r in rows if r["arm"] == name]
        for key in [k for k in mine[0] if k not in ("arm", "seed")]:
            values = [r[key] for r in mine]
            row |= {
                key: float(np.mean(values)),
                f"± {key}": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            }
        table.append(row)
    return table


def claims(rows, toy):
    """What would count as reproduced, with the differences over the seeds: of the arms that ran."""
    told = []

    def claim(sentence, better, worse, key, margin=0.0, rows=rows):
        one, two = ({r["seed"]: r[key] for r in rows if r["arm"] == arm} for arm in (better, worse))
        if one and two:
            told.append(paired.claim(sentence, [one[seed] - two[seed] for seed in one], margin=margin))

    two, on, off = "two stages", "one stage, in-batch on", "one stage, in-batch off"
    claim("kNN: in-batch off is .02 above on", off, on, "kNN", 0.02)
    for arm in (on, off, "reversed"):
        claim(f"MRR@10: two stages above {arm}", two, arm, "MRR@10")
    claim("kNN: two stages above reversed", two, "reversed", "kNN")
    claim("V-measure: examples are .02 above labels", two, f"{two}, labels", "V-measure", 0.02)
    claim("MRR@10: latent above the same block behind the mean", two, f"{two}, mean", "MRR@10")
    for name, worse in (("the linear map", "mean"), ("mean, then block", "mean, then block")):
        sentence = f"needle: block, then mean .1 above {name}"
        claim(sentence, "needle: latent", f"needle: {worse}", "accuracy", 0.1, toy)
    ends = [f"both ends: {kind}, mean" for kind in ("bidirectional", "causal")]
    claim("both ends: bidirectional above causal under the mean", *ends, "accuracy", rows=toy)
    return told


def draw(axes, rows):
    """Retrieval against classification, a mark for each seed of an arm."""
    for i, name in enumerate(dict.fromkeys(r["arm"] for r in rows)):
        mine = [r for r in rows if r["arm"] == name]
        marks = {"marker": "osD^v<>P*X"[i % 10], "label": name, "linestyle": "none"}
        axes.plot([r["kNN"] for r in mine], [r["MRR@10"] for r in mine], **marks)
    axes.set(xlabel="kNN accuracy on posts", ylabel="MRR@10 on WordNet", title="Retrieval against classes")
    axes.grid(alpha=0.3)
    plots.legend(axes)


def picture(numbers):
    """What draws saved results; None for toys and for pairs of a user."""
    rows = [r for r in numbers.get("rows", ()) if "kNN" in r]
    return functools.partial(draw, rows=rows) if rows else None


def main(cfg):
    began, numbers = time.perf_counter(), {}
    name = report.named("pooling", cfg)
    cfg = report.preset(cfg, quick=QUICK, paper=PAPER)
    if cfg.pairs is not None or set(cfg.parts) != {"toys"}:
        encoder = text_models.load(cfg.model)
        inputs.sets(*([] if cfg.pairs else ["wordnet", "newsgroups"]))
    if cfg.pairs is not None:
        numbers["own pairs"] = rows = pooling_sets.own_pairs(cfg, encoder)
        print(report.table(summary(rows)), flush=True)
    else:
        toy = toys(cfg) if "toys" in cfg.parts else []
        rows = compare(cfg, pooling_sets.read(cfg, encoder)) if set(cfg.parts) != {"toys"} else []
        for part in filter(None, (rows, toy)):
            print(report.table(summary(part)), flush=True)
        numbers = {
            "table": summary(rows),
            "toys": summary(toy),
            **paired.told(claims(rows, toy)),
            "rows": rows + toy,
        }
        for sentence, holds in numbers["criteria"].items():
            print(f"{'holds' if holds else 'not reproduced'}: {sentence}")
    numbers["seconds"] = round(time.perf_counter() - began)
    numbers["config"] = report.settings(cfg)
    report.save(name, numbers, picture(numbers), cfg.results)


if __name__ == "__main__":
    report.run(main, Config)
