"""Which data to keep: scores of pairs and texts, and the rows with the highest ones."""

import concurrent.futures
import functools
import math
import os

import numpy as np

from jaxembed.checks import check_whole, refuse_nan

MODES = ("global", "batchwise")
THREADS = min(8, os.cpu_count() or 1)  # that score pairs: a core alone does not read as fast as memory gives
SPAN = 32  # most chunks that a thread scores before it asks for more


def select(scores, budget, *, mode="global", batch_size=None, largest=True, ids=None):
    """Data selection: keeps the rows of a pool with the highest scores.

    "global" keeps the best of the whole pool. "batchwise" keeps the best of each batch of ``batch_size``
    rows that follow one another. Up to the end r of a batch, ``floor(budget r / N)`` rows are kept. So each
    batch gives its share, and all together give exactly the budget. Equal scores go to the lowest row.
    Duplicates have equal scores and are kept together; remove them before.

    >>> print(select([0.1, 0.9, 0.3, 0.8], 2), select([0.1, 0.9, 0.3, 0.8], 0.5, largest=False))
    [1 3] [0 2]
    >>> print(select([0.7, 0.9, 0.3, 0.2], 2, mode="batchwise", batch_size=2))
    [1 2]

    Args:
        scores: [N]; infinities are allowed.
        budget: int, the number of rows to keep; or float, their share of N, in (0, 1]. A share keeps
            ``floor(share N)`` rows, so 1 keeps one row and 1.0 keeps all.
        mode: "global" or "batchwise".
        batch_size: rows of a batch, the last one may be shorter. Shuffle an ordered pool before.
        largest: False keeps the lowest scores.
        ids: optional [N], distinct names of the rows, which are returned in place of their numbers.

    Returns:
        int64 [budget] row numbers, ascending, or their ``ids``. Shuffle them before training.

    Raises:
        ValueError: for NaN scores, a budget that is not in the pool, ids that repeat, another mode.

    References:
        A. Fang et al., arXiv:2309.17425; D. Brandfonbrener et al., arXiv:2406.10670. DataComp's rule for a
        share p keeps one row more: every score that is at least that of place floor(p N), counted from 0.
    """
    scores = _read_scores(scores)
    keep = rows_kept(budget, len(scores))
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}; choose one of {MODES}")
    if ids is not None:
        ids = _read_ids(ids, len(scores))
    if mode == "global":
        rows = _best(scores, keep, largest)
    else:
        check_whole(batch_size=batch_size)
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size}; pass at least 1")
        starts = range(0, len(scores), batch_size)
        kept = [keep * min(start + batch_size, len(scores)) // len(scores) for start in starts]
        quotas = np.diff(kept, prepend=0).tolist()
        parts = zip(starts, quotas, strict=True)
        found = [s + _best(scores[s : s + batch_size], quota, largest) for s, quota in parts]
        rows = np.concatenate(found)
    return rows if ids is None else ids[rows]


def _best(scores, keep, largest):
    """Rows [keep] with the best scores, ascending; ties go to the lowest row."""
    if keep in (0, len(scores)):
        return np.arange(keep)
    place = len(scores) - keep if largest else keep - 1  # counted from the lowest
    last = np.partition(scores, place)[place]
    rows = _where(np.greater_equal if largest else np.less_equal, scores, last, keep)
    surplus = len(rows) - keep
    return np.delete(rows, np.flatnonzero(scores[rows] == last)[-surplus:]) if surplus else rows


def _where(compare, scores, last, keep):
    """Rows for which a comparison holds, at least ``keep``.

    NumPy lists true values without branches where more than a tenth are true, four times as fast as where a
    little fewer are. So true values that no one asked for stand at the end, and are cut off.
    """
    extra = max(0, len(scores) // 8 - keep) if keep > len(scores) // 50 else 0
    true = np.ones(len(scores) + extra, bool)
    compare(scores, last, out=true[: len(scores)])
    rows = np.flatnonzero(true)
    return rows[: len(rows) - extra]


def streaming_threshold(chunks, budget, *, largest=True, memory=1 << 20):
    """Streaming quantile: the score from which on a pool keeps its budget, in one pass over the scores.

    The scores collect in sorted buffers of ``memory`` numbers. Two buffers of equal weight become one, of
    every second number, that counts double. The error is stated: with ``(threshold, error)``, at least
    ``budget - error`` scores of the pool reach the threshold and at most ``budget + error`` lie above it.
    A pool of at most ``memory`` scores has the error 0. Of N scores, about
    ``log2(N / memory) / memory / 4`` is the error as a share of the pool, and as many buffers are in memory.

    >>> chunks = (np.arange(100 * i, 100 * i + 100) for i in range(100))
    >>> print(streaming_threshold(chunks, 0.25), streaming_threshold([[1.0, 3.0, 2.0]], 2))
    (7500.0, 0) (2.0, 0)

    Args:
        chunks: iterable of [n] scores, such as :func:`score_pairs`; it is read once.
        budget: int, the number of rows to keep; or float, their share of the pool, in (0, 1].
        largest: False keeps the lowest scores, those of at most the threshold.
        memory: numbers of a buffer, even, at least 2.

    Returns:
        (threshold, error): a float, keep ``scores >= threshold``; and an int, in rows.

    Raises:
        ValueError: for NaN scores, a pool without rows, a budget that is not in the pool, an odd memory.

    References:
        J. I. Munro and M. S. Paterson, Theoretical Computer Science 12 (1980); G. S. Manku et al.,
        doi:10.1145/276304.276342. Which second number is kept alternates, which halves the error.
    """
    check_whole(memory=memory)
    if memory < 2 or memory % 2:
        raise ValueError(f"memory: {memory} numbers; pass an even number, at least 2")
    _check_budget(budget)
    levels, merges, waiting, held, count = [], [], [], 0, 0
    for chunk in chunks:
        chunk = _read_scores(chunk, count)
        chunk = chunk if chunk.dtype.kind == "f" else chunk.astype(np.float64)
        count, at = count + len(chunk), 0
        while at < len(chunk):
            part = chunk[at : at + memory - held]
            waiting.append(part.copy())
            at, held = at + len(part), held + len(part)
            if held == memory:
                _merge(levels, merges, np.sort(np.concatenate(waiting)))
                waiting, held = [], 0
    keep = rows_kept(budget, count)
    buffers = [(np.concatenate(waiting), 1)] if waiting else []
    buffers += [(buffer, 1 << i) for i, buffer in enumerate(levels) if buffer is not None]
    values = np.concatenate([buffer for buffer, _ in buffers])
    weights = np.concatenate([np.full(len(buffer), weight) for buffer, weight in buffers])
    order = np.argsort(-values if largest else values, kind="stable")
    place = np.searchsorted(np.cumsum(weights[order]), keep)
    error = sum((merged + 1) // 2 << i for i, merged in enumerate(merges))
    return float(values[order[place]]), error


def _merge(levels, merges, buffer):
    """Adds a full sorted buffer; two of one level become one of the next, as in binary addition."""
    level = 0
    while level < len(levels) and levels[level] is not None:
        both = np.sort(np.concatenate([levels[level], buffer]), kind="stable")
        buffer, levels[level] = both[merges[level] % 2 :: 2], None
        merges[level] += 1
        level += 1
    if level == len(levels):
        levels.append(None)
        merges.append(0)
    levels[level] = buffer


def pair_scores(first, second, *, chunk=1024):
    """CLIP score: the cosine of the two vectors of each pair, such as of a picture and its caption.

    Each core reads a chunk at a time, so memory-mapped vectors of any number need the memory of some chunks.
    With numkong (extra `data`) a chunk of float32 is read once; without it, three products read it from the
    cache.

    >>> print(pair_scores([[3.0, 4.0], [1.0, 0.0]], [[6.0, 8.0], [0.0, 2.0]]))
    [1. 0.]

    Args:
        first: [N, D] vectors of one side, of any length; half precision is widened chunk by chunk.
        second: [N, D], those of the other side.
        chunk: rows at a time.

    Returns:
        float32 [N]; float64 for float64 vectors.

    Raises:
        ValueError: for shapes that differ, and for a row that is not finite or all zeros.

    References:
        J. Hessel et al., arXiv:2104.08718; as a filter A. Fang et al., arXiv:2309.17425.
    """
    check_whole(chunk=chunk)
    if chunk < 1:
        raise ValueError(f"chunk: {chunk} rows; pass at least 1")
    first = read("first", first, (None, None))
    second = read("second", second, first.shape)
    scores = np.empty(len(first), np.result_type(np.float32, _float(first), _float(second)))
    span = chunk * max(1, min(SPAN, len(scores) // (4 * THREADS * chunk)))  # rows that a thread takes at once
    starts = range(0, len(scores), span)

    def score(start):
        _cosines(first[start : start + span], second[start : start + span], chunk, start, scores)

    if len(starts) < 2:
        for start in starts:
            score(start)
        return scores
    with concurrent.futures.ThreadPoolExecutor(min(len(starts), THREADS)) as threads:
        for _ in threads.map(score, starts):
            pass
    return scores


def _cosines(first, second, chunk, start, scores):
    """Writes the cosines of some pairs, of which the first is pair ``start`` of all, into ``scores``."""
    own = scores[start : start + len(first)]
    rest = _by_chunks(first, second, chunk, own)  # whose products may leave the dtype
    for n in range(0, len(rest), chunk):
        rows = rest[n : n + chunk]
        wide = np.empty((3, len(rows)))
        _products(first[rows].astype(np.float64), second[rows].astype(np.float64), wide)
        for name, squares in zip(("first", "second"), wide[1:], strict=True):
            if not (directed := _within(squares, np.finfo(float).tiny, np.inf)).all():
                row = start + int(rows[np.argmin(directed)])
                raise ValueError(
                    f"{name}: row {row} has no direction (zeros, NaN or inf); leave the pair out"
                )
        own[rows] = wide[0] / (np.sqrt(wide[1]) * np.sqrt(wide[2]))


def _by_chunks(first, second, chunk, own):
    """Writes cosines, chunk by chunk; gives the rows that are open, which are few in usual vectors."""
    angular = _angular() if own.dtype == np.float32 else None
    found = np.empty(len(own)) if angular else np.empty((3, len(own)), own.dtype)
    for n in range(0, len(own), chunk):
        sides = (z[n : n + chunk].astype(own.dtype, order="C", copy=False) for z in (first, second))
        if angular:
            angular(*sides, out=found[n : n + chunk])
        else:
            _products(*sides, found[:, n : n + chunk])
    if angular:
        usual = np.isfinite(found) & (found != 0) & (found != 1)  # 0 and 1 also stand for rows of zeros
        own[:] = 1 - found
    else:
        usual = _within(found[1:], 1e-30, 1e30).all(axis=0)
        found = np.where(usual, found, 1)
        own[:] = found[0] / (np.sqrt(found[1]) * np.sqrt(found[2]))
    return np.flatnonzero(~usual)


@functools.cache
def _angular():
    """numkong's ``1 - cosine``: reads float32 rows once, adds in float64; None where it is missing."""
    try:
        import numkong
    except ModuleNotFoundError:
        return None
    return numkong.angular


def _products(x, y, out):
    """Writes the products of the rows [n, D] of two sides, and of each with itself, to ``out`` [3, n]."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for one, other, found in zip((x, x, y), (y, x, y), out, strict=True):
            np.vecdot(one, other, out=found)


def _within(x, low, high):
    return (x > low) & (x < high)


def score_pairs(encode, batches):
    """Data filtering network: the scores of a stream of pairs, batch by batch.

    ``streaming_threshold(score_pairs(encode, batches), 0.15)`` is the cut of a network that keeps 15 % of a
    pool of any size, and ``select`` that of a pool whose scores fit into memory.

    >>> found = list(score_pairs(lambda batch: (batch, batch[:, ::-1]), [np.eye(2), np.ones((1, 2))]))
    >>> print(*found)
    [0. 0.] [1.]

    Args:
        encode: function batch -> (first [B, D], second [B, D]), the two towers of the network.
        batches: iterable of what ``encode`` takes.

    Returns:
        Iterator of scores [B], the cosines; it holds one batch at a time.

    References:
        A. Fang et al., arXiv:2309.17425.
    """
    for batch in batches:
        yield pair_scores(*encode(batch))


def filter_report(scores, clean, budget, *, largest=True):
    """Filter report: how clean the rows are that a filter keeps, where it is known which are.

    A perfect filter that keeps a share p of a pool with the clean share c has the precision min(1, c / p), a
    random one has c. The average precision over all budgets is ``metrics.pr_auc(clean, scores)``.

    >>> print(filter_report([0.9, 0.8, 0.4, 0.1], [1, 0, 1, 0], 1))
    {'kept': 1, 'clean': 0.5, 'precision': 1.0, 'best': 1.0, 'recall': 0.5}

    Args:
        scores: [N].
        clean: [N], 0 or 1, 1 for the rows that should be kept.
        budget: as :func:`select` takes it.
        largest: as in :func:`select`.

    Returns:
        Dict: "kept" rows, "clean" share of the pool, "precision" and "recall" of what is kept, and "best",
        the precision of a perfect filter.

    Raises:
        ValueError: as :func:`select`; for other numbers than 0 and 1, or none that is 1.

    References:
        A. Fang et al., arXiv:2309.17425.
    """
    rows = select(scores, budget, largest=largest)
    clean = read("clean", clean, (len(scores),))
    if not np.isin(clean, (0, 1)).all() or not clean.any():
        raise ValueError("clean: is not made of 0 and 1, or has no 1; mark at least one clean row")
    clean = clean.astype(bool)
    total, hits = int(clean.sum()), int(clean[rows].sum())
    return {
        "kept": len(rows),
        "clean": total / len(clean),
        "precision": hits / len(rows),
        "best": min(1.0, total / len(rows)),
        "recall": hits / total,
    }


def read(name, x, shape):
    """Returns what is given as a NumPy array of a shape, in which None is any length.

    Raises:
        ValueError: for another shape.
    """
    from jaxembed.arrays import check_shape, host  # JAX, which importing this room does not bring

    x = host(name, x)
    check_shape(name, x, shape)
    return x


def _read_scores(scores, before=0):
    """Scores as an array; a row that is NaN is named with the rows before this chunk."""
    scores = read("scores", scores, (None,))
    if scores.dtype.kind not in "iu":
        scores = scores.astype(_float(scores), copy=False)
    refuse_nan("scores", scores, before)
    return scores


def _float(x):
    """The float that NumPy sorts fast: float32 and float64 stay, everything else is widened."""
    if x.dtype in (np.float32, np.float64):
        return x.dtype
    return np.dtype(np.float32 if x.itemsize < 4 else np.float64)


def _read_ids(ids, count):
    ids = read("ids", ids, (count,))
    values, first, times = np.unique(ids, return_index=True, return_counts=True)
    if len(values) < count:
        again = ids[first[times > 1].min()].item()
        raise ValueError(f"ids: {again!r} occurs more than once; give each row its own id")
    return ids


def _check_budget(budget, name="budget"):
    share = isinstance(budget, float | np.floating)
    if share and not 0 < budget <= 1:
        raise ValueError(f"{name}: the share {budget} is not in (0, 1]; pass an int for a number of rows")
    if not share:
        check_whole(**{name: budget})
        if budget < 1:
            raise ValueError(f"{name}: {budget} rows; pass at least 1")
    return share


def rows_kept(budget, count, name="budget"):
    """The number of rows of a budget; rounding of floats does not cost one (0.29 of 100 are 29).

    Raises:
        ValueError: for a budget of no rows, or of more than ``count``.
    """
    share = _check_budget(budget, name)
    keep = math.floor(round(float(budget) * count, 6)) if share else int(budget)
    if not 1 <= keep <= count:
        raise ValueError(f"{name}: {budget} keeps {keep} of {count} rows; pass what keeps 1 to {count}")
    return keep
