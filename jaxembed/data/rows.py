"""Lines of text files → cells, with the file and the line named where they can't be read."""

import csv
import io

from jaxembed import files


def decoded(path, encoding="utf-8"):
    """Reads a text file as one str; a byte order mark is left out.

    >>> import pathlib
    >>> _ = pathlib.Path("users.csv").write_bytes(b"user\\ncaf\\xe9\\n")
    >>> decoded("users.csv")
    Traceback (most recent call last):
    ValueError: users.csv, line 2: is not utf-8 but perhaps latin-1; save the file as UTF-8, or pass encoding=

    Args:
        path: of the file.
        encoding: by Python's name, "latin-1" for example.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for bytes that the encoding does not hold; the message has file and line. For an unknown
            encoding.
    """
    with files.reading(path, "check the path"), open(path, "rb") as file:
        content = file.read()
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        likely = files.likely_encoding(content)
        other = f" but perhaps {likely}" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else ""
        remedy = "save the file as UTF-8, or pass encoding="
        raise ValueError(f"{path}, line {line}: is not {encoding}{other}; {remedy}") from None
    except UnicodeError:  # of UTF-16 and the like, which name no place
        raise ValueError(f"{path}: is not {encoding}; save the file as UTF-8, or pass encoding=") from None
    except (LookupError, TypeError):
        raise ValueError(
            f"encoding: {encoding!r} is unknown; pass a name of Python's, such as 'latin-1'"
        ) from None


def delimited(path, separator, *, quoted, encoding="utf-8", blank=False):
    """Reads the lines of a table as cells.

    >>> import pathlib
    >>> _ = pathlib.Path("users.csv").write_text('user,item\\n"a, b",c\\n')
    >>> delimited("users.csv", ",", quoted=True)
    [(1, ['user', 'item']), (2, ['a, b', 'c'])]

    Args:
        path: of the file.
        separator: one character between cells.
        quoted: whether double quotes surround cells that hold the separator; otherwise they are text.
        encoding: as for :func:`decoded`.
        blank: True keeps lines without any character, as no cells.

    Returns:
        List of (number of the last line of the cells, list of str).

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for a quote that never ends, or as :func:`decoded`; the message has file and line.
    """
    kind = {} if quoted else {"quoting": csv.QUOTE_NONE}
    reader = csv.reader(io.StringIO(decoded(path, encoding), ""), delimiter=separator, strict=True, **kind)
    try:
        return [(reader.line_num, row) for row in reader if row or blank]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; mend the line") from None
