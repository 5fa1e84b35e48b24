"""Sets of different lengths as one padded array of few shapes."""

import numpy as np


def rounded(length):
    """Rounds a length up to 8, 12, 16, 24, 32, 48, ...: few shapes, at most a third of padding.

    Args:
        length: a non-negative integer.
    """
    size = 8
    while size < length:
        size += size // 2 if size & (size - 1) == 0 else size // 3
    return size


def padded(sets, count, length):
    """Returns tokens float32 [count, length, D] and mask [count, length]; missing sets are empty.

    Args:
        sets: at least one array [T, D], at most ``count`` of them, none longer than ``length``.
        count: sets of the result.
        length: tokens of the result.
    """
    tokens = np.zeros((count, length, sets[0].shape[1]), np.float32)
    mask = np.zeros((count, length), bool)
    for row, rows in enumerate(sets):
        tokens[row, : len(rows)] = rows
        mask[row, : len(rows)] = True
    return tokens, mask
