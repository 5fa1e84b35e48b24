"""Pictures that packages carry, and the files of MNIST's format."""

import functools
import gzip

import numpy as np
import pytest

from jaxembed import data
from jaxembed.data.sources.images import read_idx
from jaxembed.data.sources.packages import fetched


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


@functools.cache
def drawn(style):
    return found(data.emoji, style)


def test_emoji_have_names():
    images = drawn("openmoji")
    assert len(images["images"]) == len(images["names"]) == len(set(images["names"])) > 1000
    heart = images["images"][images["names"].index("heavy black heart")]
    red, green = heart[16, 16].astype(int)[:2]
    assert red > green + 80
    assert (heart[0, 0] == 255).all()


def test_two_artists_draw_the_same_emoji():
    first, second = drawn("openmoji"), drawn("noto")
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
    with pytest.raises(FileNotFoundError, match="no train-images-idx3-ubyte"):
        data.fashion_mnist(folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="fetch_pictures nothing` fetches it"):
        fetched("nothing", tmp_path / "none")
    with pytest.raises(ValueError, match="split: 'validation'"):
        data.fashion_mnist("validation")
    with pytest.raises(ValueError, match="style: 'apple'"):
        data.emoji("apple")
    with pytest.raises(FileNotFoundError):
        data.emoji(font=tmp_path / "none.ttf")
    (tmp_path / "bad.ttf").write_bytes(b"not a font")
    with pytest.raises(ValueError, match="not a font"):
        data.emoji(font=tmp_path / "bad.ttf")


def picture(path, value, size=(6, 4)):
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new("L", size, value).save(path)


@pytest.mark.slow
def test_open_clip_art_has_titles():
    images = found(data.openclipart, 16)
    assert images["images"].shape[1:] == (16, 16, 3)
    assert len(images["texts"]) == len(images["labels"]) > 6500
    assert len(images["names"]) == 22
    assert all(images["texts"])
    assert any("pixels are above" in message for message in images["skipped"].values())  # it has such


def test_titles_and_names_of_files(tmp_path):
    for i, name in enumerate(["a/crow_01", "a/old_ship", "b/one", "b/two", "b/three", "b/four"]):
        picture(tmp_path / f"{name}.png", i, (8, 2))
    lines = ["a/crow_01\tA crow", *(f"b/{n}\tBlue theme" for n in ("one", "two", "three", "four"))]
    (tmp_path / "titles.tsv").write_text("\n".join(lines))
    images = data.openclipart(4, tmp_path)
    assert images["texts"] == ["A crow", "old ship", "four", "one", "three", "two"]
    assert images["labels"].tolist() == [0, 0, 1, 1, 1, 1]
    assert (images["images"][0, 0] == 255).all()  # padded with white


def test_stamps_have_sentences():
    english, german = found(data.stamps, 16), found(lambda: data.stamps(16, language="de"))
    assert len(english["texts"]) > 700
    frog = english["texts"].index("A frog.")
    assert english["paths"][frog] in german["paths"]
    assert german["texts"][german["paths"].index(english["paths"][frog])] == "Ein Frosch."


def test_sentences_in_other_languages(tmp_path):
    for name in ("a/frog", "a/toad", "a/mute"):
        picture(tmp_path / f"{name}.png", 1)
    (tmp_path / "a/frog.txt").write_text("A frog.\nde.utf8=Ein Frosch.\nde_AT.utf8=Frosch\n", "utf-8")
    (tmp_path / "a/toad.txt").write_text("A toad.\n", "utf-8")
    assert data.stamps(4, tmp_path)["texts"] == ["A frog.", "A toad."]
    german = data.stamps(4, tmp_path, language="de")
    assert german["texts"] == ["Ein Frosch."]
    assert german["images"].shape == (1, 4, 4, 3)
    with pytest.raises(ValueError, match="language: none in 'fr'"):
        data.stamps(4, tmp_path, language="fr")


def test_omniglots_layout(tmp_path):
    for i, name in enumerate(["Greek/character01/1_01", "Greek/character01/1_02", "Latin/character01/2_01"]):
        picture(tmp_path / f"{name}.png", 10 * i, (105, 105))
    images = data.omniglot(tmp_path)
    assert images["images"].shape == (3, 28, 28, 1)
    assert images["names"] == ["Greek/character01", "Latin/character01"]
    assert images["labels"].tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="pass the folder of alphabets"):
        data.omniglot(tmp_path / "Greek")


def faces(folder):
    for i, name in enumerate(["Ann/Ann_0001", "Ann/Ann_0002", "Bo/Bo_0001", "Cy/Cy_0001", "Cy/Cy_0010"]):
        picture(folder / f"{name}.jpg", 10 * i)
    return data.lfw(folder, 4)


PAIRS = "2\t1\nAnn\t1\t2\nAnn\t1\tBo\t1\nCy\t1\t10\nBo\t1\tCy\t10\n"


def test_the_pairs_of_lfw(tmp_path):
    images = faces(tmp_path / "lfw")
    assert images["names"] == ["Ann", "Bo", "Cy"]
    (tmp_path / "pairs.txt").write_text(PAIRS)
    pairs = data.lfw_pairs(tmp_path / "pairs.txt", images)
    assert pairs["first"].tolist() == [0, 0, 3, 2]
    assert pairs["second"].tolist() == [1, 2, 4, 4]
    assert pairs["same"].tolist() == [True, False, True, False]
    assert pairs["fold"].tolist() == [0, 0, 1, 1]
    same = images["labels"][pairs["first"]] == images["labels"][pairs["second"]]
    np.testing.assert_array_equal(same, pairs["same"])
    (tmp_path / "train.txt").write_text("1\nAnn\t1\t2\nAnn\t1\tBo\t1\n")
    assert data.lfw_pairs(tmp_path / "train.txt", images)["fold"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: not the number of folds"),
        ("x y\n", "line 1: not the number of folds"),
        ("2\t1\nAnn\t1\t2\n", "1 pairs for 2 folds of 2 x 1"),
        (PAIRS.replace("Ann\t1\t2", "Ann\tone\t2"), "line 2: not 'name number number'"),
        (PAIRS.replace("Cy\t1\t10", "Cy\t1\t11"), "line 4: no picture Cy_0011"),
    ],
)
def test_a_bad_list_of_pairs_is_named(content, message, tmp_path):
    (tmp_path / "pairs.txt").write_text(content)
    known = [f"{name}.jpg" for name in ("Ann_0001", "Ann_0002", "Bo_0001", "Cy_0001")]
    with pytest.raises(ValueError, match=message):
        data.lfw_pairs(tmp_path / "pairs.txt", {"paths": known})
