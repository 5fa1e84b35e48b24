"""Character n-grams of words as fastText cuts and hashes them, bit for bit."""

import numpy as np

from jaxembed.ragged import segment_places

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


def fasttext_text_ids(lists, words, *, sizes=(0, 0), longest=1, buckets=BUCKETS, kept=None):
    """FastText rows of texts: known words, their n-grams of characters, and n-grams of words by their hash.

    The hash of an n-gram of words starts with that of its first one; for each further word ``h = 116049371 h
    + hash(word)``, in 64 bits, each word's hash widened with its sign. ``row = V + h % buckets``. Unknown
    words count in it too. The mean of the rows is what fastText's classifier reads of a text.

    >>> ids, offsets = fasttext_text_ids([["a", "new", "cat"], ["cat"]], ["a", "cat"], longest=2, buckets=100)
    >>> print(ids.tolist(), offsets.tolist())
    [0, 1, 87, 48, 1] [0, 4, 5]

    Args:
        lists: N lists of words. fastText ends each text with ``"</s>"``, which is one of its words.
        words: V str in the order of their rows, or {word: row}.
        sizes: (shortest, longest) of the n-grams of characters; (0, 0) for none.
        longest: most words of an n-gram of words; 1 for none.
        buckets: number of rows for n-grams, behind those of the words.
        kept: optional {bucket: row behind the words}, where a quantised model keeps some of them.

    Returns:
        ids int32 [P], the rows of all texts, each word's before the n-grams of words; and offsets int64
        [N + 1]: ``ids[offsets[n] : offsets[n + 1]]`` are those of text n.

    Raises:
        ValueError: for a text that is not a list of words, ``longest`` below 1, or sizes out of order.

    References:
        A. Joulin et al., arXiv:1607.01759; ``Dictionary::addWordNgrams`` of the official code.
    """
    if any(isinstance(row, str | bytes) for row in lists):
        raise ValueError("lists: hold a text that is not split; give a list of words for each text")
    if longest < 1:
        raise ValueError(f"longest={longest}: give at least 1, which makes no n-grams of words")
    known = words if isinstance(words, dict) else {word: i for i, word in enumerate(words)}
    number = {}
    tokens = np.array([number.setdefault(word, len(number)) for row in lists for word in row], np.int64)
    owners = np.repeat(np.arange(len(lists)), [len(row) for row in lists])
    rows = _rows_of_words(list(number), known, sizes, buckets, kept)
    counts = np.array([len(row) for row in rows], np.int64)
    flat = np.concatenate([np.zeros(0, np.int32), *rows])
    begin, each = np.cumsum(counts) - counts, counts[tokens]
    found, texts = [flat[segment_places(begin[tokens], each)]], [np.repeat(owners, each)]
    if longest > 1 and buckets:
        hashes = fasttext_hash(list(number))[tokens].view(np.int32).astype(np.int64).view(np.uint64)
        for part, own in _phrases(hashes, owners, longest):
            ids, real = _behind(part % np.uint64(buckets), len(known), kept)
            found.append(ids[real])
            texts.append(own[real])
    texts = np.concatenate(texts)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(texts, minlength=len(lists)))])
    return np.concatenate(found)[np.argsort(texts, kind="stable")], offsets.astype(np.int64)


def _rows_of_words(words, known, sizes, buckets, kept):
    """The rows of each word: its own where it is known, and those of its n-grams."""
    ids, mask = fasttext_ids(words, 0, sizes=sizes, buckets=buckets)
    grams, real = _behind(ids, len(known), kept)
    real &= mask
    return [
        np.concatenate([np.array([known[word]] if word in known else [], np.int32), row[own]])
        for word, row, own in zip(words, grams, real, strict=True)
    ]


def _behind(buckets, count, kept):
    """Rows of buckets behind ``count`` words, and which of them are there."""
    buckets = buckets.astype(np.int64)
    if kept is None:
        return (count + buckets).astype(np.int32), np.ones(buckets.shape, bool)
    rows = np.array([kept.get(int(b), -1) for b in buckets.reshape(-1)], np.int64).reshape(buckets.shape)
    return np.where(rows < 0, 0, count + rows).astype(np.int32), rows >= 0


def _phrases(hashes, owners, longest):
    """(hashes, texts) of the n-grams of 2, 3 ... words that stand in one text."""
    running = hashes
    for size in range(2, longest + 1):
        ends = hashes[size - 1 :]
        running = running[: len(ends)] * np.uint64(116049371) + ends
        inside = owners[: len(ends)] == owners[size - 1 :]
        if not inside.any():
            return
        yield running[inside], owners[: len(ends)][inside]
