"""Passages at several lengths through a text encoder: embeddings of all layers, and what happens within."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import plots, text_models
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
    params, batch = params or encoder.params, text_models.tokens(encoder, texts, length)
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
                batch = text_models.tokens(encoder, [text for text, _ in sample[:few]], n)
                tokens, rates = look(params, batch, jnp.float32(t))
                row = {"sample": k, "temperature": t, "tokens": n, "cosine": float(cosine(x[place, -1]))}
                row |= {"centred": float(cosine(x[place, -1] - centre)), "within": float(tokens[-1])}
                layers = [float(cosine(x[place, i])) for i in range(x.shape[1])]
                row |= {"layers": layers, "within layers": np.asarray(tokens).tolist()}
                rows.append(row | {"rates": np.asarray(rates).tolist()})
    return rows, last


def mean_of(rows, key, **where):
    """The mean over the samples of one number, or list of numbers, of the rows that match."""
    return np.mean([r[key] for r in rows if all(r[k] == v for k, v in where.items())], axis=0)


def random_weights(params, key):
    """Parameters of the same shapes, drawn as BERT starts: normal of .02, norms as the identity."""
    paths, structure = jax.tree.flatten_with_path(params)
    drawn = []
    for i, (path, x) in enumerate(paths):
        name = path[-1].key
        normal = 0.02 * jax.random.normal(jax.random.fold_in(key, i), x.shape)
        drawn.append({"scale": jnp.ones_like(x), "bias": jnp.zeros_like(x)}.get(name, normal))
    return jax.tree.unflatten(structure, drawn)


def summary(rows, temperatures, sizes):
    """Means over the samples, one row for each temperature and length."""
    keys = ("cosine", "centred", "within")
    table = []
    for t, n in itertools.product(temperatures, sizes):
        row = {"temperature": t, "tokens": n}
        row |= {k: float(mean_of(rows, k, temperature=t, tokens=n)) for k in keys}
        rates = mean_of(rows, "rates", temperature=t, tokens=n)
        table.append(row | {f"rate {i + 1}": float(r) for i, r in enumerate(rates)})
    return table


def by_layer(rows, sizes):
    """At temperature 1: mean cosine of passages and of tokens after each block, shortest to longest."""
    table = []
    for i in range(len(rows[0]["layers"])):
        row = {"block": i}
        for key, name in (("layers", "cosine"), ("within layers", "within")):
            row |= {f"{name} {n}": float(mean_of(rows, key, temperature=1.0, tokens=n)[i]) for n in sizes}
        table.append(row)
    return table


def picture(numbers):
    """What draws saved results."""
    return functools.partial(draw, rows=numbers["rows"])


def draw(axes, rows):
    """Mean cosine against length, a line for each temperature; dashes after subtracting the mean."""
    sizes = sorted({r["tokens"] for r in rows})
    for key, style, added in (("cosine", "o-", ""), ("centred", "s--", ", less the mean of all")):
        for i, t in enumerate(dict.fromkeys(r["temperature"] for r in rows)):
            values = [mean_of(rows, key, temperature=t, tokens=n) for n in sizes]
            axes.plot(sizes, values, style, color=f"C{i}", markersize=4, label=f"temperature {t:g}{added}")
    axes.set(xscale="log", xlabel="tokens of the same passages", ylabel="mean cosine of two passages")
    axes.set_xticks(sizes, [str(n) for n in sizes], minor=False)
    axes.set_title("Do long texts crowd together?")
    axes.grid(alpha=0.3)
    plots.legend(axes)
