"""Where a run keeps its files: a folder of the local disk, or one in a bucket."""

import json
import os
import pathlib
import re
import warnings

from jaxembed import files

_BUCKETS = ("gs://", "s3://", "az://")


def folder_of(workdir):
    """Returns the path of a workdir, which is absolute or in a bucket.

    >>> print(folder_of("gs://bucket/run") / "metrics.jsonl")
    gs://bucket/run/metrics.jsonl

    Args:
        workdir: str or path. What begins with gs://, s3:// or az:// is a path of ``etils.epath``, which
            needs the client of that store (gcsfs and google-cloud-storage, s3fs, or adlfs).

    Returns:
        ``pathlib.Path`` or ``epath.Path``.

    Raises:
        ValueError: for another scheme, or for one whose second slash ``pathlib`` has dropped.
    """
    text = os.fspath(workdir)
    if text.startswith(_BUCKETS):
        from etils import epath

        return epath.Path(text)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise ValueError(f"workdir={text!r}: pass a folder, or a str that begins with {', '.join(_BUCKETS)}")
    return pathlib.Path(text).absolute()


def is_local(folder):
    """Tells whether a path of :func:`folder_of` is on the local disk."""
    return not os.fspath(folder).startswith(_BUCKETS)


def compare_meta(folder, meta, *, write):
    """Compares the description of a run with the one that its workdir holds, and writes it where none is.

    Each checkpoint holds the description too. So a ``meta.json`` that is damaged or gone keeps no run from
    going on, and lets no other run go on.

    Args:
        folder: path of :func:`folder_of`.
        meta: JSON value.
        write: False only compares.

    Raises:
        ValueError: for another description, or one that cannot be read where no checkpoint has it.
    """
    path, stored, damage = folder / "meta.json", [], None
    try:
        if path.exists():
            stored = [
                files.read_json(path, "name another workdir, or delete this file if the run is the same")
            ]
    except ValueError as error:
        damage = error
    if stored == [meta]:
        return
    saved = _metas_of(folder)
    if meta in saved and (stored or damage):
        warnings.warn(f"{path}: damaged, but the checkpoints hold what was given; it is used", stacklevel=5)
    elif stored or (saved and meta not in saved):
        other = files.difference((stored or saved)[0], meta)
        raise ValueError(
            f"workdir={str(folder)!r} holds another experiment: {other}; "
            "name another workdir or delete this one"
        )
    elif damage:
        raise damage
    if write and is_local(path):
        files.write_json(path, meta)
    elif write:
        path.write_text(json.dumps(meta, indent=1))


def _metas_of(folder):
    """The descriptions that the checkpoints of a run hold; the newest comes first."""
    folder, found = folder / "checkpoints", []
    steps = sorted((int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.exists() else ())
    for step in reversed(steps):
        try:
            held = files.read_json(folder / str(step) / "_CHECKPOINT_METADATA", "use another checkpoint")
            found.append(held["custom_metadata"]["meta"])
        except (ValueError, OSError, KeyError, TypeError):
            continue
    return found
