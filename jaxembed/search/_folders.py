"""What indexes on disk share: readers beside a writer, and looks at what was read."""

import numpy as np


def steady(read, open_, path):
    """Opens the files that a manifest names, again where a writer replaced it and them meanwhile.

    Args:
        read: function that returns the manifest as it is now.
        open_: function from the manifest to what it names.
        path: of the folder, for the error.

    Raises:
        FileNotFoundError: for a file that is missing though the manifest names it.
    """
    for _ in range(10):
        manifest = read()
        try:
            return open_(manifest)
        except FileNotFoundError:
            if read() == manifest:
                raise
    raise changed(path)


def changed(path):
    """Returns the error of a reader whose files a writer has replaced.

    Args:
        path: of the folder.
    """
    return FileNotFoundError(f"{path}: was changed since it was opened; open it again")


def check_texts(path, texts, remedy):
    """Refuses strings of an npy file that are not Unicode.

    Args:
        path: the file.
        texts: array of strings; any other array passes.
        remedy: what the error tells the reader to do.
    """
    codes = np.ascontiguousarray(texts).view(np.uint32) if texts.dtype.kind == "U" else np.zeros(0)
    if codes.size and codes.max() > 0x10FFFF:
        raise ValueError(f"{path}: holds strings that are not Unicode; {remedy}")


def check_offsets(path, offsets, stop, remedy):
    """Refuses offsets that do not rise from 0 to the end of what they cut.

    Args:
        path: their file.
        offsets: integers [N + 1].
        stop: the last offset.
        remedy: what the error tells the reader to do.
    """
    if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != stop or (offsets[1:] < offsets[:-1]).any():
        raise ValueError(f"{path}: the offsets do not rise from 0 to {stop}; {remedy}")
