"""Do sets of channels that fire on one patch tell classes that no single channel tells?

    python -m experiments.visual_patterns             # glyphs that touch, and digits
    python -m experiments.visual_patterns --quick     # one seed, fewer pictures

Pictures hold four glyphs. Which two of them touch is the class; which glyphs there are says nothing. A small
net has learnt the glyphs one by one, and sets of its channels are mined that fire together on one patch.

Paper: PatternNet (arXiv:1703.06339), known to us by its abstract: the method is a reconstruction, and no
number of the paper is compared. About 4 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from experiments.visual_patterns import glyphs, mining
from experiments.visual_patterns.pictures import figures
from jaxembed import data, metrics, vectors


@dataclasses.dataclass(frozen=True)
class Config:
    """Mines patterns of channels and asks what they tell."""

    pictures: int = 1500  # mined; the net learns from twice as many crops of one glyph
    test: int = 600
    steps: int = 500
    batch_size: int = 64
    learning_rate: float = 3e-3  # falls to 0 as a cosine
    quantile: float = 0.7  # of a channel's peaks on other classes, its threshold
    radius: int = 1  # of the local form, in places of the maps
    field: float = 8.0  # pixels around a place that count for a box, about a glyph
    min_support: float = 0.05
    min_precision: float = 0.4  # of six classes; each holds three pairs
    counts: tuple[int, ...] = (1, 5, 20)  # patterns of a class; the last one is compared
    budget: int = 20  # boxes of a picture
    seeds: int = 5
    validate: bool = False  # ask pictures of other seeds, from 100 on; settings were chosen there
    quick: bool = False  # one seed, 400 steps, 600 pictures
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"pictures": (60, 10**6), "test": (12, 10**6), "steps": (1, 10**6), "batch_size": (2, 10**5)}
        limits |= {"learning_rate": (1e-9, 10), "quantile": (0, 1), "radius": (0, 10), "field": (0, 100)}
        limits |= {"min_support": (0, 1), "min_precision": (0, 1), "counts": (1, 1000), "budget": (1, 1000)}
        flags.check(self, limits | {"seeds": (1, 100)})


QUICK = {"seeds": 1, "steps": 400, "pictures": 600, "test": 180}
SIZES, LOCAL, IMAGE = (1, 2, 3), "on one patch", "anywhere"
POOLED, PATCHED, OWN = "peaks of all channels", "patch miner", "net tuned on the classes"


def glyph_seed(cfg, seed):
    """{table: rows} of one seed on glyphs, and what the pictures show."""
    learned, mined = glyphs.crops([seed, 0], 2 * cfg.pictures), glyphs.drawn([seed, 1], cfg.pictures)
    asked = glyphs.drawn([seed, 3 if cfg.validate else 2], cfg.test)
    count = glyphs.GLYPHS
    params = mining.trained(learned["images"], learned["present"], cfg, seed, count, direct=True)
    known, maps = (mining.last_maps(params, x["images"], count, direct=True) for x in (mined, asked))
    labels, truth = mined["labels"], asked["labels"]
    peaks = [np.asarray(vectors.channel_peaks(x)) for x in (known, maps)]
    rows = [{"form": POOLED, "accuracy": mining.accuracy(peaks[0], labels, peaks[1], truth)}]
    local = None
    for form, radius in ((LOCAL, cfg.radius), (IMAGE, None)):
        for size in SIZES:
            top = max(cfg.counts)
            found = mining.mine(known, labels, cfg, size=size, radius=radius, top=top)
            kept = [mining.features(x, found, radius).reshape(len(x), -1, top) for x in (known, maps)]
            for count in cfg.counts:
                parts = [x[..., :count].reshape(len(x), -1) for x in kept]
                row = {"form": form, "channels": size, "patterns": count}
                row["accuracy"] = mining.accuracy(parts[0], labels, parts[1], truth)
                row["found"] = int(found.valid[:, :count].sum())
                few = type(found)(*(x[:, :count] for x in found))
                rows.append(row | mining.held_out(few, maps, truth, radius))
            local = found if (form, size) == (LOCAL, 2) else local
    miner, speed, shown = beside(cfg, params, mined, asked, local, maps, seed)
    return {"accuracy": [*rows, miner, tuned(cfg, mined, asked, seed)]} | speed, shown


def tuned(cfg, mined, asked, seed):
    """Patterns of two channels of a net whose channels were tuned on the classes, one versus the rest."""
    classes, count = glyphs.CLASSES, cfg.counts[-1]
    params = mining.trained(mined["images"], mined["labels"], cfg, seed, classes)
    known, maps = (mining.last_maps(params, x["images"], classes) for x in (mined, asked))
    chosen = vectors.candidate_channels(params["dense"]["kernel"], 15)
    given = {"size": 2, "radius": cfg.radius, "top": count, "candidates": chosen}
    found = mining.mine(known, mined["labels"], cfg, **given)
    parts = [mining.features(x, found, cfg.radius) for x in (known, maps)]
    row = {"form": OWN, "channels": 2, "patterns": count, "found": int(found.valid.sum())}
    row["accuracy"] = mining.accuracy(parts[0], mined["labels"], parts[1], asked["labels"])
    return row | mining.held_out(found, maps, asked["labels"], cfg.radius)


def beside(cfg, params, mined, asked, local, maps, seed):
    """The patch miner's row, seconds of both, recall of boxes, and a few boxes to look at."""
    count, labels, classes = cfg.counts[-1], mined["labels"], glyphs.CLASSES

    def ours():
        known = mining.last_maps(params, mined["images"], glyphs.GLYPHS, direct=True)
        return mining.mine(known, labels, cfg, size=2, radius=cfg.radius, top=count)

    def theirs():
        cut = mining.patch_transactions(params, mined["images"], glyphs.GLYPHS, seed)
        return cut, mining.patch_rules(cut, labels, classes, cfg, 2, count)

    (one, _), (other, (cut, rules)) = mining.seconds(ours), mining.seconds(theirs)
    test_cut = mining.patch_transactions(params, asked["images"], glyphs.GLYPHS, seed + 1)
    parts = [mining.patch_features(x, rules) for x in (cut, test_cut)]
    row = {"form": PATCHED, "channels": 2, "patterns": count, "found": int(rules.valid.sum())}
    row["accuracy"] = mining.accuracy(parts[0], labels, parts[1], asked["labels"])
    boxes, scores = mining.proposals(maps, local, radius=cfg.radius, budget=cfg.budget, field=cfg.field)
    boxes, scores = np.asarray(boxes), np.asarray(scores)
    random = mining.random_boxes(seed, len(boxes), cfg.budget), np.zeros(scores.shape)
    recalls = []
    for name, given in (("patterns", (boxes, scores)), ("random boxes", random)):
        found = {n: metrics.proposal_recall(*given, asked["boxes"], budget=n) for n in (1, 5, cfg.budget)}
        recalls.append({"boxes": name} | {f"recall, {n} boxes": x for n, x in found.items()})
    best = np.where(scores[:, :1] > 0, metrics.box_iou(boxes[:, :1], asked["boxes"])[..., 0], 0)
    recalls[0]["IoU of the best"] = float(best.mean())
    response = np.asarray(vectors.pattern_features(maps, local, radius=cfg.radius))
    purity = metrics.pattern_purity(response, asked["labels"], top=10)
    recalls[0]["purity"] = float(np.nanmean(purity)) if np.isfinite(purity).any() else None
    speed = {"recall": recalls, "seconds": [{"miner": "patterns", "s": one}, {"miner": PATCHED, "s": other}]}
    shown = {"images": asked["images"][:6, ..., 0].round(2).tolist(), "truth": asked["boxes"][:6, 0].tolist()}
    return row, speed, shown | {"boxes": boxes[:6, 0].tolist()}


