"""Is one model, merged from models of single tasks, better than one that is trained on all tasks?

    python -m experiments.model_merging                         # digits: two kinds of three tasks
    python -m experiments.model_merging --sts path/to/stsb      # texts: similarity, and words by definitions

Paper: Self Positioning (arXiv:2410.15035). About a minute on 2 CPU cores, with --sts ten.
`make data` brings WordNet and the encoder, all-MiniLM-L6-v2.
"""

import dataclasses
import pathlib

import jax
import numpy as np

from experiments.model_merging import arms, digits, texts
from experiments.model_merging.arms import BEST, FIXED, POSITIONED, PROPORTIONAL, UNIFORM
from experiments.model_merging.digits import ALONG
from experiments.shared import flags, inputs, plots, results, text_models
from experiments.shared.results import Claim, Result
from jaxembed import weights


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains models of single tasks from one start, and merges them in several ways."""

    steps: int | None = None  # of each task, joint training has as many for every task; None: 300, texts 24
    warm: int = 50  # steps before the digits' tasks part
    fit: int | None = None  # steps of each fit of coefficients; None: 200, texts 24
    probe: int = 30  # images of each task on which no single task trains; texts have 64 pairs
    batch_size: int | None = None  # None: 64, texts 32
    learning_rate: float | None = None  # None: 1e-3, texts 5e-5
    seeds: int = 5
    validate: bool = False  # other images, or STS-B's dev pairs; settings were chosen there
    sts: pathlib.Path | None = None  # folder of STS-B's files; the tasks are those of texts then
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    senses: int = 20_000  # of WordNet that the second task of texts learns
    length: int = 20  # tokens of a text
    quick: bool = False  # one seed, 60 steps (texts 4)
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"steps": (1, 10**6), "warm": (1, 10**6), "fit": (1, 10**6), "probe": (2, 60)}
        limits |= {"batch_size": (2, 4096), "learning_rate": (1e-9, 10), "seeds": (1, 100)}
        flags.check(self, limits | {"senses": (100, 50_000), "length": (4, 512)})


QUICK = {"seeds": 1, "fit": 20}
OURS = {"digits": (300, 200, 64, 1e-3), "texts": (24, 24, 32, 5e-5)}
TITLES = {"shared": "tasks that the digit decides", "independent": "tasks of independent factors"}
TEXTS = "similarity and definitions"


def settings(cfg, part):
    """The config with the settings of a part where none were given."""
    usual = dict(zip(("steps", "fit", "batch_size", "learning_rate"), OURS[part], strict=True))
    if cfg.quick:
        usual["steps"] = 60 if part == "digits" else 4
    return flags.changed(cfg, **{n: x for n, x in usual.items() if getattr(cfg, n) is None})


def of_digits(cfg, kind):
    """(rows of the arms, rows of the conflict) of one kind of tasks."""
    found, names = digits.read(kind, cfg.seeds), digits.TASKS[kind]
    start, alone, joint, paths = digits.models(cfg, found)
    vectors = [weights.task_vector(model, start) for model in alone]

    def of_seed(s):
        one = jax.tree.map(lambda x: x[s], (start, alone, joint))
        probe = digits.probes(found, s, cfg.probe)
        fishers = digits.fishers(found, s, one[1], cfg)
        given = (*one, digits.task_loss, probe, fishers)
        return arms.compared(cfg, names, lambda p: digits.measured(p, found, s, cfg.validate), *given)

    seeds = []
    for s in range(cfg.seeds):
        flags.stage(f"merges {TITLES[kind]}, seed {s}")
        seeds.append(of_seed(s))
    return arms.rows_of(seeds, names), conflict(kind, names, digits.cosines(vectors), paths)


def conflict(kind, names, vectors, paths):
    """Cosines between task vectors and between the gradients of tasks, a row for each pair of tasks."""
    rows = []
    for i, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
        row = {"kind": kind, "tasks": f"{names[a]}, {names[b]}"}
        columns = {"task vectors": vectors} | paths
        for label, values in columns.items():
            row[label], row[f"± {label}"] = results.spread(np.asarray(values)[:, i])
        rows.append(row | {"runs": np.asarray(paths[ALONG])[:, i].tolist()})
    return rows


def of_texts(cfg):
    """The rows of the arms for the tasks of texts, after every seed those of all so far."""
    task, seeds = texts.prepare(cfg), []
    for s in range(cfg.seeds):
        flags.stage(f"trains and merges text encoders, seed {s}")
        seeds.append(arms.compared(cfg, texts.TASKS, task["evaluate"], *texts.models(cfg, task, s)))
        yield Result({TEXTS: arms.rows_of(seeds, texts.TASKS)}, {"seeds": len(seeds)}, config=cfg)


# Claims


def gain(rows, arm, other, worst=False):
    """Differences of two arms, [seeds, measures]: of the mean over tasks, or of the worst task."""
    numbers = {row["arm"]: row["runs"] for row in rows}
    part = np.min if worst else np.mean
    both = (np.array([[part(x) for x in run.values()] for run in numbers[a]]) for a in (arm, other))
    return np.subtract(*both)


def asked(title, arm, other, **options):
    """The answer to: is an arm above another by every measure?"""
    worst = options.pop("worst", False)
    return lambda t: results.paired(gain(t[title], arm, other, worst), **options) if title in t else None


def apart(kind):
    """The answer to: do the gradients of some two tasks point apart along joint training?"""

    def ours(t):
        rows = [row["runs"] for row in t.get("conflict", ()) if row["kind"] == kind]
        return results.paired(-np.min(rows, axis=0)) if rows else None

    return ours


PAPER = "2410.15035"


def claims_of(title, worst):
    """The claims about one set of tasks."""
    said = {
        f"{title}: Self Positioning is above joint training in proportion to the data": (
            POSITIONED,
            PROPORTIONAL,
        ),
        f"{title}: Self Positioning is above joint training with tasks drawn equally often": (
            POSITIONED,
            UNIFORM,
        ),
        f"{title}: Self Positioning is above the fixed merge that the probe chooses": (POSITIONED, FIXED),
    }
    found = [
        Claim(PAPER, sentence, asked(title, *pair), 0.007 if pair[1] == PROPORTIONAL else None)
        for sentence, pair in said.items()
    ]
    level = f"{title}: Self Positioning is not below the best fixed merge of the test, a maximum over arms"
    found.append(Claim("", level, asked(title, BEST, POSITIONED, denied=True)))
    if worst:
        sentence = f"{title}: on the worst task, Self Positioning is above joint training in proportion"
        found.append(Claim(PAPER, sentence, asked(title, POSITIONED, PROPORTIONAL, worst=True)))
        sentence = f"{title}: on the worst task, drawing tasks equally often is above in proportion"
        found.append(Claim(PAPER, sentence, asked(title, UNIFORM, PROPORTIONAL, worst=True)))
    return found


CLAIMS = (
    *(claim for title in TITLES.values() for claim in claims_of(title, True)),
    *(
        Claim(
            PAPER, f"{title}: the gradients of some two tasks point apart along joint training", apart(kind)
        )
        for kind, title in TITLES.items()
    ),
    *claims_of(TEXTS, False),
)


def figures(numbers):
    """Every arm by its mean over tasks and by its worst task, a panel for each set of tasks and measure."""
    titles = [title for title in (*TITLES.values(), TEXTS) if title in numbers]
    panels = [(t, m) for t in titles for m in numbers[t][0]["runs"][0]]

    def draw(axes):
        axes[0, 0].figure.set_size_inches(4.2 * len(panels) + 2, 6)
        for panel, (title, measure) in zip(axes[0], panels, strict=True):
            rows = [row for row in numbers[title] if row["arm"] != BEST][::-1]
            for label, marker in ((measure, "o"), (f"worst {measure}", "x")):
                if label in rows[0]:
                    values, spreads = ([r[k] or 0 for r in rows] for k in (label, f"± {label}"))
                    said = "mean over tasks" if label == measure else "worst task"
                    panel.errorbar(values, range(len(rows)), xerr=spreads, fmt=marker, capsize=2, label=said)
            panel.set_yticks(range(len(rows)), [r["arm"] for r in rows] if panel is axes[0, 0] else [])
            panel.set(title=title, xlabel=measure)
            panel.grid(alpha=0.3)
        plots.legend(axes[0, -1])

    return {"": (draw, (1, len(panels)))} if panels else {}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sts(cfg.sts, "train", "dev" if cfg.validate else "test")
    if cfg.model is not None or cfg.sts is not None:
        encoder = text_models.load(cfg.model)
        flags.at_most(cfg, "length", encoder.max_length, f"the encoder reads {encoder.max_length} tokens")
    inputs.sets(*(["wordnet"] if cfg.sts is not None else []))


def run(cfg):
    """All arms on the digits, or on texts."""
    if cfg.sts is not None:
        return of_texts(settings(cfg, "texts"))
    cfg, tables, diverging = settings(cfg, "digits"), {}, []
    for kind, title in TITLES.items():
        tables[title], more = of_digits(cfg, kind)
        diverging += more
    return Result(tables | {"conflict": diverging}, config=cfg)


if __name__ == "__main__":
    results.main("model_merging", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
