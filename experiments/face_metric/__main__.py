"""Do distances that were learned on some identities verify others, and which triplets teach them best?

    python -m experiments.face_metric                      # digits: 0 to 5 train, 6 to 9 are verified
    python -m experiments.face_metric --data emoji --parts rules   # a symbol by two artists is an identity
    python -m experiments.face_metric --omniglot folder    # images_background_small1 of Omniglot, unpacked
    python -m experiments.face_metric --images folder      # your own pictures, a folder for each identity
    python -m experiments.face_metric --validate           # on identities that are held out of training

Paper: FaceNet (arXiv:1503.03832). scikit-learn carries the digits; `make data` and `python -m
jaxembed.data.sources.fetch_pictures noto-emoji` bring the emoji. About 2 minutes on 2 CPU
cores, 5 with the emoji.
"""

import dataclasses
import functools
import pathlib
from typing import Literal

import numpy as np
import optax

from experiments.face_metric import answers, identities, versions
from experiments.face_metric.identities import RULES
from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from jaxembed import data, metrics, vectors

AXES = {"rules": "rule, rate of AdaGrad", "sizes": "coordinates", "versions": "versions of the two vectors"}
PARTS = tuple(AXES)
FAST = ("semi-hard", "hardest")  # trained at the high rate too


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains encoders on some identities by triplets and verifies others."""

    parts: tuple[Literal["rules", "sizes", "versions"], ...] = PARTS
    data: Literal["digits", "emoji"] = "digits"
    images: pathlib.Path | None = None  # folder of pictures, a folder for each identity
    omniglot: pathlib.Path | None = None  # folder in the layout of Omniglot
    side: int = 16  # pixels of pictures that are not digits
    steps: int = 300
    rate: float = 0.05  # of AdaGrad
    high_rate: float = 0.5  # at which collapse is looked for
    margin: float = 0.2
    hidden: int = 256  # width of the hidden layer; the first version has a quarter
    size: int = 16  # of the vectors
    sizes: tuple[int, ...] = (4, 8, 16, 64)
    identities: int | None = None  # in a batch; None: all 6 digits, 60 of other sets
    each: int | None = None  # pictures of each; None: 20 digits, 2 of other sets
    far: float = 0.01  # false accept rate at which VAL is read
    seeds: int = 5
    validate: bool = False
    quick: bool = False  # one seed, few steps
    workdir: pathlib.Path = pathlib.Path("runs/face_metric")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"side": (9, 512), "steps": (2, 10**7), "rate": (1e-9, 10), "high_rate": (1e-9, 100)}
        limits |= {"margin": (0, 4), "hidden": (32, 10**5), "size": (1, 10**5), "sizes": (1, 10**5)}
        limits |= {"identities": (2, 10**5), "each": (2, 10**5), "far": (1e-6, 1), "seeds": (1, 100)}
        flags.check(self, limits)
        flags.exclude(self, "images", ("data", "omniglot"))
        flags.exclude(self, "omniglot", ("data",))


QUICK = {"seeds": 1, "steps": 20, "sizes": (4, 16)}


def trained(cfg, task, rule, rate, size):
    """Unit vectors [N, D] of all pictures for each seed, after training under one rule."""
    net = identities.net(task, cfg.hidden, size)
    loss = identities.mined_loss(net.encode, RULES[rule], cfg.margin)
    update = identities.make_update(task, loss, optax.adagrad(rate))
    params = [identities.fit(task, seed, net.init, update, cfg.steps) for seed in range(cfg.seeds)]
    return [identities.vectors(task, net.encode, each) for each in params]


def row_of(head, runs):
    """A row of means and spreads with the numbers of each seed as "runs"."""
    for name in runs[0]:
        head[name], head[f"± {name}"] = results.spread([run[name] for run in runs])
    return head | {"runs": runs}


def rules(cfg, task):
    """Rows of pixels and of every rule, the vectors of the semi-hard rule, and mined triplets."""
    pixels = [task.images.reshape(len(task.images), -1)] * cfg.seeds
    rows = [row_of({"rule": "pixels", "rate": None}, identities.measure(task, pixels, cfg.far))]
    kept = None
    for rate, names in ((cfg.rate, RULES), (cfg.high_rate, FAST)):
        for name in names:
            flags.stage(f"trains {cfg.steps} steps: {name} at {rate:g}")
            found = trained(cfg, task, name, rate, cfg.size)
            rows.append(row_of({"rule": name, "rate": rate}, identities.measure(task, found, cfg.far)))
            kept = found if kept is None else kept
    return rows, kept


def eight_bits(cfg, task, found):
    """Accuracy and VAL of vectors and of their codes of 8 bits, and how far distances moved."""
    runs = []
    for seed, (x, known, rows) in enumerate(zip(found, task.known, task.asked, strict=True)):
        params = vectors.fit_scalar(x[known])
        decoded = np.asarray(vectors.decode_scalar(params, vectors.encode_scalar(params, x[rows])))
        true, same = metrics.all_pairs(x[rows], task.labels[rows])
        coded = metrics.all_pairs(decoded, task.labels[rows])[0]
        read = functools.partial(identities.accuracy, same=same, far=cfg.far)
        both = [read(d, rng=np.random.default_rng(seed)) for d in (true, coded)]
        val = [metrics.val_at_far(d, same, far=cfg.far)[0] for d in (true, coded)]
        moved = np.abs(true - coded).max()
        limit = vectors.scalar_distance_bound(params, true.max(), x.shape[1])
        run = dict(zip(("accuracy", "accuracy of codes", "VAL", "VAL of codes"), (*both, *val), strict=True))
        runs.append(run | {"largest change of D": float(moved), "bound": float(limit)})
    return [row_of({"vectors": f"{cfg.size} floats, {cfg.size} bytes"}, runs)]


def run(cfg):
    """The parts that were asked for, one after the other."""
    task, tables, details = identities.read(cfg), {}, {}
    if "rules" in cfg.parts:
        tables["rules"], found = rules(cfg, task)
        tables["8 bits"] = eight_bits(cfg, task, found)
        details["triplets"] = identities.triplets(task, found, cfg.margin)
    if "sizes" in cfg.parts:
        tables["sizes"] = []
        for size in cfg.sizes:
            flags.stage(f"trains {cfg.steps} steps: {size} coordinates")
            found = trained(cfg, task, "semi-hard", cfg.rate, size)
            tables["sizes"].append(row_of({"size": size}, identities.measure(task, found, cfg.far)))
    if "versions" in cfg.parts:
        flags.stage("trains two versions")
        rows = versions.compare(cfg, task, cfg.far)
        tables["versions"] = [row_of(x, [{"VAL": v} for v in x.pop("runs")]) for x in rows]
    return Result(tables, details | {"chance": cfg.far})


FACENET = "1503.03832"
SENTENCES = (
    (
        "rules",
        answers.better,
        "Semi-hard negatives are 2 points of VAL above random ones, in four of five seeds",
    ),
    (
        "rules",
        answers.collapse,
        "At a high rate the hardest negatives collapse some seed, semi-hard ones none",
    ),
    ("sizes", answers.flat, "From 16 coordinates on VAL does not change by more than a standard error"),
    ("8 bits", answers.byte_claim, "A byte for each coordinate changes the accuracy by less than 0.2 points"),
    ("versions", answers.ordered, "VAL: new with new is above old with new, which is above old with old"),
    ("versions", answers.compatible, "Training against old vectors raises the VAL of old with new"),
    (
        "versions",
        answers.strangers,
        "Versions that were trained alone match each other no better than chance",
    ),
)
CLAIMS = tuple(Claim(FACENET, sentence, answers.asked(part, answer)) for part, answer, sentence in SENTENCES)
CLAIMS += (
    Claim(
        "", "Trained vectors have a higher VAL than the pixels", answers.asked("rules", answers.above_pixels)
    ),
)


def figures(numbers):
    """VAL of every row of a table, and mined triplets."""
    found = {}
    tables = {part: rows for part, rows in numbers.items() if part in PARTS}

    def bars(axes):
        for panel, (part, rows) in zip(axes[0], tables.items(), strict=True):
            heads = [h for h in ("rule", "rate", "size", "versions") if h in rows[0]]
            names = [", ".join(str(r[h]) for h in heads if r[h] is not None) for r in rows]
            panel.barh(names, [r["VAL"] for r in rows], xerr=[r["± VAL"] or 0 for r in rows], color="#88a")
            panel.invert_yaxis()
            panel.set(xlabel="VAL at the false accept rate", ylabel=AXES[part], title=part, xlim=(0, 1))
        axes[0, 0].figure.set_size_inches(5 * len(tables) + 1, 4)

    def triplets(axes):
        axes[0, 0].figure.set_size_inches(9, 1.8 * len(axes))
        for line, row in zip(axes, numbers["triplets"], strict=True):
            for panel, (name, picture) in zip(line, row["pictures"].items(), strict=True):
                picture = np.frombuffer(bytes.fromhex(picture), np.uint8).reshape(row["shape"])
                panel.imshow(picture if picture.shape[2] == 3 else picture[..., 0], cmap="gray")
                panel.set_title(f"{name}, D {row['distances'][name]:.2f}", fontsize=9)
                panel.set_xticks([]), panel.set_yticks([])

    if tables:
        found[""] = (bars, (1, len(tables)))
    if numbers.get("triplets"):
        found["triplets"] = (triplets, (len(numbers["triplets"]), 6))
    return found


def look(cfg):
    """Refuses a run whose pictures are missing."""
    inputs.installed("sklearn")
    if cfg.data == "emoji":
        data.emoji("noto", 16)


if __name__ == "__main__":
    results.main("face_metric", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
