"""Indexes of faiss and usearch over what we wrote (extra ``peers``), and the line without them."""

import json
import sys

import numpy as np
import pytest
from document_cases import MASK, QUERIES, build, encode, ranked, refused

from jaxembed import search, vectors

RNG = np.random.default_rng(31)


# --- faiss and usearch ---

ROWS = RNG.standard_normal((600, 16)).astype(np.float32)
ASKED = RNG.standard_normal((5, 16)).astype(np.float32)


@pytest.mark.parametrize(
    ("call", "package"),
    [
        (lambda path: search.build_faiss(ROWS, path), "faiss-cpu"),
        (lambda path: search.open_faiss(path), "faiss-cpu"),
        (lambda path: search.build_usearch(ROWS, path), "usearch"),
        (lambda path: search.open_usearch(path), "usearch"),
    ],
)
def test_a_missing_library_is_named_in_one_line(tmp_path, monkeypatch, call, package):
    for name in ("faiss", "usearch", "usearch.index"):
        monkeypatch.setitem(sys.modules, name, None)
    refused(f"is not installed; run pip install {package}$", lambda: call(tmp_path / "x"), ImportError)


def older(path):
    """Describes an index as versions did that had no checksums."""
    note = path.with_name(path.name + ".rows.json")
    known = json.loads(note.read_text())
    note.write_text(json.dumps({key: known[key] for key in ("rows", "width", "version")}))


def recall_of(found):
    _, ids = search.top_k(ASKED, ROWS, 10)
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(np.asarray(ids), found, strict=True)])


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:builtin type")
@pytest.mark.parametrize(
    ("factory", "options", "least"),
    [
        ("Flat", {}, 1.0),
        ("HNSW16", {"efSearch": 128}, 0.95),
        ("IVF8,Flat", {"nprobe": 8}, 1.0),
        ("PQ8x4", {}, 0.3),
    ],
)
def test_faiss_searches_what_we_wrote(tmp_path, factory, options, least):
    pytest.importorskip("faiss")
    path = search.build_faiss(ROWS, tmp_path / "index.faiss", factory, chunk=256)
    scores, ids = search.open_faiss(path, **options)(ASKED, 10)
    assert ids.dtype == np.int32 and scores.dtype == np.float32 and recall_of(ids) >= least
    if least > 0.9:
        np.testing.assert_allclose(
            scores, np.take_along_axis(ASKED @ ROWS.T, ids.astype(int), axis=1), atol=1e-4
        )
    run = search.open_faiss(path)
    refused("^k: 601", lambda: run(ASKED, 601))
    refused("^queries: ", lambda: run(ASKED[:, :3], 5))
    refused("^options: ", lambda: search.open_faiss(path, nothing=3))
    refused("^options: ", lambda: search.open_faiss(path, nprobe="many"))
    refused("^factory: ", lambda: search.build_faiss(ROWS, path, "Nonsense"))
    refused("^factory: .* trained on 9 rows", lambda: search.build_faiss(ROWS[:9], path, "IVF16,Flat"))
    refused("^path: ", lambda: search.build_faiss(ROWS, tmp_path / "none" / "x"))
    refused("^chunk: ", lambda: search.build_faiss(ROWS, path, chunk=0))
    search.open_faiss(path, rows=ROWS)
    refused("rows\\['rows'\\] is 600 there and 599", lambda: search.open_faiss(path, rows=ROWS[1:]))
    path.write_bytes(path.read_bytes()[:100])
    refused("100 bytes, expected", lambda: search.open_faiss(path))
    older(path)
    refused("damaged", lambda: search.open_faiss(path))
    refused("missing", lambda: search.open_faiss(tmp_path / "none"), FileNotFoundError)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:builtin type")
@pytest.mark.parametrize("library", ["faiss", "usearch"])
def test_what_was_exported_is_void_when_documents_go(tmp_path, library):
    pytest.importorskip(library)
    write, read = (getattr(search, f"{verb}_{library}") for verb in ("build", "open"))
    index = build(tmp_path / "index")
    path = write(index.columns["sum"], tmp_path / "file")
    read(path, rows=search.open_documents(tmp_path / "index").columns["sum"])
    changed = search.delete_documents(tmp_path / "index", "d1")
    search.add_documents(tmp_path / "index", [("new", np.ones((1, 4)))], encode)
    for rows in (changed.columns["sum"], search.open_documents(tmp_path / "index").columns["sum"]):
        refused("build the index again from these rows", lambda rows=rows: read(path, rows=rows))
    (tmp_path / "file.rows.json").unlink()
    refused("missing", lambda: read(path, rows=changed.columns["sum"]), FileNotFoundError)


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_usearch_searches_what_we_wrote(tmp_path, dtype):
    pytest.importorskip("usearch")
    refused("^dtype: ", lambda: search.build_usearch(ROWS, tmp_path / "x", dtype="i8"))
    path = search.build_usearch(ROWS, tmp_path / "index.usearch", chunk=256, dtype=dtype)
    run = search.open_usearch(path, expansion=200)
    scores, ids = run(ASKED, 10)
    assert ids.dtype == np.int32 and scores.dtype == np.float32 and recall_of(ids) >= 0.9
    error = {"f32": 1e-3, "f16": 0.02, "bf16": 0.2}[dtype]
    wanted = np.take_along_axis(ASKED @ ROWS.T, ids.astype(int), axis=1)
    np.testing.assert_allclose(scores, wanted, atol=error)
    refused("^k: 601", lambda: run(ASKED, 601))
    refused("missing", lambda: search.open_usearch(tmp_path / "none"), FileNotFoundError)
    older(path)
    np.testing.assert_array_equal(search.open_usearch(path, expansion=200)(ASKED, 10)[1], ids)
    path.write_bytes(b"x" * 10)
    refused("damaged", lambda: search.open_usearch(path))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:builtin type")
def test_faiss_gives_first_candidates_from_a_column_on_disk(tmp_path):
    pytest.importorskip("faiss")
    index = build(tmp_path / "index")
    path = search.build_faiss(index.columns["sum"], tmp_path / "index.faiss", "Flat", chunk=7)
    search_sums = search.open_faiss(path)

    def first(queries, mask, size):
        return search_sums(np.where(mask[..., None], queries, 0).sum(axis=1), size)[1]

    given = {"score": vectors.chamfer, "tokens": index.tokens, "offsets": index.offsets}
    _, places = search.retrieve(first, QUERIES, MASK, 5, **given, candidates=23)
    assert [row.tolist() for row in places] == [ranked(b, range(23), 5)[0] for b in range(3)]
