"""An index of vectors on disk: round trips, torn files, foreign headers."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import search

# --- index ---

METADATA = [{"title": "ä\n"}, {}, {"n": [1, None]}]


@pytest.mark.parametrize("ids", [[5, 6, 7], ["a", "bc", "ü"]])
def test_index_round_trip(tmp_path, ids):
    arrays = {"pooled": np.arange(6, dtype=np.float16).reshape(3, 2), "tokens": jnp.ones((3, 4, 2))}
    for vectors in (arrays, arrays["pooled"]):
        search.save_index(tmp_path / "index", vectors, ids, METADATA, {"model": "a"})
        index = search.load_index(tmp_path / "index")
        found = index.vectors if isinstance(vectors, dict) else {"pooled": index.vectors}
        for name, x in found.items():
            assert isinstance(x, np.memmap) and x.dtype == arrays[name].dtype
            np.testing.assert_array_equal(x, arrays[name])
        assert index.ids.tolist() == ids and index.meta == {"model": "a"}
        assert list(index.metadata) == METADATA and index.metadata[-1] == METADATA[2]
        assert index.metadata[1:] == METADATA[1:] and len(index.metadata) == 3
        with pytest.raises(IndexError):
            index.metadata[3]
    assert len(list((tmp_path / "index").glob("[!.]*"))) == 2
    search.save_index(tmp_path / "index", index.vectors, index.ids)
    assert search.load_index(tmp_path / "index").metadata is None
    np.testing.assert_array_equal(index.vectors, arrays["pooled"])  # a reader of the old index goes on


def test_a_failed_save_keeps_the_old_index(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    search.save_index(folder, np.eye(3), [1, 2, 3], METADATA)
    before = sorted(folder.rglob("*"))
    with pytest.raises(TypeError):
        search.save_index(folder, np.zeros((3, 3)), [1, 2, 3], [{}, {}, {"x": object()}])
    assert sorted(folder.rglob("*")) == before
    (folder / ("generation-" + "0" * 32)).mkdir()  # what a killed writer leaves behind
    np.testing.assert_array_equal(search.load_index(folder).vectors, np.eye(3))
    search.save_index(folder, np.zeros((3, 3)), [1, 2, 3], METADATA)
    assert len(list(folder.glob("[!.]*"))) == 2 and not np.any(search.load_index(folder).vectors)


def test_every_torn_or_missing_file_is_refused(tmp_path):
    folder = tmp_path / "index"
    search.save_index(folder, {"pooled": np.eye(3)}, ["a", "b", "c"], METADATA)
    paths = [p for p in folder.rglob("[!.]*") if p.is_file()]
    assert len(paths) == 5
    for path in paths:
        whole = path.read_bytes()
        for size in (0, len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:size])
            refused(f"{path.name}: .*save the index again", lambda: search.load_index(folder))
        path.unlink()
        refused(f"{path.name}: missing", lambda: search.load_index(folder), FileNotFoundError)
        path.write_bytes(whole)
    search.load_index(folder)


def test_foreign_headers_are_refused(tmp_path):
    folder = tmp_path / "index"
    search.save_index(folder, np.eye(3), [1, 2, 3])
    header = json.loads((folder / "index.json").read_text())
    del header["checksum"]  # as an older version wrote it
    changes = {
        "version": 2,
        "format": "x",
        "generation": "../other",
        "arrays": {"../ids.npy": {"shape": [3], "dtype": "<i8"}},
        "single": None,
    }
    for name, value in changes.items():
        changed = header | {name: value}
        if value is None:
            del changed[name]
        (folder / "index.json").write_text(json.dumps(changed))
        refused("index.json: ", lambda: search.load_index(folder))
    (folder / "index.json").write_text("{}")
    refused("delete it or choose", lambda: search.save_index(folder, np.eye(3), [1, 2, 3]))
    pickled = next(folder.rglob("ids.npy"))
    (folder / "index.json").write_text(json.dumps(header))
    np.save(pickled, np.array([1, "a", None], object), allow_pickle=True)
    refused("ids.npy: ", lambda: search.load_index(folder))


def test_save_index_refuses_bad_arguments(tmp_path):
    folder = tmp_path / "index"
    refused("vectors: vectors is", lambda: search.save_index(folder, np.eye(3), [1, 2]))
    refused("metadata: 1 entries", lambda: search.save_index(folder, np.eye(2), [1, 2], [{}]))
    refused("vectors: the name", lambda: search.save_index(folder, {"../x": np.eye(2)}, [1, 2]))
    refused("dtype", lambda: search.save_index(folder, jnp.eye(2, dtype=jnp.bfloat16), [1, 2]))
    refused(
        "ids: 1 is among strings",
        lambda: search.save_index(folder, np.eye(2), np.array([1, "a"], object)),
    )
    refused(r"ids: 'a\\x00' ends in NUL", lambda: search.save_index(folder, np.eye(2), ["a", "a\0"]))
    refused("ids: 1 is among strings", lambda: search.save_index(folder, np.eye(2), ["1", 1]))
    refused("vectors: vectors is", lambda: search.save_index(folder, np.zeros((0, 2)), []))
    assert not folder.exists()
