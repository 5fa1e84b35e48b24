"""Do distances that were learned on some identities verify others, and which triplets teach them best?

    python -m experiments.face_metric                      # digits: 0 to 5 train, 6 to 9 are verified
    python -m experiments.face_metric --data emoji --parts rules   # a symbol by two artists is an identity
    python -m experiments.face_metric --omniglot folder    # images_background_small1 of Omniglot, unpacked
    python -m experiments.face_metric --images folder      # your own pictures, a folder for each identity
    python -m experiments.face_metric --validate           # on identities that are held out of training

Paper: FaceNet (arXiv:1503.03832). scikit-learn carries the digits; `make data` and `python -m
jaxembed.data.sources.fetch_pictures noto-emoji` bring the emoji. About 5 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib
from typing import Literal

import numpy as np
import optax

from experiments.face_metric import identities, versions
from experiments.face_metric.identities import RULES
from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from jaxembed import data, metrics, vectors

PARTS = ("rules", "sizes", "versions")
FAST = ("semi-hard", "hardest")  # trained at the high rate too
COLLAPSED = 0.05  # mean squared distance below which vectors have collapsed


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


def runs_of(rows, key, head):
    """{(heads): numbers of the seeds} of a table."""
    return {tuple(r[h] for h in head): np.array([x[key] for x in r["runs"]]) for r in rows}


def asked(part, answer):
    """The answer to a claim about a part; None where the run left it out."""
    return lambda t: answer(t) if part in t else None


def better(t):
    """Semi-hard above random by two points in four of five seeds."""
    found = runs_of(t["rules"][1:5], "VAL", ("rule",))
    gap = found["semi-hard",] - found["random",]
    if len(gap) < results.LEAST:
        return results.Answer(float(gap.mean()), None, None)
    return results.holds((gap >= 0.02).mean() >= 0.8, gap.mean(), gap.std(ddof=1))


def collapse(t):
    """The hardest rule collapses in some seed at the high rate, the semi-hard one in none."""
    found = runs_of(t["rules"][5:], "mean D", ("rule",))
    fallen = {rule: (x < COLLAPSED).mean() for (rule,), x in found.items()}
    return results.holds(fallen["hardest"] > 0 and not fallen["semi-hard"], fallen["hardest"])


def flat(t):
    """From 16 coordinates on the mean VAL differs by less than a standard error."""
    found = {size: x for (size,), x in runs_of(t["sizes"], "VAL", ("size",)).items() if size >= 16}
    if len(found) < 2 or len(found[min(found)]) < results.LEAST:
        return None
    gap = found[max(found)] - found[min(found)]
    sem = max(x.std(ddof=1) for x in found.values()) / len(gap) ** 0.5
    return results.holds(abs(gap.mean()) <= sem, gap.mean(), sem)


def ordered(t):
    """VAL of new with new above old with new above old with old."""
    found = runs_of(t["versions"], "VAL", ("versions",))
    new, mixed, old = (found[name,] for name in ("v2, v2", "v1, v2", "v1, v1"))
    return results.paired(np.stack([new - mixed, mixed - old], axis=1))


def byte_claim(t):
    """The largest change of accuracy by 8 bits over the seeds."""
    gaps = [abs(x["accuracy"] - x["accuracy of codes"]) for x in t["8 bits"][0]["runs"]]
    return results.holds(max(gaps) < 0.002, max(gaps))


def strangers(t):
    """VAL between versions that were trained alone is within two points of the false accept rate."""
    found = runs_of(t["versions"], "VAL", ("versions",))["v1, v2 trained alone",]
    return results.holds(abs(found.mean() - t["chance"]) <= 0.02, found.mean())


def above_pixels(t):
    """Semi-hard above the pixels themselves."""
    found = runs_of(t["rules"], "VAL", ("rule", "rate"))
    return results.paired(found["semi-hard", t["rules"][1]["rate"]] - found["pixels", None])


FACENET = "1503.03832"
SENTENCES = (
    ("rules", better, "Semi-hard negatives are 2 points of VAL above random ones, in four of five seeds"),
    ("rules", collapse, "At a high rate the hardest negatives collapse some seed, semi-hard ones none"),
    ("sizes", flat, "From 16 coordinates on VAL does not change by more than a standard error"),
    ("8 bits", byte_claim, "A byte for each coordinate changes the accuracy by less than 0.2 points"),
    ("versions", ordered, "VAL: new with new is above old with new, which is above old with old"),
    ("versions", strangers, "Versions that were trained alone match each other no better than chance"),
)
CLAIMS = tuple(Claim(FACENET, sentence, asked(part, answer)) for part, answer, sentence in SENTENCES)
CLAIMS += (Claim("", "Trained vectors have a higher VAL than the pixels", asked("rules", above_pixels)),)


def figures(numbers):
    """VAL of every row of a table, and mined triplets."""
    found = {}
    tables = {part: rows for part, rows in numbers.items() if part in PARTS}

    def bars(axes):
        for panel, (part, rows) in zip(axes[0], tables.items(), strict=True):
            heads = ("rule", "rate", "size", "versions")
            names = [", ".join(str(r[h]) for h in heads if r.get(h) is not None) for r in rows]
            panel.barh(names, [r["VAL"] for r in rows], xerr=[r["± VAL"] or 0 for r in rows], color="#88a")
            panel.invert_yaxis()
            panel.set(xlabel="VAL at the false accept rate", title=part, xlim=(0, 1))
        axes[0, 0].figure.set_size_inches(5 * len(tables) + 1, 4)

    def triplets(axes):
        axes[0, 0].figure.set_size_inches(9, 1.8 * len(axes))
        for line, row in zip(axes, numbers["triplets"], strict=True):
            for panel, (name, picture) in zip(line, row["pictures"].items(), strict=True):
                picture = np.array(picture)
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
