"""The data room: documented functions, BEIR folders, TFDS, batches and hashed text."""

import ast
import contextlib
import gzip
import importlib
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest

from jaxembed import data
from jaxembed.data import batches, text

code = importlib.import_module("jaxembed.data.sources.docstrings")

# Words and hashes

GARBAGE = ["", "\0", "🎉🎉", "\ud800", "a\0b", "e\u0301", "İ", "x" * 10_000, "_" * 10_000, "aB" * 5_000]


@pytest.mark.parametrize(
    "string, expected",
    [
        ("dot_product_attentionV2", ["dot", "product", "attention", "v", "2"]),
        ("HTTPServer.get_URL", ["http", "server", "get", "url"]),
        ("Returns x, if y>=3.", ["returns", "x", "if", "y", "3"]),
        ("Straße ÄRGER 日本語 हिन्दी", ["straße", "ärger", "日本語", "हिन्दी"]),
        ("cafe\u0301 ❤️a\ufe0fb", ["cafe\u0301", "a", "b"]),
        ("IDs JAX iPhone", ["i", "ds", "jax", "i", "phone"]),
        ("\0🎉 _-_ \ud800", []),
    ],
)
def test_words_by_hand(string, expected):
    assert text.words(string) == expected
    for limit in range(len(expected) + 2):
        assert text.words(string, limit=limit) == expected[:limit]


@pytest.mark.parametrize("unit", ["a", "aB", "é", "🎉", "\0", "\u0301", "_", "7", "a b"])
def test_words_are_linear_in_long_strings(unit):
    string = unit * (10_000_000 // len(unit))
    start = time.perf_counter()
    assert len(text.words(string, limit=3)) <= 3
    assert time.perf_counter() - start < 5
    assert all(len(word) <= 64 for word in text.words(string[:100_000]))


def test_ngrams_by_hand():
    assert text.ngrams("ab", 3) == ["<ab", "ab>"]
    assert text.ngrams("ab", 4) == ["<ab>"]
    assert text.ngrams("ab", 5) == text.ngrams("", 3) == []
    with pytest.raises(ValueError, match="size must be at least 1"):
        text.ngrams("ab", 0)


def fmix32(x):
    x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
    x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
    return x ^ (x >> 16)


def slow_hash(string, seed):
    return fmix32(zlib.crc32(string.encode("utf-8", "surrogatepass")) ^ fmix32((seed + 0x9E3779B9) % 2**32))


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, -1, 2**40 + 5])
def test_hashed_matches_the_formula(seed):
    strings = [*GARBAGE, "cat", "dog"]
    found = text.hashed(strings, seed=seed)
    assert found.dtype == np.uint32
    assert found.tolist() == [slow_hash(s, seed) for s in strings]


def test_hashed_takes_integers_as_their_decimal_text():
    for dtype in (np.int8, np.uint16, np.int32, np.int64, np.uint64):
        info = np.iinfo(dtype)
        ids = np.array([[0, 1, 7], [info.max, info.min, 100]], dtype)
        for layout in (ids, ids.T, ids[:, ::2]):
            expected = [slow_hash(str(v), 3) for v in layout.ravel().tolist()]
            found = text.hashed(layout, seed=3)
            assert found.shape == layout.shape and found.dtype == np.uint32
            assert found.ravel().tolist() == expected
    assert len(np.unique(text.hashed(np.arange(100_000)))) == 100_000
    assert text.hashed(np.zeros((0, 3), int)).shape == (0, 3)


def containers():
    """{container: (function of values that are there, function of values of which some are missing)}."""
    arrow, pandas = pytest.importorskip("pyarrow"), None
    with contextlib.suppress(ImportError):
        import pandas
    kinds = {
        "list": (list, list),
        "iterator": (iter, iter),
        "numpy": (np.array, lambda v: np.array(v, object)),
        "arrow": (arrow.array, arrow.array),
        "chunks": (lambda v: arrow.chunked_array([v]), lambda v: arrow.chunked_array([v])),
        "dictionary": (lambda v: arrow.array(v).dictionary_encode(), arrow.array),
    }
    if pandas is not None:
        kinds["pandas"] = (pandas.Series, lambda v: pandas.Series(v, dtype=object))
        kinds["categories"] = (lambda v: pandas.Series(v, dtype="category"),) * 2
        integers = lambda v: pandas.Series(v, dtype="Int64" if isinstance(v[0], int) else "string")  # noqa: E731
        kinds["nullable"] = (integers, integers)
    return kinds


