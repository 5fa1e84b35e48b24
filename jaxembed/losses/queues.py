"""Queue of negatives: documents of earlier batches that go on being wrong answers, without a gradient."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import check_shape, on_device


def init_queue(size, width, dtype=jnp.float32):
    """Queue of negatives: an empty first-in-first-out queue of vectors, which travels beside the params.

    >>> queue = init_queue(4, 2)
    >>> print(queue["vectors"].shape, int(queue["count"]))
    (4, 2) 0

    Args:
        size: Q, the vectors that are held at most.
        width: D of the vectors.
        dtype: of the vectors.

    Returns:
        Dict: ``vectors`` [Q, D], ``keys`` int32 [Q], ``count`` int32 [], how many were ever pushed. It has no
        gradient: keep it in ``extra`` of the train state.

    Raises:
        ValueError: for a size or a width below 1.
    """
    for name, value in (("size", size), ("width", width)):
        if value < 1:
            raise ValueError(f"{name}: {value} is below 1; pass a positive integer")
    vectors, keys = jnp.zeros((size, width), dtype), jnp.zeros(size, jnp.int32)
    return {"vectors": vectors, "keys": keys, "count": jnp.zeros((), jnp.int32)}


def push_queue(queue, vectors, keys=None):
    """Queue of negatives: puts vectors in, each in the place of the oldest one.

    >>> queue = push_queue(init_queue(2, 1), jnp.array([[1.0], [2.0]]))
    >>> print(push_queue(queue, jnp.array([[3.0]]))["vectors"][:, 0])
    [3. 2.]

    Args:
        queue: of :func:`init_queue`.
        vectors: [B, D] with B at most Q; nothing flows back into them. MoCo and BEBR push those of a momentum
            copy of the encoder, ``train.ema(..., into=)``.
        keys: optional int [B], the ids of the documents, by which :func:`queued` knows them again.

    Returns:
        The queue with them.

    Raises:
        ValueError: for vectors of another width, or more than the queue holds.
    """
    size, width = queue["vectors"].shape
    vectors = jax.lax.stop_gradient(on_device("vectors", vectors))
    check_shape("vectors", vectors, (None, width))
    if len(vectors) > size:
        raise ValueError(f"vectors: {len(vectors)} for a queue of {size}; pass fewer, or make a longer queue")
    keys = jnp.zeros(len(vectors), jnp.int32) if keys is None else on_device("keys", keys).astype(jnp.int32)
    check_shape("keys", keys, (len(vectors),))
    places = (queue["count"] % size + jnp.arange(len(vectors))) % size
    # Far from overflow, the count stays one of a full queue at the same place.
    count = queue["count"] + len(vectors)
    count = jnp.where(count >= 2 * size, size + count % size, count)
    held = queue["vectors"].at[places].set(vectors.astype(queue["vectors"].dtype))
    return {"vectors": held, "keys": queue["keys"].at[places].set(keys), "count": count}


def queued(loss):
    """Queue of negatives: a loss in which each query also meets the documents of earlier batches.

    ``more(q, d, queue) = loss(q, [d; queue])``: what the queue holds follows the documents as further
    negatives. Places that were never filled, and documents with a key of the query, are hidden.

    >>> from jaxembed.losses import info_nce
    >>> queue = push_queue(init_queue(3, 2), jnp.array([[0.0, 1.0]]))
    >>> loss = queued(info_nce)(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]]), queue, temperature=1.0)
    >>> print(loss.astype("float16"))
    [0.3132]

    Args:
        loss: ``loss(queries [B, D], documents [N, D], *, where, **options) -> [B]``, for example
            :func:`jaxembed.losses.info_nce` or ``hardest(info_nce, 5)``.

    Returns:
        ``more(queries, documents, queue, *, keys=None, where=None, **options) -> [B]``. ``keys`` int [B] are
        the ids of the queries' own documents, ``where`` is bool [B, N] of the batch. Nothing flows back into
        the queue. Push this batch after the loss was taken.

    Raises:
        ValueError: when called, for a queue of another width or keys of another shape.

    References:
        K. He et al. (MoCo), arXiv:1911.05722; Y. Gan et al. (BEBR), arXiv:2302.08714, whose text has such a
        queue of binary codes while its released code has it switched off.
    """

    def more(queries, documents, queue, *, keys=None, where=None, **options):
        queries, documents = on_device("queries", queries), on_device("documents", documents)
        held = jax.lax.stop_gradient(queue["vectors"])
        check_shape("queue", held, (None, documents.shape[1]))
        rows, columns = len(queries), len(documents)
        where = jnp.ones((rows, columns), bool) if where is None else jnp.asarray(where, bool)
        check_shape("where", where, (rows, columns))
        counts = jnp.broadcast_to(jnp.arange(len(held)) < queue["count"], (rows, len(held)))
        if keys is not None:
            keys = on_device("keys", keys)
            check_shape("keys", keys, (rows,))
            counts &= keys[:, None] != queue["keys"]
        both = jnp.concatenate([documents, held.astype(documents.dtype)])
        return loss(queries, both, where=jnp.concatenate([where, counts], axis=1), **options)

    return more
