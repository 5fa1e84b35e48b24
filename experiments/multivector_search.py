"""Can one vector per set of token vectors stand in for late interaction when candidates are searched?

    python -m experiments.multivector_search                      # generated tokens, then the docstrings here
    python -m experiments.multivector_search --documents 15000    # all functions
    python -m experiments.multivector_search --beir path/to/set   # judged texts: nDCG@10 and Recall@100

Paper: MUVERA (arXiv:2405.19504). `make data` brings the text encoder (all-MiniLM-L6-v2).

About 5 minutes on 2 CPU cores. 1-Recall@1 on generated tokens with a common direction of length 0 / 1 / 2,
3 seeds: (20,5,16) 1 / .96 / .27, without fill 1 / .86 / .03, planes through the mean 1 / .99 / .47; raw
means, the encoding without planes, .73 / .28 / .23, but means of length 1 .96 / .92 / .68. On 4,000 functions
the exact best is among 7 candidates of (20,5,16) for 90 % of queries, 10 of its 1,280-byte codes, 10 of the
single-vector heuristic at 6 to 27 times the time, and 6 of unit means of 384 numbers: these tokens hardly
need more than their mean, and half the heuristic's candidates, 1 against 2 on generated tokens at s = 1, is
not reproduced here. Carving leaves .65 of the query vectors, costs recall (.960 to .906 at 200 candidates)
and saves no time on a CPU. On Cranfield (--beir) nDCG@10 and Recall@100: one vector .400 .772, FDE .348 .740,
FDE then Chamfer .405 .740, Chamfer .402 .773.
"""

import dataclasses
import functools
import pathlib
import time
from typing import Literal

import jax.numpy as jnp
import numpy as np

from experiments.common import candidates, report, text_models, token_sets
from jaxembed import data, metrics, ragged, search, vectors
from jaxembed.arrays import masked_mean, unit


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
    timed: int = 50  # queries that are timed with the exact score behind each search
    quick: bool = False  # 300 texts, 500 generated documents, one seed
    workdir: pathlib.Path = pathlib.Path("runs/multivector_search")
    results: pathlib.Path = report.RESULTS

    def __post_init__(self):
        limits = {"documents": (256, 10**7), "queries": (1, 10**6), "length": (3, 512), "seeds": (1, 100)}
        limits |= {"candidates": (10, 10**6), "timed": (1, 10**6), "generated": (100, 10**6)}
        limits |= {"scored": (10, 10**6)}
        report.check(self, limits | {"sample": (256, 10**7), "iterations": (1, 1000)})
        others = ("parts", "documents", "queries", "length", "generated", "seeds", "candidates", "sample")
        report.exclude(self, "beir", (*others, "iterations", "scored", "timed", "quick"))


QUICK = {"documents": 300, "queries": 50, "generated": 500, "seeds": 1, "iterations": 2}
QUICK |= {"timed": 10, "scored": (10, 100)}
SHIFTS = (0, 1, 2)  # lengths of the common direction
SIZES = {"(20,3,8)": (3, 8), "(20,4,8)": (4, 8), "(20,5,8)": (5, 8), "(20,5,16)": (5, 16)}
WHOLE = "(20,5,16)"  # repetitions, planes, projected width
FINAL = (2560, 10_240)  # lengths to which the encodings (20,5,64) are sketched


def one_draw(cfg, shift, seed):
    """Of one draw of tokens: 1-Recall@1 and candidates for 90 % of every way, and the shape of the tokens."""
    sets, _ = token_sets.generate(seed, shift, documents=cfg.generated, queries=cfg.queries)
    gold, width = token_sets.exact(sets).argmax(axis=1), sets.queries.shape[2]
    small, middle, whole = (candidates.init(seed, width, *SIZES[n]) for n in ("(20,3,8)", "(20,5,8)", WHOLE))
    bare = {"fill_empty": False}
    ways = {"(20,3,8)": (small, {}), "(20,3,8) no fill": (small, bare), "(20,5,8)": (middle, {})}
    ways |= {WHOLE: (whole, {}), f"{WHOLE} no fill": (whole, bare)}
    ways[f"{WHOLE} sum, no fill"] = whole, bare | {"aggregate": "sum"}
    ways[f"{WHOLE} centered"] = token_sets.center(sets, whole), {}
    ways["(20,5,64) identity"] = candidates.init(seed, width, 5, width, projection="identity"), {}

    def places(find):
        return candidates.ranks(candidates.nearest(find, sets, cfg.candidates), gold)

    means = jnp.asarray(sets.map(masked_mean))
    found = {"mean pooling, raw": places(functools.partial(candidates.by_mean, means))}
    found["mean pooling, unit"] = places(functools.partial(candidates.by_mean, unit(means)))
    for name, (params, options) in ways.items():
        documents = token_sets.encode(sets, params, **options)[1]
        for r in (1, 5, 10, 20) if name == WHOLE else (20,):
            cut = vectors.truncate_fde(params, repetitions=r)
            rows = documents[:, : vectors.encoding_length(cut)]
            find = functools.partial(candidates.by_encoding, cut, rows)
            found[name.replace("(20,", f"({r},")] = places(find)
    found["single-vector heuristic"] = places(functools.partial(candidates.by_tokens, sets))
    extra = token_sets.geometry(sets, whole) | token_sets.bound(sets, seed=seed)
    return {n: ((p == 1).mean(), candidates.needed(p, 0.9)) for n, p in found.items()}, extra


