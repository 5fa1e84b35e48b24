"""Files of word vectors that other programs read and write: word2vec, GloVe, fastText's .vec, NumPy."""

import gzip
import pathlib

import numpy as np

from jaxembed import files

FORMATS = ("word2vec", "word2vec_binary", "glove", "npy")
REMEDY = "fetch the file again, or pass another format="
LONGEST = 1 << 20  # bytes of a line: a vector of 40,000 numbers in text
PICKLES = [bytes([128, version]) for version in range(2, 6)]  # how pickles begin; so does no UTF-8
PAIR = "write the vectors by numpy.save, or by gensim's save_word2vec_format"
FASTTEXT = 793712314  # the first number of a model of fastText, which read_fasttext reads


def read_word_vectors(path, *, format=None, words=None, repeated="refuse"):
    """Word vectors: reads them from a file of word2vec, GloVe, fastText (.vec) or NumPy.

    A word may hold spaces: the numbers are the last D cells of a line.

    >>> _ = pathlib.Path("small.vec").write_text("2 3\\ncat 1 0 0\\nNew York 0 1 0.5\\n")
    >>> found = read_word_vectors("small.vec")
    >>> print(found["words"], found["vectors"][1])
    ['cat', 'New York'] [0.  1.  0.5]

    Args:
        path: of the file, in UTF-8; a name that ends in .gz is unpacked.
        format: "word2vec" (text with a first line "V D", which fastText's .vec is too), "word2vec_binary",
            "glove" (text without that line) or "npy". None takes "npy" for a name ending in .npy, and
            "word2vec_binary" for one in .bin. Of any other file the first line tells.
        words: for "npy" the path of the words, one in each line, with or without a count behind it. gensim's
            ``numpy.save(path, kv.vectors)`` and ``kv.save_word2vec_format(..., fvocab=words)`` make the pair.
        repeated: what happens to a word that comes a second time: "refuse", or "first" keeps the first one.

    Returns:
        {"words": V str, "vectors": float32 [V, D]}.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: for a first line that does not fit the rest, a file that is cut short, a line of another
            number of cells or with something that is not a finite number, a repeated word, bytes that are not
            UTF-8, or a line above 1 MB. The message has the file and the place.
    """
    path = pathlib.Path(path)
    _check_choice("repeated", repeated, ("refuse", "first"))
    if format is not None:
        _check_choice("format", format, FORMATS)
    kind = _format(path) if format is None else format
    if kind == "npy":
        found = _read_npy(path, words)
    elif kind == "word2vec_binary":
        found = _read_binary(path)
    else:
        found = _read_text(path, header=kind == "word2vec")
    return _distinct(path, *found, repeated)


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name}={value!r}: choose one of {choices}")


def _format(path):
    """The format that a name or a first line tells."""
    suffix = pathlib.Path(path.name.removesuffix(".gz")).suffix
    if suffix in (".npy", ".bin"):
        return "npy" if suffix == ".npy" else "word2vec_binary"
    with files.reading(path, REMEDY), open(path, "rb") as file:
        if file.read(2) in PICKLES:
            raise ValueError(f"{path}: is a pickle, which is not read; {PAIR}")
    for _, line in files.lines(path, REMEDY, longest=LONGEST):
        return "word2vec" if _header(line) else "glove"
    raise ValueError(f"{path}: is empty; {REMEDY}")


def _header(line):
    """(V, D) of the first line of word2vec's formats, or None."""
    cells = line.split()
    if len(cells) == 2 and all(c.isascii() and c.isdigit() and len(c) < 13 for c in cells):
        return int(cells[0]), int(cells[1])
    return None


def _read_text(path, header):
    words, rows, count, width = [], [], None, None
    for number, line in files.lines(path, REMEDY, longest=LONGEST):
        if header and number == 1:
            count, width = _checked_header(path, _header(line), 2)
            continue
        cells = line.rstrip().rsplit(" ", width if width else -1)
        width = len(cells) - 1 if width is None else width
        place = f"{path}, line {number}"
        if len(cells) != width + 1 or width < 1:
            raise ValueError(f"{place}: {len(cells) - 1} numbers behind the word, expected {width}; {REMEDY}")
        words.append(cells[0])
        rows.append(_numbers(cells[1:], place))
    if count is not None and count != len(words):
        raise ValueError(f"{path}: the first line says {count} vectors, {len(words)} follow; {REMEDY}")
    if not words:
        raise ValueError(f"{path}: holds no vectors; {REMEDY}")
    return words, np.stack(rows)


def _checked_header(path, found, least):
    """(V, D), where a file of its size can hold them; ``least`` bytes are the shortest number."""
    if found is None or min(found) < 1:
        raise ValueError(f'{path}: the first line is not "V D", two positive numbers; {REMEDY}')
    with files.reading(path, REMEDY):
        size = path.stat().st_size * (1100 if path.suffix == ".gz" else 1)
    if found[0] * found[1] * least > size:
        raise ValueError(
            f"{path}: the first line says {found[0]} x {found[1]} numbers, too many for the file; {REMEDY}"
        )
    return found


def _numbers(cells, place):
    try:
        with np.errstate(over="ignore"):
            found = np.array(cells, np.float32)
    except ValueError as error:
        raise ValueError(f"{place}: {files.one_line(error)[:80]}; {REMEDY}") from None
    if not np.isfinite(found).all():
        raise ValueError(f"{place}: holds a number that is not finite in float32; {REMEDY}")
    return found


