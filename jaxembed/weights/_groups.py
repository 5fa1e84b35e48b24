"""Groups of parameters: which numbers of a tree share a coefficient, and sums within each group."""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator

GRANULARITIES = ("model", "layer", "tensor")
BLOCK = 12_288  # numbers of a vector that a core holds in its nearest cache beside its sums


class Groups(NamedTuple):
    """The groups of a tree: their names, and for each leaf the group of it, or of each of its rows."""

    names: tuple
    ids: tuple  # for each leaf an int, or a tuple of ints for the rows of a stacked one

    def spread(self, values, leaf, index):
        """Values [G] as an array that multiplies leaf number ``index``: scalar, or [L, 1, ...]."""
        ids = self.ids[index]
        if isinstance(ids, int):
            return values[ids]
        return values[np.array(ids)].reshape(-1, *(1,) * (leaf.ndim - 1))

    def totals(self, parts):
        """Sums parts, one for each leaf, into [G]: a scalar, or [L] for a stacked leaf."""
        found = jnp.zeros(len(self.names), jnp.result_type(*parts))
        for ids, part in zip(self.ids, parts, strict=True):
            found = found.at[np.array(ids)].add(part)
        return found

    def sizes(self, leaves):
        """How many numbers each group has, a list of G ints."""
        found = [0] * len(self.names)
        for leaf, ids in zip(leaves, self.ids, strict=True):
            for i in [ids] if isinstance(ids, int) else ids:
                found[i] += leaf.size if isinstance(ids, int) else leaf.size // len(ids)
        return found

    def inner(self, a, b):
        """Inner products [G] of two lists of leaves, in at least float32."""
        return self.totals([_inner(x, y, ids) for x, y, ids in zip(a, b, self.ids, strict=True)])

    def inners(self, leaves, pairs):
        """Inner products, [G] for each pair (i, j) of T lists of leaves, with one walk through all of them.

        Each number comes once from the memory, not once for each pair. A walk is slow on an accelerator and
        gathers what is sharded, so it is for leaves in the memory of one CPU.
        """
        parts = [
            _inners(row, ids, pairs) for row, ids in zip(zip(*leaves, strict=True), self.ids, strict=True)
        ]
        return [self.totals(part) for part in zip(*parts, strict=True)]

    def sums(self, leaves):
        """Sums [G] of a list of leaves."""
        return self.totals([jnp.sum(x, axis=_axes(x, ids)) for x, ids in zip(leaves, self.ids, strict=True)])


def _axes(leaf, ids):
    """The axes of a leaf that its groups sum over: all, or all but the first of a stacked one."""
    return tuple(range(0 if isinstance(ids, int) else 1, leaf.ndim))


def _inner(x, y, ids):
    options = {"precision": "highest", "preferred_element_type": accumulator(x, y)}
    if isinstance(ids, int):
        return jnp.tensordot(x, y, axes=x.ndim, **options)
    letters = "".join(chr(ord("b") + i) for i in range(x.ndim - 1))
    return jnp.einsum(f"a{letters},a{letters}->a", x, y, **options)


def _inners(row, ids, pairs):
    """The inner products of pairs of T arrays [...], for each a scalar or [L], block by block."""
    layers = 1 if isinstance(ids, int) else len(ids)
    size, kind = row[0].size // layers, accumulator(*row)
    width = next((w for w in range(BLOCK, BLOCK // 8, -1) if size % w == 0), None)
    if width is None:  # small, or without a divisor of that size
        return [_inner(row[i], row[j], ids) for i, j in pairs]
    blocks = [x.reshape(layers, -1, width) for x in row]

    def of_layer(layer):
        def added(k, sums):
            seen = [jax.lax.dynamic_slice(x, (layer, k, 0), (1, 1, width))[0, 0].astype(kind) for x in blocks]
            return [total + seen[i] * seen[j] for total, (i, j) in zip(sums, pairs, strict=True)]

        sums = jax.lax.fori_loop(0, size // width, added, [jnp.zeros(width, kind)] * len(pairs))
        return [x.sum() for x in sums]

    found = jax.lax.map(of_layer, jnp.arange(layers))
    return [x[0] for x in found] if isinstance(ids, int) else found


def path_of(path):
    """A tree path as "blocks/attention/query/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def shapes_of(tree):
    """{path: shape} of the leaves of a tree."""
    return {path_of(path): np.shape(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def grouped(tree, granularity, stacked):
    """:class:`Groups` of a tree; leaves whose path matches the regex ``stacked`` have one row per layer."""
    if granularity not in GRANULARITIES:
        raise ValueError(f"granularity={granularity!r}: choose one of {', '.join(GRANULARITIES)}")
    shapes = shapes_of(tree)
    if granularity == "model":
        return Groups(("model",), (0,) * len(shapes))
    names = [_names(path, shape, granularity, stacked) for path, shape in shapes.items()]
    known = dict.fromkeys(n for found in names for n in ([found] if isinstance(found, str) else found))
    number = {name: i for i, name in enumerate(known)}
    ids = (number[n] if isinstance(n, str) else tuple(number[row] for row in n) for n in names)
    return Groups(tuple(known), tuple(ids))


def _names(path, shape, granularity, stacked):
    """The group of a leaf, or those of its rows."""
    top, _, rest = path.partition("/")
    if not (stacked and shape and re.search(stacked, path)):
        return top if granularity == "layer" else path
    return [f"{top}/{row}" + (f"/{rest}" if granularity == "tensor" else "") for row in range(shape[0])]
