"""Pictures: files → arrays of one size, and batches of some pictures of some identities."""

import concurrent.futures
import functools
import importlib
import io
import os
import pathlib

import numpy as np

from jaxembed import files
from jaxembed.data.click_tables import take
from jaxembed.data.records import Images
from jaxembed.extras import brings

FORMATS = {  # how a file begins: Pillow's module and class that read it
    b"\x89PNG\r\n\x1a\n": "PngImagePlugin.PngImageFile",
    b"\xff\xd8\xff": "JpegImagePlugin.JpegImageFile",
    b"GIF8": "GifImagePlugin.GifImageFile",
    b"RIFF": "WebPImagePlugin.WebPImageFile",
    b"BM": "BmpImagePlugin.BmpImageFile",
}
MOST = 2**26  # pixels, 8192 x 8192: 200 MB as RGB
FITS = ("crop", "pad", "stretch")


def read_image(source, size=None, *, channels=3, fit="crop", background=255, most=MOST):
    """Picture file: decodes a PNG, JPEG, GIF, WebP or BMP file to an array of 8 bits.

    Its size is read and compared with ``most`` before any pixel is decoded. The orientation that a camera
    wrote is applied. Palettes become colours, transparent pixels are mixed with the background, 16 bits are
    divided by 257. Of an animation the first picture is read.

    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGBA", (4, 2), (0, 0, 255, 0)).save(file, "PNG")
    >>> print(read_image(file.getvalue(), 2, background=7)[..., 0])
    [[7 7]
     [7 7]]

    Args:
        source: path, or the bytes of a file.
        size: side of the result, or (height, width); None keeps the picture's own.
        channels: 3, or 1 for grey.
        fit: how the picture is brought to the size: "crop" scales it to cover the size and cuts its centre
            out, "pad" scales it to lie within and fills with the background, "stretch" changes its shape.
        background: value of 0 to 255 behind transparent pixels and beside padded pictures.
        most: pixels, above which the file is refused.

    Returns:
        uint8 [H, W, channels].

    Raises:
        ValueError: for a file that is empty, cut short, damaged, of another format or too large; one line
            with its name. Also for an option outside its range.
        FileNotFoundError: when the file is missing.
    """
    _check(channels, fit, background)
    size = None if size is None else _side(size)
    name = "source" if isinstance(source, bytes) else os.fspath(source)
    with files.reading(name, "check the path"):
        content = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
    if not content:
        raise ValueError(f"{name}: 0 bytes; copy the file again")
    with _opened(content, name) as picture:
        width, height = picture.size
        if width * height > most:
            raise ValueError(f"{name}: {width} x {height} pixels are above most={most}; pass a larger most")
        try:
            return _decoded(picture, size, channels, fit, background)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{name}: damaged or cut short ({reason}); copy it again") from None


def _opened(content, name):
    """The picture of a file whose header alone was read.

    ``Image.open`` does the same, and warns of large pictures that are refused here with an error.
    """
    with brings("images"):
        import PIL
    reader = next((reader for start, reader in FORMATS.items() if content.startswith(start)), None)
    if reader is None:
        raise ValueError(f"{name}: not a PNG, JPEG, GIF, WebP or BMP file; convert it, or leave it out")
    module, kind = reader.split(".")
    try:
        return getattr(importlib.import_module(f"{PIL.__name__}.{module}"), kind)(io.BytesIO(content))
    except Exception:  # a decoder raises whatever it meets
        raise ValueError(f"{name}: damaged or cut short; copy it again") from None


def _check(channels=3, fit="crop", background=255, most=MOST):
    if channels not in (1, 3):
        raise ValueError(f"channels: {channels}; pass 3, or 1 for grey")
    if fit not in FITS:
        raise ValueError(f"fit: {fit!r}; pass one of {', '.join(map(repr, FITS))}")
    if not isinstance(background, int | np.integer) or not 0 <= background <= 255:
        raise ValueError(f"background: {background!r}; pass a whole number of 0 to 255")


def _side(size):
    """(height, width) of a side or of both."""
    sides = (size, size) if np.ndim(size) == 0 else tuple(size)
    if len(sides) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in sides):
        raise ValueError(f"size: {size!r}; pass a whole number of pixels, or (height, width)")
    return tuple(map(int, sides))


def _decoded(picture, size, channels, fit, background):
    from PIL import Image, ImageOps

    if size is not None:
        picture.draft(
            "RGB", (max(size), max(size))
        )  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that suffices
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits of grey
        grey = np.asarray(picture).astype(np.int64) // 257
        picture = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    return _coloured(picture, size, channels, fit, background)


