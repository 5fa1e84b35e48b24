"""Columns of tables → the numbers, times and names of categories that their cells hold."""

import contextlib

import numpy as np

from jaxembed.extras import brings


def arrow(column, name):
    """Turns a column into one Arrow array whose missing values (None, NaN, NaT, NA) are null.

    >>> arrow([1, None, 3], "user").type
    DataType(int64)

    Args:
        column: of pyarrow, NumPy or pandas, or a list: n numbers, strings or times, or n lists of them.
        name: of the column, for the error.

    Returns:
        pyarrow.Array [n].

    Raises:
        ValueError: for what holds no numbers, strings or times of one kind.
    """
    with brings("data"):
        import pyarrow
    if not isinstance(column, pyarrow.Array | pyarrow.ChunkedArray):
        try:
            column = pyarrow.array(_rows(column), from_pandas=True)
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise _refused(name, error, "hold one kind of number, string or time in it") from None
    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
    return column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column


def _rows(column):
    """A column of lists as pyarrow reads it: a list of lists; any other column as it is."""
    nested = getattr(column, "ndim", 1) == 2 or (
        getattr(column, "dtype", None) in (None, object)
        and any(isinstance(cell, np.ndarray | tuple | set) for cell in column)
    )
    if not nested:
        return column
    return [list(x.tolist() if isinstance(x, np.ndarray) else x) if np.iterable(x) else None for x in column]


def _refused(name, error, remedy):
    return ValueError(f"column {name!r}: {' '.join(str(error).split())[:200]}; {remedy}")


def floats(column, name):
    """Reads a column of numbers as float64 [n], NaN where there is none; large integers are rounded.

    >>> import pyarrow
    >>> floats(pyarrow.array([1, None, 2**60]), "count")
    array([1.0000000e+00,           nan, 1.1529215e+18])

    Args:
        column: pyarrow.Array [n].
        name: of the column, for the error.

    Raises:
        ValueError: for a column that holds no numbers.
    """
    import pyarrow

    try:
        cast = column.cast(pyarrow.float64(), safe=False)
        return np.array(cast.to_numpy(zero_copy_only=False))
    except pyarrow.ArrowException as error:
        cause = " ".join(str(error).split())
        raise ValueError(f"column {name!r} is not a column of numbers: {cause}") from None


def times(column, name):
    """Reads a column of numbers or of ISO 8601 times as float64 [n], times as microseconds since 1970.

    >>> import pyarrow
    >>> times(pyarrow.array(["1970-01-01 00:00:01"]), "when")
    array([1000000.])

    Args:
        column: pyarrow.Array [n].
        name: of the column, for the error.

    Raises:
        ValueError: for a missing value or one that is neither a number nor a time.
    """
    import pyarrow

    kinds = pyarrow.float64(), pyarrow.timestamp("us"), pyarrow.timestamp("us", "UTC")
    for kind in kinds:
        with contextlib.suppress(pyarrow.ArrowException):
            cast = column.cast(kind, safe=False)
            cast = cast if kind == kinds[0] else cast.cast(pyarrow.int64())
            found = cast.to_numpy(zero_copy_only=False).astype(np.float64)
            if np.isnan(found).any():
                break
            return found
    raise ValueError(
        f"time {name!r} must hold a number or an ISO 8601 time in every row; mend or drop the others"
    )


def strings(column, name):
    """Reads a column of categories as strings, by one rule for files and for arrays of any dtype.

    A missing value (null, NaN, an empty cell) is "". A whole number is written as an integer, so that 7, 7.0
    and "7" are one category. A text cell is taken as it is, "7.0" too. True and False are "true" and "false".
    ``np.array(["a", float("nan")])`` holds the text "nan": NumPy wrote it before we see it. A list, or an
    array with ``dtype=object``, keeps the missing value.

    >>> import pyarrow
    >>> strings(pyarrow.array([7.0, None, 123456789012.0, 0.5]), "user").to_pylist()
    ['7', '', '123456789012', '0.5']

    Args:
        column: pyarrow.Array [n].
        name: of the column, for the error.

    Returns:
        pyarrow.Array [n] of str.

    Raises:
        ValueError: for a column of lists or other objects, or a whole float that its dtype does not tell from
            its neighbours (2**53 and above in float64).
    """
    import pyarrow
    from pyarrow import compute

    try:
        if pyarrow.types.is_floating(column.type):
            column = _whole(column, name)
        text = column.cast(pyarrow.string())
        if pyarrow.types.is_decimal(column.type):
            text = compute.replace_substring_regex(text, r"\.0+$", "")
        return compute.fill_null(text, "")
    except pyarrow.ArrowException as error:
        listed = pyarrow.types.is_nested(column.type)
        remedy = "a column of lists belongs to multivalent=" if listed else "pass numbers or UTF-8 strings"
        raise _refused(name, error, remedy) from None


def _whole(column, name):
    """Floats as strings; whole numbers among them as integers, NaN as null."""
    import pyarrow
    from pyarrow import compute

    exact = {16: 2**11, 32: 2**24, 64: 2**53}[column.type.bit_width]
    if column.type.bit_width == 16:
        column = column.cast(pyarrow.float32())
    values = column.to_numpy(zero_copy_only=False)
    whole = np.isfinite(values) & (values == np.floor(values))
    if (bad := whole & (np.abs(values) >= exact)).any():
        raise ValueError(
            f"column {name!r}: the float {values[bad][0]:.0f} is not exact ({exact} and above are rounded); "
            "pass integers or strings"
        )
    integers = pyarrow.array(np.where(whole, values, 0).astype(np.int64)).cast(pyarrow.string())
    text = compute.if_else(pyarrow.array(whole), integers, column.cast(pyarrow.string()))
    return compute.if_else(pyarrow.array(np.isnan(values)), pyarrow.scalar(None, pyarrow.string()), text)


def bags(column, name, joint, longest=None):
    """Reads a column of multi-valent cells: all values, one cell after the other, and how many each cell has.

    >>> import pyarrow
    >>> values, lengths = bags(pyarrow.array([["a", "b"], ["b"], []]), "tags", " ")
    >>> print(values.to_pylist(), lengths)
    ['a', 'b', 'b'] [2 1 0]

    Args:
        column: pyarrow.Array [n] of lists, or of strings with ``joint`` between the values. Values are
            read by the rule of :func:`strings`; "" is left out.
        name: of the column, for the error.
        joint: str.
        longest: optional number of values of a cell that are kept, the first.

    Returns:
        pyarrow.Array [m] of str and int32 [n], whose sum is m.
    """
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_list_view(column.type) or pyarrow.types.is_large_list_view(column.type):
        lengths = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        offsets = pyarrow.array(np.concatenate([[0], np.cumsum(lengths)]), pyarrow.int64())
        column = pyarrow.LargeListArray.from_arrays(offsets, compute.list_flatten(column))
    listed = (pyarrow.types.is_list, pyarrow.types.is_large_list, pyarrow.types.is_fixed_size_list)
    if any(is_one(column.type) for is_one in listed):
        values = strings(arrow(compute.list_flatten(column), name), name)
        lists = column
    else:
        lists = compute.split_pattern(strings(column, name), joint)
        values = compute.list_flatten(lists)
    cells = compute.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    real = compute.not_equal(values, "").to_numpy(zero_copy_only=False)
    if longest is not None:
        counts = np.bincount(cells[real], minlength=len(column))
        place = np.arange(real.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        real[real] = place < longest
    return values.filter(pyarrow.array(real)), np.bincount(cells[real], minlength=len(column)).astype(
        np.int32
    )
