"""Texts and causal language models: what each text costs a model, in nats."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import extras
from jaxembed.encoders import token_logits
from jaxembed.losses import sequence_loss
from jaxembed.ragged import bucket, pad


def text_losses(hidden, *, average=True):
    """Text losses: turns the states of a causal model into the loss of each text, with little memory.

    The logits [T, V] exist for one text at a time, and are computed again for the gradient.

    >>> from jaxembed import data, encoders
    >>> model = encoders.language_model(257, width=8, layers=1, heads=2)
    >>> losses = text_losses(model.hidden)(model.init(jax.random.key(0)), data.byte_batch(["ab", "c"], 4))
    >>> print(losses.shape)
    (2,)

    Args:
        hidden: as in :class:`~jaxembed.encoders.transformer.Transformer`, causal.
        average: as in ``losses.sequence_loss``.

    Returns:
        ``(params, batch, key=None) -> [B]``, nats per token; a batch holds "ids" and "mask" [B, T].

    References:
        As :func:`jaxembed.losses.sequence_loss`.
    """

    def losses(params, batch, key=None):
        states = hidden(params, batch, key)["tokens"]

        @jax.checkpoint
        def one(row):
            states, ids, mask = (x[None] for x in row)
            return sequence_loss(token_logits(params, states), ids, mask, average=average)[0]

        return jax.lax.map(one, (states, jnp.asarray(batch["ids"]), jnp.asarray(batch["mask"])))

    return losses


def score_texts(model, texts, *, batch_size=8, length=None, average=True, progress=False):
    """Scores texts: the nats per token that a causal language model needs for each.

    The first token of a text is not predicted, unless the model puts a begin before it. Texts are sorted by
    length, so few shapes are compiled.

    ``score_texts(encoders.load_causal(path), ["This is a sentence.", "sentence a is This."])``

    Args:
        model: :class:`~jaxembed.encoders.CausalModel`.
        texts: list of N str.
        batch_size: rows of a batch.
        length: optional number of tokens at which texts are cut, at most ``model.max_length``.
        average: False gives the sum over the tokens of each text.
        progress: True shows a bar on a terminal.

    Returns:
        float32 [N], for ``data.conditional_loss_reduction``.

    Raises:
        ValueError: for a text of fewer than two tokens, a batch_size below 1, or as ``model.token_ids``.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    ids = model.token_ids(texts, length=length)
    for n, row in enumerate(ids):
        if len(row) < 2:
            raise ValueError(f"texts[{n}]: has {len(row)} tokens, and nothing to predict; leave it out")
    run, found = jax.jit(text_losses(model.hidden, average=average)), np.empty(len(ids), np.float32)
    order = sorted(range(len(ids)), key=lambda n: -len(ids[n]))
    with extras.bar(len(ids), watched=progress, desc="score") as bar:
        for start in range(0, len(ids), batch_size):
            rows = order[start : start + batch_size]
            size = min(bucket(len(ids[rows[0]])), model.max_length)
            packed, mask = pad([ids[n] for n in rows], size, count=batch_size)
            losses = run(model.params, {"ids": packed, "mask": mask})
            found[rows] = np.asarray(losses)[: len(rows)]
            bar.update(len(rows))
    return found
