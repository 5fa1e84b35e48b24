"""How a try ends: right, told in one line, or one of the ways that must not happen."""

import collections
import os

import jax
import numpy as np

RIGHT, TOLD = "right", "told in one line"
SILENT, NAMELESS, LOST = "silent", "nameless", "lost"
COLUMNS = (RIGHT, TOLD, SILENT, NAMELESS, LOST)


def tried(call, same):
    """Calls once; ``same(result)`` says whether what came back is what was kept.

    An error is told when it is one line with a path and, behind a semicolon, what to do.
    """
    try:
        found = call()
    except (ValueError, OSError) as error:
        text = str(error)
        return TOLD if os.sep in text and "; " in text and "\n" not in text else NAMELESS
    except Exception:
        return NAMELESS
    return RIGHT if same(found) else SILENT


def row(campaign, ends):
    """One row of the table: how often each end came."""
    counts = collections.Counter(ends)
    return {"campaign": campaign, "tries": sum(counts.values())} | {end: counts[end] for end in COLUMNS}


def equal(one, other):
    """Whether two trees hold the same bits."""
    ours, theirs = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(ours) == len(theirs) and all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True)
    )
