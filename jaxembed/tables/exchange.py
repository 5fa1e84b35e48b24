"""Rows of a split table, asked for device by device: every device sends what it needs to the owners alone."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxembed.arrays import check_shape
from jaxembed.checks import check_whole
from jaxembed.tables.lookup import narrow, row_and_sign, rows_of
from jaxembed.tables.sharded import mesh_axes, sharded_rows


def exchanged_rows(mesh, axis="data", *, capacity):
    """All-to-all row gather: reads a table and a batch that are split over the same axis, for ``gather=``.

    Every device sorts the distinct rows of its part of the batch by owner, sends each owner at most
    ``capacity`` of them, and gets their vectors back; backwards the sums of cotangents go the same way. That
    is two exchanges of ``devices * capacity`` rows, where :func:`sharded_rows` carries the whole batch.

    Nothing is dropped. Where some device asks an owner for more rows than the capacity, all of that step is
    read as :func:`sharded_rows` reads it, with the same result. :func:`exchange_overflow` counts these rows.

    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> gather = exchanged_rows(mesh, capacity=2)
    >>> print(gather(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, -1, 1])))
    [[3. 4.]
     [0. 0.]
     [3. 4.]]

    Args:
        mesh: ``jax.sharding.Mesh`` with Auto axes.
        axis: mesh axis over which the rows and the first axis of the codes are split, or a tuple of axes.
        capacity: C, rows that a device may ask of another in one step. Hashed rows spread evenly: with n
            distinct rows of a device over S owners, n / S plus a few standard deviations of sqrt(n / S).

    Returns:
        ``(table [V, D], codes int [B, ...]) -> [B, ..., D]``, equal to
        :func:`~jaxembed.tables.rows_of`, differentiable in reverse mode; the same object for the same
        arguments. It raises ValueError when the devices do not divide V or B.

    Raises:
        ValueError: for a capacity below 1, a mesh with explicit axes, or an axis that it lacks.

    References:
        The exchange of TorchRec and HugeCTR, with blocks of rows in the place of rows by modulo: codes that
        are hashed are spread as evenly by either.
    """
    check_whole(1, capacity=capacity)
    if AxisType.Explicit in mesh.axis_types:
        raise ValueError(
            "mesh: has explicit axes; make it with Auto axes (train.make_mesh), or use sharded_rows"
        )
    return _exchanged_rows(mesh, mesh_axes("axis", axis, mesh), int(capacity))


def exchange_overflow(codes, *, rows, devices, capacity):
    """Exchange overflow: counts the rows that devices ask for beyond the capacity of an exchange.

    >>> codes = np.array([0, 1, 1, 7, 4, 4, 4, 4])
    >>> print(exchange_overflow(codes, rows=8, devices=2, capacity=1))
    1

    The first device asks owner 0 for two rows, of which one is beyond the capacity.

    Args:
        codes: int [B, ...], NumPy or JAX, as :func:`exchanged_rows` takes them.
        rows: V, the height of the table.
        devices: S, over which B and V are split.
        capacity: C.

    Returns:
        int32 []; above 0 means that :func:`exchanged_rows` takes the longer way.

    Raises:
        ValueError: when the devices do not divide V or B, for numbers below 1, or codes that are not ints.
    """
    check_whole(1, rows=rows, devices=devices, capacity=capacity)
    _check_codes(codes)
    codes = narrow(codes)
    _check(rows, len(codes), devices, "devices")
    parts = codes.reshape(devices, -1)
    return jnp.sum(jax.vmap(lambda part: _asked(part, rows, devices, capacity)[3])(parts))


def _check_codes(codes):
    kind = codes.dtype if hasattr(codes, "dtype") else np.asarray(codes).dtype
    if not jnp.issubdtype(kind, jnp.integer):
        raise ValueError(f"codes: {kind}; pass integers, as tables.codes makes them")


def _check(rows, batch, devices, names):
    for what, size in (("table", rows), ("codes", batch)):
        if size % devices:
            raise ValueError(
                f"{what}: {size} rows are not divisible by the {devices} devices of {names}; "
                f"pad to a multiple of {devices}"
            )


def _asked(codes, rows, devices, capacity):
    """What a device asks for: distinct rows [n] by owner, places of codes, slots [n], and the overflow.

    Rows that are asked of nobody, and those beyond the capacity, have the slot ``devices * capacity``.
    """
    wanted, _ = row_and_sign(codes.reshape(-1))
    wanted = jnp.where((wanted >= 0) & (wanted < rows), wanted, rows)
    distinct, places = jnp.unique(wanted, return_inverse=True, size=wanted.size, fill_value=rows)
    owners = distinct // (rows // devices)
    firsts = jnp.searchsorted(distinct, jnp.arange(devices + 1) * (rows // devices))
    order = jnp.arange(distinct.size) - firsts[jnp.minimum(owners, devices)]
    real = distinct < rows
    fits = real & (order < capacity)
    slots = jnp.where(fits, owners * capacity + order, devices * capacity)
    return distinct, places.reshape(-1), slots, jnp.sum(real & ~fits, dtype=jnp.int32)


@functools.lru_cache(maxsize=64)
def _exchanged_rows(mesh, axes, capacity):
    devices = math.prod(mesh.shape[name] for name in axes)
    whole = sharded_rows(mesh, axes, batch_axis=axes)
    table_spec, batch_spec = P(axes, None), P(axes)
    split = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
    swap = functools.partial(jax.lax.all_to_all, axis_name=axes, split_axis=0, concat_axis=0, tiled=True)

    def sent(block, codes):
        """Slots and places of this device, and the local rows that each device asks of it; -1 is none."""
        rows = len(block) * devices
        distinct, places, slots, _ = _asked(codes, rows, devices, capacity)
        wanted = jnp.full(devices * capacity, -1, jnp.int32).at[slots].set(distinct, mode="drop")
        got = swap(wanted)
        local = jnp.where(got < 0, -1, got - jax.lax.axis_index(axes) * len(block))
        return places, slots, local

    @functools.partial(split, in_specs=(table_spec, batch_spec), out_specs=batch_spec)
    def read(block, codes):
        places, slots, local = sent(block, codes)
        vectors = swap(rows_of(block, local))
        own = vectors.at[slots].get(mode="fill", fill_value=0)[places]
        _, flipped = row_and_sign(codes.reshape(-1))
        own = jnp.where(flipped[:, None], -own, own)
        return own.reshape(*codes.shape, block.shape[1])

    @functools.partial(split, in_specs=(table_spec, batch_spec, batch_spec), out_specs=table_spec)
    def add(block, codes, cotangents):
        places, slots, local = sent(block, codes)
        flat = cotangents.reshape(-1, block.shape[1])
        _, flipped = row_and_sign(codes.reshape(-1))
        flat = jnp.where(flipped[:, None], -flat, flat).astype(jnp.promote_types(flat.dtype, jnp.float32))
        summed = jax.ops.segment_sum(flat, places, num_segments=len(places))
        out = jnp.zeros((devices * capacity, flat.shape[1]), flat.dtype).at[slots].set(summed, mode="drop")
        return jax.vjp(lambda b: rows_of(b, local), block)[1](swap(out).astype(block.dtype))[0]

    return _with_fallback(read, add, whole, mesh, batch_spec, axes, devices, capacity)


def _with_fallback(read, add, whole, mesh, batch_spec, axes, devices, capacity):
    """The gather that takes the exchange where all rows fit, else the gather that always fits."""

    def fits(table, codes):
        def count(part):
            return jax.lax.psum(_asked(part, len(table), devices, capacity)[3], axes)

        run = jax.shard_map(count, mesh=mesh, in_specs=batch_spec, out_specs=P(), check_vma=False)
        return run(codes) == 0

    def forward(table, codes):
        return jax.lax.cond(fits(table, codes), read, whole, table, codes)

    @jax.custom_vjp
    def gather(table, codes):
        return forward(table, codes)

    def backward(kept, cotangents):
        def longer(table, codes, cotangents):
            return jax.vjp(lambda t: whole(t, codes), table)[1](cotangents)[0]

        table, codes = kept
        return jax.lax.cond(fits(table, codes), add, longer, table, codes, cotangents), None

    gather.defvjp(lambda table, codes: (forward(table, codes), (table, codes)), backward)

    def checked(table, codes):
        check_shape("table", table, (None, None))
        _check_codes(codes)
        codes = narrow(codes)
        _check(table.shape[0], codes.shape[0], devices, f"mesh axis {', '.join(axes)}")
        return gather(table, codes) if codes.size else rows_of(table, codes)

    return checked
