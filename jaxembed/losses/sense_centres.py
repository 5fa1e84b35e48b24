"""MSSG: the sense of a word is the one whose mean context is nearest."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import check_shape, on_device, unit
from jaxembed.losses.senses import context_vectors


def init_sense_centres(vocabulary, senses, width):
    """MSSG: the sums and counts of the contexts of each sense, before any was seen.

    >>> print(init_sense_centres(9, 2, 4)["sums"].shape)
    (9, 2, 4)

    Args:
        vocabulary: V.
        senses: K.
        width: D.

    Returns:
        ``sums`` [V, K, D] and ``counts`` [V, K], zeros, for :func:`nearest_sense`.
    """
    return {"sums": jnp.zeros((vocabulary, senses, width)), "counts": jnp.zeros((vocabulary, senses))}


def nearest_sense(params, centres, words, contexts, *, mask=None):
    """MSSG: the sense whose mean context is nearest to this one, and the means with this context among them.

    ``k = argmax_k cos(sums[v, k], x)``, then ``sums[v, k] += x`` and ``counts[v, k] += 1``. A sense without
    contexts has cosine 0; equal cosines go to the sense with fewer contexts, then to the first.

    >>> params = {"output": {"kernel": jnp.array([[1.0, 0.0], [-1.0, 0.5]])}}
    >>> centres = init_sense_centres(1, 2, 2)
    >>> for context in (0, 1, 0):
    ...     choice, centres = nearest_sense(params, centres, jnp.array([0]), jnp.array([[context]]))
    ...     print(choice)
    [[1. 0.]]
    [[0. 1.]]
    [[1. 0.]]

    Args:
        params: of :func:`init_senses`.
        centres: of :func:`init_sense_centres`, or as returned.
        words: int [B].
        contexts: int [B, C].
        mask: optional bool [B, C]. False marks padding.

    Returns:
        One-hot [B, K], for ``sense_loss(choice=)``, and the new centres. The rows of a batch choose by the
        centres of before.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        A. Neelakantan et al., arXiv:1504.06654, MSSG, which updates its centres after each word.
    """
    words = on_device("words", words)
    check_shape("words", words, (len(contexts),))
    x = context_vectors(params, contexts, mask)
    cosines = jnp.einsum("bkd,bd->bk", unit(centres["sums"][words]), unit(x), precision="highest")
    few = jnp.arange(cosines.shape[1]) + jnp.argsort(jnp.argsort(centres["counts"][words], axis=1), axis=1)
    best = jnp.argmax(cosines - 1e-6 * few, axis=1)
    choice = jax.nn.one_hot(best, cosines.shape[1], dtype=cosines.dtype)
    added = {
        "sums": centres["sums"].at[words, best].add(x),
        "counts": centres["counts"].at[words, best].add(1),
    }
    return choice, added
