"""Pre-training of a small encoder by masked words, of its last block or of many blocks and sizes."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, train

MOST = 6  # hidden places of a text that are scored in training


class MaskedWords(NamedTuple):
    """An encoder over word ids with a word head, and a weak decoder that reads one vector.

    Attributes:
        init: ``key -> params``, with "encoder", "head" and "decoder".
        states: ``(params, batch) -> [B, L+1, T, D]``, row n the states after block n.
        decode: ``(params, batch) -> ([B, D] -> [B, T, D])``: the states of the decoder, which reads the
            batch's "decoder_ids" with a vector in the first place.
        vocabulary: number V of ids.
        length: tokens T of a text.
    """

    init: Callable
    states: Callable
    decode: Callable
    vocabulary: int
    length: int


def masked_word_model(vocabulary, *, width=64, layers=4, heads=4, length=16):
    """Masked-word model: describes a small encoder of word ids that is pre-trained from nothing.

    The decoder is one block, which starts as a copy of the encoder's first, as in Starbucks. There that block
    is a published one, and here it is not trained before. What it reads are word vectors and positions,
    without the norm, dropout and segments of BERT.

    >>> model = masked_word_model(20, width=8, layers=2, heads=2, length=4)
    >>> batch = {"ids": jnp.ones((3, 4), int), "mask": jnp.ones((3, 4), bool)}
    >>> print(model.states(model.init(jax.random.key(0)), batch).shape)
    (3, 3, 4, 8)

    Args:
        vocabulary: number V of ids, as ``data.word_ids`` makes them.
        width: D, a multiple of ``heads``.
        layers: L.
        heads: of each block.
        length: tokens T of a text.

    Returns:
        :class:`MaskedWords`.

    Raises:
        ValueError: for numbers below 1, or heads that do not divide the width.

    References:
        S. Zhuang et al., Starbucks (SMAE), arXiv:2410.13230.
    """
    sizes = {"vocabulary": vocabulary, "width": width, "layers": layers, "heads": heads, "length": length}
    for name, number in sizes.items():
        if number < 1:
            raise ValueError(f"{name}: {number} is below 1; give a positive number")
    if width % heads:
        raise ValueError(f"heads: {heads} do not divide the width {width}; choose a divisor")
    block = encoders.Block(heads=heads, mlp_width=2 * width)

    def init_embed(key):
        return {"table": {"embedding": jax.random.normal(key, (vocabulary, width)) * 0.1}}

    def embed(params, batch):
        return params["table"]["embedding"][batch["ids"]], batch["mask"]

    options = {"width": width, "layers": layers, "heads": heads, "mlp_width": 2 * width, "positions": length}
    encoder = encoders.transformer(init_embed, embed, **options)

    def init(key):
        below, head = jax.random.split(key)
        params = {"encoder": encoder.init(below), "head": encoders.init_word_head(head, width, vocabulary)}
        return params | {"decoder": encoders.one_block(params["encoder"])}

    def states(params, batch):
        return encoder.hidden(params["encoder"], batch, each=lambda tokens, mask: tokens)["layers"]

    def decode(params, batch):
        def run(vector):
            below = params["encoder"]
            tokens = below["table"]["embedding"][batch["decoder_ids"]] + below["position"]["embedding"]
            tokens = encoders.with_first(tokens, vector)
            return block.apply({"params": params["decoder"]}, tokens, batch["mask"])

        return run

    return MaskedWords(init, states, decode, vocabulary, length)


def pre_train(model, batch, *, grid, steps, nested=True, rows=None, batch_size=64, rate=3e-3, seed=0):
    """SMAE: pre-trains an encoder by masked words at every pair of a layer and a size.

    Words are read from the states, and from one vector through a weak decoder
    (``losses.masked_autoencoder``), with Adam. Steps whose gradient is not finite are skipped.

    ``batch = data.word_ids(texts, 2000, length=16)``
    ``params = recipes.pre_train(recipes.masked_word_model(2000), batch, grid=((2, 16), (4, 64)), steps=500)``

    Args:
        model: of :func:`masked_word_model`.
        batch: {"ids": int [N, T], "mask": bool [N, T]} of ``data.word_ids``.
        grid: pairs (n, size), in rising order.
        steps: how many.
        nested: False trains the words of the last pair's states alone, plain masked language modelling.
        rows: optional int [M], the texts that train; default all.
        batch_size: texts of a step.
        rate: highest learning rate; it rises for a twentieth of the steps and falls along a cosine.
        seed: of the parameters and of the order. The words that are hidden depend on the rows of a batch.

    Returns:
        params.

    Raises:
        ValueError: for no steps, more texts in a batch than train, or a batch that the model does not fit.

    References:
        S. Zhuang et al., Starbucks (SMAE), arXiv:2410.13230. Its warm-up is the same share of the steps; its
        rate of 1e-4 and weight decay of 1e-3 are for a published encoder.
    """
    rows = _rows(model, batch, rows)
    if steps < 1 or not 1 <= batch_size <= len(rows):
        raise ValueError(f"steps={steps}, batch_size={batch_size}: at least 1, and at most {len(rows)} texts")

    def loss_fn(params, batch, key):
        layers, (lift, table, bias) = model.states(params, batch), _words(params)
        given = {"words": batch["words"], "where": batch["where"], "most": MOST, "bias": bias}
        if nested:
            given |= {"grid": grid, "decoder_where": batch["decoder_where"]}
            found = losses.masked_autoencoder(lift, layers, table, model.decode(params, batch), **given)
            return jnp.mean(found), {}
        n, size = grid[-1]
        return jnp.mean(losses.masked_words_loss(lift, layers[:, n, :, :size], table, **given)), {}

    made = data.batches(rows, batch_size, make=functools.partial(_hidden, model, batch), seed=seed)
    tx = optax.adam(optax.warmup_cosine_decay_schedule(0, rate, steps // 20 + 1, max(steps, steps // 20 + 2)))
    run = {"batches": made, "steps": steps, "key": seed, "nonfinite": "skip"}
    return train.fit(init=model.init, loss_fn=loss_fn, tx=tx, **run).params


def masked_word_losses(model, params, batch, grid, *, rows=None):
    """Masked-word losses: asks what a pre-trained encoder knows at every pair of a layer and a size.

    Args:
        model, params: of :func:`pre_train`.
        batch: {"ids": int [N, T], "mask": bool [N, T]}.
        grid: P pairs (n, size).
        rows: optional int [M], the texts that are asked about, best such as did not train; default all.

    Returns:
        float [3, P]: mean nats of a hidden word from the states, from the vector of its own text through the
        decoder, and from the vector of another text. Rows are means over texts in which a word is hidden.

    Raises:
        ValueError: for no texts, or a batch that the model does not fit.

    References:
        S. Zhuang et al., Starbucks (SMAE), arXiv:2410.13230.
    """
    rows = _rows(model, batch, rows)

    @jax.jit
    def one(params, batch):
        layers, decode, found = model.states(params, batch), model.decode(params, batch), []
        for n, size in grid:
            h = layers[:, n, :, :size]
            vector = encoders.lift(params["head"], h[:, 0])
            own, other = (decode(v) for v in (vector, jnp.roll(vector, 1, axis=0)))
            parts = (h, batch["where"]), (own, batch["decoder_where"]), (other, batch["decoder_where"])
            found.append(jnp.stack([_mean_loss(params, batch, *part) for part in parts]))
        return jnp.stack(found, axis=1)

    parts = np.array_split(rows, max(1, len(rows) // 250))
    return np.mean([np.asarray(one(params, _hidden(model, batch, r))) for r in parts], axis=0)


def _rows(model, batch, rows):
    """The rows that are read, after a batch that does not fit the model is refused."""
    ids = np.asarray(batch["ids"])
    rows = np.arange(len(ids)) if rows is None else np.asarray(rows)
    if ids.ndim != 2 or ids.shape[1] != model.length or np.shape(batch["mask"]) != ids.shape:
        said = f"ids {ids.shape} and mask {np.shape(batch['mask'])}"
        raise ValueError(f"batch: {said}; give both as [N, {model.length}], the length of the model")
    if not len(rows) or rows.min() < 0 or rows.max() >= len(ids):
        raise ValueError(f"rows: {len(rows)}; give at least one, each in 0..{len(ids) - 1}, the texts there")
    if not 0 <= ids.min() <= ids.max() < model.vocabulary:
        most = model.vocabulary - 1
        raise ValueError(f"batch: ids {ids.min()} to {ids.max()}; the vocabulary of the model is 0..{most}")
    return rows


def _words(params):
    """The lift of states to words, the word vectors and the bias."""
    head = params["head"]
    return functools.partial(encoders.lift, head), params["encoder"]["table"]["embedding"], head["bias"]


def _mean_loss(params, batch, states, where):
    lift, table, bias = _words(params)
    each = losses.masked_words_loss(lift, states, table, words=batch["words"], where=where, bias=bias)
    return jnp.sum(each) / jnp.sum(jnp.any(where, axis=1))  # a text of rare words hides none


def _hidden(model, batch, rows):
    """Rows of a batch with words hidden for the encoder and the decoder, a function of the rows."""
    ids, mask = batch["ids"][rows], batch["mask"][rows]
    groups = np.where(ids > data.RARE_WORD, np.arange(ids.shape[1]), -1)  # every word is one token
    options = {"token": data.MASK_WORD, "vocabulary": model.vocabulary}
    return data.masked_batch(np.random.default_rng(rows), ids, mask, groups, **options)
