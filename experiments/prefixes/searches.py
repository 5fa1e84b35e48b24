"""Search by prefixes: all documents by the first numbers, the best by more; what is found and read."""

import numpy as np

from experiments.nesting import digits
from experiments.shared import results
from jaxembed import search

PLANS = {  # prefixes in turn, and how many documents the first ones hand on
    "full vectors": ((64,), ()),
    "prefix alone": ((8,), ()),
    "adaptive": ((8, 64), (50,)),
    "funnel": ((4, 8, 16, 64), (200, 100, 50)),
}


def measure(networks, labels, plans=None):
    """What each plan finds among the training digits for the test digits, and what it reads: a row each.

    Args:
        networks: {arm: vectors [N, S, 64]}.
        labels: int [N, S].
        plans: default all of PLANS.

    Returns:
        Rows with the accuracy of the nearest neighbour, the share of the ten nearest by full vectors that
        are found, and the bytes that are read for a query in float32.
    """
    rows, seeds, wanted = [], range(labels.shape[1]), np.moveaxis(labels, 1, 0)
    for arm, vectors in networks.items():
        known, asked = (np.moveaxis(x, 1, 0) for x in np.split(np.asarray(vectors), [-digits.HELD]))
        whole = _found(asked, known, "full vectors")
        for name in plans or PLANS:
            found = _found(asked, known, name)
            nearest = np.stack([wanted[s][found[s][:, 0]] for s in seeds])
            right = (nearest == wanted[:, -digits.HELD :]).mean(axis=1)
            same = (whole[..., None] == found[..., None, :]).any(axis=-1).mean(axis=(1, 2))
            row = {"arm": arm, "search": name, "bytes read": read(name, known.shape[1])}
            for label, values in (("accuracy", right), ("10 nearest by full vectors", same)):
                row[label], row[f"± {label}"] = results.spread(values)
            rows.append(row)
    return rows


def _found(asked, known, name):
    """Places int [S, B, 10] of what a plan finds, for each seed."""
    options = dict(zip(("sizes", "shortlists"), PLANS[name], strict=True))
    return np.stack([search.funnel(q, d, 10, **options)[1] for q, d in zip(asked, known, strict=True)])


def read(name, documents):
    """Bytes of float32 that a plan reads for one query: each stage reads its whole prefix."""
    sizes, shortlists = PLANS[name]
    return sum(4 * count * size for count, size in zip((documents, *shortlists), sizes, strict=True))
