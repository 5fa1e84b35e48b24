"""Classical networks over word vectors, each as an ``encode``: convolution, recurrence, mean of words."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator
from jaxembed.encoders.mlp import product
from jaxembed.encoders.pooling import last_pool, max_pool, mean_pool
from jaxembed.encoders.recurrent import end_pool, init_rcnn, init_rnn, rcnn, real_tokens, rnn


def init_text_cnn(key, inputs, *, sizes=(3, 4, 5), filters=100):
    """Convolution over text: draws the filters of :func:`text_cnn`.

    >>> params = init_text_cnn(jax.random.key(0), 8, sizes=(2, 3), filters=4)
    >>> print(sorted(params), params["window_3"]["kernel"].shape)
    ['window_2', 'window_3'] (3, 8, 4)

    Args:
        key: random key.
        inputs: width E of the tokens.
        sizes: lengths of the windows, each once.
        filters: number F of filters of each size.

    Returns:
        {"window_<size>": {"kernel": [size, E, F], "bias": [F]}, ...}; He's normal distribution, biases 0.

    Raises:
        ValueError: for no sizes, a size twice, or a number below 1.
    """
    sizes = tuple(sizes)
    if not sizes or len(set(sizes)) < len(sizes) or min(*sizes, inputs, filters) < 1:
        raise ValueError(f"sizes: {sizes} of {filters} filters; pass different window lengths of at least 1")
    params = {}
    for i, size in enumerate(sizes):
        kernel = jax.random.normal(jax.random.fold_in(key, i), (size, inputs, filters))
        params[f"window_{size}"] = {
            "kernel": kernel * (2 / (size * inputs)) ** 0.5,
            "bias": jnp.zeros(filters),
        }
    return params


def text_cnn(params, tokens, mask):
    """Convolution over text (Kim's CNN): the strongest answer of each filter to any window of a text.

    ``out = max over windows of relu(sum_i tokens[t + i] K[i] + b)``. Windows may hang over both ends of a
    text, where zeros stand, so a text shorter than a window has windows too. A window counts when it holds a
    real token; Kim's code counts windows of padding alone as well.

    >>> params = {"window_2": {"kernel": jnp.ones((2, 1, 1)), "bias": jnp.zeros(1)}}
    >>> tokens = jnp.array([[[1.0], [2.0], [jnp.nan]]])
    >>> print(text_cnn(params, tokens, jnp.array([[True, True, False]])))
    [[3.]]

    Args:
        params: of :func:`init_text_cnn`.
        tokens: [B, T, E]; padding may hold anything and be on either side.
        mask: bool [B, T], True for real tokens.

    Returns:
        [B, sizes * F], the smallest windows first, in the dtype of ``tokens``; zeros for a text without
        tokens.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        Y. Kim, arXiv:1408.5882.
    """
    x = real_tokens(tokens, mask)
    found = []
    for name in sorted(params, key=lambda name: int(name.removeprefix("window_"))):
        kernel = params[name]["kernel"]
        size, inputs, _ = kernel.shape
        if inputs != x.shape[-1]:
            raise ValueError(
                f"tokens: width {x.shape[-1]}, but {name} takes {inputs}; pass vectors of that width"
            )
        y = _convolved(kernel, x) + params[name]["bias"].astype(accumulator(x))
        inside = jnp.pad(jnp.cumsum(mask, axis=1), ((0, 0), (size, size - 1)), mode="edge")
        inside = inside.at[:, :size].set(0)
        real = inside[:, size:] > inside[:, :-size]
        found.append(max_pool(jax.nn.relu(y), real))
    return jnp.concatenate(found, axis=-1).astype(x.dtype)


def _convolved(kernel, x):
    """The answers [B, T + n - 1, F] to all windows of n of x [B, T, E] between zeros, kernel [n, E, F].

    One product for all places of a window, then shifted sums: on a CPU several times faster than XLA's
    convolution and its gradient.
    """
    size, inputs, filters = kernel.shape
    each = product(x, jnp.moveaxis(kernel, 0, 1).reshape(inputs, size * filters))
    each = jnp.pad(each, ((0, 0), (size - 1, size - 1), (0, 0))).reshape(len(x), -1, size, filters)
    count = x.shape[1] + size - 1
    return sum(each[:, i : i + count, i] for i in range(size))


class TextNetwork(NamedTuple):
    """A network over word vectors as two functions, which :func:`text_network` describes."""

    init: Callable
    encode: Callable


def text_network(init_embed, embed, *, kind, inputs, dropout=0.0, **sizes):
    """Text network: a classical encoder of texts on top of a token embedding.

    >>> def init_embed(key):
    ...     return {"table": {"embedding": jax.random.normal(key, (10, 8))}}
    >>> def embed(params, batch):
    ...     return params["table"]["embedding"][batch["ids"]], batch["mask"]
    >>> network = text_network(init_embed, embed, kind="rcnn", inputs=8, context=3, width=5)
    >>> params = network.init(jax.random.key(0))
    >>> batch = {"ids": jnp.array([[1, 2, 0]]), "mask": jnp.array([[True, True, False]])}
    >>> print(sorted(params), network.encode(params, batch).shape)
    ['network', 'table'] (1, 5)

    Args:
        init_embed: ``key -> params``, a dict without the key "network".
        embed: ``(params, batch) -> (tokens [B, T, E], mask bool [B, T])``. Padding may hold anything.
        kind: "mean" of the tokens, "cnn" (:func:`text_cnn`), "rcnn" (:func:`rcnn`), "lstm" or "gru" (last
            states of :func:`rnn`).
        inputs: E.
        dropout: share of the coordinates of a text's vector that become 0 where a key is given; the others
            are divided by ``1 - dropout``.
        sizes: further arguments of :func:`init_text_cnn`, :func:`init_rcnn` (its ``kind`` as ``cell``) or
            :func:`init_rnn`.

    Returns:
        :class:`TextNetwork`: ``init(key) -> params`` and ``encode(params, batch, key=None) -> [B, D]``.

    Raises:
        ValueError: for an unknown kind, or a dropout outside its range.
    """
    if kind not in ("mean", "cnn", "rcnn", "lstm", "gru"):
        raise ValueError(f"kind: {kind!r}; pass 'mean', 'cnn', 'rcnn', 'lstm' or 'gru'")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: {dropout}; pass a share from 0, below 1")
    cell = sizes.pop("cell", "tanh") if kind == "rcnn" else kind
    both = sizes.get("bidirectional", False)
    ends = end_pool if both else last_pool
    networks = {
        "mean": (lambda key, inputs: {}, lambda p, x, m: mean_pool(x, m)),
        "cnn": (init_text_cnn, text_cnn),
        "rcnn": (_with_kind(init_rcnn, cell), lambda p, x, m: rcnn(p, x, m, kind=cell)),
        "recurrent": (_with_kind(init_rnn, cell), lambda p, x, m: ends(rnn(p, x, m, kind=cell), m)),
    }
    init_network, apply = networks.get(kind, networks["recurrent"])

    def init(key):
        first, second = jax.random.split(key)
        return init_embed(first) | {"network": init_network(second, inputs, **sizes)}

    def encode(params, batch, key=None):
        x = apply(params["network"], *embed(params, batch))
        if key is not None and dropout:
            x = jnp.where(jax.random.bernoulli(key, 1 - dropout, x.shape), x / (1 - dropout), 0)
        return x

    return TextNetwork(init, encode)


def _with_kind(init, kind):
    return lambda key, inputs, **sizes: init(key, inputs, kind=kind, **sizes)
