"""Can one vector per set of token vectors stand in for late interaction when candidates are searched?

    python -m experiments.multivector_search                      # generated tokens, then the docstrings here
    python -m experiments.multivector_search --documents 15000    # all functions
    python -m experiments.multivector_search --beir path/to/set   # judged texts: nDCG@10 and Recall@100

Papers: MUVERA (arXiv:2405.19504); tokens are pruned as in SliME (arXiv:2406.08487). About 5 minutes on 2 CPU
cores; --beir with 1,400 abstracts takes 3. `make data` brings the text encoder, all-MiniLM-L6-v2.
"""

import dataclasses
import functools
import pathlib
from typing import Literal

import numpy as np

from experiments.multivector_search import funnels, judged, pictures, searches, tokens
from experiments.multivector_search.searches import NEAREST_TOKENS, SIZES, WHOLE
from experiments.shared import flags, results, text_models
from jaxembed import data, vectors
from jaxembed.arrays import unit


@dataclasses.dataclass(frozen=True)
class Config:
    """Compares searches by fixed dimensional encodings with the exact Chamfer score and with older ways."""

    parts: tuple[Literal["generated", "text"], ...] = ("generated", "text")
    beir: pathlib.Path | None = None  # a folder of judged texts, in place of the parts
    split: str = "test"  # of its judgments
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    documents: int = 4000  # functions whose docstrings and code are the texts
    queries: int = 200
    length: int = 64  # tokens of a document
    generated: int = 2000  # generated documents
    seeds: int = 3  # of the generated tokens and their encodings
    candidates: int = 1000  # most that a search is asked for
    sample: int = 10_000  # encodings that the product quantiser is fitted on, at most all documents
    iterations: int = 10  # of its k-means
    scored: tuple[int, ...] = (10, 50, 200)  # candidates that are scored exactly where time is measured
    timed: int = 50  # queries that are timed with the exact score after each search
    quick: bool = False  # 300 texts, 500 generated documents, one seed
    workdir: pathlib.Path = pathlib.Path("runs/multivector_search")
    results: pathlib.Path | None = None  # folder of the numbers; default: beside this file

    def __post_init__(self):
        limits = {"documents": (256, 10**7), "queries": (1, 10**6), "length": (3, 512), "seeds": (1, 100)}
        limits |= {"candidates": (10, 10**6), "timed": (1, 10**6), "generated": (100, 10**6)}
        limits |= {"scored": (10, 10**6), "sample": (256, 10**7), "iterations": (1, 1000)}
        flags.check(self, limits)
        others = ("parts", "documents", "queries", "length", "generated", "seeds", "candidates", "sample")
        flags.exclude(self, "beir", (*others, "iterations", "scored", "timed", "quick"))


QUICK = {"documents": 300, "queries": 50, "generated": 500, "seeds": 1, "iterations": 2, "timed": 10}
QUICK |= {"scored": (10, 100)}
SHIFTS, FINAL = (0, 1, 2), (2560, 10_240)  # lengths of the common direction, and of sketched (20,5,64)
QUERY_LENGTH = 32  # tokens at which queries are cut


# Generated tokens


def one_draw(cfg, shift, seed):
    """Of one draw of tokens: 1-Recall@1 and candidates for 90 % of every way, and the shape of the tokens."""
    sizes = {"documents": cfg.generated, "queries": min(cfg.queries, cfg.generated)}
    sets = data.toy.token_sets(seed, shift=shift, **sizes)
    gold, width = tokens.exact(sets).argmax(axis=1), sets["queries"].shape[2]
    small, middle, whole = (searches.init(seed, width, *SIZES[n]) for n in ("(20,3,8)", "(20,5,8)", WHOLE))
    bare = {"fill_empty": False}
    ways = {"(20,3,8)": (small, {}), "(20,3,8) no fill": (small, bare), "(20,5,8)": (middle, {})}
    ways |= {WHOLE: (whole, {}), f"{WHOLE} no fill": (whole, bare)}
    ways[f"{WHOLE} sum, no fill"] = whole, bare | {"aggregate": "sum"}
    ways[f"{WHOLE} centred"] = tokens.centred(sets, whole), {}
    ways["(20,5,64) identity"] = searches.init(seed, width, 5, width, projection="identity"), {}

    def ranks(find):
        return searches.ranks(searches.nearest(find, sets, cfg.candidates), gold)

    means = searches.means_of(sets)
    found = {"mean pooling, raw": ranks(functools.partial(searches.by_mean, means))}
    found["mean pooling, unit"] = ranks(functools.partial(searches.by_mean, unit(means)))
    for name, (params, options) in ways.items():
        documents = tokens.encode(sets, params, **options)[1]
        for r in (1, 5, 10, 20) if name == WHOLE else (20,):
            cut = vectors.truncate_fde(params, repetitions=r)
            rows = documents[:, : vectors.encoding_length(cut)]
            find = functools.partial(searches.by_encoding, cut, rows)
            found[name.replace("(20,", f"({r},")] = ranks(find)
    found[NEAREST_TOKENS] = ranks(functools.partial(searches.by_tokens, sets))
    extra = tokens.shape(sets, whole) | tokens.bound(sets, seed=seed)
    return {n: ((p == 1).mean(), searches.needed(p, 0.9)) for n, p in found.items()}, extra


