"""Rows of a table that is split over devices."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxembed.tables.lookup import narrow, row_and_sign, rows_of


def sharded_rows(mesh, axis="model", *, batch_axis="data"):
    """Row-sharded gather: reads a table whose rows are split over a mesh axis, for ``lookup(gather=)``.

    Every device holds one contiguous block of rows. It reads those codes that fall into its block, with
    zeros for the others, and a sum over ``axis`` adds the blocks up. Where the batch is split over the same
    axis, the codes are gathered over it first and the sums are scattered back. Backwards the cotangents and
    codes of the batch are gathered over ``batch_axis`` and every device adds those of its own block. All
    exchanges carry as many bytes as the batch reads; none depends on V.

    On a mesh with explicit axes, take gradients under ``jax.jit`` or inside ``jax.set_mesh(mesh)``.

    A stack of K tables [K * M, D] is thereby placed table by table where the number of devices divides K:
    each device holds whole tables.

    >>> mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    >>> print(sharded_rows(mesh)(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, -1])))
    [[3. 4.]
     [0. 0.]]

    Args:
        mesh: ``jax.sharding.Mesh``.
        axis: mesh axis over which the rows are split, or a tuple of axes.
        batch_axis: mesh axis over which the first axis of the codes is split, or a tuple of axes. It may
            have axes in common with ``axis``, or be the same.

    Returns:
        ``(table [V, D], codes int [B, ...]) -> [B, ..., D]``, equal to
        :func:`~jaxembed.tables.rows_of`, differentiable in reverse mode; the same object for the same
        arguments. No codes give no vectors. It raises ValueError when the devices of an axis do not divide V
        or B.
    """
    return _sharded_rows(mesh, mesh_axes("axis", axis, mesh), mesh_axes("batch_axis", batch_axis, mesh))


def mesh_axes(name, value, mesh):
    """The mesh axes of an argument as a tuple; refuses one that the mesh lacks or that comes twice.

    Args:
        name: of the argument, for the error.
        value: str, or a tuple or list of str.
        mesh: ``jax.sharding.Mesh``.

    Returns:
        Tuple of str.
    """
    axes = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not axes or len(set(axes)) < len(axes) or set(axes) - set(mesh.shape):
        raise ValueError(
            f"{name}={value!r}: the mesh has the axes {tuple(mesh.shape)}; name one, or several once"
        )
    return axes


@functools.lru_cache(maxsize=64)
def _sharded_rows(mesh, axes, batch_axes):
    rows, batch = P(axes, None), P(batch_axes)
    shared = tuple(name for name in batch_axes if name in axes)
    others = tuple(name for name in axes if name not in shared)

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(rows, batch), out_specs=batch, check_vma=False)
    def read(block, codes):
        codes = _gathered(codes, shared)
        vectors = rows_of(block, _in_block(block.shape[0], codes, axes))
        vectors = jax.lax.psum(vectors, others) if others else vectors
        return jax.lax.psum_scatter(vectors, shared, tiled=True) if shared else vectors

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(rows, batch, batch), out_specs=rows, check_vma=False
    )
    def add(block, codes, cotangents):
        codes, cotangents = (_gathered(x, batch_axes) for x in (codes, cotangents))
        own = _in_block(block.shape[0], codes, axes)
        return jax.vjp(lambda b: rows_of(b, own), block)[1](cotangents)[0]

    @jax.custom_vjp
    def gather(table, codes):
        return read(table, codes)

    def backward(kept, cotangents):
        table, codes = kept
        return add(table, codes, cotangents), None

    gather.defvjp(lambda table, codes: (read(table, codes), (table, codes)), backward)

    def checked(table, codes):
        codes = narrow(codes)
        for what, size, names in (("table", table.shape[0], axes), ("codes", codes.shape[0], batch_axes)):
            devices = math.prod(mesh.shape[name] for name in names)
            if size % devices:
                raise ValueError(
                    f"{what}: {size} rows are not divisible by the {devices} devices of mesh axis "
                    f"{', '.join(names)}; pad to a multiple of {devices}"
                )
        if not codes.size:
            return jnp.zeros((*codes.shape, table.shape[1]), table.dtype)
        if AxisType.Explicit in mesh.axis_types:  # types then carry shardings, which have to match
            table, codes = (
                jax.reshard(x, NamedSharding(mesh, spec)) for x, spec in ((table, rows), (codes, batch))
            )
        return gather(table, codes)

    return checked


def _gathered(x, axes):
    return jax.lax.all_gather(x, axes, axis=0, tiled=True) if axes else x


def _in_block(size, codes, axes):
    """Codes that count from the first row of this device's block; -1 for rows of other blocks."""
    rows, flipped = row_and_sign(codes)
    local = rows - jax.lax.axis_index(axes) * size
    inside = (local >= 0) & (local < size) & (rows >= 0)
    return jnp.where(inside, jnp.where(flipped, -2 - local, local), -1)
