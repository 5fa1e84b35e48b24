"""What a reader of files is, and small files for it."""

import importlib
import io
import sys
import zipfile
from collections.abc import Callable
from typing import NamedTuple


class Reader(NamedTuple):
    """A reader of files.

    ``write(folder)`` makes a small good input and ``read(folder)`` reads it. ``whole`` says that digests
    cover every byte: a damaged file is refused or gives the same value. ``needs`` is a module without which
    it cannot run. ``free`` says that a changed file may give other kinds of values. ``slow`` ones are left to
    campaigns.
    """

    write: Callable
    read: Callable
    whole: bool = False
    needs: str | None = None
    free: bool = False
    slow: bool = False


def put(folder, contents):
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def files_of(contents):
    """A function that writes these files."""
    return lambda folder: put(folder, contents)


def zipped(name, text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), text)
    return file.getvalue()


def in_package(read):
    """Reads what a folder holds as an installed package, which is found before others of its name."""

    def run(folder):
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            return read()
        finally:
            sys.path.remove(str(folder))

    return run
