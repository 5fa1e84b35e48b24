"""Pictures in folders: a folder per class, Omniglot's two levels, LFW's people and its pairs."""

import os
import pathlib
import re

import numpy as np

from jaxembed.data.images import check_bad, read_images
from jaxembed.data.records import Images
from jaxembed.data.rows import decoded

_NUMBER = re.compile("[0-9]{1,9}")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")


def image_files(folder, *, depth=1, bad="refuse"):
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
        depth: number of folders below ``folder`` that name the class: 2 for "alphabet/letter".
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
    classes = ["/".join(path.relative_to(folder).parts[:-1][:depth]) for path in paths]
    names = sorted(set(classes))
    labels = np.searchsorted(names, classes).astype(np.int32)
    return {"paths": paths, "labels": labels, "names": names, "skipped": skipped}


def _walk(folder, root, paths, skipped):
    """Adds the picture files below a folder to ``paths``; follows no link out of ``root``."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = pathlib.Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and not pathlib.Path(os.path.realpath(path)).is_relative_to(root):
            skipped[path] = f"{path}: is a link that leads out of the folder; copy what it leads to"
        elif entry.is_dir(follow_symlinks=False):
            _walk(path, root, paths, skipped)
        elif entry.name.lower().endswith(SUFFIXES) and (path.is_file() or not path.exists()):
            paths.append(path)


def image_folder(folder, size, *, depth=1, bad="refuse", **options) -> Images:
    """Image folder: reads the pictures below a folder at one size, a folder for each class.

    Args:
        folder: path, laid out as :func:`image_files` says.
        size: side of the pictures, or (height, width).
        depth: number of folders that name the class.
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
    files = image_files(folder, depth=depth, bad=bad)
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


def omniglot(folder, size=28, **options) -> Images:
    """Omniglot: letters of many alphabets, each drawn by 20 people, in the layout of its archives.

    The layout is ``Alphabet/character01/0709_01.png``, what ``images_background_small1.zip`` and its sisters
    unpack to.

    Args:
        folder: that holds a folder per alphabet.
        size: side of the pictures; they are 105 in the archives.
        **options: of :func:`image_folder`; grey by default.

    Returns:
        :class:`~jaxembed.data.records.Images`, uint8 [N, size, size, 1], black strokes on white; a label is a
        letter, named "Alphabet/character01".

    Raises:
        FileNotFoundError: when the folder is not there.
        ValueError: as :func:`image_folder`, and for pictures in another layout.

    References:
        B. Lake et al., Human-level concept learning through probabilistic program induction, 2015.
    """
    images = image_folder(folder, size, depth=2, **({"channels": 1} | options))
    wrong = [name for name in images["names"] if name.count("/") != 1]
    if wrong:
        raise ValueError(
            f"folder: pictures in {wrong[0] or '.'!r}; pass the folder of alphabets, Greek/character01/..."
        )
    return images


def lfw(folder, size=64, **options) -> Images:
    """Labelled Faces in the Wild: faces in a folder per person, ``Ada_Lovelace/Ada_Lovelace_0001.jpg``.

    Args:
        folder: that holds a folder per person.
        size: side of the pictures; they are 250 in the archive.
        **options: of :func:`image_folder`.

    Returns:
        :class:`~jaxembed.data.records.Images`, uint8 [N, size, size, 3]; a label is a person.

    Raises:
        FileNotFoundError: when the folder is not there.
        ValueError: as :func:`image_folder`.

    References:
        G. Huang et al., Labeled Faces in the Wild, technical report 07-49, University of Massachusetts, 2007.
    """
    return image_folder(folder, size, **options)


def lfw_pairs(path, images):
    """LFW's pairs: reads the list of pairs of faces, same person or not, in folds.

    The first line holds the number of folds and, n, that of the pairs of each kind; without folds n alone.
    Each fold is n lines "name number number" and n lines "name number name number".

    >>> import tempfile
    >>> files = {"paths": ["a/a_0001.jpg", "a/a_0002.jpg", "b/b_0001.jpg"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.txt")
    ...     _ = path.write_text("1\\t1\\na\\t1\\t2\\na\\t2\\tb\\t1\\n")
    ...     pairs = lfw_pairs(path, files)
    >>> print(pairs["first"], pairs["second"], pairs["same"], pairs["fold"])
    [0 1] [1 2] [ True False] [0 0]

    Args:
        path: of ``pairs.txt``, or ``pairsDevTrain.txt``.
        images: of :func:`lfw`, or :func:`image_files` of the same folder.

    Returns:
        {"first", "second": int32 [P], rows of the pictures; "same": bool [P]; "fold": int32 [P]}.

    Raises:
        ValueError: for a line that is not a pair, a number of lines that the first line does not name, or a
            face that is missing; the message names the line.
    """
    rows = {pathlib.Path(place).stem: row for row, place in enumerate(images["paths"])}
    lines = decoded(path).splitlines()
    head = lines[0].split() if lines else []
    if not 1 <= len(head) <= 2 or not all(map(_NUMBER.fullmatch, head)):
        raise ValueError(f"{path}, line 1: not the number of folds and pairs; fetch the list again")
    folds, each = (1, int(head[0])) if len(head) == 1 else map(int, head)
    lines = [line.split() for line in lines[1:] if line.strip()]
    if len(lines) != 2 * folds * each:
        raise ValueError(f"{path}: {len(lines)} pairs for {folds} folds of 2 x {each}; fetch the list again")
    found = [_pair(words, rows, f"{path}, line {number}") for number, words in enumerate(lines, start=2)]
    first, second, same = (np.array(column) for column in zip(*found, strict=True))
    fold = np.repeat(np.arange(folds), 2 * each)
    return {
        "first": first.astype(np.int32),
        "second": second.astype(np.int32),
        "same": same,
        "fold": fold.astype(np.int32),
    }


def _pair(words, rows, line):
    """(row, row, whether it is one person) of the words of a line."""
    if len(words) not in (3, 4) or not all(map(_NUMBER.fullmatch, (words[1], words[-1]))):
        raise ValueError(f"{line}: not 'name number number' or 'name number name number'; mend it")
    faces = (words[0], words[1]), (words[-2] if len(words) == 4 else words[0], words[-1])
    names = [f"{name}_{int(number):04d}" for name, number in faces]
    for name in names:
        if name not in rows:
            raise ValueError(f"{line}: no picture {name} in the folder; pass the folder of all faces")
    return rows[names[0]], rows[names[1]], len(words) == 3
