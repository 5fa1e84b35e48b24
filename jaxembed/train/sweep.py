"""A sweep over settings that can be killed and started again."""

import contextlib
import hashlib
import json
import multiprocessing
import pathlib
import re

from jaxembed import files


def sweep(cells, compute, folder, *, processes=1, say=None):
    """Sweep: computes what each cell of a grid asks, once, however often it is killed and started again.

    A finished cell is a file, which appears in one step; it is not computed again. Several processes, also of
    several commands, share the work: who computes a cell holds a lock on it, and the system takes the lock
    back when the process ends, however it ends.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> print(sweep([{"x": 2}, {"x": 3}], lambda cell: cell["x"] ** 2, folder))
    [4, 9]
    >>> print(sweep([{"x": 2}, {"x": 3}], lambda cell: 1 / 0, folder))  # all is there
    [4, 9]

    Args:
        cells: list of dicts of JSON values, which name the cells.
        compute: ``cell -> JSON value``; with several processes a function of a module.
        folder: local path of the files, made if it is missing.
        processes: how many work here; each new one imports what ``compute`` needs. Where the first is killed,
            the others end with the cell at hand.
        say: optional ``(cell, its value)``, called here for each cell that this process computed.

    Returns:
        List of the values, in the order of the cells.

    Raises:
        ValueError: for NaN or an infinity in a value, which JSON has not, or a damaged file.
        Exception: what ``compute`` raises; the cells that are done stay.
    """
    folder = files.local_path(folder, "folder")
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    given = (cells, compute, folder)
    others = [context.Process(target=_work, args=given, daemon=True) for _ in range(processes - 1)]
    for other in others:
        other.start()
    try:
        _work(*given, say=say)
        for other in others:
            other.join()
        _work(*given, say=say, wait=True)  # what another left undone that ended early
    finally:
        for other in others:
            other.terminate()
    return [_value(cell_path(folder, cell)) for cell in cells]


def _value(path):
    remedy = "remove it, and it is computed again"
    found = files.read_json(path, remedy, sealed=True)
    if not isinstance(found, dict) or "value" not in found:
        raise ValueError(f"{path}: is not a cell of a sweep; {remedy}")
    return found["value"]


def _work(cells, compute, folder, say=None, wait=False):
    """Computes what is neither there nor computed elsewhere; with ``wait`` also waits for the latter."""
    parent = multiprocessing.parent_process()
    for cell in cells:
        path = cell_path(folder, cell)
        if path.exists() or (parent is not None and not parent.is_alive()):
            continue  # where the command was killed, its other processes end with the cell at hand
        with _locked(path.with_suffix(".lock"), wait) as mine:
            if mine and not path.exists():
                value = compute(cell)
                files.write_json(path, {"cell": cell, "value": value}, sealed=True)
                if say is not None:
                    say(cell, value)


@contextlib.contextmanager
def _locked(path, wait):
    """Whether this process holds the lock of a file now."""
    import fcntl  # not where Windows is

    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def cell_path(folder, cell):
    """The file of a cell: its name tells the cell, and a digest keeps apart those that read alike.

    >>> print(cell_path("runs", {"data": "toy", "rate": 0.1}).name)
    toy-0.1_43030918.json

    Args:
        folder: path.
        cell: dict of JSON values.

    Returns:
        ``pathlib.Path``.
    """
    words = "_".join(str(x) for x in cell.values() if isinstance(x, str | int | float))
    digest = hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:8]
    return pathlib.Path(folder) / f"{re.sub(r'[^a-zA-Z0-9.]+', '-', words)[:60]}_{digest}.json"
