"""Strings → words, hashed ids and document frequencies, without a vocabulary file."""

import functools
import re
import struct
import unicodedata
import zlib

import numpy as np

from jaxembed.data.cells import arrow, strings
from jaxembed.hashing import mix

_RUN = 64  # longest piece of one word, so that a string without spaces stays cheap


@functools.cache
def _pattern(ascii_only):
    if ascii_only:
        return re.compile(rf"[A-Za-z]{{1,{_RUN}}}|[0-9]{{1,{_RUN}}}")
    points = (chr(c) for c in range(0x10000) if not 0xFE00 <= c <= 0xFE0F)  # no variation selectors
    marks = "".join(c for c in points if unicodedata.category(c)[0] == "M")
    return re.compile(rf"[^\W\d_](?:[^\W\d_]|[{marks}]){{0,{_RUN - 1}}}|\d{{1,{_RUN}}}")


@functools.lru_cache(maxsize=1 << 16)
def _split_case(run):
    lower = run.lower()
    if run == lower or run[1:] == lower[1:] or run.isupper():
        return (lower,)
    starts = [0]
    for i in range(1, len(run)):
        after_lower = not run[i - 1].isupper()
        before_lower = i + 1 < len(run) and run[i + 1].islower()
        if run[i].isupper() and (after_lower or before_lower):
            starts.append(i)
    return tuple(run[a:b].lower() for a, b in zip(starts, [*starts[1:], None], strict=True))


def words(string, *, limit=None):
    """Tokenisation: splits a string into lower-cased words; identifiers fall into their parts.

    A word is a run of letters (with the combining marks after them) or a run of digits; everything else
    separates. A run of letters is cut before each capital that follows a small letter or precedes one. Runs
    longer than 64 characters are cut into pieces of 64. Time is linear in the characters read.

    >>> words("dot_product_attentionV2(HTTPServer, x)")
    ['dot', 'product', 'attention', 'v', '2', 'http', 'server', 'x']

    Args:
        string: any str; NUL, emoji and lone surrogates separate words.
        limit: optional number of words after which reading stops.

    Returns:
        list of str, at most ``limit`` long.
    """
    found = []
    if limit is not None and limit <= 0:
        return found
    for match in _pattern(string.isascii()).finditer(string):
        found.extend(_split_case(match.group()))
        if limit is not None and len(found) >= limit:
            return found[:limit]
    return found


