"""Files that are whole or absent: written and renamed in one step, checked when they are opened."""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import re
import shutil

import numpy as np

from jaxembed._locks import held as held
from jaxembed._reading import LONGEST as LONGEST
from jaxembed._reading import likely_encoding as likely_encoding
from jaxembed._reading import lines as lines
from jaxembed._reading import named as named
from jaxembed._reading import one_line as one_line
from jaxembed._reading import reading as reading
from jaxembed._reading import text_of as text_of

_SEAL = "checksum"  # the key of a JSON file's own checksum
_BLANK = f'"{_SEAL}": ""'.encode()
_MAGIC = (b"\x93NUMPY\1\0", b"\x93NUMPY\2\0", b"\x93NUMPY\3\0")
_HEADER = re.compile(
    rb"\{'descr': '([<>|][a-zA-Z][0-9]+)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,18}, )*[0-9]{0,18},?)\), \} *\n"
)


def local_path(path, name):
    """Returns a path of the local disk; refuses an address such as gs://bucket/index.

    >>> print(local_path("index", "folder"))
    index

    Args:
        path: str or path.
        name: of the argument, for the error.
    """
    text = os.fspath(path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise ValueError(
            f"{name}={text!r}: is not on the local disk, where files are mapped; copy it from there"
        )
    return pathlib.Path(text)


def open_array(path, shape, dtype, remedy):
    """Opens an npy file as a read-only memory map after its size, shape and dtype are checked.

    Args:
        path: the file.
        shape: the shape that it must have.
        dtype: the dtype that it must have, as NumPy writes it ("<f4").
        remedy: what the error tells the reader to do.
    """
    with reading(path, remedy):
        found, order, offset = _npy_header(path)
    if found is None:
        raise ValueError(f"{path}: damaged or cut short, without the header of an npy file; {remedy}")
    if found != (dtype, shape):
        raise ValueError(f"{path}: {found[0]} {found[1]}, expected {dtype} {shape}; {remedy}")
    size, wanted = path.stat().st_size, offset + math.prod(shape) * np.dtype(dtype).itemsize
    if size != wanted or size == offset:
        raise ValueError(f"{path}: damaged or cut short, {size} bytes for {wanted}; {remedy}")
    return np.memmap(path, dtype, "r", offset, shape, order)


def _npy_header(path):
    """Reads (dtype, shape), order and end of the header that NumPy writes for plain dtypes."""
    with open(path, "rb") as file:
        head = file.read(10_000)
    begin = 10 if head[6:8] == b"\1\0" else 12
    stop = begin + int.from_bytes(head[8:begin], "little")
    read = _HEADER.fullmatch(head[begin:stop]) if head[:8] in _MAGIC and stop <= len(head) else None
    if read is None:
        return None, "C", 0
    shape = tuple(int(n) for n in read[3].split(b",") if n.strip())
    return (read[1].decode(), shape), "F" if read[2] == b"True" else "C", stop


def read_json(path, remedy, *, sealed=False):
    """Reads a JSON file.

    Args:
        path: the file.
        remedy: what the error tells the reader to do.
        sealed: True compares the checksum that ``write_json(sealed=True)`` wrote, and takes it out of the
            value. A file without one is read as it is.
    """
    with reading(path, remedy):
        text = path.read_bytes()
        value = json.loads(text_of(text, path, remedy))
    if sealed and isinstance(value, dict) and _SEAL in value:
        found = f'"{_SEAL}": "{value.pop(_SEAL)}"'.encode()
        before, _, after = text.rpartition(found)
        if _sealed(before + _BLANK + after) != text:
            raise ValueError(f"{path}: the checksum differs; {remedy}")
    return value


def _sealed(text):
    """Returns JSON whose last blank checksum is filled in."""
    before, _, after = text.rpartition(_BLANK)
    return before + _BLANK[:-1] + hashlib.sha256(text).hexdigest().encode() + b'"' + after


_KINDS = {dict: "an object", list: "a list", str: "a text", int: "an integer", float: "a number"}


def typed(value, kind, name, remedy):
    """Returns a JSON value whose kind is checked.

    >>> print(typed(3, int, "config.json: layers", "copy it again"))
    3

    Args:
        value: JSON value.
        kind: dict, list, str, int, or float, which takes integers too.
        name: of the value, for the error.
        remedy: what the error tells the reader to do.
    """
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"{name}: {json.dumps(value)[:40]} is not {_KINDS[kind]}; {remedy}")
    return value


def field(record, key, kind, name, remedy):
    """Returns what a JSON object holds under a key, both checked.

    >>> print(field({"layers": 3}, "layers", int, "config.json", "copy it again"))
    3

    Args:
        record: JSON value that has to be an object.
        key: str.
        kind: as in :func:`typed`.
        name: of the object, for the error.
        remedy: what the error tells the reader to do.
    """
    if key not in typed(record, dict, name, remedy):
        raise ValueError(f"{name}: {key!r} is missing; {remedy}")
    return typed(record[key], kind, f"{name}: {key}", remedy)


def inside(path, name):
    """Returns a relative path that stays in its folder; refuses any other.

    >>> print(inside("1_Pooling", "modules.json"))
    1_Pooling

    Args:
        path: str, as a file says it.
        name: of that file, for the error.
    """
    parts = path.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or ":" in parts[0]:
        raise ValueError(f"{name}: {path!r} is not a path inside the folder; do not use this folder")
    return path


