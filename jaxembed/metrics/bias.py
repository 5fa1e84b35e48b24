"""How far words lean to one side: of a subspace, of a pair of words, of two sets of attributes."""

import itertools
import math

import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, exact_product, host, on_device, unit
from jaxembed.checks import refuse_nan


def direct_bias(vectors, basis, *, strictness=1.0):
    """Direct bias: how much of neutral words lies inside a bias subspace.

    ``mean over w of |cos(w, g)|**c``; with several directions the cosine is that with the subspace, the
    length of the unit vector's part inside it.

    >>> print(direct_bias(jnp.array([[3.0, 4.0], [0.0, 2.0]]), jnp.array([[1.0, 0.0]])).round(3))
    0.3

    Args:
        vectors: [N, D], normalised inside.
        basis: [r, D], orthonormal, of ``vectors.bias_subspace``.
        strictness: c, at least 0; 0 asks for none at all. May be traced.

    Returns:
        A scalar in 0..1, in at least float32. Neutralised words have 0 by construction.

    Raises:
        ValueError: for shapes that do not fit, NaN, or no vectors.

    References:
        T. Bolukbasi et al., arXiv:1607.06520.
    """
    vectors, basis = on_device("vectors", vectors), on_device("basis", basis)
    check_shape("vectors", vectors, (None, None))
    check_shape("basis", basis, (None, vectors.shape[1]))
    if not len(vectors):
        raise ValueError("vectors: none is given; pass at least one word")
    refuse_nan("vectors", vectors)
    refuse_nan("basis", basis)
    along = exact_product(unit(vectors.astype(accumulator(vectors))), basis.T)
    squared = jnp.sum(along**2, axis=1)
    lengths = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), squared)  # NaN stays
    return jnp.mean(jnp.minimum(lengths, 1) ** strictness)


def indirect_bias(first, second, basis):
    """Indirect bias: which share of the similarity of two words comes from a bias subspace.

    ``(<w, v> - cos(w_left, v_left)) / <w, v>`` with unit w and v, and their parts outside the subspace.

    >>> w, v = jnp.array([[0.6, 0.8, 0.0]]), jnp.array([[0.6, 0.0, 0.8]])
    >>> print(indirect_bias(w, v, jnp.array([[1.0, 0.0, 0.0]])))
    [1.]

    Args:
        first: [B, D], normalised inside.
        second: [B, D], row i is compared with row i of first.
        basis: [r, D], orthonormal.

    Returns:
        [B] in at least float32; 0 for a word with itself, 1 where all similarity goes with the subspace. It
        is large where ``<w, v>`` is near 0, and 0 where that is exactly 0.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        T. Bolukbasi et al., arXiv:1607.06520.
    """
    first, second, basis = (on_device(*x) for x in (("first", first), ("second", second), ("basis", basis)))
    check_shape("first", first, (None, None))
    check_shape("second", second, first.shape)
    check_shape("basis", basis, (None, first.shape[1]))
    w, v = (unit(x.astype(accumulator(x))) for x in (first, second))
    left = [unit(x - exact_product(exact_product(x, basis.T), basis)) for x in (w, v)]
    whole, rest = jnp.sum(w * v, axis=1), jnp.sum(left[0] * left[1], axis=1)
    return jnp.where(whole != 0, (whole - rest) / jnp.where(whole != 0, whole, 1), 0)


def pair_bias(vectors, pairs):
    """Pair bias: how much nearer neutral words are to one word of a pair than to the other.

    ``mean over w and pairs (a, b) of |cos(w, a) - cos(w, b)|``.

    >>> pairs = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> print(pair_bias(jnp.array([[2.0, 0.0], [1.0, 1.0]]), pairs))
    0.5

    Args:
        vectors: [N, D], normalised inside.
        pairs: [n, 2, D], normalised inside.

    Returns:
        A scalar in at least float32; 0 after ``vectors.hard_debias`` of these words with these pairs.

    Raises:
        ValueError: for shapes that do not fit, no vectors or no pairs.

    References:
        T. Bolukbasi et al., arXiv:1607.06520, whose equalising makes it 0.
    """
    vectors, pairs = on_device("vectors", vectors), on_device("pairs", pairs)
    check_shape("vectors", vectors, (None, None))
    check_shape("pairs", pairs, (None, 2, vectors.shape[1]))
    if not (len(vectors) and len(pairs)):
        raise ValueError("vectors, pairs: one of them is empty; pass at least one word and one pair")
    vectors, pairs = (unit(x.astype(accumulator(x))) for x in (vectors, pairs))
    cosines = jnp.einsum("nd,msd->nms", vectors, pairs, precision="highest")
    return jnp.mean(jnp.abs(cosines[..., 0] - cosines[..., 1]))


