"""The pictures of this experiment: what probes read of words, and drawings after LoRA."""

import numpy as np

from experiments.prompt_projection import customised
from experiments.prompt_projection.prompts import NONE, READ, SPECTRUM, WORDS
from experiments.shared import plots


def draw_words(axes, numbers):
    """Both nouns against the strength, the other arms, and the directions of padded prompts."""
    axes[0, 0].figure.set_size_inches(14, 4.2)
    left, middle, right = axes[0]
    arms = {row["arm"]: row for row in numbers[READ]}
    strengths = numbers["config"]["strengths"]
    swept = [arms[NONE], *(arms[f"{WORDS} {s:g}"] for s in strengths)]
    for key in ("undesired", "other"):
        bars = [row[f"± {key}"] or 0 for row in swept]
        left.errorbar([0, *strengths], [row[key] for row in swept], bars, marker="o", label=f"{key} noun")
    left.set(xlabel="strength of the projection", ylabel="named by a linear probe", ylim=(0, 1.05))
    plots.legend(left, loc="lower left")
    for i, key in enumerate(("undesired", "other")):
        places = np.arange(len(arms)) + 0.35 * (i - 0.5)
        middle.barh(places, [row[key] for row in arms.values()], 0.33, label=f"{key} noun")
    middle.set(yticks=range(len(arms)), xlabel="named by a linear probe")
    middle.set_yticklabels(list(arms), fontsize=8)
    middle.invert_yaxis()
    rows = numbers[SPECTRUM]
    numbered = [r["direction"] for r in rows]
    for key in ("padding", "words"):
        right.plot([r["direction"] for r in rows], [r[key] for r in rows], "o-", label=f"|cosine| with {key}")
    right.bar(numbered, [r["energy"] for r in rows], 0.5, alpha=0.3, label="energy")
    right.set(xlabel="singular direction of a padded prompt", ylim=(0, 1.05))
    plots.legend(right, loc="upper right")


def figures(numbers):
    """Both parts, those that ran."""
    found = {}
    if READ in numbers:
        found["words"] = (lambda axes: draw_words(axes, numbers), (1, 3))
    if "gallery" in numbers:
        panels = (len(numbers["gallery"]) + 1, 1)
        found["drawings"] = (lambda axes: customised.gallery(axes, numbers), panels)
    return found
