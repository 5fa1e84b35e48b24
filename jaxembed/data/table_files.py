"""Table files → columns, block by block, through pyarrow."""

import contextlib
import pathlib
import re
import threading
import zipfile
from collections.abc import Mapping

from jaxembed import files
from jaxembed.extras import brings

_UNREAD = re.compile(r"In CSV column #(\d+): .*conversion error.* invalid value '(.*)'")
_TOO_SMALL = ("straddling object", "Empty CSV file or block")  # what pyarrow says of a block below a row


def blocks(
    path,
    columns,
    *,
    numbers=(),
    names=None,
    separator=",",
    quote='"',
    strip=False,
    limit=None,
    block=1 << 24,
):
    """Yields the columns of a table file, block by block.

    Args:
        path: a text file, also compressed (.gz) or alone in a .zip, or a .parquet file.
        columns: names of the columns to read.
        numbers: those that a text file holds as numbers (empty cells are null); others are read as str.
        names: names of all columns of a text file without a header.
        separator: character between cells.
        quote: what surrounds cells that contain the separator, or None.
        strip: True takes spaces off both ends of the cells and names of a text file, and quotes after them.
        limit: optional number of rows after which reading stops.
        block: bytes of text that are read at once; doubled where a row is longer, up to 64 MB.

    Returns:
        Iterator of {column: pyarrow.Array [n]}.

    Raises:
        FileNotFoundError: without the file.
        ValueError: for a missing or repeated column, or a malformed or cut file.
    """
    with _readable(path) as path:
        if path.suffix == ".parquet":
            found = _parquet(path, columns)
        else:
            found = _text(path, columns, numbers, (names and list(names), separator, quote), strip, block)
        yield from limited((dict(zip(b.schema.names, b.columns, strict=True)) for b in found), limit)


def column_names(path, *, separator=",", quote='"', strip=False):
    """Column names: reads those of a table file.

    >>> _ = pathlib.Path("clicks.csv").write_text("user,item,clicked\\nu1,i1,0\\n")
    >>> column_names("clicks.csv")
    ['user', 'item', 'clicked']

    Args:
        path: a text file with a header, also compressed (.gz) or alone in a .zip, or a .parquet file.
        separator: character between cells.
        quote: what surrounds cells that contain the separator, or None.
        strip: True takes spaces off both ends of the names in a text file.

    Returns:
        List of str.

    Raises:
        FileNotFoundError: without the file.
        ValueError: for a malformed or cut file.
    """
    with brings("data"):
        from pyarrow import parquet
    with _readable(path) as path:
        if path.suffix == ".parquet":
            return list(parquet.read_schema(path).names)
        with _reader(path, (None, separator, quote)) as reader:
            return _header(reader, quote, strip)


@contextlib.contextmanager
def _readable(path):
    """The path of a file that is there; what goes wrong in reading it becomes one line."""
    with brings("data"):
        import pyarrow  # noqa: F401
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    with files.reading(path, "check the file and the schema", fault="{}"):
        yield path


def _parquet(path, columns):
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        demand(columns, file.schema_arrow.names)
        yield from file.iter_batches(batch_size=1 << 16, columns=list(columns))


def _text(path, columns, numbers, form, strip, block):
    import pyarrow

    done = 0  # rows that were passed on before a block was too small for a row
    while True:
        try:
            with _reader(path, form, block) as reader:
                stored, names = list(reader.schema.names), _header(reader, form[2], strip)
            demand(columns, names)
            chosen = [stored[names.index(name)] for name in columns]
            kinds = {  # with spaces around it, no number is read as one yet
                old: pyarrow.float64() if new in numbers and not strip else pyarrow.string()
                for old, new in zip(chosen, columns, strict=True)
            }
            with _reader(path, form, block, kinds) as reader:
                seen = 0
                for part in reader:
                    seen += len(part)
                    if seen > done:
                        part = part.slice(max(0, len(part) - (seen - done)))
                        yield _stripped(part, columns, numbers, form[2]) if strip else part
                        done = seen
                return
        except pyarrow.ArrowInvalid as error:
            if "invalid UTF8" in str(error):
                raise ValueError(f"{path}: is not UTF-8 but perhaps latin-1; save it as UTF-8") from None
            if found := _UNREAD.search(str(error)):
                raise ValueError(
                    f"column {names[int(found[1])]!r}: invalid value {found[2]!r}, not a number; categories "
                    "belong to categorical=, a text label takes positive=, spaces take strip=True"
                ) from None
            if block >= files.LONGEST and _TOO_SMALL[0] in str(error):
                raise ValueError(f"a row is longer than {block} bytes") from None
            if block >= files.LONGEST or not any(cause in str(error) for cause in _TOO_SMALL):
                raise
            block *= 2


def _header(reader, quote, strip):
    """The names of the columns, without spaces and the quotes after them if they are to be stripped."""
    names = list(reader.schema.names)
    return [_bare(name, quote) for name in names] if strip else names


