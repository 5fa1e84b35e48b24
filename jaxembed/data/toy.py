"""Generated data on which a method can be seen to work, or not, in seconds."""

import numpy as np


def needles(seed, *, count=128, length=32, keys=20, noise=500):
    """Needle-in-noise toy data: one token of a text is its label, all others are noise.

    Ids below ``keys`` are keys, the next ``noise`` ids are noise. A text holds one key at a random place, and
    its id is the label. A mean over the tokens hardly shows it.

    >>> batch = needles(0, count=2, length=4, keys=3, noise=5)
    >>> print(batch["ids"].tolist(), batch["labels"].tolist())
    [[7, 6, 0, 4], [4, 3, 3, 2]] [0, 2]

    Args:
        seed: int, or a NumPy ``Generator`` that every call draws from anew.
        count: B texts.
        length: T tokens of each.
        keys: number of labels, each as likely as the others.
        noise: number of other tokens.

    Returns:
        {"ids": int32 [B, T], "labels": int32 [B]}.

    Raises:
        ValueError: for a size below 1.
    """
    _check_sizes(count=count, length=length, keys=keys, noise=noise)
    rng = np.random.default_rng(seed)
    ids = keys + rng.integers(noise, size=(count, length))
    labels = rng.integers(keys, size=count)
    ids[np.arange(count), rng.integers(length, size=count)] = labels
    return {"ids": ids.astype(np.int32), "labels": labels.astype(np.int32)}


def both_ends(seed, *, count=128, length=12, letters=8):
    """First-equals-last toy data: the label says whether a text ends with the letter it began with.

    Half of the texts do, on average. An encoder whose tokens read only what is before them knows the answer
    at the last token alone.

    >>> batch = both_ends(0, count=2, length=4, letters=5)
    >>> print(batch["ids"].tolist(), batch["labels"].tolist())
    [[4, 3, 2, 2], [1, 0, 0, 1]] [0, 1]

    Args:
        seed: int, or a NumPy ``Generator`` that every call draws from anew.
        count: B texts.
        length: T letters of each, at least 2.
        letters: number of letters, at least 2, each as likely as the others.

    Returns:
        {"ids": int32 [B, T], "labels": int32 [B], 1 where the first letter is the last}.

    Raises:
        ValueError: for no texts, or fewer than two letters or places.
    """
    _check_sizes(count=count)
    _check_sizes(2, length=length, letters=letters)
    rng = np.random.default_rng(seed)
    ids = rng.integers(letters, size=(count, length))
    labels = rng.integers(2, size=count)
    ids[:, -1] = (ids[:, 0] + (1 - labels) * rng.integers(1, letters, size=count)) % letters
    return {"ids": ids.astype(np.int32), "labels": labels.astype(np.int32)}


def _check_sizes(least=1, **sizes):
    for name, size in sizes.items():
        if size < least:
            raise ValueError(f"{name}: {size} is below {least}; pass a larger integer")
