"""A disk that is full: the error names the file, nothing half-written stays, what was there is as it was."""

import functools

import numpy as np
import pytest
from document_cases import DOCUMENTS, build, encode, same
from full_disk import fails, room

from jaxembed import files, search

ROWS = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)


def test_a_document_index_on_a_full_disk(tmp_path):
    folder = tmp_path / "index"
    more = [(f"m{n}", np.ones((30, 4))) for n in range(12)]
    add = functools.partial(search.add_documents, folder, more, encode, shard_size=6)
    delete = functools.partial(search.delete_documents, folder, ["d1", "d8", "d15"])
    build(folder, shard_size=6)
    fails(folder, add, [0, 200, 1500])
    fails(folder, delete, [0, 200, 2000])
    same(search.open_documents(folder, verify=True), DOCUMENTS)
    assert len(add().ids) == len(DOCUMENTS) + 12
    assert len(delete().ids) == len(DOCUMENTS) + 9


def test_a_build_goes_on_when_there_is_room(tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    fails(folder, lambda: build(folder), [0, 100])
    with room(5000), pytest.raises(OSError, match="index.json.new: could not be written"):
        build(folder, shard_size=2)  # some shards, whose entries in the manifest find room, and one more
    named = files.read_json(folder / "index.json", "")["pending"]
    assert {p.name for p in folder.glob("shard-*")} == {shard["folder"] for shard in named} != set()
    assert not list(folder.rglob("*.new"))
    same(build(folder, shard_size=2), DOCUMENTS)
    same(search.open_documents(folder, verify=True), DOCUMENTS)


def test_an_array_that_lacks_room_for_its_last_bytes_is_no_success(tmp_path):
    """NumPy's own way into a file overlooks up to 4 kB."""
    long = np.arange(4000.0)
    for lost in (1, 100, 4000, 5000):
        with room(long.nbytes + 128 - lost), pytest.raises(OSError, match="a.npy: could not be written"):
            files.write_array(tmp_path / "a.npy", long)
        assert not list(tmp_path.iterdir())
    for x in (long, np.zeros((0, 3)), np.float32(2), np.array(["a", "bc"]), np.asfortranarray(np.eye(3))):
        files.write_array(tmp_path / "a.npy", x)
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), x)


def test_a_plain_index_on_a_full_disk(tmp_path):
    save = functools.partial(search.save_index, tmp_path, ROWS, np.arange(400), [{"n": 1}] * 400)
    search.save_index(tmp_path, ROWS[:3], [1, 2, 3])
    fails(tmp_path, save, [0, 300, 3000, 10000])
    assert len(search.load_index(tmp_path, verify=True).ids) == 3
    save()
    assert len(search.load_index(tmp_path, verify=True).ids) == 400


def test_an_embedding_on_a_full_disk_goes_on(tmp_path):
    path = tmp_path / "v.npy"
    embed = functools.partial(search.embed, lambda batch: batch, ROWS, path=path, batch_size=50)
    for size, counted in ((0, None), (300, 0), (10_000, 150), (10_001, 150), (20_000, 300)):
        with room(size), pytest.raises(OSError, match=r"v.npy.*: could not be written .*; make room, or"):
            embed()
        assert not list(tmp_path.glob("*.new"))
        assert counted is None or files.read_json(tmp_path / "v.npy.json", "")["done"] == counted
    np.testing.assert_array_equal(embed(verify=True), ROWS)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:builtin type")
@pytest.mark.parametrize("form", ["faiss", "faiss_binary", "usearch"])
def test_an_export_on_a_full_disk(tmp_path, form):
    pytest.importorskip(form.split("_")[0])
    rows = ROWS.view(np.uint8) if form == "faiss_binary" else ROWS
    call = functools.partial(getattr(search, f"build_{form}"), rows, tmp_path / "x")
    call()
    size = (tmp_path / "x").stat().st_size
    fails(tmp_path, call, [0, 100, 20_000, size - 4000, size - 1])
    run = getattr(search, f"open_{form}")(tmp_path / "x", **{"codes" if "binary" in form else "rows": rows})
    assert run(rows[:1], 1)[1].shape == (1, 1)


def test_a_json_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1}, sealed=True)
    fails(tmp_path, lambda: files.write_json(path, {"a": "x" * 9000}, sealed=True), [0, 100, 8192])
    path.unlink(), path.mkdir()
    with pytest.raises(OSError, match="x.json"):
        files.write_json(path, {})
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
