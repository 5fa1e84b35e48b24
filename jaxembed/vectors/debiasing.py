"""Hard and soft debiasing of a table of word vectors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, host, on_device, unit
from jaxembed.vectors.subspace import equalise, neutralise


def hard_debias(vectors, basis, *, neutral, sets=None, mask=None):
    """Hard debiasing: neutralises the neutral words of a table, then equalises sets of words.

    Every row gets length 1; neutral rows lose the subspace (:func:`neutralise`); then the rows of each set
    are equalised (:func:`equalise`). Afterwards a neutral word is equally near to all words of a set, so
    the pair bias of neutral words is 0. Sets that share a word would undo each other: they are refused.

    >>> vectors = jnp.array([[0.6, 0.0, 0.8], [-0.28, 0.0, 0.96], [0.6, 0.8, 0.0]])
    >>> found = hard_debias(
    ...     vectors, jnp.array([[1.0, 0.0, 0.0]]), neutral=np.array([False, False, True]), sets=[[0, 1]]
    ... )
    >>> print(found.astype("float16"))
    [[ 0.4749  0.      0.88  ]
     [-0.4749  0.      0.88  ]
     [ 0.      1.      0.    ]]

    Args:
        vectors: [V, D].
        basis: [r, D] of :func:`bias_subspace`.
        neutral: bool [V], True for the words that should not lean to a side.
        sets: optional int [n, s], rows of the words to equalise, which may be neutral or not.
        mask: optional bool [n, s]. False leaves a word out; its row number is not read.

    Returns:
        [V, D] in at least float32, rows of length 1.

    Raises:
        ValueError: for shapes that do not fit, a basis of the whole space, rows outside the table, a word
            in two sets or numbers that are not finite.

    References:
        T. Bolukbasi et al., arXiv:1607.06520. Its code goes through sets one by one, also through sets that
        share a word, where the result depends on the order.
    """
    vectors = on_device("vectors", vectors)
    check_shape("vectors", vectors, (None, None))
    if not isinstance(vectors, jax.core.Tracer) and not bool(jnp.all(jnp.isfinite(vectors))):
        raise ValueError("vectors: hold NaN or infinite numbers; leave those rows out")
    even = neutralise(vectors, basis, where=on_device("neutral", neutral))
    if sets is None or not len(sets):
        return even
    sets = host("sets", sets)
    check_shape("sets", sets, (None, None))
    mask = np.ones(sets.shape, bool) if mask is None else host("mask", mask).astype(bool)
    check_shape("mask", mask, sets.shape)
    used = sets[mask]
    if used.size and not (used.min() >= 0 and used.max() < len(vectors)):
        raise ValueError(
            f"sets: rows {used.min()} to {used.max()} of a table of {len(vectors)}; number from 0"
        )
    if len(np.unique(used)) < len(used):
        raise ValueError("sets: a word is in two sets, which would undo each other; keep it in one")
    places = jnp.asarray(np.where(mask, sets, len(vectors)))
    padded = jnp.concatenate([even, jnp.zeros((1, even.shape[1]), even.dtype)])
    made = unit(equalise(padded[places], basis, mask=jnp.asarray(mask)))
    return even.at[places.reshape(-1)].set(made.reshape(-1, even.shape[1]), mode="drop")


class SoftDebias(NamedTuple):
    """What :func:`soft_debias` learned.

    Attributes:
        kernel: float32 [D, D], symmetric; ``unit(unit(vectors) @ kernel)`` are the debiased vectors.
        objective: float, the value reached.
        steps: int, of conjugate gradients and of the projected gradient after them.
    """

    kernel: np.ndarray
    objective: float
    steps: int


def soft_debias(vectors, basis, *, neutral, weight=0.2, reduction="mean", steps=500):
    """Soft debiasing: learns a linear map that shrinks a bias but keeps inner products.

    With unit rows W [V, D], neutral rows N [n, D] and the basis B [r, D], it finds the positive semidefinite
    ``X = T'T`` that minimises ``|W (X - I) W'|_F**2 + weight |N X B'|_F**2``, each a sum of squared entries
    or, with "mean", their mean. The V x V matrix is never formed. The problem is a convex quadratic in X:
    conjugate gradients solve it without the cone, and where X leaves the cone projected gradient steps go on.

    >>> vectors = np.random.default_rng(0).normal(size=(200, 3))
    >>> found = soft_debias(vectors, np.eye(3)[:1], neutral=np.ones(200, bool), weight=1e6)
    >>> print(abs(found.kernel).round(2)[0, 0] < 0.1, found.kernel.round(1)[1, 1])
    True 1.0

    Args:
        vectors: [V, D], normalised inside.
        basis: [r, D] of :func:`bias_subspace`.
        neutral: bool [V].
        weight: of the bias, at least 0; 0 leaves the vectors as they are.
        reduction: "mean" or "sum". The paper writes sums; with 26,423 words its weight of 0.2 then changes
            almost nothing, because the first sum has V**2 entries and the second n r.
        steps: most steps of each solver.

    Returns:
        :class:`SoftDebias`.

    Raises:
        ValueError: for shapes that do not fit, no neutral word, a negative weight, an unknown reduction or
            numbers that are not finite.

    References:
        T. Bolukbasi et al., arXiv:1607.06520, which takes a solver of semidefinite programs.
    """
    moments, bias, scales = _moments(vectors, basis, neutral, weight, reduction)
    outer = np.asarray(basis, np.float64).T @ np.asarray(basis, np.float64)
    change, used = _conjugate(moments, bias, outer, scales, steps)
    values, directions = np.linalg.eigh(np.eye(len(moments)) + change)
    if values[0] < 0:
        change, more = _projected(change, moments, bias, outer, scales, steps)
        values, directions = np.linalg.eigh(np.eye(len(moments)) + change)
        used += more
    kernel = (directions * np.sqrt(np.maximum(values, 0))) @ directions.T
    return SoftDebias(kernel.astype(np.float32), _value(change, moments, bias, outer, scales), used)


def _moments(vectors, basis, neutral, weight, reduction):
    """``W'W`` and ``N'N`` in float64, and what the two terms are multiplied by."""
    vectors, basis, neutral = host("vectors", vectors), host("basis", basis), host("neutral", neutral)
    check_shape("vectors", vectors, (None, None))
    check_shape("basis", basis, (None, vectors.shape[1]))
    check_shape("neutral", neutral, vectors.shape[:1])
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction={reduction!r}; pass "mean" or "sum"')
    if not weight >= 0:
        raise ValueError(f"weight: {weight} is below 0; pass a number from 0 on")
    if not neutral.any():
        raise ValueError("neutral: no word is neutral; mark at least one")
    if not (np.isfinite(vectors).all() and np.isfinite(basis).all()):
        raise ValueError("vectors: hold NaN or infinite numbers; leave those rows out")
    rows = np.asarray(unit(jnp.asarray(vectors, accumulator(vectors))), np.float64)
    if not rows.any():
        raise ValueError("vectors: are all zero; pass vectors that differ")
    some = rows[neutral.astype(bool)]
    scales = 1.0, float(weight)
    if reduction == "mean":
        scales = 1 / len(rows) ** 2, weight / (len(some) * len(basis))
    return rows.T @ rows, some.T @ some, scales


def _value(change, moments, bias, outer, scales):
    """The objective at ``X = I + change``."""
    kept = np.sum((moments @ change) * (change @ moments))
    x = np.eye(len(change)) + change
    return float(scales[0] * kept + scales[1] * np.sum((x @ bias @ x) * outer))


def _slope(change, moments, bias, outer, scales):
    """Half of the objective's gradient, symmetric."""
    x = np.eye(len(change)) + change
    lean = bias @ x @ outer
    return scales[0] * moments @ change @ moments + scales[1] * (lean + lean.T) / 2


