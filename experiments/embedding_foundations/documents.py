"""Rows on documents: tf-idf, latent semantic analysis, topics."""

import functools
import itertools

import jax
import numpy as np

from jaxembed import arrays, data, encoders, metrics


@functools.cache
def news(count, seed, least=5):
    """Bags of 20 Newsgroups: ((ids, counts), labels) of training and of test posts, and the words."""
    parts = []
    for split in ("train", "test"):
        source = data.newsgroups(split)
        chosen = np.random.default_rng(seed).permutation(len(source["texts"]))[:count]
        lists = [source["texts"][i].split() for i in chosen]
        parts.append((lists, np.array(source["labels"])[chosen]))
    words = data.corpus(parts[0][0], min_count=least)["words"]
    return [(data.word_bags(lists, words, most=400), labels) for lists, labels in parts], words


def weighted(cfg, seed):
    """{"counts" or "tf-idf": bags (ids, weights) of both sides}, labels of both, and the number of words."""
    ((known, labels), (asked, truth)), words = news(cfg.documents, seed)
    scales = {"counts": np.ones(len(words)), "tf-idf": encoders.fit_idf(*known, len(words))}
    found = {n: [(i, encoders.tfidf(s, i, c)) for i, c in (known, asked)] for n, s in scales.items()}
    return found, (labels, truth), len(words)


def told(sides, labels):
    """Accuracy of the ten nearest documents, of vectors of both sides."""
    known, asked = (np.asarray(arrays.unit(np.asarray(side, np.float32))) for side in sides)
    return metrics.nearest_accuracy(known, labels[0], asked, labels[1])


def weighting(cfg, seed):
    """Rows 1 and 2 as one: LSA of tf-idf, beside plain counts, by the group of the ten nearest documents."""
    bags, labels, words = weighted(cfg, seed)
    dense = {name: told([dense_rows(*side, words) for side in sides], labels) for name, sides in bags.items()}
    params = encoders.fit_lsa(jax.random.key(seed), *bags["tf-idf"][0], words, size=cfg.topics, powers=2)
    ours = told([encoders.lsa(params, *side) for side in bags["tf-idf"]], labels)
    return {"ours": ours, "beside": dense["counts"], "tf-idf": dense["tf-idf"]}


def factors(cfg, seed, rounds=100):
    """Row 17: non-negative factors of tf-idf as vectors of documents, beside scikit-learn's."""
    from sklearn.decomposition import NMF

    bags, labels, words = weighted(cfg, seed)
    sides = bags["tf-idf"]
    params = encoders.fit_nmf(jax.random.key(seed), *sides[0], words, size=cfg.topics, rounds=rounds)
    ours = told([encoders.nmf(params, *side, rounds=rounds) for side in sides], labels)
    options = {"init": "random", "solver": "mu", "tol": 0, "max_iter": rounds, "random_state": seed}
    peer = NMF(cfg.topics, **options).fit(dense_rows(*sides[0], words))
    return {"ours": ours, "beside": told([peer.transform(dense_rows(*s, words)) for s in sides], labels)}


def proportions(cfg, seed):
    """Row 17: topic proportions of LDA as vectors of documents, beside plain counts."""
    ((known, labels), (asked, truth)), words = news(cfg.documents, seed)
    params = newsgroup_topics(cfg.documents, seed)
    sides = [encoders.lda(params, *bag) for bag in (known, asked)]
    dense = [dense_rows(*bag, len(words)) for bag in (known, asked)]
    return {"ours": told(sides, (labels, truth)), "beside": told(dense, (labels, truth))}


def dense_rows(ids, weights, words):
    """The matrix [N, V] of weighted bags."""
    found = np.zeros((len(ids), words), np.float32)
    np.add.at(found, (np.arange(len(ids))[:, None], ids), np.asarray(weights))
    return found


def bound_per_word(params, bag, prior):
    """Held-out bound of documents under topics, in nats a word."""
    gamma = encoders.lda(params, *bag, prior=prior, rounds=100)
    return float(encoders.lda_bound(params, *bag, gamma, prior=prior).sum() / bag[1].sum())


def online_topics(bag, words, topics, seed, batch=256, epochs=6, offset=10.0, decay=0.7):
    """Topics from batches of bags; rates fall as in online variational Bayes."""
    ids, counts = bag
    update = jax.jit(functools.partial(encoders.update_lda, documents=len(ids)))
    params, rng = encoders.init_lda(jax.random.key(seed), topics, words), np.random.default_rng(seed)
    size, step = min(batch, len(ids)), 0
    for _ in range(epochs):
        order = rng.permutation(len(ids))
        for start in range(0, len(ids) - size + 1, size):
            rows = order[start : start + size]
            params = update(params, ids[rows], counts[rows], rate=(offset + step) ** -decay)
            step += 1
    return params


@functools.cache
def newsgroup_topics(count, seed):
    """Twenty topics of the posts of :func:`news`."""
    (known, _), words = news(count, seed)[0][0], news(count, seed)[1]
    return online_topics(known, len(words), 20, seed)


def held_out_bound(cfg, seed):
    """Row 17: nats a word of held-out documents, beside scikit-learn's topics of the same training."""
    from sklearn.decomposition import LatentDirichletAllocation

    ((known, _), (asked, _)), words = news(cfg.documents, seed)
    ours = newsgroup_topics(cfg.documents, seed)
    peer = LatentDirichletAllocation(
        20, learning_method="online", batch_size=256, max_iter=6, learning_offset=10.0, random_state=seed
    )
    from scipy.sparse import csr_matrix

    rows = np.repeat(np.arange(len(known[0])), known[0].shape[1])
    shape = (len(known[0]), len(words))
    peer.fit(csr_matrix((known[1].ravel(), (rows, known[0].ravel())), shape=shape))
    theirs = {"topics": peer.components_.astype(np.float32)}
    return {"ours": bound_per_word(ours, asked, 1 / 20), "beside": bound_per_word(theirs, asked, 1 / 20)}


def planted_topics(cfg, seed, topics=20, words=400, length=100):
    """Row 17: total variation between planted topics and those that are found, in the best pairing.

    Batches and rates were chosen on other seeds.
    """
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    beta = rng.dirichlet(np.full(words, 0.05), topics)
    theta = rng.dirichlet(np.full(topics, 0.1), cfg.documents)
    texts = [np.repeat(np.arange(words), rng.multinomial(length, t @ beta)).tolist() for t in theta]
    bag = data.word_bags(texts, range(words))
    params = online_topics(bag, words, topics, seed, batch=64, epochs=20, offset=1.0, decay=0.5)
    found = np.asarray(params["topics"])
    found = found / found.sum(axis=1, keepdims=True)
    apart = 0.5 * np.abs(found[:, None] - beta).sum(axis=2)
    pairs = linear_sum_assignment(apart)
    chance = 0.5 * np.abs(beta[:, None] - beta).sum(axis=2)
    others = [chance[a, b] for a, b in itertools.combinations(range(topics), 2)]
    return {"ours": float(apart[pairs].mean()), "beside": float(np.mean(others))}