def _coloured(picture, size, channels, fit, background):
    """The array of a picture of 8 bits in some colours, brought to a size."""
    from PIL import Image

    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        behind = Image.new("RGBA", picture.size, (background,) * 3 + (255,))
        picture = Image.alpha_composite(behind, picture.convert("RGBA"))
    picture = picture.convert("RGB" if channels == 3 else "L")
    if size is not None and picture.size != (size[1], size[0]):
        picture = _fitted(picture, size[::-1], fit, (background,) * channels)
    array = np.asarray(picture)
    return array if channels == 3 else array[..., None]


def fit_image(array, size=None, *, channels=3, fit="crop", background=255):
    """Picture array: brings pixels that are decoded already to one size and number of channels.

    >>> print(fit_image(np.full((4, 2, 1), 9, np.uint8), 2).shape)
    (2, 2, 3)

    Args:
        array: uint8 [H, W, C] with C 1, 3 or 4 (transparency), or [H, W].
        size, channels, fit, background: as :func:`read_image` has them.

    Returns:
        uint8 [H, W, channels].

    Raises:
        ValueError: for another shape or dtype, or an option outside its range.
    """
    _check(channels, fit, background)
    with brings("images"):
        from PIL import Image
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ValueError(f"array: {array.dtype} {array.shape}; pass uint8 [H, W, C] with C 1, 3 or 4")
    size = None if size is None else _side(size)
    picture = Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
    return _coloured(picture, size, channels, fit, background)


def _fitted(picture, size, fit, background):
    from PIL import Image, ImageOps

    smooth = Image.Resampling.BILINEAR
    if fit == "stretch":
        return picture.resize(size, smooth)
    if fit == "crop":
        return ImageOps.fit(picture, size, smooth)
    return ImageOps.pad(picture, size, smooth, color=background if len(background) > 1 else background[0])


def read_images(paths, size, *, bad="refuse", workers=None, **options):
    """Picture files: decodes many files to one size, in threads.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     good, empty = pathlib.Path(folder, "a.png"), pathlib.Path(folder, "b.png")
    ...     Image.new("L", (5, 5), 9).save(good)
    ...     _ = empty.write_bytes(b"")
    ...     images, faults = read_images([good, empty], 2, channels=1, bad="skip")
    >>> print(images[:, 0, 0, 0], list(faults))
    [9 0] [1]

    Args:
        paths: list of N paths or of bytes.
        size: side of the results, or (height, width).
        bad: "refuse" raises for the first file that cannot be read; "skip" leaves its picture 0.
        workers: number of threads; None takes as many as there are processors, at most 8.
        **options: ``channels``, ``fit``, ``background`` and ``most`` of :func:`read_image`.

    Returns:
        (uint8 [N, H, W, C], {row: message} of the files that were skipped).

    Raises:
        ValueError, FileNotFoundError: as :func:`read_image`, unless they are skipped.
    """
    check_bad(bad)
    paths = list(paths)
    side = _side(size)
    _check(**options)  # a wrong option is the fault of no file
    images = np.zeros((len(paths), *side, options.get("channels", 3)), np.uint8)

    def one(row):
        try:
            images[row] = read_image(paths[row], side, **options)
        except (ValueError, OSError) as error:
            if bad == "refuse":
                raise
            return str(error)
        return None

    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    with concurrent.futures.ThreadPoolExecutor(max(1, workers), thread_name_prefix="pictures") as pool:
        try:
            found = dict(enumerate(pool.map(one, range(len(paths)))))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return images, {row: fault for row, fault in found.items() if fault is not None}


def check_bad(bad):
    """Refuses what is not a choice of what happens to bad files."""
    if bad not in ("refuse", "skip"):
        raise ValueError(f"bad: {bad!r}; pass 'refuse' or 'skip'")


def common_identities(*sources) -> Images:
    """Common identities: joins sets of pictures, and keeps what has a name that all of them know.

    Two artists' drawings of one thing become two pictures of one identity. Pictures with the
    label -1 are left out.

    >>> first = {"images": np.zeros((2, 1, 1, 1)), "labels": np.array([0, 1]), "names": ["cat", "dog"]}
    >>> second = {"images": np.ones((2, 1, 1, 1)), "labels": np.array([0, 1]), "names": ["dog", "owl"]}
    >>> both = common_identities(first, second)
    >>> print(both["names"], both["labels"], both["images"].ravel())
    ['dog'] [0 0] [0. 1.]

    Args:
        *sources: :class:`~jaxembed.data.records.Images` of one size.

    Returns:
        :class:`~jaxembed.data.records.Images` in the order of the sources, and ``"sources"`` int32 [N], the
        number of the source of each picture.

    Raises:
        ValueError: when no name is common, or the pictures differ in size or dtype.
    """
    names = sorted(set.intersection(*(set(source["names"]) for source in sources)))
    if not names:
        raise ValueError("sources: no name is common to all; names are compared letter by letter")
    kinds = {(source["images"].shape[1:], source["images"].dtype.str) for source in sources}
    if len(kinds) > 1:
        raise ValueError(f"sources: pictures of {sorted(kinds)}; read all of them at one size")
    numbers = {name: i for i, name in enumerate(names)}
    images, labels, places = [], [], []
    for place, source in enumerate(sources):
        label = np.array([numbers.get(name, -1) for name in source["names"]] + [-1])[source["labels"]]
        images.append(source["images"][label >= 0])
        labels.append(label[label >= 0])
        places.append(np.full(len(labels[-1]), place))
    return {
        "images": np.concatenate(images),
        "labels": np.concatenate(labels).astype(np.int32),
        "names": names,
        "sources": np.concatenate(places).astype(np.int32),
    }


