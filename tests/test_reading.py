"""What all readers share: one line for whatever a decoder raises, and lines of bounded length."""

import gzip
import json

import numpy as np
import pytest
from refusals import refused

from jaxembed import files


def _raise(error):
    raise error


RAISED = {
    "recursion": (lambda: json.loads("[" * 100_000), "maximum recursion depth exceeded"),
    "type": (lambda: len(3), r"object of type 'int' has no len\(\)"),
    "memory": (lambda: np.zeros(2**50, np.int8), "Unable to allocate"),
    "overflow": (lambda: (2**70).to_bytes(8, "little"), "int too big to convert"),
    "nothing said": (lambda: _raise(EOFError()), "EOFError"),
    "lines": (lambda: json.loads("\n\n{"), "line 3 column 2"),
}


@pytest.mark.parametrize("name", RAISED)
def test_what_a_decoder_raises_becomes_one_line(name):
    raised, said = RAISED[name]

    def read():
        with files.reading("a.bin", "fetch it again"):
            raised()

    refused(rf"^a.bin: damaged or cut short \(.*{said}.*\); fetch it again$", read)


def undecodable():
    try:
        b"caf\xe9".decode()
    except UnicodeDecodeError as error:
        return error


def test_errors_that_say_it_already_stay():
    def read(error, **options):
        with files.reading("a.bin", "fetch it again", **options):
            raise error

    refused("^a.bin, line 3: odd; mend it$", lambda: read(ValueError("a.bin, line 3: odd; mend it")))
    refused("^a.bin: missing; fetch it again$", lambda: read(FileNotFoundError(2, "No")), FileNotFoundError)
    refused("^a.bin: is not UTF-8 but perhaps latin-1; fetch", lambda: read(undecodable()))
    refused("^a.bin: Is a directory; fetch", lambda: read(IsADirectoryError(21, "Is a directory")), OSError)
    refused("^a.bin: 'odd'; fetch it again$", lambda: read(KeyError("odd"), fault="{}"))
    with pytest.raises(TypeError, match="^mine$"):
        read(TypeError("mine"), passing=(TypeError,))
    with pytest.raises(ImportError):
        read(ImportError("an extra"))
    with pytest.raises(KeyboardInterrupt):
        read(KeyboardInterrupt())


def test_an_error_gets_the_path_of_its_source_once():
    def read(source, text):
        with files.named(source):
            raise ValueError(text)

    refused("^a.csv: label 'y' holds 7; drop it$", lambda: read("a.csv", "label 'y' holds 7; drop it"))
    refused("^a.csv, line 3: odd; drop it$", lambda: read("a.csv", "a.csv, line 3: odd; drop it"))
    refused("^label 'y' holds 7; drop it$", lambda: read({"y": [7]}, "label 'y' holds 7; drop it"))


@pytest.mark.parametrize("packed", [False, True])
def test_lines_come_with_their_numbers(packed, tmp_path):
    path = tmp_path / ("a.txt.gz" if packed else "a.txt")

    def write(content):
        path.write_bytes(gzip.compress(content) if packed else content)

    def read(**options):
        return list(files.lines(path, "mend it", **options))

    write(b"\xef\xbb\xbfone\r\n\nthr\xc3\xa9e")
    assert read() == [(1, "one"), (2, ""), (3, "thrée")]
    write(b"")
    assert read() == []
    write(b"abc\nabcd\n")
    assert read(longest=5) == [(1, "abc"), (2, "abcd")]
    refused(f"^{path}, line 2: is longer than 4 bytes; mend it$", lambda: read(longest=4))
    write(b"a\ncaf\xe9\n")
    refused(f"^{path}, line 2: is not UTF-8 but perhaps latin-1; mend it$", read)
    path.unlink()
    refused(f"^{path}: missing; mend it$", read, FileNotFoundError)


def test_a_cut_archive_names_the_last_whole_line(tmp_path):
    path = tmp_path / "a.gz"
    content = "".join(f"{n}\n" for n in np.random.default_rng(0).integers(10**9, size=9000)).encode()
    path.write_bytes(gzip.compress(content)[:-2000])
    refused(
        r"a.gz: damaged or cut short after line \d+ \(.*\); fetch it",
        lambda: list(files.lines(path, "fetch it")),
    )


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_the_likely_encoding_is_named(encoding):
    content = "naïve café".encode("latin-1") if encoding == "latin-1" else "“naïve”".encode(encoding)
    assert files.likely_encoding(content) == encoding
    refused(
        f"^a: is not UTF-8 but perhaps {encoding}; mend it$", lambda: files.text_of(content, "a", "mend it")
    )


def test_json_without_an_end_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a":' * 100_000)
    refused(
        "^.*a.json: damaged or cut short .*recursion.*; save it",
        lambda: files.read_json(path, "save it again"),
    )


def test_an_array_with_a_damaged_header_is_named(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(3))
    content = path.read_bytes()
    for old, new in ((b"(3,)", b"(3,("), (b"'<f8'", b"'<Q9'"), (b"(3,)", b"(9**9,)"), (b"(3,)", b"(-3,)")):
        path.write_bytes(content.replace(old, new))
        refused("^.*a.npy: .*; save it again", lambda: files.open_array(path, (3,), "<f8", "save it again"))
