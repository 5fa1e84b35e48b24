"""Ways to find the documents of largest Chamfer score, and how many candidates each of them needs."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import plots, token_sets
from jaxembed import search, vectors
from jaxembed.arrays import masked_mean, unit

NEIGHBOURS = 200  # tokens that each query token takes in the single-vector heuristic
BLOCK = 50  # queries per call


def init(seed, width, planes, projected, **options):
    """``vectors.init_fde`` with 20 repetitions."""
    return vectors.init_fde(jax.random.key(seed), width, planes=planes, projected=projected, **options)


def ranks(ids, gold):
    """The place (from 1) of each query's exact neighbour among its candidates; inf where it is missing.

    Args:
        ids: int [B, W], candidates in order.
        gold: int [B].
    """
    hit = np.asarray(ids) == gold[:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)


def needed(places, share):
    """How many candidates hold the exact neighbour of that share of the queries; None: more than were asked.

    >>> print(needed(np.array([1, 5, 2, np.inf]), 0.75), needed(np.array([1, 5, 2, np.inf]), 0.8))
    5 None

    Args:
        places: [B], from ``ranks``.
        share: within 0..1.
    """
    place = np.sort(places)[int(np.ceil(share * len(places))) - 1]
    return int(place) if np.isfinite(place) else None


def found_share(ids, gold):
    """Which share of the exact neighbours stands among the candidates: int [B, W] and [B, J] -> float."""
    return float((gold[:, :, None] == np.asarray(ids)[:, None]).any(axis=2).mean())


def by_encoding(params, documents, queries, mask, size):
    return search.top_k(vectors.encode_queries(params, queries, mask), documents, size)


def by_codes(params, books, codes, queries, mask, size):
    tables = vectors.product_tables(books, vectors.encode_queries(params, queries, mask))
    return search.scan_top_k(vectors.product_scores, tables, codes, size)


def by_mean(documents, queries, mask, size):
    """Single vectors: raw means are the encoding with no planes, means of length 1 compare by the cosine."""
    return search.top_k(masked_mean(queries, mask), documents, size)


def by_tokens(sets, queries, mask, size):
    """The single-vector heuristic: documents of the nearest tokens of each query token."""
    neighbours = min(NEIGHBOURS, sets.tokens.shape[0])
    found = search.single_vector_candidates(
        sets.tokens, sets.offsets, queries, mask, size, neighbours=neighbours
    )
    return None, found


def quantised(params, documents, *, sample, iterations):
    """Searches codes of 256 centres for groups of 8 numbers; returns the search and the bytes of a code."""
    some = documents[np.random.default_rng(0).permutation(len(documents))[:sample]]
    books = vectors.fit_product(jax.random.key(0), some, group=8, iterations=iterations)
    codes = vectors.encode_product(books, documents)
    return functools.partial(by_codes, params, books, codes), codes.shape[1]


def searches(sets, drawn, prefixes=(), **quantiser):
    """All ways to search one collection.

    Args:
        sets: ``token_sets.Sets``.
        drawn: {name: params of ``vectors.init_fde``}.
        prefixes: names in ``drawn`` of which the first 5 and 10 repetitions are searched too; the encodings
            of the first of them are also searched as codes.
        **quantiser: sample and iterations of ``quantised``.

    Returns:
        {name: (numbers that are compared or None, bytes of a document, function (queries, mask, W) to
        (scores, places int [B, W]))}.
    """
    found, width = {}, sets.queries.shape[2]
    for name, params in drawn.items():
        documents = token_sets.encode(sets, params)[1]
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
    means = jnp.asarray(sets.map(masked_mean))
    found["mean pooling, raw"] = width, 4 * width, functools.partial(by_mean, means)
    found["mean pooling, unit"] = width, 4 * width, functools.partial(by_mean, unit(means))
    size = round(2 * width * sets.tokens.shape[0] / len(sets))
    return found | {"single-vector heuristic": (None, size, functools.partial(by_tokens, sets))}


def nearest(find, sets, most):
    """Runs a search block by block: places int [B, W]."""
    count, size = len(sets.queries), min(most, len(sets))
    parts = [slice(start, start + BLOCK) for start in range(0, count, BLOCK)]
    return np.concatenate([np.asarray(find(sets.queries[s], sets.mask[s], size)[1]) for s in parts])


def measure(sets, ways, scores, most):
    """How well each search finds the exact neighbours, and how many candidates it needs: one row each.

    Args:
        sets: ``token_sets.Sets``.
        ways: from ``searches``.
        scores: exact scores [B, N].
        most: candidates that are asked for.
    """
    ten, rows = np.argsort(-scores, axis=1, kind="stable")[:, :10], []
    for name, (numbers, size, find) in ways.items():
        ids = nearest(find, sets, most)
        places = ranks(ids, ten[:, 0])
        row = {"search": name, "numbers": numbers, "bytes": size, "1-Recall@1": float((places == 1).mean())}
        row |= {f"10-Recall@{k}": found_share(ids[:, :k], ten) for k in (10, 100)}
        row |= {f"for {p}%": needed(places, p / 100) for p in (80, 90, 95)}
        drawn = np.unique(np.geomspace(1, ids.shape[1], 30).round().astype(int)).tolist()
        rows.append(row | {"curve": [(w, float((places <= w).mean())) for w in drawn]})
    return rows


def timed(sets, ways, scores, widths, count):
    """Search, then exact scores of W candidates, with and without ball carving: recall and
    milliseconds, the faster of two runs.

    Args:
        sets: ``token_sets.Sets``.
        ways: those of ``searches`` that are measured.
        scores: exact scores [B, N].
        widths: the numbers W.
        count: queries that are timed.
    """
    queries, mask, rows = sets.queries[:count], sets.mask[:count], []
    ten = np.argsort(-scores[:count], axis=1, kind="stable")[:, :10]
    carves = {"": None, ", carved": vectors.ball_carve}
    for name, (_, _, find) in ways.items():
        for size, (label, carve) in [(w, c) for w in widths for c in carves.items()]:
            given = find, vectors.chamfer, sets.tokens, sets.offsets, queries, mask, 10
            run = functools.partial(search.retrieve, *given, candidates=size, carve=carve)
            ids, spent = run()[1], []  # compiles
            for _ in range(2):
                began = time.perf_counter()
                run()
                spent.append(1000 * (time.perf_counter() - began) / len(queries))
            row = {"search": name + label, "exactly scored": size, "10-Recall@10": found_share(ids, ten)}
            rows.append(row | {"ms/query": min(spent)})
    return rows


def picture(numbers):
    """What draws saved results of texts, or None."""
    found = numbers.get("text")
    return found and functools.partial(draw, rows=found["searches"], times=found["times"])


def draw(axes, rows, times):
    """Draws recall against size, recall against candidates, and recall against time, side by side."""
    figure = axes.figure
    axes.remove()
    figure.set_size_inches(18, 5)
    left, middle, right = figure.subplots(1, 3)
    colors = {row["search"]: f"C{n}" for n, row in enumerate(rows)}
    for (n, row), marker in zip(enumerate(rows), "osD^v<>PX*hdp8os", strict=False):
        style = {"label": row["search"], "color": colors[row["search"]], "ls": "-" if n < 10 else "--"}
        if row["numbers"] is not None:
            left.plot(row["numbers"], row["10-Recall@100"], marker, **style | {"ls": ""})
        if not row["search"].startswith(("(5,", "(10,")):
            middle.plot(*zip(*row["curve"], strict=True), **style)
    for name in dict.fromkeys(row["search"] for row in times):
        some = [row for row in times if row["search"] == name]
        line = [[row[key] for row in some] for key in ("ms/query", "10-Recall@10")]
        style = {"color": colors[name.removesuffix(", carved")], "ls": "--" if "carved" in name else "-"}
        right.plot(*line, marker="o", label=name, **style)
    left.set(xscale="log", xlabel="numbers that are compared", ylabel="10-Recall@100", title="Size")
    middle.set(xscale="log", xlabel="candidates", ylabel="1-Recall@candidates", title="Candidates")
    right.set(xscale="log", xlabel="ms per query, exact scores included", ylabel="10-Recall@10", title="Time")
    for panel in (left, middle, right):
        panel.grid(alpha=0.3)
        plots.legend(panel, fontsize=7, loc="best")
    left.get_legend().set_title("FDE (repetitions, planes, projected)", {"size": 7})
