"""Sequences and sets of different lengths as padded arrays of few shapes."""

import numpy as np

from jaxembed import extras


def bucket(length):
    """Length bucket: rounds a length up to a multiple of 8, or one of four steps per doubling from 64 on.

    >>> print([bucket(n) for n in (1, 9, 64, 65, 130)])
    [8, 16, 64, 80, 160]

    Args:
        length: int >= 0.

    Returns:
        int, at least 8 and less than ``length + max(8, length / 4)``.
    """
    step = max(8, 1 << max(0, (max(length, 1) - 1).bit_length() - 3))
    return max(step, -(-length // step) * step)


def pad(sequences, length=None, *, count=None, value=0, dtype=np.int32):
    """Padding: writes sequences into the rows of one array and marks what is real.

    ``array[b, t] = sequences[b][t]`` where ``mask[b, t]`` and ``value`` elsewhere. Longer sequences are cut.

    >>> array, mask = pad([[1, 2, 3], [4]], 2)
    >>> print(array.tolist(), mask.tolist())
    [[1, 2], [4, 0]] [[True, True], [True, False]]

    Args:
        sequences: at most B sequences of numbers [T], or of rows [T, D] of one width. An empty one fits both.
        length: T; the longest sequence when None.
        count: B; the number of sequences when None. Missing rows are empty.
        value: what fills the rest.
        dtype: of the array.

    Returns:
        array [B, T] or [B, T, D], and mask bool [B, T].

    Raises:
        ValueError: when sequences differ in rank or width, ``count`` is too small, or ``dtype`` does not hold
            their numbers.
    """
    rows = [np.asarray(row if len(row) else np.zeros(np.shape(row), dtype)) for row in sequences]
    count = len(rows) if count is None else count
    if len(rows) > count:
        raise ValueError(f"count: {count} is below the {len(rows)} sequences; pass a larger one")
    tail = next((row.shape[1:] for row in rows if row.size), rows[0].shape[1:] if rows else ())
    length = max((len(row) for row in rows), default=0) if length is None else length
    array, mask = np.full((count, length, *tail), value, dtype), np.zeros((count, length), bool)
    for b, row in enumerate(rows):
        if row.ndim not in (1, 2) or (row.size and row.shape[1:] != tail):
            raise ValueError(f"sequences[{b}] has shape {row.shape}; pass [T], or [T, D] of one width")
        row = row[:length] if len(row) else np.zeros((0, *tail), dtype)
        with np.errstate(invalid="ignore"):
            array[b, : len(row)] = row
        if array.dtype.kind in "iub" and not np.array_equal(array[b, : len(row)], row):
            raise ValueError(f"sequences[{b}] does not fit dtype={array.dtype.name}; pass another dtype")
        mask[b, : len(row)] = True
    return array, mask


def set_batch(tokens, offsets, start, stop, *, count=None, length=None, dtype=None):
    """Padded sets: some of many sets that follow one another, padded to one length.

    >>> tokens, mask = set_batch(np.arange(6.0).reshape(3, 2), np.array([0, 1, 3]), 0, 2)
    >>> print(tokens.shape, mask.tolist())
    (2, 2, 2) [[True, False], [True, True]]

    Args:
        tokens: [S, ...], all rows of all sets; may be memory-mapped.
        offsets: int [N + 1]. Set n is ``tokens[offsets[n] : offsets[n + 1]]``.
        start, stop: which sets.
        count: B, default stop - start; the sets beyond are empty.
        length: T, default that of the longest of these sets.
        dtype: of the result, default that of ``tokens``.

    Returns:
        tokens [B, T, ...] and mask bool [B, T].

    Raises:
        ValueError: when a set is longer than ``length``, ``count`` is too small, a number names no set, or
            the offsets fall or go beyond the tokens.
    """
    if not 0 <= start <= stop < len(offsets):
        raise ValueError(f"start, stop: {start}..{stop} is outside 0..{len(offsets) - 1}, the number of sets")
    bounds = np.asarray(offsets[start : stop + 1], np.int64)
    lengths = np.diff(bounds)
    if bounds[0] < 0 or bounds[-1] > len(tokens) or (lengths < 0).any():
        raise ValueError(
            f"offsets: fall, or leave the {len(tokens)} rows of tokens; pass where each set ends"
        )
    longest = int(lengths.max(initial=0))
    length = longest if length is None else length
    if longest > length:
        raise ValueError(f"length: {length} is below the {longest} rows of a set; pass a larger one")
    count = stop - start if count is None else count
    if count < stop - start:
        raise ValueError(f"count: {count} is below the {stop - start} sets; pass a larger one")
    mask = np.zeros((count, length), bool)
    mask[: stop - start] = np.arange(length) < lengths[:, None]
    rows = np.asarray(tokens[int(bounds[0]) : int(bounds[-1])], dtype)
    padded = np.zeros((count, length, *rows.shape[1:]), rows.dtype)
    padded[mask] = rows
    return padded, mask


def segment_places(starts, counts):
    """Ragged gather: the places of segments of a flat array, one segment after the other.

    ``values[segment_places(starts, counts)]`` joins ``values[starts[n] : starts[n] + counts[n]]`` of all n.

    >>> print(segment_places(np.array([4, 0]), np.array([2, 3])))
    [4 5 0 1 2]

    Args:
        starts: int [N].
        counts: int [N], at least 0.

    Returns:
        int64 [sum of counts].
    """
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(np.sum(counts))


def map_sets(function, tokens, offsets, *, batch_size=128, progress=False):
    """Ragged map: applies a function to all sets, batch by batch in padded arrays of one shape.

    >>> tokens, offsets = np.ones((3, 2)), np.array([0, 1, 3])
    >>> print(map_sets(lambda x, mask: x.sum(axis=(1, 2)), tokens, offsets, batch_size=2))
    [2. 4.]

    Args:
        function: ``(tokens [B, T, D], mask [B, T]) -> [B, ...]``; padding holds zeros.
        tokens: [S, D], all rows of all sets; may be memory-mapped.
        offsets: int [N + 1]. Set n is ``tokens[offsets[n] : offsets[n + 1]]``.
        batch_size: B. A last batch is filled with empty sets.
        progress: show a bar when a person watches.

    Returns:
        [N, ...], in the order of the sets.

    Raises:
        ValueError: for no sets, a batch size below 1, or offsets as in :func:`set_batch`.
    """
    count = len(offsets) - 1
    if count < 1 or batch_size < 1:
        raise ValueError(f"{count} sets in batches of {batch_size}: pass at least one of each")
    starts, found = range(0, count, batch_size), []
    length = int(np.diff(np.asarray(offsets)).max())
    with extras.bar(len(starts), watched=progress, unit="batch") as bar:
        for start in starts:
            stop = min(start + batch_size, count)
            given = set_batch(tokens, offsets, start, stop, count=batch_size, length=length, dtype=np.float32)
            found.append(np.asarray(function(*given))[: stop - start])
            bar.update(1)
    return np.concatenate(found)
