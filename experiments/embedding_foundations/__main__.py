"""Does each foundation of an embedding library do what it promises, beside a peer or a plain rule?

    python -m experiments.embedding_foundations                          # every row of the survey's table
    python -m experiments.embedding_foundations --rows sif topics        # some of them
    python -m experiments.embedding_foundations --validate               # settings, on other data

Paper: From Word Vectors to Multimodal Embeddings (arXiv:2411.05036), a survey. A row takes a minute at most.
`make data` brings the newsgroups, the judged pairs of words and all-MiniLM-L6-v2. About 5 minutes on 2 CPU
cores.
"""

import dataclasses
import pathlib
import time

import numpy as np

from experiments.embedding_foundations import contexts, documents, words
from experiments.shared import flags, inputs, plots, results, text_models
from experiments.shared.results import Claim, Result


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures the foundations, one row after the other."""

    rows: tuple[str, ...] = ()  # names of rows, () for all
    documents: int = 1000  # posts that documents' rows are fitted to, and as many that are asked
    texts: int = 6000  # posts that word vectors are trained on
    topics: int = 100  # directions of latent semantic analysis
    steps: int = 300  # of language models and of vectors of users
    seeds: int = 5
    validate: bool = False  # settings of rows 5, 14 and 26, on posts and pairs that are not measured
    quick: bool = False  # one seed, 400 documents, 800 texts, 40 steps
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"documents": (100, 5000), "texts": (100, 10**5), "topics": (2, 400), "seeds": (1, 100)}
        flags.check(self, limits | {"steps": (1, 10**6)})
        for name in self.rows:
            if name not in ROWS:
                raise ValueError(f"--rows {name}: is none of {', '.join(ROWS)}")


QUICK = {"seeds": 1, "documents": 400, "texts": 800, "steps": 40}
VECTORS, TOPICS, PLANTED = "bags", "topics", "planted"
MIX, MASKED, CAUSAL, POOLING, USERS, CODES, PROBE = (
    "mix", "masked", "causal", "pooling", "users", "codes", "probe",
)  # fmt: skip
HIERARCHICAL, ALIGNED, AGREEMENT, REMOVED, SIF, BOTH, REFINED, FACTORS, SHARES = (
    "hierarchical", "aligned", "agreement", "removal", "sif", "both-sides", "refined", "nmf", "proportions",
)  # fmt: skip


ROWS = {  # name: (row of the survey's table, what, measure, beside what, function)
    VECTORS: ("1, 2", "LSA of tf-idf", "10-neighbour accuracy", "plain counts", documents.weighting),
    HIERARCHICAL: ("5", "hierarchical softmax", "WordSim-353", "negative sampling", words.hierarchical),
    MIX: ("10", "scalar mix of layers", "accuracy", "last layer", contexts.mixed_layers),
    MASKED: ("11", "masked words", "nats a hidden word", "frequency", contexts.language),
    CAUSAL: ("12", "causal language model", "nats a next word", "frequency", contexts.causal),
    BOTH: ("10", "biLM over letters", "nats a neighbour", "frequency", contexts.both),
    POOLING: ("13", "mean pooling", "10-neighbour accuracy", "first token", contexts.pooling),
    SIF: ("14", "SIF", "10-neighbour accuracy", "mean of words", words.sentences),
    TOPICS: ("17", "online LDA", "nats a held-out word", "scikit-learn", documents.held_out_bound),
    PLANTED: ("17", "online LDA", "total variation", "other topics", documents.planted_topics),
    FACTORS: ("17", "NMF of tf-idf", "10-neighbour accuracy", "scikit-learn", documents.factors),
    SHARES: ("17", "shares of topics", "10-neighbour accuracy", "plain counts", documents.proportions),
    ALIGNED: ("18", "Procrustes and CSLS", "word found again", "as they are", words.aligned),
    REFINED: ("18", "refined from 20 words", "word found again", "the 20 words alone", words.refined),
    USERS: ("19", "words with a group's vector", "next word nearer", "word alone", contexts.personal),
    CODES: ("23", "sparse codes", "distance of intruders", "dense vectors", contexts.intruders),
    PROBE: ("23", "probe of states", "selectivity", "table of pieces", contexts.probed),
    REMOVED: ("26", "all-but-the-top", "WordSim-353", "as they are", words.post_processed),
    AGREEMENT: ("27", "similarity analysis", "Spearman", "shuffled words", words.agreement),
}


def measured(cfg, name):
    """One row of the table: a measure of all seeds beside another, and a core's seconds for a seed."""
    row, what, measure, beside, function = ROWS[name]
    began = time.process_time()
    runs = [function(cfg, seed) for seed in range(cfg.seeds)]
    seconds = (time.process_time() - began) / cfg.seeds
    found = {"row": row, "name": name, "what": what, "measure": measure}
    found["ours"], found["± ours"] = results.spread([run["ours"] for run in runs])
    found |= {"beside": beside, "its value": float(np.mean([run["beside"] for run in runs]))}
    return found | {"CPU seconds": round(seconds, 1), "runs": runs}


