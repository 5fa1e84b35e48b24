"""Causal language models: a transformer that says of each place which token comes next."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxembed.arrays import inner
from jaxembed.encoders.positions import rotary_frequencies
from jaxembed.encoders.transformer import transformer
from jaxembed.tables import rows_of

LLAMA = {"norm": "rms", "activation": "silu", "gated": True, "biases": ()}


class LanguageModel(NamedTuple):
    """A causal language model as functions.

    ``init(key) -> params``, ``hidden`` as in :class:`~jaxembed.encoders.transformer.Transformer`, and
    ``logits(params, batch, key=None) -> [B, T, V]``, the scores of the token after each place.
    """

    init: Callable
    hidden: Callable
    logits: Callable


def language_model(vocabulary, *, width, layers, heads, theta=10_000.0, **options):
    """Causal language model: a transformer whose token embedding also scores the next token.

    ``logits[b, t] = tokens[b, t] . embedding``, with rotary positions, RMS norms and gated networks, as in
    Llama. ``losses.sequence_loss(model.logits(params, batch), batch["ids"], batch["mask"])`` are the nats of
    each text. With ``data.byte_batch`` the vocabulary is 257.

    >>> model = language_model(257, width=8, layers=2, heads=2)
    >>> batch = {"ids": jnp.array([[256, 97, 98, 0]]), "mask": jnp.array([[True, True, True, False]])}
    >>> print(model.logits(model.init(jax.random.key(0)), batch).shape)
    (1, 4, 257)

    Args:
        vocabulary: V, number of token ids.
        width: D.
        layers: number of blocks.
        heads: attention heads; ``D / heads`` is even.
        theta: base of the rotary frequencies; longer texts take a larger one.
        options: further arguments of :func:`transformer`, such as mlp_width, dropout, dtype or kv_heads.

    Returns:
        :class:`LanguageModel`; the embedding is ``table/embedding`` [V, D].

    Raises:
        ValueError: as :func:`transformer`; for heads that do not divide the width into even parts.

    References:
        H. Touvron et al., Llama, arXiv:2302.13971; tied scores: O. Press and L. Wolf, arXiv:1608.05859.
    """
    if width % (2 * heads):
        raise ValueError(
            f"heads: {heads} do not divide the width {width} into even parts; change one of them"
        )

    def init_embed(key):
        return {"table": {"embedding": 0.02 * jax.random.normal(key, (vocabulary, width))}}

    turns = rotary_frequencies(width // heads, theta)
    sizes = {"width": width, "layers": layers, "heads": heads, "frequencies": turns, "causal": True}
    made = transformer(init_embed, _embed, **sizes, **LLAMA | options)
    return LanguageModel(made.init, made.hidden, _logits(made.hidden))


def token_logits(params, states):
    """Language model head: scores every token by its inner product with the states.

    >>> print(token_logits({"table": {"embedding": jnp.eye(2)}}, jnp.array([[[3.0, 1.0]]])))
    [[[3. 1.]]]

    Args:
        params: with ``head/kernel`` [D, V], or without it ``table/embedding`` [V, D], which is then shared.
        states: [B, T, D], the tokens that a causal transformer returns.

    Returns:
        [B, T, V] in at least float32.
    """
    table = params["head"]["kernel"].T if "head" in params else params["table"]["embedding"]
    return inner(states, table)


def _embed(params, batch):
    ids = jnp.where(batch["mask"], batch["ids"], 0)
    return rows_of(params["table"]["embedding"], ids), batch["mask"]


def _logits(hidden):
    def logits(params, batch, key=None):
        return token_logits(params, hidden(params, batch, key)["tokens"])

    return logits
