"""Prompts of two nouns, their token states by a text encoder, and probes that read either noun from them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import data, diffusion, metrics
from jaxembed.arrays import masked_mean

ANIMALS, ARTEFACTS = 5, 6  # lexicographer's files of WordNet
TEMPLATES = (
    "a photo of {} on {}",
    "a drawing of {} beside {}",
    "a picture of {} near {}",
    "we saw {} under {}",
    "{} stands behind {}",
)
READ, SPECTRUM = "how often a probe names each noun", "singular directions of padded prompts"
NONE, ZERO, ROW, WORDS = "the prompt as it is", "the noun's row set to 0", "DECOR on that row", "DECOR"
NOUN, ALL, TEMPLATED = (
    "noun's row undesired",
    "special tokens undesired too",
    "noun in five prompts undesired",
)
LENGTH = 16  # tokens of a batch; the longest prompt has 10


class Prompts(NamedTuple):
    """Prompts as token states, sorted by their second noun; each of these has as many.

    Attributes:
        states: float32 [N, T, D].
        mask: bool [N, T], real tokens.
        row: int [N], where the second noun is.
        nouns: int [N, 2], the numbers of both nouns.
    """

    states: np.ndarray
    mask: np.ndarray
    row: np.ndarray
    nouns: np.ndarray


def nouns(encoder):
    """(animals, artefacts) of WordNet that are one token each, the commonest first."""
    senses, counts = data.wordnet(parts=("noun",)), data.wordnet_counts()
    lists = [data.topic_words(senses, counts, file) for file in (ANIMALS, ARTEFACTS)]
    known = encoder.tokenizer.get_vocab()
    return [[w for w in words if w in known and len(w) > 2] for words in lists]


def article(noun):
    """A noun with its article: "an owl"."""
    return f"a{'n' * (noun[0] in 'aeiou')} {noun}"


def states_of(encoder, batch, size=100):
    """Token states [N, T, D] of a batch, by parts of one size."""
    run = jax.jit(lambda params, batch: encoder.hidden(params, batch)["tokens"])
    parts = []
    for i in range(0, len(batch["ids"]), size):
        part = {name: x[i : i + size] for name, x in batch.items()}
        missing = size - len(part["ids"])
        filled = {name: np.pad(x, ((0, missing), (0, 0)), mode="edge") for name, x in part.items()}
        parts.append(np.asarray(run(encoder.params, filled))[: size - missing])
    return np.concatenate(parts)


def made(encoder, pairs, words, templates):
    """:class:`Prompts` of pairs of nouns [V, n, 2], where V counts second nouns, in all templates."""
    places = np.repeat(pairs[:, :, None], len(templates), axis=2).reshape(-1, 2)
    named = [[article(words[side][n]) for side, n in enumerate(pair)] for pair in places]
    texts = [templates[i % len(templates)].format(*pair) for i, pair in enumerate(named)]
    batch = encoder.tokenize(texts, length=LENGTH)
    hits = batch["ids"] == np.array([encoder.tokenizer.token_to_id(words[1][n]) for _, n in places])[:, None]
    return Prompts(states_of(encoder, batch), batch["mask"], hits.argmax(axis=1), places)


def undesired(encoder, words, templates=("{}",)):
    """States [V, M, D] of the undesired prompts of V nouns, and which rows are: {kind: bool [V, M]}."""
    texts = [template.format(article(word)) for word in words for template in templates]
    batch = encoder.tokenize(texts, length=LENGTH)
    ids = np.repeat([encoder.tokenizer.token_to_id(w) for w in words], len(templates))
    special = np.isin(batch["ids"], [encoder.tokenizer.token_to_id(t) for t in ("[CLS]", "[SEP]", "[PAD]")])
    rows = {"words": batch["mask"] & ~special, "noun": batch["ids"] == ids[:, None], "all": batch["mask"]}
    count = len(words)
    states = states_of(encoder, batch)
    return states.reshape(count, -1, states.shape[-1]), {k: x.reshape(count, -1) for k, x in rows.items()}


@jax.jit
def _projected(states, rows, where, strength):
    return jax.vmap(lambda x, u, w: diffusion.decor(x, u, where=w, strength=strength))(states, rows, where)


def edited(prompts, rows, where, strength):
    """Prompts by DECOR: without what the undesired prompt [V, M, D] of their second noun spans."""
    grouped = prompts.states.reshape(len(rows), -1, *prompts.states.shape[1:])
    found = np.asarray(_projected(grouped, rows, where, np.float32(strength)))
    return prompts._replace(states=found.reshape(prompts.states.shape))


def at_row(prompts, states=None):
    """Prompts that differ in the row of the second noun alone: that of other states, or zeros."""
    found, every = prompts.states.copy(), np.arange(len(prompts.row))
    found[every, prompts.row] = 0 if states is None else states[every, prompts.row]
    return prompts._replace(states=found)


def pooled(prompts):
    """[N, D], the mean over real tokens."""
    return np.asarray(masked_mean(jnp.asarray(prompts.states), prompts.mask))


def probe(prompts, side, classes):
    """A linear probe of one of the nouns, fitted to pooled states."""
    return metrics.fit_logistic(pooled(prompts), prompts.nouns[:, side], classes)


def asked(fitted, prompts, side):
    """(how often a probe names the noun, the mean probability that it gives the noun)."""
    logits = pooled(prompts) @ np.asarray(fitted["kernel"]) + np.asarray(fitted["bias"])
    truth = prompts.nouns[:, side]
    shares = np.asarray(jax.nn.softmax(logits))[np.arange(len(truth)), truth]
    return float(np.mean(logits.argmax(axis=1) == truth)), float(shares.mean())


def spectra(encoder, words, prompts, length):
    """Of prompts that are filled up with padding which is read: energy and alignment of each direction.

    Returns:
        {"energy", "padding", "words": [count]}, means over prompts of one template; ``count`` directions.
    """
    texts = [TEMPLATES[0].format(*(article(words[s][n]) for s, n in enumerate(p))) for p in prompts.nouns]
    batch = encoder.tokenize(texts, length=length)
    real = batch["mask"]
    states = states_of(encoder, batch | {"mask": np.ones_like(real)})

    @jax.jit
    def measured(states, real):
        values, directions = diffusion.prompt_spectrum(states)
        sides = [diffusion.row_alignment(directions, states, where) for where in (~real, real)]
        return [values**2 / jnp.sum(values**2), *sides]

    found = jax.lax.map(lambda x: measured(*x), (jnp.asarray(states), jnp.asarray(real)))
    names = ("energy", "padding", "words")
    return {name: np.asarray(x).mean(axis=0)[:6].tolist() for name, x in zip(names, found, strict=True)}
