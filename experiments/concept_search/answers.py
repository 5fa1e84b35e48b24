"""What the tables say of the claims of both papers."""

import numpy as np

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
    """[S]: how far NeTI is below the final loss of textual inversion after half of its steps."""
    curve = np.array(t["curves"][NETI])
    return column(t, TI) - curve[:, max(curve.shape[1] // 2 - 1, 0)]


NETI_PAPER, CONES = "2305.15391", "2305.18993"
ALL = (
    Claim(
        NETI_PAPER,
        "Tokens by layer fit the concept better than one token: a lower held-out loss",
        lambda t: results.paired(column(t, TI) - column(t, XTI)),
    ),
    Claim(
        NETI_PAPER,
        "Tokens by time and layer (NeTI) fit it better than tokens by layer",
        lambda t: results.paired(column(t, XTI) - column(t, NETI)),
    ),
    Claim(
        NETI_PAPER,
        "NeTI is below the final loss of textual inversion after half of the steps",
        lambda t: results.paired(halfway(t)),
    ),
    Claim(
        NETI_PAPER,
        "The textual bypass lowers the held-out loss of NeTI",
        lambda t: results.paired(column(t, PLAIN) - column(t, NETI)),
    ),
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
    Claim(
        CONES,
        "States found without the text encoder (the slot's row and later) fit better than an inverted token",
        lambda t: results.paired(column(t, TI) - column(t, REST)),
    ),
    Claim(
        CONES,
        "Drawings from these states are judged to be the concept as often, 2 points less at most",
        lambda t: results.paired(column(t, REST, "digit") - column(t, TI, "digit"), margin=-0.02),
    ),
    Claim(
        CONES,
        "A step takes at most 70 % of the operations of a step of textual inversion",
        lambda t: results.holds(t["costs"][REST] <= 0.7 * t["costs"][TI], t["costs"][REST] / t["costs"][TI]),
    ),
    Claim(
        "",
        "The slot's row alone does not beat an inverted token: later rows hold the concept too",
        lambda t: results.paired(column(t, TI) - column(t, ONE), denied=True),
    ),
    Claim(
        "",
        "An inverted token keeps more of the asked styles than found states do",
        lambda t: results.paired(column(t, TI, "style") - column(t, REST, "style")),
    ),
    Claim(
        "",
        "Bounding the norms of found states keeps more of the asked styles",
        lambda t: results.paired(column(t, BOUND, "style") - column(t, REST, "style")),
    ),
)


def asked(claim):
    """A claim that a run on validation images does not ask."""
    return claim._replace(ours=lambda t: claim.ours(t) if "rows" in t else None)


CLAIMS = tuple(map(asked, ALL))
