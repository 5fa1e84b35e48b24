"""Does a vector for each aspect find documents that a vector of everything misses?

    python -m experiments.aspect_documents        # generated documents, and WordNet's definitions

Paper: Specialized Document Embeddings for Aspect-based Similarity of Research Papers (arXiv:2203.14541).
`make data` brings WordNet and all-MiniLM-L6-v2. About 4 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.aspect_documents import papers
from experiments.aspect_documents.papers import GENERIC, MERGED, RETROFIT, SEPARATE, TRUNK
from experiments.shared import flags, inputs, results, text_models
from experiments.shared.results import Claim, Result
from jaxembed import metrics


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains encoders on pairs of documents that share a label of an aspect."""

    documents: int = 2400  # generated
    glosses: int = 4000  # of WordNet's nouns; 0 leaves them out
    folds: int = 4  # of the documents; each is tested once, on neighbours within itself
    steps: int = 200
    batch_size: int = 64  # pairs of each aspect
    rate: float = 1e-2  # of encoders of words
    text_rate: float = 1e-3  # of heads on MiniLM's vectors, and of what moves fixed vectors
    k: int = 10  # neighbours that are judged
    seeds: int = 5
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    quick: bool = False  # one seed, two folds, 60 steps, 1,500 documents of each
    workdir: pathlib.Path = pathlib.Path("runs/aspect_documents")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"documents": (100, 10**6), "glosses": (0, 10**6), "folds": (2, 20), "steps": (1, 10**6)}
        limits |= {
            "batch_size": (2, 10**5),
            "rate": (1e-9, 1),
            "text_rate": (1e-9, 1),
            "k": (1, 50),
            "seeds": (1, 100),
        }
        flags.check(self, limits)
        if 0 < self.glosses < 400:
            raise ValueError(f"--glosses {self.glosses}: choose 0, or at least 400")


QUICK = {"seeds": 1, "folds": 2, "steps": 60, "documents": 1500, "glosses": 1500}
ARMS = (GENERIC, RETROFIT, MERGED, SEPARATE, TRUNK)


def one_fold(cfg, source, trained, tested, seed):
    """{(arm, its aspect, judged aspect): numbers} of the tested documents."""
    found, generic = {}, None
    for arm in ARMS:
        if arm == TRUNK and source["names"][0] != "task":
            continue  # of fixed vectors a linear head is all that there is
        vectors = papers.fit(cfg, source, trained, arm, seed)[tested]
        for own in range(len(source["names"])):
            ids = papers.neighbours(vectors[:, own], cfg.k)
            generic = ids if generic is None else generic
            overlap = float(np.mean(metrics.list_overlap(ids, generic, k=cfg.k)))
            for judged in range(len(source["names"])):
                numbers = papers.judge(ids, source["labels"][tested, judged], cfg.k)
                found[arm, own, judged] = numbers | {"in generic list": overlap}
            if arm in (GENERIC, MERGED):
                break  # one vector for all aspects
    return found


def over_folds(cfg, source, seed):
    """The mean over the folds, of documents that no encoder has seen."""
    order = np.random.default_rng(seed).permutation(len(source["labels"]))
    parts = np.array_split(order, cfg.folds)
    folds = [one_fold(cfg, source, np.setdiff1d(order, part), np.sort(part), seed) for part in parts]
    return {
        key: {name: float(np.mean([fold[key][name] for fold in folds])) for name in numbers}
        for key, numbers in folds[0].items()
    }


def rows_of(data, names, runs):
    """A row for each arm and judged aspect, with the numbers of each seed as "runs"."""
    rows = []
    for arm, own, judged in runs[0]:
        trained = "all" if arm in (GENERIC, MERGED) else names[own]
        row = {"data": data, "arm": arm, "vector of": trained, "judged": names[judged]}
        some = [run[arm, own, judged] for run in runs]
        for name in some[0]:
            row[name], row[f"± {name}"] = results.spread([x[name] for x in some])
        rows.append(row | {"runs": some})
    return rows


def of(t, data, arm, vector, judged, name="P"):
    """The numbers of one row over the seeds, [S]."""
    wanted = {"data": data, "arm": arm, "vector of": vector, "judged": judged}
    (row,) = [r for r in t["aspects"] if all(r[k] == x for k, x in wanted.items())]
    return np.array([run[name] for run in row["runs"]])


DRAWN, WORDNET = "generated", "WordNet"
NAMES = {DRAWN: ("task", "method", "dataset"), WORDNET: ("parent", "topic")}


def own_above(t, data, arm, other, margin=0.0):
    """How far the vector of an aspect is above another arm's in that aspect, in the worst aspect."""
    if not any(r["data"] == data for r in t["aspects"]):
        return None
    shared = other in (GENERIC, MERGED)
    gaps = [of(t, data, arm, a, a) - of(t, data, other, "all" if shared else a, a) for a in NAMES[data]]
    return results.paired(np.stack(gaps, axis=1), margin=margin)


