"""Merging as NumPy loops over flat vectors, written from the papers' formulas."""

import math

import numpy as np


def flat(tree):
    """Every number of a nested dict, in the order of its sorted paths."""
    if isinstance(tree, dict):
        return np.concatenate([flat(tree[name]) for name in sorted(tree)])
    return np.asarray(tree, np.float64).ravel()


def slerp(a, b, t):
    """Spherical interpolation of two vectors, the angle taken of their directions."""
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


def chain(vectors, positions, scales):
    """A chain of slerps, each scaled."""
    v = vectors[0]
    for other, t, scale in zip(vectors[1:], positions, scales, strict=True):
        v = scale * slerp(v, other, t)
    return v


def ties(vectors, density, reduce):
    """TIES: trim, elect a sign, merge what agrees; one coordinate after the other."""
    kept = []
    for v in vectors:
        count = max(1, round(density * len(v)))
        limit = sorted(map(abs, v))[-count]
        kept.append([x if abs(x) >= limit else 0.0 for x in v])
    sums = [sum(column) for column in zip(*kept, strict=True)]
    majority = 1 if sum(np.sign(sums)) >= 0 else -1
    found = []
    for total, column in zip(sums, zip(*kept, strict=True), strict=True):
        sign = np.sign(total) or majority
        agreeing = [x for x in column if x * sign > 0]
        value = sum(agreeing)
        found.append(value / max(1, len(agreeing)) if reduce == "mean" else value)
    return np.array(found)


def fisher(vectors, diagonals, coefficients, normalise):
    """The mean of vectors, weighted for each coordinate."""
    weights = []
    for f, c in zip(diagonals, coefficients, strict=True):
        scale = math.sqrt(np.mean(f**2)) if normalise else 1.0
        weights.append(c * (f / scale + 1e-6))
    return sum(w * v for w, v in zip(weights, vectors, strict=True)) / sum(weights)
