"""What is done to files: one is damaged, or may not grow."""

import contextlib


def damaged(content, rng):
    """Bytes of a file with one wrong bit, a lost end, a piece from elsewhere in it, or nothing."""
    kind, changed = rng.integers(4), bytearray(content)
    if kind == 0 and changed:
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del changed[rng.integers(len(changed) + 1) :]
    elif kind == 2 and len(changed) > 8:
        start, place = rng.integers(len(changed) - 4, size=2)
        changed[place : place + 4] = changed[start : start + 4]
    elif kind == 3:
        changed.clear()
    return bytes(changed)


@contextlib.contextmanager
def room(size):
    """No file of this process grows beyond a size: the system says so as it does of a full disk."""
    import resource  # Windows has none

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
