"""fastText's classifier in the same folds as the features: here, and by its own program."""

import pathlib
import tempfile

import numpy as np

from experiments.benchmarks import timing
from experiments.shared import flags, results
from experiments.subwords import features
from jaxembed import data, metrics, recipes

OURS, PEER = "jaxembed", "fasttext"
LONGEST = {"words": 1, "words and pairs of them": 2}
EPOCHS, RATE = 25, 1.0  # those of fastText's tutorial for a few thousand texts


def here(cfg, known, labels, asked, longest, seed):
    """Labels of the asked texts, by a classifier that was trained here on lists of words."""
    given = {"width": cfg.width, "epochs": EPOCHS, "rate": RATE, "buckets": cfg.buckets, "seed": seed}
    words = recipes.train_words(
        known, kind="supervised", labels=labels, word_ngrams=longest, progress=False, **given
    )
    return [row[0][0] if row else labels[0] for row in words.classify(asked)]


def there(program, cfg, known, labels, asked, longest, seed):
    """Labels of the asked texts, by fastText's own program."""
    names = sorted(set(labels))
    lines = [f"__label__{names.index(n)} {' '.join(t)}\n" for t, n in zip(known, labels, strict=True)]
    given = {"dim": cfg.width, "epoch": EPOCHS, "lr": RATE, "bucket": cfg.buckets, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "texts.txt"
        path.write_text("".join(lines), encoding="utf-8")
        model = program.train_supervised(str(path), wordNgrams=longest, thread=1, verbose=0, **given)
    told = [model.f.predict(" ".join(text) + "\n", 1, 0.0, "strict") for text in asked]
    return [names[int(row[0][1].removeprefix("__label__"))] if row else labels[0] for row in told]


def judged(cfg, tell, lists, labels):
    """Macro-F1 [seeds x folds], in the folds of ``metrics.cross_validate``."""
    numbers, runs = np.unique(labels, return_inverse=True)[1], []
    for seed in range(cfg.seeds):
        parts = metrics.stratified_folds(numbers, folds=cfg.folds, seed=seed)
        runs.append([])
        for fold in range(cfg.folds):
            known, asked = np.flatnonzero(parts != fold), np.flatnonzero(parts == fold)
            given = [lists[i] for i in known], [labels[i] for i in known], [lists[i] for i in asked]
            runs[-1].append(metrics.macro_f1([labels[i] for i in asked], tell(*given, seed=seed)))
    return runs


def compare(cfg):
    """A row for each task and arm, with or without pairs of words; "runs" of all seeds and folds."""
    program, rows = timing.optional("fasttext"), []
    for task, (texts, labels) in features.tasks(cfg.count).items():
        lists = [data.words(text)[: cfg.length] for text in texts]
        for name, longest in LONGEST.items():
            arms = {OURS: lambda *x, n=longest, seed: here(cfg, *x, n, seed)}
            if program is not None:
                arms[PEER] = lambda *x, n=longest, seed: there(program, cfg, *x, n, seed)
            for arm, tell in arms.items():
                flags.stage(f"{task}: {name}, {arm}")
                row = {"task": task, "reads": name, "arm": arm}
                runs = judged(cfg, tell, lists, labels)
                row["macro-F1"], row["± macro-F1"] = results.spread(np.mean(runs, axis=1))
                rows.append(row | {"runs": runs})
    return rows


def told(t, *names):
    """{values of some columns: macro-F1 of all seeds and folds}."""
    return {tuple(row[n] for n in names): np.ravel(row["runs"]) for row in t.get("classifiers", ())}


def near(t):
    """Is macro-F1 here at most 0.02 below fastText's own, in every task? The worst of the differences."""
    runs = told(t, "task", "reads", "arm")
    gaps = [runs[*key, OURS] - runs[*key, PEER] for *key, arm in runs if arm == PEER]
    return results.paired(np.stack(gaps, 1), margin=-0.02) if gaps else None


def pairs_help(t):
    """Do pairs of words help the classifier here, in every task? The worst of the differences."""
    runs, (one, two) = told(t, "arm", "reads", "task"), LONGEST
    gaps = [
        x - runs[OURS, one, task] for (arm, reads, task), x in runs.items() if (arm, reads) == (OURS, two)
    ]
    return results.paired(np.stack(gaps, 1)) if gaps else None
