"""What the tables say of the paper's claims, and the picture."""

import numpy as np

from experiments.shared import plots, results
from experiments.shared.results import Claim

HAND, PROMPT, CONES = "the name as it is", "prompt tuning", "ConES"
MOMENTS = "ConES from the moments of names"
ALIGNER, TUNED = "the aligner tuned, names as they are", "the aligner tuned after ConES"
ARMS = (HAND, PROMPT, CONES, MOMENTS, ALIGNER, TUNED)
PAPER = "2305.18993"


def column(t, arm, shots, key="unseen"):
    """[S]: a number of an arm by seed."""
    return np.array([r[key] for r in t["rows"] if r["arm"] == arm and r["shots"] == shots])


def above(first, second, margin, key="unseen"):
    """Asks whether the first arm is above the second by a margin, for each number of shots from 4 on."""

    def ours(t):
        if "rows" not in t:
            return None
        many = sorted({r["shots"] for r in t["rows"] if r["shots"] >= 4})
        gaps = [column(t, first, n, key) - column(t, second, n, key) for n in many]
        return results.paired(np.stack(gaps, axis=1), margin=margin) if many else None

    return ours


def cheaper(t):
    if "costs" not in t:
        return None
    share = t["costs"][CONES] / t["costs"][PROMPT]
    return results.holds(share <= 0.7, share)


CLAIMS = (
    Claim(
        PAPER,
        "With 4 images and more, ConES tells unseen classes 3 points better than their names",
        above(CONES, HAND, 0.03),
    ),
    Claim(
        PAPER,
        "With 4 images and more, ConES tells unseen classes 3 points better than prompt tuning",
        above(CONES, PROMPT, 0.03),
    ),
    Claim(
        PAPER,
        "Tuning the aligner after ConES tells them a point better than tuning it with their names",
        above(TUNED, ALIGNER, 0.01),
    ),
    Claim(
        PAPER,
        "ConES finds cells of unseen classes on canvases 3 points better than their names",
        above(CONES, HAND, 0.03, "cells"),
    ),
    Claim(PAPER, "A step of ConES takes at most 70 % of the operations of prompt tuning", cheaper),
    Claim(
        "",
        "ConES keeps the known classes: 5 points are lost at most",
        above(CONES, HAND, -0.05, "known"),
    ),
)


def figures(t):
    """Accuracy by shots: unseen classes, known classes, cells."""
    if "rows" not in t:
        return {}

    def draw(axes):
        axes[0, 0].figure.set_size_inches(13, 4.2)
        for panel, key in zip(axes[0], ("unseen", "known", "cells"), strict=True):
            for arm in ARMS:
                mine = [r for r in t["accuracy"] if r["arm"] == arm]
                bars = [r[f"± {key}"] or 0 for r in mine]
                panel.errorbar(
                    [r["shots"] for r in mine], [r[key] for r in mine], bars, marker="o", label=arm
                )
            panel.set(xscale="log", xlabel="images of each unseen digit", ylim=(0, 1.03))
            panel.set_xticks([r["shots"] for r in mine], [r["shots"] for r in mine])
            panel.set_xticks([], minor=True)
        axes[0, 0].set_ylabel("unseen digits, accuracy among ten")
        axes[0, 1].set_ylabel("known digits, accuracy among ten")
        axes[0, 2].set_ylabel("cells of unseen digits, average precision")
        plots.legend(axes[0, 1], loc="lower right")

    return {"": (draw, (1, 3))}
