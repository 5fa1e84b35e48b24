"""Compact arrays that are read in place: bitmaps with ranks, packed codes, sparse rows."""

import jax
import jax.numpy as jnp
import numpy as np

WORD = 32


def rank_bits(member):
    """Bitmap with ranks: a set of numbers, and how many of its members come before each, in N/4 bytes.

    >>> index = rank_bits(jnp.array([False, True, True, False, True]))
    >>> print(index["words"], index["before"], rank(index, jnp.arange(5)))
    [22] [0] (Array([False,  True,  True, False,  True], dtype=bool), Array([0, 0, 1, 2, 2], dtype=int32))

    Args:
        member: bool [N].

    Returns:
        {"words": uint32 [W], bit j of word i is member 32 i + j; "before": int32 [W], members before word i}.
    """
    member = jnp.asarray(member, bool)
    padded = jnp.pad(member, (0, -len(member) % WORD)).reshape(-1, WORD)
    words = jnp.sum(padded.astype(jnp.uint32) << jnp.arange(WORD, dtype=jnp.uint32), axis=1, dtype=jnp.uint32)
    counts = jnp.sum(padded, axis=1, dtype=jnp.int32)
    return {"words": words, "before": jnp.cumsum(counts) - counts}


def rank(index, numbers):
    """Whether numbers are members of a set, and how many members are smaller; see :func:`rank_bits`.

    Args:
        index: of :func:`rank_bits`.
        numbers: integers [...] in 0..N-1; what comes out for a number outside means nothing.

    Returns:
        (bool [...], int32 [...]).
    """
    host = all(isinstance(x, np.ndarray) for x in (numbers, *index.values()))
    xp, count = (np, np.bitwise_count) if host else (jnp, jax.lax.population_count)
    word = xp.clip(numbers >> 5, 0, len(index["words"]) - 1)
    words, smaller = (xp.asarray(index[name]) for name in ("words", "before"))
    bits, place = words[word], (numbers & 31).astype(np.uint32)
    below = bits & ((np.uint32(1) << place) - np.uint32(1))
    return (bits >> place) & np.uint32(1) == 1, smaller[word] + count(below).astype(np.int32)


def pack(numbers, bits):
    """Packed numbers: writes small integers one after the other, ``bits`` each; :func:`unpack` reads them.

    >>> packed = pack(jnp.array([5, 0, 63, 7]), 6)
    >>> print(packed.shape, unpack(packed, jnp.array([2, 0]), 6))
    (5,) [63  5]

    Args:
        numbers: integers [M] in 0..2**bits - 1.
        bits: 1 to 16.

    Returns:
        uint8 [ceil(M bits / 8) + 2]; the last two bytes let every number be read as three.
    """
    spread = (numbers.astype(jnp.uint32)[:, None] >> jnp.arange(bits, dtype=jnp.uint32)) & 1
    flat = spread.reshape(-1)
    flat = jnp.pad(flat, (0, -len(flat) % 8 + 16)).reshape(-1, 8)
    return jnp.sum(flat << jnp.arange(8, dtype=jnp.uint32), axis=1).astype(jnp.uint8)