def digit_seed(cfg, seed):
    """Rows of one seed on digits: patterns beside as many features of pooled channels."""
    found = data.digits()
    order = np.random.default_rng(seed).permutation(len(found["labels"]))
    learned, mined, held, asked = np.split(order, [500, 1100, 1400])
    asked, size = held if cfg.validate else asked, mining.CHANNELS // 10 + 1
    images, labels = found["images"], found["labels"]
    params = mining.trained(images[learned], labels[learned], cfg, seed, 10, digits=True)
    known, maps = (mining.last_maps(params, images[rows], 10, digits=True) for rows in (mined, asked))
    peaks = [np.asarray(vectors.channel_peaks(x)) for x in (known, maps)]
    rows = [
        {"features": POOLED, "accuracy": mining.accuracy(peaks[0], labels[mined], peaks[1], labels[asked])}
    ]
    chosen = vectors.candidate_channels(params["dense"]["kernel"], 15)
    for n in SIZES:
        given = {"size": n, "radius": cfg.radius, "top": size, "candidates": chosen}
        patterns = mining.mine(known, labels[mined], cfg, **given)
        parts = [mining.features(x, patterns, cfg.radius) for x in (known, maps)]
        row = {"features": f"patterns of {n}", "found": int(patterns.valid.sum())}
        row["accuracy"] = mining.accuracy(parts[0], labels[mined], parts[1], labels[asked])
        rows.append(row)
    return rows