def _conjugate(moments, bias, outer, scales, steps):
    """Conjugate gradients for the change without the cone, in coordinates where W is white."""
    values, directions = np.linalg.eigh(moments)
    values = np.maximum(values, 1e-10 * values[-1])
    white = (directions / np.sqrt(values * np.sqrt(scales[0]))) @ directions.T

    def apply(z):
        y = white @ z @ white
        lean = bias @ y @ outer
        return z + scales[1] * white @ (lean + lean.T) @ white / 2

    constant = bias @ outer
    residual = -scales[1] * white @ (constant + constant.T) @ white / 2
    z, direction, size = np.zeros_like(moments), residual, np.sum(residual**2)
    start = size
    for step in range(steps):
        if size <= 1e-22 * start or not start:
            return white @ z @ white, step
        moved = apply(direction)
        rate = size / np.sum(direction * moved)
        z, residual = z + rate * direction, residual - rate * moved
        size, old = np.sum(residual**2), size
        direction = residual + size / old * direction
    return white @ z @ white, steps


def _projected(change, moments, bias, outer, scales, steps):
    """Projected gradient steps inside the cone, each as long as lowers the objective."""
    identity = np.eye(len(change))
    given = moments, bias, outer, scales

    def inside(x):
        values, directions = np.linalg.eigh((x + x.T) / 2)
        return (directions * np.maximum(values, 0)) @ directions.T - identity

    change = inside(identity + change)
    value = _value(change, *given)
    rate = 1 / (scales[0] * np.linalg.eigvalsh(moments)[-1] ** 2 + scales[1] * np.linalg.eigvalsh(bias)[-1])
    for step in range(steps):
        moved = inside(identity + change - rate * _slope(change, *given))
        new = _value(moved, *given)
        if not new < value * (1 - 1e-9):
            return change, step
        change, value = moved, new
    return change, steps
