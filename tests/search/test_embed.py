"""A file of vectors that grows: resumed after any stop, never mixed, never damaged."""

import functools
import json
import math
import pathlib
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import search

# --- embed ---


def double(batch):
    return np.stack([2 * np.asarray(batch, np.float32), np.ones(len(batch), np.float32)], axis=1)


@pytest.mark.parametrize("records", [list(range(10)), np.arange(10), range(10)])
def test_embed_pads_the_last_batch_and_reuses_the_file(tmp_path, records):
    sizes, path = [], tmp_path / "deep" / "vectors.npy"

    def encode(batch):
        sizes.append(len(batch))
        return double(batch)

    for meta in ({"model": "a"}, {"model": "a"}):
        found = search.embed(encode, records, path=path, batch_size=4, meta=meta)
    assert sizes == [4, 4, 4]
    assert isinstance(found, np.memmap) and not found.flags.writeable
    np.testing.assert_array_equal(found, double(range(10)))
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), found)
    assert sorted(p.name for p in path.parent.glob("[!.]*")) == ["vectors.npy", "vectors.npy.json"]


def test_embed_takes_a_dict_of_arrays_and_a_jitted_function(tmp_path):
    records = {"x": np.arange(6.0).reshape(3, 2), "mask": np.ones((3, 2), bool)}
    encode = jax.jit(lambda batch: jnp.where(batch["mask"], batch["x"], 0).astype(jnp.bfloat16))
    found = search.embed(encode, records, path=tmp_path / "v.npy", batch_size=2, dtype=np.float16, width=2)
    assert found.dtype == np.float16 and encode._cache_size() == 1
    np.testing.assert_array_equal(found, records["x"])


KILLED = """
    import os, signal, sys
    import numpy as np
    from jaxembed import search
    path, die_at = sys.argv[1], int(sys.argv[2])
    def encode(batch):
        if die_at in batch:
            with open(path + ".partial", "ab") as file:  # a torn write behind the counted rows
                file.write(b"torn")
            os.kill(os.getpid(), signal.SIGKILL)
        return np.stack([2 * np.asarray(batch, np.float32), np.ones(len(batch), np.float32)], axis=1)
    search.embed(encode, range(50), path=path, batch_size=8, meta={"model": "a"})
"""


def test_embed_goes_on_after_a_kill(tmp_path):
    path = tmp_path / "vectors.npy"
    root = pathlib.Path(search.__file__).parents[2]
    for die_at in (20, 41):
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path), str(die_at)]
        assert subprocess.run(command, cwd=root, timeout=60).returncode == -signal.SIGKILL
    assert not path.exists()
    assert json.loads((tmp_path / "vectors.npy.json").read_text())["done"] == 40
    seen = []

    def encode(batch):
        seen.extend(batch)
        return double(batch)

    found = search.embed(encode, range(50), path=path, batch_size=5, meta={"model": "a"})
    assert seen == list(range(40, 50))
    np.testing.assert_array_equal(found, double(range(50)))


def interrupted(path, at, error=KeyboardInterrupt, **options):
    def encode(batch):
        if at in batch:
            raise error
        return double(batch)

    with pytest.raises(error):
        search.embed(encode, range(10), path=path, batch_size=2, **options)


@pytest.mark.parametrize("at", [0, 5])
def test_embed_goes_on_after_an_exception(tmp_path, at):
    path = tmp_path / "v.npy"
    interrupted(path, at)
    np.testing.assert_array_equal(search.embed(double, range(10), path=path, batch_size=3), double(range(10)))


def test_embed_with_every_row_counted_but_not_renamed(tmp_path):
    path = tmp_path / "v.npy"
    search.embed(double, range(10), path=path)
    path.rename(tmp_path / "v.npy.partial")
    np.testing.assert_array_equal(search.embed(None, range(10), path=path), double(range(10)))
    path.unlink()  # a count without its file
    np.testing.assert_array_equal(search.embed(double, range(10), path=path), double(range(10)))


@pytest.mark.parametrize("finished", [False, True])
def test_embed_refuses_what_belongs_to_another_call(tmp_path, finished):
    path, meta = tmp_path / "v.npy", {"model": "a", "size": [1, 2]}
    if finished:
        search.embed(double, range(10), path=path, meta=meta)
    else:
        interrupted(path, 5, meta=meta)

    def again(records=range(10), **options):
        return lambda: search.embed(double, records, path=path, **{"meta": meta} | options)

    refused(r"""meta\['model'\] is "a" there and "b" here""", again(meta={"model": "b", "size": [1, 2]}))
    refused(r"meta\['size'\] is \[1, 2\] there and null here", again(meta={"model": "a"}))
    refused("rows is 10 there and 11 here", again(range(11)))
    refused("width is 2 there and 3 here", again(width=3))
    refused("dtype", again(dtype=np.float16))
    again(meta={"model": "a", "size": (1, 2)}, width=2)()


def test_embed_refuses_damaged_files(tmp_path):
    path, record = tmp_path / "v.npy", tmp_path / "v.npy.json"
    search.embed(double, range(10), path=path)
    path.write_bytes(path.read_bytes()[:-4])
    refused("v.npy: damaged or cut short", lambda: search.embed(double, range(10), path=path))
    for text in ("{", "[]", '{"done": 3}'):
        record.write_text(text)
        refused("v.npy.json", lambda: search.embed(double, range(10), path=path))
    record.unlink()
    refused("v.npy.json: missing", lambda: search.embed(double, range(10), path=path), FileNotFoundError)
    other, partial = tmp_path / "w.npy", tmp_path / "w.npy.partial"
    interrupted(other, 5)
    partial.write_bytes(partial.read_bytes()[:-4])
    refused("w.npy.partial: 156 bytes, expected 160", lambda: search.embed(double, range(10), path=other))


@pytest.mark.parametrize(
    "dtype, bad", [(np.float16, 1e5), (np.float32, 1e39), (np.float32, math.nan), (np.int8, 300), (int, 0.5)]
)
@pytest.mark.parametrize("start", [0, 2])  # in the first batch and in a later one
def test_embed_refuses_what_the_file_cannot_hold(tmp_path, dtype, bad, start):
    column = lambda batch: np.array(batch)[:, None]  # noqa: E731
    embed = functools.partial(search.embed, column, path=tmp_path / "v.npy", batch_size=2, dtype=dtype)
    message = f"^encode: the vector of record {start + 1} is not finite or does not fit in"
    refused(message, lambda: embed([1.0] * start + [1.0, bad]))
    assert embed([1.0] * start + [1.0, 2.0]).ravel().tolist() == [1.0] * start + [1.0, 2.0]


def test_embed_refuses_bad_arguments(tmp_path):
    path = tmp_path / "v.npy"
    refused("^records", lambda: search.embed(double, [], path=path))
    refused("^batch_size", lambda: search.embed(double, [1], path=path, batch_size=0))
    refused("^dtype", lambda: search.embed(double, [1], path=path, dtype=jnp.bfloat16))
    refused("^encode", lambda: search.embed(double, [1], path=path, width=3))
    refused("^encode", lambda: search.embed(lambda batch: double(batch)[:1], [1, 2], path=path))
    np.testing.assert_array_equal(search.embed(double, [1, 2], path=path), double([1, 2]))
