"""Token vectors -> one vector per text, or one unit vector per token."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, inner, masked_mean, unit


def mean_pool(tokens, mask):
    """Averages the real tokens; a text without tokens gives zeros.

    >>> print(mean_pool(jnp.array([[[1.0], [3.0], [9.0]]]), jnp.array([[True, True, False]])))
    [[2.]]

    Args:
        tokens: [B, T, D].
        mask: bool [B, T].

    Returns:
        [B, D].
    """
    return masked_mean(tokens, mask)


def cls_pool(tokens, mask):
    """Takes the first position; zeros where the mask drops it.

    >>> print(cls_pool(jnp.array([[[1.0], [3.0]]]), jnp.array([[True, True]])))
    [[1.]]

    Args:
        tokens: [B, T, D].
        mask: bool [B, T].

    Returns:
        [B, D].
    """
    return jnp.where(mask[:, :1], tokens[:, 0], 0)


def last_pool(tokens, mask):
    """Takes the last real token, wherever the padding stands; zeros for a text without tokens.

    >>> print(last_pool(jnp.array([[[1.0], [3.0], [9.0]]]), jnp.array([[True, True, False]])))
    [[3.]]

    Args:
        tokens: [B, T, D].
        mask: bool [B, T].

    Returns:
        [B, D].
    """
    last = jnp.max(jnp.where(mask, jnp.arange(mask.shape[1]), 0), axis=1)
    picked = jnp.take_along_axis(tokens, last[:, None, None], axis=1)[:, 0]
    return jnp.where(jnp.any(mask, axis=1)[:, None], picked, 0)


def init_attention_pool(key, width, *, heads=1):
    """Draws the learned queries of :func:`attention_pool`.

    >>> print(init_attention_pool(jax.random.key(0), 8, heads=2)["query"].shape)
    (2, 8)

    Args:
        key: random key.
        width: D.
        heads: number of queries H.

    Returns:
        {"query": [H, D]}, normal with standard deviation 1/sqrt(D).
    """
    return {"query": jax.random.normal(key, (heads, width)) * width**-0.5}


def attention_pool(params, tokens, mask):
    """Averages tokens with weights from learned queries, the mean over the queries.

    ``out[b] = mean_h sum_t softmax_t(query[h] . tokens[b, t]) tokens[b, t]``; a zero query is mean pooling.

    >>> tokens = jnp.array([[[1.0], [3.0], [9.0]]])
    >>> print(attention_pool({"query": jnp.zeros((1, 1))}, tokens, jnp.array([[True, True, False]])))
    [[2.]]

    Args:
        params: {"query": [H, D]} from :func:`init_attention_pool`.
        tokens: [B, T, D].
        mask: bool [B, T]. A text without tokens gives zeros.

    Returns:
        [B, D] in the dtype of ``tokens``.
    """
    tokens = jnp.where(mask[..., None], tokens, 0)
    scores = inner(params["query"], tokens)
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, jnp.finfo(scores.dtype).min), axis=-1)
    weights = jnp.where(mask[:, None], weights, 0).mean(axis=1)
    return jnp.einsum("bt,btd->bd", weights, tokens.astype(accumulator(tokens))).astype(tokens.dtype)


def multi_vector(tokens, mask, kernel=None):
    """Keeps one unit vector per token, for late interaction; padding becomes zeros.

    >>> vectors = multi_vector(jnp.array([[[3.0, 4.0], [1.0, 1.0]]]), jnp.array([[True, False]]))
    >>> print(vectors)
    [[[0.6 0.8]
      [0.  0. ]]]

    Args:
        tokens: [B, T, D].
        mask: bool [B, T].
        kernel: optional [D, d], a linear map applied before the normalisation.

    Returns:
        [B, T, d].

    References:
        O. Khattab and M. Zaharia (ColBERT), arXiv:2004.12832.
    """
    tokens = jnp.where(mask[..., None], tokens, 0)
    return unit(tokens if kernel is None else tokens @ kernel)
