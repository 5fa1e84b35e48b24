"""Slow NumPy loops, written from the formulas, that the tests compare the library with."""

import math

import jax
import numpy as np

# Arrays


def unit(x):
    """Each row of [..., D] divided by its length; a zero row stays."""
    out = np.zeros(np.shape(x))
    for place in np.ndindex(np.shape(x)[:-1]):
        length = math.sqrt(math.fsum(float(v) ** 2 for v in x[place]))
        if length:
            out[place] = np.asarray(x[place], np.float64) / length
    return out


def masked_mean(x, mask):
    """[B, T, D], [B, T] -> [B, D]."""
    out = np.zeros((x.shape[0], x.shape[2]))
    for b in range(len(x)):
        kept = [x[b, t].astype(np.float64) for t in range(x.shape[1]) if mask[b, t]]
        if kept:
            out[b] = sum(kept) / len(kept)
    return out


def inner(x, y):
    """[N, D], [M, D] -> [N, M]."""
    return np.array(
        [[math.fsum(float(a) * float(b) for a, b in zip(u, v, strict=True)) for v in y] for u in x]
    )


# Losses


def softmax_loss(scores, positives=None, where=None, temperature=1.0):
    """Mean over the positives of a row of -log softmax; the softmax over kept pairs."""
    rows, columns = scores.shape
    out = np.zeros(rows)
    for i in range(rows):
        if positives is None:
            own = [i]
        elif np.asarray(positives).dtype == bool:
            own = [j for j in range(columns) if positives[i, j]]
        else:
            own = [int(positives[i])]
        kept = [j for j in range(columns) if where is None or where[i, j] or j in own]
        if not own:
            continue
        logits = {j: float(scores[i, j]) / temperature for j in kept}
        top = max(logits.values())
        normalizer = top + math.log(math.fsum(math.exp(v - top) for v in logits.values()))
        out[i] = math.fsum(normalizer - logits[p] for p in own) / len(own)
    return out


def info_nce(queries, documents, positives=None, where=None, temperature=0.05, blocks=("qd",)):
    """Columns qd, qq, dd, dq; a query never meets itself, a document neither itself nor its row's others."""
    q, d = unit(queries), unit(documents)
    rows = len(q)
    scores, kept = [], []
    for i in range(rows):
        line, keep = [v for v in inner(q[i : i + 1], d)[0]], [True] * len(d)
        for block, mine, others in (("qq", q[i], q), ("dd", d[i], d), ("dq", d[i], q)):
            if block in blocks:
                line += list(inner(mine[None], others)[0])
                keep += [block == "dq" or not same_row(i, j, rows, len(others)) for j in range(len(others))]
        scores.append(line)
        kept.append(keep)
    scores, kept = np.array(scores), np.array(kept)
    if where is not None:
        kept = kept & np.asarray(where)
    if positives is not None and np.asarray(positives).dtype == bool:
        positives = np.concatenate([positives, np.zeros((rows, scores.shape[1] - len(d)), bool)], axis=1)
    return softmax_loss(scores, positives, kept, temperature)


def same_row(i, j, rows, count):
    """Whether document j, of ``count``, stands in row i: hard negatives do where they are given per row."""
    return j == i or (count % rows == 0 and j % rows == i)


def matryoshka(loss, sizes, weights, *vectors, **options):
    """Weighted sum of a loss over prefixes."""
    total = 0
    for size, weight in zip(sizes, weights, strict=True):
        total = total + weight * loss(*(v[..., :size] for v in vectors), **options)
    return total


def duplicate_mask(keys, other=None):
    """[B, N], False where two different places hold one key."""
    other = keys if other is None else other
    return np.array([[i == j or keys[i] != other[j] for j in range(len(other))] for i in range(len(keys))])


# Encoders


def dot_product_attention(queries, keys, values, mask=None):
    """[B, T, H, d], [B, S, H, d] -> [B, T, H, d]; the mask is [B, S] or [B, T, S]."""
    out = np.zeros(queries.shape, np.float64)
    for b, t, h in np.ndindex(queries.shape[:3]):
        kept = []
        for s in range(keys.shape[1]):
            if mask is None or (mask[b, s] if mask.ndim == 2 else mask[b, t, s]):
                kept.append(s)
        scores = [float(queries[b, t, h] @ keys[b, s, h]) / math.sqrt(queries.shape[-1]) for s in kept]
        powers = [math.exp(v - max(scores)) for v in scores]
        for power, s in zip(powers, kept, strict=True):
            out[b, t, h] += power / sum(powers) * values[b, s, h]
    return out


