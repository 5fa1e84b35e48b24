"""Token vectors -> one vector per text, or one unit vector per token."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, inner, masked_mean, unit
from jaxembed.encoders.attention import dot_product_attention
from jaxembed.layers import layer_norm


def mean_pool(tokens, mask):
    """Mean pooling: averages the real tokens; a text without tokens gives zeros.

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
    """CLS pooling: takes the first position; zeros where the mask drops it.

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
    """Last-token pooling: takes the last real token, wherever the padding is.

    A text without tokens gives zeros.

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


def scalar_mix(layers, logits, gamma=1.0):
    """Scalar mix (ELMo): one learned weighted mean of the states of all layers.

    ``out = gamma sum_l softmax(logits)[l] layers[l]``; equal logits give the mean, a large one its layer.

    >>> print(scalar_mix(jnp.array([[1.0, 2.0], [3.0, 6.0]]), jnp.zeros(2)))
    [2. 4.]

    Args:
        layers: [L, ...], for example of L layers [L, B, T, D].
        logits: [L], 0 at the start of a training.
        gamma: scale, a number or a learned scalar.

    Returns:
        [...] in the dtype of ``layers``.

    Raises:
        ValueError: for another number of logits than layers.

    References:
        M. Peters et al. (ELMo), arXiv:1802.05365.
    """
    layers, logits = jnp.asarray(layers), jnp.asarray(logits)
    check_shape("logits", logits, layers.shape[:1])
    wide = accumulator(layers)
    weights = gamma * jax.nn.softmax(logits.astype(wide))
    return jnp.tensordot(weights, layers.astype(wide), axes=1).astype(layers.dtype)


def init_attention_pool(key, width, *, heads=1):
    """Attention pooling: draws the learned queries of :func:`attention_pool`.

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
    """Attention pooling: averages tokens with weights from learned queries.

    With several queries, their mean is taken.

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


def max_pool(tokens, mask):
    """Max pooling: takes the largest value of each coordinate over the real tokens.

    A text without tokens gives zeros.

    >>> print(max_pool(jnp.array([[[1.0], [3.0], [9.0]]]), jnp.array([[True, True, False]])))
    [[3.]]

    Args:
        tokens: [B, T, D].
        mask: bool [B, T].

    Returns:
        [B, D].
    """
    lowest = jnp.finfo(tokens.dtype).min
    largest = jnp.max(jnp.where(mask[..., None], tokens, lowest), axis=1)
    return jnp.where(jnp.any(mask, axis=1)[:, None], largest, 0)


def weighted_mean_pool(tokens, mask, weights=None):
    """Weighted mean pooling: averages the real tokens with weights 1, 2, 3, ... or others by position.

    ``out[b] = sum_t m[b, t] w[t] tokens[b, t] / sum_t m[b, t] w[t]``. Later tokens of a causal encoder have
    read more, so they count more.

    >>> print(weighted_mean_pool(jnp.array([[[1.0], [4.0], [9.0]]]), jnp.array([[True, True, False]])))
    [[3.]]

    Args:
        tokens: [B, T, D].
        mask: bool [B, T]. A text without tokens gives zeros.
        weights: optional [T] or [B, T], >= 0.

    Returns:
        [B, D] in the dtype of ``tokens``.

    References:
        N. Muennighoff (SGPT), arXiv:2202.08904.
    """
    dtype = accumulator(tokens)
    weights = jnp.arange(1, tokens.shape[1] + 1) if weights is None else weights
    weights = jnp.where(mask, jnp.asarray(weights, dtype), 0)
    total = jnp.sum(weights, axis=1)[:, None]
    summed = jnp.einsum("bt,btd->bd", weights, jnp.where(mask[..., None], tokens, 0).astype(dtype))
    return (summed / jnp.where(total == 0, 1, total)).astype(tokens.dtype)