def tabled(runs):
    """One row for each arm, with means and deviations over the seeds."""
    found = []
    for rows in zip(*runs, strict=True):
        line = {}
        for key in dict.fromkeys(key for row in rows for key in row):
            values = [row[key] for row in rows if row.get(key) is not None]
            if isinstance(rows[0].get(key), float) or key in ("support", "precision"):
                line[key], line[f"± {key}"] = results.spread(values) if values else (None, None)
            elif key == "found":
                line[key] = float(np.mean(values))
            else:
                line[key] = rows[0].get(key)
        found.append(line | {"runs": list(rows)})
    return found


def column(rows, name, **chosen):
    """A number of the arm with some entries, [seeds]; None where there is none."""
    found = [row["runs"] for row in rows if all(row.get(k) == x for k, x in chosen.items())]
    return np.array([run[name] for run in found[0]]) if found else None


def arm(t, form, size=None, name="accuracy"):
    more = {} if size is None else {"channels": size, "patterns": t["compared"]}
    return column(t["accuracy"], name, form=form, **more)


def recall_gain(t):
    name = f"recall, {t['budget']} boxes"
    return column(t["recall"], name, boxes="patterns") - column(t["recall"], name, boxes="random boxes")


def ratio(t):
    ours, theirs = (column(t["seconds"], "s", miner=name) for name in ("patterns", PATCHED))
    return results.holds((theirs / ours).min() >= 5, np.mean(theirs / ours))


NET = "1703.06339"
CLAIMS = (
    Claim(
        NET,
        "Pairs of channels on one patch tell 10 points more than single channels",
        lambda t: results.paired(arm(t, LOCAL, 2) - arm(t, LOCAL, 1), margin=0.1),
    ),
    Claim(
        NET,
        "On one patch, pairs tell 10 points more than anywhere on the picture",
        lambda t: results.paired(arm(t, LOCAL, 2) - arm(t, IMAGE, 2), margin=0.1),
    ),
    Claim(
        NET,
        "With 20 boxes, patterns find 30 points more of the pairs than random boxes",
        lambda t: results.paired(recall_gain(t), margin=0.3),
    ),
    Claim(NET, "Mining channels is 5 times as fast as mining patches, in every seed", ratio),
    Claim(
        "",
        "Pairs on one patch tell no less than the patch miner's rules",
        lambda t: results.paired(arm(t, LOCAL, 2) - arm(t, PATCHED), margin=0.0),
    ),
    Claim(
        "",
        "Digits: patterns of two channels tell no less than as many pooled channels",
        lambda t: results.paired(
            column(t["digits"], "accuracy", features="patterns of 2")
            - column(t["digits"], "accuracy", features=POOLED),
            margin=-0.01,
        ),
    ),
)


def run(cfg):
    """Every seed of both tasks."""
    runs, shown = [], None
    for seed in range(cfg.seeds):
        seed += 100 if cfg.validate else 0
        found, boxes = glyph_seed(cfg, seed)
        runs.append(found | {"digits": digit_seed(cfg, seed)})
        shown = shown or boxes
        flags.stage(f"seed {seed} is done")
    tables = {name: tabled([run[name] for run in runs]) for name in runs[0]}
    return Result(tables, {"compared": cfg.counts[-1], "budget": cfg.budget, "shown": shown})


if __name__ == "__main__":
    look = lambda cfg: inputs.installed("sklearn")  # noqa: E731
    results.main("visual_patterns", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