def layer_norm(x, params):
    """Over the last axis, epsilon 1e-6."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * params["scale"] + params["bias"]


def gelu(x):
    """The tanh form of D. Hendrycks and K. Gimpel, arXiv:1606.08415."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def block(params, x, mask, heads):
    """One pre-norm transformer block in float64."""

    def dense(y, layer):
        return y @ layer["kernel"] + layer["bias"]

    split = (*x.shape[:2], heads, x.shape[-1] // heads)
    y = layer_norm(x, params["attention_norm"])
    attention = params["attention"]
    q, k, v = (dense(y, attention[name]).reshape(split) for name in ("query", "key", "value"))
    x = x + dense(dot_product_attention(q, k, v, mask).reshape(x.shape), attention["out"])
    y = layer_norm(x, params["mlp_norm"])
    return x + dense(gelu(dense(y, params["mlp_in"])), params["mlp_out"])


def hidden(params, tokens, mask, heads):
    """Layers [B, L+1, D] (means of the normed states) and tokens [B, T, D] of a transformer, float64."""
    x = np.where(mask[..., None], tokens, 0).astype(np.float64)
    if "position" in params:
        x = x + params["position"]["embedding"][: x.shape[1]]
    layers = [masked_mean(layer_norm(x, params["norm"]), mask)]
    for n in range(len(params["blocks"]["mlp_in"]["bias"])):
        x = block(_row(params["blocks"], n), x, mask, heads)
        layers.append(masked_mean(layer_norm(x, params["norm"]), mask))
    return np.where(mask[..., None], layer_norm(x, params["norm"]), 0), np.stack(layers, axis=1)


def _row(tree, n):
    return {k: _row(v, n) if isinstance(v, dict) else np.asarray(v[n], np.float64) for k, v in tree.items()}


def cls_pool(tokens, mask):
    return np.array([row[0] if keep[0] else 0 * row[0] for row, keep in zip(tokens, mask, strict=True)])


def last_pool(tokens, mask):
    out = np.zeros((len(tokens), tokens.shape[-1]))
    for b in range(len(tokens)):
        for t in range(tokens.shape[1]):
            if mask[b, t]:
                out[b] = tokens[b, t]
    return out


def attention_pool(query, tokens, mask):
    """Query [H, D]; each head averages the real tokens, then the heads are averaged."""
    out = np.zeros((len(tokens), tokens.shape[-1]))
    for b in range(len(tokens)):
        kept = [t for t in range(tokens.shape[1]) if mask[b, t]]
        for head in query:
            powers = [math.exp(float(head @ tokens[b, t])) for t in kept]
            for power, t in zip(powers, kept, strict=True):
                out[b] += power / sum(powers) / len(query) * tokens[b, t]
    return out


def latent_attention_pool(params, tokens, mask, heads):
    """Token by token: attention to latents, gated network, then the mean over the mask."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def norm(x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return centred / spread * p[name]["scale"] + p[name]["bias"]

    keys, values = np.split(
        norm(p["latents"]["embedding"], "latent_norm") @ p["key_value"]["kernel"], 2, axis=1
    )
    out = np.zeros(tokens.shape)
    for b, t in np.argwhere(mask):
        x, mixed = tokens[b, t].astype(np.float64), []
        query = norm(x, "query_norm") @ p["query"]["kernel"]
        for q, k, v in zip(*(np.split(y, heads, axis=-1) for y in (query, keys, values)), strict=True):
            powers = np.exp(k @ q / math.sqrt(len(q)))
            mixed.append(powers @ v / powers.sum())
        x = x + np.concatenate(mixed) @ p["out"]["kernel"]
        value, gate = np.split(norm(x, "mlp_norm") @ p["mlp_in"]["kernel"] + p["mlp_in"]["bias"], 2)
        erf = np.array([math.erf(g / math.sqrt(2)) for g in gate])
        out[b, t] = x + (value * gate * (1 + erf) / 2) @ p["mlp_out"]["kernel"] + p["mlp_out"]["bias"]
    return masked_mean(out, mask)


def multi_vector(tokens, mask, kernel=None):
    kept = np.where(mask[..., None], tokens, 0)
    return unit(kept if kernel is None else kept @ kernel)


def weighted_bag(words, positions, weights):
    out = np.zeros((len(positions), words.shape[1]))
    for b, t in np.ndindex(positions.shape):
        if weights[b, t]:
            out[b] += weights[b, t] * words[positions[b, t]]
    return out


# Calculus


def numerical_gradient(f, x, step=1e-5):
    """Central differences of a scalar function at a float64 array."""
    out = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        out[place] = (float(f(up)) - float(f(down))) / (2 * step)
    return out
