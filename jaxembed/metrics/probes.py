"""Quick measures of frozen vectors: where partners rank, and what nearest neighbours tell."""

import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import inner, unit
from jaxembed.search.topk import top_k


def partner_ranks(queries, documents):
    """Ranks each query's own document among all documents by cosine; ties count against it.

    ``rank[i]`` is the number of documents whose cosine with query i is at least that of document i. MRR is
    the mean of ``1 / rank``, Recall@k the share of ``rank <= k``.

    >>> print(partner_ranks(jnp.eye(3)[:2], jnp.eye(3)[jnp.array([0, 2, 1])]))
    [1 3]

    Args:
        queries: [B, D].
        documents: [N, D], N at least B; row i answers query i.

    Returns:
        int [B], from 1. A query or document that is NaN is never found: its rank counts all documents.

    Raises:
        ValueError: when there are fewer documents than queries.
    """
    queries, documents = jnp.asarray(queries), jnp.asarray(documents)
    if len(documents) < len(queries):
        raise ValueError(f"documents: {len(documents)} rows answer {len(queries)} queries; pass one for each")
    scores = np.asarray(inner(unit(queries), unit(documents)))
    own = np.diagonal(scores)[:, None]
    return (~(scores < own)).sum(axis=1)


def nearest_accuracy(known, labels, asked, truth, *, k=10):
    """k-nearest-neighbour accuracy: how often most of the k nearest known vectors have the right label.

    Neighbours are those of largest inner product; equal votes go to the label that sorts first.

    >>> known, asked = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> print(nearest_accuracy(known, ["a", "b"], asked, ["a", "a"], k=1))
    0.5

    Args:
        known: [N, D], unit vectors for cosines.
        labels: [N], of any kind that NumPy sorts.
        asked: [B, D].
        truth: [B], labels of the same kind.
        k: neighbours, at most N.

    Returns:
        float.
    """
    ids = np.asarray(top_k(jnp.asarray(asked), jnp.asarray(known), k)[1])
    names, numbers = np.unique(np.concatenate([labels, truth]), return_inverse=True)
    votes = np.zeros((len(asked), len(names)))
    np.add.at(votes, (np.arange(len(asked))[:, None], numbers[: len(labels)][ids]), 1)
    return float((votes.argmax(axis=1) == numbers[len(labels) :]).mean())
