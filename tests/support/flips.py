"""Files with one wrong bit, and what their reader says of it."""

import contextlib
import pathlib
import sys

import numpy as np
import pytest


@contextlib.contextmanager
def little_memory(extra=1 << 29):
    """Lets the process have half a gigabyte more than now; asking for more is an error."""
    resource = pytest.importorskip("resource")
    if not sys.platform.startswith("linux"):
        yield
        return
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def places(size, count, seed):
    """Bits of a file: each of its first bytes once, then at random."""
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([np.arange(min(size, count // 2)), rng.integers(size, size=count // 2)])
    return zip(drawn.tolist(), rng.integers(8, size=len(drawn)).tolist(), strict=True)


def silent(path, read, *, count=80, seed=0):
    """Flips bits of a file one after the other; returns those of which ``read`` says nothing.

    Args:
        path: the file, which is whole afterwards.
        read: function that opens and reads what belongs to it.
        count: bits that are flipped.
        seed: of their choice.

    Raises:
        AssertionError: for an error that is not a line that names a file of its folder and a remedy.
    """
    whole, quiet = path.read_bytes(), []
    with little_memory():
        for byte, bit in places(len(whole), count, seed):
            changed = bytearray(whole)
            changed[byte] ^= 1 << bit
            path.write_bytes(changed)
            try:
                read()
                quiet.append((path.name, byte, bit))
            except (ValueError, OSError) as error:
                said = str(error)
                assert "\n" not in said and "; " in said and str(path.parent) in said, (byte, bit, said)
    path.write_bytes(whole)
    return quiet
