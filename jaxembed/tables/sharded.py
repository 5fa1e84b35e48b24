"""Rows of a table that is split over devices."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxembed.tables.lookup import row_and_sign, rows_of


@functools.lru_cache(maxsize=64)
def sharded_rows(mesh, axis="model", *, batch_axis="data"):
    """Makes a gather from a table whose rows are split over a mesh axis, for ``lookup(gather=)``.

    Every device holds one contiguous block of rows, reads those codes of its share of the batch that fall
    into its block, with zeros for the others, and one ``psum`` over ``axis`` adds the blocks up. Backwards
    the cotangents and codes of the batch are gathered over ``batch_axis`` and every device adds those of its
    own block. Both exchanges carry as many bytes as the batch reads; neither depends on V.

    A stack of K tables [K * M, D] over a number of devices that divides K is thereby placed table by table:
    a block of rows is then one or more whole tables.

    >>> mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    >>> print(sharded_rows(mesh)(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, -1])))
    [[3. 4.]
     [0. 0.]]

    Args:
        mesh: ``jax.sharding.Mesh``.
        axis: mesh axis over which the rows lie.
        batch_axis: mesh axis over which the first axis of the codes is split.

    Returns:
        ``(table [V, D], codes int [B, ...]) -> [B, ..., D]``, equal to
        :func:`~jaxembed.tables.rows_of`, differentiable in reverse mode; the same object for the same
        arguments. It raises ValueError when the devices of an axis do not divide V or B.
    """
    for name, value in (("axis", axis), ("batch_axis", batch_axis)):
        if value not in mesh.shape:
            raise ValueError(f"{name}={value!r}: the mesh has the axes {tuple(mesh.shape)}")
    rows, batch = P(axis, None), P(batch_axis)

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(rows, batch), out_specs=batch, check_vma=False)
    def read(block, codes):
        return jax.lax.psum(rows_of(block, _in_block(block.shape[0], codes, axis)), axis)

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(rows, batch, batch), out_specs=rows, check_vma=False
    )
    def add(block, codes, cotangents):
        codes, cotangents = (
            jax.lax.all_gather(x, batch_axis, axis=0, tiled=True) for x in (codes, cotangents)
        )
        own = _in_block(block.shape[0], codes, axis)
        return jax.vjp(lambda b: rows_of(b, own), block)[1](cotangents)[0]

    @jax.custom_vjp
    def gather(table, codes):
        return read(table, codes)

    def backward(kept, cotangents):
        table, codes = kept
        return add(table, codes, cotangents), None

    gather.defvjp(lambda table, codes: (read(table, codes), (table, codes)), backward)

    def checked(table, codes):
        codes = jnp.asarray(codes)
        for what, size, name in (("table", table.shape[0], axis), ("codes", codes.shape[0], batch_axis)):
            if size % mesh.shape[name]:
                raise ValueError(
                    f"{what}: {size} rows are not divisible by the {mesh.shape[name]} devices of mesh axis "
                    f"{name}; pad to a multiple of {mesh.shape[name]}"
                )
        return gather(table, codes)

    return checked


def _in_block(size, codes, axis):
    """Codes that count from the first row of this device's block; -1 for rows of other blocks."""
    rows, flipped = row_and_sign(codes)
    local = rows - jax.lax.axis_index(axis) * size
    inside = (local >= 0) & (local < size) & (rows >= 0)
    return jnp.where(inside, jnp.where(flipped, -2 - local, local), -1)
