"""Data sets of TFDS: mocked, prepared on disk, and errors of one line."""

import importlib
import sys

import numpy as np
import pytest
from written_files import one

from jaxembed import data

# TensorFlow Datasets


@pytest.mark.parametrize("name", ["ag_news_subset", "glue/sst2", "movielens/100k-ratings"])
def test_tfds_mocked(name):
    datasets = pytest.importorskip("tensorflow_datasets")
    datasets = pytest.importorskip("tensorflow_datasets")
    with datasets.testing.mock_data(num_examples=5):
        source = data.tfds(name, "train")
        assert len(source) == len(list(source)) == 5
        assert all(not isinstance(leaf, bytes) for leaf in source[0].values())
        assert any(isinstance(leaf, str) for leaf in source[0].values())
        assert repr(source[-1]) == repr(source[4])
        with pytest.raises(IndexError, match="index 5 is out of range"):
            source[5]
        batch = one(source, 2, make=lambda records: {"n": np.array(len(records))})[1]
        assert batch["n"] == 2
    assert "tensorflow" not in sys.modules


def test_tfds_prepared_on_disk_gives_text(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    from tiny_pairs import TinyPairs

    TinyPairs(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    source = data.tfds("tiny_pairs", "train", data_dir=tmp_path)
    found = sorted(source, key=lambda record: record["label"])
    assert [record["text"] for record in found] == [f"Ünï {i}" for i in range(4)]
    assert list(found[0]["tags"]) == ["a", "é"]
    stacked = one(source, 4, shuffle=False)[0]
    assert sorted(stacked["label"].tolist()) == [0, 1, 2, 3] and set(stacked["text"]) == {
        record["text"] for record in found
    }


def test_tfds_errors_are_one_line(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    for name, message in [
        ("ag_news_subset", "is not prepared for random access at"),
        ("no_such_set_x", "is not a data set of TFDS"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            data.tfds(name, "train", data_dir=tmp_path)
        assert "\n" not in str(error.value) and repr(name) in str(error.value)


def test_decoding_of_leaves():
    record = {
        "a": b"\xc3\xa9",
        "b": np.array([b"x", b"y"], object),
        "c": np.array(b"z"),
        "d": {"e": [b"\xff", 1]},
    }
    found = importlib.import_module("jaxembed.data.sources.tfds")._decode(record)
    assert found["a"] == "é" and found["b"].tolist() == ["x", "y"] and found["c"] == "z"
    assert found["d"] == {"e": ["\ufffd", 1]}


@pytest.mark.parametrize(
    ("name", "options", "shape", "names"),
    [
        ("cifar10", {}, (32, 32, 3), 10),
        ("mnist", {"channels": 1}, (28, 28, 1), 10),
        ("lfw", {"size": 24}, (24, 24, 3), None),
        ("omniglot", {"size": 28, "channels": 1}, (28, 28, 1), 1623),
    ],
)
def test_pictures_of_tfds(name, options, shape, names):
    datasets = pytest.importorskip("tensorflow_datasets")
    with datasets.testing.mock_data(num_examples=4):
        images = data.tfds_images(name, "train", **options)
        again = data.tfds_images(name, "train", **options)
    assert images["images"].shape == (4, *shape) and images["images"].dtype == np.uint8
    assert images["labels"].shape == (4,) and images["labels"].dtype == np.int32
    assert len(images["names"]) == (names or len(set(images["labels"].tolist())))
    assert images["labels"].max() < len(images["names"])
    np.testing.assert_array_equal(images["images"], again["images"])


def test_pictures_of_another_name_or_of_several_sizes_are_refused():
    datasets = pytest.importorskip("tensorflow_datasets")
    with datasets.testing.mock_data(num_examples=4):
        with pytest.raises(ValueError, match="'picture' is not in the records of cifar10, which have"):
            data.tfds_images("cifar10", "train", image="picture")
        with pytest.raises(ValueError, match="size: pictures of [0-9] sizes in imagenette train"):
            data.tfds_images("imagenette", "train")
