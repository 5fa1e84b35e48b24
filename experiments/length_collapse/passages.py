"""Passages at several lengths through a text encoder: embeddings of all layers, and what happens within."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shared import text_models
from jaxembed import metrics


def pieces(encoder, texts, size, most=None):
    """Cuts texts into pieces of ``size`` tokens, at most ``most`` of each: [(text, starts of its tokens)]."""
    side = encoder.tokenizer.truncation["direction"]
    encoder.tokenizer.no_truncation()
    try:
        encoded = encoder.tokenizer.encode_batch(texts, add_special_tokens=False)
    finally:
        encoder.tokenizer.enable_truncation(encoder.max_length, direction=side)
    found = []
    for text, e in zip(texts, encoded, strict=True):
        for start in range(0, len(e.ids) - size + 1, size)[:most]:
            first, last = e.offsets[start][0], e.offsets[start + size - 1][1]
            found.append((text[first:last], [a - first for a, _ in e.offsets[start : start + size]]))
    return found


def embed(encoder, texts, length, temperature, rows, params=None):
    """Vectors [N, L + 1, D] of all layers of texts cut to a length, ``rows`` texts at a time."""
    params, batch = params or encoder.params, encoder.tokenize(texts, prompt="", length=length)
    run = functools.partial(encoder.encode_layers, params, temperature=jnp.float32(temperature))
    starts = range(0, len(texts), rows)
    order = np.resize(np.arange(len(texts)), len(starts) * rows)  # repeats texts to fill the last
    found = [np.asarray(run(text_models.take(batch, order[i : i + rows]))) for i in starts]
    return np.concatenate(found)[: len(texts)]


def inside(hidden):
    """(params, batch, temperature) -> what happens within a text: (token cosine [L + 1], filter rate [L])."""

    def run(params, batch, temperature):
        def rates(weights, mask):
            return metrics.filter_rate(weights, mask[:, None]).mean(axis=1)

        each = metrics.mean_cosine
        out = hidden(params, batch, each=each, temperature=temperature, attention=rates)
        return out["layers"].mean(axis=0), out["attention"].mean(axis=0)

    return jax.jit(run)


def measure(encoder, samples, temperatures, lengths, few, params=None):
    """Measures passages at temperatures and lengths, ``few`` of each sample from inside.

    Args:
        encoder: of ``encoders.pretrained``.
        samples: K lists of as many passages, as ``pieces`` cuts them.
        temperatures: list of float.
        lengths: list of int.
        few: how many passages of a sample are read for the cosines and rates within texts.
        params: of the encoder; its own when None.

    Returns:
        rows, dicts of one sample, temperature and length each, and {(temperature, length): [N, D]}.
    """
    params, look, rows, last = params or encoder.params, inside(encoder.hidden), [], {}
    size = len(samples[0])
    texts = [text for sample in samples for text, _ in sample]
    cosine = jax.jit(metrics.mean_cosine)
    for t in temperatures:
        found = {n: embed(encoder, texts, n, t, size, params) for n in lengths}
        last |= {(t, n): x[:, -1] for n, x in found.items()}
        for k, sample in enumerate(samples):
            place = slice(k * size, (k + 1) * size)
            centre = np.mean([x[place, -1] for x in found.values()], axis=(0, 1))
            for n, x in found.items():
                batch = encoder.tokenize([text for text, _ in sample[:few]], prompt="", length=n)
                tokens, rates = look(params, batch, jnp.float32(t))
                row = {"sample": k, "temperature": t, "tokens": n, "cosine": float(cosine(x[place, -1]))}
                row |= {"centred": float(cosine(x[place, -1] - centre)), "within": float(tokens[-1])}
                layers = [float(cosine(x[place, i])) for i in range(x.shape[1])]
                row |= {"layers": layers, "within layers": np.asarray(tokens).tolist()}
                rows.append(row | {"rates": np.asarray(rates).tolist()})
    return rows, last


def random_weights(params, key):
    """Parameters of the same shapes, drawn as BERT starts: normal of 0.02, norms as the identity."""
    paths, structure = jax.tree.flatten_with_path(params)
    drawn = []
    for i, (path, x) in enumerate(paths):
        name = path[-1].key
        normal = 0.02 * jax.random.normal(jax.random.fold_in(key, i), x.shape)
        drawn.append({"scale": jnp.ones_like(x), "bias": jnp.zeros_like(x)}.get(name, normal))
    return jax.tree.unflatten(structure, drawn)
