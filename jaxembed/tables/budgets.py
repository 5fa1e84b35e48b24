"""Budgets: the setting of a method at which it takes the bytes that were asked for."""

import numpy as np

from jaxembed.tables.methods import storage_bytes

CLOSE = 0.999  # of the bytes asked for: near enough where the setting is a float
MOST = 2**31


def within(make, bytes, *, low=1, high=None, tolerance=0.01):
    """Budget: solves the one free setting of a method for the bytes that it takes when stored.

    Returns the method of the most bytes that are not above those asked for (:func:`storage_bytes`), if these
    are at least 99 % of them. Else it returns that of the next more bytes, if these are at most 101 %. Some
    settings have few steps: the rank of a tensor train, the units of a deep hash. With a ``tolerance`` of 0.1
    they too meet any budget above their floor.

    >>> from jaxembed.tables import hash_table
    >>> method = within(lambda rows: hash_table(1000, 4, rows=rows), 1000)
    >>> print(method.settings["plan"]["rows"], storage_bytes(method))
    62 992

    Args:
        make: ``setting -> Method``; its bytes grow with the setting, or fall with it. A setting at which it
            raises ValueError is out of range.
        bytes: those asked for.
        low: least setting. An int solves over ints, a float over floats.
        high: largest setting; None with ints tries ever larger ones.
        tolerance: share of the bytes by which the method may differ.

    Returns:
        :class:`~jaxembed.tables.Method`.

    Raises:
        ValueError: for no number of bytes, a tolerance below 0, bytes below what the method takes at least,
            above what it takes at most, or between two settings that are both further away than the
            tolerance. It names those bytes, and the least.
    """
    check_bytes(bytes)
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance}; give a number of at least 0")
    whole = isinstance(low, int | np.integer)
    if not whole and high is None:
        raise ValueError("high=None: a float setting needs both ends; give low and high")
    known, errors = {}, []

    def size(setting):
        if setting not in known:
            try:
                method = make(setting)
                known[setting] = storage_bytes(method), method
            except ValueError as error:
                errors.append(error)
                known[setting] = None
        return known[setting] and known[setting][0]

    ends = _doubled(size, int(low), high, bytes) if whole else (low, high)
    feasible = [found for found in (size(end) for end in ends) if found is not None]
    if not feasible:
        raise errors[-1]
    if len(feasible) == 2 and feasible[0] > feasible[1]:
        ends = ends[::-1]  # bytes fall with the setting
    _bisect(size, *ends, bytes, whole)
    return _chosen([found for found in known.values() if found is not None], bytes, tolerance)


def check_bytes(bytes):
    """Refuses what is not a number of bytes above 0; no arrays.

    >>> check_bytes(1e6)

    Args:
        bytes: int or float.

    Raises:
        ValueError: with what was given.
    """
    if isinstance(bytes, bool) or not isinstance(bytes, int | float | np.number) or not bytes > 0:
        raise ValueError(f"bytes={bytes!r}; give a number above 0")


def _doubled(size, low, high, bytes):
    """The least setting and one that is out of range or takes too many bytes."""
    if high is not None:
        return low, int(high)
    setting = low
    while setting < MOST:
        found = size(setting)
        if found is not None and found > bytes:
            break
        setting = max(2 * setting, 1)
    return low, setting


def _bisect(size, small, large, bytes, whole):
    """Tries settings between one of few and one of many bytes."""
    works = [small] if size(small) is not None else []
    for _ in range(64):
        middle = (small + large) // 2 if whole else (small + large) / 2
        if middle in (small, large):
            return
        found = size(middle)
        if found is None:  # out of range: on the side of few bytes, unless fewer have been seen to work
            fewer = any(min(small, middle) <= setting <= max(small, middle) for setting in works)
        else:
            works.append(middle)
            fewer = found > bytes
            if not whole and CLOSE * bytes <= found <= bytes:
                return
        small, large = (small, middle) if fewer else (middle, large)


def _chosen(found, bytes, tolerance):
    below = max((f for f in found if f[0] <= bytes), key=lambda f: f[0], default=None)
    above = min((f for f in found if f[0] > bytes), key=lambda f: f[0], default=None)
    name = found[0][1].settings["method"]
    if below is None and above[0] > (1 + tolerance) * bytes:
        raise ValueError(f"bytes={bytes}: {name} takes at least {above[0]} bytes here; give as many or more")
    if below is not None and below[0] >= (1 - tolerance) * bytes:
        return below[1]
    if above is not None and above[0] <= (1 + tolerance) * bytes:
        return above[1]
    if above is None:
        raise ValueError(f"bytes={bytes}: {name} takes at most {below[0]} bytes here; give as many or fewer")
    floor = min(f[0] for f in found)
    raise ValueError(
        f"bytes={bytes}: {name} takes {below[0]} or {above[0]} bytes here, its next sizes, and {floor} at "
        "least; give one of them, or raise the tolerance"
    )
