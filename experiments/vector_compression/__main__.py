"""Which codes of finished text vectors keep the most of a search, at equal bytes?

    python -m experiments.vector_compression                     # docstrings ask for functions
    python -m experiments.vector_compression --documents 15000
    python -m experiments.vector_compression --validate          # the settings of DPQ, on other sentences

Paper: Experimental Analysis of Large-scale Learnable Vector Storage Compression (arXiv:2311.15578), its part
on retrieval. `make data` brings the text encoder (all-MiniLM-L6-v2). About 3 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib
import statistics

from experiments.shared import flags, plots, results
from experiments.vector_compression import codes


@dataclasses.dataclass(frozen=True)
class Config:
    """Compresses the vectors of functions, and lets sentences that were not compressed search them."""

    documents: int = 4000  # functions whose vectors are compressed
    queries: int = 400  # their first sentences; half as many validate, twice as many train DPQ
    bytes: tuple[int, ...] = (384, 96, 48, 24, 12)  # of a vector
    seeds: int = 5
    validate: bool = False  # try settings of DPQ, and ask other sentences than those that are tested
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    quick: bool = False  # 900 documents, 100 sentences, two sizes, one seed
    workdir: pathlib.Path = pathlib.Path("runs/vector_compression")  # keeps the vectors
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"documents": (600, 10**6), "queries": (10, 10**5), "bytes": (4, 384), "seeds": (1, 100)}
        flags.check(self, limits)
        flags.at_most(self, "queries", 2 * self.documents // 7, f"--documents {self.documents}")


QUICK = {"documents": 900, "queries": 100, "bytes": (96, 24), "seeds": 1}


def run(cfg):
    flags.stage(f"encodes {cfg.documents:,} functions")
    texts = codes.texts(cfg.model, cfg.documents, cfg.queries, cfg.workdir)
    if cfg.validate:
        return results.Result({"settings": tried(cfg, texts)}, {"documents": cfg.documents})
    rows = [row_of("float32", 4 * texts["documents"].shape[1], [codes.exact(texts, "test")])]
    for way in codes.WAYS:
        flags.stage(way)
        for size in cfg.bytes:
            found = [codes.recall_of(way, texts, size, seed, "test") for seed in seeds_of(cfg, way)]
            rows += [row_of(way, size, found)] if found[0] is not None else []
    return results.Result({"recall": rows}, {"documents": cfg.documents})


def tried(cfg, texts):
    """Mean recall of DPQ on the validation sentences over sizes, for each of its settings, the best first."""
    rows, sizes = [], [n for n in cfg.bytes if texts["documents"].shape[1] % n == 0 and n < 384]
    for settings in codes.neighbours():
        flags.stage(", ".join(f"{name} {x:g}" for name, x in settings.items()))
        recalls = [
            statistics.mean(codes.recall_of("DPQ", texts, n, seed, "validation", **settings) for n in sizes)
            for seed in range(cfg.seeds)
        ]
        mean, spread = results.spread(recalls)
        rows.append(settings | {"recall@10": mean, "± recall@10": spread})
    return sorted(rows, key=lambda row: -row["recall@10"])


def seeds_of(cfg, way):
    """One seed where nothing is drawn."""
    return range(cfg.seeds if way in codes.DRAWN else 1)


def row_of(way, size, recalls):
    mean, spread = results.spread(recalls)
    return {"codes": way, "bytes": size, "recall@10": mean, "± recall@10": spread, "recalls": recalls}


def above(way, others):
    """What answers whether codes find more than all others, at each number of bytes that both have."""

    def ours(t):
        known = {(row["codes"], row["bytes"]): row["recall@10"] for row in t.get("recall", ())}
        pairs = [
            (r, known[o, size])
            for (w, size), r in known.items()
            if w == way
            for o in others
            if (o, size) in known
        ]
        return results.share([mine > other for mine, other in pairs]) if pairs else None

    return ours


def whole_integers(t):
    """What a byte for each coordinate loses against float32."""
    known = {(row["codes"], row["bytes"]): row["recall@10"] for row in t.get("recall", ())}
    if (codes.INT8, 384) not in known:
        return None
    loss = known["float32", 1536] - known[codes.INT8, 384]
    return results.holds(loss <= 0.005, loss)


PAPER = "2311.15578"
CLAIMS = (
    results.Claim("", "A byte for each coordinate loses at most half a point (loss)", whole_integers),
    results.Claim(
        "",
        "Product codes find more than signs and than cut vectors of the same bytes (share of sizes)",
        above("PQ", (codes.BINARY, codes.INT8, codes.FLOAT)),
    ),
    results.Claim(
        "",
        "Codes that train on other sentences find more than k-means (share of sizes)",
        above("DPQ", ("PQ",)),
    ),
)


def figures(numbers):
    def draw(axes):
        rows = numbers["recall"]
        for i, way in enumerate(codes.WAYS):
            some = [row for row in rows if row["codes"] == way]
            x, y = [row["bytes"] for row in some], [row["recall@10"] for row in some]
            spread = [row["± recall@10"] or 0 for row in some]
            axes.errorbar(x, y, spread, marker="osD^v"[i], label=way, capsize=2)
        axes.axhline(rows[0]["recall@10"], color="0.5", ls="--", label=f"float32, {rows[0]['bytes']:,} bytes")
        title = "Sentences that find their function"
        axes.set(xscale="log", xlabel="bytes of a vector", ylabel="recall@10", title=title)
        ticks = sorted({row["bytes"] for row in rows[1:]})
        axes.set_xticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        plots.legend(axes)

    return {"": draw} if "recall" in numbers else {}


if __name__ == "__main__":
    results.main("vector_compression", Config, run, CLAIMS, figures=figures, quick=QUICK)
