"""Does a small diffusion model draw what its prompt asks, and what does guidance change?

    python -m experiments.drawings             # trains the base model once, then samples from it
    python -m experiments.drawings --quick     # a tenth of the steps

Digits in seven styles, "a bold drawing of three", train a text transformer and a U-Net together. The model is
kept in --workdir, where concept_search, concept_guard and prompt_projection read it; for their sake it never
sees the digit seven. Judges that were fitted on real drawings say which digit and which style a sample shows.

Papers: DDPM (arXiv:2006.11239), v-prediction (arXiv:2202.00512), classifier-free guidance (arXiv:2207.12598).
About 5 minutes on 2 CPU cores, 1 where the model is there.
"""

import dataclasses
import pathlib

import jax
import numpy as np

from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from jaxembed import data, metrics, recipes, train

drawings = data.toy_drawings


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a small text-to-image model and samples from it."""

    steps: int = 1500
    each: int = 2  # samples of every prompt
    scales: tuple[float, ...] = (1.0, 2.0, 3.0)  # of guidance; 1 is none
    sampling_steps: int = 50
    evaluate_every: int = 300
    axes: int = 32  # principal axes of the Frechet distance
    seeds: int = 5  # of the sampling; there is one model
    quick: bool = False  # 150 steps, one seed, a workdir of its own
    workdir: pathlib.Path = pathlib.Path("runs/drawings")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"steps": (1, 10**6), "each": (2, 1000), "scales": (0, 100), "sampling_steps": (1, 1000)}
        flags.check(self, limits | {"evaluate_every": (1, 10**6), "axes": (1, 64), "seeds": (1, 100)})


SEEN = drawings.SEEN_DIGITS
QUICK = {"steps": 150, "evaluate_every": 75, "seeds": 1, "workdir": pathlib.Path("runs/drawings-quick")}


def judges():
    """Judges of digit and style, which know all digits, and real drawings of those that the model saw."""
    known, test = (drawings.drawings()[part] for part in ("train", "test"))
    found = {name: metrics.fit_judge(known["images"], known[name]) for name in ("digits", "styles")}
    rows = np.isin(test["digits"], SEEN)
    return found, {name: test[name][rows] for name in ("images", "digits", "styles")}


def asked(each):
    """Digits, styles and prompts of a sample, every prompt ``each`` times."""
    names = list(drawings.STYLES)
    places, styles = np.divmod(np.repeat(np.arange(len(SEEN) * len(names)), each), len(names))
    digits = np.array(SEEN)[places]
    return digits, styles, drawings.drawing_prompts(digits, [names[s] for s in styles])


def judged(cfg, images, digits, styles, judge, real):
    """Numbers of one sample."""
    right = {name: judge[name](images) == truth for name, truth in (("digits", digits), ("styles", styles))}
    flat = images.reshape(len(images), -1)
    spread = flat.reshape(-1, cfg.each, flat.shape[1]).std(axis=1).mean()
    worst = min(right["digits"][digits == n].mean() for n in SEEN)
    distance = metrics.frechet_distance(real.reshape(len(real), -1), flat, size=cfg.axes)
    found = {"digit": right["digits"].mean(), "weakest digit": worst, "style": right["styles"].mean()}
    return {k: float(v) for k, v in (found | {"spread": spread, "Frechet distance": distance}).items()}


def rows_of(cfg, model, judge, test):
    """{scale: [numbers of every seed]} and a gallery: one sample of each prompt at the second scale."""
    digits, styles, prompts = asked(cfg.each)
    found, gallery = {}, None
    for scale in cfg.scales:
        for seed in range(cfg.seeds):
            images = model.sample(jax.random.key(seed), prompts, scale=scale, steps=cfg.sampling_steps)
            found.setdefault(scale, []).append(judged(cfg, images, digits, styles, judge, test["images"]))
            if seed == 0 and (gallery is None or scale == cfg.scales[min(1, len(cfg.scales) - 1)]):
                gallery = images[:: cfg.each]
        flags.stage(f"guidance {scale:g} is done")
    real = [test["images"][(test["digits"] == d) & (test["styles"] == s)][0] for d in SEEN for s in range(7)]
    pictures = {
        name: np.rint(127.5 * (np.stack(x) + 1)).astype(int)
        for name, x in (("drawn", gallery), ("real", real))
    }
    return found, {name: x.reshape(len(SEEN), 7, 8, 8).tolist() for name, x in pictures.items()}


def tabled(found, judge, test):
    """One row for each guidance, and one for real drawings that the judges have not seen."""
    rows = []
    for scale, runs in found.items():
        row = {"images": f"guidance {scale:g}"}
        for name in runs[0]:
            row[name], row[f"± {name}"] = results.spread([run[name] for run in runs])
        rows.append(row | {"scale": scale, "runs": runs})
    real = {"digit": "digits", "style": "styles"}
    real = {name: float((judge[key](test["images"]) == test[key]).mean()) for name, key in real.items()}
    return [*rows, {"images": "real", **real}]


def column(t, scale, name):
    for row in t["guidance"]:
        if row.get("scale") == scale:
            return np.array([run[name] for run in row["runs"]])
    return None


def change(t, name, sign=1.0, margin=0.0):
    """The change from the first guidance to the last, by seed."""
    first, last = (column(t, t["scales"][n], name) for n in (0, -1))
    return results.paired(sign * (last - first), margin=margin) if len(t["scales"]) > 1 else None


def of_asked(t):
    found = column(t, 2.0, "digit")
    return None if found is None else results.paired(found - 0.9)


def learned(t):
    """Whether the distance at the end is below that of the first evaluation."""
    curve = [row["Frechet distance"] for row in t["training"]]
    return results.holds(curve[-1] < curve[0], curve[0] - curve[-1]) if len(curve) > 1 else None


GUIDANCE = "2207.12598"
CLAIMS = (
    Claim(
        GUIDANCE,
        "Guidance of 3 instead of 1 makes more samples the asked digit",
        lambda t: change(t, "digit"),
    ),
    Claim(
        GUIDANCE,
        "Guidance of 3 instead of 1 makes samples of a prompt more alike",
        lambda t: change(t, "spread", -1),
    ),
    Claim("", "At guidance 2, more than 90 % of the samples are the asked digit", of_asked),
    Claim(
        "2006.11239", "Samples come closer to real drawings from the first evaluation to the last", learned
    ),
)


def run(cfg):
    judge, test = judges()
    flags.stage("judges are fitted")
    digits, styles, prompts = asked(cfg.each)

    def evaluate(model):
        images = model.sample(jax.random.key(99), prompts, steps=cfg.sampling_steps)
        return judged(cfg, images, digits, styles, judge, test["images"])

    options = {"evaluate": evaluate, "evaluate_every": cfg.evaluate_every}
    model = recipes.drawing_model(cfg.workdir, steps=cfg.steps, **options)
    flags.stage("the model is trained")
    log = [row for row in train.read_metrics(cfg.workdir) if "digit" in row]
    names = ("step", "digit", "style", "Frechet distance")
    found, gallery = rows_of(cfg, model, judge, test)
    tables = {"guidance": tabled(found, judge, test), "training": [{n: row[n] for n in names} for row in log]}
    return Result(tables, {"scales": list(cfg.scales), "gallery": gallery})


def figures(t):
    """The gallery: a style in each row, the digits drawn at guidance 2, then real ones."""

    def draw(axes):
        count = len(t["gallery"]["real"])
        canvas = np.full((7 * 9, (2 * count + 1) * 9), 60)
        for first, name in ((0, "drawn"), (count + 1, "real")):
            for digit, style in np.ndindex(count, 7):
                image = t["gallery"][name][digit][style]
                row, column = 9 * style, 9 * (first + digit)
                canvas[row : row + 8, column : column + 8] = image
        axes.figure.set_size_inches(11, 4.2)
        axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=255)
        axes.set_yticks(np.arange(7) * 9 + 3.5, list(drawings.STYLES))
        axes.set_xticks([9 * count / 2 - 1, 9 * (1.5 * count + 1) - 1], ["drawn", "real"])

    return {"": draw}


if __name__ == "__main__":
    look = lambda cfg: inputs.installed("sklearn")  # noqa: E731
    results.main("drawings", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
