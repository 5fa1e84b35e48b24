"""Pictures in folders: a folder per class."""

import os
import pathlib

import numpy as np

from jaxembed.data.images import check_bad, read_images
from jaxembed.data.records import Images

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")


def image_files(folder, *, bad="refuse"):
    """Picture files: lists those below a folder, with the folder that each of them is in as its class.

    The class is the first folder below ``folder``; pictures beside these folders have the class "". What
    begins with a dot, and files whose name does not end like a picture's, are passed over.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat/b.png", "cat/a.JPG", "dog/c.png", "dog/notes.txt"):
    ...         path = pathlib.Path(folder, name)
    ...         path.parent.mkdir(exist_ok=True)
    ...         _ = path.write_bytes(b"")
    ...     files = image_files(folder)
    >>> print([path.name for path in files["paths"]], files["labels"], files["names"])
    ['a.JPG', 'b.png', 'c.png'] [0 0 1] ['cat', 'dog']

    Args:
        folder: path.
        bad: "refuse" raises for a link that leads out of the folder, "skip" leaves it out. A linked folder
            inside is left out in any case, since its pictures are found where they are.

    Returns:
        {"paths": list of N paths in the order of their names, "labels": int32 [N], "names": list of str,
        "skipped": {path: message}}.

    Raises:
        FileNotFoundError: when the folder is not there.
        ValueError: for a folder without pictures, or a link that leads out of it.
    """
    check_bad(bad)
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: {folder} is not a folder; pass one that holds pictures")
    paths, skipped = [], {}
    _walk(folder, folder.resolve(), paths, skipped)
    if skipped and bad == "refuse":
        raise ValueError(f"{next(iter(skipped.values()))}, or pass bad='skip'")
    if not paths:
        raise ValueError(f"folder: no pictures ({', '.join(SUFFIXES)}) below {folder}; pass another folder")
    parts = [path.relative_to(folder).parts for path in paths]
    classes = [part[0] if len(part) > 1 else "" for part in parts]
    names = sorted(set(classes))
    labels = np.searchsorted(names, classes).astype(np.int32)
    return {"paths": paths, "labels": labels, "names": names, "skipped": skipped}


def _walk(folder, root, paths, skipped):
    """Adds the picture files below a folder to ``paths``; follows no link out of ``root``."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = pathlib.Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and not path.resolve().is_relative_to(root):
            skipped[path] = f"{path}: is a link that leads out of the folder; copy what it leads to"
        elif entry.is_dir(follow_symlinks=False):
            _walk(path, root, paths, skipped)
        elif entry.name.lower().endswith(SUFFIXES) and not path.is_dir():
            paths.append(path)


def image_folder(folder, size, *, bad="refuse", **options) -> Images:
    """Image folder: reads the pictures below a folder at one size, a folder for each class.

    Args:
        folder: path, laid out as :func:`image_files` says.
        size: side of the pictures, or (height, width).
        bad: "refuse" raises for the first file that is empty, damaged, cut short, too large or a link out of
            the folder; "skip" leaves such files out and lists them.
        **options: ``channels``, ``fit``, ``background``, ``most`` and ``workers`` of
            :func:`~jaxembed.data.images.read_images`.

    Returns:
        :class:`~jaxembed.data.records.Images`, uint8 [N, H, W, C], with "paths", and "skipped" {path:
        message}. A class all of whose files are skipped keeps its name.

    Raises:
        FileNotFoundError: when the folder is not there.
        ValueError: for a folder without any readable picture, and as ``bad`` says; one line with the file.
    """
    files = image_files(folder, bad=bad)
    images, faults = read_images(files["paths"], size, bad=bad, **options)
    kept = np.setdiff1d(np.arange(len(images)), list(faults))
    if not len(kept):
        raise ValueError(f"folder: none of {len(images)} pictures can be read; {next(iter(faults.values()))}")
    skipped = files["skipped"] | {files["paths"][row]: fault for row, fault in faults.items()}
    return {
        "images": images[kept] if faults else images,
        "labels": files["labels"][kept],
        "names": files["names"],
        "paths": [files["paths"][row] for row in kept],
        "skipped": skipped,
    }
