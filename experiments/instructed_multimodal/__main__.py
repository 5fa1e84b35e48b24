"""Does an instruction decide what a multimodal encoder finds similar?

    python -m experiments.instructed_multimodal                 # handwritten digits, seven tasks
    python -m experiments.instructed_multimodal --validate      # the pictures on which settings were chosen

Paper: VLM2Vec (arXiv:2410.05160). About 5 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.instructed_multimodal import tasks
from experiments.shared import flags, plots, results
from experiments.shared.results import Claim, Result
from jaxembed import encoders, losses, train

TOLD, UNTOLD, TWO = "instruction", "no instruction", "two towers, no instruction"
PARTS, SMALL = "instruction, parts of one task", "instruction, small batch"
ARMS = (TOLD, UNTOLD, TWO, PARTS, SMALL)


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains one encoder of pictures and words on seven tasks, with and without their instructions."""

    steps: int = 300
    batch_size: int = 64
    small_batch: int = 16  # of one arm
    part: int = 16  # rows of one task that follow one another, in one arm
    chunks: int = 2  # in which a batch is encoded
    learning_rate: float = 1e-3
    temperature: float = 0.02
    width: int = 64
    layers: int = 3
    seeds: int = 5
    validate: bool = False  # ask about other pictures; settings were chosen there
    quick: bool = False  # one seed, 60 steps
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"steps": (1, 10**6), "batch_size": (2, 4096), "small_batch": (2, 4096), "part": (2, 4096)}
        limits |= {"chunks": (1, 64), "learning_rate": (1e-9, 1), "temperature": (1e-3, 10)}
        limits |= {"width": (4, 1024), "layers": (1, 24), "seeds": (1, 100)}
        multiples = {"width": 4, "batch_size": self.part, "small_batch": self.chunks}
        flags.check(self, limits, multiples)


QUICK = {"seeds": 1, "steps": 60}


@functools.cache
def model_of(width, layers):
    sizes = {"patches": 8, "length": tasks.LENGTH, "width": width, "layers": layers, "heads": 4}
    return encoders.multimodal(tasks.VOCABULARY, 8, **sizes)


def without(batch):
    """A batch whose instructions are masked: placeholders and the end stay. The program is the same."""
    ids = batch["ids"]
    return batch | {"mask": batch["mask"] & ((ids < 3) | ~jnp.any(ids == 1, axis=1)[:, None])}


@functools.cache
def update_of(cfg, told, apart):
    """A step: each query picks its target among the targets of the batch that are not right for it too."""
    encode = losses.cached(model_of(cfg.width, cfg.layers).encode, cfg.chunks)

    def loss_fn(params, batch, key):
        query, target = (batch[side] if told else without(batch[side]) for side in ("query", "target"))
        first = encode(params["query" if apart else "both"], query)
        second = encode(params["target" if apart else "both"], target)
        right = batch["right"]
        where = (right[:, None] != right) | jnp.eye(len(right), dtype=bool)
        return jnp.mean(losses.info_nce(first, second, where=where, temperature=cfg.temperature)), {}

    return train.gradient_update(loss_fn, optax.adam(cfg.learning_rate))


def trained(cfg, arm, pictures, seed):
    """The parameters of an arm: {"both"} or {"query", "target"}."""
    init, apart = model_of(cfg.width, cfg.layers).init, arm == TWO
    names = ("query", "target") if apart else ("both",)

    def draw(key):
        return {name: init(jax.random.fold_in(key, i)) for i, name in enumerate(names)}

    size = cfg.small_batch if arm == SMALL else cfg.batch_size
    state = train.fit(
        init=draw,
        update=update_of(cfg, arm not in (UNTOLD, TWO), apart),
        batches=tasks.batches(pictures, size, seed, cfg.part if arm == PARTS else None),
        steps=cfg.steps,
        key=seed,
        mesh=train.make_mesh(1),
    )
    return state.params


def vectors_of(cfg, params, rows, told, size=256):
    """Vectors of rows, in batches of one shape."""
    encode = jax.jit(model_of(cfg.width, cfg.layers).encode)
    filled, found = [*rows, *rows[:1] * (-len(rows) % size)], []
    for i in range(0, len(filled), size):
        batch = tasks.batch_of(filled[i : i + size])
        found.append(np.asarray(encode(params, batch if told else without(batch))))
    return np.concatenate(found)[: len(rows)]


