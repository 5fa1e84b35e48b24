"""Which layers and sizes of an encoder to train, and how much: grids, and samplers key -> weights."""

import math

import jax
import jax.numpy as jnp

_WEIGHTINGS = {
    "uniform": lambda n: 1.0,
    "linear": lambda n: 1 / n,
    "log": lambda n: 1 / (1 + math.log(n)),
}


def full_grid(layers, sizes):
    """Full grid: lists every pair of a layer and a size, layer by layer.

    >>> full_grid((1, 2), (4, 8))
    ((1, 4), (1, 8), (2, 4), (2, 8))

    Args:
        layers: block numbers n in 1..L, an iterable [N].
        sizes: prefix widths, an iterable [M].

    Returns:
        Tuple of N * M pairs for :func:`over_layers`.
    """
    sizes = tuple(sizes)
    return tuple((n, size) for n in layers for size in sizes)


def diagonal_grid(layers, sizes):
    """Starbucks grid: pairs layers with sizes that grow together.

    The paper's grid for 12 blocks of width 768 has the weights 1 and trains all pairs in every step.

    >>> diagonal_grid((2, 4, 6, 8, 10, 12), (32, 64, 128, 256, 512, 768))
    ((2, 32), (4, 64), (6, 128), (8, 256), (10, 512), (12, 768))

    Args:
        layers: block numbers in rising order, an iterable [N].
        sizes: prefix widths in rising order, an iterable [N].

    Returns:
        Tuple of N pairs for :func:`over_layers`.

    Raises:
        ValueError: for different lengths, or numbers that do not rise.

    References:
        S. Zhuang et al., Starbucks, arXiv:2410.13230.
    """
    layers, sizes = tuple(layers), tuple(sizes)
    if len(layers) != len(sizes):
        raise ValueError(f"sizes: {len(sizes)} for {len(layers)} layers; give one size per layer")
    for name, numbers in (("layers", layers), ("sizes", sizes)):
        if any(a >= b for a, b in zip(numbers, numbers[1:], strict=False)):
            raise ValueError(f"{name}={numbers}: has to rise")
    return tuple(zip(layers, sizes, strict=True))


def layer_weights(weighting, layers):
    """Layer weights: lists how much the loss of each block counts.

    Block n has the weight 1 ("uniform"), ``1 / n`` ("linear") or ``1 / (1 + ln n)`` ("log"): the last two
    let shallow blocks count more.

    >>> [round(w, 3) for w in layer_weights("log", 3)]
    [1.0, 0.591, 0.477]

    Args:
        weighting: "uniform", "linear", "log" or a function n -> number.
        layers: the number L of blocks.

    Returns:
        Tuple of L floats; entry n - 1 belongs to block n.

    Raises:
        ValueError: for an unknown weighting.

    References:
        X. Li et al., arXiv:2402.14776: "uniform" in the paper, "linear" in later code, "log" in ESE (v2).
    """
    if not callable(weighting):
        if weighting not in _WEIGHTINGS:
            raise ValueError(f"weighting={weighting!r}: one of {sorted(_WEIGHTINGS)}, or a function of n")
        weighting = _WEIGHTINGS[weighting]
    return tuple(float(weighting(n)) for n in range(1, layers + 1))


def sampled_weights(key, count, *, picks=1, always=()):
    """Sampled weights: draws which parts of a loss are trained in this step, as weights 0 and 1.

    >>> weights = sampled_weights(jax.random.key(0), 4, picks=2, always=(3,))
    >>> print(weights.sum(), weights[3])
    3.0 1.0

    Args:
        key: a JAX random key.
        count: the number G of parts: sizes of :func:`matryoshka` or pairs of :func:`over_layers`.
        picks: how many parts are drawn, without repetition, from those that are not in ``always``.
        always: places in 0..G-1 that have weight 1 in every step.

    Returns:
        float32 [G]. The expected weight of a drawn part is picks / (G - len(always)).

    Raises:
        ValueError: for places outside 0..G-1 or more picks than parts to draw from.
    """
    always = sorted(set(always))
    if always and not 0 <= always[0] <= always[-1] < count:
        raise ValueError(f"always={always}: places in 0..{count - 1}")
    others = [i for i in range(count) if i not in always]
    if not 0 <= picks <= len(others):
        raise ValueError(f"picks: {picks} is outside 0..{len(others)}, the parts to draw from")
    drawn = jax.random.permutation(key, len(others)) < picks
    return jnp.ones(count).at[jnp.array(others, int)].set(drawn.astype(jnp.float32))


