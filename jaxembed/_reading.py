"""What all readers of files share: one line for whatever a decoder raises, and lines of bounded length."""

import contextlib
import gzip
import os
import pathlib

LONGEST = 1 << 26  # bytes of the longest line of a text file; packed files can hold lines of any length


@contextlib.contextmanager
def reading(path, remedy, *, fault="damaged or cut short ({})", passing=()):
    """Turns whatever a decoder raises about a file into one line that names the file.

    Every reader goes through it, because decoders raise what they happen to meet. An error whose text begins
    with the path already, or whose class passes, stays as it is. What a decoder raised is kept as the cause.

    >>> with reading("words.npy", "fetch it again"):
    ...     raise EOFError("no header")
    Traceback (most recent call last):
    ValueError: words.npy: damaged or cut short (no header); fetch it again

    Args:
        path: the file or folder that is read.
        remedy: what the error tells the reader to do.
        fault: format of the problem, with one place for what the decoder said.
        passing: classes of errors that stay as they are.

    Raises:
        ValueError: for what a decoder raised, with a text of one line.
        OSError: of the same class, where the system refused to open or read the file.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        said = one_line(error)[:300]
        if said.startswith(str(path)) and isinstance(error, ValueError | OSError) or type(error) in passing:
            raise
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{path}: missing; {remedy}") from None
        if isinstance(error, OSError) and error.errno is not None:
            raise type(error)(f"{path}: {error.strerror}; {remedy}") from None
        if isinstance(error, UnicodeDecodeError):
            likely = likely_encoding(error.object)
            raise ValueError(f"{path}: is not UTF-8 but perhaps {likely}; {remedy}") from None
        named = said or type(error).__name__
        raise ValueError(f"{path}: {fault.format(named)}; {remedy}") from error


@contextlib.contextmanager
def named(source):
    """Puts the path in front of an error about what a file holds, where the error does not name it.

    >>> with named("clicks.csv"):
    ...     raise ValueError("label 'clicked' holds 7; drop these rows")
    Traceback (most recent call last):
    ValueError: clicks.csv: label 'clicked' holds 7; drop these rows

    Args:
        source: the path; what is not one, such as a table in memory, is not named.
    """
    try:
        yield
    except ValueError as error:
        if not isinstance(source, str | os.PathLike) or os.fspath(source) in str(error):
            raise
        raise ValueError(f"{os.fspath(source)}: {one_line(error)}") from None


def lines(path, remedy, *, longest=LONGEST):
    """Yields the lines of a text file in UTF-8, packed by gzip where its name ends in .gz.

    >>> _ = pathlib.Path("names.txt").write_text("ann\\nbob\\n")
    >>> list(lines("names.txt", "write it again"))
    [(1, 'ann'), (2, 'bob')]

    Args:
        path: the file.
        remedy: what the error tells the reader to do.
        longest: bytes of a line, above which the file is refused; no more of it are held.

    Returns:
        Iterator of (number from 1, str without the line break).

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for a line that is too long or not UTF-8, or a damaged archive; file and line are named.
    """
    path, number = pathlib.Path(path), 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            while line := file.readline(longest + 1):
                number += 1
                if len(line) > longest:
                    raise ValueError(f"{path}, line {number}: is longer than {longest} bytes; {remedy}")
                yield number, text_of(line, f"{path}, line {number}", remedy, first=number == 1)
    except Exception as error:
        with reading(path, remedy, fault=f"damaged or cut short after line {number} ({{}})"):
            raise error


def text_of(content, name, remedy, *, first=True):
    """Decodes UTF-8 without its line break; other encodings are named as far as their bytes tell.

    >>> text_of(b"caf\\xe9", "menu.txt", "save the file as UTF-8")
    Traceback (most recent call last):
    ValueError: menu.txt: is not UTF-8 but perhaps latin-1; save the file as UTF-8

    Args:
        content: bytes.
        name: of the file, for the error.
        remedy: what the error tells the reader to do.
        first: whether a byte order mark may come first, which is left out.
    """
    try:
        return content.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: is not UTF-8 but perhaps {likely_encoding(content)}; {remedy}") from None


def likely_encoding(content):
    """Names the encoding that bytes which are not UTF-8 most likely have.

    >>> print(likely_encoding("ä".encode("utf-16")), likely_encoding(b"caf\\xe9"))
    utf-16 latin-1

    Args:
        content: bytes.

    Returns:
        "utf-16" by its byte order mark, "cp1252" for bytes that Latin-1 does not use, else "latin-1".
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    return "cp1252" if any(0x80 <= byte < 0xA0 for byte in content[: 1 << 20]) else "latin-1"


def one_line(error):
    """The text of an error without line breaks.

    >>> print(one_line(ValueError("a\\n  b")))
    a b

    Args:
        error: exception.
    """
    return " ".join(str(error).split())
