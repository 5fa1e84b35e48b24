"""How fast are word vectors trained compared with gensim, and are they as good?

    python -m experiments.benchmarks.words       # compares with gensim where it is installed
    python -m experiments.benchmarks.words --words 300_000 --seeds 1 --epochs 1

2 minutes on 2 CPU cores. Skip-gram of width 100, window 5, 5 negatives, subsampling at 1e-3, and fastText's
n-grams of 3 to 6 characters in 200,000 buckets, on the same texts: 20 Newsgroups, WordNet's glosses, Reuters
and docstrings. gensim has two workers. Arms take turns. "words/s" are words of the vocabulary, before any is
thinned out, per second of training and epoch: of the whole call of ``train_words`` on a corpus here, of
``model.train`` there. Quality is Spearman's correlation on WordSim-353 and SimLex-999; pairs with an unknown
word are left out. Here 16 places share 16 noise words, there every pair has 5 of its own.

Papers: arXiv:1310.4546 (word2vec), arXiv:1607.04606 (fastText), arXiv:1604.04661 (shared noise words).
"""

import dataclasses
import pathlib
import time

import numpy as np

from experiments.benchmarks import timing
from experiments.shared import flags, results
from experiments.word_vectors import corpora
from jaxembed import data, metrics, recipes

PEER, OURS = "gensim", "jaxembed"
SKIP_GRAM, NGRAMS = "skip-gram", "skip-gram with n-grams"
SETS = {"WordSim-353": "wordsim353", "SimLex-999": "simlex999"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Times training of word vectors beside gensim, and measures both on judged pairs."""

    words: int = 600_000  # of the texts, at most
    width: int = 100
    window: int = 5
    epochs: int = 3
    ngram_epochs: int = 1  # of the arms with n-grams
    buckets: int = 200_000
    seeds: int = 3
    workers: int = 2  # of gensim
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        limits = {"words": (10**4, 10**9), "width": (1, 10**4), "window": (1, 100), "epochs": (1, 1000)}
        limits |= {"ngram_epochs": (0, 1000), "buckets": (1, 10**7), "seeds": (1, 100), "workers": (1, 64)}
        flags.check(self, limits)


def ours(cfg, corpus, ngrams, epochs, seed):
    """(words, vectors, seconds) of a training here."""
    began = time.perf_counter()
    options = {"ngrams": (3, 6), "buckets": cfg.buckets} if ngrams else {}
    found = recipes.train_words(
        corpus, width=cfg.width, window=cfg.window, epochs=epochs, seed=seed, progress=False, **options
    )
    return found.words, found.vectors, time.perf_counter() - began


def theirs(cfg, models, texts, ngrams, epochs, seed):
    """(words, vectors, seconds) of a training in gensim; the vocabulary is made before."""
    make, options = models.Word2Vec, {}
    if ngrams:
        make, options = models.FastText, {"bucket": cfg.buckets}
    model = make(
        vector_size=cfg.width, window=cfg.window, sg=1, workers=cfg.workers, seed=seed + 1, **options
    )
    model.build_vocab(texts)
    began = time.perf_counter()
    model.train(texts, total_examples=len(texts), epochs=epochs)
    return model.wv.index_to_key, model.wv.vectors, time.perf_counter() - began


def quality(words, vectors):
    """{set: Spearman's correlation}, of the pairs whose words are known."""
    found = {}
    for name, pairs in SETS.items():
        judged = data.word_pairs(pairs)
        both = list(zip(judged["first"], judged["second"], strict=True))
        found[name] = metrics.word_similarity(vectors, words, both, judged["scores"], fold=True)["spearman"]
    return found


def vocabulary(texts, models):
    """Words per second with which the vocabulary is made; here the text becomes numbers in a file too."""
    count, seconds = sum(map(len, texts)), {}
    began = time.perf_counter()
    corpus = data.corpus(texts)
    seconds[OURS] = time.perf_counter() - began
    if models is not None:
        began = time.perf_counter()
        models.Word2Vec(vector_size=1).build_vocab(texts)
        seconds[PEER] = time.perf_counter() - began
    return corpus, {name: count / s for name, s in seconds.items()}


def measured(cfg, corpus, texts, models):
    """A row for each training: task, arm, seed, rate and quality."""
    tasks = {SKIP_GRAM: (False, cfg.epochs)} | (
        {NGRAMS: (True, cfg.ngram_epochs)} if cfg.ngram_epochs else {}
    )
    count, rows = int(corpus["counts"].sum()), []
    for task, (ngrams, epochs) in tasks.items():
        ours(cfg, corpus, ngrams, 1, seed=99)  # compiles
        for seed in range(cfg.seeds):
            calls = {OURS: lambda n=ngrams, e=epochs, s=seed: ours(cfg, corpus, n, e, s)}
            if models is not None:
                calls[PEER] = lambda n=ngrams, e=epochs, s=seed: theirs(cfg, models, texts, n, e, s)
            for arm, call in calls.items():
                flags.stage(f"trains {task}, {arm}, seed {seed}")
                words, vectors, seconds = call()
                rate = count * epochs / seconds
                rows.append(
                    {"task": task, "arm": arm, "seed": seed, "words/s": rate} | quality(words, vectors)
                )
    return rows


def means(rows):
    """Over the seeds: the median rate, and means of the quality with their spread."""
    found = []
    for task, arm in dict.fromkeys((row["task"], row["arm"]) for row in rows):
        own = [row for row in rows if (row["task"], row["arm"]) == (task, arm)]
        line = {"task": task, "arm": arm, "words/s": float(np.median([row["words/s"] for row in own]))}
        for name in SETS:
            line[name], line[f"± {name}"] = results.spread([row[name] for row in own])
        found.append(line)
    return found


def summary(rows, rates):
    """Ours beside gensim's: rates, and Spearman's correlations."""
    found = [timing.compared("vocabulary, words/s", PEER, rates[OURS], rates[PEER], rate=True)]
    for task in dict.fromkeys(row["task"] for row in rows):
        pair = {row["arm"]: row for row in rows if row["task"] == task}
        for name in ("words/s", *SETS):
            one, two = pair[OURS][name], pair[PEER][name]
            found.append(timing.compared(f"{task}, {name}", PEER, one, two, rate=True))
    return found


def run(cfg):
    """Trains every arm with every seed, ours and gensim's in turn."""
    package = timing.optional("gensim")
    models = None if package is None else timing.optional("gensim.models")
    texts = corpora.cut(corpora.mixed(corpora.domains()), cfg.words)
    corpus, rates = vocabulary(texts, models)
    rows = measured(cfg, corpus, texts, models)
    compared = {} if models is None else {"summary": summary(means(rows), rates)}
    size = [{"words": corpus["tokens"], "texts": len(texts), "vocabulary": len(corpus["words"])}]
    return results.Result(compared | {"means": means(rows), "trainings": rows, "texts": size})


if __name__ == "__main__":
    results.main("benchmarks.words", Config, run)
