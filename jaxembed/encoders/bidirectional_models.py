"""Bidirectional language models: two recurrent networks that read a text from either side."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxembed.arrays import check_shape
from jaxembed.encoders.recurrent import init_rnn, real_tokens, scan_cell

SIDES = ("forward", "backward")


class BidirectionalModel(NamedTuple):
    """A bidirectional language model as functions.

    ``init(key) -> params`` and ``hidden(params, batch, key=None) -> {"tokens": [B, T, 2 E], "mask": [B, T],
    "states": [L + 1, B, T, 2 E]}``, the forward states first. ``encoders.scalar_mix`` mixes the states.
    """

    init: Callable
    hidden: Callable


def bidirectional_model(init_embed, embed, *, inputs, layers=2, kind="lstm"):
    """Bidirectional language model (ELMo): each side reads the text alone, and tells its next word.

    The forward state of place t has read the tokens up to t, so it may tell token t + 1; the backward state
    has read those from t on, so it may tell token t - 1. Neither sees what it tells, in any layer, as the
    two sides of a bidirectional :func:`rnn` would. Each layer after the first adds what it read.
    :func:`both_sides` are the pairs of states and words for a loss.

    >>> def init_embed(key):
    ...     return {"table": {"embedding": jax.random.normal(key, (10, 4))}}
    >>> def embed(params, batch):
    ...     return params["table"]["embedding"][batch["ids"]], batch["mask"]
    >>> model = bidirectional_model(init_embed, embed, inputs=4)
    >>> batch = {"ids": jnp.array([[1, 2, 3]]), "mask": jnp.ones((1, 3), bool)}
    >>> print(model.hidden(model.init(jax.random.key(0)), batch)["states"].shape)
    (3, 1, 3, 8)

    Args:
        init_embed: ``key -> params``, a dict without the key "network".
        embed: ``(params, batch) -> (tokens [B, T, E], mask bool [B, T])``. With :func:`text_cnn` over the
            letters of each word the model has no table of words.
        inputs: E, also the width of each side's states.
        layers: L.
        kind: "lstm" as in the paper, "gru" or "tanh".

    Returns:
        :class:`BidirectionalModel`. Layer 0 is the tokens twice.

    Raises:
        ValueError: for an unknown kind, fewer than one layer, or tokens of another width.

    References:
        M. Peters et al., ELMo, arXiv:1802.05365. There cells of width 4096 are projected to 512; here cells
        have the width of the tokens.
    """
    if layers < 1:
        raise ValueError(f"layers: {layers} is below 1; pass a larger number")

    def init(key):
        first, second = jax.random.split(key)
        keys = jax.random.split(second, (len(SIDES), layers))
        cells = {
            side: {
                f"layer_{i}": init_rnn(k, inputs, inputs, kind=kind)["layer_0"]["forward"]
                for i, k in enumerate(own)
            }
            for side, own in zip(SIDES, keys, strict=True)
        }
        return init_embed(first) | {"network": cells}

    def hidden(params, batch, key=None):
        tokens, mask = embed(params, batch)
        sides = dict.fromkeys(SIDES, real_tokens(tokens, mask))
        states = [_joined(sides)]
        for i in range(layers):
            for side, x in sides.items():
                cell = params["network"][side][f"layer_{i}"]
                y = scan_cell(cell, x, mask, kind=kind, reverse=side == "backward")
                sides[side] = jnp.where(mask[..., None], y + x if i else y, 0)
            states.append(_joined(sides))
        return {"tokens": states[-1], "mask": mask, "states": jnp.stack(states)}

    return BidirectionalModel(init, hidden)


def _joined(sides):
    return jnp.concatenate([sides[side] for side in SIDES], axis=-1)


def both_sides(hidden, words, where):
    """What a bidirectional language model is asked: each state beside the word that it tells.

    ``sum over t of log p(word t | words before) + log p(word t | words after)`` is the sum over the pairs.
    The first word of a text is told from behind alone, the last one from before.

    >>> states = jnp.array([[[1.0, -1.0], [2.0, -2.0], [0.0, 0.0]]])
    >>> hidden = {"tokens": states, "mask": jnp.array([[True, True, False]])}
    >>> asked = both_sides(hidden, jnp.array([[7, 8, 0]]), hidden["mask"])
    >>> print(asked["tokens"][..., 0], asked["words"], asked["where"])
    [[ 1.  2. -2.  0.]] [[8 0 7 8]] [[ True False  True False]]

    Args:
        hidden: of :func:`bidirectional_model`: "tokens" [B, T, 2 E] and "mask" bool [B, T].
        words: int [B, T].
        where: bool [B, T], which words are asked.

    Returns:
        {"tokens": [B, 2 (T - 1), E], "words": int [B, 2 (T - 1)], "where": bool of that shape}, the forward
        side first.

    References:
        M. Peters et al., ELMo, arXiv:1802.05365.
    """
    forward, backward = jnp.split(jnp.asarray(hidden["tokens"]), 2, axis=-1)
    real, words, where = (jnp.asarray(x) for x in (hidden["mask"], words, where))
    check_shape("words", words, forward.shape[:2])
    check_shape("where", where, forward.shape[:2])
    told = where[:, 1:] & real[:, :-1], where[:, :-1] & real[:, 1:]
    return {
        "tokens": jnp.concatenate([forward[:, :-1], backward[:, 1:]], axis=1),
        "words": jnp.concatenate([words[:, 1:], words[:, :-1]], axis=1),
        "where": jnp.concatenate(told, axis=1),
    }
