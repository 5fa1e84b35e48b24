"""Functions that turn a loss on vectors into a loss on parts of them, and an encoder into a lean one."""

import jax.numpy as jnp

from jaxembed.arrays import wide


def matryoshka(loss, sizes, weights=None):
    """Matryoshka loss: the weighted sum of a loss on vectors over their prefixes.

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
        A. Kusupati et al., Matryoshka Representation Learning, arXiv:2205.13147. Its cascade, which reads
        more of a vector where a classifier is unsure, is left out; ``search.funnel`` reads more of what it
        found.
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
    """Loss over layers: the weighted sum of a loss over pairs of a layer and a prefix.

    ``nested(*vectors) = sum_i weights[i] * loss(*(v[..., n_i, :size_i] for v in vectors))`` with
    ``grid[i] = (n_i, size_i)``. Row n of the layer axis is the output of block n; row 0, the embeddings, is
    no layer. 2DMSE, ESE and Starbucks are grids with weights; :func:`two_dimensional`, :func:`espresso` and
    :func:`starbucks` are their finished objectives. To align shallow layers with the last, add a second
    ``over_layers`` whose loss closes over the last layer's vectors (:func:`vector_kl_to_last`).

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
        ValueError: for an empty grid, a layer or size below 1, or weights of another length. When called, for
            a layer or a size that the vectors do not have.

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


def _checked(name, parts, weights):
    weights = (1.0,) * len(parts) if weights is None else weights
    if len(weights) != len(parts):
        raise ValueError(
            f"weights: {len(weights)} for {len(parts)} {'sizes' if name == 'sizes' else 'pairs'}"
        )
    return weights
