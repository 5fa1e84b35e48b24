"""Does a guard that trains nothing find the words that name a concept, and keep a model from drawing it?

    python -m experiments.concept_guard                  # both parts
    python -m experiments.concept_guard --parts words    # detection on a published text encoder alone
    python -m experiments.concept_guard --quick          # fewer prompts, arms and seeds

Paper: SAFREE (arXiv:2410.12761). `make data` brings all-MiniLM-L6-v2 and WordNet. The small text-to-image
model, shared with drawings, concept_search and prompt_projection, is trained once, into --workdir, and then
read. About 4 minutes on 2 CPU cores beside that.
"""

import dataclasses
import pathlib
from typing import Literal

import numpy as np

from experiments.concept_guard import images, words
from experiments.shared import flags, inputs, plots, results, text_models
from experiments.shared.results import Claim, Result


@dataclasses.dataclass(frozen=True)
class Config:
    """Finds words that name animals, and erases one word of a text-to-image model."""

    parts: tuple[Literal["words", "images"], ...] = ("words", "images")
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    phrases: int = 17  # animals that span the concept, as many as in the paper's code
    prompts: int = 100  # of each seed, that name other animals
    workdir: pathlib.Path = pathlib.Path("runs/drawings")  # of the text-to-image model
    steps: int = 1500  # of its training
    sampling: int = 25  # steps of drawing an image
    scale: float = 2.0  # of guidance
    repeats: int = 6  # images of each prompt and seed: over 1,500 of other digits for each arm
    seeds: int = 5
    quick: bool = False  # 40 prompts, an image of each, five arms, two seeds
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"phrases": (2, 60), "prompts": (20, 10**4), "steps": (1, 10**6), "sampling": (5, 1000)}
        flags.check(self, limits | {"scale": (0, 20), "repeats": (1, 100), "seeds": (1, 100)})


QUICK = {"prompts": 40, "repeats": 1, "seeds": 2}
KEYS = ("erased drawn", "drawn by aliases", "others right", "style right")
DETECTED, DRAWN, TRIGGERS = "words that name an animal", "drawings", "triggers of the erased word"


def means(rows, by, keys):
    """One row for each value of ``by``: means over seeds and their standard deviations."""
    table = []
    for names in dict.fromkeys(tuple(r[b] for b in by) for r in rows):
        mine = [r for r in rows if tuple(r[b] for b in by) == names]
        row = dict(zip(by, names, strict=True))
        for key in keys:
            row[key], row[f"± {key}"] = results.spread([r[key] for r in mine])
        table.append(row)
    return table


def run(cfg):
    """The parts that are asked for."""
    tables, details = {}, {}
    if "words" in cfg.parts:
        details["curves"], details["detected"] = words.detected(cfg)
        tables[DETECTED] = means(
            details["detected"], ("basis", "rule"), ("alpha", "precision", "recall", "F1")
        )
    if "images" in cfg.parts:
        details["drawn"], tables[TRIGGERS], details["gallery"] = images.drawn(cfg)
        tables[DRAWN] = means(details["drawn"], ("arm",), KEYS)
    return Result(tables, details)


def detection(key, basis=words.PHRASES):
    """Asks whether a number of the chosen alpha is 0.7 or more."""

    def ours(t):
        found = [r[key] for r in t.get("detected", ()) if r["basis"] == basis and r["rule"][0] == "c"]
        return results.paired(np.array(found) - 0.7) if found else None

    return ours


def column(t, arm, key):
    """[S]: a number of an arm by seed."""
    return np.array([r[key] for r in t["drawn"] if r["arm"] == arm])


def compared(high, low, key, margin=0.0, factor=1.0):
    """Asks whether ``factor`` times a number of one arm is above that of another by a margin."""

    def ours(t):
        if not {high, low} <= {r["arm"] for r in t.get("drawn", ()) if key in r}:
            return None
        return results.paired(factor * column(t, high, key) - column(t, low, key), margin=margin)

    return ours


def arm(basis, rows, rest):
    return f"{basis}, {rows}, {rest}"