def gap(t, name, sign=1):
    """How far a row is above what is beside it, over the seeds; None where it was not asked."""
    for row in t.get("foundations", ()):
        if row["name"] == name:
            return sign * np.array([run["ours"] - run["beside"] for run in row["runs"]])
    return None


def asked(name, *, sign=1, margin=0.0, relative=False):
    def ours(t):
        found = gap(t, name, sign)
        if found is None:
            return None
        if relative:
            (row,) = [r for r in t["foundations"] if r["name"] == name]
            found = found / np.abs([run["beside"] for run in row["runs"]])
        return results.paired(found, margin=margin)

    return ours


def below(name, most):
    """Is every seed's value below a number, or above it where it is negative?"""

    def ours(t):
        runs = [run["ours"] for r in t.get("foundations", ()) if r["name"] == name for run in r["runs"]]
        if not runs:
            return None
        return results.holds(max(runs) < most if most > 0 else min(runs) > -most, np.mean(runs))

    return ours


SURVEY = "2411.05036"
CLAIMS = (
    Claim(SURVEY, "A learned mix of all layers is above the last layer", asked(MIX)),
    Claim(SURVEY, "Masked words are told better than by their frequency", asked(MASKED, sign=-1)),
    Claim(SURVEY, "Next words are told better than by their frequency", asked(CAUSAL, sign=-1)),
    Claim(SURVEY, "A biLM over letters tells words better than frequency", asked(BOTH, sign=-1)),
    Claim(SURVEY, "The mean of the states is above the first one", asked(POOLING)),
    Claim(SURVEY, "The vector of a group, added to a word, tells the next word better", asked(USERS)),
    Claim(SURVEY, "Intruders stand further from sparse codes' top words", asked(CODES)),
    Claim(SURVEY, "Probes of states are more selective than of the table", asked(PROBE)),
    Claim(SURVEY, "LSA of tf-idf finds more neighbours of the group than counts", asked(VECTORS)),
    Claim(
        SURVEY,
        "Hierarchical softmax is within 0.05 of negative sampling on WordSim-353",
        asked(HIERARCHICAL, margin=-0.05),
    ),
    Claim(SURVEY, "SIF is above the mean of words", asked(SIF)),
    Claim(
        SURVEY,
        "The held-out bound of online LDA is within 2 % of scikit-learn's or above",
        asked(TOPICS, margin=-0.02, relative=True),
    ),
    Claim(SURVEY, "LDA finds planted topics: total variation below 0.2", below(PLANTED, 0.2)),
    Claim(SURVEY, "Procrustes finds more than 0.9 of frequent words again", below(ALIGNED, -0.9)),
    Claim(SURVEY, "Without alignment words are not found again", asked(ALIGNED, margin=0.5)),
    Claim(SURVEY, "Removing the mean and one direction helps similarity", asked(REMOVED)),
    Claim(SURVEY, "Two trainings agree on what is near to what, shuffled ones do not", asked(AGREEMENT)),
    Claim(
        SURVEY,
        "NMF finds as many neighbours of the group as scikit-learn's, within 0.02",
        asked(FACTORS, margin=-0.02),
    ),
    Claim(SURVEY, "Shares of topics find more neighbours of the group than counts", asked(SHARES)),
    Claim(SURVEY, "From 20 words, refined, more than 0.9 are found again", below(REFINED, -0.9)),
    Claim(SURVEY, "Rounds find more words again than the 20 words alone", asked(REFINED)),
)


def figures(t):
    """Every row as a pair of bars."""
    rows = t.get("foundations", ())
    if not rows:
        return {}

    def draw(axes):
        axes.figure.set_size_inches(10, 1 + 0.42 * len(rows))
        names = [f"{row['what']}: {row['measure']}" for row in rows]
        for shift, key, label in ((-0.2, "ours", "this library"), (0.2, "its value", "beside it")):
            scale = [max(abs(row["ours"]), abs(row["its value"])) for row in rows]
            shares = [row[key] / top for row, top in zip(rows, scale, strict=True)]
            bars = axes.barh(np.arange(len(rows)) + shift, shares, height=0.38, label=label)
            axes.bar_label(bars, [f"{row[key]:.3f}" for row in rows], fontsize=7, label_type="center")
        axes.set_yticks(range(len(rows)), names, fontsize=8)
        axes.invert_yaxis()
        axes.set(xlabel="share of the larger of the two", title="Rows of the survey's table")
        plots.legend(axes)

    return {"": draw}


def look(cfg):
    """Refuses a run whose data or packages are missing."""
    inputs.sets("newsgroups")
    inputs.installed("sklearn", "scipy")
    if {MIX, POOLING, PROBE} & set(cfg.rows or ROWS):
        text_models.find_model()


def run(cfg):
    """All rows, or those that were named, or settings alone."""
    if cfg.validate:
        return Result({"settings": words.settings(cfg)})
    rows = []
    for name in cfg.rows or ROWS:
        flags.stage(name)
        rows.append(measured(cfg, name))
    return Result({"foundations": rows})


if __name__ == "__main__":
    results.main("embedding_foundations", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
