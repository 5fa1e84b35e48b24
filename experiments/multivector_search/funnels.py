"""What has to be read: funnels of encodings, and fewer tokens for the exact scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.multivector_search import searches, tokens
from jaxembed import encoders, search, vectors

LAST = 100  # candidates that are scored exactly
RULES, KEPT = ("query", "document", "chance"), (0.25, 0.5, 0.75)  # who chooses tokens, and their shares
FLAT = 1e4  # temperature at which top-p keeps its share of the tokens
PLANS = ((20,), ()), ((5,), ()), ((5, 20), (0.1,)), ((2, 20), (0.1,)), ((2, 5, 20), (0.25, 0.08))


def measure(sets, params, scores):
    """Funnels: recall of its candidates and after exact scores, and megabytes that a query reads.

    A row is a plan: the repetitions of each stage and the shares of all documents that are handed on.
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


@functools.partial(jax.jit, static_argnames="rule")
def chosen(rule, p, temperature, query, documents, mask, real):
    """Which tokens stay, bool [n, S]: those near to the query's words, near to their own document, or any."""
    if rule == "chance":
        scores = jax.random.uniform(jax.random.key(0), real.shape)
    else:
        shape = len(documents), *query.shape[1:]
        words = (jnp.broadcast_to(query, shape), jnp.broadcast_to(mask, shape[:2]))
        scores = encoders.token_scores(documents, *(words if rule == "query" else (documents, real)))
    return encoders.top_p_mask(scores, p, temperature=temperature, where=real)


def pruned(sets, scores):
    """Pruned documents: how many of the ten best stay so where exact scores see fewer of their tokens."""
    order, rows = np.argsort(-scores, axis=1, kind="stable")[:, :LAST], []
    for rule, p, temperature in [(r, p, FLAT) for r in RULES for p in KEPT] + [("query", 0.95, 1.0)]:
        counts = []

        def score(queries, documents, mask, real, given=(rule, p, temperature), counts=counts):
            stay = chosen(*given, queries, documents, mask, real)
            counts.append((stay.sum(), real.sum()))
            return vectors.chamfer(queries, documents, mask, stay)

        index = {"score": score, "tokens": sets["tokens"], "offsets": sets["offsets"], "chunk": LAST}
        best = search.rerank(sets["queries"], sets["mask"], order, 10, **index)[1]
        kept, every = np.sum(counts, axis=0)
        name = f"{rule}, {p:.0%}" + ("" if temperature == FLAT else f" at temperature {temperature:g}")
        row = {"tokens by": name, "kept": float(kept / every)}
        rows.append(row | {"10-Recall@10": searches.found_share(best, order[:, :10])})
    return rows