def identity_batches(records, identities, each, *, extra=0, make=None, seed=0, process=None, processes=None):
    """Identity batches: cuts records into batches of P identities with K different records each.

    Step t takes the next P identities of a permutation that is drawn anew, from (seed, epoch), each time all
    of them had their turn, and K records of each from (seed, t). The rows of one identity follow one another.
    An identity with fewer than K records is left out.

    >>> images = {"labels": np.array([0, 1, 1, 2, 2, 2]), "rows": np.arange(6)}
    >>> ds = identity_batches(images, 2, 2, process=0, processes=1)
    >>> print(sorted(set(ds[0]["labels"].tolist())), len(set(ds[0]["rows"].tolist())))
    [1, 2] 4

    Args:
        records: dict of arrays [N, ...] with integer "labels" [N], such as
            :class:`~jaxembed.data.records.Images`. Its lists, such as "names", are left out.
        identities: P labels in a batch.
        each: K records of each of them, at least 1.
        extra: E further records of any label at the end of a batch, none of them twice: random negatives.
        make: turns the dict of a batch into what the loss takes; None leaves it as it is.
        seed: int >= 0.
        process: p, ``jax.process_index()`` when None.
        processes: number of processes, ``jax.process_count()`` when None. Each gets its share of the
            identities, then its share of the extra records.

    Returns:
        grain.MapDataset of dicts with arrays [P * K + E, ...]. Element t depends on (seed, t) alone.

    Raises:
        ValueError: when fewer than P identities have K records, with their number; for too few extra records,
            or a batch that the processes do not divide.

    References:
        F. Schroff et al., arXiv:1503.03832, section 3.2.
    """
    import jax

    with brings("data"):
        import grain
    columns = {name: leaf for name, leaf in records.items() if not isinstance(leaf, list | dict)}
    labels = np.asarray(columns["labels"])
    known, counts = np.unique(labels, return_counts=True)
    enough = known[counts >= each]
    processes = jax.process_count() if processes is None else processes
    _check_identities(len(labels), len(known), len(enough), (identities, each, extra), processes)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], enough)
    stops = np.searchsorted(labels[order], enough, side="right")
    rows = functools.partial(
        _identity_rows,
        members=[order[a:b] for a, b in zip(starts, stops, strict=True)],
        count=len(labels),
        sizes=(identities, each, extra),
        seed=int(np.random.SeedSequence(seed).entropy),
        share=(jax.process_index() if process is None else process, processes),
    )

    def cut(step, place):
        batch = take(columns, rows(step))
        return batch if make is None else make(batch)

    return grain.MapDataset.range(len(enough) // identities).repeat().map_with_index(cut)


def _check_identities(count, known, enough, sizes, processes):
    identities, each, extra = sizes
    if min(identities, each) < 1 or extra < 0:
        raise ValueError(f"identities: {identities}, each {each}, extra {extra}; pass at least 1, 1 and 0")
    if enough < identities:
        raise ValueError(
            f"identities: {identities} asked for, {enough} of {known} labels have {each} records; "
            "lower identities or each"
        )
    if count - identities * each < extra:
        raise ValueError(f"extra: {extra} of {count} records beside {identities * each}; lower it")
    if identities % processes or extra % processes:
        raise ValueError(
            f"identities: {identities} and extra {extra} do not divide among {processes} processes"
        )


def _identity_rows(step, *, members, count, sizes, seed, share):
    """Row numbers of one process in the batch of a step."""
    identities, each, extra = sizes
    process, processes = share
    epoch, place = divmod(step, len(members) // identities)
    chosen = np.random.default_rng((seed, 0, epoch)).permutation(len(members))
    rng = np.random.default_rng((seed, 1, step))
    groups = chosen[place * identities : (place + 1) * identities]
    rows = np.stack([rng.permutation(members[group])[:each] for group in groups])
    others = np.setdiff1d(np.arange(count), rows)
    others = rng.permutation(others)[:extra] if extra else others[:0]
    part, rest = identities // processes, extra // processes
    mine = rows[process * part : (process + 1) * part].ravel()
    return np.concatenate([mine, others[process * rest : (process + 1) * rest]])
