"""The arithmetic of merging, on lists of leaves and their groups."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, slerp_weights


def mixed(groups, leaves, weights):
    """``sum_t weights[:, t] leaves[t]`` for T lists of leaves and weights [G, T], in at least float32."""
    rows = zip(*leaves, strict=True)
    return [
        sum(groups.spread(weights[:, t], x, i) * wide(x) for t, x in enumerate(row))
        for i, row in enumerate(rows)
    ]


def weights_of(rule, products, given):
    """What each vector is multiplied with, [G, T], by the coefficients of "linear" or "slerp"."""
    return given if rule == "linear" else chain_weights(products, **given)


def products_of(rule, groups, leaves, local=False):
    """Inner products [G, T, T] of T lists of leaves, which "slerp" reads; else None."""
    return gram(groups, leaves, local) if rule == "slerp" else None


def gram(groups, leaves, local=False):
    """Inner products [G, T, T] of T lists of leaves; ``local`` where one CPU's memory holds all of them."""
    count = len(leaves)
    pairs = [(i, j) for i in range(count) for j in range(i, count)]
    if local:
        found = dict(zip(pairs, groups.inners(leaves, pairs), strict=True))
    else:
        found = {(i, j): groups.inner(leaves[i], leaves[j]) for i, j in pairs}
    rows = [jnp.stack([found[min(i, j), max(i, j)] for j in range(count)], axis=-1) for i in range(count)]
    return jnp.stack(rows, axis=-2)


def chain_weights(products, position, scale):
    """The weights [G, T] of a chain of slerps: it stays in the span of its vectors.

    Args:
        products: [G, T, T] of :func:`gram`.
        position: [G, T-1].
        scale: [G, T-1].
    """
    count = products.shape[-1]
    own = jnp.eye(count, dtype=products.dtype)
    weights = jnp.broadcast_to(own[0], products.shape[:-1])
    for k in range(count - 1):
        seen = jnp.einsum("gtu,gu->gt", products, weights, precision="highest")
        aa = jnp.sum(seen * weights, axis=-1)
        kept, turned = slerp_weights(aa, seen[:, k + 1], products[:, k + 1, k + 1], position[:, k])
        weights = scale[:, k, None] * (kept[:, None] * weights + turned[:, None] * own[k + 1])
    return weights


def ties(groups, leaves, coefficients, density, reduce):
    """TIES of T lists of leaves and coefficients [G, T]: trim, elect a sign, merge what agrees."""
    trimmed = [
        _trimmed(groups, _scaled(groups, v, coefficients[:, t]), density) for t, v in enumerate(leaves)
    ]
    totals = [sum(row) for row in zip(*trimmed, strict=True)]
    majority = groups.sums([jnp.sign(x) for x in totals])
    found = []
    for i, (total, row) in enumerate(zip(totals, zip(*trimmed, strict=True), strict=True)):
        up = jnp.where(total == 0, groups.spread(majority, total, i) >= 0, total > 0)
        agreeing = [jnp.where(up, x > 0, x < 0) for x in row]
        kept = sum(jnp.where(agrees, x, 0) for agrees, x in zip(agreeing, row, strict=True))
        count = sum(agrees.astype(kept.dtype) for agrees in agreeing)
        found.append(kept if reduce == "sum" else kept / jnp.maximum(count, 1))
    return found


def _trimmed(groups, leaves, density):
    """The leaves with all but the largest magnitudes of each group set to zero.

    The limit of a group is found bit by bit: it is the largest number that enough magnitudes reach, and the
    bits of positive floats sort as the floats do. So nothing is sorted and sharded leaves stay where they
    are.
    """
    if density == 1:
        return leaves
    wanted = [max(1, round(density * size)) for size in groups.sizes(leaves)]
    bits = [jax.lax.bitcast_convert_type(jnp.abs(x).astype(jnp.float32), jnp.int32) for x in leaves]

    def reached(limit):
        return [x >= groups.spread(limit, x, i) for i, x in enumerate(bits)]

    def raised(step, limit):
        higher = limit | (jnp.int32(1) << (30 - step))
        enough = groups.sums([_row_counts(x) for x in reached(higher)]) >= jnp.array(wanted)
        return jnp.where(enough, higher, limit)

    limit = jax.lax.fori_loop(0, 31, raised, jnp.zeros(len(wanted), jnp.int32))
    return [jnp.where(kept, x, 0) for kept, x in zip(reached(limit), leaves, strict=True)]


def _row_counts(kept):
    """How many entries are True, int32 [...] for bool [..., n]: a product is the fastest way to count."""
    if kept.ndim < 2 or kept.shape[-1] > 2**24:  # beyond it float32 does not count exactly
        return kept.astype(jnp.int32)
    ones = jnp.ones(kept.shape[-1])
    return jnp.matmul(kept.astype(jnp.float32), ones, precision="highest").astype(jnp.int32)


def _scaled(groups, leaves, factors):
    """Leaves in at least float32, times [G] factors."""
    return [groups.spread(factors, x, i) * wide(x) for i, x in enumerate(leaves)]


def fisher(groups, leaves, diagonals, coefficients, normalise):
    """The mean of T lists of leaves, weighted by their diagonals and coefficients [G, T]."""
    diagonals = [_positive(groups, f, normalise) for f in diagonals]
    shares = [_scaled(groups, f, coefficients[:, t]) for t, f in enumerate(diagonals)]
    return [
        sum(f * wide(x) for f, x in zip(weights, row, strict=True)) / sum(weights)
        for weights, row in zip(zip(*shares, strict=True), zip(*leaves, strict=True), strict=True)
    ]


def _positive(groups, diagonal, normalise):
    """A diagonal in units of its root mean square, plus 1e-6."""
    diagonal = [wide(x) for x in diagonal]
    if normalise:
        squares = groups.inner(diagonal, diagonal) / jnp.array(groups.sizes(diagonal), jnp.float32)
        scale = jax.lax.rsqrt(jnp.where(squares > 0, squares, 1))
        diagonal = _scaled(groups, diagonal, scale)
    return [x + 1e-6 for x in diagonal]


def plus(start, added):
    """A tree plus a list of leaves, in the dtypes of the tree."""
    leaves, form = jax.tree.flatten(start)
    found = [(wide(x) + y).astype(x.dtype) for x, y in zip(leaves, added, strict=True)]
    return jax.tree.unflatten(form, found)


def wide(x):
    """A leaf in the dtype in which it is summed."""
    return jnp.asarray(x).astype(accumulator(x))
