"""Slow loops written from the formulas of `vectors.fde` and `search`."""

import itertools
import math

import numpy as np


def cell_bits(plane_matrix, token):
    """Bit j is 1 where the token lies strictly on the positive side of plane j."""
    return [int(float(np.dot(plane_matrix[:, j], token)) > 0) for j in range(plane_matrix.shape[1])]


def fde(planes, projection, tokens, *, mean, fill):
    """Encodes one set, with the tokens of one set as a list of vectors."""
    blocks = []
    for plane_matrix, matrix in zip(planes, projection, strict=True):
        bits = [cell_bits(plane_matrix, t) for t in tokens]
        for reversed_bits in itertools.product([0, 1], repeat=plane_matrix.shape[1]):
            cell = list(reversed_bits)[::-1]  # plane 0 is the lowest bit
            held = [t for t, b in zip(tokens, bits, strict=True) if b == cell]
            if held:
                total = sum(matrix.T @ t for t in held)
                blocks.append(total / len(held) if mean else total)
            elif fill and len(tokens):
                distances = [sum(x != y for x, y in zip(b, cell, strict=True)) for b in bits]
                blocks.append(matrix.T @ tokens[distances.index(min(distances))])
            else:
                blocks.append(np.zeros(matrix.shape[1]))
    return np.concatenate(blocks)


def chamfer(query, document):
    if not len(query):
        return 0.0
    return sum(max((float(np.dot(q, d)) for d in document), default=-math.inf) for q in query)


def top_k(queries, documents, k):
    scores, ids = [], []
    for q in queries:
        values = [float(np.dot(q, d)) for d in documents]
        order = sorted(range(len(values)), key=lambda n: (-values[n], n))[:k]
        ids.append(order)
        scores.append([values[n] for n in order])
    return np.array(scores), np.array(ids)


def fuse(rankings, size, k):
    """Fuses the rankings of one query."""
    total = {}
    for ranking in rankings:
        seen = set()
        for rank, i in enumerate(ranking, start=1):
            if i >= 0 and i not in seen:
                seen.add(i)
                total.setdefault(i, []).append(1 / (k + rank))
    order = sorted(total, key=lambda i: (-math.fsum(total[i]), i))[:size]
    missing = size - len(order)
    return [math.fsum(total[i]) for i in order] + [0.0] * missing, order + [-1] * missing


def ranked_gains(ids, judgments):
    seen, out = set(), []
    for i in ids:
        grade = judgments.get(i, 0) if i >= 0 and i not in seen else 0
        seen.add(i)
        out.append(max(0, grade))
    return out


def ndcg(ids, judgments, k):
    def dcg(values):
        return sum(g / math.log2(r + 1) for r, g in enumerate(values[:k], start=1))

    ideal = sorted((g for g in judgments.values() if g > 0), reverse=True)
    return dcg(ranked_gains(ids, judgments)) / dcg(ideal) if ideal else 0.0


def recall(ids, judgments, k):
    relevant = {i for i, g in judgments.items() if g > 0}
    return len(relevant & set(ids[:k])) / len(relevant) if relevant else 0.0


def mrr(ids, judgments, k):
    for rank, i in enumerate(ids[:k], start=1):
        if judgments.get(i, 0) > 0:
            return 1 / rank
    return 0.0


def average_precision(ids, judgments, k):
    relevant = {i for i, g in judgments.items() if g > 0}
    found, total = set(), 0.0
    for rank, i in enumerate(ids[:k], start=1):
        if i in relevant and i not in found:
            found.add(i)
            total += len(found) / rank
    return total / len(relevant) if relevant else 0.0


def product_code(codebooks, x):
    group = codebooks.shape[2]
    parts = [x[m * group : (m + 1) * group] for m in range(len(codebooks))]
    return [
        min(range(len(book)), key=lambda c, b=book, p=part: (float(np.sum((p - b[c]) ** 2)), c))
        for book, part in zip(codebooks, parts, strict=True)
    ]


def product_score(codebooks, query, code):
    group = codebooks.shape[2]
    return sum(
        float(np.dot(query[m * group : (m + 1) * group], book[c]))
        for m, (book, c) in enumerate(zip(codebooks, code, strict=True))
    )


def lloyd(x, centres, iterations):
    """K-means from given centres; empty ones move to the rows farthest from their own centres."""
    for _ in range(iterations):
        codes = np.array([product_code(centres[None], row)[0] for row in x])
        distances = [float(np.sum((row - centres[c]) ** 2)) for row, c in zip(x, codes, strict=True)]
        farthest = sorted(range(len(x)), key=lambda n: (-distances[n], n))
        new, moved = [], 0
        for c in range(len(centres)):
            if (codes == c).any():
                new.append(x[codes == c].mean(axis=0))
            else:
                new.append(x[farthest[moved]])
                moved += 1
        centres = np.array(new)
    return centres


def interleaved(query, tokens, owners, neighbours, deduplicate):
    """Owners of every query token's nearest tokens: all first neighbours, then all second ones, ..."""
    if not len(query):
        return []
    _, near = top_k(query, tokens, neighbours)
    out = []
    for rank in range(neighbours):
        for t in range(len(query)):
            owner = int(owners[near[t][rank]])
            if not (deduplicate and owner in out):
                out.append(owner)
    return out


def ball_carve(query, threshold):
    """The list of sums of one query's groups."""
    left, sums = list(query), []
    while left:
        first = left[0]
        group = [0] + [i for i, t in enumerate(left) if i and float(np.dot(first, t)) >= threshold]
        sums.append(sum(left[i] for i in group))
        left = [t for i, t in enumerate(left) if i not in group]
    return sums


def implicit_fde(planes, query, document):
    """Mean over the plane matrices of what an unprojected, filled encoding scores."""
    total = 0.0
    for matrix in planes if len(document) else []:
        cells = [cell_bits(matrix, d) for d in document]
        for q in query:
            distances = [sum(x != y for x, y in zip(cell_bits(matrix, q), c, strict=True)) for c in cells]
            products = [float(np.dot(q, d)) for d in document]
            same = [p for p, n in zip(products, distances, strict=True) if n == 0]
            total += sum(same) / len(same) if same else products[distances.index(min(distances))]
    return total / len(planes)
