"""Recurrent networks over token vectors: LSTM, GRU, both directions, and the contexts of RCNN."""

import math

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape
from jaxembed.encoders.mlp import XAVIER, dense_layer, product
from jaxembed.encoders.pooling import max_pool

GATES = {"tanh": 1, "gru": 3, "lstm": 4}
_ORTHOGONAL = jax.nn.initializers.orthogonal()


def init_rnn(key, inputs, width, *, kind="lstm", layers=1, bidirectional=False):
    """Recurrent network: draws the layers of :func:`rnn`.

    Kernels of the input are Xavier-normal, those of the state orthogonal gate by gate. Biases are 0, but that
    of an LSTM's forget gate is 1. Gates stand side by side in the order of torch: input, forget, cell, output
    for "lstm", and reset, update, new for "gru".

    >>> params = init_rnn(jax.random.key(0), 3, 4, kind="gru", bidirectional=True)
    >>> print(sorted(params["layer_0"]), params["layer_0"]["forward"]["input"]["kernel"].shape)
    ['backward', 'forward'] (3, 12)

    Args:
        key: random key.
        inputs: width E of the tokens.
        width: H, of the state of each direction.
        kind: "lstm", "gru" or "tanh", Elman's network.
        layers: how many are stacked; each reads the states of the one before.
        bidirectional: whether each layer has a second network that reads from the end.

    Returns:
        {"layer_0": {"forward": {"input": {"kernel": [E, G H], "bias": [G H]}, "state": {"kernel": [H, G H],
        "bias": [G H]}}, "backward": ...}, ...} with G = 4, 3 or 1 gates.

    Raises:
        ValueError: for an unknown kind or a size below 1.
    """
    _check_sizes(inputs=inputs, width=width, layers=layers)
    _check_kind(kind)
    sides = ("forward", "backward") if bidirectional else ("forward",)
    params = {}
    for i in range(layers):
        keys = jax.random.split(jax.random.fold_in(key, i), len(sides))
        size = inputs if i == 0 else width * len(sides)
        params[f"layer_{i}"] = {s: _init_cell(k, size, width, kind) for s, k in zip(sides, keys, strict=True)}
    return params


def _init_cell(key, inputs, width, kind):
    gates = GATES[kind]
    one, two = jax.random.split(key)
    states = [_ORTHOGONAL(k, (width, width)) for k in jax.random.split(two, gates)]
    bias = jnp.zeros(gates * width)
    first = bias.at[width : 2 * width].set(1.0) if kind == "lstm" else bias
    kernel = jax.random.normal(one, (inputs, gates * width)) * math.sqrt(2 / (inputs + width))
    return {
        "input": {"kernel": kernel, "bias": first},
        "state": {"kernel": jnp.concatenate(states, axis=1), "bias": bias},
    }


def rnn(params, tokens, mask, *, kind="lstm", dropout=0.0, key=None):
    """Recurrent network: one state for each token, which has read all tokens before it and itself.

    - "tanh": ``h = tanh(W x + U h + b)``.
    - "lstm": ``c = sigmoid(f) c + sigmoid(i) tanh(g)`` and ``h = sigmoid(o) tanh(c)``.
    - "gru": ``h = (1 - z) tanh(n + r m) + z h`` with ``m`` the part of the new state that comes from h, as
      torch and cuDNN compute it. Cho et al. multiply h by r before the product.

    A masked token leaves the state as it was, so padding may be on either side or in between, and may hold
    anything. The backward direction starts at the last real token.

    >>> cell = {"input": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}}
    >>> cell["state"] = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    >>> tokens, mask = jnp.array([[[1.0], [jnp.nan], [0.0]]]), jnp.array([[True, False, True]])
    >>> print(rnn({"layer_0": {"forward": cell}}, tokens, mask, kind="tanh")[..., 0].round(3))
    [[0.762 0.    0.642]]

    Args:
        params: of :func:`init_rnn`.
        tokens: [B, T, E].
        mask: bool [B, T], True for real tokens.
        kind: the kind that the params were drawn for.
        dropout: share of the values between two layers that become 0; the others are divided by
            ``1 - dropout``.
        key: random key; None means no dropout.

    Returns:
        [B, T, H], or [B, T, 2 H] with the forward states first, in the dtype of ``tokens``; 0 at padding.

    Raises:
        ValueError: for an unknown kind, shapes that do not fit, or params of another kind.

    References:
        S. Hochreiter and J. Schmidhuber, doi:10.1162/neco.1997.9.8.1735; K. Cho et al., arXiv:1406.1078;
        M. Schuster and K. Paliwal, doi:10.1109/78.650093 (both directions).
    """
    x = real_tokens(tokens, mask)
    for i in range(len(params)):
        if i and dropout and key is not None:
            kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - dropout, x.shape)
            x = jnp.where(kept, x / (1 - dropout), 0)
        sides = params[f"layer_{i}"]
        states = [
            scan_cell(sides[s], x, mask, kind=kind, reverse=s == "backward") for s in sorted(sides)[::-1]
        ]
        x = jnp.where(mask[..., None], jnp.concatenate(states, axis=-1), 0)
    return x


