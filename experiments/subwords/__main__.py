"""Is a pass through BERT worth it, or do its word pieces or fastText do for classifying texts?

    python -m experiments.subwords                     # glosses of WordNet, 20 Newsgroups, Reuters
    python -m experiments.subwords --validate          # epochs and codes of fastText, on other texts
    python -m experiments.subwords --texts folder      # labelled texts of your own, n-grams on and off

Paper: BERT or FastText? (arXiv:2411.17661). `make data` brings WordNet, the news and all-MiniLM-L6-v2.
About 5 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.shared import flags, inputs, results, text_models
from experiments.shared.results import Claim, Result
from experiments.subwords import drawing, features
from experiments.subwords.drawing import figures
from experiments.subwords.features import CODED, CONTEXT, FASTTEXT, PIECES, TABLE, WORDS
from jaxembed import data, metrics


@dataclasses.dataclass(frozen=True)
class Config:
    """Compares features of texts by logistic regression in cross-validation."""

    count: int = 800  # texts of each task
    length: int = 48  # word pieces of a text
    least: int = 10  # texts of a label; rarer ones are left out
    folds: int = 5
    seeds: int = 3  # of the folds
    compressed: int = 100  # width after the singular value decomposition of the encoder's features
    width: int = 100  # of trained word vectors; compressed in the same proportion
    epochs: int = 3  # --validate compares others
    buckets: int = 200_000
    corpus: int | None = None  # texts that word vectors are trained on; None takes all
    group: int = 2  # coordinates that a byte of the quantised rows stands for
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    texts: pathlib.Path | None = None  # folder of labelled texts of your own, .csv, .tsv or fastText's .txt
    points: int = 400  # texts of the map of a task
    validate: bool = False  # settings of fastText alone, on texts that are not measured
    quick: bool = False  # 200 texts of each task, one seed, 3,000 texts to train on
    workdir: pathlib.Path = pathlib.Path("runs/subwords")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"count": (50, 10**6), "length": (4, 512), "folds": (2, 20), "seeds": (1, 100)}
        limits |= {"least": (2, 10**5), "points": (40, 10**4), "compressed": (1, 4096), "width": (4, 2000)}
        limits |= {"epochs": (1, 1000), "buckets": (1, 10**8), "corpus": (10, 10**8), "group": (1, 16)}
        flags.check(self, limits)
        if self.width % self.group:
            raise ValueError(f"--group {self.group}: does not divide --width {self.width}; choose a divisor")
        flags.exclude(self, "texts", ("model", "corpus", "compressed"))


QUICK = {"count": 200, "seeds": 1, "corpus": 3000, "length": 32, "epochs": 1}
BUCKETS_OF_OWN = 50_000
MAPPED = "newsgroups"  # the task whose texts are drawn as maps
TRIED = {"epochs": (1, 2, 3), "group": (2, 4, 10)}


def trained(cfg, encoder):
    """{name: (word vectors, tokeniser)} of all arms that are trained here, on the same texts."""
    lists = features.corpus(cfg.corpus)
    flags.stage(f"trains on {sum(map(len, lists)):,} words of {len(lists):,} texts")
    given = {"width": cfg.width, "epochs": cfg.epochs, "buckets": cfg.buckets}
    found = {FASTTEXT: (features.train(lists, ngrams=(3, 6), **given), data.words)}
    found[CODED] = features.quantised(found[FASTTEXT][0], cfg.group), data.words
    found[WORDS] = features.train(lists, **given), data.words
    pieces = tokens_of(encoder)
    lists = [pieces(" ".join(words)) for words in lists]
    return found | {PIECES: (features.train(lists, **given), pieces)}


def tokens_of(encoder):
    """A function text -> list of its word pieces, as str, without special tokens."""
    return lambda text: encoder.tokenizer.encode(text, add_special_tokens=False).tokens


def judged(cfg, task, arm, vectors, labels, narrow):
    """Rows of one arm at full width and narrower: macro-F1, "runs" of it [seeds x folds] standardised.

    Without that the penalty decides, which is harder on short vectors: a mean of many words is short.
    """
    rows = []
    for size in (None, narrow):
        row = {"task": task, "arm": arm, "width": size or vectors.shape[1], "compressed": size is not None}
        for name, more in (("macro-F1", {}), ("standardised", {"standardise": True})):
            given = {"folds": cfg.folds, "size": size, **more}
            runs = [metrics.cross_validate(vectors, labels, seed=s, **given)["f1"] for s in range(cfg.seeds)]
            row[name], row[f"± {name}"] = results.spread(np.mean(runs, axis=1))
            row |= {"runs": runs} if more else {}
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        half = len(labels) // 2
        if size is None:
            near = metrics.nearest_accuracy(unit[:half], labels[:half], unit[half:], labels[half:])
            row["10 neighbours"] = near
        rows.append(row)
    return rows


def compare(cfg):
    """Rows of all tasks and arms, and the sizes of what is kept."""
    encoder = text_models.load(cfg.model)
    flags.at_most(cfg, "compressed", encoder.width, f"the encoder's vectors have {encoder.width} numbers")
    words = trained(cfg, encoder)
    narrow = max(1, round(cfg.width * cfg.compressed / encoder.width))
    rows = []
    for task, (texts, labels) in features.tasks(cfg.count).items():
        flags.stage(f"{task}: {len(texts)} texts of {len(set(labels))} labels")
        found = features.of_encoder(encoder, texts, cfg.length)
        for arm, vectors in found.items():
            rows += judged(cfg, task, arm, vectors, labels, cfg.compressed)
        for arm, (vectors, tokenise) in words.items():
            lists = [tokenise(text)[: cfg.length] for text in texts]
            found[arm] = features.of_words(vectors, lists)
            rows += judged(cfg, task, arm, found[arm], labels, narrow)
        if task == MAPPED:
            maps = drawn_flat(cfg, task, found, labels)
    sizes = [
        {"arm": arm, "megabytes": features.size_in_mb(words[arm][0], cfg.group if arm == CODED else None)}
        for arm in (FASTTEXT, CODED, WORDS, PIECES)
    ]
    sizes.append({"arm": TABLE, "megabytes": encoder.params["table"]["embedding"].nbytes / 1e6})
    trust = [{"arm": arm, "trustworthiness": maps[arm]["trustworthiness"]} for arm in drawing.MAPS]
    return Result({"features": rows, "sizes": sizes, "maps": trust}, {"places": maps})


def validated(cfg):
    """fastText at several numbers of epochs, and its codes at several sizes, on the texts of part 1.

    A result after each number of epochs, so that a run that is cut keeps what it has.
    """
    lists, rows = features.corpus(cfg.corpus), []
    tasks = features.tasks(cfg.count, part=1)
    for epochs in TRIED["epochs"]:
        flags.stage(f"trains fastText for {epochs} epochs")
        plain = features.train(lists, ngrams=(3, 6), width=cfg.width, epochs=epochs, buckets=cfg.buckets)
        arms = {(FASTTEXT, None): plain}
        if epochs == cfg.epochs:
            arms |= {(CODED, group): features.quantised(plain, group) for group in TRIED["group"]}
        for (arm, group), words in arms.items():
            row = {"arm": arm, "epochs": epochs, "group": group}
            for task, (texts, labels) in tasks.items():
                vectors = features.of_words(words, [data.words(text)[: cfg.length] for text in texts])
                given = {"folds": cfg.folds, "standardise": True}
                runs = [metrics.cross_validate(vectors, labels, seed=s, **given) for s in range(cfg.seeds)]
                row[task], row[f"± {task}"] = results.spread([np.mean(run["f1"]) for run in runs])
            rows.append(row)
        yield Result({"settings": rows})


def drawn_flat(cfg, task, found, labels):
    """A map of some texts of a task by each of three features: places, trustworthiness and classes."""
    kinds = sorted(set(labels))
    maps = {"task": task, "labels": [kinds.index(label) for label in labels[: cfg.points]], "names": kinds}
    for arm in drawing.MAPS:
        places, trust = features.flat(found[arm][: cfg.points])
        maps[arm] = {"places": places.round(2).tolist(), "trustworthiness": trust}
    return maps


def own_texts(cfg):
    """n-grams on and off, on labelled texts of a user alone: rows as those of ``compare``."""
    rows = []
    for name, pairs in features.own(cfg.texts).items():
        texts, labels = features.chosen(pairs, cfg.count, cfg.least)
        lists = [data.words(text) for text in texts]
        unseen = [data.words(text) for text, _ in pairs]
        narrow = max(1, cfg.width // 4)
        for arm, ngrams in ((FASTTEXT, (3, 6)), (WORDS, None)):
            given = {"width": cfg.width, "epochs": cfg.epochs, "buckets": min(cfg.buckets, BUCKETS_OF_OWN)}
            words = features.train(unseen, ngrams=ngrams, **given)
            known = float(np.mean([word in words for text in lists for word in text]))
            found = judged(cfg, name, arm, features.of_words(words, lists), labels, narrow)
            rows += [row | {"words known": known} for row in found]
    return Result({"features": rows})


def gap(t, one, other, narrow=(False, False)):
    """{task: differences [seeds x folds] of two arms}, standardised, at full width or compressed."""
    runs = {(r["task"], r["arm"], r["compressed"]): np.ravel(r["runs"]) for r in t.get("features", ())}
    tasks = dict.fromkeys(task for task, _, _ in runs)
    keys = [((task, one, narrow[0]), (task, other, narrow[1])) for task in tasks]
    return {a[0]: runs[a] - runs[b] for a, b in keys if a in runs and b in runs}


def above(one, other, narrow=(False, False), least=2):
    """Is the gap above two standard errors over folds and seeds, in at least two tasks? The smallest gap."""

    def ours(t):
        found = gap(t, one, other, narrow)
        if len(found) < least or len(next(iter(found.values()))) < 15:
            return None
        clear = [x.mean() > 2 * x.std(ddof=1) / len(x) ** 0.5 for x in found.values()]
        means = sorted(x.mean() for x in found.values())
        return results.holds(sum(clear) >= least, means[-least])

    return ours


def costs_more(t):
    """How much more compression takes from the table than from the contextual features."""
    lost = [gap(t, arm, arm, (False, True)) for arm in (TABLE, CONTEXT)]
    found = {task: lost[0][task] - lost[1][task] for task in lost[0]}
    if len(found) < 2 or len(next(iter(found.values()))) < 15:
        return None
    clear = [x.mean() > 2 * x.std(ddof=1) / len(x) ** 0.5 for x in found.values()]
    return results.holds(sum(clear) >= 2, np.mean([x.mean() for x in found.values()]))


PAPER = "2411.17661"
CLAIMS = (
    Claim(PAPER, "Contextual features are above those of the table of word pieces", above(CONTEXT, TABLE)),
    Claim(PAPER, "The table of word pieces is above fastText", above(TABLE, FASTTEXT)),
    Claim(PAPER, "Compression takes more from the table than from contextual features", costs_more),
    Claim(
        PAPER,
        "Compressed contextual features are above fastText at its full width",
        above(CONTEXT, FASTTEXT, (True, False)),
    ),
    Claim("", "A table trained on fastText's own text is not above fastText", lambda t: denied(t)),
)


def denied(t):
    answer = above(PIECES, FASTTEXT)(t)
    return answer and results.holds(answer.verdict != results.REPRODUCED, answer.value)


def look(cfg):
    """Refuses a run whose data are missing."""
    if cfg.texts is None:
        inputs.installed("sklearn")
        inputs.sets("wordnet", "newsgroups", "book_excerpts")
        text_models.find_model(cfg.model)


def run(cfg):
    """Every feature on every task, or n-grams on and off on texts of a user, or settings alone."""
    if cfg.validate:
        return validated(cfg)
    return compare(cfg) if cfg.texts is None else own_texts(cfg)


if __name__ == "__main__":
    results.main("subwords", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
