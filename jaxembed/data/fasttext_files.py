"""Models of fastText (.bin): words, rows of words and n-grams, output rows; quantised ones are read too."""

import math
import os
import struct

import numpy as np

from jaxembed import files
from jaxembed.data.word_files import FASTTEXT

VERSION, CENTROIDS = 12, 256
SETTINGS = (
    "width", "window", "epochs", "min_count", "negatives", "word_ngrams", "loss", "model", "buckets",
    "shortest", "longest", "update_rate",
)  # fmt: skip
LOSSES = {1: "hierarchical", 2: "negative_sampling", 3: "softmax", 4: "one_vs_all"}
MODELS = {1: "cbow", 2: "skip_gram", 3: "supervised"}
REMEDY = "fetch the file again"


class _Cursor:
    """Reads numbers of a file from front to back, and never more than it holds."""

    def __init__(self, file, path):
        self.file, self.path, self.left = file, path, os.fstat(file.fileno()).st_size

    def bytes(self, count):
        if not 0 <= count <= self.left:
            raise ValueError(f"{self.path}: damaged or cut short, {count} bytes more expected; {REMEDY}")
        self.left -= count
        return self.file.read(count)

    def numbers(self, form):
        found = struct.unpack("<" + form, self.bytes(struct.calcsize("<" + form)))
        return found if len(found) > 1 else found[0]

    def array(self, dtype, *shape):
        if min(shape) < 0:
            raise ValueError(f"{self.path}: damaged, an array of shape {shape}; {REMEDY}")
        size = math.prod(shape)
        return np.frombuffer(self.bytes(size * np.dtype(dtype).itemsize), dtype).reshape(shape)

    def word(self):
        found = bytearray()
        while (byte := self.bytes(1)) != b"\0":
            found += byte
        return files.text_of(bytes(found), self.path, REMEDY, first=False)


def read_fasttext(path):
    """FastText model: reads a .bin file, the words with all rows from which their vectors are made.

    The vector of a word is the mean of its own row and the rows of its n-grams, see
    :func:`~jaxembed.data.fasttext_ids` and ``recipes.load_words``. A quantised file (.ftz) is unpacked; where
    it keeps only some of the n-grams, "kept" tells their rows.

    Args:
        path: of the file.

    Returns:
        {"words": V str, "counts": int64 [V], "rows": float32 [V + buckets, D], "output": float32 [W, D],
        "sizes": (shortest, longest), "buckets": int, "kept": None or {bucket: row behind the words},
        "labels": list of str, "label_counts": int64, "settings": dict}. "labels" are those of a classifier,
        without rows of their own among the words.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for a file that is not a model of version 11 or 12, damaged or cut short.

    References:
        A. Joulin et al., arXiv:1612.03651 (quantised models); the layout is that of the official code.
    """
    with files.reading(path, REMEDY), open(path, "rb") as file:
        cursor = _Cursor(file, os.fspath(path))
        if cursor.numbers("i") != FASTTEXT:
            raise ValueError(f"{path}: is not a model of fastText; {REMEDY}, or use read_word_vectors")
        version = cursor.numbers("i")
        if version not in (11, 12):
            raise ValueError(f"{path}: has version {version}, expected 11 or 12; {REMEDY}")
        settings = dict(zip(SETTINGS, cursor.numbers("12i"), strict=True)) | {"sample": cursor.numbers("d")}
        entries, kept = _dictionary(cursor)
        packed = bool(cursor.numbers("?"))
        rows = _quantised(cursor) if packed else _dense(cursor)
        output = _quantised(cursor) if cursor.numbers("?") and packed else _dense(cursor)
        if cursor.left:
            raise ValueError(f"{path}: {cursor.left} bytes too many; {REMEDY}")
        return _checked(path, version, settings, entries, kept, rows, output)


