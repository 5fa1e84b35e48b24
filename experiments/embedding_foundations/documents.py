"""Rows on documents: tf-idf, latent semantic analysis, topics."""

import functools
import itertools

import jax
import numpy as np

from jaxembed import arrays, data, encoders, metrics


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


def weighting(cfg, seed):
    """Rows 1 and 2 as one: LSA of tf-idf, beside plain counts, by the group of the ten nearest documents."""
    ((known, labels), (asked, truth)), words = news(cfg.documents, seed)
    found = {}
    for name, scale in (("beside", np.ones(len(words))), ("tf-idf", encoders.fit_idf(*known, len(words)))):
        sides = [(ids, encoders.tfidf(scale, ids, counts)) for ids, counts in (known, asked)]
        dense = [dense_rows(*side, len(words)) for side in sides]
        found[name] = metrics.nearest_accuracy(dense[0], labels, dense[1], truth)
    params = encoders.fit_lsa(jax.random.key(seed), *sides[0], len(words), size=cfg.topics, powers=2)
    narrow = [np.asarray(arrays.unit(encoders.lsa(params, *side))) for side in sides]
    return found | {"ours": metrics.nearest_accuracy(narrow[0], labels, narrow[1], truth)}


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


def held_out_bound(cfg, seed):
    """Row 17: nats a word of held-out documents, beside scikit-learn's topics of the same training."""
    from sklearn.decomposition import LatentDirichletAllocation

    ((known, _), (asked, _)), words = news(cfg.documents, seed)
    ours = online_topics(known, len(words), 20, seed)
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