def ngrams(word, size):
    """Character n-grams: lists those of a word between boundary marks, left to right.

    >>> ngrams("cat", 3)
    ['<ca', 'cat', 'at>']

    Args:
        word: str.
        size: number of characters of one n-gram, at least 1.

    Returns:
        list of str, ``len(word) + 3 - size`` long; empty when the marked word is shorter than ``size``.

    Raises:
        ValueError: when ``size`` is below 1.

    References:
        P. Bojanowski et al., arXiv:1607.04606.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    marked = f"<{word}>"
    return [marked[i : i + size] for i in range(len(marked) - size + 1)]


def _checksum(text):
    return zlib.crc32(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


@functools.cache
def _steps():
    """The table of CRC-32 for one byte: uint32 [256]."""
    return np.array([zlib.crc32(bytes([255 - b])) ^ 0xFF000000 for b in range(256)], np.uint32)


def _decimal_checksums(numbers):
    """CRC-32 of the decimal texts of integers, digit by digit for all of them at once."""
    flat = np.ascontiguousarray(numbers).ravel().astype("S")
    digits = flat.view(np.uint8).reshape(len(flat), flat.dtype.itemsize)
    found = np.full(len(flat), 0xFFFFFFFF, np.uint32)
    for column in digits.T:
        moved = _steps()[(found ^ column) & np.uint32(255)] ^ (found >> np.uint32(8))
        found = np.where(column == 0, found, moved)  # zeros fill the shorter texts
    return ~found.reshape(numbers.shape)


def _mix(values, seed):
    start = np.array([seed & 0xFFFFFFFF], np.uint32) + np.uint32(0x9E3779B9)
    return mix(np.asarray(values, np.uint32) ^ mix(start))


def hashed(values, *, seed=0):
    """Feature hashing: gives each string or id a 32-bit number, the same on every machine.

    ``hashed(s) = mix(crc32(utf8(s)) ^ mix(seed + 0x9e3779b9))`` with ``mix`` the finalizer of
    MurmurHash3, a bijection of 32-bit numbers. Two given strings collide with probability about 2^-32,
    n strings hold about n^2 / 2^33 colliding pairs, and a colliding pair collides under every seed.

    One value has one hash, whatever container it comes in. An integer is hashed as its decimal text, so 7,
    "7", b"7" and 7.0 are the same value. "07" and "7.0" are other ones. Missing values (None, NaN) are hashed
    as "", booleans as "true" and "false". ``ctr_table`` reads the values of its columns by this rule.

    >>> print(hashed(["cat", "dog", "7"]) % 1000, hashed(np.array([7, 2**40 + 7])) % 1000)
    [293 110 923] [923 185]

    Args:
        values: n values in a list, an iterator, a pandas or Arrow column; or a NumPy array of any shape.
            Lone surrogates are allowed.
        seed: int; seeds that differ by a multiple of 2^32 are the same.

    Returns:
        uint32 [n], or the shape of the array.

    Raises:
        ValueError: for one value in place of a list, and for values of several kinds or of an unknown one.
            Also for whole floats too large to be exact (2**53 in float64).

    References:
        A. Appleby, MurmurHash3 (fmix32).
    """
    if isinstance(values, str | bytes):
        raise ValueError(f"values: {values[:40]!r} is one text; put it into a list")
    shape = (-1,)
    if hasattr(values, "__array__") and not hasattr(values, "to_pylist"):  # not Arrow's: its nulls are kept
        values = np.asarray(values)
        if values.dtype.kind in "iu":
            return _mix(_decimal_checksums(values), seed)
        shape, values = values.shape, values.ravel()
        values = values.tolist() if values.dtype.kind in "US" else values
    elif not hasattr(values, "to_pylist"):
        if not hasattr(values, "__iter__"):
            raise ValueError(f"values: {values!r} is one value; put it into a list")
        values = list(values)
    try:
        found = np.fromiter(map(_checksum, values), np.uint32)
    except AttributeError:  # not all of them are text
        found = np.fromiter(map(_checksum, strings(arrow(values, "values"), "values").to_pylist()), np.uint32)
    return _mix(found.reshape(shape), seed)


def _listed(name, words):
    """Refuses one text where a list of words belongs, whose letters would count as words."""
    if isinstance(words, str | bytes):
        raise ValueError(f"{name}: {words[:40]!r} is one text; split it into words, or put it into a list")
    return words


def word_positions(lists, *, length, size=None):
    """Word index: finds the distinct words of a batch of word lists and the place of each in the batch.

    ``words[positions[b, t]] == lists[b][t]`` wherever ``mask[b, t]``. The words come in the order of
    their first appearance; lists longer than ``length`` are cut before anything is counted.

    >>> found, positions, mask = word_positions([["a", "b"], ["b"]], length=2)
    >>> print(found, positions.tolist(), mask.tolist())
    ['a', 'b'] [[0, 1], [1, 0]] [[True, True], [True, False]]

    Args:
        lists: B lists of str.
        length: T, the number of columns.
        size: optional bound on the number of distinct words, for static shapes; ``subword_ids`` pads the
            words up to it with ``rows=size``.

    Returns:
        words (list of str), positions int32 [B, T] (0 where masked) and mask bool [B, T].

    Raises:
        ValueError: when there are more than ``size`` distinct words, or for a text in place of a list.
    """
    lists = [_listed("lists", words)[:length] for words in _listed("lists", lists)]
    index = {}
    positions = np.zeros((len(lists), length), np.int32)
    mask = np.zeros((len(lists), length), bool)
    for b, row in enumerate(lists):
        positions[b, : len(row)] = [index.setdefault(word, len(index)) for word in row]
        mask[b, : len(row)] = True
    if size is not None and len(index) > size:
        raise ValueError(f"size={size} is too small for {len(index)} distinct words; raise size")
    return list(index), positions, mask


@functools.lru_cache(maxsize=1 << 17)
def _packed(word, sizes, limit):
    row = [_checksum(word)] + [0] * (len(sizes) * (limit + 1))
    for s, size in enumerate(sizes):
        sums = [_checksum(gram) for gram in ngrams(word, size)[:limit]]
        start = 1 + len(sizes) + s * limit
        row[1 + s] = len(sums)
        row[start : start + len(sums)] = sums
    return struct.pack(f"{len(row)}I", *row)


def subword_ids(words, *, sizes=(3, 4, 5), limit=16, rows=None, seed=0):
    """Subword hashing: describes each word by the hashed ids of itself and of its character n-grams.

    ``ids["word"][w] = hashed([words[w]])`` and ``ids["3gram"][w, :n] = hashed(ngrams(words[w], 3))``,
    where only the first ``limit`` n-grams of a size are kept. Words that were seen before are read from
    a cache of 131,072 words.

    >>> ids, masks = subword_ids(["cat"], sizes=(3,), limit=4)
    >>> print(ids["3gram"] % 1000, masks["3gram"])
    [[217 293 356   0]] [[ True  True  True False]]

    Args:
        words: W str.
        sizes: the n-gram sizes, each at least 1.
        limit: K, the columns of each n-gram feature.
        rows: optional number of rows; masked rows are added up to it.
        seed: int, as in ``hashed``.

    Returns:
        ids, a dict of uint32 [W or rows, 1] under ``"word"`` and [W or rows, K] under ``"3gram"`` and so on,
        0 where masked. And masks, a dict of bool with the same keys and shapes.

    Raises:
        ValueError: when there are more words than ``rows``, a size or ``limit`` is below 1, or for a text in
            place of a list.
    """
    sizes, count = tuple(sizes), len(_listed("words", words))
    if limit < 1 or any(size < 1 for size in sizes):
        raise ValueError(f"limit and sizes must be at least 1, got limit={limit} and sizes={sizes}")
    if rows is not None and count > rows:
        raise ValueError(f"rows={rows} is too small for {count} words; raise rows")
    packed = b"".join([_packed(word, sizes, limit) for word in words])
    table = np.frombuffer(packed, np.uint32).reshape(count, 1 + len(sizes) * (limit + 1))
    table = np.pad(table, ((0, 0 if rows is None else rows - count), (0, 0)))
    mixed = _mix(table, seed)
    masks = {"word": (np.arange(len(table)) < count)[:, None]}
    ids = {"word": np.where(masks["word"], mixed[:, :1], 0)}
    for s, size in enumerate(sizes):
        start = 1 + len(sizes) + s * limit
        masks[f"{size}gram"] = np.arange(limit) < table[:, 1 + s, None]
        ids[f"{size}gram"] = np.where(masks[f"{size}gram"], mixed[:, start : start + limit], 0)
    return ids, masks


def document_frequency(lists, *, buckets=1 << 18, seed=0):
    """Document frequency: counts in how many documents each hashed word occurs.

    ``counts[j]`` is the number of lists with a word ``w`` for which ``hashed([w]) % buckets == j``;
    words that share a bucket are counted as one word.

    >>> counts, n = document_frequency([["a", "b", "a"], ["b"]], buckets=64)
    >>> print(counts[hashed(["a", "b", "c"]) % 64], n)
    [1 2 0] 2

    Args:
        lists: iterable of n lists of str, read once.
        buckets: the number of counters.
        seed: int, as in ``hashed``.

    Returns:
        counts int32 [buckets] and n.

    Raises:
        ValueError: when ``buckets`` is below 1, or for a text in place of a list.
    """
    if buckets < 1:
        raise ValueError(f"buckets must be at least 1, got {buckets}")
    counts, known, n = np.zeros(buckets, np.int32), {}, 0
    for row in (set(_listed("lists", words)) for words in _listed("lists", lists)):
        n += 1
        fresh = [word for word in row if word not in known]
        known.update(zip(fresh, (hashed(fresh, seed=seed) % np.uint32(buckets)).tolist(), strict=True))
        counts[list({known[word] for word in row})] += 1
    return counts, n


def idf(counts, n, ids):
    """Inverse document frequency: weighs hashed words by how few documents hold them.

    ``idf = log((n + 1) / (counts[ids % buckets] + 1)) + 1``, which is 1 for a word in every document.

    >>> counts, n = document_frequency([["a", "b"], ["b"], ["b"]], buckets=64)
    >>> print(idf(counts, n, hashed(["a", "b", "c"])).round(3))
    [1.693 1.    2.386]

    Args:
        counts: int [buckets] from ``document_frequency``.
        n: the number of documents.
        ids: unsigned int [...] from ``hashed`` or ``subword_ids`` with the same seed.

    Returns:
        float32 [...].

    References:
        The smoothed inverse document frequency of scikit-learn's ``TfidfTransformer``.
    """
    found = np.asarray(counts)[np.asarray(ids) % len(counts)]
    return (np.log((n + 1) / (found + 1)) + 1).astype(np.float32)


def bag(fields, *, power=1.0, decay=0.0):
    """Bag of words: counts the words of a text made of weighted fields, early words more than late ones.

    ``bag[w] = (sum over occurrences of w at place p of a field: weight / (1 + decay * p)) ** power``

    >>> print(bag([(["pad", "array"], 2.0), (["array", "of", "array"], 1.0)]))
    {'pad': 2.0, 'array': 4.0, 'of': 1.0}

    Args:
        fields: iterable of (words, weight): list of str and a positive number.
        power: exponent; below 1 it dampens repetition.
        decay: how fast the weight of a word falls with its place p = 0, 1, ... in the field.

    Returns:
        {word: weight} in the order of first appearance.

    Raises:
        ValueError: for a text in place of a list.
    """
    found = {}
    for field, weight in fields:
        for place, word in enumerate(_listed("fields", field)):
            found[word] = found.get(word, 0.0) + weight / (1 + decay * place)
    return found if power == 1 else {word: weight**power for word, weight in found.items()}


def pack(bags, *, length, scale=None, size=None):
    """Packed bags: a batch of bags as arrays of the distinct words, their positions and their weights.

    ``weights[b, t] = bags[b][w] * scale(w)`` for ``w = words[positions[b, t]]``. Each bag keeps its
    ``length`` heaviest words, in the order in which the bag holds them.

    >>> words, positions, weights = pack([{"a": 1.0, "b": 3.0, "c": 2.0}, {"b": 1.0}], length=2)
    >>> print(words, positions.tolist(), weights.tolist())
    ['b', 'c'] [[0, 1], [0, 0]] [[3.0, 2.0], [1.0, 0.0]]

    Args:
        bags: B dicts {word: positive weight}.
        length: T, the number of columns.
        scale: optional function from a list of n words to float [n], for example the words' idf.
        size: optional bound on the number of distinct words, as in ``word_positions``.

    Returns:
        words (list of W str), positions int32 [B, T] and weights float32 [B, T]; padding has weight 0.

    Raises:
        ValueError: when there are more than ``size`` distinct words.
    """
    known = list(dict.fromkeys(word for words in bags for word in words))
    factor = np.ones(len(known)) if scale is None else np.asarray(scale(known), np.float64)
    factor = dict(zip(known, factor.tolist(), strict=True))
    lists, weights = [], np.zeros((len(bags), length), np.float32)
    for b, words in enumerate(bags):
        heavy = {word: weight * factor[word] for word, weight in words.items()}
        if len(heavy) > length:
            kept = set(sorted(heavy, key=heavy.get, reverse=True)[:length])
            heavy = {word: weight for word, weight in heavy.items() if word in kept}
        lists.append(list(heavy))
        weights[b, : len(heavy)] = list(heavy.values())
    words, positions, _ = word_positions(lists, length=length, size=size)
    return words, positions, weights
