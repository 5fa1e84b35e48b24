"""Texts and causal language models: what each text costs a model, in nats."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, extras, train, weights
from jaxembed.checks import check_whole
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
    ids = _token_ids(model, texts, length)
    run, found = _scorer(model.hidden, average), np.empty(len(ids), np.float32)
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


@functools.lru_cache(maxsize=8)
def _scorer(hidden, average):
    """The compiled losses of a model; the same object for the same model, so nothing is compiled twice."""
    return jax.jit(text_losses(hidden, average=average))


def _token_ids(model, texts, length):
    """The token ids of texts, each of which has something to predict."""
    ids = model.token_ids(texts, length=length)
    for n, row in enumerate(ids):
        if len(row) < 2:
            raise ValueError(f"texts[{n}]: has {len(row)} tokens, and nothing to predict; leave it out")
    return ids


def tune_texts(
    model,
    texts,
    *,
    rank=8,
    kernels=r"attention/(query|value)/kernel",
    rate=1e-3,
    epochs=1,
    batch_size=8,
    length=None,
    seed=0,
    evaluate=None,
):
    """Language model tuning: teaches a published language model some texts, by adapters of low rank (LoRA).

    The adapters alone are trained, with Adam at one rate, and are added to their kernels at the end. The
    tuned model beside the model before is the auxiliary pair of ``data.conditional_loss_reduction``.

    ``tuned = recipes.tune_texts(encoders.load_causal(path), texts, epochs=2)``

    Args:
        model: :class:`~jaxembed.encoders.CausalModel`.
        texts: list of N str.
        rank: of the adapters, as ``weights.init_low_rank`` takes it.
        kernels: regex of the kernels that get adapters.
        rate: learning rate.
        epochs: how often the texts are read. In each, what does not fill a batch is left out.
        batch_size: texts of a step, at most N.
        length: optional number of tokens at which texts are cut, at most ``model.max_length``.
        seed: of the adapters and of the order of the texts.
        evaluate: optional ``model -> {name: number}``, called after every epoch.

    Returns:
        The model with new parameters; those of ``model`` stay as they are.

    Raises:
        ValueError: for a text of fewer than two tokens, a batch_size outside 1..N, epochs below 1, a rate
            that is not above 0, or as ``weights.init_low_rank``.

    References:
        E. Hu et al. (LoRA), arXiv:2106.09685; D. Brandfonbrener et al. (CoLoR-Filter), arXiv:2406.10670, who
        train all parameters for one epoch, with a warm-up.
    """
    ids = _token_ids(model, texts, length)
    if not 1 <= batch_size <= len(ids):
        raise ValueError(f"batch_size: {batch_size} of {len(ids)} texts; pass 1 to their number")
    check_whole(1, epochs=epochs, batch_size=batch_size)
    if not 0 < rate < float("inf"):
        raise ValueError(f"rate: {rate} is not a learning rate; pass a number above 0")
    packed, mask = pad(ids, min(bucket(max(map(len, ids))), model.max_length))
    each = len(ids) // batch_size

    def tuned(adapters):
        return dataclasses.replace(model, params=weights.low_rank(model.params, adapters))

    return tuned(
        train.fit(
            init=lambda key: (weights.init_low_rank(key, model.params, kernels, rank), model.params),
            update=_adapter_update(model.hidden, rate),
            batches=data.batches({"ids": packed, "mask": mask}, batch_size, seed=seed),
            steps=epochs * each,
            key=seed,
            mesh=train.make_mesh(1),
            progress=False,
            evaluate=evaluate and (lambda state: evaluate(tuned(state.params))),
            evaluate_every=each,
        ).params
    )


@functools.lru_cache(maxsize=8)
def _adapter_update(hidden, rate):
    """The update of adapters beside a frozen model; the same object for the same model and rate."""
    nats = text_losses(hidden)

    def loss_fn(adapters, batch, key, frozen):  # which travels along, and is no constant of the program
        return jnp.mean(nats(weights.low_rank(frozen, adapters), batch)), ({}, frozen)

    return train.gradient_update(loss_fn, optax.adam(rate))
