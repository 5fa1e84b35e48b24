"""How robust is what was trained on one source, on another, and on a mixture of both?

    python -m experiments.data_mixtures            # Gaussian sources in closed form, then digits in styles
    python -m experiments.data_mixtures --quick    # one seed, fewer sizes

Paper: Quality Not Quantity (arXiv:2208.05516). Models trained on ever more data of one source lie on a
line: accuracy under a shift against accuracy without it. Towers learn digits in a source's styles.
About 2 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np
from scipy import special

from experiments.data_mixtures import digits as drawn
from experiments.data_mixtures.theory import MIXED, A, B, gaussian_slopes
from experiments.shared import flags, results
from experiments.shared.results import Claim, Result
from jaxembed import data, encoders

ENSEMBLE = "mean of both models' scores"
ARMS = (A, B, MIXED, ENSEMBLE)
STYLES = {A: ("plain", "rotated", "bold"), B: ("plain", "inverted", "blurred")}
SHIFTS = ("rotated", "bold", "inverted", "blurred", "dotted")


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains on sources of many sizes and fits the lines on which the models lie."""

    sizes: tuple[int, ...] = (60, 100, 180, 320, 560)  # pictures of a training set
    test: int = 700
    steps: int = 150
    batch_size: int = 64
    learning_rate: float = 3e-3
    draws: int = 20  # of Gaussian sources, each with 7 sizes
    width: int = 400  # of them
    seeds: int = 5
    quick: bool = False  # one seed, three sizes, few steps
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"sizes": (10, 1000), "test": (50, 790), "steps": (1, 10**6), "batch_size": (2, 10**4)}
        limits |= {"learning_rate": (1e-9, 10), "draws": (1, 10**4), "width": (8, 10**4), "seeds": (1, 100)}
        flags.check(self, limits)
        if len(self.sizes) < 2:
            raise ValueError("--sizes: a line needs two sizes or more; give another one")


QUICK = {"seeds": 1, "sizes": (60, 180, 560), "steps": 50, "draws": 5}


def one_seed(cfg, seed):
    """Accuracies of one seed: {arm: {"plain" or a shift: [sizes]}}."""
    images, labels = drawn.digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    test, known = order[: cfg.test], order[cfg.test :]
    shown = {style: drawn.styled(images[test], style, rng) for style in ("plain", *SHIFTS)}
    pools = {}
    for name, styles in STYLES.items():
        chosen = rng.integers(len(styles), size=len(known))
        made = np.stack([drawn.styled(images[known], s, rng) for s in styles])
        numbers = np.array([drawn.STYLES.index(s) for s in styles])[chosen]
        text = drawn.caption(labels[known], numbers)
        pools[name] = {"image": made[chosen, np.arange(len(known))], "text": text}
    found = {arm: {style: [] for style in shown} for arm in ARMS}
    for size in cfg.sizes:
        scores = {}
        for arm, shares in ((A, (1, 0)), (B, (0, 1)), (MIXED, (1, 1))):
            source, rows = data.mixture_rows([len(known)] * 2, shares, size, seed=seed)
            both = [{k: pools[n][k][rows] for k in ("image", "text")} for n in (A, B)]
            pick = {k: np.where(_wide(source == 0, x), x, both[1][k]) for k, x in both[0].items()}
            given = {"steps": cfg.steps, "batch_size": cfg.batch_size, "rate": cfg.learning_rate}
            params = drawn.trained(pick["image"], pick["text"], seed, **given)
            words = drawn.encode(params, "text", drawn.caption(np.arange(10)))
            scores[arm] = {
                style: encoders.cosine_logits(drawn.encode(params, "image", x), words)
                for style, x in shown.items()
            }
        for style in shown:
            both = np.stack([scores[A][style], scores[B][style]])
            logits = {arm: scores[arm][style] for arm in scores} | {
                ENSEMBLE: data.ensemble_logits(both, np.array([0.5, 0.5]))
            }
            for arm, x in logits.items():
                found[arm][style].append(float(np.mean(np.argmax(x, axis=1) == labels[test])))
    return found


def _wide(mask, like):
    return mask.reshape(-1, *[1] * (like.ndim - 1))


