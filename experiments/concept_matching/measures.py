"""What reads no pairs, and how explicit vectors are judged."""

import numpy as np

from jaxembed import metrics, vectors

NAMED, ESA, CHANCE = "MiniLM against concept texts", "classic ESA", "random"


def unlearned(task):
    """{arm: explicit vectors [N, K]} of what reads no pairs."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    reader = TfidfVectorizer().fit(task["described"] + [task["texts"][i] for i in task["train"]])
    texts, concepts = (reader.transform(task[n]) for n in ("texts", "described"))
    esa = np.asarray((texts @ concepts.T).todense(), np.float32)  # vectors.esa_vectors of sparse arrays
    named = np.asarray(task["vectors"] @ task["concepts"].T, np.float32)
    noise = np.random.default_rng(0).random(named.shape).astype(np.float32)
    return {NAMED: named, ESA: esa, CHANCE: noise}


def aligned(found, task):
    """Latent axes in the order of concepts that suits them best on trained items, so that a name is fair."""
    from scipy.optimize import linear_sum_assignment

    def standard(x):
        x = x - x.mean(axis=0)
        return x / np.maximum(np.linalg.norm(x, axis=0), 1e-9)

    rows = task["train"]
    agreement = standard(found[rows]).T @ standard(task["has"][rows].astype(np.float32))
    axes, concepts = linear_sum_assignment(-agreement)
    return found[:, axes[np.argsort(concepts)]]


def judge(task, found, asked, shown, unlisted):
    """MRR of the related documents; AUC, precision and completeness of the concepts of explicit vectors."""
    found = np.asarray(found, np.float32)
    unit = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    scores = np.einsum("bk,bnk->bn", unit[asked], unit[shown])
    ranks = 1 + (scores[:, 1:] >= scores[:, :1]).sum(axis=1)
    pair = found[asked], found[shown[:, 0]]
    concepts, parts = vectors.explain(*pair, top=5)
    shared = task["has"][asked] & task["has"][shown[:, 0]]
    return {
        "MRR": float(np.mean(1 / ranks)),
        "concept AUC": metrics.concept_auc(found[unlisted], task["has"][unlisted]),
        "precision@5": metrics.explanation_precision(np.asarray(concepts), shared),
        "completeness@5": metrics.completeness(np.asarray(parts), scores[:, 0]),
    }
