"""Words, their hashes, n-grams and weights: by hand, by formula, linear in time, one value one hash."""

import contextlib
import math
import time
import zlib

import numpy as np
import pytest

from jaxembed import data
from jaxembed.data import text

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


@pytest.mark.parametrize("value", [5, 2.5, None])
def test_one_value_in_place_of_a_list_is_refused(value):
    with pytest.raises(ValueError, match=f"^values: {value} is one value; put it into a list$"):
        data.hashed(value)
