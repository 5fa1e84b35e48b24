"""Documented functions of packages: what is kept, splits, the cache, and what is refused."""

import ast
import importlib
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest
from written_files import write

from jaxembed import data
from jaxembed.data import text

docstrings = importlib.import_module("jaxembed.data.sources.docstrings")


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
    assert docstrings._first_sentence(docstring) == expected


def test_a_docstring_of_ten_megabytes_is_cut_in_linear_time():
    start = time.perf_counter()
    sentence, rest = docstrings._first_sentence("Return all of it. " + "A. \0🎉" * 2_000_000)
    assert sentence == "Return all of it." and len(rest) > 9_000_000
    assert docstrings._first_sentence("a " * 5_000_000) == (None, None)
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
            "large.py": GOOD.format("of large", 7) + "# " + "x" * docstrings._LARGEST,
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
    calls, plain = [], docstrings._scan
    monkeypatch.setattr(
        docstrings, "_scan", lambda package, files: calls.append(package) or plain(package, files)
    )
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
    monkeypatch.setattr(docstrings.os, "replace", full)
    with pytest.raises(OSError, match="cannot be written"):
        scan(folder, cache=store)
    assert list(store.iterdir()) == []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert len(scan(folder, cache=None)) == 3
