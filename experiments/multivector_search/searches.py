"""Ways to find the documents of largest Chamfer score, and how many candidates each of them needs."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.multivector_search import tokens
from jaxembed import ragged, search, vectors
from jaxembed.arrays import masked_mean, unit

SIZES = {"(20,3,8)": (3, 8), "(20,4,8)": (4, 8), "(20,5,8)": (5, 8), "(20,5,16)": (5, 16)}
WHOLE = "(20,5,16)"  # repetitions, planes, projected width
NEAREST_TOKENS = "single-vector heuristic"
NEIGHBOURS = 200  # tokens that each query token takes in the single-vector heuristic
BLOCK = 50  # queries per call


def init(seed, width, planes, projected, **options):
    """``vectors.init_fde`` with 20 repetitions."""
    return vectors.init_fde(jax.random.key(seed), width, planes=planes, projected=projected, **options)


# Searches: functions (queries, mask, W) to places int [B, W]


def by_encoding(params, documents, queries, mask, size):
    return search.top_k(vectors.encode_queries(params, queries, mask), documents, size)[1]


def by_product_codes(params, books, codes, queries, mask, size):
    tables = vectors.product_tables(books, vectors.encode_queries(params, queries, mask))
    return search.scan_top_k(vectors.product_scores, tables, codes, size)[1]


def by_mean(documents, queries, mask, size):
    """Single vectors: raw means are the encoding with no planes, means of length 1 compare by the cosine."""
    return search.top_k(masked_mean(queries, mask), documents, size)[1]


def by_tokens(sets, queries, mask, size):
    """The single-vector heuristic: documents of the nearest tokens of each query token."""
    most = min(NEIGHBOURS, sets["tokens"].shape[0])
    given = sets["tokens"], sets["offsets"], queries, mask, size
    return search.single_vector_candidates(*given, neighbours=most)


def means_of(sets):
    """The mean token of every document, [N, D]."""
    return jnp.asarray(ragged.map_sets(masked_mean, sets["tokens"], sets["offsets"]))


def quantised(params, documents, *, sample, iterations):
    """Searches product codes, 256 centres for 8 numbers; returns the search and the bytes of a document."""
    some = documents[np.random.default_rng(0).permutation(len(documents))[:sample]]
    books = vectors.fit_product(jax.random.key(0), some, group=8, iterations=iterations)
    codes = vectors.encode_product(books, documents)
    return functools.partial(by_product_codes, params, books, codes), codes.shape[1]


def searches(sets, drawn, prefixes=(), **quantiser):
    """All ways to search one collection.

    ``drawn`` is {name: params of ``vectors.init_fde``}. Of the names in ``prefixes`` the first 5 and 10
    repetitions are searched too; the encodings of the first of them are also searched as product codes.
    Returns {name: (numbers that are compared or None, bytes of a document, the search)}.
    """
    found, width = {}, sets["queries"].shape[2]
    for name, params in drawn.items():
        documents = tokens.encode(sets, params)[1]
        kept = {name: params}
        if name in prefixes:
            small = {r: vectors.truncate_fde(params, repetitions=r) for r in (5, 10)}
            kept = {name.replace("(20,", f"({r},"): p for r, p in small.items()} | kept
        for label, p in kept.items():
            size = vectors.encoding_length(p)
            found[label] = size, 4 * size, functools.partial(by_encoding, p, documents[:, :size])
        if name in prefixes[:1]:
            find, size = quantised(params, documents, **quantiser)
            found[f"{name} PQ-256-8"] = documents.shape[1], size, find
    means = means_of(sets)
    found["mean pooling, raw"] = width, 4 * width, functools.partial(by_mean, means)
    found["mean pooling, unit"] = width, 4 * width, functools.partial(by_mean, unit(means))
    size = round(2 * width * sets["tokens"].shape[0] / tokens.count(sets))
    return found | {NEAREST_TOKENS: (None, size, functools.partial(by_tokens, sets))}


# What they find


def nearest(find, sets, most):
    """Runs a search block by block: places int [B, W]."""
    asked, size = len(sets["queries"]), min(most, tokens.count(sets))
    parts = [slice(start, start + BLOCK) for start in range(0, asked, BLOCK)]
    return np.concatenate([np.asarray(find(sets["queries"][s], sets["mask"][s], size)) for s in parts])


def ranks(places, gold):
    """The rank (from 1) of each query's exact neighbour [B] among its candidates [B, W], or inf."""
    hit = np.asarray(places) == gold[:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)


def needed(found, share):
    """How many candidates hold the exact neighbour of that share of the queries; None: more than were asked.

    >>> print(needed(np.array([1, 5, 2, np.inf]), 0.75), needed(np.array([1, 5, 2, np.inf]), 0.8))
    5 None
    """
    rank = np.sort(found)[int(np.ceil(share * len(found))) - 1]
    return int(rank) if np.isfinite(rank) else None


def found_share(places, gold):
    """Which share of the exact neighbours is among the candidates: int [B, W] and [B, J] -> float."""
    return float((gold[:, :, None] == np.asarray(places)[:, None]).any(axis=2).mean())


def measure(sets, ways, scores, most):
    """How well each search finds the neighbours of exact scores [B, N] among ``most``, one row each."""
    ten, rows = np.argsort(-scores, axis=1, kind="stable")[:, :10], []
    for name, (numbers, size, find) in ways.items():
        places = nearest(find, sets, most)
        found = ranks(places, ten[:, 0])
        row = {"search": name, "numbers": numbers, "bytes": size, "1-Recall@1": float((found == 1).mean())}
        row |= {
            f"10-Recall@{k}": found_share(places[:, :k], ten) for k in (10, 100, 1000) if k <= places.shape[1]
        }
        row |= {f"candidates for {p} %": needed(found, p / 100) for p in (80, 90, 95)}
        drawn = np.unique(np.geomspace(1, places.shape[1], 30).round().astype(int)).tolist()
        rows.append(row | {"curve": [(w, float((found <= w).mean())) for w in drawn]})
    return rows


def timed(sets, ways, scores, widths, most):
    """Search, then exact scores of W in ``widths`` candidates, with and without ball carving.

    Recall and milliseconds of the first ``most`` queries, the faster of two runs.
    """
    queries, mask, rows = sets["queries"][:most], sets["mask"][:most], []
    ten = np.argsort(-scores[:most], axis=1, kind="stable")[:, :10]
    carves = {"": None, ", carved": vectors.ball_carve}
    exact = {"score": vectors.chamfer, "tokens": sets["tokens"], "offsets": sets["offsets"]}
    for name, (_, _, find) in ways.items():
        for size, (label, carve) in [(w, c) for w in widths for c in carves.items()]:
            given = {**exact, "candidates": size, "carve": carve}
            run = functools.partial(search.retrieve, find, queries, mask, 10, **given)
            places, spent = run()[1], []  # compiles
            for _ in range(2):
                began = time.perf_counter()
                run()
                spent.append(1000 * (time.perf_counter() - began) / len(queries))
            row = {"search": name + label, "exactly scored": size, "10-Recall@10": found_share(places, ten)}
            rows.append(row | {"ms/query": min(spent)})
    return rows
