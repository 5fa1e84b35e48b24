"""Cells of tables: quoted line breaks, ids in any dtype, lists, and tables in memory."""

import functools
import gzip
import importlib
import importlib.util
import zipfile

import numpy as np
import pytest

from jaxembed.data.click_tables import Schema, ctr_table
from jaxembed.data.table_files import blocks, column_names

pyarrow = pytest.importorskip("pyarrow")
ID = Schema(label="y", categorical=("u",))
TAGS = Schema(label="y", multivalent=("u",))
whole = functools.partial(ctr_table, fractions=(1, 0, 0))


def refused(match, source, schema=ID):
    with pytest.raises(ValueError, match=match) as caught:
        whole(source, schema)
    assert "\n" not in str(caught.value)


# Files


@pytest.mark.parametrize("block", [1, 4, 8, 9, 10, 11, 12, 64, 300, 1 << 24])
@pytest.mark.parametrize("header", [True, False])
def test_a_quoted_line_break_may_fall_anywhere(tmp_path, block, header):
    (tmp_path / "t.csv").write_bytes(b"u,y\n" * header + b'"ab\ncd",1\n' * 200 + b'"x ""\r\n\n"",\n1",0\n')
    schema = ID if header else Schema(label="y", categorical=("u",), names=("u", "y"))
    table = whole(tmp_path / "t.csv", schema, block=block)
    assert table["vocabularies"]["u"] == ["ab\ncd", 'x "\r\n\n",\n1']
    assert table["columns"]["labels"].tolist() == [1] * 200 + [0]
    assert whole(tmp_path / "t.csv", schema, block=block, limit=7)["columns"]["labels"].tolist() == [1] * 7


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("cell", ["ab\r\ncd", "\r\r\n\r\n", "ab\rcd"])
def test_no_block_divides_the_two_bytes_of_a_quoted_line_break(tmp_path, end, cell):
    row = b'"' + cell.encode() + b'",1' + end
    (tmp_path / "t.csv").write_bytes(b"u,y" + end + row * 40)
    for block in (1, 2, *range(11, 60)):
        parts = [part["u"].to_pylist() for part in blocks(tmp_path / "t.csv", ["u"], block=block)]
        assert sum(parts, []) == [cell] * 40, block


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.zip"])
def test_no_default_block_divides_a_quoted_line_break(tmp_path, name):
    short, block = b"a,1\n", 1 << 24
    rows = b"u,y\n" + short * (block // 4 - 3)
    rows += b'"' + b"x" * (block - len(rows) - 2) + b'\r\n",1\n'
    assert rows[block - 1 : block + 1] == b"\r\n"
    packed = gzip.compress(rows, 1) if name.endswith("gz") else rows
    (tmp_path / name).write_bytes(packed)
    if name.endswith("zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("t.csv", rows)
    last = [part["u"] for part in blocks(tmp_path / name, ["u"])][-1]
    assert last[-1].as_py().endswith("x\r\n")


def test_a_quoted_line_break_in_a_large_file(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"u,y\n" + b'"ab\ncd",1\n' * 2_000_000)
    assert whole(tmp_path / "t.csv", ID)["vocabularies"]["u"] == ["ab\ncd"]


def test_a_row_longer_than_the_block_and_a_broken_header(tmp_path):
    content = "u,y\na,1\n" + "b" * 5000 + ",0\nc,1\n"
    (tmp_path / "t.csv").write_text(content)
    assert whole(tmp_path / "t.csv", ID, block=16)["columns"]["labels"].tolist() == [1, 0, 1]
    (tmp_path / "t.csv").write_text('"u\nv",y\na,1\n')
    assert column_names(tmp_path / "t.csv") == ["u\nv", "y"]


def test_a_quote_that_never_ends_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text('u,y\n"a,1\n' + "b,2\n" * 100)
    for block in (16, 1 << 24):
        with pytest.raises(ValueError, match="t.csv: CSV parse error"):
            whole(tmp_path / "t.csv", ID, block=block)


# Ids

LARGE = 123456789012


def names(*columns):
    """The vocabulary of a feature whose chunks are these columns, in the order of the strings."""
    chunks = [{"u": column, "y": np.zeros(len(column))} for column in columns]
    return sorted(whole(chunks, ID)["vocabularies"]["u"])


@pytest.mark.parametrize(
    "column",
    [
        [LARGE, None],
        [LARGE, float("nan")],
        np.array([LARGE, np.nan]),
        np.array([LARGE, np.nan], object),
        np.array([str(LARGE), None], object),
        [float(LARGE), None],
        pyarrow.array([LARGE, None], pyarrow.float64()),
        pyarrow.array([LARGE, float("nan")]),
        pyarrow.array([LARGE, None]).cast(pyarrow.decimal128(24, 2)),
        pyarrow.array([LARGE, None]).dictionary_encode(),
        pyarrow.chunked_array([[LARGE], [None]], pyarrow.uint64()),
    ],
    ids=lambda column: (
        f"{type(column).__name__} {getattr(column, 'type', '') or getattr(column, 'dtype', '')}"
    ),
)
def test_an_id_is_one_category_in_every_dtype(column):
    assert names(np.array([LARGE]), column) == ["", str(LARGE)]


def test_an_id_is_one_category_in_parquet_too(tmp_path):
    from pyarrow import parquet

    column = pyarrow.array([7, None, float("nan"), 7.5, -0.0])
    parquet.write_table(pyarrow.table({"u": column, "y": [0] * 5}), tmp_path / "t.parquet")
    assert sorted(whole(tmp_path / "t.parquet", ID)["vocabularies"]["u"]) == ["", "0", "7", "7.5"]


def test_small_floats_and_other_kinds():
    assert names(np.array([0.5, 0.1, 3], np.float32)) == ["0.1", "0.5", "3"]
    assert names(np.array([0.5, 3], np.float16), [True, None]) == ["", "0.5", "3", "true"]
    assert names([np.inf, -np.inf, 1.0]) == ["-inf", "1", "inf"]
    assert names(np.array([2**64 - 1], np.uint64), [2**53 + 1]) == [str(2**64 - 1), str(2**53 + 1)]


@pytest.mark.parametrize("dtype, exact", [(np.float64, 2**53), (np.float32, 2**24), (np.float16, 2**11)])
def test_a_float_that_stands_for_two_integers_is_refused(dtype, exact):
    assert names(np.array([exact - 1], dtype)) == [str(exact - 1)]
    column = np.array([1, exact], dtype)
    refused(
        f"column 'u': the float {exact} is not exact .* pass integers or strings", {"u": column, "y": [0, 1]}
    )


def test_mixed_and_foreign_columns_are_named():
    for column in ([1, "a"], [True, 1], [object()], [2**70], [b"\xff"], [{"a": 1}], [1j]):
        refused("column 'u': .*; ", {"u": column, "y": [0] * len(column)})
    refused("column 'u': .* a column of lists belongs to multivalent=", {"u": [["a"]], "y": [0]})
    timed = Schema(label="y", categorical=("u",), time="t")
    refused("time 't' must hold", {"u": ["a", "b"], "y": [0, 1], "t": [0.0, np.nan]}, timed)


def test_large_integers_are_numbers():
    schema = Schema(label="y", categorical=("u",), dense=("d",), threshold=2**60)
    for large in (np.array([2**53 + 1, 0]), np.array([2**64 - 1, 0], np.uint64)):
        table = whole({"u": ["a", "b"], "y": np.array([2**61 + 1, 2**53 + 1]), "d": large}, schema)
        assert table["columns"]["dense"].tolist() == [[np.float32(large[0])], [0]]
        assert table["columns"]["labels"].tolist() == [1, 0]


# Lists

LISTS = [["a", "b"], ["b"], []]
CODED = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())


@pytest.mark.parametrize(
    "column, expected",
    [
        (LISTS, ["b", "a"]),
        ([("a", "b"), ["b"], None], ["b", "a"]),
        ([["a", None, "b"], ["", "b"], []], ["b", "a"]),
        ([np.array(["a", "b"]), np.array(["b"]), np.array([])], ["b", "a"]),
        ([[1, 2], [2], []], ["2", "1"]),
        ([[1.0, 2.0], [2.0, float("nan")], []], ["2", "1"]),
        (pyarrow.array(LISTS, pyarrow.large_list(pyarrow.string())), ["b", "a"]),
        (pyarrow.array([["x"], *LISTS]).slice(1), ["b", "a"]),
        (
            pyarrow.array(LISTS, pyarrow.list_(pyarrow.dictionary(pyarrow.int32(), pyarrow.string()))),
            ["b", "a"],
        ),
        (["a b", "b", ""], ["b", "a"]),
    ],
    ids=str,
)
def test_lists_are_multivalent(column, expected):
    table = whole({"u": column, "y": [0, 1, 1]}, TAGS)
    assert table["columns"]["ids"]["u"].tolist() == [[2, 1], [1, 0], [0, 0]]
    assert table["columns"]["masks"]["u"].tolist() == [[True, True], [True, False], [False, False]]
    assert table["vocabularies"]["u"] == expected
    assert whole({"u": column, "y": [0, 1, 1]}, TAGS, longest=1)["columns"]["masks"]["u"].shape == (3, 1)


@pytest.mark.parametrize("kind", [pyarrow.list_view, pyarrow.large_list_view])
def test_views_of_lists_are_lists(kind):
    column = pyarrow.array([["a"], ["a", "b"], ["b"], None, []], kind(pyarrow.string()))
    for given in (column.take(pyarrow.array([1, 2, 3])), column.slice(1, 3)):
        table = whole({"u": given, "y": [0, 1, 1]}, TAGS)
        assert table["vocabularies"]["u"] == ["b", "a"]
        assert table["columns"]["ids"]["u"].tolist() == [[2, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize("name", ["categorical", "dense", "multivalent", "names", "dropped"])
def test_one_text_in_place_of_names_is_refused(name):
    with pytest.raises(
        ValueError, match=rf"^Schema: {name}='user' is one text; pass a tuple, as \('user',\)$"
    ):
        Schema(**{"label": "y", "categorical": ("u",), name: "user"})


def test_arrays_of_two_axes_are_lists():
    table = whole({"u": np.array([[5, 7], [7, 7]]), "y": [0, 1]}, TAGS)
    assert table["columns"]["ids"]["u"].tolist() == [[2, 1], [1, 1]]


def test_lists_in_parquet(tmp_path):
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.table({"u": LISTS * 9, "y": [0, 1, 1] * 9}), tmp_path / "t.parquet", row_group_size=4
    )
    table = whole(tmp_path / "t.parquet", TAGS)
    assert table["columns"]["ids"]["u"].tolist() == [[2, 1], [1, 0], [0, 0]] * 9


# Tables in memory

COLUMNS = {"y": [0, 1, 1], "u": ["a", "b", "a"], "never read": [object()] * 3}


def test_a_table_is_one_chunk():
    arrow = pyarrow.table({"y": [0, 1, 1], "u": ["a", "b", "a"]})
    structured = np.array([(0, "a"), (1, "b"), (1, "a")], [("y", int), ("u", "U1")])
    for source in (COLUMNS, arrow, arrow.to_batches()[0], structured, [COLUMNS], iter([arrow])):
        table = whole(source, ID)
        assert table["columns"]["ids"]["u"].tolist() == [1, 2, 1], type(source)
    assert whole([arrow, COLUMNS], ID, limit=4)["columns"]["ids"]["u"].tolist() == [1, 2, 1, 1]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_data_frame_is_one_chunk(library):
    if not importlib.util.find_spec(library):
        pytest.skip(f"{library} is not installed")
    frame = importlib.import_module(library).DataFrame({"y": [0, 1, 1], "u": ["a", "b", None]})
    for source in (frame, [frame]):
        assert whole(source, ID, limit=2)["vocabularies"]["u"] == ["a", "b"]
        assert whole(source, ID)["vocabularies"]["u"] == ["", "a", "b"]


def test_what_has_no_columns_is_named():
    refused("column 'u' is missing; the columns are \\['y'\\]", {"y": [0]})
    refused("column 'u' is there twice", pyarrow.table([[0], ["a"], ["b"]], ["y", "u", "u"]))
    refused("path: a chunk is int64; pass {column: array", np.arange(3))
    refused("path: a chunk is list", [[0, "a"]])
    refused("path: int is not a table; pass a path", 5)
    refused("column 'y' of a chunk is 1; pass {column: array", [{"y": 1, "u": "a"}, {"y": 0, "u": "b"}])