def _dictionary(cursor):
    """[(word, count, kind)] and the buckets that are kept."""
    size, _, _, _, pruned = cursor.numbers("iiiqq")
    if not 0 <= size <= cursor.left // 10:
        raise ValueError(f"{cursor.path}: damaged or cut short, {size} words; {REMEDY}")
    entries = [(cursor.word(), *cursor.numbers("qb")) for _ in range(size)]
    if pruned < 0:
        return entries, None
    return entries, dict(cursor.array("<i4", pruned, 2).tolist())


def _dense(cursor):
    shape = cursor.numbers("qq")
    return cursor.array("<f4", *shape).astype(np.float32)


def _quantised(cursor):
    """Rows of a matrix whose parts are numbers of centroids, with or without a norm apart."""
    normed, (height, width), size = cursor.numbers("?"), cursor.numbers("qq"), cursor.numbers("i")
    codes = cursor.array("u1", size)
    parts = _centroids(cursor, width)
    if size != height * len(parts):
        raise ValueError(f"{cursor.path}: damaged, {size} codes for {height} rows; {REMEDY}")
    codes = codes.reshape(height, len(parts))
    if height * width * 4 > 1 << 36:
        raise ValueError(f"{cursor.path}: damaged, {height} x {width} numbers; {REMEDY}")
    rows = np.concatenate([part[codes[:, i]] for i, part in enumerate(parts)], axis=1)
    if normed:
        norms = cursor.array("u1", height)
        rows = rows * _centroids(cursor, 1)[0][norms]
    return rows


def _centroids(cursor, width):
    """The tables of a product quantiser: float32 [256, part] for each part of the width."""
    found, parts, part, last = cursor.numbers("4i")
    if found != width or parts < 1 or part < 1 or part * (parts - 1) + last != width or not 1 <= last <= part:
        raise ValueError(f"{cursor.path}: damaged, {parts} parts of {part} for width {width}; {REMEDY}")
    flat = cursor.array("<f4", width * CENTROIDS).astype(np.float32)
    cuts = np.cumsum([0, *[CENTROIDS * part] * (parts - 1), CENTROIDS * last])
    return [flat[a:b].reshape(CENTROIDS, -1) for a, b in zip(cuts, cuts[1:], strict=False)]


def _checked(path, version, settings, entries, kept, rows, output):
    words = [(word, count) for word, count, kind in entries if kind == 0]
    labels = [(word, count) for word, count, kind in entries if kind == 1]
    supervised = MODELS.get(settings["model"]) == "supervised"
    if version == 11 and supervised:
        settings["longest"] = 0  # the old classifiers used no n-grams of characters
    buckets = settings["buckets"] if kept is None else len(kept)
    if len({w for w, _ in words}) < len(words):
        raise ValueError(f"{path}: damaged, a word comes twice; {REMEDY}")
    if rows.shape[1] != settings["width"] or len(rows) < len(words):
        raise ValueError(f"{path}: damaged, rows {rows.shape} for {len(words)} words; {REMEDY}")
    if supervised and labels and len(output) != len(labels):
        raise ValueError(f"{path}: damaged, {len(output)} output rows for {len(labels)} labels; {REMEDY}")
    used = settings["longest"] > 0 or settings["word_ngrams"] > 1
    if used and len(rows) != len(words) + buckets:
        raise ValueError(f"{path}: damaged, {len(rows)} rows, expected {len(words) + buckets}; {REMEDY}")
    if kept is not None and any(not 0 <= row < buckets for row in kept.values()):
        raise ValueError(f"{path}: damaged, an n-gram has no row; {REMEDY}")
    sizes = settings["shortest"], settings["longest"]
    if sizes[1] and not 1 <= sizes[0] <= sizes[1]:
        raise ValueError(f"{path}: damaged, n-grams of {sizes[0]} to {sizes[1]} characters; {REMEDY}")
    if not (np.isfinite(rows).all() and np.isfinite(output).all()):
        raise ValueError(f"{path}: holds a number that is not finite; {REMEDY}")
    return {
        "words": [w for w, _ in words],
        "counts": np.array([n for _, n in words], np.int64),
        "rows": rows,
        "output": output,
        "sizes": sizes if sizes[1] else (0, 0),
        "buckets": settings["buckets"] if used else 0,
        "kept": kept,
        "labels": [w for w, _ in labels],
        "label_counts": np.array([n for _, n in labels], np.int64),
        "settings": settings | _named(settings),
    }


