"""A disk that is full, as the system says it."""

import contextlib

import pytest


@contextlib.contextmanager
def room(size):
    """No file grows beyond a size: the system says so as it does of a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def state(folder):
    """Bytes of all files that are neither the system's nor a lock."""
    return {p: p.read_bytes() for p in folder.rglob("[!.]*") if p.is_file()}


def fails(folder, call, sizes):
    """Calls with little room; each call ends in one line and leaves the files as they were."""
    before = state(folder)
    for size in sizes:
        with room(size), pytest.raises(OSError, match="could not be written .*; make room, or") as error:
            call()
        assert "\n" not in str(error.value) and str(error.value).startswith(str(folder))
        assert state(folder) == before and not list(folder.rglob("*.new")), size
