"""Texts as bags of word vectors."""

import jax.numpy as jnp

from jaxembed.arrays import accumulator


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