def scan_cell(params, tokens, mask, *, kind="lstm", reverse=False, before=False):
    """One direction of one recurrent layer: the states of all tokens.

    >>> params = init_rnn(jax.random.key(0), 2, 3, kind="gru")["layer_0"]["forward"]
    >>> states = scan_cell(params, jnp.ones((1, 4, 2)), jnp.ones((1, 4), bool), kind="gru", before=True)
    >>> print(states.shape, states[0, 0])
    (1, 4, 3) [0. 0. 0.]

    Args:
        params: of one direction in :func:`init_rnn`; "start" [H], where it is there, is the first state,
            which is 0 otherwise.
        tokens: [B, T, E], 0 at padding.
        mask: bool [B, T].
        kind: as in :func:`rnn`.
        reverse: True reads from the end.
        before: True gives for each token the state before it was read, its context.

    Returns:
        [B, T, H] in the dtype of ``tokens``; at padding the state of the last token that was read.

    Raises:
        ValueError: as :func:`rnn`.
    """
    width = _check_cell(params, tokens, kind)
    step = {"tanh": _tanh, "lstm": _lstm, "gru": _gru}[kind]
    inputs = dense_layer(params["input"], tokens, "tokens")
    start = jnp.zeros((len(tokens), width), inputs.dtype)
    start = start + params["start"].astype(start.dtype) if "start" in params else start
    kernel, bias = (params["state"][name] for name in ("kernel", "bias"))

    def one(carry, given):
        x, real = given
        hidden, cell = carry
        from_state = product(hidden, kernel) + bias.astype(hidden.dtype)
        new = step(x, from_state, hidden, cell)
        new = tuple(jnp.where(real[:, None], n, old) for n, old in zip(new, carry, strict=True))
        return new, (hidden if before else new[0])

    given = jnp.moveaxis(inputs, 1, 0), jnp.moveaxis(jnp.asarray(mask), 1, 0)
    states = jax.lax.scan(one, (start, jnp.zeros_like(start)), given, reverse=reverse)[1]
    return jnp.moveaxis(states, 0, 1).astype(tokens.dtype)


def _tanh(x, state, hidden, cell):
    return jnp.tanh(x + state), cell