def test_one_value_has_one_hash_whatever_its_container():
    ids = [7, 123456789012, 2**40 + 7, 0, -5]
    expected = [slow_hash(str(v), 0) for v in ids]
    strings = ["rome", "käln", "", "07"]
    for name, (whole, missing) in containers().items():
        for values in (ids, [str(v) for v in ids]):
            assert text.hashed(whole(values)).tolist() == expected, name
            gaps = text.hashed(missing([*values, None])).tolist()
            assert gaps == [*expected, slow_hash("", 0)], name
        assert text.hashed(whole(strings)).tolist() == [slow_hash(s, 0) for s in strings], name
    assert text.hashed(np.array([*ids, np.nan])).tolist() == [*expected, slow_hash("", 0)]
    assert text.hashed([str(v).encode() for v in ids]).tolist() == expected
    for values in ([7.0, 2.5], np.array([7, 2.5], np.float32), np.array([7, 2.5], object)):
        assert text.hashed(values).tolist() == text.hashed(["7", "2.5"]).tolist()
    assert text.hashed([True, False]).tolist() == text.hashed(["true", "false"]).tolist()
    assert text.hashed(np.array([["a"], [None]], object)).shape == (2, 1)


def test_hashed_refuses_one_string_and_what_has_no_text():
    with pytest.raises(ValueError, match="values: 'abc' is one text; put it into a list"):
        text.hashed("abc")
    for values, message in [([[1, 2]], "list"), (["7", 7], "one kind"), ([2.0**53], "is not exact")]:
        with pytest.raises(ValueError, match=f"column 'values': .*{message}"):
            text.hashed(values)


def test_hashed_is_stable_and_even():
    assert text.hashed(["cat", "dog", ""]).tolist() == [slow_hash(s, 0) for s in ("cat", "dog", "")]
    assert text.hashed([]).shape == (0,)
    many = text.hashed([f"word{i}" for i in range(100_000)])
    assert len(np.unique(many)) > 100_000 - 10
    for part in (many % 64, many >> 26):
        counts = np.bincount(part, minlength=64)
        assert ((counts - 100_000 / 64) ** 2 / (100_000 / 64)).sum() < 2 * 63


def test_distinct_law():
    lists = [["a", "b", "a"], [], ["c", "a", "x", "z"], GARBAGE[:3]]
    found, positions, mask = text.word_positions(lists, length=3)
    assert found == ["a", "b", "c", "x", "", "\0", "🎉🎉"]
    assert positions.dtype == np.int32 and positions.shape == mask.shape == (4, 3)
    for b, row in enumerate(lists):
        assert [found[p] for p in positions[b][mask[b]]] == row[:3]
    assert not positions[~mask].any()
    assert text.word_positions(lists, length=3, size=7)[0] == found
    with pytest.raises(ValueError, match="size=6 is too small for 7 distinct words"):
        text.word_positions(lists, length=3, size=6)
    assert text.word_positions([], length=3)[1].shape == (0, 3)


@pytest.mark.parametrize("rows", [None, 20])
@pytest.mark.parametrize("sizes, limit", [((3, 4, 5), 16), ((2,), 1), ((), 4)])
def test_features_are_hashes_of_ngrams(sizes, limit, rows):
    strings = [*GARBAGE, "cat"]
    ids, masks = text.subword_ids(strings, sizes=sizes, limit=limit, rows=rows, seed=7)
    assert ids.keys() == masks.keys() == {"word", *(f"{n}gram" for n in sizes)}
    for key, width in [("word", 1), *((f"{n}gram", limit) for n in sizes)]:
        assert ids[key].shape == masks[key].shape == (rows or len(strings), width)
        assert ids[key].dtype == np.uint32 and masks[key].dtype == bool
        assert not ids[key][~masks[key]].any() and not masks[key][len(strings) :].any()
    assert ids["word"][: len(strings), 0].tolist() == text.hashed(strings, seed=7).tolist()
    for n in sizes:
        for w, word in enumerate(strings):
            kept = ids[f"{n}gram"][w][masks[f"{n}gram"][w]]
            assert kept.tolist() == text.hashed(text.ngrams(word, n)[:limit], seed=7).tolist()


def test_features_bad_input_and_empty():
    ids, masks = text.subword_ids([], rows=2)
    assert ids["word"].shape == (2, 1) and not masks["3gram"].any()
    assert text.subword_ids([])[0]["5gram"].shape == (0, 16)
    with pytest.raises(ValueError, match="rows=1 is too small for 2 words"):
        text.subword_ids(["a", "b"], rows=1)
    with pytest.raises(ValueError, match="at least 1"):
        text.subword_ids(["a"], limit=0)
    with pytest.raises(ValueError, match="at least 1"):
        text.subword_ids([], sizes=(0,))


@pytest.mark.parametrize(
    "call",
    [
        lambda: text.word_positions(["a b"], length=2),
        lambda: text.word_positions("a b", length=2),
        lambda: text.subword_ids("cat"),
        lambda: text.document_frequency(["a b"]),
        lambda: text.document_frequency("a b"),
        lambda: text.bag([("a b", 1.0)]),
    ],
)
def test_a_text_in_place_of_its_words_is_named(call):
    with pytest.raises(
        ValueError, match=r"^(lists|words|fields): '(a b|cat)' is one text; split it into words"
    ):
        call()