SAFREE, ERASED, ALIAS, OTHERS = "2410.12761", *KEYS[:3]
FULL = arm(images.DIFFERENCE, images.ENDS, "validated steps, negative prompt")
SPANNED = arm(images.SPAN, images.ENDS, "validated steps, negative prompt")
ALWAYS, LATER = (arm(images.SPAN, images.ENDS, rest) for rest in ("all steps", "validated steps"))
CLAIMS = (
    Claim(
        SAFREE,
        "Triggers are found: recall of 0.7 or more for other animals",
        detection("recall"),
    ),
    Claim(SAFREE, "Triggers are right: precision of 0.7 or more", detection("precision")),
    Claim(
        SAFREE,
        "With SAFREE the erased digit is drawn at most half as often as without a guard",
        compared(images.NONE, SPANNED, ERASED, factor=0.5),
    ),
    Claim(
        SAFREE,
        "SAFREE draws the erased digit less often than a negative prompt alone, by 10 points or more",
        compared(images.NEGATIVE, SPANNED, ERASED, margin=0.1),
    ),
    Claim(
        SAFREE,
        "Asked for by an alias that no phrase names, it is drawn at most half as often as without a guard",
        compared(images.NONE, SPANNED, ALIAS, factor=0.5),
    ),
    Claim(
        "",
        "Filtered at all steps, it is drawn at most half as often by its aliases",
        compared(images.NONE, ALWAYS, ALIAS, factor=0.5),
    ),
    Claim(
        SAFREE,
        "SAFREE keeps other digits: 3 points are lost at most",
        compared(SPANNED, images.NONE, OTHERS, margin=-0.03),
    ),
    Claim(
        SAFREE,
        "Self-validation keeps other digits better than filtering all steps, by 2 points or more",
        compared(LATER, ALWAYS, OTHERS, margin=0.02),
    ),
    Claim(
        "",
        "The padding holds the word too: filtering it erases more than filtering the triggers alone",
        compared(arm(images.SPAN, images.ROWS, "all steps"), ALWAYS, ERASED),
    ),
    Claim(
        "",
        "A basis of differences from other digits keeps other digits better than the span of the phrases",
        compared(FULL, SPANNED, OTHERS),
    ),
)


def draw_words(axes, numbers):
    """Precision against recall of both bases, a point for each alpha, means over seeds."""
    for basis in (words.PHRASES, words.CENTRED):
        mine = [r for r in numbers["curves"] if r["basis"] == basis and r["part"] == "test"]
        points = means(mine, ("alpha",), ("precision", "recall"))
        line = axes.plot([p["recall"] for p in points], [p["precision"] for p in points], "o-", label=basis)
        for p in points:
            side = (6, 4) if basis == words.PHRASES else (-6, -12)
            given = {"xytext": side, "textcoords": "offset points", "color": line[0].get_color()}
            axes.annotate(f"{p['alpha']:g}", (p["recall"], p["precision"]), fontsize=8, **given)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.03), ylim=(0, 1.03))
    axes.set_title("words that name an animal, by alpha")
    plots.legend(axes, loc="lower left")


def draw_gallery(axes, numbers):
    """A row of drawings for each arm: seven of the erased digit, then one of each other."""
    rows = {"real, held out": images.real(), **numbers["gallery"]}
    axes[0, 0].figure.set_size_inches(13, 0.62 * len(rows) + 0.7)
    for row, (name, drawn) in zip(axes, rows.items(), strict=True):
        grid = np.pad(np.array(drawn), ((0, 0), (0, 0), (0, 1)), constant_values=0)
        grid = grid.transpose(1, 0, 2).reshape(8, -1)
        row[0].imshow(grid, cmap="gray_r", vmin=-1, vmax=1)
        row[0].set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    axes[0, 0].set_title(
        "asked for three in seven styles, by two aliases, then for each other digit", fontsize=9
    )


def figures(numbers):
    """Both parts, those that ran."""
    found = {}
    if "curves" in numbers:
        found["words"] = lambda axes: draw_words(axes, numbers)
    if "gallery" in numbers:
        found["drawings"] = (lambda axes: draw_gallery(axes, numbers), (len(numbers["gallery"]) + 1, 1))
    return found


def look(cfg):
    """Refuses a run whose data are missing."""
    if "words" in cfg.parts:
        text_models.find_model(cfg.model)
        inputs.sets("wordnet")
    if "images" in cfg.parts:
        inputs.installed("sklearn")


if __name__ == "__main__":
    results.main("concept_guard", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
