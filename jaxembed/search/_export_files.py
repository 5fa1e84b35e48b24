"""The files of other libraries' indexes, with what we know of them in a file beside each."""

import os
import re

from jaxembed import files

_AGAIN = "build the index again"


def building(path):
    """The lock under which an index is built.

    Args:
        path: of the index.
    """
    return files.held(files.local_path(path, "path"), "a build")


def replace(path, write, rows):
    """Replaces an index and its description; returns the path.

    Args:
        path: of the index.
        write: function of a name that writes the index there, and returns how many bytes that takes.
        rows: what was indexed.
    """
    path = files.local_path(path, "path")
    new = files.beside(path, ".new")
    with files.cleared(new):
        try:
            size = write(str(new))
            if new.stat().st_size != size:  # libraries overlook what is lost when a file is closed
                raise OSError(f"{new.stat().st_size} of {size} bytes were written")
        except (RuntimeError, OSError) as error:
            raise files.unwritten(path, OSError(cause(error))) from None
        with open(new, "rb") as file:
            os.fsync(file.fileno())
        said = _described(rows) | {"bytes": new.stat().st_size, "sha256": files.digest(new)}
        # Comes first, so that a full disk spoils neither; a killed writer leaves a checksum that differs.
        files.write_json(_note(path), said, sealed=True)
    files.replace(new, path)
    return path


def opened(path, read, rows, *, verify=True):
    """Opens an index after its description was compared with it, and with rows where they are given.

    Args:
        path: of the index.
        read: function of a name that opens the index there.
        rows: what should be indexed, or None.
        verify: False compares the size, but not the checksum.
    """
    path = files.local_path(path, "path")
    if not path.exists():
        raise FileNotFoundError(f"{path}: missing; build the index first")
    note = _note(path)
    if not note.exists():
        raise FileNotFoundError(f"{note}: missing; copy it beside the index, or {_AGAIN}")
    known = files.read_json(note, _AGAIN, sealed=True)
    keys = {"rows", "width", "version"}
    if not isinstance(known, dict) or known.keys() not in (keys, keys | {"bytes", "sha256"}):
        raise ValueError(f"{note}: describes no index; {_AGAIN}")
    written = {key: known[key] for key in sorted(keys)}
    if rows is not None and written != (given := _described(rows)):
        raise ValueError(f"{path}: {files.difference(written, given, 'rows')}; {_AGAIN} from these rows")
    if "sha256" in known:  # an older jaxembed wrote none
        files.check_size(path, known["bytes"], _AGAIN)
        if verify:
            files.check_digest(path, known["sha256"], _AGAIN)
    try:
        index = read(str(path))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: damaged or cut short ({cause(error)}); {_AGAIN}") from None
    if index is None:
        raise ValueError(f"{path}: damaged or cut short; {_AGAIN}")
    return index


def _note(path):
    return files.beside(path, ".rows.json")


def _described(rows):
    """What tells rows from those of an index that was changed since; arrays in memory have no version."""
    return {
        "rows": int(rows.shape[0]),
        "width": int(rows.shape[1]),
        "version": getattr(rows, "version", None),
    }


def cause(error):
    """What a library says of an error, in one line, without its function, source file and condition.

    >>> print(cause("Error in void f(int) at /src/a.cpp:12: Error: 'n > 0' failed: too few rows"))
    too few rows
    """
    text = re.sub(r"^Error in .*? at \S+:\d+: ", "", " ".join(str(error).split()))
    return re.sub(r"^Error: '.*' failed:? ?(?=.)", "", text)[:200]