def run(cfg):
    """Slopes of Gaussian sources, and the lines of digits at one accuracy without a shift."""
    rows = gaussian_slopes(cfg)
    found = []
    for seed in range(cfg.seeds):
        flags.stage(f"seed {seed}: {len(cfg.sizes)} sizes of three training sets")
        found.append(one_seed(cfg, seed))
    matched = float(np.mean([[f[arm]["plain"] for arm in (A, B, MIXED)] for f in found]))
    lines = []
    for shift in SHIFTS:
        every = [
            np.concatenate([f[arm][style] for f in found for arm in (A, B)]) for style in ("plain", shift)
        ]
        pooled = data.fit_trend(*every, count=cfg.test)
        for arm in ARMS:
            trends = [data.fit_trend(f[arm]["plain"], f[arm][shift], count=cfg.test) for f in found]
            at = [float(special.expit(t["slope"] * special.logit(matched) + t["intercept"])) for t in trends]
            row = {"shift": shift, "arm": arm}
            row["at equal accuracy"], row["± at equal accuracy"] = results.spread(at)
            row["slope"], row["± slope"] = results.spread([t["slope"] for t in trends])
            pair = [np.concatenate([f[arm][style] for f in found]) for style in ("plain", shift)]
            beyond = data.effective_robustness(*pair, pooled, count=cfg.test)
            row |= {
                "effective robustness": float(beyond.mean()),
                "r2": float(np.mean([t["r2"] for t in trends])),
            }
            lines.append(row | {"runs": at})
    points = {
        arm: {style: np.mean([f[arm][style] for f in found], axis=0).tolist() for style in ("plain", *SHIFTS)}
        for arm in ARMS
    }
    return Result({"lines": lines, "Gaussian sources": rows}, {"points": points, "matched accuracy": matched})


def at(t, shift, arm):
    """The accuracy of an arm's line under a shift, one for each seed."""
    return np.array(next(r["runs"] for r in t["lines"] if (r["shift"], r["arm"]) == (shift, arm)))


def below_the_best(arm):
    """Answers under how many shifts an arm is between the sources and 2 points below the better one."""

    def ours(t):
        inside, lost = [], []
        for shift in SHIFTS:
            first, second, mixed = (at(t, shift, a).mean() for a in (A, B, arm))
            inside.append(min(first, second) < mixed < max(first, second))
            lost.append(max(first, second) - mixed)
        many = sum(inside) >= 3 and np.mean(lost) >= 0.02
        return results.holds(many, sum(inside)) if len(at(t, SHIFTS[0], A)) >= results.LEAST else None

    return ours


def no_best_source(t):
    """Answers whether either source is above the other under some shift, by its interval."""
    gaps = np.stack([at(t, shift, A) - at(t, shift, B) for shift in SHIFTS], axis=1)
    if len(gaps) < results.LEAST:
        return None
    ends = [results.paired(sign * gaps[:, [n]]).verdict for sign in (1, -1) for n in range(len(SHIFTS))]
    half = len(SHIFTS)
    return results.share([results.REPRODUCED in ends[:half], results.REPRODUCED in ends[half:]])


def near(t):
    """Answers whether every measured slope is within 0.02 of the closed form."""
    gaps = [r["gap"] for r in t["Gaussian sources"]]
    return results.holds(max(gaps) <= 0.02, max(gaps))


def towards(t):
    """Answers whether the line of B comes nearer to that of the filter the stricter it keeps."""
    found = {r["source"]: r["measured"] for r in t["Gaussian sources"]}
    slopes = [found[B], *(x for name, x in found.items() if "kept" in name), found[A]]
    return results.share(np.diff(slopes) > 0)


QUALITY = "2208.05516"
CLAIMS = (
    Claim(QUALITY, "No source is the more robust one under every shift", no_best_source),
    Claim(
        QUALITY,
        "The mixture is between its sources under 3 shifts, 2 points below the better",
        below_the_best(MIXED),
    ),
    Claim(QUALITY, "So is the mean of what two models say", below_the_best(ENSEMBLE)),
    Claim("", "Slopes of Gaussian sources, mixed and filtered, are within 0.02 of the closed form", near),
    Claim(QUALITY, "A filtered source comes nearer to the line of its filter the less is kept", towards),
)


def figures(numbers):
    """A panel for each shift: accuracy under it against accuracy without, on logit axes."""
    points = numbers.get("points")

    def draw(axes):
        axes[0, 0].figure.set_size_inches(3.4 * len(SHIFTS), 3.8)
        for panel, shift in zip(axes[0], SHIFTS, strict=True):
            for arm, found in points.items():
                x, y = np.array(found["plain"]), np.array(found[shift])
                trend = data.fit_trend(x, y, count=1000)
                ends = np.linspace(special.logit(x.min()), special.logit(x.max()), 20)
                line = panel.plot(
                    special.expit(ends), special.expit(trend["slope"] * ends + trend["intercept"])
                )
                panel.plot(x, y, "o", color=line[0].get_color(), label=arm)
            panel.set(xscale="logit", yscale="logit", title=shift, xlabel="accuracy on plain digits")
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_formatter(lambda x, place: f"{x:g}")
                axis.set_minor_formatter(lambda x, place: f"{x:g}" if x in (0.6, 0.7, 0.8) else "")
            panel.grid(alpha=0.3)
        axes[0, 0].set_ylabel("accuracy under the shift")
        axes[0, -1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))

    return {"": (draw, (1, len(SHIFTS)))} if points else {}


if __name__ == "__main__":
    results.main("data_mixtures", Config, run, CLAIMS, figures=figures, quick=QUICK)
