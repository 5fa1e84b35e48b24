"""Folders in the layout of BEIR: read, judged, and refused by their line."""

import gzip
import json
import re

import pytest
from written_files import write

from jaxembed import data

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
        ({"corpus": '{"_id": null, "text": "b"}'}, "line 1: expected a JSON object with _id"),
        ({"corpus": '{"_id": true, "text": "b"}'}, "expected a JSON object with _id (a text or an integer)"),
        ({"corpus": '{"_id": 1.5, "text": "b"}'}, "expected a JSON object with _id (a text or an integer)"),
        ({"corpus": '{"_id": "a", "text": 3}'}, "corpus.jsonl, line 1: expected"),
        ({"corpus": "[1]"}, "corpus.jsonl, line 1: expected"),
        ({"corpus": "[" * 100_000}, "corpus.jsonl, line 1: expected"),
        ({"queries": "\n"}, "queries.jsonl: holds no texts"),
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
        with pytest.raises(ValueError, match=r"gz: damaged or cut short after line .* fetch the file"):
            data.beir(tmp_path)
    (tmp_path / "corpus.jsonl").write_bytes(b'{"_id": "a", "text": "\xff"}')
    with pytest.raises(ValueError, match=r"corpus.jsonl, line 1: is not UTF-8 but perhaps latin-1; save it"):
        data.beir(tmp_path)