def unpack(packed, places, bits):
    """Reads packed numbers; see :func:`pack`.

    Args:
        packed: of :func:`pack`.
        places: integers [...], which numbers.
        bits: as they were packed with.

    Returns:
        int32 [...].
    """
    places = places.astype(jnp.int32)
    if bits == 8:
        return packed[places].astype(jnp.int32)
    inside = (places % 8) * bits  # eight numbers fill whole bytes, so that no product is large
    first = (places // 8) * bits + inside // 8
    window = sum(packed[first + k].astype(jnp.uint32) << (8 * k) for k in range(3))
    return ((window >> (inside % 8).astype(jnp.uint32)) & (2**bits - 1)).astype(jnp.int32)


def sparse_rows(table, keep):
    """Sparse rows: the entries of a table that are largest in magnitude, with their places.

    More entries than rows are stored as CSR, with a pointer for each row; fewer as COO, with the row of each
    entry. Columns take one byte up to a width of 256.

    >>> stored = sparse_rows(jnp.array([[0.0, 3.0], [1.0, 2.0]]), 2)
    >>> print(stored["values"], stored["columns"], stored["rows"])
    [3. 2.] [1 1] [0 1]
    >>> print(read_sparse(stored, jnp.array([1, 0]), 2))
    [[0. 2.]
     [0. 3.]]

    Args:
        table: [V, D].
        keep: int, how many entries are kept, 1 to V * D; ties go to the lowest place.

    Returns:
        {"values": [keep], "columns": uint8, uint16 or int32 [keep], and "starts" int32 [V + 1] or "rows"
        int32 [keep]}, row by row.
    """
    height, width = table.shape
    flat = table.reshape(-1)
    places = jnp.sort(jnp.argsort(-jnp.abs(flat), stable=True)[:keep])
    rows = (places // width).astype(jnp.int32)
    kind = jnp.uint8 if width <= 2**8 else jnp.uint16 if width <= 2**16 else jnp.int32
    stored = {"values": flat[places], "columns": (places % width).astype(kind)}
    if keep <= height + 1:
        return stored | {"rows": rows}
    return stored | {"starts": jnp.searchsorted(rows, jnp.arange(height + 1)).astype(jnp.int32)}


def read_sparse(stored, rows, width):
    """Reads sparse rows as dense ones; see :func:`sparse_rows`.

    Args:
        stored: of :func:`sparse_rows`.
        rows: integers [M]; a row outside the table reads zeros.
        width: D.

    Returns:
        [M, D].
    """
    if "starts" in stored:
        last = len(stored["starts"]) - 1
        inside = jnp.where((rows < 0) | (rows >= last), last, rows)
        first, end = stored["starts"][inside], stored["starts"][jnp.minimum(inside + 1, last)]
    else:
        first, end = (jnp.searchsorted(stored["rows"], rows, side=side) for side in ("left", "right"))
    places = first[:, None] + jnp.arange(min(width, len(stored["values"])), dtype=jnp.int32)
    values = stored["values"].at[places].get(mode="fill", fill_value=0)
    values = jnp.where(places < end[:, None], values, 0)
    columns = stored["columns"].at[places].get(mode="fill", fill_value=0).astype(jnp.int32)
    return jnp.einsum("mk,mkd->md", values, (columns[..., None] == jnp.arange(width)).astype(values.dtype))


def sparse_bytes(height, width, keep):
    """Bytes of sparse rows: a float32 and a column for each kept entry, and the rows.

    >>> sparse_bytes(100, 16, 300), sparse_bytes(100, 16, 50)
    (1904, 450)

    Args:
        height, width: of the table.
        keep: number of kept entries.

    Returns:
        int.
    """
    column = 1 if width <= 2**8 else 2 if width <= 2**16 else 4
    return keep * (4 + column) + 4 * (height + 1 if keep > height + 1 else keep)


def most_frequent(counts, sizes, share):
    """Frequent values: marks the given share of the values with the largest counts.

    >>> print(most_frequent({"a": [5, 1], "b": [7, 5]}, {"a": 2, "b": 2}, 0.5))
    [ True False  True False]

    Args:
        counts: {feature: numbers [size]}, at least 0: how often each value occurs in training.
        sizes: {feature: number of values}.
        share: number in [0, 1]; ``ceil(share * N)`` values are marked, of equal counts the lowest.

    Returns:
        bool [N], NumPy, in the order of ``sizes``.

    Raises:
        ValueError: for counts of another shape, that are not numbers of at least 0, or a share out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: is outside 0..1; give a share of the values")
    joined = joined_counts(counts, sizes)
    member = np.zeros(len(joined), bool)
    member[np.argsort(-joined, kind="stable")[: int(np.ceil(share * len(joined)))]] = True
    return member


def joined_counts(counts, sizes):
    """Counts of all values, [N] float64, one feature after the other."""
    missing = sorted(set(sizes) - set(counts))
    if missing:
        raise ValueError(f"counts: {missing} are missing; count the training ids of every feature")
    found = []
    for name, size in sizes.items():
        given = np.asarray(counts[name], np.float64)
        if given.shape != (size,):
            raise ValueError(f"counts: {name!r} has shape {given.shape}; give [{size}], one for each value")
        if not (np.isfinite(given).all() and (given >= 0).all()):
            raise ValueError(f"counts: {name!r} holds a number below 0 or not finite; count the training ids")
        found.append(given)
    return np.concatenate(found)
