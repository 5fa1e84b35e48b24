"""Other ways from a sentence to a vector: the checkpoint's pooler in training, a prompt, SimCSE."""

import dataclasses
import types

import jax.numpy as jnp

from experiments.definitions.training import fit, start, with_blocks
from experiments.shared import flags, text_models
from jaxembed import encoders, recipes, vectors

RAW, ONE, POOLER = "raw", "DefSent+, one stage", "DefSent+, one stage, pretrained pooler"
RAW_PROMPT, PROMPT, SIMCSE = "raw, prompt", "DefSent+, one stage, prompt", "SimCSE on the definitions"
REST = "^(table|position|type|embedding_norm)/"  # what stays as it is in every arm


def pretrained_start(encoder):
    """What is trained and the activation behind its layer, which starts as the pooler of the checkpoint."""
    params, activation = encoders.pretrained_pooler(encoder)
    return {"blocks": encoder.params["blocks"], "pooler": params["layer_0"]}, activation


def train_arms(cfg, encoder, make_update, trained, count, seed):
    """{arm: what has ``encode_texts``} of one draw of entries, all trained on the same definitions.

    Args:
        cfg: settings of the story.
        encoder: the first blocks of the model, whose ``encode`` is the mean of the states.
        make_update: ``activation -> update`` of the story.
        trained: pairs (entry's number, definition).
        count: number of entries.
        seed: of the order.
    """
    numbers, texts = zip(*trained, strict=True)
    table = vectors.entry_means(encoder.encode_texts(list(texts)), jnp.array(numbers), count)
    flags.stage(f"seed {seed}: trains three encoders of {cfg.steps} steps on {len(texts):,} definitions")
    begin, activation = pretrained_start(encoder)
    one = with_blocks(encoder, fit(cfg, encoder, make_update(jnp.tanh), start(encoder), table, trained, seed))
    own = with_blocks(encoder, fit(cfg, encoder, make_update(activation), begin, table, trained, seed))
    return {
        RAW: encoder,
        ONE: one,
        POOLER: own,
        RAW_PROMPT: prompted(encoder),
        PROMPT: prompted(one),
        SIMCSE: simcse(cfg, encoder, list(texts), seed),
    }


def prompted(encoder):
    """The same encoder, whose vector of a text is the state of the mask token of DefSent+'s template."""
    mean = dataclasses.replace(encoder, encode=pooled_states(encoder), pooling=("mean",))

    def encode_texts(texts):
        return encoders.encode_prompted(mean, texts)

    return types.SimpleNamespace(encode_texts=encode_texts)


def pooled_states(encoder):
    """``encode`` of the mean of the states that the pooling reads."""

    def encode(params, batch, key=None, **options):
        tokens, mask = encoder.encode_tokens(params, batch, key, **options)
        return encoders.mean_pool(tokens, jnp.asarray(batch.get("pool_mask", mask), bool))

    return encode


def simcse(cfg, encoder, texts, seed):
    """The encoder after SimCSE without labels: every definition finds itself, read with other dropout."""
    noisy = text_models.load(cfg.model, dropout=0.1).first(encoder.depth)
    given = {"steps": cfg.steps, "batch_size": cfg.batch_size, "length": cfg.length, "rate": cfg.simcse_rate}
    pairs = {"first": texts, "second": texts}
    tuned = recipes.fine_tune(noisy, pairs, head=True, frozen=REST, seed=seed, **given)
    return with_blocks(encoder, tuned.params)