def generated(cfg):
    """Tables of every way at every length of the common direction, over the seeds."""
    draws = {}
    for s in SHIFTS:
        flags.stage(f"generated tokens, a common direction of length {s}")
        draws[s] = [one_draw(cfg, s, seed) for seed in range(cfg.seeds)]
    rows = []
    for name in draws[SHIFTS[0]][0][0]:
        row = {"encoding": name}
        for s in SHIFTS:
            recalls = [float(found[name][0]) for found, _ in draws[s]]
            row[f"s={s}"], row[f"± s={s}"] = results.spread(recalls)
        asked = [found[name][1] for found, _ in draws[1]]
        rows.append(row | {"candidates for 90 % at s=1": None if None in asked else max(asked)})
    extras = [{"s": s, "seed": n} | extra for s in SHIFTS for n, (_, extra) in enumerate(draws[s])]
    return {"generated tokens": rows, "shape of generated tokens": extras}


# Texts


def text(cfg):
    """Functions of the installed packages: the first sentence asks, the name and the rest are the text."""
    flags.stage("reads functions and their token vectors")
    records = data.docstrings(progress=True)
    chosen = np.random.default_rng(0).permutation(len(records))[: cfg.documents]
    some = [records[i] for i in chosen]
    pages = [" ".join(r[n] for n in ("name", "signature", "docstring", "code")) for r in some]
    asked = [r["query"] for r in some[: cfg.queries]]
    encoder = text_models.load(cfg.model, max_length=max(cfg.length, QUERY_LENGTH))
    lengths = {"length": cfg.length, "query_length": QUERY_LENGTH}
    return tokens.of_texts(cfg.workdir, pages, asked, encoder=encoder, **lengths)


def compare(cfg, sets):
    """All that is measured on one collection: searches, times, the shape of the tokens, the bound."""
    flags.stage("compares the ways to search")
    scores, width = tokens.exact(sets), sets["queries"].shape[2]
    drawn = {name: searches.init(0, width, *size) for name, size in SIZES.items()}
    centred = f"{WHOLE} centred"
    drawn[centred] = tokens.centred(sets, drawn[WHOLE])
    for final in FINAL:
        drawn[f"(20,5,64) to {final:,}"] = searches.init(0, width, 5, 64, final=final)
    quantiser = {"sample": cfg.sample, "iterations": cfg.iterations}
    ways = searches.searches(sets, drawn, (WHOLE, centred), **quantiser)
    names = (WHOLE, centred, f"{WHOLE} PQ-256-8", NEAREST_TOKENS)
    kept = vectors.ball_carve(sets["queries"], sets["mask"])[1].sum() / sets["mask"].sum()
    size = {"documents": tokens.count(sets), "tokens": sets["tokens"].shape[0]}
    size |= {"kept by carving": float(kept), "quantiser fitted on": min(cfg.sample, tokens.count(sets))}
    return {
        "texts": [size],
        "searches": searches.measure(sets, ways, scores, cfg.candidates),
        "times": searches.timed(sets, {n: ways[n] for n in names}, scores, cfg.scored, cfg.timed),
        "funnel": funnels.measure(sets, drawn[WHOLE], scores),
        "pruned tokens": funnels.pruned(sets, scores),
        "shape of tokens": [{"planes": n} | tokens.shape(sets, drawn[n]) for n in (WHOLE, centred)],
        "bound": [tokens.bound(sets)],
    }


