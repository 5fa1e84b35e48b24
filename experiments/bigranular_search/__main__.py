"""Do codes and vectors that are trained for their place in a search find more than codes of fixed vectors?

    python -m experiments.bigranular_search                        # examples ask for definitions in WordNet
    python -m experiments.bigranular_search --beir path/to/folder  # queries and documents of your own

Paper: BiDR (arXiv:2201.05409). `make data` brings WordNet and all-MiniLM-L6-v2. About 5 minutes on 2 CPU
cores.
"""

import dataclasses
import pathlib

import jax
import numpy as np

from experiments.bigranular_search import heads
from experiments.shared import flags, inputs, plots, results
from experiments.shared.results import Claim, Result
from jaxembed import data, recipes, search, vectors


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains codes by what has to be found, and a second head on the candidates of these codes."""

    pairs: int = 6000  # of an example and a definition; a fifth is tested
    others: int = 8000  # definitions beside them
    bytes: tuple[int, ...] = (8, 16, 48)  # of a code; parts of one byte
    steps: int = 300  # of each stage
    batch_size: int = 128
    rate: float = 3e-4
    window: int = 100  # ranks of a query from which its negatives come
    order: str = "depth"  # of the walk: depth or breadth
    reranked: int = 100  # candidates of the codes that vectors order
    seeds: int = 5
    validate: bool = False  # test on other queries; the settings above were chosen there
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    beir: pathlib.Path | None = None  # folder of a judged corpus
    quick: bool = False  # one seed, one size, 50 steps, 1,500 pairs
    workdir: pathlib.Path = pathlib.Path("runs/bigranular_search")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"pairs": (500, 10**6), "others": (0, 10**7), "bytes": (1, 384), "steps": (1, 10**6)}
        limits |= {"batch_size": (2, 10**5), "rate": (1e-9, 1), "window": (1, 10**4), "reranked": (10, 10**5)}
        flags.check(self, limits | {"seeds": (1, 100)})
        flags.exclude(self, "beir", ("pairs", "others"))
        if self.order not in ("depth", "breadth"):
            raise ValueError(f"--order {self.order}: choose depth or breadth")


QUICK = {"seeds": 1, "bytes": (16,), "steps": 50, "pairs": 1500, "others": 1500, "window": 50}
OPQ, LONGER, TRAINED = "OPQ", "OPQ of vectors trained as long", "contrastive"
RANDOM, LOCAL, CODES = "random batches", "locality batches", "codes alone"


def recalls(places, own):
    """Recall at 10 and at 100 of the one document of each query."""
    hit = np.asarray(places) == own[:, None]
    return {f"recall@{k}": float(hit[:, :k].any(axis=1).mean()) for k in (10, 100)}


def coded_search(params, texts, test):
    """Recalls of the codes alone; the query is not quantised."""
    documents = heads.head(params, texts["documents"])
    decoded = vectors.decode_product(params["codes"], vectors.encode_product(params["codes"], documents))
    return recalls(search.top_k(heads.head(params, texts["queries"][test]), decoded, 100)[1], test)


def opq(params, texts, size, seed):
    """A product quantiser of the documents' vectors, with a rotation."""
    documents = np.asarray(heads.head(params, texts["documents"]))
    sample = documents[np.random.default_rng(seed).permutation(len(documents))[:6000]]
    options = {"centres": min(256, len(sample)), "iterations": 5, "rotations": 3}
    return vectors.fit_product(jax.random.key(seed), sample, group=documents.shape[1] // size, **options)


def one_seed(cfg, texts, trained, test, step, seed):
    """The recalls of one seed: {(table, arm, bytes or None, mix or None): numbers}."""
    found, count = {}, len(texts["documents"])
    random = heads.random_rows(trained, count, cfg.batch_size, 2 * cfg.steps, seed)
    first, second = ({n: x[part::2] for n, x in random.items()} for part in (0, 1))
    start = heads.start(texts["queries"].shape[1])
    plain = heads.fit(texts, first, start, step, cfg.steps, seed)
    longer = heads.fit(texts, second, plain, step, cfg.steps, seed)
    for size in cfg.bytes:
        begun = plain | {"codes": opq(plain, texts, size, seed)}
        coded = heads.fit(texts, second, begun, step, cfg.steps, seed)
        also = longer | {"codes": opq(longer, texts, size, seed)}
        for arm, params in ((OPQ, begun), (LONGER, also), (TRAINED, coded)):
            found["codes", arm, size, None] = coded_search(params, texts, test)
        if size == middle(cfg.bytes):
            found |= second_stage(cfg, texts, trained, test, step, seed, coded, first)
    return found


def second_stage(cfg, texts, trained, test, step, seed, coded, random):
    """Heads from the same start, on random and on local batches, order what the trained codes find."""
    size, count, found = middle(cfg.bytes), len(texts["documents"]), {}
    ranked = heads.candidates(coded, texts, trained, cfg.window)
    windows = {"query_window": (0, cfg.window), "document_window": (0, cfg.window)}
    graph = data.proximity_graph(ranked, **windows)
    local = heads.local_rows(trained, graph, count, cfg.batch_size, cfg.steps, seed, cfg.order)
    queries, documents = (np.asarray(heads.head(coded, texts[s])) for s in ("queries", "documents"))
    codes = np.asarray(vectors.encode_product(coded["codes"], documents))
    found["search", CODES, size, None] = coded_search(coded, texts, test)
    for arm, rows in ((RANDOM, random), (LOCAL, local)):
        params = heads.fit(texts, rows, heads.start(queries.shape[1]), step, cfg.steps, seed)
        asked, held = (np.asarray(heads.head(params, texts[s])) for s in ("queries", "documents"))
        found["search", f"{arm}, all documents", None, None] = recalls(
            search.top_k(asked[test], held, 100)[1], test
        )
        for mix in (0.0, 0.3):
            options = {"dense_queries": asked[test], "candidates": cfg.reranked, "mix": mix}
            given = coded["codes"], codes, held, queries[test], cfg.reranked
            found["search", arm, size, mix] = recalls(recipes.bigranular_search(*given, **options)[1], test)
    return found


def middle(sizes):
    return sorted(sizes)[len(sizes) // 2]


def tables(runs):
    """A row for each arm, with the numbers of each seed as "runs": {"codes": rows, "search": rows}."""
    made = {"codes": [], "search": []}
    for key in runs[0]:
        table, arm, size, mix = key
        row = {"arm": arm, "bytes": size} | ({"mix": mix} if table == "search" else {})
        for name in runs[0][key]:
            row[name], row[f"± {name}"] = results.spread([run[key][name] for run in runs])
        made[table].append(row | {"runs": [run[key] for run in runs]})
    return made


def of(rows, name="recall@10", **wanted):
    """The numbers of one row over the seeds, [S]."""
    (row,) = [r for r in rows if all(r.get(k) == x for k, x in wanted.items())]
    return np.array([run[name] for run in row["runs"]])


def gain(t, other, name="recall@100"):
    """What training the codes gains over an arm, [S, sizes], sizes rising."""
    sizes = sorted({r["bytes"] for r in t["codes"]})
    beside = {
        arm: np.stack([of(t["codes"], name, arm=arm, bytes=s) for s in sizes], 1) for arm in (TRAINED, other)
    }
    return beside[TRAINED] - beside[other]


def narrowing(t):
    gains = gain(t, OPQ)
    return None if gains.shape[1] < 2 else results.paired(gains[:, 0] - gains[:, -1])


def between(name, first, second):
    """The answer to a claim that one row of the search is above another."""
    return lambda t: results.paired(of(t["search"], name, **first) - of(t["search"], name, **second))


PAPER_ID = "2201.05409"
CLAIMS = (
    Claim(
        PAPER_ID,
        "With the fewest bytes, recall@100 of contrastive codes is 0.01 above that of OPQ",
        lambda t: results.paired(gain(t, OPQ)[:, 0], margin=0.01),
    ),
    Claim(
        PAPER_ID,
        "That gain is larger with the fewest bytes than with the most",
        narrowing,
    ),
    Claim(
        "",
        "With the fewest bytes, contrastive codes are above OPQ of vectors that were trained as long",
        lambda t: results.paired(gain(t, LONGER)[:, 0]),
    ),
    Claim(
        PAPER_ID,
        "Reranked, recall@10 of the head of locality batches is above that of random batches",
        between("recall@10", {"arm": LOCAL, "mix": 0.0}, {"arm": RANDOM, "mix": 0.0}),
    ),
    Claim(
        PAPER_ID,
        "Over all documents, recall@100 of locality batches is below that of random batches",
        between("recall@100", {"arm": f"{RANDOM}, all documents"}, {"arm": f"{LOCAL}, all documents"}),
    ),
    Claim(
        PAPER_ID,
        "Reranked by the head of locality batches, recall@10 is above that of the codes alone",
        between("recall@10", {"arm": LOCAL, "mix": 0.0}, {"arm": CODES}),
    ),
    Claim(
        PAPER_ID,
        "Adding 0.3 of the codes' score raises recall@10 of the reranked list",
        between("recall@10", {"arm": LOCAL, "mix": 0.3}, {"arm": LOCAL, "mix": 0.0}),
    ),
)


def figures(numbers):
    """Recall of codes by their bytes, and of the reranked lists."""
    if not numbers.get("codes"):
        return {}

    def draw(axes):
        axes[0, 0].figure.set_size_inches(12, 4.5)
        for arm in (OPQ, LONGER, TRAINED):
            rows = sorted((r for r in numbers["codes"] if r["arm"] == arm), key=lambda r: r["bytes"])
            lines = [[r[k] or 0 for r in rows] for k in ("bytes", "recall@100", "± recall@100")]
            axes[0, 0].errorbar(*lines, label=arm, capsize=3, marker="o")
        axes[0, 0].set(xlabel="bytes of a code", ylabel="recall@100", title="search by codes alone")
        axes[0, 0].grid(alpha=0.3)
        plots.legend(axes[0, 0], loc="lower right")
        rows = numbers["search"][::-1]
        names = [r["arm"] + ("" if r["mix"] is None else f", mix {r['mix']}") for r in rows]
        bars = [r["recall@10"] for r in rows], [r["± recall@10"] or 0 for r in rows]
        axes[0, 1].barh(names, bars[0], xerr=bars[1])
        axes[0, 1].set(xlabel="recall@10", title="candidates of the codes, ordered by vectors")

    return {"": (draw, (1, 2))}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets(*([] if cfg.beir else ["wordnet"]))


def run(cfg):
    """All arms of all seeds, on the same vectors and the same split."""
    texts, trained, test = heads.read(cfg)
    width = texts["queries"].shape[1]
    for size in cfg.bytes:
        if width % size:
            raise ValueError(f"--bytes {size}: does not divide the width {width} of the vectors")
    flags.at_most(cfg, "batch_size", len(trained), f"there are only {len(trained)} pairs to train on")
    most = min(len(texts["documents"]) - 1, 10**4)
    for name in ("window", "reranked"):
        flags.at_most(cfg, name, most, f"there are {len(texts['documents'])} documents")
    step, runs = heads.update(cfg.rate), []
    for seed in range(cfg.seeds):
        flags.stage(f"trains, seed {seed}")
        runs.append(one_seed(cfg, texts, trained, test, step, seed))
    counts = {"documents": len(texts["documents"]), "trained": len(trained), "tested": len(test)}
    return Result(tables(runs), counts)


if __name__ == "__main__":
    results.main("bigranular_search", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
