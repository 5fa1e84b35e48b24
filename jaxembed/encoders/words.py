"""Texts as bags of word vectors."""

import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape
from jaxembed.checks import refuse_nan


def weighted_bag(words, positions, weights):
    """Weighted bag of words: sums the word vectors of each text with a weight per token.

    ``out[b] = sum_t weights[b, t] words[positions[b, t]]``. The batch names its distinct words once, so a
    word's vector is computed once however often it occurs.

    >>> words = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(weighted_bag(words, jnp.array([[0, 1, 1]]), jnp.array([[1.0, 2.0, 0.5]])))
    [[1.  2.5]]

    Args:
        words: [W, D], vectors of the distinct words of the batch.
        positions: int [B, T], which word is where; positions of weight 0 may hold any index.
        weights: float [B, T], 0 for padding.

    Returns:
        [B, D] in the dtype of ``words``.
    """
    inside = jnp.where(weights == 0, 0, positions)
    wide = words[inside].astype(accumulator(words))
    return jnp.einsum("bt,btd->bd", weights.astype(wide.dtype), wide).astype(words.dtype)


def sif_weights(shares, ids, mask, *, smoothing=1e-3):
    """Smooth inverse frequency (SIF): weighs the words of texts less the more frequent they are.

    ``weights[b, t] = a / (a + shares[ids[b, t]]) / n[b]`` with a the smoothing and n the number of words of
    the text; not over the sum of the weights. :func:`weighted_bag` with them gives the texts' vectors, from
    which ``vectors.fit_removal(x, components=1, centre=False)`` then takes the common direction.

    >>> weights = sif_weights(jnp.array([0.003, 0.0]), jnp.array([[0, 1]]), jnp.array([[True, True]]))
    >>> print(weights)
    [[0.125 0.5  ]]

    Args:
        shares: [V], the share of each word among all words of a corpus; 0 for a word that it lacks, which
            weighs 1. Zeros everywhere give the plain mean.
        ids: int [B, T], rows of ``shares``; padding may hold any number.
        mask: bool [B, T], True at words.
        smoothing: a, above 0; 1e-3 in the paper.

    Returns:
        [B, T] in at least float32, 0 at padding.

    Raises:
        ValueError: for shapes that do not fit, or a smoothing that is not above 0.

    References:
        S. Arora, Y. Liang and T. Ma, ICLR 2017, openreview.net/forum?id=SyK00v5xx.
    """
    shares, ids, mask = jnp.asarray(shares), jnp.asarray(ids), jnp.asarray(mask, bool)
    check_shape("ids", ids, (None, None))
    check_shape("mask", mask, ids.shape)
    check_shape("shares", shares, (None,))
    if not 0 < smoothing < float("inf"):
        raise ValueError(f"smoothing: {smoothing} is not a number above 0; pass a positive one")
    refuse_nan("shares", shares)
    shares = shares.astype(accumulator(shares))
    weights = smoothing / (smoothing + shares[jnp.where(mask, ids, 0)])
    counts = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
    return jnp.where(mask, weights / counts.astype(weights.dtype), 0)
