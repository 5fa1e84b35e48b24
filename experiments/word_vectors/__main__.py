"""Which word vectors are good: beside gensim, by model, by text, and below classifiers of documents?

    python -m experiments.word_vectors                     # gensim is compared where it is installed
    python -m experiments.word_vectors --quick
    python -m experiments.word_vectors --texts folder      # on text files of your own, a text in each line
    python -m experiments.word_vectors --pairs men.txt     # judged pairs of your own, two words and a score
    python -m experiments.word_vectors --choices toefl.txt # questions of synonyms, the answer first
    python -m experiments.word_vectors --validate          # rates of the classifiers, on validation texts

Paper: word and document embeddings (arXiv:1611.05962); the part about words appeared as arXiv:1507.05523.
`make data` brings 20 Newsgroups, WordNet, Reuters and the judged pairs. About 6 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib

import numpy as np

from experiments.benchmarks import timing
from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from experiments.word_vectors import analogies, corpora, documents, gains, measure
from experiments.word_vectors.drawing import figures
from jaxembed import data, recipes

OURS, PEER = "jaxembed", "gensim"
SIMPLE, COMPLEX, COUNTS = ("skip_gram", "cbow"), ("order", "nnlm", "cw"), ("glove", "ppmi")
KINDS = (*SIMPLE, "lbl", *COMPLEX, *COUNTS)
SETS = tuple(measure.SETS)


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains word vectors by eight models, on several domains, and beside gensim."""

    words: int = 600_000  # of the mixed text
    small: int = 400_000  # of the small texts of a domain
    large: int = 1_000_000  # of its large texts
    ranking: int = 300_000  # of the text on which all models train
    epochs: int = 3
    width: int = 100
    window: int = 5
    narrow: int = 50  # width of all models where they are ranked
    near: int = 2  # their window
    steps: int = 300  # of a classifier of documents
    documents: int = 3000  # that it learns from
    seeds: int = 5
    peer: bool = True  # compare with gensim where it is installed
    texts: pathlib.Path | None = None  # a folder of text files in place of the mixed text
    pairs: pathlib.Path | None = None  # a file of judged pairs of words beside the two sets
    choices: pathlib.Path | None = None  # a file of questions of synonyms beside those of WordNet
    validate: bool = False  # the rates of the classifiers alone
    quick: bool = False  # one seed, short texts
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"words": (10**4, 10**9), "small": (10**3, 10**9), "ranking": (10**4, 10**9)}
        limits |= {"epochs": (1, 1000), "width": (2, 10**4), "window": (1, 50), "seeds": (1, 100)}
        limits |= {"large": (10**3, 10**9), "narrow": (2, 10**4), "near": (1, 50)}
        limits |= {"steps": (1, 10**6), "documents": (100, 10**5)}
        flags.check(self, limits)


QUICK = {"seeds": 1, "words": 60_000, "small": 30_000, "large": 60_000, "ranking": 30_000, "epochs": 1}
QUICK |= {"steps": 20, "documents": 300}


def trained(cfg, corpus, seed, kind="skip_gram", **options):
    """The words of a model; counts of pairs come from the same window."""
    options = {"width": cfg.width, "window": cfg.window, "epochs": cfg.epochs, "seed": seed} | options
    return recipes.train_words(corpus, kind=kind, progress=False, **options)


def beside_gensim(cfg, texts):
    """Skip-gram here and there, on the same texts with the same settings: a row for each arm and seed."""
    corpus, models, rows = data.corpus(texts), timing.optional("gensim.models") if cfg.peer else None, []
    for seed in range(cfg.seeds):
        flags.stage(f"trains skip-gram, seed {seed}")
        found = trained(cfg, corpus, seed)
        rows.append({"arm": OURS, "seed": seed} | measure.similarity(found.words, found.vectors, cfg.pairs))
        if models is not None:
            options = {"vector_size": cfg.width, "window": cfg.window, "epochs": cfg.epochs, "sg": 1}
            model = models.Word2Vec(texts, workers=2, seed=seed + 1, **options)
            score = measure.similarity(model.wv.index_to_key, model.wv.vectors, cfg.pairs)
            rows.append({"arm": PEER, "seed": seed} | score)
    return rows


def by_text(cfg, domains):
    """Texts of the task's domain and of others, few and many: the accuracy of a classifier of posts."""
    other = corpora.mixed({n: x for n, x in domains.items() if n != corpora.NEWS})
    shuffled = corpora.mixed({corpora.NEWS: measure.posts("train")["words"]})
    texts = {
        (corpora.NEWS, "small"): corpora.cut(shuffled, cfg.small),
        (corpora.NEWS, "large"): corpora.cut(shuffled, cfg.large),
        ("other", "small"): corpora.cut(other, cfg.small),
        ("other", "large"): corpora.cut(other, cfg.large),
    }
    rows = []
    for (domain, size), some in texts.items():
        corpus = data.corpus(some)
        bags = measure.bags(corpus["words"])
        flags.stage(f"trains on {corpus['tokens']} words of {domain}")
        for seed in range(cfg.seeds):
            found = trained(cfg, corpus, seed)
            row = {"domain": domain, "size": size, "seed": seed, "words": corpus["tokens"]}
            rows.append(row | {"accuracy": measure.topic_accuracy(found, bags)})
    return rows


def answered(found):
    """Analogies by trained vectors and by published ones, and what is drawn of the latter."""
    flags.stage("answers analogies")
    known = analogies.published()
    arms = {OURS: (found.words, found.vectors)} | ({analogies.PUBLISHED: known} if known else {})
    return analogies.answered(arms), {"shown": analogies.places(*known)} if known else {}