def weat(first, second, *, attributes, others, permutations=10_000, seed=0):
    """WEAT: are two sets of words associated with two sets of attributes in different ways?

    With ``s(w) = mean over a of cos(w, a) - mean over b of cos(w, b)``, the effect is ``(mean over X of s -
    mean over Y of s) / deviation of s over both`` and the statistic ``sum over X of s - sum over Y of s``.
    p is the share of the ways to split X and Y anew into sets of the same sizes whose statistic is larger.

    >>> x, y = np.array([[1.0, 0.1], [1.0, 0.3]]), np.array([[0.1, 1.0], [0.3, 1.0]])
    >>> found = weat(x, y, attributes=np.eye(2)[:1], others=np.eye(2)[1:])
    >>> print({name: round(value, 3) for name, value in found.items()})
    {'effect': 1.714, 'statistic': 3.132, 'p': 0.0, 'splits': 6}

    Args:
        first: X, [n, D], for example flowers.
        second: Y, [m, D], for example insects.
        attributes: [a, D], for example pleasant words.
        others: [b, D], for example unpleasant ones.
        permutations: where there are no more splits than this, all are tried; else so many are drawn, and p
            is ``(larger + 1) / (permutations + 1)``.
        seed: of the draws.

    Returns:
        Dict of ``effect``, within -2..2 for sets of one size; ``statistic``; ``p``; and ``splits``, how
        many were looked at. The effect is 0 where s does not vary.

    Raises:
        ValueError: for an empty set, widths that differ, or numbers that are not finite.

    References:
        A. Caliskan, J. Bryson and A. Narayanan, arXiv:1608.07187. Public code takes the deviation with the
        number of words or with one less; here it is one less.
    """
    sides = {"first": first, "second": second, "attributes": attributes, "others": others}
    for name, x in sides.items():
        sides[name] = host(name, x).astype(np.float64)
        check_shape(name, sides[name], (None, sides["first"].shape[-1]))
        if not len(sides[name]):
            raise ValueError(f"{name}: is empty; pass at least one word")
        if not np.isfinite(sides[name]).all():
            raise ValueError(f"{name}: holds NaN or infinite numbers; leave those words out")
    x, y, a, b = (np.asarray(unit(v), np.float64) for v in sides.values())
    words = np.concatenate([x, y])
    lean = (words @ a.T).mean(axis=1) - (words @ b.T).mean(axis=1)
    deviation = lean.std(ddof=1)
    apart = lean[: len(x)].mean() - lean[len(x) :].mean()
    statistic = lean[: len(x)].sum() - lean[len(x) :].sum()
    p, splits = _permuted(lean, len(x), permutations, seed)
    effect = apart / deviation if deviation > 0 else 0.0
    return {"effect": float(effect), "statistic": float(statistic), "p": p, "splits": splits}


def _permuted(lean, size, permutations, seed):
    """The share of splits whose first part sums to more than the given one; how many were looked at."""
    least = lean[:size].sum() + 1e-9 * np.abs(lean).sum()  # an equal sum in another order is not more
    splits = math.comb(len(lean), size)
    if splits <= permutations:
        chosen = np.fromiter(
            itertools.chain.from_iterable(itertools.combinations(range(len(lean)), size)), np.int64
        )
        larger = (lean[chosen.reshape(-1, size)].sum(axis=1) > least).sum()
        return float(larger / splits), splits
    rng = np.random.default_rng(seed)
    drawn = rng.permuted(np.tile(lean, (permutations, 1)), axis=1)[:, :size].sum(axis=1)
    return float(((drawn > least).sum() + 1) / (permutations + 1)), permutations


def analogy_pairs(vectors, direction, *, delta=1.0, most=500, least=1e-3, block=1024):
    """Generated analogies: pairs (x, y) of a table that are to one another as she is to he.

    ``cos(direction, x - y)`` of unit vectors x and y where ``|x - y| <= delta``, largest first. Each word
    comes once at most on either side: later pairs with it are skipped.

    >>> vectors = np.array([[0.6, 0.8, 0.0], [-0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    >>> firsts, seconds, scores = analogy_pairs(vectors, np.array([1.0, 0.0, 0.0]), delta=1.3)
    >>> print(firsts, seconds, scores.round(3))
    [0] [1] [1.]

    Args:
        vectors: [V, D], normalised inside. Memory is block * V, and what is kept of it.
        direction: [D], such as she - he.
        delta: most distance of a pair; 1 is an angle of 60 degrees.
        most: pairs that are returned at most.
        least: score below which none is.
        block: rows that are compared at a time.

    Returns:
        ``firsts`` and ``seconds``, int [n] rows of the table, and ``scores`` float32 [n], falling.

    Raises:
        ValueError: for shapes that do not fit, a direction of length 0 or numbers that are not finite.

    References:
        T. Bolukbasi et al., arXiv:1607.06520.
    """
    vectors, direction = host("vectors", vectors), host("direction", direction)
    check_shape("vectors", vectors, (None, None))
    check_shape("direction", direction, vectors.shape[1:])
    if not (np.isfinite(vectors).all() and np.isfinite(direction).all()):
        raise ValueError("vectors: hold NaN or infinite numbers; leave those words out")
    if not direction.any():
        raise ValueError("direction: is zero; pass the difference of two words")
    rows = np.asarray(unit(vectors.astype(np.float32)))
    along = rows @ np.asarray(unit(direction.astype(np.float32)))
    found = [_near_pairs(rows, along, start, block, delta, least) for start in range(0, len(rows), block)]
    firsts, seconds, scores = (np.concatenate(x) for x in zip(*found, strict=True)) if found else ([],) * 3
    kept, left, right = [], set(), set()
    for i in np.argsort(-np.asarray(scores), kind="stable"):
        if len(kept) == most:
            break
        if firsts[i] not in left and seconds[i] not in right:
            kept.append(i)
            left.add(firsts[i])
            right.add(seconds[i])
    kept = np.array(kept, np.int64)
    return tuple(np.asarray(x)[kept] for x in (firsts, seconds, np.asarray(scores, np.float32)))


def _near_pairs(rows, along, start, block, delta, least):
    """Pairs whose first is among the rows of a block: places, places and scores."""
    inner = rows[start : start + block] @ rows.T
    first, second = np.nonzero(inner >= 1 - delta**2 / 2)
    first, inner = first + start, inner[first, second]
    apart = np.sqrt(np.maximum(2 - 2 * inner, 0))
    kept = (first != second) & (apart > 1e-4)
    first, second, apart = first[kept], second[kept], apart[kept]
    scores = (along[first] - along[second]) / apart
    kept = scores >= least
    return first[kept], second[kept], scores[kept]
