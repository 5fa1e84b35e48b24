"""A disk that is full, as the system says it."""

import pytest

from experiments.reliability.faults import room


def state(folder):
    """Bytes of all files that are neither the system's nor a lock."""
    return {p: p.read_bytes() for p in folder.rglob("[!.]*") if p.is_file()}


def fails(folder, call, sizes):
    """Calls with little room; each call ends in one line and leaves the files as they were."""
    pytest.importorskip("resource")
    before = state(folder)
    for size in sizes:
        with room(size), pytest.raises(OSError, match="could not be written .*; make room, or") as error:
            call()
        assert "\n" not in str(error.value) and str(error.value).startswith(str(folder))
        assert state(folder) == before and not list(folder.rglob("*.new")), size