def by_classifier(cfg, found):
    """Classifiers on trained vectors, and on letters whose order alone tells the class."""
    flags.stage("trains classifiers of documents")
    some = documents.load(words=found.words, documents=cfg.documents, test=cfg.documents // 2)
    rows = documents.compare(some, found.vectors, seeds=cfg.seeds, steps=cfg.steps)
    flags.stage("trains classifiers of letters")
    return rows, documents.order(seeds=min(3, cfg.seeds), steps=cfg.steps + cfg.steps // 3)


def rates(cfg, texts):
    """Classifiers on trained vectors at several rates: macro-F1 on validation texts, kept after each rate."""
    found = trained(cfg, data.corpus(texts), 0)
    some = documents.load(words=found.words, documents=cfg.documents, test=100)
    rows = []
    for rate in documents.TRIED:
        flags.stage(f"trains classifiers at rate {rate}")
        given = {"seeds": min(3, cfg.seeds), "steps": cfg.steps, "part": "validation"}
        told = documents.compare(some, found.vectors, rates=dict.fromkeys(documents.KINDS, rate), **given)
        rows += [{"rate": rate} | {k: x for k, x in row.items() if k != "runs"} for row in told]
        yield Result({"rates": rows})


def near_gensim(t):
    one, two = ([measure.over_seeds(t["seeds_gensim"], s, arm=arm) for s in SETS] for arm in (OURS, PEER))
    if two[0] is None:
        return None
    return results.paired(np.stack(one, 1) - np.stack(two, 1), margin=-0.02)


def simple_first(t):
    scores = {kind: measure.over_seeds(t["seeds_models"], SETS[0], arm=kind) for kind in (*SIMPLE, *COMPLEX)}
    return results.paired(np.stack([scores[a] - scores[b] for a in SIMPLE for b in COMPLEX], 1))


def domain_first(t):
    small = measure.over_seeds(t["seeds_texts"], "accuracy", domain=corpora.NEWS, size="small")
    large = measure.over_seeds(t["seeds_texts"], "accuracy", domain="other", size="large")
    return results.paired(small - large, margin=0.01)


def larger_is_better(t):
    told = functools.partial(measure.over_seeds, t["seeds_texts"], "accuracy")
    small, large = ([told(domain=d, size=s) for d in (corpora.NEWS, "other")] for s in ("small", "large"))
    return results.paired(np.stack(large, 1) - np.stack(small, 1))


def rcnn_first(t):
    runs = {row["classifier"]: [run["macro-F1"] for run in row["runs"]] for row in t["classifiers"]}
    return results.paired(np.subtract(runs[documents.RCNN], runs[documents.CNN]))


def far_order(t):
    found = {row["classifier"]: row["accuracy"] for row in t["order"]}
    return results.holds(found[documents.RCNN] > 0.95 > found[documents.CNN], found[documents.RCNN])


def asked(name, answer):
    return lambda t: answer(t) if t.get(name) else None


CLAIMS = (
    Claim(
        "",
        "Skip-gram's correlations with people are at most 0.02 below those of gensim, on both sets",
        asked("seeds_gensim", near_gensim),
    ),
    Claim(
        "1611.05962",
        "Skip-gram and CBOW are above Order, NNLM and C&W on a small text (WordSim-353)",
        asked("seeds_models", simple_first),
    ),
    Claim(
        "1611.05962",
        "A small text of the task's domain is better than a larger one of others, by more than a point",
        asked("seeds_texts", domain_first),
    ),
    Claim("1611.05962", "Within a domain a larger text is better", asked("seeds_texts", larger_is_better)),
    Claim("1611.05962", "RCNN is above a convolution over text (macro-F1)", asked("classifiers", rcnn_first)),
    Claim(
        "1611.05962",
        "Of two letters far apart, RCNN tells the first one: above 0.95, where a convolution is below",
        asked("order", far_order),
    ),
)


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets("newsgroups", "wordnet")


def run(cfg):
    """Quality beside gensim, by model, and by text."""
    domains = corpora.domains()
    mixed = corpora.mixed(domains)
    own = None if cfg.texts is None else [*map(data.words, data.text_lines(cfg.texts))]
    if cfg.validate:
        return rates(cfg, corpora.cut(mixed, cfg.words))
    seeds = {"seeds_gensim": beside_gensim(cfg, corpora.cut(mixed if own is None else own, cfg.words))}
    ranked = data.corpus(corpora.cut(mixed if own is None else own, cfg.ranking))
    seeds |= gains.by_model(cfg, ranked["words"], KINDS, functools.partial(trained, cfg, ranked))
    seeds["seeds_texts"] = by_text(cfg, domains)
    found, columns = trained(cfg, data.corpus(corpora.cut(mixed, cfg.words)), 0), measure.sets(cfg.pairs)
    asked_of = tuple(seeds["seeds_random"][0])
    classifiers, order = by_classifier(cfg, found)
    told, shown = answered(found)
    tables = {
        "gensim": measure.means(seeds["seeds_gensim"], ("arm",), columns),
        "models": measure.means(seeds["seeds_models"], ("arm",), asked_of),
        "gains": gains.table(seeds["seeds_models"], seeds["seeds_random"], asked_of),
        "texts": measure.means(seeds["seeds_texts"], ("domain", "size", "words"), ("accuracy",)),
        "classifiers": classifiers,
        "order": order,
        "analogies": told,
    }
    return Result(tables, seeds | shown)


if __name__ == "__main__":
    results.main("word_vectors", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
