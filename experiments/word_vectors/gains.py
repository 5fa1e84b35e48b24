"""Every model on one text: judged pairs, choices of synonyms, and the gain over random vectors."""

import functools

import numpy as np

from experiments.shared import flags, results
from experiments.word_vectors import measure
from jaxembed import data, metrics

SYNONYMS = "synonyms"


def by_model(cfg, known, kinds, train):
    """Scores of all sets: "seeds_models", a row for each model and seed, "seeds_random" of random vectors."""
    asked = {SYNONYMS: data.synonym_choices(data.wordnet(), known, count=1000)}
    asked |= {} if cfg.choices is None else {cfg.choices.stem: data.word_choices(cfg.choices)}
    score, rows = functools.partial(scores, asked, cfg.pairs), []
    made = (np.random.default_rng(seed).normal(size=(len(known), cfg.narrow)) for seed in range(cfg.seeds))
    random = [score(known, vectors) for vectors in made]
    for kind in kinds:
        flags.stage(f"trains {kind}")
        for seed in range(cfg.seeds):
            options = {"width": cfg.narrow, "window": cfg.near} | measure.SETTINGS.get(kind, {})
            found = train(seed, kind, **options)
            rows.append({"arm": kind, "seed": seed} | score(found.words, found.vectors))
    return {"seeds_models": rows, "seeds_random": random}


def scores(asked, pairs, words, vectors):
    """Correlations with judged pairs, and the accuracy of choices."""
    found = measure.similarity(words, vectors, pairs)
    for name, questions in asked.items():
        found[name] = metrics.choice_accuracy(vectors, words, **questions, fold=True)["accuracy"]
    return found


def table(rows, random, sets):
    """A row for each model: its gain over random vectors as a share of the best model's, set by set.

    Random vectors and the best model are means over the seeds.
    """
    arms, found = list(dict.fromkeys(row["arm"] for row in rows)), []
    scores = {a: np.array([[row[s] for s in sets] for row in rows if row["arm"] == a]) for a in arms}
    chance = np.mean([[row[s] for s in sets] for row in random], axis=0)
    best = np.max([x.mean(axis=0) for x in scores.values()], axis=0)
    for arm, x in scores.items():
        gains, line = metrics.gain_ratio(x, chance, best), {"arm": arm}
        for name, column in zip((*sets, "mean"), (*gains.T, gains.mean(axis=1)), strict=True):
            line[name], line[f"± {name}"] = results.spread(column.tolist())
        found.append(line)
    return found
