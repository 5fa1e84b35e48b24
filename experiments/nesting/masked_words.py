"""Pre-training by masked words on WordNet's glosses: the words, the model, and what a pair of it is worth."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, ragged, train

PAD, MASK, FIRST, OTHER = range(4)  # ids below those of words
LENGTH, MOST = 16, 6  # tokens of a gloss, and places of it that are scored


def glosses(rows, vocabulary, seed=0):
    """Definitions as ids: the commonest words have their own, all others share one.

    Args:
        rows: how many definitions, drawn from all.
        vocabulary: number V of ids.
        seed: of the draw.

    Returns:
        {"ids": int32 [rows, 16], "mask": bool}; place 0 holds a mark that stands for the sentence.
    """
    texts = sorted({r["gloss"] for r in data.wordnet()})
    order = np.random.default_rng(seed).permutation(len(texts))[:rows]
    words = [data.words(texts[i], limit=LENGTH - 1) for i in order]
    counts = collections.Counter(w for row in words for w in row)
    common = {w: OTHER + 1 + n for n, (w, _) in enumerate(counts.most_common(vocabulary - OTHER - 1))}
    ids, mask = ragged.pad([[FIRST, *(common.get(w, OTHER) for w in row)] for row in words], LENGTH)
    return {"ids": ids, "mask": mask}


def masked(batch, rows, vocabulary):
    """Rows of a batch with words hidden for the encoder and the decoder, a function of the rows."""
    ids, mask = batch["ids"][rows], batch["mask"][rows]
    groups = np.where(ids > OTHER, np.arange(ids.shape[1]), -1)  # every word is one token; rare ones stay
    options = {"token": MASK, "vocabulary": vocabulary}
    return data.masked_batch(np.random.default_rng(rows), ids, mask, groups, **options)


def model(vocabulary, width=64, layers=4):
    """Encoder, word head and a decoder of one block: (init, states, decoder).

    The decoder starts as a copy of the first block, as Starbucks' does. Here that block is not pre-trained.

    ``states(params, batch) -> [B, L+1, T, D]``; ``decoder(params, batch)`` is the ``decode`` of
    ``losses.masked_autoencoder``.
    """
    block = encoders.Block(heads=4, mlp_width=2 * width)

    def init_embed(key):
        return {"table": {"embedding": jax.random.normal(key, (vocabulary, width)) * 0.1}}

    def embed(params, batch):
        return params["table"]["embedding"][batch["ids"]], batch["mask"]

    options = {"width": width, "layers": layers, "heads": 4, "mlp_width": 2 * width, "positions": LENGTH}
    encoder = encoders.transformer(init_embed, embed, **options)

    def init(key):
        below, head = jax.random.split(key)
        params = {"encoder": encoder.init(below), "head": encoders.init_word_head(head, width, vocabulary)}
        return params | {"decoder": encoders.one_block(params["encoder"])}

    def states(params, batch):
        return encoder.hidden(params["encoder"], batch, each=lambda tokens, mask: tokens)["layers"]

    def decoder(params, batch):
        below = params["encoder"]

        def decode(vector):
            tokens = below["table"]["embedding"][batch["decoder_ids"]] + below["position"]["embedding"]
            tokens = encoders.with_first(tokens, vector)
            return block.apply({"params": params["decoder"]}, tokens, batch["mask"])

        return decode

    return init, states, decoder


def fit(batch, rows, grid, *, nested, vocabulary, steps, size, seed):
    """Trains on the masked words of some rows: SMAE on a grid, or the plain loss of its last pair."""
    init, states, decoder = model(vocabulary)

    def loss_fn(params, batch, key):
        layers, table = states(params, batch), params["encoder"]["table"]["embedding"]
        head, bias = functools.partial(encoders.lift, params["head"]), params["head"]["bias"]
        given = {"words": batch["words"], "where": batch["where"], "most": MOST}
        if nested:
            given |= {"grid": grid, "decoder_where": batch["decoder_where"]}
            decode = decoder(params, batch)
            return jnp.mean(losses.masked_autoencoder(head, layers, table, decode, bias=bias, **given)), {}
        n, d = grid[-1]
        return jnp.mean(losses.masked_words_loss(head, layers[:, n, :, :d], table, bias=bias, **given)), {}

    made = data.batches(rows, size, make=lambda r: masked(batch, r, vocabulary), seed=seed)
    tx = optax.adam(optax.warmup_cosine_decay_schedule(0, 3e-3, steps // 20 + 1, steps))
    return train.fit(
        init=init, loss_fn=loss_fn, tx=tx, batches=made, steps=steps, key=seed, nonfinite="skip"
    ).params


def measure(params, batch, rows, grid, vocabulary):
    """On some rows, for each pair: the loss of words from states, from the vector, and from a shuffled one.

    Returns:
        float [3, P].
    """
    _, states, decoder = model(vocabulary)

    @jax.jit
    def one(params, batch):
        table, layers, found = params["encoder"]["table"]["embedding"], states(params, batch), []
        decode = decoder(params, batch)

        def loss(states, where):
            head, bias = functools.partial(encoders.lift, params["head"]), params["head"]["bias"]
            given = {"words": batch["words"], "where": where, "bias": bias}
            each = losses.masked_words_loss(head, states, table, **given)
            return jnp.sum(each) / jnp.sum(jnp.any(where, axis=1))  # a gloss of rare words hides none

        for n, d in grid:
            h = layers[:, n, :, :d]
            vector = encoders.lift(params["head"], h[:, 0])
            own, other = (decode(v) for v in (vector, jnp.roll(vector, 1, axis=0)))
            parts = (h, batch["where"]), (own, batch["decoder_where"]), (other, batch["decoder_where"])
            found.append(jnp.stack([loss(*part) for part in parts]))
        return jnp.stack(found, axis=1)

    pieces = np.array_split(rows, max(1, len(rows) // 250))
    return np.mean([np.asarray(one(params, masked(batch, r, vocabulary))) for r in pieces], axis=0)
