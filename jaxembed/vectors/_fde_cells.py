"""What an encoding of a token set computes: one product, a scatter into cells, a fill of empty cells."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator
from jaxembed.vectors.chamfer import strided, zero_padding

# Floats of products and cells that are held at a time. A CPU is fastest while they stay in its cache.
_CHUNK_ELEMENTS = 2**23
_CHUNK_ELEMENTS_CPU = 2**21


@functools.partial(jax.jit, static_argnames=("aggregate", "fill_empty"))
def encode_cells(params, tokens, mask, *, aggregate, fill_empty):
    """Encodes checked sets, chunk by chunk; ``multivector.encode_set`` says what it returns.

    Args:
        params: dict of arrays as from ``init_fde``.
        tokens: [B, T, D] with T >= 1.
        mask: bool [B, T].
        aggregate: "sum" or "mean".
        fill_empty: bool.

    Returns:
        [B, R * 2**k * p] or [B, final].
    """
    count, size = mask.shape
    repetitions, _, planes = params["planes"].shape
    projected = projected_width(params)

    @jax.checkpoint
    def block(tokens, mask):
        values = _cells(params, tokens, mask, aggregate=aggregate, fill_empty=fill_empty)
        if "final" not in params:
            return values
        index, sign = (params["final"][name].reshape(-1) for name in ("index", "sign"))
        empty = jnp.zeros((len(tokens), len(params["final"]["zeros"])), values.dtype)
        return empty.at[:, index].add(values * sign[None].astype(values.dtype))

    each = repetitions * (size * (planes + projected) + 2**planes * projected)
    elements = _CHUNK_ELEMENTS_CPU if jax.default_backend() == "cpu" else _CHUNK_ELEMENTS
    chunk = max(1, elements // max(1, each))
    if count <= chunk:
        return block(tokens, mask)
    tokens, mask = strided(tokens, chunk), strided(mask, chunk)
    chunk, steps = mask.shape[:2]

    def step(out, c):
        part = (jax.lax.dynamic_index_in_dim(x, c, axis=1, keepdims=False) for x in (tokens, mask))
        return jax.lax.dynamic_update_index_in_dim(out, block(*part), c, axis=1), None

    length = len(params["final"]["zeros"]) if "final" in params else repetitions * 2**planes * projected
    out, _ = jax.lax.scan(step, jnp.zeros((chunk, steps, length), accumulator(tokens)), jnp.arange(steps))
    return out.reshape(steps * chunk, length)[:count]


def _cells(params, tokens, mask, *, aggregate, fill_empty):
    """Returns the encoding of a few sets, [B, R * cells * p]."""
    tokens = zero_padding(tokens, mask)
    batch, size, _ = tokens.shape
    repetitions, _, planes = params["planes"].shape
    total = repetitions * 2**planes
    cell, projected = _project(params, tokens)
    # Padding has zeros as projections and may be in any cell of its own set.
    places = size * repetitions
    slot = (cell + jnp.arange(repetitions, dtype=jnp.int32) * 2**planes).reshape(batch, places)
    rows = projected.reshape(batch, places, projected.shape[3])

    def per_token(x):
        return jnp.broadcast_to(x[..., None], cell.shape).reshape(batch, places)

    def scatter(start, shape, operation, x):
        empty = jnp.full((total, *shape), start, x.dtype)
        return jax.vmap(lambda s, x: getattr(empty.at[s], operation)(x, mode="promise_in_bounds"))(slot, x)

    values = scatter(0, rows.shape[2:], "add", rows)
    held = scatter(0, (), "add", per_token(mask.astype(jnp.int32)))
    if aggregate == "mean":
        values = values / jnp.maximum(held, 1)[..., None].astype(values.dtype)
    if fill_empty:
        none = (planes + 1) * size
        order = jnp.where(mask, jnp.arange(size, dtype=jnp.int32), none)
        first = scatter(none, (), "min", per_token(order)).reshape(batch, repetitions, 2**planes)
        # Only rows of `projected` are read: a token that is nearest to several cells is not stored again.
        nearest = _nearest(first, size)[..., None]
        found = jnp.take_along_axis(jnp.swapaxes(projected, 1, 2), nearest, axis=2, mode="promise_in_bounds")
        values = jnp.where((held > 0)[..., None], values, found.reshape(values.shape))
    return values.reshape(batch, total * projected.shape[3])


def _project(params, tokens):
    """Returns the cell of every token, int32 [B, T, R], and its projections [B, T, R, p]."""
    batch, size, width = tokens.shape
    repetitions, _, planes = params["planes"].shape
    hashing = jnp.moveaxis(params["planes"].astype(jnp.float32), 1, 0).reshape(width, -1)
    rows, cut = tokens.reshape(-1, width), hashing.shape[1]
    if isinstance(params["projection"], dict):
        sides, projected = _product(rows.astype(jnp.float32), hashing), _sketched(params["projection"], rows)
    else:
        projection = jnp.moveaxis(params["projection"].astype(tokens.dtype), 1, 0).reshape(width, -1)
        if tokens.dtype == jnp.float32:  # one product for both
            both = _product(rows, jnp.concatenate([hashing, projection], axis=1))
            sides, projected = both[:, :cut], both[:, cut:]
        else:
            sides, projected = _product(rows.astype(jnp.float32), hashing), _product(rows, projection)
    level = _product(params["centre"].astype(jnp.float32)[None], hashing) if "centre" in params else 0
    weights = 2 ** jnp.arange(planes, dtype=jnp.int32)
    bits = (sides > level).reshape(batch, size, repetitions, planes)
    cell = jnp.sum(jnp.where(bits, weights[None, None, None], 0), axis=3, dtype=jnp.int32)
    return cell, projected.reshape(batch, size, repetitions, projected_width(params))


def projected_width(params):
    """The width p of projected tokens, from a dense projection [R, D, p] or a count-sketch."""
    projection = params["projection"]
    return len(projection["zeros"]) if isinstance(projection, dict) else projection.shape[2]


def _sketched(sketch, rows):
    """Count-sketches of rows [n, D], [n, R * p]: every coordinate is added to its place, with its sign."""
    repetitions, width = sketch["index"].shape
    size = len(sketch["zeros"])
    place = sketch["index"] + size * jnp.arange(repetitions, dtype=jnp.int32)[:, None]
    signed = sketch["sign"].astype(rows.dtype)[:, :, None] * rows.T  # [R, D, n]: whole rows are added
    empty = jnp.zeros((repetitions * size, len(rows)), rows.dtype)
    return empty.at[place.reshape(-1)].add(signed.reshape(repetitions * width, -1)).T


def _product(x, y):
    return jnp.einsum("nd,dm->nm", x, y, precision="highest")


def _nearest(first, size):
    """Returns the token that is nearest to each cell, int32 [B, R, cells].

    ``first`` holds the first token of each cell, or a large number. A cell carries distance * size +
    token; each pass takes the minimum over the cells that differ in three bits.
    """
    shape = first.shape
    planes = shape[2].bit_length() - 1
    for low in range(0, planes, 3):
        bits = min(3, planes - low)
        codes = np.arange(1 << bits)
        distance = np.bitwise_count(codes[:, None] ^ codes).astype(np.int32) * size
        groups = first.reshape(*shape[:2], shape[2] >> (low + bits), 1, 1 << bits, 1 << low)
        first = jnp.min(groups + distance[None, None, None, :, :, None], axis=4).reshape(shape)
    return first % size
