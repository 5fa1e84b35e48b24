"""Heads that read feature maps: pooling to few places, attention over all of them, feedback of blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape
from jaxembed.encoders import _unet_layers as layers
from jaxembed.encoders.conv_layers import group_norm
from jaxembed.encoders.transformer import transformer


def adaptive_pool(maps, size):
    """Adaptive mean pooling: brings maps of any side to a given one.

    Row i of the result is the mean over rows ``floor(i h / size)`` to ``ceil((i + 1) h / size) - 1``, and
    columns alike; neighbouring windows overlap where ``size`` does not divide the side.

    >>> print(adaptive_pool(jnp.arange(3.0).reshape(1, 1, 3, 1), 2)[0, :, :, 0])
    [[0.5 1.5]
     [0.5 1.5]]

    Args:
        maps: [B, h, w, C].
        size: side of the result; 1 is the mean over all places.

    Returns:
        [B, size, size, C] in the dtype of ``maps``.

    Raises:
        ValueError: for another shape, or a size below 1.

    References:
        The rule is that of ``AdaptiveAvgPool2d`` of torch.
    """
    maps = jnp.asarray(maps)
    check_shape("maps", maps, (None,) * 4)
    if size < 1:
        raise ValueError(f"size: {size}; pass at least 1")
    rows, columns = (jnp.asarray(_windows(n, size), accumulator(maps)) for n in maps.shape[1:3])
    found = jnp.einsum("ih,bhwc,jw->bijc", rows, maps, columns, precision="highest")
    return found.astype(maps.dtype)


@functools.lru_cache(maxsize=64)
def _windows(length, size):
    """Weights [size, length] of the means over windows."""
    found = np.zeros((size, length))
    for i in range(size):
        window = slice(i * length // size, -(-(i + 1) * length // size))
        found[i, window] = 1 / (window.stop - window.start)
    return found


def init_attention_head(key, shape, classes, *, width=1024, blocks=2, heads=8):
    """Attention head: draws the parameters of :func:`attention_head`.

    Args:
        key: random key.
        shape: (h, w, C) of the maps.
        classes: K.
        width: of the tokens, divisible by ``heads``.
        blocks: transformer blocks.
        heads: of the attention.

    Returns:
        {"norm_in", "project", "cls", "blocks", "out"}. The class token starts as zeros.
    """
    body, out = jax.random.split(key)
    params = _tokens(tuple(shape), width, blocks, heads).init(body)
    return params | {"out": layers.init_dense(out, width, classes)}


def attention_head(params, maps, *, heads=8):
    """Attention head: a class token reads all places of feature maps and decides.

    Layer norm over channels and places together, a dense layer to ``width``, the class token in front, blocks
    with the norm before each branch and no bias in query, key and value; the class token goes to a dense
    layer. Positions and a last norm are left out.

    >>> params = init_attention_head(jax.random.key(0), (2, 2, 3), 5, width=8, heads=2)
    >>> print(attention_head(params, jnp.ones((4, 2, 2, 3)), heads=2).shape)
    (4, 5)

    Args:
        params: of :func:`init_attention_head`.
        maps: [B, h, w, C] of its shape; pool larger ones first.
        heads: as there.

    Returns:
        Logits [B, K] in the dtype of ``maps``.

    Raises:
        ValueError: for maps of another shape.

    References:
        S. Mukhopadhyay et al., arXiv:2307.08702, as released: width 1024, 2 blocks, 8 heads.
    """
    maps = jnp.asarray(maps)
    shape = params["norm_in"]["scale"].shape
    check_shape("maps", maps, (None, *shape))
    width, blocks = params["cls"].shape[0], params["blocks"]["attention_norm"]["scale"].shape[0]
    body = {name: x for name, x in params.items() if name != "out"}
    states = _tokens(shape, width, blocks, heads).hidden(body, {"maps": maps})["tokens"]
    return layers.dense(params["out"], states[:, 0], "out")


def init_fusion_head(key, shapes, steps, classes, *, width=1024, blocks=2, heads=8):
    """Fusion head: draws the parameters of :func:`fusion_head`.

    Args:
        key: random key.
        shapes: {number: (h, w, C)} of the maps of each block.
        steps: how many steps of noise are read.
        classes: K.
        width, blocks, heads: as in :func:`init_attention_head`.

    Returns:
        {"inputs": {"block_n": {"norm_in", "project"}}, "cls", "blocks", "out"}.
    """
    body, first, out = jax.random.split(key, 3)
    params = _stack(width, blocks, heads).init(body)
    inputs = {
        f"block_{n}": _init_input(jax.random.fold_in(first, n), shape, width) for n, shape in shapes.items()
    }
    return params | {"inputs": inputs, "out": layers.init_dense(out, steps * width, classes)}


def fusion_head(params, maps, *, heads=8):
    """Fusion head of DifFormer: one class token reads the maps of several blocks, at each of several steps.

    At each step of noise the places of all blocks, after a norm and a dense layer of their block, are one
    sequence behind the class token. The steps share the attention; their class tokens are joined for a dense
    layer.

    >>> params = init_fusion_head(jax.random.key(0), {4: (2, 2, 3), 6: (4, 4, 5)}, 2, 7, width=8, heads=2)
    >>> maps = {4: jnp.ones((9, 2, 2, 3)), 6: jnp.ones((9, 4, 4, 5))}
    >>> print(fusion_head(params, [maps, maps], heads=2).shape)
    (9, 7)

    Args:
        params: of :func:`init_fusion_head`.
        maps: a list with a {number: [B, h, w, C]} for each step, of its shapes; pool larger ones first.
        heads: as there.

    Returns:
        Logits [B, K] in the dtype of the maps.

    Raises:
        ValueError: for another number of steps, other blocks, or maps of another shape.

    References:
        S. Mukhopadhyay et al. (DifFormer), arXiv:2311.17921, as released: blocks 19, 24 and 30 of ADM at
        steps 90, 150 and 300.
    """
    width, blocks = params["cls"].shape[0], params["blocks"]["attention_norm"]["scale"].shape[0]
    steps = params["out"]["kernel"].shape[0] // width
    wanted = {int(name.removeprefix("block_")): layer for name, layer in params["inputs"].items()}
    if len(maps) != steps or any(set(step) != set(wanted) for step in maps):
        given = [sorted(step) for step in maps]
        raise ValueError(f"maps: blocks {given} of {len(maps)} steps; pass {sorted(wanted)} of {steps} steps")
    count = len(maps[0][min(wanted)])
    for step in maps:
        for n, layer in wanted.items():
            check_shape(f"maps of block {n}", step[n], (count, *layer["norm_in"]["scale"].shape))
    # All steps are one batch: their places go through the same layers.
    joined = {n: jnp.concatenate([jnp.asarray(step[n]) for step in maps]) for n in wanted}
    places = jnp.concatenate([_input(layer, joined[n]) for n, layer in wanted.items()], axis=1)
    body = {name: x for name, x in params.items() if name not in ("inputs", "out")}
    first = _stack(width, blocks, heads).hidden(body, {"places": places})["tokens"][:, 0]
    first = first.reshape(steps, count, width).swapaxes(0, 1)
    return layers.dense(params["out"], first.reshape(count, -1), "out")


def init_feedback(key, channels):
    """Feedback: draws the parameters of :func:`feedback`.

    Args:
        key: random key.
        channels: {number: (C, E)}, of the maps that are read and of those that they are added to.

    Returns:
        {"block_n": {"kernel": [C, E], "norm": {"scale", "bias"}}}.
    """
    return {
        f"block_{n}": layers.init_dense(jax.random.fold_in(key, n), *sizes, bias=False)
        | {"norm": layers.init_norm(sizes[1])}
        for n, sizes in channels.items()
    }


def feedback(params, maps, total):
    """Feedback of DifFeed: maps of the decoder for a second pass of the encoder.

    ``relu(norm(maps[b] kernel))`` goes to block ``total + 1 - b``, whose maps have the same side. A second
    ``features(..., feedback=)`` of ``encoders.unet`` adds it there.

    >>> params = init_feedback(jax.random.key(0), {6: (5, 3)})
    >>> print({n: x.shape for n, x in feedback(params, {6: jnp.ones((2, 4, 4, 5))}, 9).items()})
    {4: (2, 4, 4, 3)}

    Args:
        params: of :func:`init_feedback`.
        maps: {number: [B, h, w, C]} of the first pass, the numbers of ``params`` among them.
        total: blocks of the network.

    Returns:
        {total + 1 - number: [B, h, w, E]}.

    Raises:
        ValueError: for maps that are missing, or of other channels.

    References:
        S. Mukhopadhyay et al. (DifFeed), arXiv:2311.17921: blocks 21, 24, ..., 36 of ADM's 37. Theirs is a
        batch norm; here it is a group norm, which needs no running statistics.
    """
    found = {}
    for name, layer in params.items():
        n = int(name.removeprefix("block_"))
        if n not in maps:
            raise ValueError(f"maps: lack block {n}; pass the blocks of the parameters")
        check_shape(f"maps of block {n}", maps[n], (None, None, None, layer["kernel"].shape[0]))
        x = layers.dense({"kernel": layer["kernel"]}, jnp.asarray(maps[n]), name)
        found[total + 1 - n] = jax.nn.relu(group_norm(layer["norm"], x))
    return found


def _init_input(key, shape, width):
    """Parameters of :func:`_input`."""
    norm = {"scale": jnp.ones(shape), "bias": jnp.zeros(shape)}
    return {"norm_in": norm, "project": layers.init_dense(key, shape[-1], width)}


def _input(params, x):
    """Places [B, h w, width] of maps: a norm over channels and places together, and a dense layer."""
    wide = x.astype(accumulator(x))
    wide = wide - jnp.mean(wide, axis=(1, 2, 3), keepdims=True)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=(1, 2, 3), keepdims=True) + 1e-5)
    x = (wide * params["norm_in"]["scale"] + params["norm_in"]["bias"]).astype(x.dtype)
    return layers.dense(params["project"], x.reshape(len(x), -1, x.shape[-1]), "project")


def _with_class(cls, x):
    """(a class token in front of places [B, T, width], a mask of ones)."""
    first = jnp.broadcast_to(cls.astype(x.dtype), (len(x), 1, x.shape[-1]))
    x = jnp.concatenate([first, x], axis=1)
    return x, jnp.ones(x.shape[:2], bool)


def _transformer(init_embed, embed, width, blocks, heads):
    options = {"layers": blocks, "heads": heads, "final_norm": False, "epsilon": 1e-5, "activation": "gelu"}
    return transformer(init_embed, embed, width=width, biases=("out", "mlp", "norm"), **options)


@functools.lru_cache(maxsize=64)
def _tokens(shape, width, blocks, heads):
    """The transformer over the class token and the places of maps."""

    def init_embed(key):
        return _init_input(key, shape, width) | {"cls": jnp.zeros(width)}

    def embed(params, batch):
        return _with_class(params["cls"], _input(params, batch["maps"]))

    return _transformer(init_embed, embed, width, blocks, heads)


@functools.lru_cache(maxsize=64)
def _stack(width, blocks, heads):
    """The transformer over the class token and places of any number."""
    return _transformer(
        lambda key: {"cls": jnp.zeros(width)},
        lambda params, batch: _with_class(params["cls"], batch["places"]),
        width,
        blocks,
        heads,
    )
