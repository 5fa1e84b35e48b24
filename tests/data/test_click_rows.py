"""New rows for a trained model, dense columns brought to one size, text labels and spaces."""

import contextlib
import dataclasses
import json
import re

import numpy as np
import pytest

from jaxembed import data
from jaxembed.data import Schema, click_rows, ctr_table

SCHEMA = Schema(
    label="clicked",
    categorical=("city", "user"),
    dense=("price", "visits"),
    multivalent=("tags",),
    time="when",
)


def make_chunk(count=200, seed=0):
    rng = np.random.default_rng(seed)
    tags = [" ".join(f"t{k}" for k in rng.geometric(0.4, rng.integers(0, 4))) for _ in range(count)]
    return {
        "city": rng.choice(["rome", "oslo", "bonn", ""], count).tolist(),
        "user": rng.geometric(0.05, count),
        "clicked": rng.integers(0, 2, count),
        "price": 1e6 * rng.normal(size=count) + 5e6,
        "visits": rng.geometric(0.01, count).astype(float),
        "tags": tags,
        "when": np.arange(count),
    }


def cut(chunk, rows):
    return {name: [column[i] for i in rows] for name, column in chunk.items()}


def written(path, chunk):
    lines = [",".join(chunk), *(",".join(map(str, row)) for row in zip(*chunk.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


# New rows


@pytest.mark.parametrize("hashed", [(), ("user", "tags")], ids=str)
@pytest.mark.parametrize("scaling", [None, "standardise"])
def test_rows_of_a_table_read_anew_are_those_of_the_table(tmp_path, hashed, scaling):
    chunk = make_chunk()
    table = ctr_table(chunk, SCHEMA, split="time", least=2, hashed=hashed, scaling=scaling, longest=2)
    options = {"hashed": hashed, "scaling": table["scaling"], "longest": 2}
    known, columns = json.loads(json.dumps([table["vocabularies"], table["scaling"]])), table["columns"]
    for source in (chunk, [chunk], written(tmp_path / "t.csv", chunk)):
        found = click_rows(source, SCHEMA, known[0], labels=True, **options | {"scaling": known[1]})
        assert sorted(found) == sorted(columns)
        for name in SCHEMA.features:
            np.testing.assert_array_equal(found["ids"][name], columns["ids"][name])
            assert found["ids"][name].dtype == columns["ids"][name].dtype
        np.testing.assert_array_equal(found["masks"]["tags"], columns["masks"]["tags"])
        np.testing.assert_array_equal(found["dense"], columns["dense"])
        np.testing.assert_array_equal(found["labels"], columns["labels"])
    last = table["splits"]["test"]
    alone = click_rows(cut(chunk, last), SCHEMA, known[0], **options)
    assert "labels" not in alone
    for name in ("city", "user"):
        np.testing.assert_array_equal(alone["ids"][name], columns["ids"][name][last])
    np.testing.assert_array_equal(alone["dense"], columns["dense"][last])


def test_unseen_values_have_code_0_and_no_column_of_labels_or_times_is_needed():
    chunk = make_chunk()
    table = ctr_table(chunk, SCHEMA, split="time")
    new = {"city": ["oslo", "paris"], "user": [1, 10**6], "price": [1.0, 2.0], "visits": [1.0, 2.0]}
    found = click_rows(new | {"tags": ["t1 never", ""]}, SCHEMA, table["vocabularies"])
    assert found["ids"]["city"].tolist() == [table["vocabularies"]["city"].index("oslo") + 1, 0]
    assert found["ids"]["user"].tolist() == [table["vocabularies"]["user"].index("1") + 1, 0]
    assert found["ids"]["tags"].tolist() == [[table["vocabularies"]["tags"].index("t1") + 1, 0], [0, 0]]
    assert found["masks"]["tags"].tolist() == [[True, True], [False, False]]


def test_rows_without_label_are_kept_and_with_labels_follow_the_schema():
    schema = Schema(label="stars", categorical=("city",), threshold=3, dropped=(3, None))
    chunk = {"city": list("abab"), "stars": [1.0, 3.0, 5.0, None]}
    vocabularies = {"city": ["a", "b"]}
    assert click_rows(chunk, schema, vocabularies)["ids"]["city"].tolist() == [1, 2, 1, 2]
    found = click_rows(chunk, schema, vocabularies, labels=True)
    assert found["ids"]["city"].tolist() == [1, 1] and found["labels"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"vocabularies": {"city": ["a"]}},
            "vocabularies: ['tags', 'user'] do not fit; give one for each of",
        ),
        ({"hashed": ("city",)}, "vocabularies: ['city'] do not fit"),
        ({"scaling": {"price": {}}}, "scaling: has ['price'], not the dense columns ['price', 'visits']"),
        ({"source": {"city": ["a"]}}, "column 'user' is missing"),
        ({"source": cut(make_chunk(), [])}, "source: holds no rows"),
        ({"source": make_chunk() | {"price": [np.nan] * 200}}, "dense 'price' holds nan"),
    ],
)
def test_bad_rows_are_one_line(change, message):
    given = {"source": make_chunk(), "vocabularies": dict.fromkeys(SCHEMA.features, ["a"])} | change
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        click_rows(given.pop("source"), SCHEMA, given.pop("vocabularies"), **given)
    assert "\n" not in str(error.value)