def _read_binary(path):
    with files.reading(path, REMEDY), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        first = file.readline(64)
        if first[:4] == FASTTEXT.to_bytes(4, "little"):
            raise ValueError(f"{path}: is a model of fastText; read it by read_fasttext")
        said = _header(first.decode("latin-1")) if first.endswith(b"\n") else None
        count, width = _checked_header(path, said, 4)
        words, rows = [], []
        for number in range(1, count + 1):
            word = _until_space(file, f"{path}, vector {number}")
            raw = file.read(4 * width)
            if len(raw) < 4 * width:
                raise ValueError(f"{path}: cut short in vector {number} of {count}; {REMEDY}")
            words.append(files.text_of(word, f"{path}, vector {number}", REMEDY, first=False))
            rows.append(np.frombuffer(raw, "<f4"))
        if file.read(2).strip():
            raise ValueError(f"{path}: the first line says {count} vectors, more follow; {REMEDY}")
    vectors = np.stack(rows).astype(np.float32)
    if not np.isfinite(vectors).all():
        bad = 1 + int(np.argmin(np.isfinite(vectors).all(axis=1)))
        raise ValueError(f"{path}, vector {bad}: holds a number that is not finite; {REMEDY}")
    return words, vectors


def _until_space(file, place):
    """The bytes of a word, without the line break of the vector before it."""
    found = bytearray()
    while (byte := file.read(1)) != b" ":
        if not byte or len(found) > LONGEST:
            fault = "cut short" if not byte else f"the word is longer than {LONGEST} bytes"
            raise ValueError(f"{place}: {fault}; {REMEDY}")
        if byte != b"\n" or found:
            found += byte
    return bytes(found)


def _read_npy(path, words):
    if words is None:
        raise ValueError(f"words: {path} holds vectors alone; pass the path of the words, one in each line")
    with files.reading(path, REMEDY):
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        if getattr(vectors, "ndim", 0) != 2 or vectors.dtype.kind != "f":
            raise ValueError(f"{path}: is not a matrix of floats; {REMEDY}")
        vectors = np.array(vectors, np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError(f"{path}: holds a number that is not finite; {REMEDY}")
    names = [_without_count(line) for _, line in files.lines(words, REMEDY, longest=LONGEST)]
    if len(names) != len(vectors):
        raise ValueError(f"{words}: {len(names)} words for {len(vectors)} vectors in {path}; {REMEDY}")
    return names, vectors


def _without_count(line):
    word, _, count = line.rpartition(" ")
    return word if word and count.isascii() and count.isdigit() else line


def _distinct(path, words, vectors, repeated):
    seen = {}
    for row, word in enumerate(words):
        if seen.setdefault(word, row) != row and repeated == "refuse":
            raise ValueError(
                f"{path}: {word[:40]!r} is vector {seen[word] + 1} and again {row + 1}; pass repeated='first'"
            )
    if len(seen) < len(words):
        words, vectors = list(seen), vectors[list(seen.values())]
    return {"words": words, "vectors": vectors}


def write_word_vectors(path, words, vectors, *, format="word2vec"):
    """Word vectors: writes them for word2vec, gensim, GloVe's and fastText's readers, or as a NumPy pair.

    Numbers in text have as many digits as bring the same float32 back.

    >>> write_word_vectors("two.txt", ["cat", "dog"], np.array([[1, 0.5], [0, 2]]), format="glove")
    >>> print(pathlib.Path("two.txt").read_text(), end="")
    cat 1.0 0.5
    dog 0.0 2.0

    Args:
        path: of the file. "npy" writes the words beside it, to the same name with .words behind it.
        words: V distinct str without spaces or line breaks.
        vectors: [V, D], written as float32.
        format: "word2vec" (text, fastText's .vec too), "word2vec_binary", "glove" or "npy".

    Raises:
        ValueError: for another format, shapes that differ, a number that is not finite, a repeated word, or
            one with a space in it.
        OSError: when the disk is full, or fails; the file is as it was.
    """
    _check_choice("format", format, FORMATS)
    vectors, path = np.asarray(vectors, np.float32), files.local_path(path, "path")
    from jaxembed.arrays import check_shape  # JAX, which a light import of the room does not bring

    check_shape("vectors", vectors, (len(words), None))
    _check_words(words)
    if not np.isfinite(vectors).all():
        raise ValueError("vectors: hold a number that is not finite; drop these rows")
    new = files.beside(path, ".new")
    with files.written(new) as file:
        if format == "npy":
            np.save(file, vectors)
        elif format != "glove":
            file.write(b"%d %d\n" % vectors.shape)
        for word, row in zip(words, vectors if format != "npy" else (), strict=format != "npy"):
            if format == "word2vec_binary":
                file.write(word.encode() + b" " + row.astype("<f4").tobytes() + b"\n")
            else:
                file.write(f"{word} {' '.join(map(str, row))}\n".encode())
    if format == "npy":
        beside = files.beside(path, ".words.new")
        with files.written(beside) as file:
            file.write("".join(f"{word}\n" for word in words).encode())
        files.replace(beside, files.beside(path, ".words"))
    files.replace(new, path)


def _check_words(words):
    seen = set()
    for word in words:
        if not isinstance(word, str) or not word or word.split() != [word]:
            raise ValueError(f"words: {word!r} is empty or holds a space; replace spaces by _")
        if word in seen:
            raise ValueError(f"words: {word!r} comes twice; give distinct words")
        seen.add(word)
