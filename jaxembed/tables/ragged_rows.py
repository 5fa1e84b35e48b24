"""Ragged rows: a table whose fields have widths of their own and whose dropped rows take no room."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.tables.compact import decoded, rank, rank_bits
from jaxembed.tables.row_masks import check_sizes, fields_of_rows


def compact_rows(table, kept, widths, sizes, *, fallback=None):
    """Ragged rows: stores of each field the kept rows alone, each as wide as its field.

    The rows of field f are ``values[start_f : start_f + kept_f * width_f]``, one after the other. Row number
    k of all kept rows begins at ``k * widths[f] + steps[f]``. One row of zeros ends the array, so that every
    read may be D long.

    >>> table = jnp.arange(1.0, 9).reshape(4, 2)
    >>> found = compact_rows(table, np.array([True, False, True, True]), [1, 2], (3, 1))
    >>> print(found["values"], found["index"]["widths"], found["index"]["steps"])
    [1. 5. 7. 8. 0. 0.] [1 2] [ 0 -2]

    Args:
        table: [V, D], the values of all fields, one field after the other.
        kept: bool [V], NumPy: the shapes follow from it.
        widths: int [F], 1 to D, NumPy.
        sizes: number of values of each field, a sequence [F] that sums to V.
        fallback: optional [F, D], what a dropped row gives in place of zeros.

    Returns:
        {"values": [n + D], "index": {"words", "before": as ``rank_bits``, "widths", "steps": int32 [F]}},
        and "fallback" [F, D] where one is given, zero behind each width.

    Raises:
        ValueError: for sizes that do not sum to V, widths outside 1 to D, or no row that is kept.

    References:
        F. Lyu et al., OptEmbed, arXiv:2208.04482.
    """
    kept, widths = np.asarray(kept, bool), np.asarray(widths)
    check_kept(table, kept, widths, sizes)
    inside = np.arange(table.shape[1]) < widths[:, None]
    of_rows = np.repeat(inside, sizes, axis=0) & kept[:, None]
    zeros = jnp.zeros(table.shape[1], table.dtype)
    found = {"values": jnp.concatenate([table.reshape(-1)[np.flatnonzero(of_rows)], zeros])}
    found["index"] = jax.tree.map(jnp.asarray, ragged_index(kept, widths, sizes))
    return found if fallback is None else found | {"fallback": jnp.where(inside, fallback, 0)}


def ragged_index(kept, widths, sizes):
    """Index of ragged rows: which rows are there, and where each begins; see :func:`compact_rows`.

    Args:
        kept: bool [V], NumPy.
        widths: int [F], NumPy.
        sizes: number of values of each field.

    Returns:
        {"words", "before": of ``rank_bits``, "widths", "steps": int32 [F]}, NumPy.
    """
    counts = _counts(kept, sizes)
    first_row, first_value = np.cumsum(counts) - counts, np.cumsum(counts * widths) - counts * widths
    with jax.ensure_compile_time_eval():  # the index is known, even where the table is traced
        found = jax.tree.map(np.asarray, rank_bits(kept))
    steps = first_value - first_row * widths
    return found | {"widths": np.asarray(widths, np.int32), "steps": np.asarray(steps, np.int32)}


def _counts(kept, sizes):
    """Kept rows of each field, int64 [F]."""
    return np.add.reduceat(kept, np.cumsum([0, *sizes[:-1]]), dtype=np.int64)


def check_kept(table, kept, widths, sizes):
    """Refuses kept rows and widths that a table [V, D] of such fields cannot have."""
    check_sizes(table, sizes)
    rows, width = table.shape
    if kept.shape != (rows,):
        raise ValueError(f"kept: shape {kept.shape} for {rows} rows; give one bool for each")
    if not kept.any():
        raise ValueError(f"kept: none of {rows} rows; lower the thresholds, or the weight of their penalty")
    if widths.shape != (len(sizes),) or (widths < 1).any() or (widths > width).any():
        raise ValueError(f"widths: {widths.tolist()}; give each of {len(sizes)} fields 1 to {width}")


def ragged_lookup(stored, ids, sizes, width):
    """Ragged lookup: the vectors of ids from ragged rows, with zeros behind the width of their field.

    ``vector = row of width_f, then D - width_f zeros``; a dropped row gives zeros, or the fallback of its
    field. The bits are those of the masked table that was stored.

    >>> table = jnp.arange(1.0, 9).reshape(4, 2)
    >>> stored = compact_rows(table, np.array([True, False, True, True]), [1, 2], (3, 1))
    >>> print(ragged_lookup(stored, jnp.array([0, 1, 2, 3]), (3, 1), 2).tolist())
    [[1.0, 0.0], [0.0, 0.0], [5.0, 0.0], [7.0, 8.0]]

    Args:
        stored: of :func:`compact_rows`.
        ids: int [...], rows of the table as it was; those outside read zeros.
        sizes: as in :func:`compact_rows`.
        width: D, an int.

    Returns:
        [..., D].
    """
    ids = jnp.asarray(ids)
    index, total = stored["index"], sum(sizes)

    def place(ids):
        """The first number of each row [m], and how many are its own; 0 of a dropped one."""
        inside, fields = (ids >= 0) & (ids < total), fields_of_rows(ids, sizes)
        found, places = rank(index, jnp.where(inside, ids, 0))
        found, widths = found & inside, index["widths"][fields]
        return jnp.where(found, places * widths + index["steps"][fields], 0), jnp.where(found, widths, 0)

    starts, widths = decoded(place, ids.reshape(-1))
    reads = jax.lax.GatherDimensionNumbers((1,), (), (0,))
    mode = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    rows = jax.lax.gather(stored["values"], starts[:, None], reads, (width,), mode=mode)
    rows = jnp.where(jnp.arange(width) < widths[:, None], rows, 0).reshape(*ids.shape, width)
    if "fallback" not in stored:
        return rows
    dropped = (ids >= 0) & (ids < total) & (widths.reshape(ids.shape) == 0)
    return jnp.where(dropped[..., None], stored["fallback"][fields_of_rows(ids, sizes)], rows)


def kept_numbers(kept, widths, sizes):
    """Parameter count of a masked table: ``sum over fields of (kept rows) * width``.

    >>> print(kept_numbers(np.array([True, False, True, True]), [1, 2], (3, 1)))
    4

    Args:
        kept: bool [V].
        widths: int [F], or [..., F] for several candidates.
        sizes: as in :func:`compact_rows`.

    Returns:
        int, or int64 [...].

    References:
        arXiv:2208.04482; its public search counts one coordinate less for each row.
    """
    found = np.asarray(widths, np.int64) @ _counts(np.asarray(kept, bool), sizes)
    return int(found) if np.ndim(widths) == 1 else found


def ragged_bytes(numbers, sizes, width):
    """Bytes of ragged rows: their numbers, a bitmap with ranks, two integers for each field, a row of zeros.

    >>> stored = compact_rows(jnp.ones((4, 2)), np.array([True, False, True, True]), [1, 2], (3, 1))
    >>> ragged_bytes(4, (3, 1), 2), sum(x.nbytes for x in jax.tree.leaves(stored))
    (48, 48)

    Args:
        numbers: how many are stored, :func:`kept_numbers` for example.
        sizes: number of values of each field.
        width: D.

    Returns:
        int.
    """
    return 4 * (numbers + width) + 8 * -(-sum(sizes) // 32) + 8 * len(sizes)
