"""What the tables say of the claims of both papers."""

import numpy as np

from experiments.concept_search.costs import BESIDE, EACH
from experiments.concept_search.methods import BOUND, NETI, ONE, PLAIN, REST, TI, XTI
from experiments.concept_search.pictures import CUT
from experiments.shared import results
from experiments.shared.results import Claim


def column(t, arm, key="held-out"):
    return np.array([r[key] for r in t["rows"] if r["arm"] == arm])


def cuts(t, key):
    """[S, n]: differences of a number between neighbouring truncations of NeTI, from few units to all."""
    names = [row["arm"] for row in t[CUT]]
    return np.diff(np.stack([column(t, name, key) for name in names], axis=1), axis=1)


def halfway(t):
    """Asks whether NeTI is below the final loss of textual inversion after half of its steps."""
    curve = np.array(t["curves"][NETI])
    return results.paired(column(t, TI) - curve[:, max(curve.shape[1] // 2 - 1, 0)])


def reached(t):
    """[S]: the share of its steps after which ConES is at the final loss of textual inversion; 1 if never."""
    below = np.array(t["curves"][REST]) <= column(t, TI)[:, None]
    return np.where(below.any(axis=1), below.argmax(axis=1) + 1, below.shape[1]) / below.shape[1]


def share(t, size, key):
    """What a step of ConES takes of one of textual inversion that encodes a prompt for each image."""
    return [row[key] for row in t[BESIDE] if row["textual inversion encodes"] == EACH][size]


def at_most(size, key):
    """Asks whether that is 70 % at most, with the text encoder of this model (0) or the larger one (1)."""
    return lambda t: results.holds(share(t, size, key) <= 0.7, share(t, size, key))


def lower(arm, than, key="held-out", **options):
    """Asks whether a number of one arm is below that of another."""
    return lambda t: results.paired(column(t, than, key) - column(t, arm, key), **options)


def early(key):
    """Asks whether ConES is at the final loss of textual inversion after half of what that takes at most."""
    return lambda t: results.paired(0.5 - reached(t) * share(t, 0, key))


NETI_PAPER, CONES = "2305.15391", "2305.18993"
ALL = (
    Claim(NETI_PAPER, "Tokens by layer fit the concept better than one token: less loss", lower(XTI, TI)),
    Claim(NETI_PAPER, "Tokens by time and layer (NeTI) fit it better than tokens by layer", lower(NETI, XTI)),
    Claim(NETI_PAPER, "NeTI is below the final loss of textual inversion after half of the steps", halfway),
    Claim(NETI_PAPER, "The textual bypass lowers the held-out loss of NeTI", lower(NETI, PLAIN)),
    Claim(
        NETI_PAPER,
        "More hidden units are more faithful: each step from few to all lowers the held-out loss",
        lambda t: results.paired(-cuts(t, "held-out")),
    ),
    Claim(
        NETI_PAPER,
        "Fewer hidden units are easier to edit: each step from all to few draws more asked styles",
        lambda t: results.paired(-cuts(t, "style")),
    ),
    Claim(CONES, "States found without the text encoder fit better than textual inversion", lower(REST, TI)),
    Claim(
        CONES,
        "Drawings from these states are judged to be the concept as often, 2 points less at most",
        lower(TI, REST, "digit", margin=-0.02),
    ),
    Claim(CONES, "ConES is at textual inversion's final loss by half of its operations", early("operations")),
    Claim(CONES, "ConES is at textual inversion's final loss by half of its time", early("time")),
    Claim(CONES, "A step of ConES: 70 % of textual inversion's operations at most", at_most(0, "operations")),
    Claim(CONES, "A step of ConES: 70 % of textual inversion's time at most", at_most(0, "time")),
    Claim(CONES, "ConES with an encoder of 6 layers: 70 % of operations at most", at_most(1, "operations")),
    Claim(CONES, "ConES with an encoder of 6 layers: 70 % of the time at most", at_most(1, "time")),
    Claim("", "The slot's row alone does not beat an inverted token", lower(ONE, TI, denied=True)),
    Claim("", "An inverted token keeps more of the asked styles than states do", lower(REST, TI, "style")),
    Claim("", "Bounding the norms of states keeps more of the asked styles", lower(REST, BOUND, "style")),
)


def asked(claim):
    """A claim that a run on validation images does not ask."""
    return claim._replace(ours=lambda t: claim.ours(t) if "rows" in t else None)


CLAIMS = tuple(map(asked, ALL))