def two_dimensional_weights(key, grid, *, weighting="uniform"):
    """2DMSE weights: draws one shallow layer and one short size to train with the last and the full one.

    Layer n is drawn from the layers before the last, size d from the sizes below the full one. The pairs
    (last, full) and (last, d) have weight 1. The pairs (n, full) and (n, d) have the weight of layer n, all
    others 0. This is the objective of 2D Matryoshka Sentence Embeddings. With the grid
    ``full_grid(layers, [width])`` and the same key it draws the same layer, for the term that aligns layer n
    with the last.

    >>> grid = full_grid((1, 2), (4, 8))
    >>> print(two_dimensional_weights(jax.random.key(0), grid))
    [1. 1. 1. 1.]

    Args:
        key: a JAX random key.
        grid: all pairs of some layers and sizes [G]; the largest of each are the last and the full one.
        weighting: of the layers before the last, as in :func:`layer_weights`.

    Returns:
        float32 [G]. A grid of one layer, or of one size, has nothing to draw there.

    Raises:
        ValueError: for a grid that lacks a pair or lists one twice.

    References:
        X. Li et al., 2D Matryoshka Sentence Embeddings, arXiv:2402.14776v1.
    """
    layers, sizes = (sorted(set(numbers)) for numbers in zip(*grid, strict=True))
    if sorted(grid) != sorted(full_grid(layers, sizes)):
        raise ValueError(f"grid={tuple(grid)}: has to hold each pair of its layers and sizes once")
    (*shallow, last), (*short, full) = layers, sizes
    by_layer = layer_weights(weighting, last)
    pairs = jnp.array(grid)
    layer_key, size_key = jax.random.split(key)
    n, size = (_pick(*drawn) for drawn in ((layer_key, shallow), (size_key, short)))
    chosen = ((pairs[:, 0] == last) | (pairs[:, 0] == n)) & ((pairs[:, 1] == full) | (pairs[:, 1] == size))
    scale = jnp.array([1.0 if layer == last else by_layer[layer - 1] for layer, _ in grid])
    return jnp.where(chosen, scale, 0)


def espresso_grid(layers, width, size=128):
    """ESE grid: the full vector of the last block, and a short one of every block, with weights.

    The last block trains ``width`` and ``size`` with weight 1; block n before it trains ``size`` with weight
    ``1 / (1 + ln n) / (L - 1)``. ESE adds, with the weights of the short vectors, a term that compresses
    them, as the example shows.

    >>> grid, weights = espresso_grid(3, 64, size=16)
    >>> print(grid, [round(w, 3) for w in weights])
    ((1, 16), (2, 16), (3, 16), (3, 64)) [0.5, 0.295, 1.0, 1.0]
    >>> from jaxembed.losses import compression_loss, compression_target, over_layers
    >>> term = over_layers(
    ...     lambda v: compression_loss(v[:, :16], target=compression_target(v, 16)),
    ...     full_grid(range(1, 4), [64]),
    ...     weights[:3],
    ... )
    >>> print(term(jnp.ones((2, 4, 64))).shape)
    (2,)

    Args:
        layers: the number L of blocks.
        width: the full width D.
        size: the short size, below D.

    Returns:
        ``(grid, weights)``, L + 1 each, for :func:`over_layers`. The first L weights are those of the
        short vectors of blocks 1..L.

    Raises:
        ValueError: for no layers or a size that is not below the width.

    References:
        X. Li et al., ESE: Espresso Sentence Embeddings, arXiv:2402.14776v2. Its code trains the embeddings
        as well and leaves out the block before the last; here blocks are blocks.
    """
    if layers < 1 or not 1 <= size < width:
        raise ValueError(f"layers={layers}, size={size}: at least 1, and the size below the width {width}")
    shallow = tuple(w / (layers - 1) for w in layer_weights("log", layers)[:-1])
    return (*full_grid(range(1, layers + 1), (size,)), (layers, width)), (*shallow, 1.0, 1.0)


def _pick(key, numbers):
    """Draws one of some numbers; -1 where there are none."""
    if not numbers:
        return -1
    return jnp.array(numbers)[jax.random.randint(key, (), 0, len(numbers))]
