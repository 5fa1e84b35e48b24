"""How fast are topics of documents found compared with gensim and scikit-learn, and are they as good?

    python -m experiments.benchmarks.topics
    python -m experiments.benchmarks.topics --documents 500 --rounds 1

3 minutes on 2 CPU cores. Posts of 20 Newsgroups as bags of words. Online LDA has the same batches, passes and
rates in all arms; the bound is that of the topics of each arm on as many posts that were not fitted, found by
one function. Factors and latent semantic analysis are of tf-idf. "ms a document" is wall time of a whole fit,
or of what a fitted model says of other documents, over the number of documents; passes are not taken out. CPU
time stands beside it, for a busy machine. gensim runs in one process, as by default.

Papers: M. Hoffman et al., online LDA; arXiv:2411.05036, whose table of foundations asks for these rows.
"""

import dataclasses
import functools
import pathlib

import jax
import numpy as np

from experiments.benchmarks import timing
from experiments.embedding_foundations import documents
from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from jaxembed import encoders

OURS, GENSIM, SKLEARN = "jaxembed", "gensim", "scikit-learn"
LDA, INFERENCE, FACTORS, LATENT = "online LDA", "inference of LDA", "NMF", "LSA"
TOPICS, BATCH, PASSES, OFFSET, DECAY = 20, 256, 6, 10.0, 0.7


@dataclasses.dataclass(frozen=True)
class Config:
    """Times topic models beside gensim's and scikit-learn's, and compares their bounds."""

    documents: int = 1000  # that are fitted, and as many that are asked
    size: int = 100  # of factors and of latent semantic analysis
    rounds: int = 2  # turns of every fit
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        flags.check(self, {"documents": (300, 7000), "size": (2, 300), "rounds": (1, 100)})


def sparse(bag, words):
    """Bags as a sparse matrix [N, V]."""
    from scipy import sparse

    ids, weights = map(np.asarray, bag)
    rows = np.repeat(np.arange(len(ids)), ids.shape[1])
    found = sparse.csr_matrix((weights.ravel(), (rows, ids.ravel())), shape=(len(ids), words))
    found.eliminate_zeros()
    return found


def lda_arms(known, asked, words):
    """{task: {arm: function}} of fits, which give topics [K, V], and of inference by fitted models."""
    from sklearn.decomposition import LatentDirichletAllocation

    shared = {"learning_method": "online", "learning_decay": DECAY, "learning_offset": OFFSET}
    options = shared | {"batch_size": BATCH, "max_iter": PASSES, "random_state": 0}
    x, other = sparse(known, words), sparse(asked, words)
    peer = LatentDirichletAllocation(TOPICS, **options)
    settings = {"batch": BATCH, "epochs": PASSES, "offset": OFFSET, "decay": DECAY}
    fits = {
        OURS: lambda: np.asarray(documents.online_topics(known, words, TOPICS, 0, **settings)["topics"]),
        SKLEARN: lambda: peer.fit(x).components_,
    }
    params = jax.device_put({"topics": fits[OURS]()})
    infer = jax.jit(encoders.lda)
    tells = {OURS: lambda: infer(params, *asked), SKLEARN: lambda: peer.transform(other)}
    if (models := timing.optional("gensim.models")) is not None:
        texts, others = ([list(zip(r.indices, r.data, strict=True)) for r in m] for m in (x, other))
        given = {"num_topics": TOPICS, "chunksize": BATCH, "passes": PASSES, "decay": DECAY, "offset": OFFSET}
        given |= {"id2word": {i: str(i) for i in range(words)}, "eval_every": None, "random_state": 0}
        fits[GENSIM] = lambda: models.LdaModel(texts, **given).state.get_lambda()
        fitted = models.LdaModel(texts, **given | {"passes": 1})
        tells[GENSIM] = lambda: fitted.inference(others)[0]
    return {LDA: fits, INFERENCE: tells}


def matrix_arms(cfg, bag, words):
    """{task: {arm: function}} of fits to tf-idf."""
    from sklearn.decomposition import NMF, TruncatedSVD

    weighted = bag[0], encoders.tfidf(encoders.fit_idf(*bag, words), *bag)
    x, key = sparse(weighted, words), jax.random.key(0)
    given = {"words": words, "size": cfg.size}
    factors = jax.jit(functools.partial(encoders.fit_nmf, **given, rounds=100))
    latent = jax.jit(functools.partial(encoders.fit_lsa, **given, oversample=100, powers=2))
    peers = {"init": "random", "solver": "mu", "tol": 0, "max_iter": 100, "random_state": 0}
    options = {"n_oversamples": 100, "n_iter": 2, "random_state": 0}
    return {
        FACTORS: {
            OURS: lambda: factors(key, *weighted),
            SKLEARN: lambda: NMF(cfg.size, **peers).fit(x),
        },
        LATENT: {
            OURS: lambda: latent(key, *weighted),
            SKLEARN: lambda: TruncatedSVD(cfg.size, **options).fit(x),
        },
    }


def by_title(rows):
    """The rows of each table."""
    told = {"times": "task", "bounds": "nats a held-out word", "posts": "documents"}
    return {title: [row for row in rows if name in row] for title, name in told.items()}


def summary(cfg, rows):
    """Our times beside those of the peers."""
    found, named = [], {(row["task"], row["arm"]): row for row in by_title(rows)["times"]}
    for (task, arm), row in named.items():
        if arm == OURS:
            continue
        ours = named[task, OURS]
        for unit in ("ms a document", "CPU ms a document"):
            found.append(timing.compared(f"{task}, {unit}", arm, ours[unit], row[unit], rate=False))
    return found


def run(cfg):
    """Every fit in turns, and the bound of the topics of each."""
    ((known, _), (asked, _)), vocabulary = documents.news(cfg.documents, 0)
    words, rows, bounds = len(vocabulary), [], []
    tasks = lda_arms(known, asked, words)
    for arm, fit in tasks[LDA].items():
        flags.stage(f"fits topics, {arm}")
        bound = documents.bound_per_word({"topics": fit().astype(np.float32)}, asked, 1 / TOPICS)
        bounds.append({"arm": arm, "nats a held-out word": bound})
    for task, calls in (tasks | matrix_arms(cfg, known, words)).items():
        flags.stage(f"times {task}")
        for arm, t in timing.in_turns(calls, cfg.rounds).items():
            row = {"task": task, "arm": arm, "ms a document": 1e3 * t["median"] / cfg.documents}
            rows.append(row | {"CPU ms a document": 1e3 * t["cpu"] / cfg.documents})
    rows += [*bounds, {"documents": cfg.documents, "words": words, "topics": TOPICS}]
    return Result({"summary": summary(cfg, rows)} | by_title(rows))


def near(arm):
    """Is the bound of our topics at most 2 % below an arm's? The difference as a share of the arm's."""

    def answer(t):
        told = {row["arm"]: row["nats a held-out word"] for row in t.get("bounds", ())}
        if arm not in told:
            return None
        gap = (told[OURS] - told[arm]) / abs(told[arm])
        return results.holds(gap > -0.02, gap)

    return answer


CLAIMS = tuple(
    Claim("", f"The held-out bound of online LDA is within 2 % of {arm}'s or above", near(arm))
    for arm in (GENSIM, SKLEARN)
)


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets("newsgroups")
    inputs.installed("sklearn", "scipy")


if __name__ == "__main__":
    results.main("benchmarks.topics", Config, run, CLAIMS, check=look)
