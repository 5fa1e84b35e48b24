"""Slow NumPy loops for losses, written from the formulas, that the tests compare the library with."""

import math

import numpy as np
from oracles import inner, same_row, unit


def cosine(x, y):
    size = math.sqrt(sum(v * v for v in x)) * math.sqrt(sum(v * v for v in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / size if size else 0.0


def angle(x, y):
    """Absolute sum of the real and imaginary parts of x conj(y), over both lengths."""
    odd = [0.0] * (len(x) % 2)
    half = (len(x) + 1) // 2
    x, y = [*x, *odd], [*y, *odd]
    z, w = (np.array([complex(v[i], v[half + i]) for i in range(half)]) for v in (x, y))
    size = np.linalg.norm(z) * np.linalg.norm(w)
    product = z * w.conj()
    return abs(float(np.sum(product.real) + np.sum(product.imag))) / size if size else 0.0


def ranking_loss(scores, targets, where=None, temperature=0.05):
    total = 1.0
    for i, j in np.ndindex(len(scores), len(scores)):
        if targets[i] < targets[j] and (where is None or (where[i] and where[j])):
            total += math.exp((float(scores[i]) - float(scores[j])) / temperature)
    return math.log(total)


def sigmoid_loss(q, d, positives=None, where=None, temperature=0.1, bias=-10.0):
    scores, out = inner(unit(q), unit(d)), np.zeros(len(q))
    for i, j in np.ndindex(*scores.shape):
        positive = j == (i if positives is None else positives[i])
        if positives is not None and np.asarray(positives).dtype == bool:
            positive = positives[i, j]
        if positive or where is None or where[i, j]:
            logit = float(scores[i, j]) / temperature + bias
            out[i] += math.log1p(math.exp(-logit if positive else logit))
    return out


def guided_mask(q, d, margin=0.0, kind="absolute", blocks=("qd",)):
    out = []
    for i in range(len(q)):
        own = cosine(q[i], d[i])
        limit = own - margin * (1 if kind == "absolute" else abs(own))
        row = [j == i or cosine(q[i], d[j]) <= limit for j in range(len(d))]
        for block, mine, x in (("qq", q[i], q), ("dd", d[i], d), ("dq", d[i], q)):
            if block in blocks:
                kept = [block == "dq" or not same_row(i, j, len(q), len(x)) for j in range(len(x))]
                near = [cosine(mine, y) <= limit or (block == "dq" and j == i) for j, y in enumerate(x)]
                row += [keep and low for keep, low in zip(kept, near, strict=True)]
        out.append(row)
    return np.array(out)


def softmax(x):
    powers = [math.exp(v - max(x)) for v in x]
    return [p / sum(powers) for p in powers]


def kl(student, teacher, where=None, temperature=1.0):
    out = []
    for i in range(len(student)):
        kept = [j for j in range(len(student[i])) if where is None or where[i][j]]
        q, p = (
            softmax([float(x[i][j]) / temperature for j in kept]) if kept else [] for x in (student, teacher)
        )
        out.append(sum(b * math.log(b / a) for a, b in zip(q, p, strict=True)))
    return np.array(out)


def margin_mse(q, d, negatives, teacher, where=None):
    out = np.zeros(len(q))
    for i in range(len(q)):
        kept = [k for k in range(negatives.shape[1]) if where is None or where[i, k]]
        for k in kept:
            gap = float(q[i] @ d[i] - q[i] @ negatives[i, k]) - float(teacher[i, 0] - teacher[i, 1 + k])
            out[i] += gap**2 / len(kept)
    return out


def frozen_softmax(vectors, table, positives, bias=None, where=None, temperature=1.0):
    out = np.zeros(len(vectors))
    for i in range(len(vectors)):
        scores = [
            (float(vectors[i] @ row) + (0 if bias is None else float(bias[n]))) / temperature
            for n, row in enumerate(table)
            if where is None or where[i, n] or n == positives[i]
        ]
        kept = [n for n in range(len(table)) if where is None or where[i, n] or n == positives[i]]
        out[i] = -math.log(softmax(scores)[kept.index(positives[i])])
    return out


def compression_target(vectors, size):
    """The definition, with the sign of each column by its largest entry."""
    x = vectors.astype(np.float64)
    together = np.array([softmax(row) for row in x.T @ x / math.sqrt(x.shape[1])])
    left, values, _ = np.linalg.svd(together)
    for k in range(size):
        if left[np.argmax(np.abs(left[:, k])), k] < 0:
            left[:, k] *= -1
    return x @ (left[:, :size] * values[:size])


def over_layers(loss, grid, weights, *vectors, **options):
    total = 0
    for (n, size), weight in zip(grid, weights, strict=True):
        total = total + weight * loss(*(v[:, n, :size] for v in vectors), **options)
    return total


def lift(params, x):
    """Dense layer on a prefix, exact GELU, layer norm."""
    y = x @ params["dense"]["kernel"][: x.shape[-1]] + params["dense"]["bias"]
    y = y * np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(y)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-12)
    return y * params["norm"]["scale"] + params["norm"]["bias"]


def masked_words_loss(params, states, table, words, where, most=None):
    out = np.zeros(len(states))
    for b in range(len(states)):
        places = [t for t in range(states.shape[1]) if where[b, t]][:most]
        for t in places:
            scores = lift(params, states[b, t][None])[0] @ table.T + params["bias"]
            out[b] -= math.log(softmax(scores)[words[b, t]]) / len(places)
    return out


def layer_objective(loss, grid, weights, pull, pulled, pulled_weights, *layers):
    """Means over the batch, pair by pair; ``pull(vectors, last) -> [B]`` of one array."""
    total = 0.0
    for (n, size), weight in zip(grid, weights, strict=True):
        total += float(weight) * float(np.mean(loss(*(x[:, n, :size] for x in layers))))
    for (n, size), weight in zip(pulled, pulled_weights, strict=True):
        each = [float(np.mean(pull(x[:, n, :size], x[:, -1]))) for x in layers]
        total += float(weight) * sum(each) / len(each)
    return total


def label_pairs(labels):
    places = range(len(labels))
    return np.array([[i != j and labels[i] == labels[j] for j in places] for i in places])


def vector_distance(x, teacher, where, kind, normalise):
    """Sum over coordinates for each row, of rows at length 1 or as they are."""
    out = np.zeros(len(x))
    for i in np.flatnonzero(where):
        pair = (x[i : i + 1], teacher[i : i + 1])
        u, t = (unit(v)[0] if normalise or kind == "cosine" else v[0].astype(float) for v in pair)
        terms = {"l1": np.abs(u - t), "l2": (u - t) ** 2, "cosine": 1 / len(u) - u * t}[kind]
        out[i] = math.fsum(terms)
    return out


def class_loss(logits, labels, classes, masked):
    """-log softmax of the own class, over the classes that are not masked, or with 0 for those that are."""
    out = np.zeros(len(logits))
    for i, label in enumerate(labels):
        terms = []
        for c, z in enumerate(logits[i]):
            if classes[c] or masked == "zero":
                terms.append(math.exp(float(z) if classes[c] else 0.0))
        out[i] = math.log(math.fsum(terms)) - float(logits[i][label])
    return out