def generated(cfg):
    """Every way at every strength of the common direction, and what must hold in it, over the seeds."""
    draws = {}
    for s in SHIFTS:
        report.stage(f"generated tokens, a common direction of length {s}")
        draws[s] = [one_draw(cfg, s, seed) for seed in range(cfg.seeds)]
    rows = []
    for name in draws[1][0][0]:
        row = {"encoding": name}
        for s in SHIFTS:
            recalls = [float(found[name][0]) for found, _ in draws[s]]
            row |= {f"s={s}": float(np.mean(recalls)), f"range {s}": float(np.ptp(recalls))}
        asked = [found[name][1] for found, _ in draws[1]]
        rows.append(row | {"for 90% at s=1": None if None in asked else max(asked)})
    extras = [{"s": s, "seed": n} | extra for s in SHIFTS for n, (_, extra) in enumerate(draws[s])]
    return {"table": rows, "criteria": criteria(rows), "tokens": extras}


def criteria(rows):
    """What counts as reproduced: {sentence: bool}."""
    one, two, asked = ({r["encoding"]: r[key] for r in rows} for key in ("s=1", "s=2", "for 90% at s=1"))
    grown = np.diff([one[f"({r},5,16)"] for r in (1, 5, 10, 20)])
    few, many = asked[WHOLE], asked["single-vector heuristic"]
    fill, bare = f"{WHOLE} no fill", f"{WHOLE} sum, no fill"
    return {
        "s=1: recall rises with repetitions": bool((grown > 0).all()),
        f"s=1: {WHOLE} is .3 above raw mean pooling": one[WHOLE] >= one["mean pooling, raw"] + 0.3,
        "s=1: means of documents are .3 above sums": one[fill] >= one[bare] + 0.3,
        "s=2: filled cells are .2 above empty ones": two[WHOLE] >= two[fill] + 0.2,
        "s=1: half the heuristic's candidates for 90 %": few is not None
        and (many is None or 2 * few <= many),
    }


def text(cfg):
    """Functions of the installed packages: the first sentence asks, the name and the rest are the text."""
    report.stage("reads functions and their token vectors")
    records = data.docstrings(progress=True)
    chosen = np.random.default_rng(0).permutation(len(records))[: cfg.documents]
    some = [records[i] for i in chosen]
    pages = [" ".join(r[n] for n in ("name", "signature", "docstring", "code")) for r in some]
    asked, model = [r["query"] for r in some[: cfg.queries]], text_models.find_model(cfg.model)
    return token_sets.encode_texts(cfg.workdir, pages, asked, model=model, length=cfg.length)


def compare(cfg, sets):
    """All that is measured on one collection: searches, times, the shape of the tokens, the bound."""
    report.stage("compares the ways to search")
    scores, width = token_sets.exact(sets), sets.queries.shape[2]
    drawn = {name: candidates.init(0, width, *size) for name, size in SIZES.items()}
    centered = f"{WHOLE} centered"
    drawn[centered] = token_sets.center(sets, drawn[WHOLE])
    for final in FINAL:
        drawn[f"(20,5,64) to {final:,}"] = candidates.init(0, width, 5, 64, final=final)
    quantiser = {"sample": cfg.sample, "iterations": cfg.iterations}
    ways = candidates.searches(sets, drawn, (WHOLE, centered), **quantiser)
    names = (WHOLE, centered, f"{WHOLE} PQ-256-8", "single-vector heuristic")
    kept = vectors.ball_carve(sets.queries, sets.mask)[1].sum() / sets.mask.sum()
    return {
        "sets": [
            {"documents": len(sets), "tokens": sets.tokens.shape[0], "kept by carving": float(kept)}
            | {"quantiser fitted on": min(cfg.sample, len(sets))}
        ],
        "searches": candidates.measure(sets, ways, scores, cfg.candidates),
        "times": candidates.timed(sets, {n: ways[n] for n in names}, scores, cfg.scored, cfg.timed),
        "tokens": [{"planes": n} | token_sets.geometry(sets, drawn[n]) for n in (WHOLE, centered)],
        "bound": [token_sets.bound(sets)],
    }


