"""One wrong bit in any file of an index is noticed; wrong structure already at opening."""

import functools
import json

import numpy as np
import pytest
from document_cases import DOCUMENTS, encode, refused, same
from document_cases import build as build_documents
from flips import silent

from jaxembed import search

RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(40, 6)).astype(np.float32)
CODES = RNG.integers(256, size=(40, 3)).astype(np.uint8)  # product codes


def with_codes(params, tokens, mask):
    """An encoder that stores what MUVERA and product codes would: floats and bytes."""
    return encode(params, tokens, mask) | {"codes": (mask.sum(axis=1)[:, None] % 251).astype(np.uint8)}


def read_documents(folder, verify=False):
    index = search.open_documents(folder, verify=verify)
    for start, stop in zip(index.offsets[:-1], index.offsets[1:], strict=True):
        index.tokens[start:stop]
    return index.ids.tolist(), [rows[:].tolist() for rows in index.columns.values()], index.params


def read_plain(folder, verify=False):
    index = search.load_index(folder, verify=verify)
    return index.ids.tolist(), index.vectors["codes"].tolist(), list(index.metadata)


def read_embedding(path, verify=False):
    return search.embed(None, ROWS, path=path, meta={"m": 1}, verify=verify, dtype=np.uint8).tolist()


@pytest.fixture
def documents(tmp_path):
    build_documents(tmp_path / "index", encode=with_codes, shard_size=100, meta={"model": "né", "n": [0.5]})
    return tmp_path / "index"


@pytest.fixture
def plain(tmp_path):
    ids = [f"d{n}" for n in range(40)]
    search.save_index(
        tmp_path / "plain", {"rows": ROWS, "codes": CODES}, ids, [{"n": n} for n in range(40)], {"m": 1}
    )
    return tmp_path / "plain"


@pytest.fixture
def embedding(tmp_path):
    path = tmp_path / "codes.npy"
    search.embed(
        lambda batch: np.abs(batch[:, :3]).astype(int) * 7,
        ROWS,
        path=path,
        meta={"m": 1},
        batch_size=9,
        dtype=np.uint8,
    )
    return path


READERS = {"documents": read_documents, "plain": read_plain, "embedding": read_embedding}
# What opening reads whole is compared with its checksum, also without ``verify``.
CHECKED = ("index.json", "ids.npy", "offsets.npy", "params-", "codes.npy.json")


@pytest.mark.parametrize("form", READERS)
def test_one_bit_is_never_silent(form, request):
    place = request.getfixturevalue(form)
    read = functools.partial(READERS[form], place)
    before = read(verify=True)
    around = place.rglob("[!.]*") if place.is_dir() else place.parent.glob("[!.]*")
    found = sorted(path for path in around if path.is_file() and path.name != "README.txt")
    assert len(found) == {"documents": 8, "plain": 6, "embedding": 2}[form]
    for seed, path in enumerate(found):
        assert not silent(path, functools.partial(read, verify=True), seed=seed), path.name
        quiet = silent(path, read, seed=seed)
        if path.name.startswith(CHECKED):
            assert not quiet
    assert repr(read(verify=True)) == repr(before)


def test_one_bit_of_rows_that_are_counted_is_noticed_before_more_are_written(tmp_path):
    path = tmp_path / "rows.npy"

    def encode(batch):
        if batch[0, 0] == ROWS[20, 0]:
            raise KeyboardInterrupt
        return batch

    with pytest.raises(KeyboardInterrupt):
        search.embed(encode, ROWS, path=path, batch_size=5)
    go_on = functools.partial(search.embed, encode, ROWS, path=path, batch_size=5)

    def read():
        with pytest.raises(KeyboardInterrupt):
            go_on()

    for name in ("rows.npy.partial", "rows.npy.json"):
        assert not silent(tmp_path / name, read)
    np.testing.assert_array_equal(search.embed(lambda batch: batch, ROWS, path=path, verify=True), ROWS)


def test_a_deletion_or_an_addition_never_writes_a_damaged_shard_anew(documents):
    path = next(documents.glob("shard-*"))
    for name in ("ids.npy", "tokens.npy", "offsets.npy", "column.sum.npy"):
        damage = functools.partial(silent, path / name, count=16)
        assert not damage(lambda: search.delete_documents(documents, "d1"))
    add = functools.partial(search.add_documents, documents, [("new", np.ones((1, 4)))], with_codes)
    assert not silent(path / "ids.npy", add, count=16)
    assert not silent(next(documents.glob("params-*")), add, count=16)
    same(search.open_documents(documents, verify=True), DOCUMENTS)
    same(search.delete_documents(documents, "d1"), DOCUMENTS[:1] + DOCUMENTS[2:])


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:builtin type")
@pytest.mark.parametrize("form", ["faiss", "faiss_binary", "usearch"])
def test_no_library_sees_a_damaged_file(tmp_path, form):
    pytest.importorskip(form.split("_")[0])
    rows = np.repeat(CODES, 3, axis=1)[:, :8] if form == "faiss_binary" else ROWS
    path = getattr(search, f"build_{form}")(rows, tmp_path / "x")
    for name in ("x", "x.rows.json"):
        assert not silent(tmp_path / name, lambda: getattr(search, f"open_{form}")(path))
    path.write_bytes(path.read_bytes() + b"\0")
    refused("x: .* bytes, expected", lambda: getattr(search, f"open_{form}")(path))
    if form == "usearch":
        refused("x: .* bytes, expected", lambda: search.open_usearch(path, verify=False))


def test_folders_without_checksums_open_as_before(documents, plain, embedding):
    """An older jaxembed wrote them; what cannot be verified is not said to be."""
    for path in (documents / "index.json", plain / "index.json", embedding.with_name("codes.npy.json")):
        known = json.loads(path.read_text())
        for entry in known.get("arrays", {}).values():
            del entry["sha256"]
        for key in ("checksum", "metadata_sha256", *(["sha256"] if path.parent == embedding.parent else [])):
            known.pop(key, None)
        path.write_text(json.dumps(known))
    read_documents(documents, verify=True)  # its shards always had checksums
    read_plain(plain), read_embedding(embedding)
    refused("was saved without a checksum; save", lambda: search.load_index(plain, verify=True))
    refused("was written without a checksum; delete", lambda: read_embedding(embedding, verify=True))