def below_elsewhere(t):
    """How far the vector of an aspect is below the generic one in the other aspects, in the worst pair."""
    gaps = [
        of(t, DRAWN, GENERIC, "all", b) - of(t, DRAWN, SEPARATE, a, b)
        for a in NAMES[DRAWN]
        for b in NAMES[DRAWN]
        if a != b and b != "method"  # in which the generic vector is near chance
    ]
    return results.paired(np.stack(gaps, axis=1))


def weakest(t):
    method, *others = (of(t, DRAWN, GENERIC, "all", a) for a in ("method", "task", "dataset"))
    return results.paired(np.stack([x - method for x in others], axis=1))


def missed(t, vector):
    """The share of an aspect's list that the generic list lacks."""
    return 1 - of(t, DRAWN, SEPARATE, vector, vector, "in generic list")


PAPER_ID = "2203.14541"
CLAIMS = (
    Claim(
        PAPER_ID,
        "Generated: P@10 of each aspect's encoder is 0.1 above the generic vector in its aspect",
        lambda t: own_above(t, DRAWN, SEPARATE, GENERIC, 0.1),
        0.10,
    ),
    Claim(
        PAPER_ID,
        "Generated: P@10 of each aspect's encoder is 0.1 above that of one encoder of all labels",
        lambda t: own_above(t, DRAWN, SEPARATE, MERGED, 0.1),
    ),
    Claim(
        PAPER_ID,
        "Generated: in other aspects than its own it is below the generic vector",
        below_elsewhere,
    ),
    Claim(
        PAPER_ID,
        "Generated: the generic vector is weakest in the aspect that fills least of the text",
        weakest,
    ),
    Claim(
        PAPER_ID,
        "Generated: more than half of the ten neighbours by method are not in the generic list",
        lambda t: results.paired(missed(t, "method"), margin=0.5),
        0.95,
    ),
    Claim(
        PAPER_ID,
        "Generated: retrofitted generic vectors stay below the encoders",
        lambda t: own_above(t, DRAWN, SEPARATE, RETROFIT),
    ),
    Claim(
        "",
        "Generated: one trunk with heads is at most 0.05 below separate encoders",
        lambda t: own_above(t, DRAWN, TRUNK, SEPARATE, -0.05),
    ),
    Claim(
        PAPER_ID,
        "WordNet: P@10 of each aspect's head is above the generic vector in its aspect",
        lambda t: own_above(t, WORDNET, SEPARATE, GENERIC),
        0.10,
    ),
)


def figures(numbers):
    """Precision in each aspect, of the vectors that are for it."""
    rows = numbers.get("aspects")
    if not rows:
        return {}
    sources = list(dict.fromkeys(r["data"] for r in rows))

    def draw(axes):
        axes[0, 0].figure.set_size_inches(6.2 * len(sources), 4.6)
        for panel, source in zip(axes[0], sources, strict=True):
            arms = list(dict.fromkeys(r["arm"] for r in rows if r["data"] == source))
            for i, arm in enumerate(arms):
                own = [r for r in rows if (r["data"], r["arm"]) == (source, arm)]
                own = [r for r in own if r["vector of"] in ("all", r["judged"])]
                places = np.arange(len(own)) + (i - len(arms) / 2 + 0.5) * 0.8 / len(arms)
                errors = [r["± P"] or 0 for r in own]
                panel.bar(places, [r["P"] for r in own], 0.8 / len(arms), yerr=errors, label=arm)
            panel.set(xticks=range(len(own)), xticklabels=[r["judged"] for r in own], title=source)
            panel.set(ylabel="precision of the neighbours, by aspect")
            panel.margins(y=0.35)
            panel.legend(fontsize=7, loc="upper left")

    return {"": (draw, (1, len(sources)))}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets(*(["wordnet"] if cfg.glosses else []))
    if cfg.glosses or cfg.model:
        text_models.load(cfg.model)


def run(cfg):
    """Every arm on generated documents and on definitions, fold by fold."""
    flags.stage("trains on generated documents")
    runs = []
    for seed in range(cfg.seeds):
        runs.append(over_folds(cfg, papers.generated(cfg, seed), seed))
        flags.stage(f"seed {seed} is done")
    rows = rows_of(DRAWN, NAMES[DRAWN], runs)
    if cfg.glosses:
        flags.stage("embeds definitions")
        source = papers.glosses(cfg, text_models.load(cfg.model))
        runs = [over_folds(cfg, source, seed) for seed in range(cfg.seeds)]
        rows += rows_of(WORDNET, NAMES[WORDNET], runs)
    return Result({"aspects": rows})


if __name__ == "__main__":
    results.main("aspect_documents", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
