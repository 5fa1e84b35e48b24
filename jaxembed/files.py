"""Files that are whole or absent: written and renamed in one step, checked when they are opened."""

import contextlib
import hashlib
import json
import os
import pathlib
import re

import numpy as np

from jaxembed._reading import LONGEST as LONGEST
from jaxembed._reading import likely_encoding as likely_encoding
from jaxembed._reading import lines as lines
from jaxembed._reading import named as named
from jaxembed._reading import one_line as one_line
from jaxembed._reading import reading as reading
from jaxembed._reading import text_of as text_of


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
    with reading(path, remedy), np.errstate(all="ignore"):
        array = np.lib.format.open_memmap(path, mode="r")
    if array.shape != shape or array.dtype.str != dtype:
        raise ValueError(f"{path}: {array.dtype.str} {array.shape}, expected {dtype} {shape}; {remedy}")
    return array


def read_json(path, remedy):
    """Reads a JSON file.

    Args:
        path: the file.
        remedy: what the error tells the reader to do.
    """
    with reading(path, remedy):
        return json.loads(text_of(path.read_bytes(), path, remedy))


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


def write_json(path, value):
    """Replaces a JSON file in one step.

    Args:
        path: the file.
        value: JSON value.

    Raises:
        ValueError: for NaN or an infinity, which JSON has not.
    """
    new = beside(path, ".new")
    with written(new) as file:
        file.write(json.dumps(value, indent=1, allow_nan=False).encode() + b"\n")
    os.replace(new, path)
    sync_folder(path.parent)


@contextlib.contextmanager
def written(path):
    """Opens a file for writing whose bytes are on the disk when the block ends.

    Args:
        path: the file.
    """
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


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
