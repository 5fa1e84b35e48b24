"""Association rules: sets of items that occur together in one class and rarely in others."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape, on_device
from jaxembed.checks import check_whole

BITS = 32


class Rules(NamedTuple):
    """Rules "items → class" of every class; row c holds those of class c, the best first."""

    items: jax.Array  # int32 [C, N, size], sorted in each rule
    valid: jax.Array  # bool [C, N]; False for padding, whose numbers are 0
    support: jax.Array  # float32 [C, N], the share of the class in which all items occur
    precision: jax.Array  # float32 [C, N], with classes of equal weight


def association_rules(
    active,
    labels,
    candidates,
    *,
    size=3,
    min_support=0.05,
    min_precision=0.8,
    max_overlap=0.5,
    top=20,
):
    """Association rules: finds sets of items that tell a class, among all sets of its candidates.

    A set occurs in a transaction where all its items do; with places, where they do at one place at least.
    ``support = P(set | class)`` and ``precision = support / sum of the supports in all classes``, which is
    P(class | set) with classes of equal weight. Sets below either limit are dropped. The others are read by
    falling ``2 support precision / (support + precision)``, and one is dropped whose transactions have a
    Jaccard overlap above ``max_overlap`` with those of a set that was kept.

    Places are packed into words of 32 bits, so that 32 of them take one operation.

    >>> active = jnp.array([[1, 1, 0], [1, 1, 1], [1, 0, 1], [0, 1, 1]], bool)
    >>> rules = association_rules(active, jnp.array([0, 0, 1, 1]), jnp.array([[0, 1, 2]] * 2), size=2, top=1)
    >>> print(rules.items[0, 0], rules.support[0, 0], rules.precision[0, 0], rules.valid[:, 0])
    [0 1] 1.0 1.0 [ True False]

    Args:
        active: bool [n, K], or [n, p, K] with p places.
        labels: int [n], numbers of classes.
        candidates: int [C, q], items of each class that sets are made of; -1 is padding. Every set of
            ``size`` of them is looked at: of 15 items, 455 sets of three.
        size: items of a set, from 1 to q.
        min_support, min_precision: least values of a rule.
        max_overlap: largest Jaccard overlap of two rules of a class; 1 keeps all.
        top: N, most rules of a class.

    Returns:
        :class:`Rules`. All shapes are static, so it runs under ``jit``. Equal sets of measures come in the
        order of ``itertools.combinations``.

    Raises:
        ValueError: for shapes that do not fit, a size outside 1..q, or ``top`` below 1.

    References:
        R. Agrawal et al., Mining association rules between sets of items, 1993; for visual patterns,
        arXiv:1703.06339 and Y. Li et al., arXiv:1411.6382. Order and overlap are our choice.
    """
    active, labels = on_device("active", active), on_device("labels", labels)
    candidates = on_device("candidates", candidates)
    active = active[:, None] if active.ndim == 2 else active
    check_shape("active", active, (None,) * 3)
    check_shape("labels", labels, active.shape[:1])
    check_shape("candidates", candidates, (None, None))
    check_whole(size=size, top=top)
    limits = min_support, min_precision, max_overlap
    return _rules(active, labels, candidates, limits, size=size, top=top)


@functools.partial(jax.jit, static_argnames=("size", "top"))
def _rules(active, labels, candidates, limits, *, size, top):
    words = pack_places(active)

    def one(row):
        here = jnp.take(words, jnp.maximum(row[0], 0), axis=-1)
        return class_rules(here, labels, row, len(candidates), size, top, limits)

    return jax.lax.map(one, (candidates, jnp.arange(len(candidates))))


def pack_places(active):
    """Packs places into words: bit i of word w is place 32 w + i.

    >>> print(pack_places(jnp.array([[[True], [False], [True]]]))[0, :, 0])
    [5]

    Args:
        active: bool [n, p, K].

    Returns:
        uint32 [n, ceil(p / 32), K].
    """
    count, places, items = active.shape
    padded = jnp.pad(active.astype(jnp.uint32), ((0, 0), (0, -places % BITS), (0, 0)))
    shifts = jnp.arange(BITS, dtype=jnp.uint32)[:, None]
    return jnp.sum(padded.reshape(count, -1, BITS, items) << shifts, axis=2, dtype=jnp.uint32)


def class_rules(words, labels, row, classes, size, top, limits):
    """Rules of one class. ``words`` [n, W, q] are those of its candidates, ``row`` (candidates, class)."""
    candidates, own = row
    count = candidates.shape[0]
    if not 1 <= size <= count or top < 1:
        raise ValueError(f"size: {size}, top {top}; choose sets of 1 to {count} candidates and top from 1")
    sets = np.array(list(itertools.combinations(range(count), size)), np.int32)
    fired = words[..., sets[:, 0]]
    for column in sets.T[1:]:
        fired = fired & words[..., column]
    fired = jnp.any(fired != 0, axis=1).astype(jnp.float32)  # [n, M]
    members = jax.nn.one_hot(labels, classes, dtype=jnp.float32)
    hits = jnp.matmul(members.T, fired, precision="highest")
    supports = hits / jnp.maximum(members.sum(axis=0), 1)[:, None]  # [C, M]
    support, total = supports[own], supports.sum(axis=0)
    precision = jnp.where(total > 0, support / jnp.where(total > 0, total, 1), 0)
    both = support + precision
    worth = jnp.where(both > 0, 2 * support * precision / jnp.where(both > 0, both, 1), 0)
    low, least, overlap = limits
    good = (support >= low) & (precision >= least) & (support > 0) & (candidates[sets] >= 0).all(axis=1)
    kept, valid = _distinct(fired, jnp.where(good, worth, -1), min(top, len(sets)), overlap)
    kept, valid = (jnp.pad(x, (0, top - len(x))) for x in (kept, valid))
    items = jnp.sort(candidates[jnp.asarray(sets)[kept]], axis=-1).astype(jnp.int32)
    return Rules(
        jnp.where(valid[:, None], items, 0),
        valid,
        *(jnp.where(valid, x[kept], 0) for x in (support, precision)),
    )


def _distinct(fired, worth, top, overlap):
    """Numbers of the best sets, of which none overlaps a better one by more than ``overlap``."""
    sizes = fired.sum(axis=0)

    def choose(state, _):
        (left,) = state
        best = jnp.argmax(left)
        found = left[best] >= 0
        shared = jnp.matmul(fired[:, best], fired, precision="highest")
        jaccard = shared / jnp.maximum(sizes + sizes[best] - shared, 1)
        left = jnp.where((jaccard > overlap) | (jnp.arange(len(left)) == best), -1, left)
        return (left,), (jnp.where(found, best, 0), found)

    _, (kept, valid) = jax.lax.scan(choose, (worth,), length=top)
    return kept, valid
