"""Character n-grams of words as fastText cuts and hashes them, bit for bit."""

import numpy as np

END = "</s>"  # fastText's mark of a line's end, which has no n-grams
SIZES = (3, 6)
BUCKETS = 2_000_000


def fasttext_ngrams(word, sizes=SIZES):
    """FastText n-grams: all pieces of a word between the marks < and >, by start, then by length.

    A single character at either end of the marked word does not count. A piece that occurs twice is listed
    twice.

    >>> fasttext_ngrams("where", sizes=(3, 3))
    ['<wh', 'whe', 'her', 'ere', 're>']

    Args:
        word: str. ``"</s>"``, fastText's mark of a line's end, has no pieces.
        sizes: (shortest, longest), in characters; a longest of 0 gives none.

    Returns:
        list of str.

    Raises:
        ValueError: when the shortest is below 1 or above the longest.

    References:
        P. Bojanowski et al., arXiv:1607.04606; ``Dictionary::computeSubwords`` of the official code.
    """
    shortest, longest = sizes
    if longest == 0 or word == END:
        return []
    if not 1 <= shortest <= longest:
        raise ValueError(f"sizes={tuple(sizes)}: give (shortest, longest) with 1 <= shortest <= longest")
    marked = f"<{word}>"
    last = len(marked)
    return [
        marked[start:stop]
        for start in range(last)
        for stop in range(start + shortest, min(start + longest, last) + 1)
        if stop - start > 1 or 0 < start < last - 1
    ]


def fasttext_hash(texts):
    """FastText hash: 32-bit FNV-1a over UTF-8 bytes, each widened with its sign before it is mixed in.

    ``h = 2166136261``, then for each byte ``h = (h xor byte) * 16777619``. Bytes from 128 on flip the upper
    24 bits too, which plain FNV-1a does not do.

    >>> print(fasttext_hash(["foo", "<wh", "é"]))
    [2851307223 1048167652 1023043777]

    Args:
        texts: n str or bytes; lone surrogates are allowed.

    Returns:
        uint32 [n].

    Raises:
        ValueError: for one text in place of a list.

    References:
        G. Fowler, L. C. Noll and K.-P. Vo, FNV-1a; ``Dictionary::hash`` of fastText's official code.
    """
    if isinstance(texts, str | bytes):
        raise ValueError(f"texts: {texts[:40]!r} is one text; put it into a list")
    coded = [t if isinstance(t, bytes) else t.encode("utf-8", "surrogatepass") for t in texts]
    sizes = np.fromiter(map(len, coded), np.int64, len(coded))
    order = np.argsort(-sizes, kind="stable")  # those still running are always the first ones
    joined = np.frombuffer(b"".join(coded), np.int8).astype(np.int32).view(np.uint32)
    starts = (np.cumsum(sizes) - sizes)[order]
    found = np.full(len(coded), 2166136261, np.uint32)
    for place in range(int(sizes.max(initial=0))):
        live = np.count_nonzero(sizes > place)
        found[:live] = (found[:live] ^ joined[starts[:live] + place]) * np.uint32(16777619)
    hashes = np.empty_like(found)
    hashes[order] = found
    return hashes


def fasttext_ids(words, rows=0, *, sizes=SIZES, buckets=BUCKETS):
    """FastText rows of words: where the n-grams of each word stand in a table of words and buckets.

    ``ids[w, g] = rows + fasttext_hash(n-gram g of word w) % buckets``. N-grams that share a bucket share a
    row. The row of a known word itself is not among them: put it in front.

    >>> ids, mask = fasttext_ids(["where", "a"], 1000, sizes=(3, 3), buckets=2_000_000)
    >>> print(ids[0].tolist(), mask[1].tolist())
    [168652, 421941, 1474420, 1530033, 868498] [True, False, False, False, False]

    Args:
        words: W str.
        rows: number of rows of known words, which come first in the table.
        sizes: (shortest, longest) of the n-grams.
        buckets: number of rows for n-grams; 0 gives none.

    Returns:
        ids int32 [W, K], 0 where masked, and mask bool [W, K]. K is the most n-grams of a word, at least 1.

    Raises:
        ValueError: for one text in place of a list, sizes out of order, or fewer than 0 buckets.
    """
    if isinstance(words, str | bytes):
        raise ValueError(f"words: {words[:40]!r} is one text; put it into a list")
    if buckets < 0 or rows + buckets >= 2**31:
        raise ValueError(f"buckets={buckets}: give 0 or more, and rows + buckets below 2**31")
    grams = [fasttext_ngrams(word, sizes) if buckets else [] for word in words]
    counts = np.fromiter(map(len, grams), np.int64, len(grams))
    mask = np.arange(max(1, counts.max(initial=0))) < counts[:, None]
    ids = np.zeros(mask.shape, np.int32)
    if buckets:
        ids[mask] = rows + fasttext_hash([g for row in grams for g in row]) % np.uint32(buckets)
    return ids, mask
