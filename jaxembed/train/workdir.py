"""Where a run keeps its files: a folder of the local disk, or one in a bucket."""

import os
import pathlib
import re

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
