"""U-Net of diffusion models: noisy images and their time -> what the images are without noise."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape
from jaxembed.checks import check_whole
from jaxembed.encoders import _unet_layers as layers
from jaxembed.encoders.conv_layers import group_norm
from jaxembed.tables import rows_of

RESAMPLINGS = ("residual", "conv")
CONDITIONS = ("class", "vector", "tokens", "values", "mask")


class UNet(NamedTuple):
    """A U-Net as three pure functions and two lists of names, which :func:`unet` describes."""

    init: Callable
    denoise: Callable
    features: Callable
    blocks: tuple  # names of its blocks; block number n of ``features`` is blocks[n - 1]
    cross_layers: tuple  # names of the blocks with cross-attention, in the order of the contexts


class _Part(NamedTuple):
    name: str
    kind: str
    inputs: int
    outputs: int


class _Block(NamedTuple):
    name: str
    parts: tuple
    reads: int | None = None  # which input block is joined to what comes in, from 0


def timestep_embedding(t, width):
    """Timestep embedding: cosines and sines of a time at falling frequencies.

    ``cat(cos(t f), sin(t f))`` with ``f[k] = 10000**(-k / (width / 2))``.

    >>> print(np.asarray(timestep_embedding(jnp.array([0, 100]), 2)).round(2))
    [[ 1.    0.  ]
     [ 0.86 -0.51]]

    Args:
        t: int or float [B].
        width: D, even.

    Returns:
        [B, D] in at least float32.

    Raises:
        ValueError: for an odd width.

    References:
        J. Ho et al., arXiv:2006.11239, with the cosines first as in guided-diffusion.
    """
    if width % 2 or width < 2:
        raise ValueError(f"width: {width}; pass an even number")
    t = jnp.asarray(t)
    frequencies = np.exp(-np.log(10000) * np.arange(width // 2) / (width // 2))
    angles = t.astype(accumulator(t))[:, None] * jnp.asarray(frequencies, accumulator(t))
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)


def unet(
    base,
    multipliers,
    *,
    channels=1,
    outputs=None,
    blocks=1,
    decoder=None,
    attention=(),
    heads=1,
    head_width=None,
    groups=None,
    classes=None,
    vector=None,
    context=None,
    dropout=0.0,
    resample="residual",
    scaled=True,
):
    """ADM U-Net: a denoiser whose decoder reads what its encoder saw at the same size.

    Input convolution; levels of residual blocks, each level half as large as the one before; a middle of
    residual, attention, residual; the levels again in reverse; group norm, SiLU, convolution. What ends a
    branch starts as zeros, so that a fresh network returns zeros.

    >>> net = unet(8, (1, 2), attention=(2,), context=6)
    >>> params = net.init(jax.random.key(0))
    >>> x, t, tokens = jnp.ones((2, 8, 8, 1)), jnp.array([0, 9]), jnp.ones((2, 5, 6))
    >>> print(net.denoise(params, x, t, {"tokens": tokens}).shape, net.cross_layers)
    (2, 8, 8, 1) ('input_4', 'middle', 'output_1', 'output_2')
    >>> print(net.features(params, x, t, (5,), {"tokens": tokens})[5].shape, net.blocks[4])
    (2, 4, 4, 16) middle

    Args:
        base: channels of the first level, even; the time is embedded in 4 times as many numbers.
        multipliers: of the channels of each level.
        channels: C of the images.
        outputs: channels of the result; default C.
        blocks: residual blocks of each level of the encoder.
        decoder: those of each level of the decoder, from 1. The default, ``blocks + 1``, reads all that the
            encoder saw; fewer read the last of each level and cost less.
        attention: at which reductions of the side places read each other: 2 is half the side, (4, 8) the
            third and fourth level. The middle always does.
        heads: of the attention.
        head_width: channels of a head, which decides their number instead.
        groups: of the group norms; None takes those of :func:`~jaxembed.encoders.group_norm`. ADM has 32.
        classes: rows of a table of class embeddings. A null class for guidance is one of them.
        vector: width of a vector condition, which a dense layer adds to the embedded time.
        context: width of the tokens that cross-attention reads; each attention becomes a transformer block.
        dropout: within residual blocks, where a key is given.
        resample: "residual", blocks that resample on both branches (ADM), or "conv" (latent diffusion).
        scaled: True scales and shifts channels by the time (ADM); False adds it (latent diffusion).

    Returns:
        :class:`UNet` of pure functions. Images are float [B, H, W, C], H and W divisible by
        ``2**(levels - 1)``; t is [B], steps or noise levels.

        ``init(key) -> params``.

        ``denoise(params, x, t, condition=None, key=None) -> [B, H, W, outputs]``. The condition is a dict:
        "class" int [B]; "vector" [B, vector]; "tokens" [B, S, context], or [B, M, S, context] with one for
        each of the M ``cross_layers``; optional "values" of the same form, read instead of the tokens where
        attention averages; optional "mask", bool [B, S] or [B, M, S], True = a token counts.

        ``features(params, x, t, numbers, condition=None, key=None, feedback=None) -> {number: [B, h, w,
        c]}``: the maps after some blocks. Block 1 is the input convolution; what follows the last of them is
        not computed. ``feedback`` is {number: [B, h, w, c]} or None, what is added to the maps after blocks.

    Raises:
        ValueError: for sizes that do not fit, or an unknown choice. The functions refuse images, times and
            conditions of other shapes, and a condition that the network lacks or does not take.

    References:
        P. Dhariwal and A. Nichol (ADM), arXiv:2105.05233; the transformer blocks are R. Rombach et al.'s,
        arXiv:2112.10752; contexts by layer are A. Voynov et al.'s, arXiv:2303.09522.
    """
    decoder = blocks + 1 if decoder is None else decoder
    _check_sizes(base, multipliers, blocks, decoder, channels, resample)
    kind = "attention" if context is None else "cross"
    plan = _plan(channels, base, multipliers, (blocks, decoder), attention, kind, resample)
    _check_heads(plan, kind, head_width or heads)
    named = (("class", classes), ("vector", vector), ("tokens", context))
    takes = {name: size for name, size in named if size is not None}
    cross = tuple(b.name for b in plan for p in b.parts if p.kind == "cross")
    sizes = {"groups": groups, "dropout": dropout, "heads": heads, "head_width": head_width}

    def init(key):
        found = _init(key, plan, base, context, scaled)
        return found | _init_ends(jax.random.fold_in(key, len(plan)), base, takes, outputs or channels, found)

    def run(params, x, t, condition, key, last, added=None):
        _check_images(x, t, channels, 2 ** (len(multipliers) - 1))
        _check_condition(condition, takes, len(cross), len(x))
        return _run(params, plan[:last], x, _time(params, t, base, condition), condition, key, sizes, added)

    def features(params, x, t, numbers, condition=None, key=None, feedback=None):
        wrong = [n for n in (*numbers, *(feedback or ())) if not 1 <= n <= len(plan)]
        if wrong or not len(numbers):
            raise ValueError(f"numbers: {list(numbers)}; pass some of the blocks 1..{len(plan)}")
        found = run(params, jnp.asarray(x), t, condition, key, max(numbers), feedback)
        return {n: found[n - 1] for n in numbers}

    def denoise(params, x, t, condition=None, key=None):
        x = run(params, jnp.asarray(x), t, condition, key, len(plan))[-1]
        return _end(params["out"], x, groups)

    return UNet(init, denoise, features, tuple(b.name for b in plan), cross)


def _end(params, x, groups):
    """The last norm and convolution, [B, H, W, base] -> [B, H, W, outputs]."""
    return layers.conv(params["conv"], jax.nn.silu(group_norm(params["norm"], x, groups=groups)))


def _check_sizes(base, multipliers, blocks, decoder, channels, resample):
    check_whole(base=base, blocks=blocks, channels=channels)
    if not multipliers or not 1 <= decoder <= blocks + 1 or base < 2 or base % 2:
        raise ValueError(f"{base=} (even), {multipliers=}, {decoder=} (1..{blocks + 1}): pass sizes that fit")
    if resample not in RESAMPLINGS:
        raise ValueError(f"resample={resample!r}; choose one of {', '.join(RESAMPLINGS)}")


def _check_heads(plan, kind, divisor):
    for width in (p.outputs for b in plan for p in b.parts if p.kind == kind):
        if width % divisor:
            raise ValueError(f"heads: {width} channels are not divisible by {divisor}; pass another")


def _plan(channels, base, multipliers, counts, attention, kind, resample):
    """The blocks of a U-Net in the order in which they run."""
    blocks, decoder = counts
    found = [_Block("input_1", (_Part("conv", "conv", channels, base),))]
    width, seen = base, [[(0, base)]]

    def parts(inputs, level):
        wide = base * multipliers[level]
        attends = (_Part(kind, kind, wide, wide),) if 2**level in attention else ()
        return (_Part("residual", "residual", inputs, wide), *attends)

    for level in range(len(multipliers)):
        if level:
            down = _Part("resample", f"{resample}_down", width, width)
            found.append(_Block(f"input_{len(found) + 1}", (down,)))
            seen.append([(len(found) - 1, width)])
        for _ in range(blocks):
            found.append(_Block(f"input_{len(found) + 1}", parts(width, level)))
            width = base * multipliers[level]
            seen[-1].append((len(found) - 1, width))
    first, second = (_Part(name, "residual", width, width) for name in ("residual", "second"))
    found.append(_Block("middle", (first, _Part(kind, kind, width, width), second)))
    before = len(found)
    for level in reversed(range(len(multipliers))):
        for n, (at, skip) in enumerate(seen[level][::-1][:decoder], 1):
            run = parts(width + skip, level)
            width = base * multipliers[level]
            if n == decoder and level:
                run += (_Part("resample", f"{resample}_up", width, width),)
            found.append(_Block(f"output_{len(found) - before + 1}", run, at))
    return tuple(found)


def _init_part(key, part, base, context, scaled):
    if part.kind.startswith("residual"):
        return layers.init_residual(key, part.inputs, part.outputs, 4 * base, scaled=scaled)
    if part.kind == "attention":
        return layers.init_attention(key, part.inputs)
    if part.kind == "cross":
        return layers.init_spatial_transformer(key, part.inputs, context)
    return layers.init_conv(key, part.inputs, part.outputs)


def _init(key, plan, base, context, scaled):
    """Parameters of the blocks."""
    found = {}
    for i, block in enumerate(plan):
        keys = jax.random.split(jax.random.fold_in(key, i), len(block.parts))
        found[block.name] = {
            p.name: _init_part(k, p, base, context, scaled) for k, p in zip(keys, block.parts, strict=True)
        }
    return {"blocks": found}


def _init_ends(key, base, takes, outputs, blocks):
    """Parameters of the embedded time, of class and vector, and of the last convolution."""
    keys = jax.random.split(key, 4)
    params = {
        "time": {
            "in": layers.init_dense(keys[0], base, 4 * base),
            "out": layers.init_dense(keys[1], 4 * base, 4 * base),
        },
        "out": {"norm": layers.init_norm(base), "conv": layers.init_conv(None, base, outputs, zero=True)},
    }
    if "class" in takes:
        params["class"] = {"embedding": jax.random.normal(keys[2], (takes["class"], 4 * base))}
    if "vector" in takes:
        params["vector"] = layers.init_dense(keys[3], takes["vector"], 4 * base)
    return params


def _time(params, t, base, condition):
    """The embedded time with class and vector added, activated: [B, 4 base]."""
    x = layers.dense(params["time"]["in"], timestep_embedding(t, base), "time")
    x = layers.dense(params["time"]["out"], jax.nn.silu(x), "time")
    if "class" in params:
        x = x + rows_of(jnp.asarray(params["class"]["embedding"]), condition["class"])
    if "vector" in params:
        x = x + layers.dense(params["vector"], jnp.asarray(condition["vector"]), "vector")
    return jax.nn.silu(x)


def _run(params, plan, x, time, condition, key, sizes, feedback):
    """The maps after every block, a list; what is fed back to a block is added to its maps."""
    found, layer, feedback = [], 0, feedback or {}
    for i, block in enumerate(plan):
        if block.reads is not None:
            x = jnp.concatenate([x, found[block.reads]], axis=-1)
        for j, part in enumerate(block.parts):
            own, drop = params["blocks"][block.name][part.name], None
            if key is not None and sizes["dropout"]:
                drop = jax.random.fold_in(jax.random.fold_in(key, i), j)
            context = _contexts(condition, layer) if part.kind == "cross" else None
            layer += part.kind == "cross"
            x = _apply(own, part, x, time, context, drop, sizes)
        if i + 1 in feedback:
            check_shape(f"feedback[{i + 1}]", feedback[i + 1], x.shape)
            x = x + jnp.asarray(feedback[i + 1]).astype(x.dtype)
        found.append(x)
    return found


def _apply(params, part, x, time, context, key, sizes):
    groups = sizes["groups"]
    heads = part.outputs // sizes["head_width"] if sizes["head_width"] else sizes["heads"]
    if part.kind.startswith("residual"):
        resample = part.kind.partition("_")[2] or None
        options = {"resample": resample, "dropout": sizes["dropout"], "key": key}
        return layers.residual(params, x, time, groups=groups, **options)
    if part.kind == "attention":
        return layers.attention(params, x, heads=heads, groups=groups)
    if part.kind == "cross":
        return layers.spatial_transformer(params, x, *context, heads=heads, groups=groups)
    if part.kind == "conv_up":
        x = layers.up(x)
    return layers.conv(params, x, stride=2 if part.kind == "conv_down" else 1)


def _contexts(condition, layer):
    """(keys [B, S, E], values [B, S, E], mask [B, S] or None) of one layer."""
    tokens = condition["tokens"]
    mask = condition.get("mask")

    def own(x, rank):
        return jnp.asarray(x) if np.ndim(x) < rank else jnp.asarray(x)[:, layer]

    mask = mask if mask is None else own(mask, 3)
    return own(tokens, 4), own(condition.get("values", tokens), 4), mask


def _check_images(x, t, channels, divisor):
    if x.ndim != 4 or x.shape[-1] != channels or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x: {x.dtype} {x.shape}; pass floats [B, H, W, {channels}], or channels= to unet")
    if x.shape[1] % divisor or x.shape[2] % divisor:
        raise ValueError(f"x: sides {x.shape[1:3]}; the levels halve them, so pass multiples of {divisor}")
    check_shape("t", t, x.shape[:1])


def _check_condition(condition, takes, cross, rows):
    """Refuses a condition that the network lacks, does not take, or takes in another shape."""
    if condition is not None and not isinstance(condition, dict):
        raise ValueError('condition: not a dict; pass {"class": ...}, {"vector": ...} or {"tokens": ...}')
    given = condition or {}
    allowed = set(takes) | ({"values", "mask"} if "tokens" in takes else set())
    for name in takes:
        if name not in given:
            raise ValueError(f'condition: lacks "{name}"; pass it, or the null of the training')
    for name in given:
        if name not in allowed:
            known = f"unet takes {name}=" if name in takes else f"it takes {sorted(allowed) or 'none'}"
            raise ValueError(f'condition: "{name}" is not one of this network; {known}')
    if "class" in given:
        _check_class(given["class"], takes["class"], rows)
    if "vector" in given:
        check_shape("vector", given["vector"], (rows, takes["vector"]))
    for name in {"tokens", "values"} & set(given):
        x = given[name]
        check_shape(name, x, (rows, *((cross,) if np.ndim(x) == 4 else ()), None, takes["tokens"]))
    if "mask" in given:
        lead = (cross,) if np.ndim(given["mask"]) == 3 else ()
        check_shape("mask", given["mask"], (rows, *lead, np.shape(given["tokens"])[-2]))


def _check_class(ids, count, rows):
    check_shape("class", ids, (rows,))
    if not jnp.issubdtype(jnp.result_type(ids), jnp.integer):
        raise ValueError(f"class: {jnp.result_type(ids)}; pass integers")
    if isinstance(ids, jax.core.Tracer) or not np.size(ids):
        return
    known = np.asarray(ids)
    if known.min() < 0 or known.max() >= count:
        raise ValueError(f"class: {known.min()}..{known.max()} of {count}; pass 0..{count - 1}")