def _named(settings):
    tables = {"loss": LOSSES, "model": MODELS}
    return {name: known.get(settings[name], "unknown") for name, known in tables.items()}


def write_fasttext(
    path, words, counts, rows, output, *, sizes=(3, 6), buckets, labels=(), label_counts=(), settings=None
):
    """FastText model: writes a .bin file that fastText and gensim read. With labels it is a classifier.

    Args:
        path: of the file.
        words: V distinct str.
        counts: int [V].
        rows: [V + buckets, D], the rows of the words, then of the n-grams.
        output: [V, D], or [L, D] of the labels. The nodes of a tree of labels are not written.
        sizes: (shortest, longest) of the n-grams; (0, 0) for none, with 0 buckets.
        buckets: number of rows for n-grams.
        labels: L distinct str of a classifier, by falling count. fastText marks them: "__label__cat".
        label_counts: int [L].
        settings: optional {"window", "epochs", "min_count", "negatives", "sample", "model", "loss",
            "word_ngrams"} for the header, as :func:`read_fasttext` gives them.

    Raises:
        ValueError: for shapes that differ, an unknown loss or model, or a word that is repeated or holds a
            space or NUL.
        OSError: when the disk is full, or fails; the file is as it was.
    """
    path = files.local_path(path, "path")
    rows, output = np.asarray(rows, "<f4"), np.asarray(output, "<f4")
    from jaxembed.arrays import check_shape  # JAX, which a light import of the room does not bring

    check_shape("rows", rows, (len(words) + buckets, None))
    check_shape("output", output, (len(labels) or None, rows.shape[1]))
    check_shape("counts", counts, (len(words),))
    check_shape("label_counts", label_counts, (len(labels),))
    if len({*words, *labels}) < len(words) + len(labels):
        raise ValueError("words, labels: one comes twice; leave it out")
    for word in (*words, *labels):
        if not word or "\0" in word or word.split() != [word]:
            raise ValueError(f"words: {word!r} is empty, or holds a space or NUL; replace it")
    usual = {
        "width": rows.shape[1],
        "window": 5,
        "epochs": 5,
        "min_count": 5,
        "negatives": 5,
        "word_ngrams": 1,
    }
    usual |= {"loss": "negative_sampling", "model": "skip_gram", "buckets": buckets, "update_rate": 100}
    usual |= {"loss": "softmax", "model": "supervised"} if labels else {}
    usual |= {"sample": 1e-4, **(settings or {}), "shortest": sizes[0], "longest": sizes[1]}
    usual |= {"width": rows.shape[1], "buckets": buckets}  # whatever the settings say
    for name, known in (("loss", LOSSES), ("model", MODELS)):
        if usual[name] not in known.values():
            raise ValueError(f"settings: {name} {usual[name]!r} is none of {', '.join(known.values())}")
        usual[name] = {text: n for n, text in known.items()}[usual[name]]
    head = struct.pack("<2i12id", FASTTEXT, VERSION, *(usual[n] for n in SETTINGS), usual["sample"])
    sizes_of = len(words) + len(labels), len(words), len(labels)
    head += struct.pack("<iiiqq", *sizes_of, int(np.sum(counts) + np.sum(label_counts)), -1)
    new = files.beside(path, ".new")
    with files.written(new) as file:
        file.write(head)
        for kind, names, numbers in ((0, words, counts), (1, labels, label_counts)):
            for word, count in zip(names, numbers, strict=True):
                file.write(word.encode() + b"\0" + struct.pack("<qb", int(count), kind))
        for matrix in (rows, output):
            file.write(struct.pack("<?qq", False, *matrix.shape))
            matrix.tofile(file)
    files.replace(new, path)