def test_document_frequency_and_idf():
    lists = [["a", "b", "a"], ["b", "🎉"], [], ["b", "\0"]]
    counts, n = text.document_frequency(iter(lists), buckets=1000, seed=3)
    assert n == 4 and counts.dtype == np.int32 and counts.shape == (1000,)
    expected = np.zeros(1000, int)
    for row in lists:
        expected[list({slow_hash(w, 3) % 1000 for w in row})] += 1
    assert counts.tolist() == expected.tolist()
    found = text.idf(counts, n, text.hashed(["a", "b", "never"], seed=3).reshape(3, 1))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], [math.log(5 / (1 + k)) + 1 for k in (1, 3, 0)], rtol=1e-6)
    assert text.document_frequency([["a", "b", "c"]] * 5, buckets=1)[0].tolist() == [5]
    assert text.document_frequency([])[1] == 0
    with pytest.raises(ValueError, match="buckets must be at least 1"):
        text.document_frequency([], buckets=0)


# Batches


def rows_of(n):
    return [{"id": i, "deep": {"x": np.full(2, i, np.float32)}, "name": f"r{i}"} for i in range(n)]


def one(records, size, **options):
    return batches(records, size, process=0, processes=1, **options)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_remainder", [True, False])
def test_each_epoch_is_a_permutation(shuffle, drop_remainder):
    ds = one(rows_of(10), 4, shuffle=shuffle, drop_remainder=drop_remainder)
    per_epoch = 2 if drop_remainder else 3
    epochs = [[i for t in range(per_epoch) for i in ds[e * per_epoch + t]["id"].tolist()] for e in range(4)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == (8 if drop_remainder else 10)
    assert (len({tuple(e) for e in epochs}) > 1) == shuffle
    assert ds[10**9]["id"].shape == (4,)


def test_a_step_is_a_function_of_seed_and_step():
    ds = one(rows_of(50), 8, seed=3)
    late = ds[17]["id"].tolist()
    again = one(rows_of(50), 8, seed=3)
    forward = [again[t]["id"].tolist() for t in range(20)]
    assert forward[17] == late == ds[17]["id"].tolist()
    other = [one(rows_of(50), 8, seed=4)[t]["id"].tolist() for t in range(20)]
    assert not {tuple(b) for b in other} & {tuple(b) for b in forward}
    first = ds[0]
    assert first["deep"]["x"].tolist() == [[i, i] for i in first["id"]]
    assert first["name"].tolist() == [f"r{i}" for i in first["id"]]


@pytest.mark.parametrize("processes", [1, 2, 3, 6, 12])
def test_parts_of_all_processes_make_the_batch(processes):
    whole = one(rows_of(31), 12)
    parts = [batches(rows_of(31), 12, process=p, processes=processes) for p in range(processes)]
    for t in (0, 1, 2, 5, 1000):
        joined = np.concatenate([part[t]["id"] for part in parts])
        assert joined.tolist() == whole[t]["id"].tolist()


def test_a_process_reads_its_own_rows_only():
    class Watched(list):
        read = []

        def __getitem__(self, i):
            self.read.append(i)
            return super().__getitem__(i)

    records = Watched(rows_of(20))
    batch = batches(records, 8, process=1, processes=4)[3]
    assert records.read == batch["id"].tolist()


def test_batches_default_process_make_and_prefetch():
    ds = batches(rows_of(6), 3, make=len)
    assert ds[0] == 3
    ahead = iter(batches(rows_of(6), 3).to_iter_dataset())
    steps = [next(ahead)["id"].tolist() for _ in range(5)]
    assert steps == [one(rows_of(6), 3)[t]["id"].tolist() for t in range(5)]


@pytest.mark.parametrize(
    "n, size, options, message",
    [
        (0, 1, {}, "records is empty"),
        (3, 4, {}, "size=4 exceeds the 3 records; lower size or pass drop_remainder=False"),
        (3, 0, {}, "size must be at least 1"),
        (9, 6, {"processes": 4}, "size=6 does not divide among 4 processes"),
        (9, 6, {"process": 2, "processes": 2}, "process=2 must be in 0..1"),
        (9, 4, {"processes": 2, "drop_remainder": False}, "the last 1 records do not divide"),
        (9, 4, {"seed": -1}, "non-negative"),
    ],
)
def test_batches_bad_arguments(n, size, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        batches(rows_of(n), size, **{"process": 0, "processes": 1, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_dict_of_arrays_is_cut_by_rows(shuffle):
    columns = {"x": np.arange(10), "deep": {"y": [[i, -i] for i in range(10)]}}
    ds = one(columns, 4, shuffle=shuffle, seed=5)
    rows = one(np.arange(10), 4, shuffle=shuffle, seed=5, make=lambda rows: {"rows": rows})
    for t in range(5):
        expected = rows[t]["rows"]
        assert ds[t]["x"].tolist() == expected.tolist()
        assert ds[t]["deep"]["y"].tolist() == [[i, -i] for i in expected]
    assert one(columns, 4, shuffle=False, make=lambda batch: {"z": batch["x"] + 1})[0]["z"].tolist() == [
        1,
        2,
        3,
        4,
    ]
    parts = [batches(columns, 4, process=p, processes=2, seed=5)[3]["x"] for p in range(2)]
    assert np.concatenate(parts).tolist() == one(columns, 4, seed=5)[3]["x"].tolist()


class Frame:
    """What looks like a DataFrame."""

    columns = ("x",)


@pytest.mark.parametrize(
    "records, message",
    [
        ({"x": np.arange(8), "y": np.arange(7)}, "records: the arrays differ in length, {'x': 8, 'y': 7}"),
        ({"x": [1, 2], "deep": {"y": 3}}, "records: 'deep/y' is int; pass a dict of arrays"),
        ({"x": [[1, 2], [3]]}, "records: 'x' is ragged; pad it"),
        ({}, "records is empty"),
        (Frame(), "records: Frame has columns, not records; pass {column: NumPy array [N]}"),
    ],
)
def test_columns_that_are_no_records_are_named(records, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        one(records, 1)


@pytest.mark.parametrize(
    "records, message",
    [
        ([{"x": [1]}, {"x": [1, 2]}], "leaf 'x' is ragged"),
        ([{"a": {"x": [1]}}, {"a": {"x": 1}}], "leaf 'a/x' is ragged"),
        ([{"x": 1}, {"y": 1}], "records differ in the leaves below 'the top'"),
        ([{"a": {"x": 1}}, {"a": {}}], "records differ in the leaves below 'a'"),
        ([1, 2], "records hold int, not dicts"),
    ],
)
def test_ragged_records_are_named(records, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        one(records, 2, shuffle=False)[0]


# Documented functions

MODULE = '''\
"""Module docstring is no record."""
import functools


@functools.cache
def outer(a, b=1, *args, c: int = 2, **kwargs) -> int:
    """Add the two numbers, e.g. 1 and 2. Then stop.

    Second paragraph.
    """
    # a comment that stays
    def inner():
        """Inner secret words are here."""
        class Deep:
            """Deep secret words
            over two lines.
            """
            x = "kept"
        return Deep

    async def later():
        r"""Later secret words here."""

    try:
        text = """not a docstring"""
    finally:
        def last():
            'Last secret words here.'
            return 1
    return a + b


class Box:
    """Class docstring is no record."""

    def open(self, key, /):
        """Open the box with a key
        Args:
            key: opens.
        """
        return key

    @property
    def lid(self):
        """Return the lid of it."""
        return 1

    @lid.setter
    def lid(self, value):
        """Return the lid of it."""
        self.value = value

    async def wait(self): "Wait for the box to open."; return 1

    class Nested:
        def deep(self):
            """Find the deep thing."""


if True:
    def chosen():
        """Choose one of the branches."""
        return 1
else:
    def chosen():
        """Choose one of the branches."""
        return 2


def undocumented():
    return 3


def short():
    """Too short."""


def same():
    """See the other function for this."""


def call():
    """call(x, y) -> a thing that is called"""


def first_copy():
    """Copy me and keep one."""
    return 1


def second_copy():
    """Copy me and keep one."""
    return 1


def bytes_doc():
    b"""Bytes are no docstring at all."""
'''


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def scan(folder, **options):
    return data.docstrings((), folders=[folder], **{"cache": False, **options})


def by_name(records):
    return {r["id"].split(":")[1]: r for r in records}


def test_records_of_one_module(tmp_path):
    found = by_name(scan(write(tmp_path / "tree", {"pkg/mod.py": MODULE, "pkg/__init__.py": ""})))
    assert list(found) == [
        "outer",
        "Box.open",
        "Box.lid",
        "Box.lid#2",
        "Box.wait",
        "Box.Nested.deep",
        "chosen",
        "chosen#2",
        "first_copy",
    ]
    outer = found["outer"]
    assert outer["id"] == "tree.pkg.mod:outer" and outer["package"] == "tree"
    assert outer["module"] == "tree.pkg.mod" and outer["line"] == 6
    assert outer["file"].endswith("pkg/mod.py") and outer["name"] == "outer"
    assert outer["signature"] == "a, b=1, *args, c: int=2, **kwargs"
    assert outer["query"] == "Add the two numbers, e.g. 1 and 2."
    assert outer["docstring"] == "Then stop.\n\nSecond paragraph."
    assert outer["code"].startswith("# a comment that stays\ndef inner():\n    class Deep:\n        x = ")
    assert outer["code"].endswith("return a + b") and "not a docstring" in outer["code"]
    assert "secret" not in outer["code"] and "Add the two" not in outer["code"]
    assert found["Box.open"]["query"] == "Open the box with a key"
    assert found["Box.open"]["docstring"] == "Args:\n    key: opens."
    assert found["Box.open"]["signature"] == "self, key, /"
    assert found["Box.wait"]["code"] == "return 1"
    assert found["Box.Nested.deep"]["code"] == ""
    keys = "id package module file line name signature query docstring code split"
    assert " ".join(outer) == keys


@pytest.mark.parametrize(
    "docstring, expected",
    [
        ("Return it all. More.", ("Return it all.", "More.")),
        ("Return it\n   all.\n\nMore.", ("Return it all.", "More.")),
        ("Use i.e. this. Then", ("Use i.e. this.", "Then")),
        ("Use 3.5 of it", ("Use 3.5 of it", "")),
        ("Is it (or not?) here! Yes", ("Is it (or not?) here!", "Yes")),
        ("Do a thing\n>>> 1\n1", ("Do a thing", ">>> 1\n1")),
        ("Do a thing\n\nArgs:\n  x: y.", ("Do a thing", "Args:\n  x: y.")),
        ("Ünïcode 🎉 wörds hére. \0", ("Ünïcode 🎉 wörds hére.", "\0")),
        ("f(x) -> the value of it", (None, None)),
        ("Two words", (None, None)),
        ("Inherited, see the base class.", (None, None)),
        ("", (None, None)),
        ("🎉\0", (None, None)),
        ("word " * 61, (None, None)),
        ("x" * 10_000_000, (None, None)),
    ],
)
def test_first_sentence(docstring, expected):
    assert code._first_sentence(docstring) == expected


def test_a_docstring_of_ten_megabytes_is_cut_in_linear_time():
    start = time.perf_counter()
    sentence, rest = code._first_sentence("Return all of it. " + "A. \0🎉" * 2_000_000)
    assert sentence == "Return all of it." and len(rest) > 9_000_000
    assert code._first_sentence("a " * 5_000_000) == (None, None)
    assert time.perf_counter() - start < 5


GOOD = 'def f(x):\n    """Return the value {}."""\n    return {}\n'


def test_broken_and_foreign_files_are_passed_over(tmp_path):
    good = GOOD.format("of x", 1)
    folder = write(
        tmp_path / "tree",
        {
            "good.py": good,
            "nul.py": good.encode() + b"\0",
            "syntax.py": good + "def (",
            "encoding.py": b"# -*- coding: nonsense -*-\n" + good.encode(),
            "bytes.py": good.encode() + b"# \xff\xfe",
            "deep.py": good + "x = " + "(" * 5000 + ")" * 5000,
            "warns.py": GOOD.format("of y", "'\\d' is 3"),
            "latin.py": b"# -*- coding: latin-1 -*-\n" + GOOD.format("of Ä", 2).encode("latin-1"),
            "windows.py": GOOD.format("of crlf", 3).replace("\n", "\r\n"),
            "bom.py": b"\xef\xbb\xbf" + GOOD.format("of bom", 4).encode(),
            "feed.py": "\x0c\n# \u2028 x\n" + GOOD.format("of feed", 5),
            "surrogate.py": GOOD.format("of \\ud800 emoji 🎉 \\0", 6),
            "large.py": GOOD.format("of large", 7) + "# " + "x" * code._LARGEST,
            "empty.py": "",
            "tests/a.py": GOOD.format("of tests", 8),
            "test_a.py": GOOD.format("of test", 9),
            "_vendor/a.py": GOOD.format("of vendor", 10),
            ".hidden/a.py": GOOD.format("of hidden", 11),
            "env/pyvenv.cfg": "",
            "env/lib/a.py": GOOD.format("of env", 12),
            "notes.txt": GOOD.format("of notes", 13),
        },
    )
    os.symlink(tmp_path / "nowhere.py", folder / "dangling.py")
    found = {r["module"].split(".")[1]: r for r in scan(folder)}
    assert set(found) == {"good", "warns", "latin", "windows", "bom", "feed", "surrogate"}
    assert found["latin"]["query"] == "Return the value of Ä."
    assert found["windows"]["code"] == "return 3" and found["feed"]["code"] == "return 5"
    assert found["surrogate"]["query"] == "Return the value of \ud800 emoji 🎉 \0."
    assert text.words(found["surrogate"]["query"])[-1] == "emoji"


def many(folder, count=200):
    return write(folder, {f"m{i:03}.py": GOOD.format(f"number {i}", i) * 2 for i in range(count)})


def test_splits_hold_whole_modules_and_do_not_move(tmp_path):
    first, second = scan(many(tmp_path / "a" / "tree")), scan(many(tmp_path / "b" / "tree", 210))
    assert [r["id"] for r in first] == sorted(r["id"] for r in first)
    where = {r["id"]: r["split"] for r in second}
    assert all(where[r["id"]] == r["split"] for r in first)
    counts = {s: sum(r["split"] == s for r in first) for s in ("train", "validation", "test")}
    assert counts["train"] > 160 and counts["validation"] > 2 and counts["test"] > 2
    held = scan(tmp_path / "a" / "tree", holdout=["tree"])
    assert {r["split"] for r in held} == {"test"}


@pytest.fixture(scope="module")
def installed():
    return data.docstrings(["stdlib", "chex"], cache=False, holdout="chex")


def test_installed_packages(installed):
    assert 4000 < len(installed) < 12_000
    assert len({r["id"] for r in installed}) == len(installed)
    assert len({(r["query"], r["code"]) for r in installed}) == len(installed)
    assert {r["split"] for r in installed if r["package"] == "chex"} == {"test"}
    sides = {}
    for record in installed:
        assert sides.setdefault(record["module"], record["split"]) == record["split"]
        assert 3 <= len(re.findall(r"[^\W\d_]+", record["query"])) <= 60
        assert "\n" not in record["query"] and record["query"] == record["query"].strip()
    assert sum(r["query"] in r["docstring"] for r in installed) < 0.005 * len(installed)
    share = sum(r["split"] == "train" for r in installed) / len(installed)
    assert 0.8 < share < 0.97
    dedent = next(r for r in installed if r["id"] == "textwrap:dedent")
    assert dedent["query"].startswith("Remove any common leading whitespace")


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_code_holds_no_docstring(installed):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    for file in sorted({r["file"] for r in installed})[::8]:
        tree = ast.walk(ast.parse(pathlib.Path(file).read_bytes()))
        nodes = {n.lineno: n for n in tree if isinstance(n, kinds)}
        for record in (r for r in installed if r["file"] == file):
            inner = [n for n in ast.walk(nodes[record["line"]]) if isinstance(n, kinds | ast.ClassDef)]
            for whole in filter(None, (ast.get_docstring(n, clean=False) for n in inner)):
                assert whole not in record["code"], record["id"]
                assert f'"""{whole.strip().splitlines()[0]}' not in record["code"], record["id"]


def test_scanned_packages_are_not_imported():
    program = (
        "import sys; from jaxembed import data; data.docstrings(['chex', 'optax'], cache=False);"
        "print(sorted({'chex', 'optax', 'jax', 'grain', 'tensorflow_datasets', 'flax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_names_are_named(tmp_path):
    write(tmp_path / "empty", {"a.py": "x = 1"})
    for call, kind, message in [
        (lambda: data.docstrings(["no_such_package_x"]), ValueError, "packages: 'no_such_package_x'"),
        (lambda: data.docstrings(["os.path"]), ValueError, "packages: 'os.path'"),
        (lambda: data.docstrings("sys"), ValueError, "packages: 'sys'"),
        (lambda: scan(tmp_path / "none"), FileNotFoundError, "folders: "),
        (lambda: scan(tmp_path / "empty"), ValueError, "packages and folders hold no documented function"),
        (lambda: data.docstrings((), cache=False), ValueError, "packages and folders hold no"),
        (lambda: scan(tmp_path / "empty", holdout="scipy"), ValueError, "holdout: ['scipy'] are not scanned"),
    ]:
        with pytest.raises(kind, match=re.escape(message)) as error:
            call()
        assert "\n" not in str(error.value)


# The cache


def counted(monkeypatch):
    calls, plain = [], code._scan
    monkeypatch.setattr(code, "_scan", lambda package, files: calls.append(package) or plain(package, files))
    return calls


def test_cache_is_read_and_follows_the_files(tmp_path, monkeypatch):
    calls, folder, store = counted(monkeypatch), many(tmp_path / "tree", 20), tmp_path / "a" / "cache"
    first = scan(folder, cache=store)
    assert scan(folder, cache=store) == first == scan(folder) and calls == ["tree"] * 2
    assert [p.suffix for p in store.iterdir()] == [".jsonl"]
    write(folder, {"m000.py": GOOD.format("that is new", 0)})
    assert scan(folder, cache=store)[0]["query"] == "Return the value that is new."
    (folder / "m001.py").unlink()
    assert len(scan(folder, cache=store)) == 19 and calls == ["tree"] * 4
    assert {r["split"] for r in scan(folder, cache=store, holdout="tree")} == {"test"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-20],
        lambda content: content[: content.rindex(b"\n", 0, -1) + 1],
        lambda content: content.replace(b"value", b"valve", 1),
        lambda content: b"\xff\0" + content,
        lambda content: b"[]\n" + content.split(b"\n", 1)[1],
        lambda content: b"not json",
    ],
)
def test_a_damaged_cache_is_rebuilt(tmp_path, damage, monkeypatch):
    folder, store = many(tmp_path / "tree", 5), tmp_path / "cache"
    first = scan(folder, cache=store)
    (path,) = store.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert scan(folder, cache=store) == first and path.read_bytes() == whole
    calls = counted(monkeypatch)
    assert scan(folder, cache=store) == first and not calls


def test_an_unwritable_cache(tmp_path, monkeypatch):
    folder, file = many(tmp_path / "tree", 3), tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError, match=r"cache: .* cannot be written \(Not a directory\)") as error:
        scan(folder, cache=file / "below")
    assert "\n" not in str(error.value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert len(scan(folder, cache=None)) == 3
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert len(scan(folder, cache=None)) == 3
    assert len(list((tmp_path / "xdg" / "jaxembed" / "docstrings").iterdir())) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert len(scan(folder, cache=None)) == 3
    assert (tmp_path / "home" / ".cache" / "jaxembed" / "docstrings").is_dir()


def test_a_failed_write_leaves_no_file(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    folder, store = many(tmp_path / "tree", 3), tmp_path / "cache"
    monkeypatch.setattr(code.os, "replace", full)
    with pytest.raises(OSError, match="cannot be written"):
        scan(folder, cache=store)
    assert list(store.iterdir()) == []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert len(scan(folder, cache=None)) == 3


# BEIR folders

CORPUS = [{"_id": "d1", "title": "Wing", "text": "lifts 🎉"}, {"_id": 2, "title": "", "text": "b"}]
QUERIES = [{"_id": "q1", "text": "what \u2028 lifts", "metadata": {}}]
JUDGED = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\t2\t-1\r\n\n"


def beir_folder(folder, corpus=None, queries=None, judged=JUDGED, packed=False):
    def lines(entries):
        return "".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries)

    files = {
        "corpus.jsonl": lines(CORPUS) if corpus is None else corpus,
        "queries.jsonl": lines(QUERIES) if queries is None else queries,
        "qrels/test.tsv": judged,
        "qrels/dev.tsv": judged,
    }
    if packed:
        files = {f"{name}.gz": gzip.compress(content.encode()) for name, content in files.items()}
    return write(folder, files)


@pytest.mark.parametrize("packed", [False, True])
def test_beir(tmp_path, packed):
    assert data.beir(beir_folder(tmp_path, packed=packed)) == {
        "documents": {"d1": "Wing lifts 🎉", "2": "b"},
        "queries": {"q1": "what \u2028 lifts"},
        "judgments": {split: {"q1": {"d1": 2, "2": -1}} for split in ("dev", "test")},
    }
    assert data.beir(str(tmp_path))["queries"] == {"q1": "what \u2028 lifts"}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"corpus": '{"_id": "a", "text": "b"}\n{"_id": '}, "corpus.jsonl, line 2: expected a JSON object"),
        ({"corpus": '{"_id": "a"}'}, "corpus.jsonl, line 1: expected"),
        ({"corpus": '{"_id": "a", "text": 3}'}, "corpus.jsonl, line 1: expected"),
        ({"corpus": "[1]"}, "corpus.jsonl, line 1: expected"),
        ({"corpus": "[" * 100_000}, "corpus.jsonl, line 1: expected"),
        ({"queries": "\n"}, "queries.jsonl holds no texts"),
        ({"judged": JUDGED + "q1 d1 1\n"}, "line 5: expected query id, document id and integer gain"),
        ({"judged": JUDGED + "q1\td1\thigh\n"}, "line 5: expected query id"),
        ({"judged": JUDGED + "q2\td1\t0.5\n"}, "line 5: expected query id"),
        ({"judged": "q1\td1\tinf\n"}, "line 1: expected query id"),
        ({"judged": "q1\td1\tnan\n"}, "line 1: expected query id"),
        ({"judged": JUDGED + "q1\td1\t3\n"}, "line 5: 'd1' has another gain for 'q1' before; keep one"),
        (
            {"corpus": '{"_id": "1", "text": "a"}\n{"_id": 1, "text": "b"}'},
            "line 2: _id '1' has another",
        ),
        ({"queries": '{"_id": "q", "text": "a"}\n\n{"_id": "q", "text": ""}'}, "line 3: _id 'q' has another"),
    ],
)
def test_beir_malformed_lines_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        data.beir(beir_folder(tmp_path, **options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("first", ["q1\td1\t1.0\n", "q1\td1\t1\n", "q1\td1\t+1\n", "q1\td1\t1e0\n"])
def test_a_first_line_with_a_gain_is_a_judgment(tmp_path, first):
    found = data.beir(beir_folder(tmp_path, judged=first + "q1\t2\t-1.0\nq1\td1\t1\n"))
    assert found["judgments"]["test"] == {"q1": {"d1": 1, "2": -1}}
    assert all(type(gain) is int for gain in found["judgments"]["test"]["q1"].values())


def test_only_names_of_judgments_are_read(tmp_path):
    beir_folder(tmp_path)
    expected = data.beir(tmp_path)
    other = b"query-id\tcorpus-id\tscore\nq1\td1\t9\n"
    for name in ("test.tsv.orig", "test.tsv~", "test.tsv.bak", ".test.tsv", "notes.txt", "x.tsv.gz.part"):
        (tmp_path / "qrels" / name).write_bytes(other)
    (tmp_path / "qrels" / "test.tsv.gz").write_bytes(gzip.compress(other))  # beside the plain file
    (tmp_path / "qrels" / "test.tsv.md5").write_text("d41d8cd98f00b204e9800998ecf8427e  test.tsv")
    (tmp_path / "qrels" / "._test.tsv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "qrels" / "folder.tsv").mkdir()
    assert data.beir(tmp_path) == expected
    (tmp_path / "qrels" / "a.tsv.b.tsv").write_bytes(other)
    assert list(data.beir(tmp_path)["judgments"]) == ["a.tsv.b", "dev", "test"]


def test_beir_missing_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no .tsv file"):
        data.beir(tmp_path / "none")
    beir_folder(tmp_path)
    (tmp_path / "corpus.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither corpus.jsonl nor corpus.jsonl.gz"):
        data.beir(tmp_path)
    for broken in (gzip.compress(b'{"_id": "a", "text": "b"}\n' * 100)[:-12], b"no gzip"):
        (tmp_path / "corpus.jsonl.gz").write_bytes(broken)
        with pytest.raises(ValueError, match=r"corpus.jsonl.gz, after line .* fetch the file again"):
            data.beir(tmp_path)
    (tmp_path / "corpus.jsonl").write_bytes(b'{"_id": "a", "text": "\xff"}')
    with pytest.raises(ValueError, match=r"corpus.jsonl, after line 0"):
        data.beir(tmp_path)


# TensorFlow Datasets


@pytest.mark.parametrize("name", ["ag_news_subset", "glue/sst2", "movielens/100k-ratings"])
def test_tfds_mocked(name):
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


# Imports


def test_the_room_is_light():
    program = (
        "import sys; from jaxembed import data; from jaxembed.data import text; text.words('a');"
        "heavy = {'grain', 'tensorflow_datasets', 'flax', 'orbax', 'jax', 'tensorflow'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(data.__all__) <= set(dir(data))


# Bags and pairs


def test_bag_is_its_formula():
    fields = [(["a", "b", "a"], 2.0), (["b"], 0.5)]
    found = data.bag(fields, power=0.5, decay=0.1)
    assert list(found) == ["a", "b"]
    assert found["a"] == pytest.approx((2 + 2 / 1.2) ** 0.5)
    assert found["b"] == pytest.approx((2 / 1.1 + 0.5) ** 0.5)
    assert data.bag([]) == {}


def test_pack_keeps_the_heaviest_words_in_order():
    rng = np.random.default_rng(0)
    bags = [{f"w{i}": float(rng.random()) for i in rng.permutation(30)[:n]} for n in (0, 1, 7, 30)]
    factor = {f"w{i}": float(rng.random()) for i in range(30)}
    words, positions, weights = data.pack(bags, length=7, scale=lambda ws: np.array([factor[w] for w in ws]))
    assert len(set(words)) == len(words)
    for row, places, given in zip(weights, positions, bags, strict=True):
        heavy = {w: v * factor[w] for w, v in given.items()}
        kept = sorted(heavy, key=heavy.get, reverse=True)[:7]
        expected = [w for w in given if w in kept]
        assert [words[p] for p in places[: len(expected)]] == expected
        np.testing.assert_allclose(row[: len(expected)], [heavy[w] for w in expected], rtol=1e-6)
        assert not row[len(expected) :].any()
    with pytest.raises(ValueError, match="size=3 is too small"):
        data.pack(bags, length=7, size=3)


def test_inverse_cloze_cuts_one_span():
    words = [f"w{i}" for i in range(40)]
    starts = set()
    for seed in range(50):
        span, rest = data.inverse_cloze(words, seed=(seed, 1))
        start = words.index(span[0])
        starts.add(start)
        assert words[:start] + span + words[start + len(span) :] == words
        assert rest == words[:start] + words[start + len(span) :]
        assert 5 <= len(span) <= 13
        assert (span, rest) == data.inverse_cloze(words, seed=(seed, 1))
    assert len(starts) > 15
    assert data.inverse_cloze(words[:13], seed=0) == (None, words[:13])
    with pytest.raises(ValueError, match="shortest=3, longest=2"):
        data.inverse_cloze(words, seed=0, shortest=3, longest=2)


PAIRS = {
    "two columns": (
        "a.tsv",
        'a "dog"\tthe dog\nb\tc\n',
        {"first": ['a "dog"', "b"], "second": ["the dog", "c"]},
    ),
    "scores": ("a.tsv", "a\tb\t1.5\nc\td\t0\n", {"scores": [1.5, 0]}),
    "header by its score": ("a.tsv", "one\ttwo\tscore\na\tb\t1\n", {"first": ["a"], "scores": [1]}),
    "header by its names": ("a.tsv", "sentence1\tsentence2\na\tb\n", {"first": ["a"]}),
    "quoted commas": ("a.csv", '"a, b",c,5\n', {"first": ["a, b"], "scores": [5]}),
    "negatives": ("a.tsv", "a\tb\tc\nd\te\t1\n".replace("\t1\n", "\tf\n"), {"negatives": ["c", "f"]}),
    "byte order mark": ("a.tsv", "\ufeffa\tb\n", {"first": ["a"]}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_sentence_pairs_are_read(name, tmp_path):
    file, content, expected = PAIRS[name]
    (tmp_path / file).write_text(content, encoding="utf-8")
    pairs = data.sentence_pairs(tmp_path / file)
    for key, value in expected.items():
        assert list(pairs[key]) == value
    assert len(pairs["first"]) == len(pairs["second"])


BAD_PAIRS = {
    "a\n": "line 1: 1 columns, expected 2 or 3",
    "a\tb\n\nc\td\t1\n": "line 3: 3 columns, expected 2",
    "a\tb\nc\t \n": "line 2: an empty text",
    "": "holds no pairs",
    "a\tb\t1\nc\td\tnan\n": "line 2: the score is not a finite number",
}


@pytest.mark.parametrize("content", BAD_PAIRS)
def test_bad_pairs_are_refused_with_their_line(content, tmp_path):
    (tmp_path / "a.tsv").write_text(content)
    with pytest.raises(ValueError, match=BAD_PAIRS[content]):
        data.sentence_pairs(tmp_path / "a.tsv")
