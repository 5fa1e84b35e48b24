"""Records → batches that are a pure function of (seed, step)."""

import functools

import numpy as np

from jaxembed.data.click_tables import take
from jaxembed.extras import brings


def _stack(records, path=""):
    if isinstance(records[0], dict):
        for record in records:
            if not isinstance(record, dict) or record.keys() != records[0].keys():
                raise ValueError(f"records differ in the leaves below {path or 'the top'!r}; pass make=")
        return {key: _stack([r[key] for r in records], f"{path}/{key}".lstrip("/")) for key in records[0]}
    if not path:
        raise ValueError(f"records hold {type(records[0]).__name__}, not dicts of leaves; pass make=")
    try:
        return np.stack([np.asarray(leaf) for leaf in records])
    except ValueError:
        raise ValueError(f"leaf {path!r} is ragged; pass make= and pad it there") from None


def _collate(rows, *, records, make, process, processes):
    share = len(rows) // processes
    return make([records[int(i)] for i in rows[process * share : (process + 1) * share]])


@functools.lru_cache(maxsize=2)
def _order(n, seed, epoch):
    return np.random.default_rng((seed, epoch)).permutation(n)


def _cut(step, place, *, records, make, size, order, steps, process, processes):
    """The batch of an array: ``place`` is the step within its epoch."""
    rows = np.arange(place * size, min((place + 1) * size, len(records)))
    if order is not None:
        rows = _order(len(records), order, step // steps)[rows]
    share = len(rows) // processes
    return make(records[rows[process * share : (process + 1) * share]])


def _arrays(columns, path=""):
    """A nested dict with every leaf a NumPy array, and {path: length} of them."""
    arrays, lengths = {}, {}
    for name, leaf in columns.items():
        place = f"{path}/{name}".lstrip("/")
        if isinstance(leaf, dict):
            arrays[name], found = _arrays(leaf, place)
            lengths |= found
            continue
        try:
            arrays[name] = np.asarray(leaf)
        except ValueError:
            raise ValueError(f"records: {place!r} is ragged; pad it, or pass a list of records") from None
        if not arrays[name].ndim:
            raise ValueError(f"records: {place!r} is {type(leaf).__name__}; pass a dict of arrays [N, ...]")
        lengths[place] = len(arrays[name])
    return arrays, lengths


def _columns(columns, make):
    """The row numbers of a dict of arrays, and what makes a batch of some of them."""
    columns, lengths = _arrays(columns)
    if len(set(lengths.values())) > 1:
        raise ValueError(f"records: the arrays differ in length, {lengths}; cut them to one length")
    cut = functools.partial(take, columns)
    return np.arange(next(iter(lengths.values()), 0)), functools.partial(_made, cut, make)


def _made(cut, make, rows):
    return cut(rows) if make is None else make(cut(rows))


def _check(n, size, drop_remainder, process, processes):
    if n == 0:
        raise ValueError("records is empty; check the split or the filter that made it")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if size > n and drop_remainder:
        raise ValueError(f"size={size} exceeds the {n} records; lower size or pass drop_remainder=False")
    if not 0 <= process < processes:
        raise ValueError(f"process={process} must be in 0..{processes - 1}; check processes={processes}")
    if size % processes:
        raise ValueError(f"size={size} does not divide among {processes} processes; choose a multiple")
    if not drop_remainder and n % size % processes:
        raise ValueError(f"the last {n % size} records do not divide among {processes} processes; drop them")


def batches(
    records, size, *, make=None, seed=0, shuffle=True, drop_remainder=True, process=None, processes=None
):
    """Batches: cuts records into an endless sequence of which ``ds[t]`` is the batch of step t.

    Each epoch is a new permutation of the records, drawn from (seed, epoch) and cut into batches of ``size``.
    What remains is dropped; in the next epoch that is other records. With P processes, process p returns rows
    ``p * size / P`` up to ``(p + 1) * size / P`` of the global batch. Put together in the order of processes,
    these parts are the batch of one process alone.

    >>> ds = batches([{"x": i} for i in range(5)], 2, shuffle=False, process=0, processes=1)
    >>> print([ds[t]["x"].tolist() for t in range(4)])
    [[0, 1], [2, 3], [0, 1], [2, 3]]

    Args:
        records: anything with ``len`` and ``[]``. An array, of row numbers for example, is cut as a whole
            without a loop over records: ``make`` gets an array and must be given, and 8 bytes per record
            hold the permutation of an epoch. A dict of arrays [N, ...], also a nested one, is cut in the
            same way by :func:`take`: ``make`` gets the dict of a batch, which is the batch when None.
        size: the rows of the global batch.
        make: turns a list of records into a dict of NumPy arrays; stacks the leaves of dicts when None.
        seed: int >= 0.
        shuffle: False keeps the order of the records.
        drop_remainder: False keeps a shorter last batch in each epoch.
        process: p, ``jax.process_index()`` when None.
        processes: P, ``jax.process_count()`` when None.

    Returns:
        grain.MapDataset. Element t depends on (seed, t) alone.

    Raises:
        ValueError: for no records, fewer than ``size``, or a number of rows that the processes do not divide.
            For columns of different lengths or a DataFrame. On reading, a ragged leaf is named.
    """
    import jax

    with brings("data"):
        import grain
    if isinstance(records, dict):
        records, make = _columns(records, make)
    elif hasattr(records, "columns"):
        kind = type(records).__name__
        raise ValueError(f"records: {kind} has columns, not records; pass {{column: NumPy array [N]}}")
    processes = jax.process_count() if processes is None else processes
    process = jax.process_index() if process is None else process
    _check(len(records), size, drop_remainder, process, processes)
    parts = {"records": records, "process": process, "processes": processes}
    if isinstance(records, np.ndarray):
        if make is None:
            raise ValueError(
                "make: records is an array; pass the function that turns rows of it into a batch"
            )
        np.random.SeedSequence(seed)  # refuses a negative seed here rather than at the first batch
        steps = len(records) // size if drop_remainder else -(-len(records) // size)
        cut = functools.partial(
            _cut, make=make, size=size, order=seed if shuffle else None, steps=steps, **parts
        )
        return grain.MapDataset.range(steps).repeat().map_with_index(cut)
    order = grain.MapDataset.range(len(records))
    if shuffle:  # grain adds the epoch to the seed, so neighbouring seeds are spread first
        order = order.shuffle(seed=int(np.random.SeedSequence(seed).generate_state(1)[0]))
    steps = order.batch(size, drop_remainder=drop_remainder).repeat()
    return steps.map(functools.partial(_collate, make=make or _stack, **parts))
