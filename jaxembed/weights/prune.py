"""Pruning of channels: which parameters belong to which channels, and trees that lack some of them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape, host
from jaxembed.weights._groups import path_of
from jaxembed.weights.filter_scores import min_max

RESCALES = (None, "own", "released")


def channel_sizes(params, graph):
    """Sizes of channels: how many each name of a graph has, and whether the graph fits the parameters.

    A graph names the channels of every axis that pruning may shorten: ``{path: (name of each axis)}``. An
    axis is None where it stays whole. It is a tuple of names where maps were joined, or flattened: then each
    place has the channels once more. Kernels whose results are added share one name.

    >>> params = {"a": jnp.ones((3, 3, 1, 8)), "b": jnp.ones((3, 3, 8, 4)), "out": jnp.ones((8, 2))}
    >>> graph = {"a": (None, None, None, "first"), "b": (None, None, "first", "second")}
    >>> print(channel_sizes(params, graph | {"out": (("second", "second"), None)}))
    {'first': 8, 'second': 4}

    Args:
        params: tree of arrays of any shape.
        graph: {path: axes}; paths are those of ``jax.tree.leaves_with_path``, joined by "/".

    Returns:
        {name: int C}, in the order of the graph; an axis of that name is [C].

    Raises:
        ValueError: for a path that the tree lacks, another number of axes, or sizes that contradict one
            another. A kernel of groups reads a part of the channels: its axis has to be None.
    """
    leaves = {path_of(path): np.shape(leaf) for path, leaf in jax.tree.leaves_with_path(params)}
    sizes = {}
    for path, axes in graph.items():
        if path not in leaves:
            raise ValueError(f"graph: {path!r} is not among the params; pass paths of this tree")
        if len(axes) != len(leaves[path]):
            raise ValueError(f"graph: {path!r} has shape {leaves[path]}; name {len(leaves[path])} axes")
        for axis, size in zip(axes, leaves[path], strict=True):
            if isinstance(axis, str) and sizes.setdefault(axis, size) != size:
                raise ValueError(
                    f"graph: {axis!r} has {sizes[axis]} channels and {size} in {path!r}; give sums one name, "
                    "and None to inputs of groups"
                )
    for path, axes in graph.items():
        for axis, size in zip(axes, leaves[path], strict=True):
            if isinstance(axis, tuple):
                known = sum(sizes.get(name, 0) for name in axis)
                if known != size or not sizes.keys() >= set(axis):
                    raise ValueError(
                        f"graph: {axis} has {known} channels and {path!r} {size}; name each part of the axis"
                    )
    return sizes


def prune(params, graph, keep, *, scores=None, rescale=None):
    """Structured pruning: cuts channels out of every array that has them.

    What a kernel gives, its bias, the scale and statistics of its norm, and what the next kernels read, are
    cut alike. With all channels kept the tree is the same, bit for bit.

    >>> params = {"a": jnp.arange(4.0).reshape(1, 1, 1, 4), "b": jnp.arange(8.0).reshape(1, 1, 4, 2)}
    >>> graph = {"a": (None, None, None, "first"), "b": (None, None, "first", None)}
    >>> small = prune(params, graph, {"first": [1, 3]})
    >>> print(small["a"].ravel(), small["b"].reshape(2, 2))
    [1. 3.] [[2. 3.]
     [6. 7.]]

    Args:
        params: tree of arrays of any shape, for example ``(params, state)`` of a net with batch norm.
        graph: which channels every axis has, as :func:`channel_sizes` describes it; of our nets
            ``encoders.channel_graph(tree)``.
        keep: {name: int [K]}, numbers of the channels that stay, of :func:`select_filters`. A name is that of
            channels, or the path of an array: then it means the channels of its last axis.
        scores: {name: [C]} that ``rescale`` reads.
        rescale: None copies kernels. The others multiply kernels of four axes by 1 plus a score for each
            filter: "own" takes that of the filter, "released" that at its new number, as the authors' code
            does. There, kernels that lose inputs only take the scores of those inputs by the number of the
            filter. Under a norm this leaves the function and lowers the learning rate.

    Returns:
        Tree of the same structure with smaller arrays. Channels stand in the order of ``keep``.

    Raises:
        ValueError: for names that the graph lacks, numbers outside of it or repeated, no number at all, or
            two kernels that are added and keep different channels.

    References:
        M. Hosseini et al., Beta-Rank, arXiv:2304.07461; ``rescale`` describes its released code.
    """
    if rescale not in RESCALES or (rescale is None) != (scores is None):
        raise ValueError(f"rescale: {rescale!r}; pass scores= with 'own' or 'released', neither without")
    sizes = channel_sizes(params, graph)
    kept = _by_channel(graph, keep, "keep")
    for name, ids in kept.items():
        _check_kept(name, ids, sizes[name])
    scores = {} if rescale is None else _by_channel(graph, scores, "scores")
    for name, values in scores.items():
        check_shape(f"scores[{name!r}]", jnp.asarray(values), (sizes[name],))

    def cut(path, leaf):
        axes = graph.get(path_of(path), ())
        for number, axis in enumerate(axes):
            if kept.keys() & set(_parts(axis)):
                starts = np.cumsum([0, *(sizes[name] for name in _parts(axis))])
                ids = [kept.get(name, np.arange(sizes[name])) for name in _parts(axis)]
                moved = [jnp.asarray(x) + start for x, start in zip(ids, starts, strict=False)]
                leaf = jnp.take(leaf, jnp.concatenate(moved), axis=number)
        if rescale is not None and len(axes) == 4:
            leaf = leaf * _factor(axes, kept, scores, rescale, leaf.shape[-1]).astype(leaf.dtype)
        return leaf

    return jax.tree.map_with_path(cut, params)


def channel_masks(keep, sizes):
    """Masks of channels: the form of ``keep`` whose shapes do not depend on how many are kept.

    >>> print(channel_masks({"first": jnp.array([1, 3])}, {"first": 4})["first"])
    [False  True False  True]

    Args:
        keep: {name: int [K]}, which may be traced.
        sizes: {name: C} of :func:`channel_sizes`.

    Returns:
        {name: bool [C]}.

    Raises:
        ValueError: for a name without a size, and numbers that :func:`prune` refuses.
    """
    unknown = sorted(set(keep) - set(sizes))
    if unknown:
        raise ValueError(f"keep: {unknown} without a size; pass names of channel_sizes(params, graph)")
    for name, ids in keep.items():
        _check_kept(name, ids, sizes[name])
    return {name: jnp.zeros(sizes[name], bool).at[jnp.asarray(ids)].set(True) for name, ids in keep.items()}


def mask_channels(params, graph, masks):
    """Masked channels: makes all numbers of some channels 0, which is pruning with the shapes as they were.

    A channel whose scale, bias and statistics are 0 is 0 after ReLU, and what reads it is 0 too. So a net
    gives what the pruned one gives, with zeros in the place of outputs that were cut. Gradients of masked
    numbers are 0. This holds without a norm and for batch norm, not for norms over several channels.

    >>> params = {"a": jnp.ones((1, 1, 1, 4)), "b": jnp.ones((1, 1, 4, 1))}
    >>> graph = {"a": (None, None, None, "first"), "b": (None, None, "first", None)}
    >>> masks = {"first": jnp.array([True, False, True, False])}
    >>> print(mask_channels(params, graph, masks)["b"].ravel())
    [1. 0. 1. 0.]

    Args:
        params: tree of arrays of any shape.
        graph: which channels every axis has, as :func:`channel_sizes` describes it.
        masks: {name: bool [C]}, True stays. Names are those of ``prune``'s ``keep``. They may be traced, so
            that one compiled step serves every selection.

    Returns:
        Tree of the same shapes and dtypes. NaN in masked channels becomes 0.

    Raises:
        ValueError: for names that the graph lacks, or masks of another length or dtype.
    """
    sizes = channel_sizes(params, graph)
    masks = {name: jnp.asarray(mask) for name, mask in _by_channel(graph, masks, "masks").items()}
    for name, mask in masks.items():
        if mask.dtype != bool:
            raise ValueError(f"masks: {name!r} has {mask.dtype}; pass bool, such as those of channel_masks")
        check_shape(f"masks[{name!r}]", mask, (sizes[name],))

    def masked(path, leaf):
        for number, axis in enumerate(graph.get(path_of(path), ())):
            if masks.keys() & set(_parts(axis)):
                whole = [masks.get(name, jnp.ones(sizes[name], bool)) for name in _parts(axis)]
                shape = [-1 if i == number else 1 for i in range(np.ndim(leaf))]
                leaf = jnp.where(jnp.concatenate(whole).reshape(shape), leaf, 0)
        return leaf

    return jax.tree.map_with_path(masked, params)


def shared_scores(graph, scores):
    """Scores of channels: the mean over all kernels that give them, each scaled to 0..1 first.

    Kernels whose results are added have to keep the same channels, so they need one score.

    >>> graph = {"a": (None, None, None, "sum"), "b": (None, None, None, "sum")}
    >>> print(shared_scores(graph, {"a": jnp.array([1.0, 2.0, 3.0]), "b": jnp.array([4.0, 4.0, 8.0])}))
    {'sum': Array([0.  , 0.25, 1.  ], dtype=float32)}

    Args:
        graph: which channels every axis has, as :func:`channel_sizes` describes it.
        scores: {path of a kernel: [C]}.

    Returns:
        {name: [C] within 0..1}.

    Raises:
        ValueError: for a path that the graph lacks, or whose last axis has no name of its own.
    """
    found = {}
    for path, values in scores.items():
        found.setdefault(_name_of(graph, path, "scores"), []).append(min_max(values))
    return {name: sum(parts) / len(parts) for name, parts in found.items()}


def _parts(axis):
    """The names of an axis, a tuple of none, one or several."""
    return axis if isinstance(axis, tuple) else () if axis is None else (axis,)


def _name_of(graph, key, argument):
    """The channels that a key means: itself, or those of the last axis of an array."""
    if key in graph and isinstance(graph[key][-1], str):
        return graph[key][-1]
    if any(key in _parts(axis) for axes in graph.values() for axis in axes):
        return key
    raise ValueError(f"{argument}: {key!r} names no channels of the graph; pass one of its names or paths")


def _by_channel(graph, given, argument):
    """What is given for names or paths, by the name of channels."""
    found, origin = {}, {}
    for key, value in given.items():
        name = _name_of(graph, key, argument)
        if name in found and not _same(found[name], value):
            raise ValueError(
                f"{argument}: {origin[name]!r} and {key!r} give the channels {name!r} of one sum and differ; "
                "pass the same for both"
            )
        found[name], origin[name] = value, key
    return found


def _same(first, second):
    if isinstance(first, jax.core.Tracer) or isinstance(second, jax.core.Tracer):
        return first is second
    return np.array_equal(np.asarray(first), np.asarray(second))


def _check_kept(name, ids, size):
    """Refuses numbers of channels that are none, repeated or outside; traced ones cannot be looked at."""
    if isinstance(ids, jax.core.Tracer):
        return
    ids = host(f"keep[{name!r}]", ids)
    if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
        raise ValueError(f"keep: {name!r} has {ids.dtype} {ids.shape}; pass whole numbers, at least one")
    if ids.min() < 0 or ids.max() >= size or len(np.unique(ids)) < len(ids):
        raise ValueError(f"keep: {name!r} has numbers outside 0..{size - 1} or twice; pass each once")


def _factor(axes, kept, scores, rescale, outputs):
    """1 plus the score of each filter of a kernel [..., outputs], or 1."""
    name = axes[-1]
    if name in kept and name in scores:
        ids = jnp.asarray(kept[name])
        return 1 + jnp.asarray(scores[name])[ids if rescale == "own" else jnp.arange(len(ids))]
    read = axes[-2]
    if rescale == "released" and read in kept and read in scores:
        if len(scores[read]) < outputs:
            raise ValueError(f"scores: {read!r} has fewer than {outputs} filters after it; use rescale='own'")
        return 1 + jnp.asarray(scores[read])[:outputs]
    return jnp.ones(())
