"""The integer hash that host and device share."""

import numpy as np


def mix(h):
    """Scrambles 32-bit numbers: a bijection in which every input bit moves every output bit.

    >>> print(mix(np.array([0, 1, 2], np.uint32)))
    [         0 1364076727  821347078]

    Args:
        h: uint32 [...], NumPy or JAX.

    Returns:
        uint32 [...] of the same kind, the same bits on host and device.

    References:
        A. Appleby, MurmurHash3 (fmix32).
    """
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x85EBCA6B)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))