def precisions(cfg, arm, params, pictures):
    """{instruction: share of queries whose nearest candidate is right}."""
    told, both = arm not in (UNTOLD, TWO), params.get("both")
    query, target = params.get("query", both), params.get("target", both)
    rows = range(len(pictures["labels"]))
    answers = vectors_of(cfg, target, [{"text": x} for x in tasks.ANSWERS], told)
    shown = vectors_of(cfg, target, [tasks.target(pictures, i) for i in rows], told)
    found = {}
    for asked, (candidates, right) in tasks.questions(pictures).items():
        if told or not found:  # without instructions a picture has one vector for all tasks
            ours = vectors_of(cfg, query, [tasks.query(pictures, i, asked) for i in rows], told)
        found[asked] = tasks.precision(ours, answers, shown, candidates, right)
    return found


def per_arm(cfg, pictures, held):
    """A row for each arm: the mean over trained tasks, and the held-out one."""
    rows, each = [], []
    for arm in ARMS:
        flags.stage(f"trains {cfg.seeds} x {cfg.steps} steps: {arm}")
        runs = [precisions(cfg, arm, trained(cfg, arm, pictures, seed), held) for seed in range(cfg.seeds)]
        row = {"arm": arm}
        for name, names in (
            ("questions", tasks.QUESTIONS),
            ("searches", tasks.SEARCHES),
            ("held out", tasks.HELD_OUT),
        ):
            row[name], row[f"± {name}"] = results.spread([np.mean([r[n] for n in names]) for r in runs])
        means = [float(np.mean([r[n] for n in tasks.TRAINED])) for r in runs]
        row["mean"], row["± mean"] = results.spread(means)
        rows.append(
            row
            | {
                "runs": [
                    {"mean": m, "held out": r[next(iter(tasks.HELD_OUT))]}
                    for m, r in zip(means, runs, strict=True)
                ]
            }
        )
        each.append({"arm": arm} | {n: float(np.mean([r[n] for r in runs])) for n in runs[0]})
        print(f"{arm}: {row['mean']:.3f}", flush=True)
    return rows, each


def gap(over, under, name="mean", **options):
    """The answer to a claim about two arms."""

    def ours(t):
        runs = {row["arm"]: [run[name] for run in row["runs"]] for row in t["arms"]}
        return results.paired(np.subtract(runs[over], runs[under]), **options)

    return ours


def above_chance(t):
    """The answer whether the held-out task is above one in ten by 15 points."""
    runs = next(row["runs"] for row in t["arms"] if row["arm"] == TOLD)
    return results.paired([run["held out"] - 0.1 for run in runs], margin=0.15)


PAPER = "2410.05160"
CLAIMS = (
    Claim(
        PAPER,
        "With instructions, precision@1 over pooled candidates is more than 15 points above that without",
        gap(TOLD, UNTOLD, margin=0.15),
    ),
    Claim(
        PAPER,
        "One instructed encoder is more than 10 points above two towers without instructions",
        gap(TOLD, TWO, margin=0.1),
    ),
    Claim(PAPER, "A larger batch in chunks is above a small one at equal steps", gap(TOLD, SMALL)),
    Claim("", "Parts of one task each are above batches that mix tasks row by row", gap(PARTS, TOLD)),
    Claim(PAPER, "A search that was never trained is more than 15 points above chance", above_chance),
)


def figures(numbers):
    """A panel for trained tasks and one for the search that was never trained."""

    def draw(axes):
        axes[0, 0].figure.set_size_inches(11, 4)
        rows = numbers["arms"][::-1]
        for panel, name in zip(axes[0], ("questions", "searches", "held out"), strict=True):
            panel.barh(
                [r["arm"] for r in rows], [r[name] for r in rows], xerr=[r[f"± {name}"] or 0 for r in rows]
            )
            chance = 1 / len(tasks.ANSWERS) if name == "questions" else 0.1
            panel.axvline(chance, color="black", ls="--", lw=1, label="chance")
            panel.set(xlim=(0, 1), xlabel=f"precision@1, {name}")
            panel.grid(alpha=0.3, axis="x")
        for panel in axes[0, 1:]:
            panel.set_yticklabels([])
        plots.legend(axes[0, 2], loc="lower right")

    return {"": (draw, (1, 3))}


def run(cfg):
    """Every arm over seeds, on held-out pictures."""
    pictures, held = tasks.splits(cfg.validate)
    rows, each = per_arm(cfg, pictures, held)
    return Result(
        {"arms": rows, "tasks": each}, {"pictures": len(pictures["labels"]), "asked": len(held["labels"])}
    )


if __name__ == "__main__":
    results.main("instructed_multimodal", Config, run, CLAIMS, figures=figures, quick=QUICK)
