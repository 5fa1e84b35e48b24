"""Can one threshold cut every query's list of results where it stops being relevant?

    python -m experiments.relevance_cutoff                        # generated scores, and WordNet's texts
    python -m experiments.relevance_cutoff --validate             # on the data by which settings were chosen
    python -m experiments.relevance_cutoff --beir path/to/folder  # a judged corpus of your own, in folds

Paper: Relevance Filtering for Embedding-based Retrieval (arXiv:2408.04887). `make data` brings WordNet and
all-MiniLM-L6-v2. About 3 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.relevance_cutoff import searched
from experiments.shared import flags, inputs, results, text_models
from experiments.shared.results import Claim, Result
from jaxembed import data, metrics, recipes


@dataclasses.dataclass(frozen=True)
class Config:
    """Fits cut-offs to judged candidates and applies their thresholds to other queries."""

    queries: int = 2000  # generated to fit on; a quarter of that is tested
    asked: int = 8000  # of WordNet's examples
    others: int = 8000  # definitions beside those of the examples
    candidates: int = 50  # of each of WordNet's examples, or of a query of --beir
    recall: float = 0.95  # of the relevant candidates, which the threshold keeps on held-out queries
    hidden: int = 256  # of the network that reads a text's vector
    epochs: int = 30  # on texts
    seeds: int = 5  # with --beir: folds of the queries
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    beir: pathlib.Path | None = None  # folder of a judged corpus
    validate: bool = False  # other examples and other draws: those by which the settings above were chosen
    quick: bool = False  # one seed, 1,000 generated queries, 2,000 examples
    workdir: pathlib.Path = pathlib.Path("runs/relevance_cutoff")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"queries": (40, 10**6), "asked": (40, 10**6), "others": (0, 10**6)}
        limits |= {"candidates": (2, 10**4), "recall": (0.01, 1), "hidden": (1, 10**5), "epochs": (1, 10**4)}
        flags.check(self, limits | {"seeds": (1, 100)})
        flags.exclude(self, "beir", ("queries", "asked", "others", "validate"))


QUICK = {"seeds": 1, "queries": 1000, "asked": 2000, "others": 1000, "epochs": 10}
UNSEEN = 100  # first seed of the draws that no setting has seen
RAW, MAXIMUM, PLATT, ORACLE = "cosine", "cosine / highest of the query", "Platt scaling", "what generated it"
KINDS = ("offset", "linear", "square_root", "quadratic", "power")
ARMS = {kind: f"adapter, {kind.replace('_', ' ')}" for kind in KINDS}
LINEAR, POWER, NORMED = ARMS["linear"], ARMS["power"], "adapter, linear, layer norm"
OF_SCORES = {"hidden": (64,), "dropout": 0.5, "rate": 1e-2, "epochs": 60}  # generated scores: width 32


def plain(kind):
    """Scores of an arm that reads no query: ``columns -> [B, K]``."""
    maps = {
        RAW: lambda x: x["scores"],
        MAXIMUM: lambda x: x["scores"] / np.maximum(x["scores"].max(axis=1, keepdims=True), 1e-6),
        ORACLE: lambda x: x["latent"],
    }
    return maps[kind]


def measured(cfg, arm, given, known, asked, seed):
    """One arm on one split: the pooled PR AUC of the tested queries, and what its threshold does to them."""
    if given is None:
        score = plain(arm)
        threshold = metrics.threshold_at_recall(known["labels"], score(known), recall=cfg.recall)
        scores, error = score(asked), None
    else:
        fitted = known["queries"], known["scores"], known["labels"]
        cutoff = recipes.fit_cutoff(*fitted, recall=cfg.recall, seed=seed, **given)
        threshold, scores = (
            cutoff["threshold"],
            recipes.cutoff_logits(cutoff, asked["queries"], asked["scores"]),
        )
        probable = 1 / (1 + np.exp(-scores.astype(np.float64)))
        error = metrics.expected_calibration_error(asked["labels"].ravel(), probable.ravel())
    found = {"PR AUC": metrics.pr_auc(asked["labels"], scores)}
    found |= metrics.filter_metrics(asked["labels"], scores, threshold)
    return found if error is None else found | {"ECE": float(error)}


def table(cfg, source, splits, arms):
    """A row for each arm, {arm: options of fit_cutoff or None}, with the numbers of each seed as "runs"."""
    rows = []
    for arm, given in arms.items():
        runs = []
        for seed, (known, asked) in enumerate(splits):
            runs.append(measured(cfg, arm, given, known, asked, seed))
        row = {"data": source, "arm": arm}
        for name in runs[0]:
            row[name], row[f"± {name}"] = results.spread([run[name] for run in runs])
        rows.append(row | {"runs": runs})
        print(f"{source}, {arm}: PR AUC {row['PR AUC']:.4f}", flush=True)
    return rows


def taken(columns, rows):
    return {name: x[rows] for name, x in columns.items()}


def generated(cfg):
    """Scores whose centre and spread depend on the query; the tested queries have twice the candidates."""
    flags.stage("fits generated scores")
    splits, first = [], 0 if cfg.validate else UNSEEN
    for seed in range(first, first + cfg.seeds):
        drawn = data.toy.relevance_scores(seed, queries=cfg.queries + cfg.queries // 4, candidates=100)
        known, asked = (
            taken(drawn, rows) for rows in np.split(np.arange(len(drawn["labels"])), [cfg.queries])
        )
        half = np.random.default_rng(seed).permuted(np.tile(np.arange(100), (cfg.queries, 1)), axis=1)[:, :50]
        known |= {n: np.take_along_axis(known[n], half, 1) for n in ("scores", "labels", "latent")}
        splits.append((known, asked))
    arms = {RAW: None, MAXIMUM: None, PLATT: {"kind": "linear", "hidden": None}}
    arms |= {ARMS[kind]: {"kind": kind} | OF_SCORES for kind in KINDS}
    arms |= {NORMED: {"kind": "linear", "norm": True} | OF_SCORES, ORACLE: None}
    return table(cfg, "generated", splits, arms)


def texts(cfg):
    """Candidates of a text encoder; the same splits of the queries for every arm."""
    rows = []
    for source, columns in (searched.judged(cfg) if cfg.beir else searched.wordnet(cfg)).items():
        splits = [
            (taken(columns, known), taken(columns, asked))
            for known, asked in searched.splits(cfg, len(columns["queries"]))
        ]
        given = {"hidden": (cfg.hidden,), "norm": True, "dropout": 0.5, "rate": 1e-3, "epochs": cfg.epochs}
        arms = {RAW: None, MAXIMUM: None, PLATT: {"kind": "linear", "hidden": None}}
        arms |= {ARMS[kind]: {"kind": kind} | given for kind in KINDS}
        flags.stage(f"fits {source}")
        rows += table(cfg, source if cfg.beir else f"WordNet, {source}", splits, arms)
    return rows


def of(rows, source, arm, name):
    """The numbers of an arm over the seeds, [S]."""
    (row,) = [r for r in rows if r["data"] == source and r["arm"] == arm]
    return np.array([run[name] for run in row["runs"]])


def above(source, arm, other, name="PR AUC", **options):
    """The answer to a claim that an arm is above another one; None where the run has not the data."""

    def ours(t):
        if not any(r["data"] == source for r in t["arms"]):
            return None
        return results.paired(
            of(t["arms"], source, arm, name) - of(t["arms"], source, other, name), **options
        )

    return ours


def times(source, arm, name, least):
    """The answer to a claim that a number of an arm is at least so many times that of the cosine."""

    def ours(t):
        if not any(r["data"] == source for r in t["arms"]):
            return None
        return results.paired(
            of(t["arms"], source, arm, name) / of(t["arms"], source, RAW, name), margin=least
        )

    return ours


PAPER_ID, DRAWN, KIN = "2408.04887", "generated", "WordNet, kin"
CLAIMS = (
    Claim(
        PAPER_ID,
        "Generated scores: PR AUC of the linear adapter is 0.1 above that of maximum-normalised scores",
        above(DRAWN, LINEAR, MAXIMUM, margin=0.1),
    ),
    Claim(
        PAPER_ID,
        "Generated scores: PR AUC of maximum-normalised scores is 0.1 above that of cosines",
        above(DRAWN, MAXIMUM, RAW, margin=0.1),
    ),
    Claim(
        PAPER_ID,
        "Generated scores: precision at the recall is more than twice that of cosines (times)",
        times(DRAWN, LINEAR, "precision", 2),
        0.0066 / 0.0028,
    ),
    Claim(
        PAPER_ID,
        "Generated scores: the adapter removes more candidates than a threshold on cosines",
        above(DRAWN, LINEAR, RAW, "filter"),
    ),
    Claim(
        PAPER_ID,
        "WordNet: PR AUC of the power adapter is above that of cosines (times)",
        times(KIN, POWER, "PR AUC", 1),
        0.139 / 0.041,
    ),
    Claim(
        PAPER_ID,
        "WordNet: precision at the recall is above that of cosines (times)",
        times(KIN, POWER, "precision", 1),
        0.0066 / 0.0028,
    ),
    Claim(
        "",
        "Generated scores: without the layer norm of the paper's network PR AUC is higher",
        above(DRAWN, LINEAR, NORMED),
    ),
)


def figures(numbers):
    """Pooled PR AUC, and the share of candidates that are removed, of every arm on every data."""
    rows = numbers.get("arms")
    if not rows:
        return {}
    sources = list(dict.fromkeys(r["data"] for r in rows))

    def draw(axes):
        axes[0, 0].figure.set_size_inches(11, 2.6 * len(sources) + 0.8)
        for line, source in zip(axes, sources, strict=True):
            some = [r for r in rows if r["data"] == source][::-1]
            for panel, name in zip(line, ("PR AUC", "filter"), strict=True):
                errors = [r[f"± {name}"] or 0 for r in some]
                panel.barh([r["arm"] for r in some], [r[name] for r in some], xerr=errors, color="tab:blue")
                label = {"filter": "share of candidates removed at the recall"}.get(name, "pooled PR AUC")
                panel.set(xlabel=label, title=source if name == "PR AUC" else "")
            line[1].set_yticklabels([])
        axes[0, 0].figure.suptitle("One threshold for all queries; bars: deviation over the seeds")

    return {"": (draw, (len(sources), 2))}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets(*([] if cfg.beir else ["wordnet"]))
    text_models.load(cfg.model)


def run(cfg):
    """Every arm on generated scores and on candidates of a text encoder."""
    return Result({"arms": ([] if cfg.beir else generated(cfg)) + texts(cfg)})


if __name__ == "__main__":
    results.main("relevance_cutoff", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
