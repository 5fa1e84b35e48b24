"""Slow loops from the formulas of `encoders.interactions`, `encoders.field_models` and `metrics.binary`."""

import math

import numpy as np

# Interactions; parameters are those of one layer or one model, as float64 arrays


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


def mlp(params, x, final=False):
    out = []
    for row in x:
        for i in range(len(params)):
            layer = params[f"layer_{i}"]
            row = np.array(
                [row @ column + b for column, b in zip(layer["kernel"].T, layer["bias"], strict=True)]
            )
            row = relu(row) if final or i + 1 < len(params) else row
        out.append(row)
    return np.array(out)


def fm_second_order(vectors):
    return np.array([sum(np.dot(v[i], v[j]) for j in range(len(v)) for i in range(j)) for v in vectors])


def dot_interaction(vectors, self_interaction=False):
    return np.array(
        [[np.dot(v[i], v[j]) for i in range(len(v)) for j in range(i + self_interaction)] for v in vectors]
    )


def cross_network(params, x0, activation=lambda x: x, expert_activation=np.tanh, diagonal=0.0):
    return np.array([cross_one(params, row, activation, expert_activation, diagonal) for row in x0])


def cross_one(params, x0, g, h, s):
    x = x0
    for n, b in enumerate(params["bias"]):
        if "weight" in params:
            x = x0 * (g(np.dot(params["weight"][n], x)) + s * x) + b + x
            continue
        if "kernel" in params:
            product = params["kernel"][n].T @ x
        elif "core" in params:
            share = softmax(params["gates"]["kernel"].T @ x)
            product = 0
            for k, p in enumerate(share):
                v, c, u = params["down"][n, k], params["core"][n, k].T, params["up"][n, k].T
                product = product + p * (u @ h(c @ h(v.T @ x)))
        else:
            product = params["up"][n].T @ params["down"][n].T @ x
        x = x0 * (g(product + b) + s * x) + x
    return x


def head(params, x):
    return x @ params["kernel"][:, 0] + params["bias"][0]


def concat(vectors, dense):
    flat = vectors.reshape(len(vectors), -1)
    return flat if dense is None else np.concatenate([flat, dense], axis=1)


def deepfm(params, vectors, dense, linear):
    deep = head(params["head"], mlp(params["mlp"], concat(vectors, dense), final=True))
    first = params["fm"]["bias"][0] + linear.sum(axis=1)
    if dense is not None:
        first = first + dense @ params["fm"]["kernel"][:, 0]
    return first + fm_second_order(vectors) + deep


def dlrm(params, vectors, dense):
    if dense is None:
        return head(params["head"], mlp(params["top"], dot_interaction(vectors), final=True))
    bottom = mlp(params["bottom"], dense, final=True)
    nodes = np.stack([bottom, *np.moveaxis(vectors, 1, 0)], axis=1)
    top = mlp(params["top"], np.concatenate([bottom, dot_interaction(nodes)], axis=1), final=True)
    return head(params["head"], top)


def dcn(params, vectors, dense, parallel):
    x0 = concat(vectors, dense)
    crossed = cross_network(params["cross"], x0)
    deep = mlp(params["mlp"], x0 if parallel else crossed, final=True)
    return head(params["head"], np.concatenate([crossed, deep], axis=1) if parallel else deep)


# Metrics of clicks


def auc(labels, scores, weights=None):
    weights = np.ones(len(labels)) if weights is None else weights
    won = total = 0.0
    for i in range(len(labels)):
        for j in range(len(labels)):
            if labels[i] == 1 and labels[j] == 0:
                pair = weights[i] * weights[j]
                total += pair
                won += pair * ((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2)
    return won / total if total else math.nan


def grouped_auc(labels, scores, groups):
    won = total = 0.0
    for group in sorted(set(groups)):
        inside = [i for i in range(len(labels)) if groups[i] == group]
        value = auc([labels[i] for i in inside], [scores[i] for i in inside])
        if not math.isnan(value):
            won, total = won + len(inside) * value, total + len(inside)
    return won / total if total else math.nan


def log_loss(labels, p, weights=None, clip=1e-7):
    weights = [1] * len(labels) if weights is None else weights
    each = [
        -w * math.log(min(max(float(x) if y else 1 - float(x), clip), 1 - clip))
        for y, x, w in zip(labels, p, weights, strict=True)
    ]
    return math.fsum(each) / math.fsum(weights)


def entropy(rate):
    return -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)


def expected_calibration_error(labels, p, bins, weights=None):
    weights = [1] * len(labels) if weights is None else weights
    gaps = [0.0] * bins
    for y, x, w in zip(labels, p, weights, strict=True):
        gaps[min(int(x * bins), bins - 1)] += w * (x - y)
    return sum(map(abs, gaps)) / math.fsum(weights)
