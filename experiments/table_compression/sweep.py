"""A sweep that can be killed: each cell is a file of its own, and whoever comes next does what is left."""

import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import pathlib
import re

from jaxembed import files


def run(cells, compute, folder, processes=1):
    """Computes the cells that are not there yet, and returns {cell: its JSON value}.

    Several processes, also of several commands, share the work: who computes a cell holds a lock on it, which
    the system takes back when the process ends, however it ends. A cell appears in one step.

    Args:
        cells: list of dicts of JSON values; one names a cell.
        compute: ``cell -> JSON value``, a function of a module.
        folder: of the cells.
        processes: how many work here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others = [
        multiprocessing.get_context("spawn").Process(target=work, args=(cells, compute, folder), daemon=True)
        for _ in range(processes - 1)
    ]
    for other in others:
        other.start()
    work(cells, compute, folder)
    for other in others:
        other.join()
    work(cells, compute, folder, wait=True)  # what a process left undone that ended early
    return [json.loads(path_of(folder, cell).read_text()) for cell in cells]


def work(cells, compute, folder, wait=False):
    """Computes what is neither there nor computed elsewhere; with ``wait`` also waits for the latter."""
    for cell in cells:
        path = path_of(folder, cell)
        if path.exists():
            continue
        with locked(path.with_suffix(".lock"), wait) as mine:
            if mine and not path.exists():
                found = compute(cell)
                files.write_json(path, found)
                print(f"{path.stem}: {found.get('said', 'done')}", flush=True)


@contextlib.contextmanager
def locked(path, wait):
    """Whether this process holds the lock of a file now."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def path_of(folder, cell):
    """The file of a cell; its name tells the cell, and a digest keeps apart those that read alike."""
    text = json.dumps(cell, sort_keys=True)
    words = re.sub(
        r"[^\w.]+", "-", "_".join(str(x) for x in cell.values() if isinstance(x, str | int | float))
    )
    return pathlib.Path(folder) / f"{words[:60]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
