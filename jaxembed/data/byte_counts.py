"""A language model that counts: bytes after contexts of 0 to 4 bytes, each order the prior of the next."""

import numpy as np

ORDERS = 5  # contexts of 0 to 4 bytes
BLOCK = 4096  # pieces that are scored at a time


def byte_strings(pieces):
    """N-gram vocabulary: the distinct strings of 1 to 5 bytes in pieces of text.

    >>> found = byte_strings(np.frombuffer(b"abababab", np.uint8).reshape(1, 8))
    >>> print([len(strings) for strings in found])
    [2, 2, 2, 2, 2]

    Args:
        pieces: uint8 [N, length], texts of equal length.

    Returns:
        List of 5 sorted int64 arrays; entry k holds the strings of k + 1 bytes as numbers.

    Raises:
        ValueError: for pieces that are not uint8 [N, length], or of fewer than 5 bytes.

    References:
        As :func:`byte_losses`.
    """
    return [np.unique(_numbers(pieces, k)) for k in range(ORDERS)]


def _numbers(pieces, k):
    """Each byte with the k bytes before it as one number, int64 [N, length - k]."""
    pieces = np.asarray(pieces)
    if pieces.ndim != 2 or pieces.dtype != np.uint8 or pieces.shape[1] < ORDERS:
        raise ValueError(
            f"pieces: {pieces.dtype} {pieces.shape}; pass uint8 [N, length], length from {ORDERS}"
        )
    x, length = pieces.astype(np.int64), pieces.shape[1]
    out = x[:, k:].copy()
    for i in range(1, k + 1):
        out |= x[:, k - i : length - i] << 8 * i
    return out


def string_places(strings, pieces):
    """N-gram places: where each string of the pieces is in the vocabulary.

    >>> text = np.frombuffer(b"abababab", np.uint8).reshape(1, 8)
    >>> print(string_places(byte_strings(text), text[:, ::-1])[0])
    [[1 0 1 0 1 0 1 0]]

    Args:
        strings: of :func:`byte_strings`.
        pieces: uint8 [N, length].

    Returns:
        List of int32 [N, length - k], k from 0 to 4; ``len(strings[k])`` where a string is not there.

    Raises:
        ValueError: as :func:`byte_strings`.

    References:
        As :func:`byte_losses`.
    """
    found = []
    for k, own in enumerate(strings):
        numbers = _numbers(pieces, k)
        at = np.searchsorted(own, numbers)
        missing = own[np.minimum(at, len(own) - 1)] != numbers
        found.append(np.where(missing, len(own), at).astype(np.int32))
    return found


def count_strings(strings, places, rows=slice(None)):
    """Trains a counting model: how often each string and each context occurs in some rows.

    The model is linear in its texts: ``first + weight * second``, by ``jax.tree.map``, is a model that was
    trained on both, on the second with a weight.

    >>> text = np.frombuffer(b"abababab", np.uint8).reshape(1, 8)
    >>> strings = byte_strings(text)
    >>> print(count_strings(strings, string_places(strings, text))["strings"][0])
    [4. 4. 0.]

    Args:
        strings: of :func:`byte_strings`.
        places: of :func:`string_places`.
        rows: which pieces, row numbers or a slice.

    Returns:
        {"strings", "contexts"}: lists of float32 arrays. A string outside the vocabulary counts 0.

    References:
        As :func:`byte_losses`.
    """
    counts = {"strings": [], "contexts": []}
    for k, own in enumerate(strings):
        before = places[k - 1][rows][:, :-1] if k else np.zeros_like(places[0][rows])
        counts["strings"].append(_bins(places[k][rows], len(own)))
        counts["contexts"].append(_bins(before, len(strings[k - 1]) if k else 1))
    return counts


def _bins(x, size):
    counts = np.bincount(x.ravel(), minlength=size + 1).astype(np.float32)
    counts[size] = 0  # what is not in the vocabulary was never seen
    return counts


def byte_losses(counts, places, rows, *, smoothing=8.0):
    """Interpolated n-gram model: the nats per byte of pieces of text.

    ``p_k(byte | k bytes) = (count + smoothing p_{k-1}(byte)) / (count of the context + smoothing)`` with
    ``p_{-1} = 1 / 256``; the loss is the mean of ``-log p_4``. A model of no texts costs log 256. It trains
    in one pass without a gradient, so it scores pools for ``conditional_loss_reduction`` on any machine.

    >>> text = np.frombuffer(b"abababababababab", np.uint8).reshape(2, 8)
    >>> strings = byte_strings(text)
    >>> places = string_places(strings, text)
    >>> print(byte_losses(count_strings(strings, places), places, np.array([0]), smoothing=0.1).round(3))
    [0.088]

    Args:
        counts: of :func:`count_strings`.
        places: of :func:`string_places`, with the same vocabulary.
        rows: int [n], which pieces.
        smoothing: above 0, how much the shorter context counts.

    Returns:
        float64 [n].

    Raises:
        ValueError: for a smoothing that is not above 0.

    References:
        D. MacKay and L. Bauman Peto, A hierarchical Dirichlet language model, Natural Language Engineering 1
        (1995), with one smoothing for all orders.
    """
    if not smoothing > 0:
        raise ValueError(f"smoothing: {smoothing}; pass a number above 0")
    out = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        p = np.full(places[0][part].shape, 1 / 256, np.float32)
        for k in range(ORDERS):
            before = places[k - 1][part][:, :-1] if k else np.zeros_like(places[0][part])
            seen = counts["strings"][k][places[k][part]]
            p[:, k:] = (seen + smoothing * p[:, k:]) / (counts["contexts"][k][before] + smoothing)
        out[start : start + len(part)] = -np.log(p).mean(axis=1)
    return out
