"""Picture files: sizes before pixels, orientation, palettes, transparency, depths, damage, links."""

import io
import os
import struct
import zlib

import numpy as np
import pytest

from jaxembed import data

Image = pytest.importorskip("PIL.Image")
ROWS = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


def file_of(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def grey(array=ROWS):
    return Image.fromarray(array)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
def test_a_picture_comes_back_as_it_was_written(kind):
    content = file_of(grey(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    out = data.read_image(content, channels=1)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, ROWS[..., None])
    np.testing.assert_array_equal(data.read_image(content), np.repeat(ROWS[..., None], 3, 2))


def test_a_jpeg_is_near_what_it_was():
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    out = data.read_image(file_of(grey(smooth), "JPEG", quality=95), channels=1)
    assert np.abs(out[..., 0].astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_camera_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = data.read_image(file_of(grey(), "PNG", exif=exif), channels=1)[..., 0]
    shown = {
        1: ROWS,
        2: ROWS[:, ::-1],
        3: ROWS[::-1, ::-1],
        4: ROWS[::-1],
        5: ROWS.T,
        6: ROWS[::-1].T,
        7: ROWS[::-1, ::-1].T,
        8: ROWS[:, ::-1].T,
    }
    np.testing.assert_array_equal(out, shown[orientation])


def test_transparent_pixels_are_mixed_with_the_background():
    array = np.zeros((1, 3, 4), np.uint8)
    array[0, :, 0], array[0, :, 3] = 200, (0, 128, 255)
    out = data.read_image(file_of(Image.fromarray(array)), background=100)
    np.testing.assert_allclose(out[0, :, 0], [100, 150, 200], atol=1)
    np.testing.assert_allclose(out[0, :, 1], [100, 50, 0], atol=1)
    two = Image.fromarray(np.array([[[50, 0], [50, 255]]], np.uint8))
    assert data.read_image(file_of(two), channels=1, background=9).ravel().tolist() == [9, 50]


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_become_colours(transparent):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([0, 1])
    out = data.read_image(file_of(picture, **({"transparency": 1} if transparent else {})))
    assert out[0].tolist() == [[255, 0, 0], [255, 255, 255] if transparent else [0, 0, 255]]


def test_sixteen_bits_become_eight():
    deep = np.array([[0, 257, 65535, 30000]], np.uint16)
    out = data.read_image(file_of(Image.fromarray(deep)), channels=1)
    assert out.ravel().tolist() == [0, 1, 255, 116]


def test_one_bit_and_four_inks_become_colours():
    assert data.read_image(file_of(Image.new("1", (2, 2), 1)), channels=1).ravel().tolist() == [255] * 4
    inks = file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    red = data.read_image(inks)[4, 4].astype(int)
    assert red[0] > 230 and red[1:].max() < 30


@pytest.mark.parametrize(
    ("fit", "expected"),
    [("stretch", [[0, 255]] * 2), ("crop", [[0, 255]] * 2), ("pad", [[7, 7], [0, 255]])],
)
def test_the_ways_to_a_size(fit, expected):
    wide = np.zeros((4, 8), np.uint8)
    wide[:, 4:] = 255
    out = data.read_image(file_of(grey(wide)), (2, 2), channels=1, fit=fit, background=7)[..., 0]
    if fit == "pad":
        tall = data.read_image(file_of(grey(wide)), (8, 8), channels=1, fit=fit, background=7)[..., 0]
        assert (tall[:2] == 7).all() and (tall[6:] == 7).all()
        np.testing.assert_array_equal(tall[2:6], wide)
    else:
        np.testing.assert_allclose(out, expected, atol=40)


def test_the_centre_is_cut_out():
    array = np.tile(np.repeat([10, 200, 90], 8).astype(np.uint8), (8, 1))
    out = data.read_image(file_of(grey(array)), 8, channels=1)
    assert (out == 200).all()


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def bomb(width, height, content=b""):
    """A small PNG file that says it has many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8193, 10_000, 20_000, 2**31 - 1])
def test_decompression_bombs_are_refused_before_they_are_decoded(side, monkeypatch):
    import PIL.ImageFile

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="pixels are above most="):
        data.read_image(bomb(side, side))


def test_most_is_a_choice():
    content = file_of(Image.new("L", (20, 20)))
    with pytest.raises(ValueError, match="20 x 20 pixels are above most=399; pass a larger most"):
        data.read_image(content, most=399)
    assert data.read_image(content, most=400).shape == (20, 20, 3)


NOISE = np.random.default_rng(0).integers(256, size=(40, 40)).astype(np.uint8)
DAMAGED = {
    "empty": (b"", "0 bytes"),
    "text": (b"this is not a picture", "not a PNG"),
    "half a png": (file_of(grey(NOISE))[:900], "damaged or cut short"),
    "half a jpeg": (file_of(grey(NOISE), "JPEG")[:700], "damaged or cut short"),
    "header only": (file_of(grey(NOISE))[:20], "damaged or cut short"),
    "first bytes": (file_of(grey(NOISE))[:8], "damaged or cut short"),
    "no pixels": (bomb(8, 8), "damaged or cut short"),
    "wrong sum": (file_of(grey(NOISE))[:100] + b"xxxx" + file_of(grey(NOISE))[104:], "damaged or cut short"),
    "another format": (file_of(grey(), "TIFF"), "not a PNG"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named(case, tmp_path):
    content, message = DAMAGED[case]
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        data.read_image(path, 8)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def folder_of(tmp_path, bad=()):
    """Two classes, three good files, and the bad ones."""
    for name, value in (("cat/a.png", 1), ("cat/b.JPG", 2), ("dog/c.gif", 3)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (9, 7), value).save(path, {"p": "PNG", "J": "JPEG", "g": "GIF"}[name.split(".")[1][0]])
    for name, content in bad:
        (tmp_path / name).write_bytes(content)
    return tmp_path


BAD = [("dog/b.png", b""), ("cat/z.jpg", DAMAGED["half a jpeg"][0]), ("dog/bomb.png", bomb(20_000, 20_000))]


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    folder = folder_of(tmp_path, [("cat/notes.txt", b"x"), ("cat/.hidden.png", b"x")])
    images = data.image_folder(folder, 4, channels=1)
    assert images["names"] == ["cat", "dog"]
    assert images["labels"].tolist() == [0, 0, 1]
    assert images["images"][:, 0, 0, 0].tolist() == [1, 2, 3]
    assert [path.name for path in images["paths"]] == ["a.png", "b.JPG", "c.gif"]
    assert not images["skipped"]


def test_bad_files_are_refused_or_skipped_by_choice(tmp_path):
    folder = folder_of(tmp_path, BAD)
    with pytest.raises(ValueError, match="z.jpg: damaged or cut short"):
        data.image_folder(folder, 4, workers=1)
    images = data.image_folder(folder, 4, bad="skip")
    assert images["images"].shape == (3, 4, 4, 3)
    assert images["labels"].tolist() == [0, 0, 1]
    assert sorted(path.name for path in images["skipped"]) == ["b.png", "bomb.png", "z.jpg"]
    assert all(str(path) in message for path, message in images["skipped"].items())


def test_one_bad_file_among_thousands_is_named(tmp_path):
    good = file_of(Image.new("L", (2, 2), 5))
    (tmp_path / "a").mkdir()
    for i in range(2000):
        (tmp_path / "a" / f"{i:04d}.png").write_bytes(good if i != 1234 else good[:40])
    with pytest.raises(ValueError, match="1234.png"):
        data.image_folder(tmp_path, 2, channels=1)
    images = data.image_folder(tmp_path, 2, channels=1, bad="skip")
    assert len(images["images"]) == 1999
    assert [path.name for path in images["skipped"]] == ["1234.png"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_out_of_the_folder_are_not_followed(what, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("L", (2, 2)).save(outside / "secret.png")
    folder = tmp_path / "inside"
    folder.mkdir()
    folder_of(folder)
    target = outside / "secret.png" if what == "file" else outside
    os.symlink(target, folder / "cat" / ("link.png" if what == "file" else "link"))
    with pytest.raises(ValueError, match="link.*leads out of the folder"):
        data.image_folder(folder, 4)
    images = data.image_folder(folder, 4, bad="skip")
    assert len(images["images"]) == 3
    assert len(images["skipped"]) == 1


def test_links_inside_are_read_once_and_circles_end(tmp_path):
    folder = folder_of(tmp_path)
    os.symlink(folder, folder / "cat" / "circle")
    os.symlink(folder / "dog" / "c.gif", folder / "cat" / "same.gif")
    images = data.image_folder(folder, 4, channels=1)
    assert [path.name for path in images["paths"]] == ["a.png", "b.JPG", "same.gif", "c.gif"]


def test_pictures_beside_the_classes_have_no_name(tmp_path):
    folder = folder_of(tmp_path)
    Image.new("L", (2, 2), 8).save(folder / "alone.png")
    images = data.image_folder(folder, 2)
    assert images["names"] == ["", "cat", "dog"]
    assert images["labels"].tolist() == [0, 1, 1, 2]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no pictures"):
        data.image_folder(tmp_path, 4)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        data.image_folder(tmp_path / "nowhere", 4)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 1 pictures can be read"):
        data.image_folder(tmp_path, 4, bad="skip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 4}, "channels: 4"),
        ({"fit": "best"}, "fit: 'best'"),
        ({"bad": "ignore"}, "bad: 'ignore'"),
    ],
)
def test_unknown_options_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        data.image_folder(folder_of(tmp_path), 4, **options)


def test_the_number_of_threads_does_not_matter(tmp_path):
    folder = folder_of(tmp_path)
    one, many = (data.image_folder(folder, 4, workers=n)["images"] for n in (1, 5))
    np.testing.assert_array_equal(one, many)


def test_pictures_are_decoded_for_each_batch(tmp_path):
    files = data.image_files(folder_of(tmp_path))

    def make(rows):
        images, _ = data.read_images([files["paths"][row] for row in rows], 4, channels=1)
        return {"images": images, "labels": files["labels"][rows]}

    ds = data.batches(np.arange(3), 3, make=make, shuffle=False, process=0, processes=1)
    assert ds[1]["images"][:, 0, 0, 0].tolist() == [1, 2, 3]
    assert ds[1]["labels"].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("array", "channels", "expected"),
    [
        (np.full((2, 2), 7, np.uint8), 1, 7),
        (np.full((2, 2, 1), 7, np.uint8), 3, 7),
        (np.full((2, 2, 3), 7, np.uint8), 1, 7),
        (np.zeros((2, 2, 4), np.uint8), 3, 255),
    ],
)
def test_arrays_are_brought_to_size_and_channels(array, channels, expected):
    out = data.fit_image(array, 5, channels=channels)
    assert out.shape == (5, 5, channels)
    assert (out == expected).all()


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2)), np.zeros(3, np.uint8)])
def test_other_arrays_are_refused(array):
    with pytest.raises(ValueError, match="array: "):
        data.fit_image(array, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size: 0; pass a whole number"),
        ({"size": 8.0}, "size: 8.0"),
        ({"size": (8, 8, 3)}, "size: "),
        ({"size": 8, "background": 300}, "background: 300"),
        ({"size": 8, "channels": 2}, "channels: 2"),
        ({"size": 8, "fit": "cut"}, "fit: 'cut'"),
    ],
)
def test_a_wrong_option_is_the_fault_of_no_file(options, message, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(ROWS).save(path)
    for call in (
        lambda: data.read_image(path, **options),
        lambda: data.read_images([path], bad="skip", **options),
    ):
        with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")):
            call()
    assert data.read_image(path, np.int64(3)).shape == (3, 3, 3)


def test_links_in_a_circle_and_pipes_stop_nothing(tmp_path):
    Image.fromarray(ROWS).save(tmp_path / "a.png")
    os.symlink("loop.png", tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    found = data.image_folder(tmp_path, 4, bad="skip")
    assert len(found["images"]) == 1 and [path.name for path in found["skipped"]] == ["loop.png"]


def test_pictures_without_a_name_are_no_common_identity():
    images = {"images": np.zeros((3, 1, 1, 1)), "labels": np.array([-1, 0, 1]), "names": ["cat", "dog"]}
    assert data.common_identities(images, images)["labels"].tolist() == [0, 1, 0, 1]