# One hash


def test_a_hashed_column_has_the_hashes_of_its_values_in_any_container():
    arrow, kinds = pytest.importorskip("pyarrow"), {}
    ids = [7, 123456789012, 7, 2**40 + 7]
    with contextlib.suppress(ImportError):
        import pandas

        kinds = {"series": pandas.Series(ids), "nullable": pandas.Series(ids, dtype="Int64")}
    kinds |= {"list": ids, "numpy": np.array(ids), "arrow": arrow.array(ids), "text": [str(v) for v in ids]}
    schema = Schema(label="y", categorical=("user",))
    for name, column in kinds.items():
        chunk = {"user": column, "y": [0, 1, 0, 1]}
        table = ctr_table(chunk, schema, hashed=("user",))
        found = click_rows(chunk, schema, {}, hashed=("user",))["ids"]["user"]
        for served in (data.hashed(np.array(ids)), data.hashed(column), found):
            assert table["columns"]["ids"]["user"].tolist() == served.tolist(), name


# Dense columns


def test_dense_columns_are_scaled_by_the_training_rows():
    chunk = make_chunk()
    table = ctr_table(chunk, SCHEMA, split="time", scaling={"visits": "log"})
    dense, train = table["columns"]["dense"], table["splits"]["train"]
    for i, values in enumerate([chunk["price"], np.log1p(chunk["visits"])]):
        expected = (values - values[train].mean()) / values[train].std()
        np.testing.assert_allclose(dense[:, i], expected, atol=1e-5)
    assert dense.dtype == np.float32
    scaled = {"price": np.asarray(chunk["price"]) * 1e5 - 3}
    again = ctr_table(chunk | scaled, SCHEMA, split="time", scaling={"visits": "log"})
    np.testing.assert_allclose(again["columns"]["dense"], dense, atol=1e-4)  # the unit does not matter


def test_large_numbers_with_small_differences_keep_them():
    chunk = make_chunk() | {"price": 1.7e9 + np.arange(200)}
    table = ctr_table(chunk, SCHEMA, split="time", scaling="standardise")
    steps = np.diff(table["columns"]["dense"][:, 0])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)


