"""Training against frozen entry vectors: the encoder that is trained, one stage, stages after one another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shared import flags, text_models
from jaxembed import data, train, vectors
from jaxembed.arrays import masked_mean


def open_encoder(cfg):
    """The first blocks of the model, and the same with the mean of the states as its ``encode``."""
    encoder = text_models.load(cfg.model)
    own, whole = cfg.pairs is not None or cfg.paper, encoder.depth
    flags.at_most(cfg, "blocks", whole, f"the encoder has {whole}")
    blocks = cfg.blocks or (whole if own else min(2, whole))
    flags.at_most(cfg, "length", encoder.max_length, f"the encoder reads {encoder.max_length} tokens")
    encoder = encoder.first(blocks)

    def encode(params, batch, key=None, *, layers=None, temperature=None):
        return masked_mean(*encoder.encode_tokens(params, batch, key, layers=layers, temperature=temperature))

    width = encoder.params["table"]["embedding"].shape[1]
    return encoder, dataclasses.replace(encoder, encode=encode, width=width)


def start(encoder):
    """What is trained: the blocks, and a layer that starts as the identity and is thrown away afterwards.

    Word vectors stay as they are.
    """
    width = encoder.width
    pooler = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
    return {"blocks": encoder.params["blocks"], "pooler": pooler}


def with_blocks(encoder, params):
    """The encoder with trained blocks."""
    return dataclasses.replace(encoder, params=encoder.params | {"blocks": params["blocks"]})


def fit(cfg, encoder, update, params, table, pairs, seed):
    """Trains from given parameters on pairs (row of the table, definition); returns the parameters."""
    numbers, texts = np.array([n for n, _ in pairs], np.int32), [text for _, text in pairs]
    flags.enough_pairs(cfg, len(pairs), 2)
    flags.at_most(cfg, "batch_size", len(pairs), f"there are only {len(pairs)} definitions to learn")
    read = encoder.tokenize(texts, length=cfg.length)
    source = data.batches(
        np.arange(len(pairs)),
        cfg.batch_size,
        make=lambda rows: {"text": text_models.take(read, rows), "entry": numbers[rows]},
        seed=seed,
    )
    rest = {name: x for name, x in encoder.params.items() if name != "blocks"}
    begin = jax.tree.map(np.asarray, (params, (even(table), rest)))
    given = {"batches": source, "steps": cfg.steps, "mesh": text_models.mesh_for(cfg.batch_size)}
    return train.fit(init=lambda key: begin, update=update, key=seed, **given).params


def even(table):
    """Scales all rows of a table by one number so that their mean length is 1."""
    return table / jnp.linalg.norm(table, axis=1).mean()


def whiten(table):
    """Gives the rows of a table mean 0 and equal variance in all directions."""
    return vectors.standardise(vectors.fit_whiten(table), table)


def progressive(params, entries, train, stages):
    """Progressive training: trains against entry vectors that get better, each time from the same start.

    ``params_k = train(params_0, stages[k](entries(params_{k-1})))``: the trained encoder of a stage only
    gives the entry vectors of the next one, whose training starts again from the first parameters.

    >>> import numpy as np
    >>> train = lambda params, table: params + table.sum()
    >>> print(progressive(1.0, lambda p: p * np.ones((2, 1)), train, [lambda t: t, lambda t: 10 * t]))
    61.0

    Args:
        params: the parameters from which every stage starts.
        entries: ``params -> [N, D]``, the entry vectors of an encoder, for example by
            ``vectors.entry_means``, without dropout.
        train: ``(params, table [N, D]) -> params``, for example with ``losses.frozen_softmax``.
        stages: functions ``[N, D] -> [N, D]`` that make the entry vectors more even: the identity, or
            ``lambda t: 100 * standardise(fit_whiten(t), t)``.

    Returns:
        The parameters after the last stage; ``params`` without stages.

    References:
        X. Liu, DefSent+, arXiv:2405.16153, which standardises and then runs FastICA: an orthogonal turn of
        whitened vectors, left out here. The factor acts as an inverse temperature.
    """
    current = params
    for stage in stages:
        current = train(params, stage(entries(current)))
    return current
