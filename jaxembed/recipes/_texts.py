"""Vectors of unseen texts, by a trained model of paragraphs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import data, losses, ragged

NOISE, TEXTS, LENGTH = 256, 64, 64  # noise words, texts that are fitted at once, multiple of their lengths


def infer_texts(model, texts, *, tokenize, steps, rate, seed):
    """Vectors float32 [N, D] of texts, see ``Words.infer``."""
    if model.documents is None or model.settings.get("kind") not in ("pv_dbow", "pv_dm"):
        raise ValueError('words: hold no vectors of texts; train them with kind="pv_dbow" or "pv_dm"')
    tokenize = data.words if tokenize is None else tokenize
    lists = [tokenize(text) if isinstance(text, str) else text for text in texts]
    lists = [[model._index[w] for w in row if w in model._index] for row in lists]
    rng = np.random.default_rng(seed)
    chances = data.noise_probabilities(model.counts, model.settings["power"])
    noise = model.output[rng.choice(len(chances), NOISE, p=chances)]
    found = np.zeros((len(lists), model.output.shape[1]), np.float32)
    order = np.argsort([len(row) for row in lists], kind="stable")
    for start in range(0, len(order), TEXTS):
        part = order[start : start + TEXTS]
        length = max(1, -(-len(lists[part[-1]]) // LENGTH)) * LENGTH
        ids, mask = ragged.pad([lists[i] for i in part], length, count=TEXTS)
        around = _around(model, ids, mask) if model.settings["kind"] == "pv_dm" else None
        weight = model.settings["negatives"]
        rows = _fitted(model.output[ids], mask, around, noise, weight, rate, steps=steps)
        found[part] = np.asarray(rows)[: len(part)] * mask[: len(part)].any(axis=1, keepdims=True)
    return found


def _around(model, ids, mask):
    """The sum of the words around each place, [N, T, D], and one more than their number."""
    window, total, count = model.settings["window"], 0.0, 1.0
    for shift in [s for s in range(-window, window + 1) if s]:
        near = np.roll(mask, shift, axis=1)
        near[:, slice(0, shift) if shift > 0 else slice(shift, None)] = False
        total = total + np.roll(model.vectors[ids], shift, axis=1) * near[..., None]
        count = count + near
    return total, count


@functools.partial(jax.jit, static_argnames="steps")
def _fitted(targets, mask, around, noise, weight, rate, *, steps):
    def loss(params, numbers):
        rows = params["documents"][numbers][:, None]
        hidden = rows if around is None else (around[0] + rows) / around[1][..., None]
        true = jax.nn.softplus(-jnp.sum(hidden * targets, axis=2))
        drawn = jax.nn.softplus(jnp.einsum("ntd,sd->nts", hidden, noise)).mean(axis=2)
        return jnp.sum(mask * (true + weight * drawn), axis=1)

    start = {"documents": jnp.zeros((1, targets.shape[2]))}
    return losses.infer_documents(loss, start, len(targets), steps=steps, rate=rate)