# What is claimed


def column(t, table, name):
    """{way: number} of a column of a table; None where a run has no such table."""
    return {next(iter(row.values())): row[name] for row in t[table]} if table in t else None


def above(table, name, way, other, margin):
    """Whether one way is a margin above another in a column."""

    def ours(t):
        found = column(t, table, name)
        return found and results.holds(found[way] >= found[other] + margin, found[way] - found[other])

    return ours


def rising(t):
    found = column(t, "generated tokens", "s=1")
    steps = found and np.diff([found[f"({r},5,16)"] for r in (1, 5, 10, 20)])
    return found and results.holds((steps > 0).all(), steps.min())


def half(table, name):
    """Whether encodings need at most half the candidates of the heuristic."""

    def ours(t):
        found = column(t, table, name)
        few, many = (found[WHOLE], found[NEAREST_TOKENS]) if found else (None, None)
        true = few is not None and (many is None or 2 * few <= many)
        return found and results.holds(true, many / few if few and many else None)

    return ours


def carving(t):
    most = max((row["exactly scored"] for row in t.get("times", ())), default=None)
    found = {row["search"]: row["ms/query"] for row in t.get("times", ()) if row["exactly scored"] == most}
    saved = 1 - found[f"{WHOLE}, carved"] / found[WHOLE] if found else None
    return results.holds(saved >= 0.2, saved) if found else None


TOYS, JUDGED = "generated tokens", "judged texts"
ONE, TWO = (f"generated tokens that share a direction of length {s}:" for s in (1, 2))
FEWER = "90 % of queries need at most half the candidates of the heuristic (how many times fewer)"
muvera = functools.partial(results.Claim, "2405.19504")
FILLED = above(TOYS, "s=2", WHOLE, f"{WHOLE} no fill", 0.2)
CHOSEN = above("pruned tokens", "10-Recall@10", "query, 50%", "chance, 50%", 0.05)
CLAIMS = (
    muvera(f"{ONE} more repetitions find the best document more often", rising),
    muvera(
        f"{ONE} encodings find it at least 0.3 more often than raw means",
        above(TOYS, "s=1", WHOLE, "mean pooling, raw", 0.3),
    ),
    muvera(
        f"{ONE} means in the cells of documents find it at least 0.3 more often than sums",
        above(TOYS, "s=1", f"{WHOLE} no fill", f"{WHOLE} sum, no fill", 0.3),
    ),
    muvera(f"{TWO} filled cells find it at least 0.2 more often than empty ones", FILLED),
    muvera(f"{ONE} {FEWER}", half(TOYS, "candidates for 90 % at s=1"), paper=4.0),
    muvera(f"texts: {FEWER}", half("searches", "candidates for 90 %"), paper=4.0),
    muvera("texts: ball carving saves a fifth of the time (share, most candidates)", carving, paper=0.25),
    muvera(
        "judged texts: exact scores of 100 candidates rank no worse than those of all (nDCG@10)",
        above(JUDGED, "nDCG@10", "FDE, then Chamfer", "exact Chamfer", 0),
    ),
    results.Claim(
        "", "texts: half of the tokens keep 0.05 more, chosen by the query, than by chance", CHOSEN
    ),
)


def run(cfg):
    if cfg.beir is not None:
        return results.Result({JUDGED: judged.measured(cfg, text_models.load(cfg.model))}, {"seeds": 1})
    tables = generated(cfg) if "generated" in cfg.parts else {}
    return results.Result(tables | (compare(cfg, text(cfg)) if "text" in cfg.parts else {}))


def look(cfg):
    """Refuses a model that cannot be opened before any work."""
    if cfg.beir is not None or "text" in cfg.parts:
        text_models.load(cfg.model)


def figures(numbers):
    if "searches" not in numbers:
        return {}
    return {"": functools.partial(pictures.draw, rows=numbers["searches"], times=numbers["times"])}


if __name__ == "__main__":
    results.main("multivector_search", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
