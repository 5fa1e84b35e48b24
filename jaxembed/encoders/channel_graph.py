"""Channels of convolutional nets: which axes of which parameters belong to the same ones."""


def channel_graph(made):
    """Channel graph of a net of :func:`convnet`: names the channels of every axis of its parameters.

    Channels are named after the block that gives them. What is added in a residual block shares one name; an
    identity shortcut shares that of the channels that come in. "images" are the channels of the pictures.

    >>> import jax
    >>> from jaxembed.encoders import convnet, residual
    >>> params = convnet([8, [residual(8)]], norm=None, inputs=1).init(jax.random.key(0))
    >>> graph = channel_graph(params)
    >>> for path in ("stage_0/kernel", "stage_1/block_0/first/kernel", "stage_1/block_0/second/kernel"):
    ...     print(graph[f"stages/{path}"][2:])
    ('images', 'stage_0')
    ('stage_0', 'stage_1/block_0/first')
    ('stage_1/block_0/first', 'stage_0')

    Args:
        made: what ``init`` of the net gives, or what became of it in training: params, a tree of arrays of
            any shape, or (params, state) with batch norm.

    Returns:
        {path: name of each axis}, which ``weights.prune`` and ``weights.mask_channels`` take with that tree.

    Raises:
        ValueError: for a tree that is not of such a net.
    """
    params, state = made if isinstance(made, tuple) else (made, {})
    if not hasattr(params, "keys") or "stages" not in params:
        raise ValueError("made: not the tree of a convnet, which has 'stages'; write the graph by hand")
    roots = ("0/", "1/") if isinstance(made, tuple) else ("", "")
    graph = {}

    def convolution(tree, kept, path, read, name):
        graph[f"{roots[0]}stages/{path}/kernel"] = None, None, read, name
        for place in ("bias", *(f"norm/{leaf}" for leaf in tree.get("norm", ()))):
            if place != "bias" or "bias" in tree:
                graph[f"{roots[0]}stages/{path}/{place}"] = (name,)
        graph.update({f"{roots[1]}{path}/{leaf}": (name,) for leaf in kept})
        return name

    def block(tree, kept, path, read, name=None):
        parts = {key: (tree[key], kept.get(key, {}), f"{path}/{key}") for key in tree}
        if "kernel" in tree:
            return convolution(tree, kept, path, read, name or path)
        if "first" in tree:
            given = block(*parts["first"], read)
            shared = block(*parts["shortcut"], read, path) if "shortcut" in tree else read
            return block(*parts["second"], given, shared)
        if any(key.startswith("block_") for key in tree):
            for key in sorted(tree, key=_number):
                read = block(*parts[key], read)
            return read
        branches = [block(*parts[key], read) for key in ("one", "three", "five", "pool") if key in tree]
        joined = tuple(name for branch in branches for name in _names(branch))
        return (joined if len(joined) > 1 else joined[0]) if branches else read

    read = "images"
    for key in sorted(params["stages"], key=_number):
        read = block(params["stages"][key], state.get(key, {}), key, read)
    if "dense" in params:
        graph[f"{roots[0]}dense/kernel"] = read, None
    return graph


def _names(axis):
    return axis if isinstance(axis, tuple) else (axis,)


def _number(key):
    """The number at the end of a key such as "block_10"."""
    return int(key.rpartition("_")[2])
