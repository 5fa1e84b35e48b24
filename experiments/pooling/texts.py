"""Two tasks on real texts, their training rows, and what a pooling is worth on them."""

import numpy as np

from experiments.pooling.pools import untrained
from experiments.pooling.states import read_states
from experiments.shared import flags
from jaxembed import data, metrics


def read(cfg, encoder):
    """States of all texts, and which rows of them are what.

    Retrieval: examples of WordNet ask for the gloss of their sense. Classes: posts of 20 Newsgroups in seven
    groups by the first part of their name, in place of Banking77, which no package carries.

    Returns:
        {"states", "asked" and "glosses": (training rows, test rows), "posts": the same, "groups": the same
        for their classes, "names": rows of the names of the groups}.
    """
    senses = [s for s in data.wordnet() if s["examples"] and len(s["gloss"]) > 10]
    rng = np.random.default_rng(0)
    unique = list({s["gloss"]: s for s in senses}.values())
    some = [unique[i] for i in rng.permutation(len(unique))[: cfg.retrieval + cfg.tested]]
    texts, labels = [s["examples"][0] for s in some] + [s["gloss"] for s in some], []
    for split, count in (("train", cfg.posts), ("test", 2 * cfg.tested)):
        posts = data.newsgroups(split)
        rows = rng.permutation(len(posts["texts"]))[:count]
        texts += [posts["texts"][i] for i in rows]
        labels += [posts["labels"][i] for i in rows]
    groups = np.array([name.split(".")[0] for name in labels])
    names = [
        ", ".join(sorted({n.replace(".", " ") for n in labels if n.split(".")[0] == g}))
        for g in sorted(set(groups))
    ]
    flags.stage(f"reads the token states of {len(texts):,} texts")
    states, _ = read_states(encoder, texts + names, cfg.length, cfg.width)
    ends = np.cumsum([0, len(some), len(some), cfg.posts, 2 * cfg.tested, len(names)])
    asked, glosses, train, test, named = (np.arange(a, b) for a, b in zip(ends, ends[1:], strict=False))
    return {
        "states": states,
        "asked": np.split(asked, [cfg.retrieval]),
        "glosses": np.split(glosses, [cfg.retrieval]),
        "posts": (train, test),
        "groups": np.split(groups, [cfg.posts]),
        "names": named,
    }


def tables(cfg, sets, seed):
    """Training rows int [n, 2 + h] of one seed: pairs, posts with posts, posts with names of groups."""
    asked, glosses = sets["asked"][0], sets["glosses"][0]
    x, y = (untrained(sets["states"], rows) for rows in (asked, glosses))
    hard = data.hard_negatives(x, y, np.arange(len(x)), count=cfg.negatives)
    pairs = np.column_stack([asked, glosses, glosses[hard]])
    posts, groups = sets["posts"][0], sets["groups"][0]
    drawn = [data.example_pairs(groups, seed=(seed, i), negatives=cfg.negatives) for i in range(4)]
    examples = np.concatenate([np.column_stack([posts, posts[p], posts[n]]) for p, n in drawn])
    _, own, others = data.label_text_pairs(groups, seed=seed, negatives=cfg.negatives)
    return pairs, examples, np.column_stack([posts, sets["names"][own], sets["names"][others]])


def judge(sets, find):
    """Retrieval on held-out examples of WordNet; nearest neighbours and clusters of held-out posts.

    ``find`` gives the unit vectors [n, W] of n rows of texts.
    """
    documents = np.concatenate([find(rows) for rows in reversed(sets["glosses"])])
    ranks = metrics.partner_ranks(find(sets["asked"][1]), documents)
    known, posts = (find(rows) for rows in sets["posts"])
    clusters = metrics.evaluate_clustering(lambda rows: posts[rows], np.arange(len(posts)), sets["groups"][1])
    return {
        "MRR@10": float(np.mean((ranks <= 10) / ranks)),
        "kNN": metrics.nearest_accuracy(known, sets["groups"][0], posts, sets["groups"][1]),
        "V-measure": clusters["v_measure"],
    }
