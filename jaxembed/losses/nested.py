"""Functions that turn a loss on vectors into a loss on parts of them, and an encoder into a lean one."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import wide


def matryoshka(loss, sizes, weights=None):
    """Turns a loss on vectors into the weighted sum of that loss on their prefixes.

    ``nested(*vectors) = sum_i weights[i] * loss(*(v[..., :sizes[i]] for v in vectors))``

    Truncation comes first; a loss on cosines then normalises each prefix by itself. The loss gets vectors
    in at least float32, so that the gradients of the sizes are added there.

    >>> from jaxembed.losses import info_nce
    >>> loss = matryoshka(info_nce, sizes=(2, 4))
    >>> vectors = jnp.eye(4)
    >>> print(loss(vectors, vectors, temperature=1.0).astype("float16"))
    [1.487 1.487 2.13  2.13 ]

    Args:
        loss: ``loss(*vectors, **options) -> [B]``, or a scalar, on arrays [..., D].
        sizes: prefix widths, each at most D.
        weights: one number per size (default 1 each); an array may be traced, so that a sampler
            key -> weights (:func:`sampled_weights`) chooses sizes without recompiling.

    Returns:
        A loss of the same signature.

    Raises:
        ValueError: for no sizes, a size below 1, weights of another length, and, when called, for vectors
            narrower than the largest size.

    References:
        A. Kusupati et al., Matryoshka Representation Learning, arXiv:2205.13147.
    """
    sizes = tuple(sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes={sizes}: at least one, each at least 1")
    weights = _checked("sizes", sizes, weights)

    def nested(*vectors, **options):
        vectors = wide([jnp.asarray(v) for v in vectors])
        narrow = min(v.shape[-1] for v in vectors)
        if narrow < max(sizes):
            raise ValueError(f"sizes: {max(sizes)} is above the width {narrow} of the vectors")
        return sum(
            weights[i] * loss(*(v[..., :size] for v in vectors), **options) for i, size in enumerate(sizes)
        )

    return nested


def over_layers(loss, grid, weights=None):
    """Turns a loss on vectors into the weighted sum of that loss over layers and prefixes of an encoder.

    ``nested(*vectors) = sum_i weights[i] * loss(*(v[..., n_i, :size_i] for v in vectors))`` with
    ``grid[i] = (n_i, size_i)``. Row n of the layer axis is the output of block n; row 0, the embeddings, is
    no layer. Two-dimensional matryoshka, ESE and Starbucks are grids with weights (see the functions beside
    this one). To align shallow layers with the last, add a second ``over_layers`` whose loss closes over
    the last layer's vectors, as the example of :func:`feature_kl` does.

    >>> from jaxembed.losses import info_nce
    >>> layers = jnp.stack([jnp.eye(4)] * 3, axis=1)
    >>> loss = over_layers(info_nce, [(1, 2), (2, 4)], weights=[0.5, 1.0])
    >>> print(layers.shape, loss(layers, layers, temperature=1.0).astype("float16"))
    (4, 3, 4) [1.115 1.115 1.437 1.437]

    Args:
        loss: ``loss(*vectors, **options) -> [B]``, or a scalar, on arrays [..., D].
        grid: pairs (n, size), n in 1..L, size at most D.
        weights: one number per pair (default 1 each); an array may be traced, so that a sampler
            key -> weights chooses pairs without recompiling.

    Returns:
        A loss of the same signature on arrays [..., L+1, D].

    Raises:
        ValueError: for an empty grid, a layer or size below 1, weights of another length, and, when called,
            for a layer or a size that the vectors do not have.

    References:
        X. Li et al., arXiv:2402.14776; S. Zhuang et al., arXiv:2410.13230.
    """
    grid = tuple((int(n), int(size)) for n, size in grid)
    if not grid or min(min(pair) for pair in grid) < 1:
        raise ValueError(f"grid={grid}: at least one pair (layer, size), each number at least 1")
    weights = _checked("grid", grid, weights)

    def nested(*vectors, **options):
        vectors = wide([jnp.asarray(v) for v in vectors])
        for v in vectors:
            if v.ndim < 3:
                raise ValueError(f"vectors: shape {v.shape}; pass [B, L+1, D], layers stacked on axis -2")
        depth, width = min(v.shape[-2] for v in vectors) - 1, min(v.shape[-1] for v in vectors)
        for n, size in grid:
            if n > depth or size > width:
                raise ValueError(f"grid: {(n, size)} is beyond the {depth} layers of width {width}")
        return sum(
            weights[i] * loss(*(v[..., n, :size] for v in vectors), **options)
            for i, (n, size) in enumerate(grid)
        )

    return nested


def cached(encode, chunks):
    """Turns an encoder into one that gives the same vectors and gradients in the memory of a chunk.

    The batch is encoded chunk after chunk, and each chunk is encoded once more when its gradient is
    needed, so that activations of one chunk only are alive. Gradients of the chunks are added in at least
    float32. The vectors of all chunks meet in the loss:
    its gradient is that of the whole batch, not an average over small batches. Chunk c holds rows
    c, c + chunks, c + 2 * chunks, ..., so that a batch that is sharded over devices stays where it is;
    each device then holds B / chunks / devices rows of a chunk.

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


def _checked(name, parts, weights):
    weights = (1.0,) * len(parts) if weights is None else weights
    if len(weights) != len(parts):
        raise ValueError(
            f"weights: {len(weights)} for {len(parts)} {'sizes' if name == 'sizes' else 'pairs'}"
        )
    return weights
