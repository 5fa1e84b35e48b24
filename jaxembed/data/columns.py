"""Table files → columns, block by block, through pyarrow, which TensorFlow Datasets brings."""

import contextlib
import pathlib
import zipfile
import zlib
from collections.abc import Mapping

_LONGEST = 1 << 26  # bytes of the longest row of a text file
_TOO_SMALL = ("straddling object", "Empty CSV file or block")  # what pyarrow says of a block below a row


def blocks(path, columns, *, numbers=(), names=None, separator=",", quote='"', limit=None, block=1 << 24):
    """Yields the columns of a table file, block by block.

    Args:
        path: a text file, also compressed (.gz) or alone in a .zip, or a .parquet file.
        columns: names of the columns to read.
        numbers: those that a text file holds as numbers (empty cells are null); others are read as str.
        names: names of all columns of a text file without a header.
        separator: what stands between cells.
        quote: what surrounds cells that contain the separator, or None.
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
            found = _text(path, columns, numbers, names, separator, quote, block)
        yield from limited((dict(zip(b.schema.names, b.columns, strict=True)) for b in found), limit)


def column_names(path, *, separator=",", quote='"'):
    """Reads the names of the columns of a table file.

    >>> _ = pathlib.Path("clicks.csv").write_text("user,item,clicked\\nu1,i1,0\\n")
    >>> column_names("clicks.csv")
    ['user', 'item', 'clicked']

    Args:
        path: a text file with a header, also compressed (.gz) or alone in a .zip, or a .parquet file.
        separator: what stands between cells.
        quote: what surrounds cells that contain the separator, or None.

    Returns:
        List of str.

    Raises:
        FileNotFoundError: without the file.
        ValueError: for a malformed or cut file.
    """
    from pyarrow import parquet

    with _readable(path) as path:
        if path.suffix == ".parquet":
            return list(parquet.read_schema(path).names)
        with _reader(path, None, separator, quote) as reader:
            return list(reader.schema.names)


@contextlib.contextmanager
def _readable(path):
    """The path of a file that is there; what goes wrong in reading it becomes one line."""
    import pyarrow

    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    try:
        yield path
    except (pyarrow.ArrowException, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        problem = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: {problem}; check the file and the schema") from None


def _parquet(path, columns):
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        demand(columns, file.schema_arrow.names)
        yield from file.iter_batches(batch_size=1 << 16, columns=list(columns))


def _text(path, columns, numbers, names, separator, quote, block):
    import pyarrow
    from pyarrow import csv

    form = names and list(names), separator, quote
    types = {name: pyarrow.float64() if name in numbers else pyarrow.string() for name in columns}
    convert = csv.ConvertOptions(column_types=types, include_columns=list(columns))
    done = 0  # rows that were passed on before a block was too small for a row
    while True:
        try:
            with _reader(path, *form, block) as reader:
                demand(columns, reader.schema.names)
            with _reader(path, *form, block, convert) as reader:
                seen = 0
                for part in reader:
                    seen += len(part)
                    if seen > done:
                        yield part.slice(max(0, len(part) - (seen - done)))
                        done = seen
                return
        except pyarrow.ArrowInvalid as error:
            if block >= _LONGEST or not any(cause in str(error) for cause in _TOO_SMALL):
                raise
            block *= 2


@contextlib.contextmanager
def _reader(path, names, separator, quote, block=1 << 20, convert=None):
    from pyarrow import csv

    read = csv.ReadOptions(column_names=names, block_size=block)
    parse = csv.ParseOptions(
        delimiter=separator, quote_char=quote or False, newlines_in_values=quote is not None
    )
    with _opened(path) as file, csv.open_csv(file, read, parse, convert) as reader:
        yield reader


@contextlib.contextmanager
def _opened(path):
    if path.suffix != ".zip":
        yield str(path)
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
        ValueError: for a missing or repeated column, or for what is no table of columns.
    """
    if _names(source) is not None:
        source = [source]
    elif isinstance(source, bytes) or not hasattr(source, "__iter__"):
        raise ValueError(f"path: {type(source).__name__} is no table; pass a path, a table or chunks of one")
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
    """Raises unless each of some columns stands exactly once among those that were found.

    Args:
        columns: names.
        found: names.
    """
    for name in columns:
        if list(found).count(name) != 1:
            problem = "stands twice" if name in found else "is missing"
            raise ValueError(f"column {name!r} {problem}; the columns are {list(found)}")
