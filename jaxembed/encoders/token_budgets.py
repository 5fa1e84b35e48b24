"""Fewer tokens: learned queries that compress them, gates over experts, and choices of what a query needs."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, inner, on_device, unit
from jaxembed.encoders.attention import dot_product_attention

NOISE = 0.01  # least deviation of the noise of a gate


def grid_positions(rows, columns, width):
    """Sine and cosine positions of a grid: one fixed vector for each place, row by row.

    The first half of a vector tells the column and the second half the row, each as sines, then cosines, of
    ``place / 10000 ** (4 i / width)``.

    >>> print(grid_positions(1, 2, 4).round(3))
    [[0.    1.    0.    1.   ]
     [0.841 0.54  0.    1.   ]]

    Args:
        rows, columns: places of the grid.
        width: D, a multiple of 4.

    Returns:
        float32 NumPy array [rows * columns, D].

    Raises:
        ValueError: for a width that 4 does not divide.

    References:
        K. He et al. (MAE), arXiv:2111.06377, whose code this layout follows.
    """
    if width % 4:
        raise ValueError(f"width={width}: 4 does not divide it; a place has two coordinates with two waves")
    turns = 10000.0 ** (-np.arange(width // 4) * 4 / width)

    def waves(places):
        angles = places[:, None] * turns
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    row, column = (x.ravel() for x in np.mgrid[:rows, :columns])
    return np.concatenate([waves(column), waves(row)], axis=1).astype(np.float32)


def init_resampler(key, side, width):
    """Resampler: draws the learned queries and maps of :func:`resample`.

    >>> params = init_resampler(jax.random.key(0), 2, 8)
    >>> print(params["query"]["embedding"].shape, params["key_map"]["kernel"].shape)
    (4, 8) (8, 8)

    Args:
        key: random key.
        side: of the grid of queries; there are side * side of them.
        width: D of the tokens, a multiple of 4.

    Returns:
        dict of arrays: "query", three maps and three norms.
    """
    keys = jax.random.split(key, 4)
    normal, draw = jax.nn.initializers.truncated_normal(0.02), jax.nn.initializers.lecun_normal()
    params = {"query": {"embedding": normal(keys[0], (side * side, width))}}
    for name, one in zip(("query_map", "key_map", "value_map"), keys[1:], strict=True):
        params[name] = {"kernel": draw(one, (width, width)), "bias": jnp.zeros(width)}
    for name in ("query_norm", "token_norm", "out_norm"):
        params[name] = {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
    return params


def resample(params, tokens, *, heads=1, grid=None):
    """Resampler: learned queries read a grid of tokens, so that fewer tokens remain.

    ``out = norm(attention(q, k, v))`` with ``q = norm(queries) + places``, ``k = norm(tokens) + places`` and
    ``v = norm(tokens)``, each through a map of its own, and none behind the attention. Places of the
    tokens are those of the queries' grid, resized to theirs.

    >>> params = init_resampler(jax.random.key(0), 2, 8)
    >>> print(resample(params, jnp.ones((3, 16, 8)), heads=2).shape)
    (3, 4, 8)

    Args:
        params: of :func:`init_resampler` with R queries.
        tokens: [B, T, D], row by row over a grid.
        heads: attention heads; divides D.
        grid: (rows, columns) of the tokens; None takes a square.

    Returns:
        [B, R, D] in the dtype of ``tokens``.

    Raises:
        ValueError: for tokens that are not a grid, or heads that do not divide D.

    References:
        Y.-F. Zhang et al. (SliME), arXiv:2406.08487. Its places are resized by torch's bicubic rule (-0.75),
        here by that of ``jax.image.resize`` (-0.5).
    """
    tokens = on_device("tokens", tokens)
    check_shape("tokens", tokens, (None, None, params["query"]["embedding"].shape[1]))
    count, width = params["query"]["embedding"].shape
    side = round(count**0.5)
    rows, columns = grid or (round(tokens.shape[1] ** 0.5),) * 2
    if rows * columns != tokens.shape[1] or width % heads:
        raise ValueError(
            f"grid={rows} x {columns} for {tokens.shape[1]} tokens, heads={heads} of width {width}; "
            "give the rows and columns of the tokens, and heads that divide the width"
        )
    places = jnp.asarray(grid_positions(side, side, width))
    there = jax.image.resize(places.reshape(side, side, width), (rows, columns, width), "cubic")
    x = _normed(params["token_norm"], tokens)
    queries = (_normed(params["query_norm"], params["query"]["embedding"]) + places)[None]
    keys = x + there.reshape(-1, width)
    given = [
        _mapped(params[name], y).reshape(len(y), y.shape[1], heads, width // heads)
        for name, y in (("query_map", queries), ("key_map", keys), ("value_map", x))
    ]
    given[0] = jnp.broadcast_to(given[0], (len(tokens), *given[0].shape[1:]))
    mixed = dot_product_attention(*given).reshape(len(tokens), count, width)
    return _normed(params["out_norm"], mixed).astype(tokens.dtype)


def _normed(params, x, epsilon=1e-6):
    x = x.astype(accumulator(x))
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + epsilon)
    return x * params["scale"] + params["bias"]


def _mapped(params, x):
    return x @ params["kernel"] + params["bias"]


def init_mixture(width, experts):
    """Gated mixture: the parameters of :func:`gated_mixture`, with which all experts count alike.

    >>> print(init_mixture(3, 2)["gate"]["kernel"].shape)
    (3, 2)

    Args:
        width: D of the tokens.
        experts: number E of them.

    Returns:
        {"gate": {"kernel": zeros [D, E]}}.
    """
    return {"gate": {"kernel": jnp.zeros((width, experts))}}


def gated_mixture(params, tokens, experts, *, keep=None, key=None):
    """Gated mixture of experts: for each token a weighted mean of what several functions make of the tokens.

    ``out = sum_e g[e] experts[e](tokens)``, ``g = softmax(tokens W)``, of which the ``keep`` largest are
    kept and divided by their sum plus 1e-6. With a key the logits get normal noise of the deviation
    ``softplus(tokens W) + 0.01`` (noisy top-k), which trains the gate to try other experts.

    >>> params = init_mixture(2, 2)
    >>> print(gated_mixture(params, jnp.ones((1, 1, 2)), [lambda x: 0 * x, lambda x: 4 * x]).round(3))
    [[[2. 2.]]]

    Args:
        params: of :func:`init_mixture`.
        tokens: [B, T, D].
        experts: E functions ``[B, T, D] -> [B, T, D']``. Each of them is computed for all tokens.
        keep: optional number of experts that count for each token, in 1..E.
        key: optional random key of the noise; for training alone.

    Returns:
        [B, T, D'] in the dtype of the experts.

    Raises:
        ValueError: for another number of experts than the gate has, or ``keep`` outside 1..E.

    References:
        N. Shazeer et al., arXiv:1701.06538; Y.-F. Zhang et al. (SliME), arXiv:2406.08487, whose code has one
        matrix for the logits and their noise.
    """
    kernel, experts = params["gate"]["kernel"], list(experts)
    if len(experts) != kernel.shape[1]:
        raise ValueError(f"experts: {len(experts)} for a gate of {kernel.shape[1]}; pass one for each")
    if keep is not None and not 1 <= keep <= len(experts):
        raise ValueError(f"keep={keep}: outside 1..{len(experts)}, the number of experts")
    logits = tokens.astype(accumulator(tokens)) @ kernel
    if key is not None:
        deviation = jax.nn.softplus(logits) + NOISE
        logits = logits + deviation * jax.random.normal(key, logits.shape, logits.dtype)
    gates = jax.nn.softmax(logits)
    if keep is not None and keep < len(experts):
        order = jnp.argsort(jnp.argsort(-gates, axis=-1, stable=True), axis=-1, stable=True)
        gates = jnp.where(order < keep, gates, 0)
    gates = gates / (jnp.sum(gates, axis=-1, keepdims=True) + 1e-6)
    outs = jnp.stack([expert(tokens) for expert in experts], axis=-1)
    return jnp.sum(outs * gates[..., None, :], axis=-1).astype(outs.dtype)


def token_scores(tokens, query, query_mask=None, *, reduce="sum"):
    """Token scores: how much each token has to do with the words of a query, by cosines.

    ``scores[b, i] = sum over t in the query's mask of cos(tokens[b, i], query[b, t])``. A token or word of
    zeros has cosine 0 with all. Nothing is learned: both must live in one space.

    >>> tokens, query = jnp.array([[[2.0, 0.0], [0.0, 3.0]]]), jnp.array([[[1.0, 0.0], [1.0, 1.0]]])
    >>> print(np.asarray(token_scores(tokens, query), np.float16))
    [[1.707 0.707]]

    Args:
        tokens: [B, N, D].
        query: [B, L, D], such as the input embeddings of a question. Leave answers out of it: what is known
            in training alone must not choose the tokens.
        query_mask: optional bool [B, L].
        reduce: "sum", the paper's, with which the scores of long queries spread more; or "mean".

    Returns:
        [B, N] in at least float32.

    Raises:
        ValueError: for shapes that do not fit, or another word for ``reduce``.

    References:
        Y.-F. Zhang et al. (SliME), arXiv:2406.08487.
    """
    if reduce not in ("sum", "mean"):
        raise ValueError(f"reduce={reduce!r}; pass 'sum' or 'mean'")
    tokens, query = on_device("tokens", tokens), on_device("query", query)
    check_shape("tokens", tokens, (None, None, None))
    check_shape("query", query, (tokens.shape[0], None, tokens.shape[2]))
    mask = jnp.ones(query.shape[:2], bool) if query_mask is None else jnp.asarray(query_mask, bool)
    check_shape("query_mask", mask, query.shape[:2])
    wide = accumulator(tokens, query)
    words = jnp.where(mask[..., None], query, 0).astype(wide)
    cosines = jax.vmap(inner)(unit(tokens.astype(wide)), unit(words))
    total = jnp.sum(cosines, axis=-1)
    return total if reduce == "sum" else total / jnp.maximum(jnp.sum(mask, axis=1), 1)[:, None]


def top_p_mask(scores, p, *, temperature=1.0, where=None):
    """Top-p: keeps the tokens of largest score until their share of the softmax exceeds p.

    Sorted by ``softmax(scores / temperature)``, all tokens whose cumulative share is at most p are kept, and
    one more. At least one is kept, and with p = 1 all. Equal scores go to the lowest index. At temperature 1
    a softmax over hundreds of cosines is almost flat, and nearly all tokens are kept: 754 of 864 at p = 0.95
    where the scores have a deviation of 0.5.

    >>> print(top_p_mask(jnp.log(jnp.array([0.1, 0.6, 0.3])), 0.7))
    [False  True  True]

    Args:
        scores: [..., N].
        p: number within 0..1; may be traced.
        temperature: positive number that divides the scores; may be traced.
        where: optional bool [..., N], the tokens that exist. Without any, none is kept.

    Returns:
        bool [..., N]. No gradient flows through the choice.

    Raises:
        ValueError: for a p outside 0..1, or a temperature that is not above 0, where they are numbers.

    References:
        Y.-F. Zhang et al. (SliME), arXiv:2406.08487; A. Holtzman et al. (nucleus), arXiv:1904.09751.
    """
    if isinstance(p, int | float) and not 0 <= p <= 1:
        raise ValueError(f"p={p}: outside 0..1; pass the share of the softmax that is kept")
    if isinstance(temperature, int | float) and not temperature > 0:
        raise ValueError(f"temperature={temperature}: is not above 0")
    scores = on_device("scores", scores)
    scores = jax.lax.stop_gradient(scores).astype(accumulator(scores)) / temperature
    real = jnp.ones(scores.shape, bool) if where is None else jnp.broadcast_to(where, scores.shape)
    shares = jax.nn.softmax(jnp.where(real, scores, jnp.finfo(scores.dtype).min))
    order = jnp.argsort(jnp.where(real, -scores, jnp.inf), axis=-1, stable=True)
    total = jnp.cumsum(jnp.take_along_axis(shares, order, axis=-1), axis=-1)
    count = jnp.sum((total <= p) & (p < 1), axis=-1, keepdims=True) + 1
    rank = jnp.argsort(order, axis=-1, stable=True)
    return real & ((rank < count) | (p >= 1))


def compact(tokens, mask, most):
    """Compaction: moves the kept tokens to the front, in their order, and cuts to a fixed number.

    >>> tokens = jnp.arange(4.0).reshape(1, 4, 1)
    >>> found, kept = compact(tokens, jnp.array([[False, True, False, True]]), 3)
    >>> print(found[0, :, 0], kept)
    [1. 3. 0.] [[ True  True False]]

    Args:
        tokens: [B, N, D].
        mask: bool [B, N], the tokens that are kept.
        most: M, the tokens of a row; of more, the first M are kept.

    Returns:
        (tokens [B, M, D], zeros where there are none; bool [B, M]).

    Raises:
        ValueError: for M outside 1..N, or shapes that do not fit.
    """
    tokens, mask = on_device("tokens", tokens), jnp.asarray(mask, bool)
    check_shape("tokens", tokens, (None, None, None))
    check_shape("mask", mask, tokens.shape[:2])
    if not 1 <= most <= tokens.shape[1]:
        raise ValueError(f"most={most}: outside 1..{tokens.shape[1]}, the number of tokens")
    order = jnp.argsort(~mask, axis=1, stable=True)[:, :most]
    kept = jnp.take_along_axis(mask, order, axis=1)
    found = jnp.take_along_axis(tokens, order[..., None], axis=1)
    return jnp.where(kept[..., None], found, 0), kept
