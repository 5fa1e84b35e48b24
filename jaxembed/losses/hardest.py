"""Functions of losses on pairs: only the hardest negatives, and vectors that an older index understands."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import check_shape, inner, on_device, unit, wide


def hardest(loss, count):
    """Hard negatives of the batch: a loss in which each query meets only its most similar wrong documents.

    ``hard(q, d, where) = loss(q, d, where=where & kept)``: of the pairs that count, ``kept`` holds the
    positive and the ``count`` documents of largest cosine. With all of them it is the loss itself. Earlier
    documents may follow the first B rows as further negatives: ``queued(hardest(loss, count))``.

    >>> from jaxembed.losses import info_nce
    >>> queries, documents = jnp.eye(3), jnp.array([[1.0, 0.5, 0.1], [0.0, 1.0, 0.5], [0.5, 0.0, 1.0]])
    >>> print(hardest(info_nce, 1)(queries, documents, temperature=1.0).astype("float16"))
    [0.4956 0.4937 0.4944]

    Args:
        loss: ``loss(queries, documents, *, where, **options) -> [B]`` with a positive for row i in row i of
            the documents, for example :func:`jaxembed.losses.info_nce`.
        count: negatives that each query keeps.

    Returns:
        A loss of the same signature on arrays [B, D] and [N, D]. ``where`` is bool [B, N] and says which
        pairs count at all (``duplicate_mask``). ``symmetric(hardest(loss, count))`` asks in both directions,
        each with negatives of its own.

    Raises:
        ValueError: for a count below 1, and, when called, for fewer documents than queries.

    References:
        Y. Gan et al. (BEBR), arXiv:2302.08714, whose released code keeps 5 of a batch.
    """
    if count < 1:
        raise ValueError(f"count: {count} is below 1; pass the number of negatives that each query keeps")

    def hard(queries, documents, *, where=None, **options):
        queries, documents = on_device("queries", queries), on_device("documents", documents)
        check_shape("queries", queries, (None, None))
        check_shape("documents", documents, (None, queries.shape[1]))
        rows, columns = len(queries), len(documents)
        if columns < rows:
            raise ValueError(f"documents: {columns} rows for {rows} queries; row i has to answer query i")
        own = jnp.arange(rows)[:, None] == jnp.arange(columns)
        counts = ~own if where is None else jnp.asarray(where, bool) & ~own
        check_shape("where", counts, (rows, columns))
        if count >= columns - 1:
            return loss(queries, documents, where=counts | own, **options)
        q, d = (jax.lax.stop_gradient(unit(v)) for v in wide((queries, documents)))
        cosines = jnp.where(counts, inner(q, d), -jnp.inf)
        found, places = jax.lax.top_k(cosines, count)
        places = jnp.where(jnp.isfinite(found), places, columns)
        kept = jnp.zeros((rows, columns), bool).at[jnp.arange(rows)[:, None], places].set(True, mode="drop")
        return loss(queries, documents, where=kept | own, **options)

    return hard


def compatible(loss, *, weight=1.0):
    """Backward-compatible loss: new vectors find each other and also what an older encoder made.

    ``both(q, d, old) = loss(q, d) + weight * loss(q, stop_gradient(old))``: the old vectors of the same
    documents are a second set of documents. New queries then search an index of old vectors, which need not
    be encoded again. Where the old vectors are the new ones, both parts are the same.

    >>> from jaxembed.losses import info_nce
    >>> queries, documents = jnp.eye(2), jnp.eye(2)
    >>> loss = compatible(info_nce)
    >>> print(loss(queries, documents, documents[::-1], temperature=1.0).astype("float16"))
    [1.627 1.627]
    >>> print(loss(queries, documents, documents, temperature=1.0).astype("float16"))  # twice info_nce
    [0.6265 0.6265]

    Args:
        loss: ``loss(queries, documents, **options) -> [B]``, for example :func:`jaxembed.losses.info_nce`,
            or a scalar.
        weight: of the part that asks the old vectors; may be traced.

    Returns:
        ``both(queries [B, D], documents [N, D], old [N, D], **options) -> [B]``. Row n of ``old`` is document
        n in the old encoder; options are those of ``loss`` and serve both parts.

    Raises:
        ValueError: when called, for old vectors of another shape: an index of another width cannot be
            searched.

    References:
        Y. Gan et al. (BEBR), arXiv:2302.08714, with binary codes; Y. Shen et al., arXiv:2003.11942. Of
        triplets it is ``cross_version_triplet_loss``, the harmonic embeddings of FaceNet, arXiv:1503.03832.
    """

    def both(queries, documents, old, **options):
        old = jax.lax.stop_gradient(on_device("old", old))
        check_shape("old", old, jnp.shape(documents))
        return loss(queries, documents, **options) + weight * loss(queries, old, **options)

    return both
