"""Funnels: the first repetitions of all encodings, more of the best, then exact scores, and what is read."""

import jax.numpy as jnp
import numpy as np

from experiments.multivector_search import searches, tokens
from jaxembed import search, vectors

LAST = 100  # candidates that are scored exactly
PLANS = ((20,), ()), ((5,), ()), ((5, 20), (0.1,)), ((2, 20), (0.1,)), ((2, 5, 20), (0.25, 0.08))


def measure(sets, params, scores):
    """A row for each plan: recall of its candidates and after exact scores, and megabytes that a query reads.

    A plan is the repetitions of each stage and the shares of all documents that are handed on.
    """
    documents, rows = jnp.asarray(tokens.encode(sets, params)[1]), []
    ten = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    last, held = min(LAST, len(documents)), np.diff(sets["offsets"]) * sets["tokens"][0].nbytes
    for stages, shares in PLANS:
        sizes = [vectors.encoding_length(vectors.truncate_fde(params, repetitions=r)) for r in stages]
        handed = [max(last, round(share * len(documents))) for share in shares]

        def find(queries, mask, size, sizes=sizes, handed=handed):
            given = vectors.encode_queries(params, queries, mask), documents, size
            return search.funnel(*given, sizes=sizes, shortlists=handed, normalise=False)[1]

        places = searches.nearest(find, sets, last)
        exact = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")[:, :10]
        read = sum(4e-6 * n * x for n, x in zip((len(documents), *handed), sizes, strict=True))
        row = {"repetitions": ", then ".join(map(str, stages)), "handed on": ", ".join(map(str, handed))}
        row |= {"encodings, MB": read, "tokens, MB": float(held[places].sum(axis=1).mean()) / 1e6}
        row[f"10-Recall@{last}"] = searches.found_share(places, ten)
        best = searches.found_share(np.take_along_axis(places, exact, axis=1), ten)
        rows.append(row | {"10-Recall@10, exact scores": best})
    return rows