def judged(sets, singles, ids, grades):
    """nDCG@10 and Recall@100 of the searches on judged texts.

    ``singles`` are vectors of the queries and of the documents; ``ids`` and ``grades`` [B, J] the judgments.
    """
    whole, most = candidates.init(0, sets.queries.shape[2], *SIZES[WHOLE]), min(100, len(sets))
    found = {"single vector": search.top_k(*singles, most)[1]}
    for label, params in (("", whole), (" centered", token_sets.center(sets, whole))):
        places = search.top_k(*token_sets.encode(sets, params), most)[1]
        found[f"FDE{label}"] = places
        given = vectors.chamfer, sets.tokens, sets.offsets, sets.queries, sets.mask, places
        found[f"FDE{label}, then Chamfer"] = search.rerank(*given)[1]
    found["exact Chamfer"] = np.argsort(-token_sets.exact(sets), axis=1, kind="stable")[:, :most]
    rows, where = [], metrics.has_relevant(grades)
    for name, places in found.items():
        gains = metrics.gains(places, ids, grades)
        row = {
            "nDCG@10": metrics.ndcg(gains, grades, k=10),
            "Recall@100": metrics.recall(gains, grades, k=100),
        }
        rows.append({"search": name} | {n: float(metrics.masked_mean(x, where)) for n, x in row.items()})
    return rows


def judged_texts(cfg):
    """The rows of ``judged`` for a folder in the layout of BEIR; texts are cut where the model cuts them."""
    texts, model = data.beir(cfg.beir), text_models.find_model(cfg.model)
    if cfg.split not in texts["judgments"]:
        raise ValueError(f"--split {cfg.split}: the judgments are {', '.join(texts['judgments'])}")
    known = {name: place for place, name in enumerate(texts["documents"])}
    pairs = texts["judgments"][cfg.split]
    for name in pairs.keys() - texts["queries"].keys():
        raise ValueError(
            f"--beir {cfg.beir}: query {name!r} is judged but not in queries.jsonl; mend the files"
        )
    # A judgment of a document that is missing stays as one that no search can find.
    ids = [[known.get(d, len(known) + n) for n, d in enumerate(found)] for found in pairs.values()]
    ids, grades = ragged.pad(ids, value=-1)[0], ragged.pad([[*found.values()] for found in pairs.values()])[0]
    sides = [texts["queries"][q] for q in pairs], list(texts["documents"].values())
    report.stage(f"encodes {len(sides[1]):,} texts")
    encoder = text_models.load(cfg.model)
    singles = [jnp.asarray(encoder.encode_texts(side, progress=True)) for side in sides]
    most = {"length": encoder.max_length, "query_length": encoder.max_length}
    sets = token_sets.encode_texts(cfg.workdir, sides[1], sides[0], model=model, **most)
    return judged(sets, singles, ids, grades.astype(np.float32))


def show(rows):
    """Prints a table of rows without their lists."""
    print(report.table(rows, [n for n in rows[0] if n != "curve"]), flush=True)


def main(cfg):
    began, numbers = time.perf_counter(), {}
    name = report.named("multivector_search", cfg)
    cfg = report.preset(cfg, quick=QUICK)
    if cfg.beir is None and "text" in cfg.parts:
        text_models.load(cfg.model)  # refuses a bad one before the generated tokens
    if cfg.beir is not None:
        numbers["judged"] = judged_texts(cfg)
        show(numbers["judged"])
    if cfg.beir is None and "generated" in cfg.parts:
        numbers["generated"] = generated(cfg)
        show(numbers["generated"]["table"])
        show(numbers["generated"]["tokens"])
        for sentence, holds in numbers["generated"]["criteria"].items():
            print(f"{'holds' if holds else 'FAILS'}: {sentence}", flush=True)
    if cfg.beir is None and "text" in cfg.parts:
        numbers["text"] = found = compare(cfg, text(cfg))
        for rows in found.values():
            show(rows)
    numbers["seconds"] = round(time.perf_counter() - began)
    numbers["config"] = report.settings(cfg)
    report.save(name, numbers, candidates.picture(numbers), cfg.results)


if __name__ == "__main__":
    report.run(main, Config)
