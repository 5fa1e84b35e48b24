"""What every block and every prefix of a text encoder is worth, on pairs of texts."""

import numpy as np

from jaxembed import metrics
from jaxembed.arrays import unit


def score_layers(encoder, pairs, grid, *, k=10, length=128, batch_size=128):
    """Layer scores: measures an encoder cut after each block, and each vector cut to its first numbers.

    Pairs with ``scores`` give Spearman's correlation of cosines and scores. Without, it is Recall@k: the
    share of first texts whose partner is among the k nearest of all second texts.

    ``scores = recipes.score_layers(encoder, pairs, losses.full_grid((2, 4, 6), (64, 384)))``

    Args:
        encoder: of ``encoders.pretrained.load``.
        pairs: ``data.records.Pairs``; negatives are not read.
        grid: P pairs (n, size): a block in 1..L, 0 for the embeddings, and a number of coordinates.
        k: rank up to which a partner counts as found.
        length: tokens at which texts are cut.
        batch_size: texts that are encoded together.

    Returns:
        float64 [P].

    Raises:
        ValueError: for no pairs, sides or scores of different lengths, or a block or size that the encoder
            does not have.

    References:
        X. Li et al., arXiv:2402.14776; S. Zhuang et al., arXiv:2410.13230: tables by layer and size.
    """
    grid = _checked(encoder, pairs, grid, k)
    options = min(length, encoder.max_length), batch_size
    sides = [_vectors(encoder, pairs[name], *options) for name in ("first", "second")]

    def one(n, size):
        first, second = (np.asarray(unit(x[:, n, :size])) for x in sides)
        if pairs.get("scores") is not None:
            return metrics.spearman((first * second).sum(axis=1), np.asarray(pairs["scores"], np.float32))
        return float((metrics.partner_ranks(first, second) <= k).mean())

    return np.array([one(*pair) for pair in grid], np.float64)


def _checked(encoder, pairs, grid, k):
    """The grid, after what does not fit is refused."""
    count, grid = len(pairs["first"]), [tuple(pair) for pair in grid]
    others = {n: len(pairs[n]) for n in ("second", "scores") if pairs.get(n) is not None}
    if not count or "second" not in others or set(others.values()) != {count}:
        raise ValueError(f"pairs: {count} first texts and {others}; give as many of each, and at least one")
    for n, size in grid:
        if not 0 <= n <= encoder.depth or not 1 <= size <= encoder.width:
            raise ValueError(
                f"grid: {(n, size)} is outside blocks 0..{encoder.depth} and sizes 1..{encoder.width}"
            )
    if not grid or k < 1:
        raise ValueError(f"grid={grid}, k={k}: give at least one pair (block, size), and a rank from 1 on")
    return grid


def _vectors(encoder, texts, length, batch_size):
    """Vectors of all blocks, [N, L+1, D]; the last batch is filled with the first texts."""
    tokens, count = encoder.tokenize(list(texts), length=length), len(texts)
    rows = np.resize(np.arange(count), -(-count // batch_size) * batch_size).reshape(-1, batch_size)
    found = [encoder.encode_layers(encoder.params, {n: x[r] for n, x in tokens.items()}) for r in rows]
    return np.concatenate([np.asarray(x) for x in found])[:count]