def write_json(path, value, *, sealed=False):
    """Replaces a JSON file in one step.

    Args:
        path: the file.
        value: JSON value; an object where it is sealed.
        sealed: True adds a "checksum", the sha256 of the file's bytes while the checksum is empty.

    Raises:
        ValueError: for NaN or an infinity, which JSON has not.
        OSError: when the disk is full, or fails; the file is as it was.
    """
    value = value | {_SEAL: ""} if sealed else value
    try:
        text = json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"
    except ValueError as error:
        raise ValueError(f"{path}: cannot hold NaN or an infinity ({error}); pass it as text") from None
    new = beside(path, ".new")
    with written(new) as file:
        file.write(_sealed(text) if sealed else text)
    replace(new, path)


@contextlib.contextmanager
def written(path):
    """Opens a file for writing whose bytes are on the disk when the block ends; an error removes it.

    Args:
        path: the file.

    Raises:
        OSError: when the disk is full, or fails; names the file.
    """
    if os.path.islink(path):  # a stranger's folder shall not choose where we write
        os.unlink(path)
    file = open(path, "wb")  # noqa: SIM115 (an error here names the path and leaves nothing)
    with cleared(path), file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_array(path, x):
    """Writes an npy file, as :func:`written` does.

    NumPy gives arrays to the system by a way that loses the last 4 kB on a full disk, without an error. This
    one goes through Python's file.

    Args:
        path: the file.
        x: NumPy array without objects.

    Raises:
        OSError: when the disk is full, or fails; names the file.
    """
    with written(path) as file:
        np.save(_Stream(file.write), x, allow_pickle=False)


class _Stream:
    """What NumPy does not take for a file of the system."""

    def __init__(self, write):
        self.write = write


@contextlib.contextmanager
def cleared(path):
    """Removes a file or folder when the block that writes it fails; an error of the disk names it.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "x.new")
    >>> try:
    ...     with cleared(path):
    ...         _ = path.write_bytes(b"half")
    ...         raise OSError(28, "No space left on device")
    ... except OSError as error:
    ...     print(str(error).split("x.new: ")[1], path.exists())
    could not be written (No space left on device); make room, or choose another disk False

    Args:
        path: of what the block writes.

    Raises:
        OSError: in place of one that names no file.
    """
    try:
        yield
    except BaseException as error:
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(path)
        if type(error) is OSError and error.filename is None and not hasattr(error, "path"):
            raise unwritten(path, error) from None
        raise


def unwritten(path, error):
    """Returns the error that says that a file could not be written, and why.

    Args:
        path: the file.
        error: what the system or a library said.
    """
    cause = one_line(getattr(error, "strerror", None) or error)
    found = OSError(f"{path}: could not be written ({cause}); make room, or choose another disk")
    found.errno, found.path = getattr(error, "errno", None), path
    return found


def replace(new, path):
    """Puts a file in the place of another, in one step that is on the disk when this returns.

    Args:
        new: the file, which is gone afterwards, also after an error.
        path: where it goes.
    """
    with cleared(new):
        os.replace(new, path)
    sync_folder(path.parent)


def sync_folder(folder):
    """Puts renames on the disk, where the system can open folders.

    Args:
        folder: the folder in which something was renamed.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_size(path, size, remedy, exact=True):
    """Refuses a file that is missing or has another size, or only a smaller one.

    Args:
        path: the file.
        size: bytes that it must have.
        remedy: what the error tells the reader to do.
        exact: False lets it be larger.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: missing; {remedy}")
    found = path.stat().st_size
    if found < size or (exact and found > size):
        raise ValueError(f"{path}: {found} bytes, expected {size}; {remedy}")


def native_dtype(dtype, name):
    """Returns the text by which an npy file names a dtype; refuses what it cannot name.

    Args:
        dtype: anything that NumPy reads as a dtype.
        name: of the argument, for the error.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "biufcU" or dtype.isbuiltin == 2:
        raise ValueError(
            f"{name}: dtype {dtype} has no npy format; use float16, float32, integers or strings"
        )
    return dtype.str


def beside(path, suffix):
    """Returns the path whose name is longer by a suffix.

    Args:
        path: a pathlib path.
        suffix: text added to its name.
    """
    return path.with_name(path.name + suffix)


def difference(old, new, name="meta"):
    """Names the first place where two JSON values differ.

    >>> print(difference({"rows": 1}, {"rows": 2}))
    meta['rows'] is 1 there and 2 here

    Args:
        old: JSON value that was stored.
        new: JSON value that was given.
        name: of the value.

    Returns:
        str.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key) or (key in old) != (key in new):
                return difference(old.get(key), new.get(key), f"{name}[{key!r}]")
    return f"{name} is {json.dumps(old)[:80]} there and {json.dumps(new)[:80]} here"


def digest(path):
    """Returns the sha256 of a file.

    Args:
        path: the file.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(path, sha256, remedy):
    """Refuses a file whose bytes are not those that were written.

    Args:
        path: the file.
        sha256: of what was written.
        remedy: what the error tells the reader to do.
    """
    if digest(path) != sha256:
        raise ValueError(f"{path}: the checksum differs; {remedy}")