def _bare(text, quote):
    bare = text.strip()
    behind = quote and text != bare and len(bare) > 1 and bare[0] == bare[-1] == quote
    return bare[1:-1].replace(2 * quote, quote) if behind else bare


def _stripped(part, columns, numbers, quote):
    """A batch of string columns with bare cells; of columns of numbers, spellings of nothing become null."""
    import pyarrow
    from pyarrow import csv

    nothing, made = set(csv.ConvertOptions().null_values), []
    for name, column in zip(columns, part.columns, strict=True):
        coded = column.dictionary_encode()
        bare = [_bare(text, quote) for text in coded.dictionary.to_pylist()]
        bare = [None if name in numbers and text in nothing else text for text in bare]
        made.append(pyarrow.array(bare, pyarrow.string()).take(coded.indices))
    return pyarrow.RecordBatch.from_arrays(made, names=list(columns))


@contextlib.contextmanager
def _reader(path, form, block=1 << 20, kinds=None):
    """Opens a text file of a form (names, separator, quote); kinds are the types of the columns to read."""
    from pyarrow import csv

    names, separator, quote = form
    read = csv.ReadOptions(column_names=names, block_size=max(block, 2))
    parse = csv.ParseOptions(
        delimiter=separator, quote_char=quote or False, newlines_in_values=quote is not None
    )
    convert = kinds and csv.ConvertOptions(column_types=kinds, include_columns=list(kinds))
    with (
        _opened(path) as file,
        contextlib.closing(_WholeBreaks(file)) as whole,
        csv.open_csv(whole, read, parse, convert) as reader,
    ):
        yield reader


class _WholeBreaks:
    """A file whose pieces never end between the two bytes of a line break, as pyarrow's reader needs it.

    That drops a line feed at the start of a piece after a carriage return, also within a quoted cell. It
    reads ahead in a thread of its own, so closing waits for a read that is under way and ends the file.
    """

    def __init__(self, file):
        self._file, self._held, self._lock, self.closed = file, b"", threading.Lock(), False

    def read(self, size):
        with self._lock:
            more = b"" if self.closed else self._file.read(size - len(self._held))
            data = self._held + more
            self._held = b"\r" if more and len(data) > 1 and data.endswith(b"\r") else b""
            return data[: len(data) - len(self._held)]

    def close(self):
        with self._lock:
            self.closed = True


@contextlib.contextmanager
def _opened(path):
    """The bytes of a file, decompressed."""
    if path.suffix != ".zip":
        import pyarrow

        with pyarrow.input_stream(str(path)) as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise ValueError(f"the archive holds {len(names)} files, not one")
        with archive.open(names[0]) as file:
            yield file


def tables(source, columns):
    """Yields some columns of a table in memory, or of each table of an iterable.

    >>> list(tables({"user": [7, 8], "item": [1, 2]}, ["user"]))
    [{'user': [7, 8]}]

    Args:
        source: {column: array [n]}, a DataFrame, a pyarrow.Table or RecordBatch, a structured array of NumPy,
            or an iterable of them.
        columns: names.

    Returns:
        Iterator of {column: values [n]}.

    Raises:
        ValueError: for a missing or repeated column, or for what is not a table of columns.
    """
    if _names(source) is not None:
        source = [source]
    elif isinstance(source, bytes) or not hasattr(source, "__iter__"):
        kind = type(source).__name__
        raise ValueError(f"path: {kind} is not a table; pass a path, a table or chunks of one")
    for table in source:
        names = _names(table)
        if names is None:
            raise ValueError(
                f"path: a chunk is {type(table).__name__}; pass {{column: array [n]}}, a DataFrame or a "
                "pyarrow.Table, or an iterable of them"
            )
        demand(columns, names)
        for name in columns:
            if isinstance(table[name], str | bytes) or not hasattr(table[name], "__len__"):
                raise ValueError(
                    f"column {name!r} of a chunk is {table[name]!r:.40}; pass {{column: array [n]}}, not rows"
                )
        yield {name: table[name] for name in columns}


def _names(table):
    """The names of the columns of what has columns, else None."""
    if isinstance(table, Mapping):
        return list(table)
    for found in (getattr(table, n, None) for n in ("column_names", "columns")):
        if found is not None:
            return list(found)
    return getattr(getattr(table, "dtype", None), "names", None)


def limited(chunks, limit):
    """Passes chunks on until ``limit`` rows have come, and cuts the last.

    Args:
        chunks: iterable of {column: array [n]}.
        limit: number of rows, or None for all.
    """
    for chunk in chunks:
        if limit is not None:
            chunk = {name: column[:limit] for name, column in chunk.items()}
            limit -= len(next(iter(chunk.values()), ()))
        yield chunk
        if limit == 0:
            return


def demand(columns, found):
    """Raises unless each of some columns was found exactly once.

    Args:
        columns: names.
        found: names.
    """
    for name in columns:
        if list(found).count(name) != 1:
            problem = "is there twice" if name in found else "is missing"
            raise ValueError(f"column {name!r} {problem}; the columns are {list(found)}")
