"""Compact arrays that are read in place: bitmaps with ranks, packed codes, sparse rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

WORD = 32
PIECES = 4  # of the rows whose codes are decoded before they are used


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
    """Packed numbers: writes the small integers of each row one after the other; :func:`unpack` reads them.

    >>> packed = pack(jnp.array([[5, 0, 63, 7], [1, 2, 3, 4]]), 6)
    >>> print(packed.shape, unpack(packed, jnp.array([1, 0]), 4, 6))
    (2, 3) [[ 1  2  3  4]
     [ 5  0 63  7]]

    Args:
        numbers: integers [N, S] in 0..2**bits - 1.
        bits: 1 to 16.

    Returns:
        uint8 [N, ceil(S bits / 8)]: rows begin at whole bytes.
    """
    spread = (numbers.astype(jnp.uint32)[..., None] >> jnp.arange(bits, dtype=jnp.uint32)) & 1
    flat = spread.reshape(len(numbers), -1)
    flat = jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % 8))).reshape(len(numbers), -1, 8)
    return jnp.sum(flat << jnp.arange(8, dtype=jnp.uint32), axis=2).astype(jnp.uint8)


def unpack(packed, rows, parts, bits):
    """Reads rows of packed numbers; see :func:`pack`.

    Args:
        packed: of :func:`pack`.
        rows: integers [M], which rows.
        parts: S, numbers of a row.
        bits: as they were packed with.

    Returns:
        int32 [M, S].
    """
    found = jax.lax.optimization_barrier(packed[rows])  # else each number would gather its row anew
    found = jnp.pad(found, ((0, 0), (0, 2))).astype(jnp.uint32)
    first, shift = np.divmod(np.arange(parts, dtype=np.uint32) * np.uint32(bits), np.uint32(8))
    window = sum(found[:, first + k] << np.uint32(8 * k) for k in range(3))
    return ((window >> shift) & np.uint32(2**bits - 1)).astype(jnp.int32)


def decoded(function, rows):
    """Applies a function of rows in a few pieces, so that its results lie in memory before they are used.

    A compiler for CPUs otherwise joins the decoding of codes with the gather that reads them. It then decodes
    each code once more for every number that the gather reads.

    >>> print(decoded(lambda rows: rows[:, None] * jnp.arange(3), jnp.array([1, 2, 3])))
    [[0 1 2]
     [0 2 4]
     [0 3 6]]

    Args:
        function: ``integers [m] -> tree of arrays [m, ...]``, row by row.
        rows: integers [M].

    Returns:
        tree of arrays [M, ...].
    """
    if len(rows) < 64 * PIECES:
        return function(rows)
    size = -(-len(rows) // PIECES)
    padded = jnp.pad(rows, (0, PIECES * size - len(rows)))

    def add(k, whole):
        piece = function(jax.lax.dynamic_slice_in_dim(padded, k * size, size))
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=k * size, axis=0)
        return jax.tree.map(put, whole, piece)

    shapes = jax.eval_shape(function, padded[:size])
    empty = jax.tree.map(lambda x: jnp.zeros((PIECES * size, *x.shape[1:]), x.dtype), shapes)
    whole = jax.lax.fori_loop(0, PIECES, add, empty)
    return jax.tree.map(lambda x: x[: len(rows)], whole)


def sparse_rows(table, keep):
    """Sparse rows: the entries of a table that are largest in magnitude, and a bitmap of their places.

    A bit says of each entry whether it is kept, and ranks say which value is its own (:func:`rank_bits`):
    ``V P / 4`` bytes, where P is D raised to a power of two below 32 or a multiple of 32. Where fewer bytes
    result, rows without a kept entry are left out of that bitmap, and a second one says which these are. The
    columns of CSR would take a byte for each entry and a search; a bitmap of 16 columns is smaller than that
    and is read at once.

    >>> stored = sparse_rows(jnp.array([[0.0, 3.0], [1.0, 2.0]]), 2)
    >>> print(stored["values"], stored["flags"]["words"])
    [3. 2.] [10]
    >>> print(read_sparse(stored, jnp.array([1, 0]), 2))
    [[0. 2.]
     [0. 3.]]

    Args:
        table: [V, D].
        keep: int, how many entries are kept, 1 to V * D; ties go to the lowest place.

    Returns:
        {"values": [keep] row by row, "flags": {"words", "before"}}, and "rows": {"words", "before"} where
        rows are left out.
    """
    height, width = table.shape
    flat = table.reshape(-1)
    places = jnp.sort(jnp.argsort(-jnp.abs(flat), stable=True)[:keep])
    flags = jnp.zeros(flat.shape, bool).at[places].set(True).reshape(height, width)
    flags = jnp.pad(flags, ((0, 0), (0, _padded(width) - width)))
    stored = {"values": flat[places]}
    if not _two_levels(height, width, keep):
        return stored | {"flags": rank_bits(flags.reshape(-1))}
    some = jnp.any(flags, axis=1)
    target = jnp.where(some, jnp.cumsum(some) - 1, height)
    packed = jnp.zeros((min(keep, height), flags.shape[1]), bool).at[target].set(flags, mode="drop")
    return stored | {"flags": rank_bits(packed.reshape(-1)), "rows": rank_bits(some)}


def _padded(width):
    """Bits of a row: rows do not straddle words, and words do not straddle rows of 32 and more."""
    return -(-width // WORD) * WORD if width > WORD else 2 ** (width - 1).bit_length()


def _two_levels(height, width, keep):
    return sparse_bytes(height, width, keep, levels=2) < sparse_bytes(height, width, keep, levels=1)


def read_sparse(stored, rows, width):
    """Reads sparse rows as dense ones; see :func:`sparse_rows`.

    Args:
        stored: of :func:`sparse_rows`.
        rows: integers [M] below V; a negative one reads zeros.
        width: D.

    Returns:
        [M, D].
    """
    bits = _padded(width)

    def head(rows):
        """The bits of a row [m, words], and how many entries come before those of each word."""
        some = rows >= 0
        if "rows" in stored:
            inside, rows = rank(stored["rows"], rows)
            some = some & inside
        first = jnp.where(some, rows, 0) * bits if bits < WORD else jnp.where(some, rows, 0) * (bits // WORD)
        word = (first // WORD if bits < WORD else first)[:, None] + jnp.arange(max(1, bits // WORD))
        words, before = stored["flags"]["words"][word], stored["flags"]["before"][word]
        shift = (first % WORD).astype(jnp.uint32)[:, None] if bits < WORD else jnp.uint32(0)
        below = words & ((jnp.uint32(1) << shift) - 1)
        own = jnp.where(some[:, None], words >> shift, 0)
        return own, before + jax.lax.population_count(below).astype(jnp.int32)

    own, start = decoded(head, rows)
    lanes = jnp.arange(min(bits, WORD), dtype=jnp.uint32)
    kept = (own[..., None] >> lanes) & 1 == 1
    ranks = jax.lax.population_count(own[..., None] & ((jnp.uint32(1) << lanes) - 1)).astype(jnp.int32)
    places = jnp.where(kept, start[..., None] + ranks, 0).reshape(len(rows), -1)[:, :width]
    values = stored["values"].at[places].get(mode="promise_in_bounds")
    return jnp.where(kept.reshape(len(rows), -1)[:, :width], values, 0)


def sparse_bytes(height, width, keep, levels=None):
    """Bytes of sparse rows: a float32 for each kept entry, and the bitmaps.

    >>> sparse_bytes(100, 16, 300), sparse_bytes(100, 16, 50)
    (1600, 432)

    Args:
        height, width: V and D of the table [V, D].
        keep: number of kept entries.
        levels: 1 for a bitmap of all rows, 2 for one of rows that have an entry; None for the smaller.

    Returns:
        int.
    """
    if levels is None:
        return min(sparse_bytes(height, width, keep, n) for n in (1, 2))
    rows = height if levels == 1 else min(keep, height)
    above = 8 * -(-height // WORD) if levels == 2 else 0
    return 4 * keep + 8 * -(-rows * _padded(width) // WORD) + above


def most_frequent(counts, sizes, top):
    """Frequent values: marks the given share of the values with the largest counts.

    >>> print(most_frequent({"a": [5, 1], "b": [7, 5]}, {"a": 2, "b": 2}, 0.5))
    [ True False  True False]

    Args:
        counts: {feature: numbers [size]}, at least 0: how often each value occurs in training.
        sizes: {feature: number of values}.
        top: share in [0, 1]; ``ceil(top * N)`` values are marked, of equal counts the lowest.

    Returns:
        bool [N], NumPy, in the order of ``sizes``.

    Raises:
        ValueError: for counts of another shape, that are not numbers of at least 0, or a share out of range.
    """
    if not 0 <= top <= 1:
        raise ValueError(f"top={top}: is outside 0..1; give a share of the values")
    joined = joined_counts(counts, sizes)
    member = np.zeros(len(joined), bool)
    member[np.argsort(-joined, kind="stable")[: int(np.ceil(top * len(joined)))]] = True
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