def _lstm(x, state, hidden, cell):
    i, f, g, o = jnp.split(x + state, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def _gru(x, state, hidden, cell):
    (xr, xz, xn), (sr, sz, sn) = (jnp.split(y, 3, axis=-1) for y in (x, state))
    z, new = jax.nn.sigmoid(xz + sz), jnp.tanh(xn + jax.nn.sigmoid(xr + sr) * sn)
    return (1 - z) * new + z * hidden, cell


def end_pool(tokens, mask):
    """Last states: the forward half of the last real token and the backward half of the first.

    Each half has then read the whole text. A text without tokens gives zeros.

    >>> states = jnp.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    >>> print(end_pool(states, jnp.array([[True, True, False]])))
    [[3. 2.]]

    Args:
        tokens: [B, T, 2 H], states of a bidirectional :func:`rnn`.
        mask: bool [B, T].

    Returns:
        [B, 2 H].
    """
    tokens, mask = jnp.asarray(tokens), jnp.asarray(mask)
    places = jnp.arange(mask.shape[1])
    last = jnp.max(jnp.where(mask, places, 0), axis=1)
    first = jnp.min(jnp.where(mask, places, mask.shape[1] - 1), axis=1)
    halves = jnp.split(tokens, 2, axis=-1)
    picked = [
        jnp.take_along_axis(half, place[:, None, None], axis=1)[:, 0]
        for half, place in zip(halves, (last, first), strict=True)
    ]
    return jnp.where(jnp.any(mask, axis=1)[:, None], jnp.concatenate(picked, axis=-1), 0)


def init_rcnn(key, inputs, *, context=50, width=100, kind="tanh"):
    """RCNN: draws the parameters of :func:`rcnn`.

    >>> params = init_rcnn(jax.random.key(0), 8, context=3, width=5)
    >>> print(sorted(params), params["dense"]["kernel"].shape, params["left"]["start"].shape)
    ['dense', 'left', 'right'] (14, 5) (3,)

    Args:
        key: random key.
        inputs: width E of the tokens.
        context: width C of the left and of the right context.
        width: H, of the vector of a text.
        kind: "tanh" as in the paper, "lstm" or "gru".

    Returns:
        {"left", "right": one direction of :func:`init_rnn` with "start" [C], "dense": {"kernel": [2 C + E,
        H], "bias": [H]}}. Rows of the kernel read the left context, the token and the right context.

    Raises:
        ValueError: for an unknown kind or a size below 1.
    """
    _check_sizes(inputs=inputs, context=context, width=width)
    _check_kind(kind)
    left, right, dense = jax.random.split(key, 3)
    sides = {"left": left, "right": right}
    params = {
        s: _init_cell(k, inputs, context, kind) | {"start": jnp.zeros(context)} for s, k in sides.items()
    }
    return params | {
        "dense": {"kernel": XAVIER(dense, (2 * context + inputs, width)), "bias": jnp.zeros(width)}
    }


def rcnn(params, tokens, mask, *, kind="tanh"):
    """RCNN, recurrent convolutional network: the vector of a text from each token between its two contexts.

    The left context of a token is the state that has read all tokens before it, the right context that which
    has read all after it: ``x[t] = [left[t], token[t], right[t]]``. Then ``out = max_t tanh(x[t] W + b)``,
    coordinate by coordinate. The contexts at the two ends are parameters that all texts share.

    >>> params = init_rcnn(jax.random.key(0), 2, context=3, width=4)
    >>> tokens, mask = jnp.ones((2, 5, 2)), jnp.arange(5) < jnp.array([[5], [2]])
    >>> print(rcnn(params, tokens, mask).shape)
    (2, 4)

    Args:
        params: of :func:`init_rcnn`.
        tokens: [B, T, E]; padding may hold anything and be on either side.
        mask: bool [B, T], True for real tokens.
        kind: the kind that the params were drawn for.

    Returns:
        [B, H] in the dtype of ``tokens``; zeros for a text without tokens.

    Raises:
        ValueError: for an unknown kind or shapes that do not fit.

    References:
        S. Lai et al., "Recurrent Convolutional Neural Networks for Text Classification", AAAI 2015; S. Lai,
        arXiv:1611.05962. Its contexts are "tanh"; the cells of later code are options.
    """
    x = real_tokens(tokens, mask)
    left = scan_cell(params["left"], x, mask, kind=kind, before=True)
    right = scan_cell(params["right"], x, mask, kind=kind, before=True, reverse=True)
    between = jnp.concatenate([left, x, right], axis=-1)
    return max_pool(jnp.tanh(dense_layer(params["dense"], between, "dense")), mask).astype(x.dtype)


def real_tokens(tokens, mask):
    """Tokens [B, T, E] with zeros where the mask [B, T] is False."""
    tokens = jnp.asarray(tokens)
    check_shape("tokens", tokens, (None, None, None))
    check_shape("mask", mask, tokens.shape[:2])
    return jnp.where(jnp.asarray(mask)[..., None], tokens, 0).astype(
        tokens.dtype if jnp.issubdtype(tokens.dtype, jnp.floating) else accumulator(tokens)
    )


def _check_cell(params, tokens, kind):
    """The width H of a cell; refuses params of another kind."""
    _check_kind(kind)
    width, columns = params["state"]["kernel"].shape
    if columns != GATES[kind] * width:
        raise ValueError(
            f"params: {columns / width:g} gates of width {width}, but kind={kind!r} has {GATES[kind]}; "
            "pass the kind that init drew"
        )
    return width


def _check_kind(kind):
    if kind not in GATES:
        raise ValueError(f"kind: {kind!r}; pass one of {', '.join(map(repr, GATES))}")


def _check_sizes(**sizes):
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: {size} is below 1; pass a larger number")