def test_missing_numbers_are_filled():
    price, visits = np.array([1.0, np.nan, 3.0, 8.0]), np.array([0.0, np.nan, np.e**2 - 1, 0.0])
    chunk = {"city": list("abab"), "clicked": [0, 1, 0, 1], "price": price, "visits": visits}
    schema = Schema(label="clicked", categorical=("city",), dense=("price", "visits"))
    read = lambda **options: ctr_table(chunk, schema, split="time", fractions=(0.75, 0, 0.25), **options)  # noqa: E731
    kinds = {"price": "standardise", "visits": "log"}
    np.testing.assert_allclose(read(scaling=kinds)["columns"]["dense"][:, 0], [-1, 0, 1, 6])
    np.testing.assert_allclose(read(scaling=kinds)["columns"]["dense"][:, 1], [-1, 0, 1, -1], atol=1e-6)
    filled = read(scaling=kinds, fill={"price": 4.0})["columns"]["dense"]
    np.testing.assert_allclose(filled[1], [2, 0], atol=1e-6)
    plain = read(scaling="none", fill=-1.0)["columns"]["dense"]
    np.testing.assert_allclose(plain[:, 0], [1, -1, 3, 8])
    constant = ctr_table(chunk | {"price": [0.1] * 4}, schema, scaling="standardise")
    assert np.abs(constant["columns"]["dense"][:, 0]).max() < 1e-12
    empty = ctr_table(chunk | {"price": [None] * 4}, schema, scaling="standardise", fill=0.0)
    assert not empty["columns"]["dense"][:, 0].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scaling": "minmax"}, "scaling: 'price' has 'minmax'; choose one of"),
        (
            {"scaling": {"shop": "log"}},
            "scaling: ['shop'] are not among the dense columns ['price', 'visits']",
        ),
        ({"scaling": "none", "fill": np.inf}, "fill: 'price' has inf; give a finite number"),
        ({"scaling": "none", "fill": "mean"}, "fill: 'price' has 'mean'; give a finite number, or None for"),
        ({"scaling": "none", "fill": {"price": [1]}}, "fill: 'price' has [1]; give a finite number"),
        ({"fill": 0.0}, "fill: has no meaning without scaling="),
    ],
)
def test_bad_scalings_are_one_line(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ctr_table(make_chunk(), SCHEMA, **options)
    with pytest.raises(ValueError, match="dense 'price' holds inf"):
        ctr_table(make_chunk() | {"price": [np.inf] * 200}, SCHEMA, scaling="standardise")


# Text labels and spaces

CENSUS = b'age, work, hours , income\n39, State-gov, 40, <=50K\n50, Private, , >50K\n38, "Own", 9, >50K\n'
HEADER = b"work,age,hours,income\n"
TEXTS = Schema(label="income", categorical=("work",), dense=("age", "hours"), positive=">50K", strip=True)


def read_census(path, schema=TEXTS, content=CENSUS, **options):
    path.write_bytes(content)
    return ctr_table(path, schema, split="time", fractions=(1, 0, 0), scaling="none", **options)


@pytest.mark.parametrize("block", [64, 1 << 24])
def test_text_labels_and_spaces_around_separators(tmp_path, block):
    table = read_census(tmp_path / "adult.csv", block=block)
    assert table["columns"]["labels"].tolist() == [0, 1, 1]
    assert table["vocabularies"]["work"] == ["Own", "Private", "State-gov"]
    np.testing.assert_allclose(table["columns"]["dense"], [[39, 40], [50, 24.5], [38, 9]])
    assert data.column_names(tmp_path / "adult.csv", strip=True) == ["age", "work", "hours", "income"]
    kept = click_rows(tmp_path / "adult.csv", TEXTS, table["vocabularies"], scaling=table["scaling"])
    np.testing.assert_array_equal(kept["ids"]["work"], table["columns"]["ids"]["work"])


def test_spaces_stay_without_strip(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"work,y\n a,1\na ,0\n")
    schema = Schema(label="y", categorical=("work",))

    def read(schema):
        return ctr_table(path, schema, split="time", fractions=(1, 0, 0))["vocabularies"]["work"]

    assert read(schema) == [" a", "a "]
    assert read(dataclasses.replace(schema, strip=True)) == ["a"]


def test_labels_in_memory_may_be_texts_and_dropped_ones_too():
    schema = Schema(label="y", categorical=("c",), positive="yes", dropped=("unknown", None))
    chunk = {"c": list("abcd"), "y": ["yes", "no", "unknown", None]}
    table = ctr_table(chunk, schema, split="time", fractions=(1, 0, 0))
    assert table["columns"]["labels"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("change", "content", "message"),
    [
        (
            {"positive": ">50k"},
            CENSUS,
            "no row holds positive='>50k'; it holds ['<=50K', '>50K'], name one",
        ),
        ({"positive": None}, CENSUS, "column 'income' is not a column of numbers"),
        (
            {"positive": None, "strip": False},
            HEADER + b"a,1,1,x\n",
            "column 'income': invalid value 'x'",
        ),
        (
            {"strip": False},
            HEADER + b"a,1,?,>50K\n",
            "column 'hours': invalid value '?', not a number",
        ),
        ({}, HEADER + b"a,1,?,>50K\n", "column 'hours' is not a column of numbers"),
        ({}, HEADER + b"a,1,1,\n", "label 'income' has empty cells; put None into dropped="),
    ],
)
def test_bad_texts_name_the_column(tmp_path, change, content, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_census(tmp_path / "t.csv", dataclasses.replace(TEXTS, **change), content)
    assert "\n" not in str(error.value)


def test_a_text_label_has_no_threshold_and_training_needs_a_label():
    with pytest.raises(ValueError, match="positive= is for texts, threshold= for numbers"):
        Schema(label="y", categorical=("c",), positive="yes", threshold=1)
    with pytest.raises(ValueError, match="Schema: label=None; name the column"):
        ctr_table({"c": ["a"]}, Schema(label=None, categorical=("c",)))
