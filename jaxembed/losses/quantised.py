"""Losses on inner products, and losses whose documents went through a quantiser."""

import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, inner, on_device
from jaxembed.losses.contrastive import softmax_loss


def dot_nce(queries, documents, *, positives=None, where=None, temperature=1.0):
    """InfoNCE on inner products: asks each query to pick its own document, and normalises nothing.

    ``loss[i] = -log softmax_j(<queries[i], documents[j]> / temperature)[i]``. With temperature 1 it is
    ``logsumexp(row i) - diagonal``, the loss of dense passage retrieval.

    >>> print(dot_nce(jnp.eye(2), 2 * jnp.eye(2)).round(3))
    [0.127 0.127]

    Args:
        queries: [B, D].
        documents: [N, D]; row i answers query i, hard negatives come after the first B rows.
        positives, where, temperature: as in :func:`softmax_loss`.

    Returns:
        [B], in at least float32.

    Raises:
        ValueError: for other shapes.

    References:
        V. Karpukhin et al., arXiv:2004.04906; MultipleNegativesRankingLoss of sentence-transformers with
        scale 1 and similarity "dot".
    """
    queries, documents = on_device("queries", queries), on_device("documents", documents)
    check_shape("queries", queries, (None, None))
    check_shape("documents", documents, (None, queries.shape[1]))
    return softmax_loss(inner(queries, documents), positives=positives, where=where, temperature=temperature)


def quantised(loss, quantise, *, weight=1.0, reconstruction=0.0):
    """Contrastive quantisation: a loss on documents, plus the same loss on what their codes say.

    ``both(q, d) = loss(q, d) + weight * loss(q, quantise(d)) + reconstruction * mean |d - quantise(d)|**2``.
    Queries are not quantised, as in the search by look-up tables. With ``reconstruction`` 0 the codes are
    placed by what has to be found alone, not by what is near.

    >>> def whole(x):
    ...     return jnp.round(x)
    >>> queries, documents = jnp.eye(2), 0.9 * jnp.eye(2)
    >>> print(quantised(dot_nce, whole)(queries, documents).astype("float16"))
    [0.6543 0.6543]

    Args:
        loss: ``loss(queries [B, D], documents [N, D], **options) -> [B]``, for example :func:`dot_nce`.
        quantise: ``[N, D] -> [N, D]`` that passes gradients on, for example ``lambda d:
            vectors.quantise_product(params, d)``.
        weight: of the part with codes.
        reconstruction: weight of the mean squared distance of documents from their codes; may be traced.

    Returns:
        A loss of the same signature; its options go to both parts.

    References:
        S. Xiao et al. (BiDR), arXiv:2201.05409, where ``reconstruction`` is 0 in the recipe.
    """

    def both(queries, documents, **options):
        coded = quantise(documents)
        found = loss(queries, documents, **options) + weight * loss(queries, coded, **options)
        gap = jnp.asarray(documents, accumulator(jnp.asarray(documents))) - coded
        return found + reconstruction * jnp.mean(jnp.sum(gap**2, axis=-1))

    return both
