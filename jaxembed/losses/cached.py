"""Exact gradients of big batches in the memory of a small one."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import wide


def cached(encode, chunks):
    """Gradient caching: the same vectors and gradients in the memory of a chunk.

    The batch is encoded chunk after chunk. Each chunk is encoded once more when its gradient is needed, so
    that activations of one chunk only are alive. Gradients of the chunks are added in at least float32. The
    vectors of all chunks meet in the loss: its gradient is that of the whole batch, not an average over small
    batches. Chunk c holds rows c, c + chunks, c + 2 * chunks and so on. A batch that is sharded over devices
    therefore stays where it is: each device holds B / chunks / devices rows of a chunk.

    >>> def encode(params, batch, key=None):
    ...     return batch["x"] @ params
    >>> params, batch = jnp.array([[2.0]]), {"x": jnp.arange(4.0)[:, None]}
    >>> print(cached(encode, 2)(params, batch).T)
    [[0. 2. 4. 6.]]
    >>> print(jax.grad(lambda p: jnp.sum(cached(encode, 2)(p, batch) ** 2))(params))
    [[56.]]

    Args:
        encode: ``encode(params, batch, key=None) -> [B, D]``, or a tree of arrays that lead with B. Rows do
            not influence one another (no batch statistics).
        chunks: number of chunks; divides B. 1 recomputes the whole batch at once.

    Returns:
        An encoder of the same signature. Every leaf of ``batch`` leads with B; close over whatever all
        rows share. With a key, chunk c draws from ``fold_in(key, c)`` in both passes, so dropout differs
        from that of ``encode`` on the whole batch.

    Raises:
        ValueError: for chunks below 1, and, when called, for leaves of different lengths or chunks that do
            not divide the batch.

    References:
        L. Gao et al., GradCache, arXiv:2101.06983. There each gradient of the parameters is added up by
        hand; here automatic differentiation runs through the loop.
    """
    if chunks < 1:
        raise ValueError(f"chunks: {chunks}; pass a number from 1 to the size of the batch")

    def lean(params, batch, key=None):
        lengths = {x.shape[0] if x.ndim else None for x in map(jnp.asarray, jax.tree.leaves(batch))}
        if len(lengths) != 1 or None in lengths:
            raise ValueError(f"batch: leaves lead with {lengths}; all have to lead with one B")
        (rows,) = lengths
        if rows % chunks:
            raise ValueError(f"chunks: {chunks} does not divide the batch of {rows} rows")

        read = wide(params)  # the loop adds gradients in the dtype of what it reads

        @jax.checkpoint
        def one(chunk):
            index, part = chunk
            given = jax.tree.map(lambda x, p: x if x is p else x.astype(p.dtype), read, params)
            return encode(given, part, None if key is None else jax.random.fold_in(key, index))

        def cut(x):
            return jnp.swapaxes(jnp.reshape(x, (rows // chunks, chunks, *x.shape[1:])), 0, 1)

        def joined(x):
            return jnp.swapaxes(x, 0, 1).reshape(rows, *x.shape[2:])

        return jax.tree.map(joined, jax.lax.map(one, (jnp.arange(chunks), jax.tree.map(cut, batch))))

    return lean
