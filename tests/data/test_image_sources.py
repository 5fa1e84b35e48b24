"""Pictures that packages carry, and the files of MNIST's format."""

import gzip

import numpy as np
import pytest

from jaxembed import data
from jaxembed.data.sources.images import read_idx


def checked(images, count, size, channels, labels):
    assert images["images"].shape == (count, size, size, channels)
    assert images["labels"].dtype == np.int32
    assert sorted(set(images["labels"].tolist())) == list(range(labels))
    assert len(images["names"]) == labels


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    known, images = datasets.load_digits(), data.digits()
    checked(images, 1797, 8, 1, 10)
    np.testing.assert_array_equal(images["images"][..., 0] * 16, known.images)
    np.testing.assert_array_equal(images["labels"], known.target)


def found(source, *arguments):
    try:
        return source(*arguments)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_mnist_has_500_of_each():
    images = found(data.mnist)
    checked(images, 5000, 28, 1, 10)
    assert (np.bincount(images["labels"]) == 500).all()
    assert images["images"].dtype == np.uint8
    assert 30 < images["images"].mean() < 37  # 33 over all of MNIST


@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_fashion_mnist_has_as_many_of_each(split, count):
    images = found(data.fashion_mnist, split)
    checked(images, count, 28, 1, 10)
    assert (np.bincount(images["labels"]) == count // 10).all()


def test_emoji_have_names():
    images = found(data.emoji)
    assert len(images["images"]) == len(images["names"]) == len(set(images["names"])) > 1000
    heart = images["images"][images["names"].index("heavy black heart")]
    red, green = heart[16, 16].astype(int)[:2]
    assert red > green + 80
    assert (heart[0, 0] == 255).all()


def test_two_artists_draw_the_same_emoji():
    first, second = found(data.emoji), found(data.emoji, "noto")
    both = data.common_identities(first, second)
    assert (np.bincount(both["labels"]) == 2).all()
    assert len(both["names"]) > 900
    dog = both["images"][both["labels"] == both["names"].index("dog face")].astype(float)
    assert np.abs(dog[0] - dog[1]).mean() > 5


def idx(shape, content, magic=b"\0\0\x08"):
    header = magic + bytes([len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return header + np.asarray(content, np.uint8).tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_own_files_of_mnists_format(packed, tmp_path):
    pixels = np.arange(24) % 251
    for name, content in (
        ("train-images-idx3-ubyte", idx((2, 3, 4), pixels)),
        ("train-labels-idx1-ubyte", idx((2,), [9, 0])),
    ):
        path = tmp_path / (name + ".gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    images = data.fashion_mnist("train", tmp_path)
    np.testing.assert_array_equal(images["images"].ravel(), pixels)
    assert images["labels"].tolist() == [9, 0]


DAMAGED = {
    "short": idx((2, 2), [1, 2, 3]),
    "long": idx((2, 2), [1, 2, 3, 4, 5]),
    "magic": idx((2,), [1, 2], b"\0\0\x09"),
    "header": idx((2,), [1, 2])[:6],
    "huge": idx((2**31, 2**31), []),
    "empty": b"",
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_files_are_named(case, packed, tmp_path):
    path = tmp_path / ("file.gz" if packed else "file")
    path.write_bytes(gzip.compress(DAMAGED[case]) if packed else DAMAGED[case])
    with pytest.raises(ValueError, match="fetch the file again") as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_a_cut_archive_is_named(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(idx((1000,), np.random.default_rng(0).integers(256, size=1000)))[:500])
    with pytest.raises(ValueError, match="damaged or cut short"):
        read_idx(path)


def test_what_is_missing_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="fetch_pictures fashion-mnist"):
        data.fashion_mnist(folder=tmp_path)
    with pytest.raises(ValueError, match="split: 'validation'"):
        data.fashion_mnist("validation")
    with pytest.raises(ValueError, match="style: 'apple'"):
        data.emoji("apple")
    with pytest.raises(FileNotFoundError):
        data.emoji(font=tmp_path / "none.ttf")
    (tmp_path / "bad.ttf").write_bytes(b"not a font")
    with pytest.raises(ValueError, match="not a font"):
        data.emoji(font=tmp_path / "bad.ttf")
