"""Are vectors of sentences better when frequent words weigh less and what all share is taken out?

    python -m experiments.sentence_averages                        # posts of 20 Newsgroups
    python -m experiments.sentence_averages --pairs SICK.txt       # and pairs of sentences that people judged
    python -m experiments.sentence_averages --vectors words.vec    # word vectors of your own
    python -m experiments.sentence_averages --quick

Paper: SIF, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", as row 14 of the survey's
foundations (arXiv:2411.05036). `--pairs` reads SICK, STS-B, Microsoft's paraphrases, and any file with two
sentences and a score between tabs, as the pairs of MSRpar are handed out. `make data` brings the posts and
GloVe. About 1 minute on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.sentence_averages import texts
from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from jaxembed import arrays, metrics


@dataclasses.dataclass(frozen=True)
class Config:
    """Averages words in four ways, and asks for the group of posts and for judged pairs."""

    documents: int = 2000  # posts that neighbours are taken from, and as many that are asked
    words: int = 30  # of a post that are read
    smoothing: float = 1e-3  # of SIF, the paper's
    pairs: pathlib.Path | None = None  # judged pairs of sentences
    vectors: pathlib.Path | None = None  # word vectors in GloVe's place
    seeds: int = 5  # draws of posts, and of the pairs with replacement
    quick: bool = False  # one seed, 300 posts
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"documents": (100, 3700), "words": (1, 10**4), "smoothing": (1e-9, 1), "seeds": (1, 100)}
        flags.check(self, limits)


QUICK = {"seeds": 1, "documents": 300}


def by_posts(cfg, table):
    """A row for each way: how often the ten nearest posts tell the group of a post."""
    lists, labels = texts.posts("test")
    runs = {way: [] for way in texts.WAYS}
    for seed in range(cfg.seeds):
        order = np.random.default_rng(seed).permutation(len(lists))[: 2 * cfg.documents]
        half, truth = len(order) // 2, labels[order]
        made = texts.averages(table, [lists[i][: cfg.words] for i in order], cfg.smoothing, fitted=half)
        for way, x in made.items():
            x = np.asarray(arrays.unit(x))
            told = metrics.nearest_accuracy(x[:half], truth[:half], x[half:], truth[half:])
            runs[way].append(told)
    return [texts.row(way, {"10-neighbour accuracy": values}) for way, values in runs.items()]


def by_pairs(cfg, table):
    """A row for each way: correlations of cosines with scores, over draws of the pairs."""
    lists, scores = texts.judged(cfg.pairs)
    draws = [np.random.default_rng(s).integers(0, len(scores), len(scores)) for s in range(cfg.seeds)]
    rows = []
    for way, x in texts.averages(table, lists, cfg.smoothing, fitted=len(lists)).items():
        x = np.asarray(arrays.unit(x))
        cosines = np.sum(x[: len(scores)] * x[len(scores) :], axis=1, dtype=float)
        measures = {"Pearson": metrics.pearson, "Spearman": metrics.spearman}
        runs = {name: [f(cosines[draw], scores[draw]) for draw in draws] for name, f in measures.items()}
        rows.append(texts.row(way, runs))
    return rows


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets("newsgroups")
    if cfg.pairs is not None:
        scores = texts.judged(cfg.pairs)[1]
        flags.enough_pairs(cfg, len(scores), 10)
        if np.ptp(scores) == 0:
            raise ValueError(f"--pairs {cfg.pairs}: all scores are {scores[0]:g}; give some that differ")


def run(cfg):
    """Posts, and pairs where a file brings them."""
    flags.stage("reads word vectors")
    table = texts.table(cfg.vectors)
    flags.stage("averages posts")
    found = {"posts": by_posts(cfg, table)}
    return Result(found | ({"pairs": by_pairs(cfg, table)} if cfg.pairs else {}))


def above(name, measure, way, other):
    """Asks whether a way of averaging is above another."""

    def ours(t):
        rows = {row["way"]: np.array(row["runs"][measure]) for row in t.get(name, ())}
        return results.paired(rows[way] - rows[other]) if rows else None

    return ours


SURVEY, POSTS, PAIRS = "2411.05036", ("posts", "10-neighbour accuracy"), ("pairs", "Pearson")
CLAIMS = (
    Claim(SURVEY, "SIF is above the mean of words (groups of posts)", above(*POSTS, texts.SIF, texts.MEAN)),
    Claim("", "Its weights alone are above the mean", above(*POSTS, texts.WEIGHTED, texts.MEAN)),
    Claim("", "Taking out the common direction adds to them", above(*POSTS, texts.SIF, texts.WEIGHTED)),
    Claim(SURVEY, "SIF is above the mean of words (judged pairs)", above(*PAIRS, texts.SIF, texts.MEAN)),
)


def figures(t):
    """Each way of averaging, by what was asked."""
    asked = [x for x in (("posts", "10-neighbour accuracy"), ("pairs", "Pearson")) if x[0] in t]

    def draw(axes):
        axes[0, 0].figure.set_size_inches(6 * len(asked), 3)
        for panel, (name, measure) in zip(axes[0], asked, strict=True):
            rows = t[name]
            spread = [row[f"± {measure}"] or 0 for row in rows]
            values = np.array([row[measure] for row in rows], float)  # NaN where a measure has no value
            bars = panel.barh([row["way"] for row in rows], values, xerr=spread, capsize=3)
            panel.bar_label(bars, fmt="%.3f", fontsize=8, label_type="center", color="white")
            panel.invert_yaxis()
            panel.set(xlabel=measure, title=name)

    return {"": (draw, (1, len(asked)))} if asked else {}


if __name__ == "__main__":
    results.main("sentence_averages", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