def init_latent_attention(key, width, *, latents=512, heads=8, head_width=None, mlp_factor=4):
    """Latent attention: draws the parameters of :func:`latent_attention_pool`.

    >>> params = init_latent_attention(jax.random.key(0), 8, latents=3, heads=2)
    >>> print(params["latents"]["embedding"].shape, params["key_value"]["kernel"].shape)
    (3, 8) (8, 32)

    Args:
        key: random key.
        width: D.
        latents: number of latent vectors R.
        heads: attention heads H.
        head_width: width d of one head; D when None, so that the inner width is H * D.
        mlp_factor: hidden width of the network over D.

    Returns:
        dict of arrays. Latents are normal with standard deviation 1. The last map of either branch is zero,
        so that the pooling starts as the mean.
    """
    size, draw = head_width or width, jax.nn.initializers.lecun_normal()
    keys = jax.random.split(key, 4)

    def norm():
        return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}

    inside = mlp_factor * width
    return {
        "latents": {"embedding": jax.random.normal(keys[0], (latents, width))},
        "query_norm": norm(),
        "latent_norm": norm(),
        "query": {"kernel": draw(keys[1], (width, heads * size))},
        "key_value": {"kernel": draw(keys[2], (width, 2 * heads * size))},
        "out": {"kernel": jnp.zeros((heads * size, width))},
        "mlp_norm": norm(),
        "mlp_in": {"kernel": draw(keys[3], (width, 2 * inside)), "bias": jnp.zeros(2 * inside)},
        "mlp_out": {"kernel": jnp.zeros((inside, width)), "bias": jnp.zeros(width)},
    }


def latent_attention_pool(params, tokens, mask, *, heads=8):
    """Latent attention: every token reads a learned dictionary of latent vectors, then tokens are averaged.

    ``h1 = h + out(attention(query(norm(h)), key_value(norm(latents))))``, ``h2 = h1 + mlp(norm(h1))`` with
    ``mlp(x) = mlp_out(a * gelu(b))``, [a, b] the halves of ``mlp_in(x)``, and the mean of h2 over the mask.
    Tokens are queries, latents are keys and values; tokens do not read one another. The result is not
    normalised.

    >>> params = init_latent_attention(jax.random.key(0), 1, latents=2, heads=1)
    >>> tokens = jnp.array([[[1.0], [3.0], [9.0]]])
    >>> print(latent_attention_pool(params, tokens, jnp.array([[True, True, False]]), heads=1))
    [[2.]]

    Args:
        params: from :func:`init_latent_attention`.
        tokens: [B, T, D].
        mask: bool [B, T], False on padding and on an instruction. A text without tokens gives zeros.
        heads: attention heads H, as given to ``init_latent_attention``.

    Returns:
        [B, D] in the dtype of ``tokens``.

    Raises:
        ValueError: when H does not divide the inner width.

    References:
        C. Lee et al. (NV-Embed), arXiv:2405.17428, as its released model computes it: norms, residuals,
        projections and the gated network go beyond the equation of the paper.
    """
    inner_width = params["query"]["kernel"].shape[1]
    if inner_width % heads:
        raise ValueError(f"heads={heads} does not divide the inner width {inner_width} of the parameters")
    x = jnp.where(mask[..., None], tokens, 0).reshape(1, mask.size, tokens.shape[-1])
    queries = layer_norm(params["query_norm"], x) @ params["query"]["kernel"]
    latents = layer_norm(params["latent_norm"], params["latents"]["embedding"])[None]
    pair = jnp.split(latents @ params["key_value"]["kernel"], 2, axis=-1)
    queries, keys, values = (y.reshape(1, y.shape[1], heads, inner_width // heads) for y in (queries, *pair))
    mixed = dot_product_attention(queries, keys, values)
    x = x + mixed.reshape(1, mask.size, inner_width) @ params["out"]["kernel"]
    y = layer_norm(params["mlp_norm"], x) @ params["mlp_in"]["kernel"] + params["mlp_in"]["bias"]
    value, gate = jnp.split(y, 2, axis=-1)
    y = value * jax.nn.gelu(gate, approximate=False)
    x = x + y @ params["mlp_out"]["kernel"] + params["mlp_out"]["bias"]
    return masked_mean(x.reshape(tokens.shape), mask).astype(tokens.dtype)


def multi_vector(tokens, mask, kernel=None):
    """Multi-vector output: keeps one unit vector per token, for late interaction; padding becomes zeros.

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


def pooled(hidden, pool=mean_pool, *, layers=None):
    """Turns ``hidden`` into ``encode``: one vector per text.

    >>> def hidden(params, batch, key=None, *, layers=None):
    ...     return {"tokens": params * batch["x"], "mask": batch["mask"]}
    >>> batch = {"x": jnp.ones((1, 2, 3)), "mask": jnp.array([[True, False]])}
    >>> print(pooled(hidden)(2.0, batch))
    [[2. 2. 2.]]

    Args:
        hidden: as in :class:`Transformer`.
        pool: ``(tokens [B, T, D], mask [B, T]) -> [B, D]``.
        layers: optional number of blocks to run.

    Returns:
        ``encode(params, batch, key=None) -> [B, D]``.
    """

    def encode(params, batch, key=None):
        out = hidden(params, batch, key, layers=layers)
        return pool(out["tokens"], out["mask"])

    return encode
