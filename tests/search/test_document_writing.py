"""Builds that are killed, interrupted or fed with bad documents; files that are torn, foreign or changed."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from document_cases import DOCUMENTS, PARAMS, TOKENS, build, encode, expected, plain_sum, refused, same

from jaxembed import search

RNG = np.random.default_rng(31)


# --- killed at any moment ---

KILLED = """
    import os, pathlib, signal, sys
    import numpy as np
    from jaxembed import files, search
    from jaxembed.search import _document_format
    root = pathlib.Path(sys.argv[1])

    def encode(params, tokens, mask):
        return np.where(mask[..., None], tokens, 0).sum(axis=1)

    def texts(start, stop):
        return [(f"d{i}", np.full((i % 3, 2), i)) for i in range(start, stop)]

    def build(folder):
        return search.build_documents(folder, texts(0, 7), encode, batch_size=2, shard_size=3, meta="m")

    def add(folder):
        return search.add_documents(folder, texts(7, 12), encode, batch_size=2, shard_size=3)

    def begin(call, *args, **options):
        def some():
            yield from texts(20, 25)
            raise KeyError
        try:
            call(*args[:1], some(), encode, batch_size=2, shard_size=2, **options)
        except KeyError:
            pass

    def rebuild(folder):
        options = {"batch_size": 2, "shard_size": 3, "meta": "m", "restart": True}
        return search.build_documents(folder, texts(0, 7), encode, **options)

    def readd(folder):
        return search.add_documents(folder, texts(7, 12), encode, batch_size=2, shard_size=3, restart=True)

    def delete(folder):
        return search.delete_documents(folder, ["d1", "d5"])

    def at_moment(moment, action, folder):
        '''Runs the action in a child that kills itself before its n-th write, rename, folder or removal.'''
        child = os.fork()
        if child == 0:
            count = 0
            def counted(call):
                def run(*args, **kwargs):
                    nonlocal count
                    if count == moment:
                        os.kill(os.getpid(), signal.SIGKILL)
                    count += 1
                    return call(*args, **kwargs)
                return run
            for name in ("fsync", "replace", "mkdir", "unlink", "rmdir"):
                setattr(os, name, counted(getattr(os, name)))
            np.save = counted(np.save)
            try:
                action(folder)
            finally:
                os._exit(0)
        return os.waitpid(child, 0)[1] == signal.SIGKILL

    def state(index):
        rows = [index.tokens[a:b].tolist() for a, b in zip(index.offsets, index.offsets[1:])]
        return list(zip(index.ids.tolist(), rows, index.columns["vectors"][:].tolist()))

    os.fsync = lambda descriptor: None  # a killed process loses nothing that the system has
    whole = {n: state(search.build_documents(root / f"whole{n}", texts(0, n), encode)) for n in (7, 12)}
    kept = [row for row in whole[7] if row[0] not in ("d1", "d5")]
    moments = 0
    cases = [(build, None, whole[7]), (add, whole[7], whole[12]), (delete, whole[7], kept)]
    cases += [(rebuild, None, whole[7]), (readd, whole[7], whole[12])]
    for action, before, after in cases:
        moment, killed = 0, True
        while killed:
            folder = root / f"{action.__name__}{moment}"
            if before is not None:
                build(folder)
            if action is rebuild:
                begin(search.build_documents, folder, meta="other")
            if action is readd:
                begin(search.add_documents, folder)
            killed = at_moment(moment, action, folder)
            if action is build:
                at_moment(5, action, folder)  # a continued build is killed again
            done = False
            if before is not None:  # readers see all or nothing
                seen = state(search.open_documents(folder, verify=True))
                assert seen in (before, after), (action, moment)
                done = seen == after
            if action is rebuild and _document_format.read_manifest(folder)[1]["built"]:
                done = True
            index = search.open_documents(folder) if done else action(folder)
            assert state(index) == after, (action, moment)
            if action is not build and action is not rebuild:
                search.add_documents(folder, [("last", np.ones((1, 2)))], encode)
                search.delete_documents(folder, ["last"])
            manifest = _document_format.read_manifest(folder)[1]
            named = {s["folder"] for s in manifest["shards"]}
            assert {p.name for p in folder.iterdir() if p.is_dir()} == named, (action, moment)
            state(search.open_documents(folder, verify=True))
            moment += 1
            moments += killed
    print("moments", moments)
"""


def test_killed_before_any_write_it_goes_on_without_loss_or_duplicates(tmp_path):
    root = pathlib.Path(search.__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(KILLED), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 160


SLOW = """
    import sys, time
    import numpy as np
    from jaxembed import search
    def encode(params, tokens, mask):
        time.sleep(0.02)
        return tokens.sum(axis=1)
    texts = ((i, np.full((2, 3), i)) for i in range(100_000))
    search.build_documents(sys.argv[1], texts, encode, batch_size=1, shard_size=2)
"""


def test_killed_from_outside_it_goes_on(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(search.__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SLOW), str(tmp_path)], env=environment)
    while process.poll() is None and len(list(tmp_path.glob("shard-*"))) < 4:
        signal.sigtimedwait([], 0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    refused("unfinished", lambda: search.open_documents(tmp_path))
    begun = []

    def rest(start):
        begun.append(start)
        return ((i, np.full((2, 3), i)) for i in range(start, start + 5))

    def total(params, tokens, mask):
        return tokens.sum(axis=1)

    index = search.build_documents(tmp_path, rest, total, batch_size=3)
    assert begun[0] >= 6 and index.ids.tolist() == list(range(begun[0] + 5))
    np.testing.assert_array_equal(index.columns["vectors"][:][:, 0], 2 * np.arange(begun[0] + 5))


def interrupted(folder, at=8):
    def some():
        yield from DOCUMENTS[:at]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(folder, some(), meta="a")


def test_an_interrupted_build_is_refused_to_readers_and_other_documents(tmp_path):
    interrupted(tmp_path)
    refused("unfinished", lambda: search.open_documents(tmp_path))
    refused("unfinished", lambda: search.add_documents(tmp_path, DOCUMENTS, encode))
    refused("unfinished", lambda: search.delete_documents(tmp_path, ["d1"]))
    swapped = [DOCUMENTS[1], DOCUMENTS[0], *DOCUMENTS[2:]]
    refused("number 0 is 'd1', but the unfinished index has 'd0'", lambda: build(tmp_path, swapped, meta="a"))
    fewer = "fewer documents: the unfinished index holds 6, 3 were given"
    refused(fewer, lambda: build(tmp_path, DOCUMENTS[:3], meta="a"))
    refused("dtype", lambda: build(tmp_path, meta="a", dtype=np.float32))
    refused("encode: columns", lambda: build(tmp_path, encode=plain_sum, meta="a"))
    other = {"scale": np.float32(3), "deep": {"shift": np.arange(4, dtype=np.float32)}}
    index = build(tmp_path, swapped, params=other, meta="b", restart=True)
    same(index, swapped)
    assert index.params["scale"] == 3 and index.meta == "b" and len(list(tmp_path.glob("params-*"))) == 1


# --- adding and deleting ---


def test_adding_and_deleting_equals_building_anew(tmp_path):
    build(tmp_path, DOCUMENTS[:10])
    same(search.add_documents(tmp_path, iter(DOCUMENTS[10:]), encode, shard_size=5), DOCUMENTS)
    gone = {"d0", "d12", "d9", "d18", "d19", "d20", "d21", "d22"}
    before = search.open_documents(tmp_path)
    index = search.delete_documents(tmp_path, np.array(sorted(gone)))
    left = [pair for pair in DOCUMENTS if pair[0] not in gone]
    same(index, left)
    np.testing.assert_allclose(index.columns["sum"][:], expected(left)[0], atol=1e-4)
    del before
    again = [(f"n{i}", t) for i, t in enumerate(TOKENS)]
    index = search.add_documents(tmp_path, again, encode)
    same(index, left + again)
    np.testing.assert_allclose(index.columns["sum"][:], expected(left + again)[0], atol=1e-4)
    search.open_documents(tmp_path, verify=True)


def test_readers_see_an_addition_only_when_it_is_finished(tmp_path):
    build(tmp_path, DOCUMENTS[:10])

    def some():
        yield from DOCUMENTS[10:18]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.add_documents(tmp_path, some(), encode, shard_size=3)
    same(search.open_documents(tmp_path), DOCUMENTS[:10])
    refused("unfinished", lambda: search.delete_documents(tmp_path, ["d1"]))
    refused("number 0 is 'd20'", lambda: search.add_documents(tmp_path, DOCUMENTS[20:], encode))
    same(search.add_documents(tmp_path, DOCUMENTS[10:], encode), DOCUMENTS)
    refused("'d10' comes twice", lambda: search.add_documents(tmp_path, DOCUMENTS[10:], encode))


def test_an_addition_can_be_dropped(tmp_path):
    build(tmp_path, DOCUMENTS[:10])
    bad = [*DOCUMENTS[10:18], ("bad", np.full((1, 4), np.nan))]
    for options in ({}, {"restart": True}):
        call = functools.partial(search.add_documents, tmp_path, bad, encode, shard_size=3, **options)
        refused("'bad' are not finite", call)
        same(search.open_documents(tmp_path, verify=True), DOCUMENTS[:10])
    refused("unfinished", lambda: search.delete_documents(tmp_path, "d1"))
    same(search.add_documents(tmp_path, [], encode, restart=True), DOCUMENTS[:10])
    same(search.delete_documents(tmp_path, (i for i in ["d1"])), DOCUMENTS[:1] + DOCUMENTS[2:10])
    same(search.delete_documents(tmp_path, "d0"), DOCUMENTS[2:10])


def test_a_reader_learns_that_the_index_was_changed(tmp_path):
    build(tmp_path)
    index = search.open_documents(tmp_path)
    search.delete_documents(tmp_path, {"d1"})
    maps = pathlib.Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    assert not [line for line in lines if f"{tmp_path}" in line and "(deleted)" in line]
    refused("was changed since it was opened; open it again", lambda: index.tokens[:], FileNotFoundError)


def test_large_ids_stay_what_they_are(tmp_path):
    ids = [2**63 - 1, 12345678901234567, -(2**63)]
    documents = [(i, np.ones((1, 4))) for i in ids]
    index = build(tmp_path / "a", documents, shard_size=1)
    assert index.ids.dtype == np.int64 and index.ids.tolist() == ids
    assert search.delete_documents(tmp_path / "a", [ids[1]]).ids.tolist() == [ids[0], ids[2]]
    refused(f"the id {2**63} is not an int64", lambda: build(tmp_path / "b", [(2**63, np.ones((1, 4)))]))


def test_an_index_of_no_columns_takes_none_later(tmp_path):
    build(tmp_path, DOCUMENTS[:4], encode=lambda params, tokens, mask: {})
    refused("^encode: columns", lambda: search.add_documents(tmp_path, DOCUMENTS[4:], encode))
    index = search.add_documents(tmp_path, DOCUMENTS[4:], lambda *_: {}, restart=True)
    same(index, DOCUMENTS)


# --- bad input ---


def with_bad(tokens, name="bad"):
    return [*DOCUMENTS[:8], (name, tokens)]


BAD = {
    "nan": (with_bad(np.array([[1, np.nan, 0, 0]])), "tokens of 'bad' are not finite"),
    "infinity": (with_bad(np.array([[1, np.inf, 0, 0]])), "tokens of 'bad' are not finite"),
    "too large": (with_bad(np.full((1, 4), 1e6)), "tokens of 'bad' are not finite as float16"),
    "width": (with_bad(np.ones((2, 5))), r"tokens of 'bad' are \(2, 5\); pass \[T, 4\]"),
    "rank": (with_bad(np.ones(4)), r"tokens of 'bad' are \(4,\)"),
    "twice": ([*DOCUMENTS[:8], DOCUMENTS[2]], "'d2' comes twice"),
    "kind": (with_bad(np.ones((1, 4)), 7), "id 7 is of another kind"),
    "float": (with_bad(np.ones((1, 4)), 1.5), "id 1.5 is neither"),
    "complex": (with_bad(np.ones((1, 4), complex)), "tokens of 'bad' are complex128"),
    "text": (with_bad(np.full((1, 4), "x")), "tokens of 'bad' are <U1"),
    "empty id": (with_bad(np.ones((1, 4)), ""), "id '' is neither"),
    "no pair": ([*DOCUMENTS[:8], "x"], "an item is not a pair"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_document_is_refused_by_its_id_and_the_build_goes_on_without_it(tmp_path, name):
    documents, match = BAD[name]
    refused(match, lambda: build(tmp_path, documents))
    same(build(tmp_path, DOCUMENTS), DOCUMENTS)


def test_other_params_or_meta_are_refused_by_name(tmp_path):
    build(tmp_path, meta={"model": "a"})
    other = {"scale": np.float32(2), "deep": {"shift": np.arange(4, dtype=np.float32) + 1}}
    fewer = {"scale": np.float32(2)}
    for call in (search.open_documents, build):
        for params in (other, fewer):
            again = functools.partial(call, tmp_path, params=params, meta={"model": "a"})
            refused(r"params\['deep/shift'\]", again)
        refused(
            r"meta\['model'\] is \"a\" there and \"b\"",
            functools.partial(call, tmp_path, meta={"model": "b"}),
        )
    refused("params", lambda: build(tmp_path, params=None, meta={"model": "a"}))
    same(search.open_documents(tmp_path, params=jax.tree.map(jnp.asarray, PARAMS)), DOCUMENTS)


def test_every_torn_missing_or_changed_file_is_refused(tmp_path):
    build(tmp_path, shard_size=100)
    paths = [p for p in tmp_path.rglob("[!.]*") if p.is_file() and p.name != "README.txt"]
    assert len(paths) == 7
    for path in paths:
        whole = path.read_bytes()
        for size in (0, len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:size])
            refused(f"{path.name}: ", lambda: search.open_documents(tmp_path))
        path.unlink()
        refused(f"{path.name}: missing", lambda: search.open_documents(tmp_path), FileNotFoundError)
        changed = bytearray(whole)
        changed[-1] ^= 1
        path.write_bytes(changed)
        if path.name != "index.json":
            refused(f"{path.name}: the checksum", lambda: search.open_documents(tmp_path, verify=True))
        path.write_bytes(whole)
    same(search.open_documents(tmp_path, verify=True), DOCUMENTS)


def test_foreign_headers_are_refused(tmp_path):
    build(tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    header = json.loads(path.read_text())
    del header["checksum"]  # as an older version wrote it
    shard = header["shards"][0]
    changes = [
        {"version": 1},
        {"format": "x"},
        {"shards": []},
        {"shards": [shard | {"folder": "../other"}]},
        {"shards": [shard | {"files": {"../ids.npy": shard["files"]["ids.npy"]}}]},
        {"params": {"file": "/etc/passwd"}},
        {"columns": {"../x": {"shape": [], "dtype": "<f4"}}},
        {"pending": None},
        {"chdcksum": "0"},
        {"width": 10**12},
        {"shards": [shard | {"tokens": 10**12}]},
        {"shards": [shard | {"documents": -1}]},
    ]
    for change in changes:
        path.write_text(json.dumps(header | change))
        refused("index.json: ", lambda: search.open_documents(tmp_path / "index"))
    path.write_text(json.dumps(header))
    same(search.open_documents(tmp_path / "index", verify=True), DOCUMENTS)
    search.save_index(tmp_path / "plain", np.eye(2), [1, 2])
    refused("index.json: is not", lambda: search.open_documents(tmp_path / "plain"))
    refused("index.json: is not", lambda: build(tmp_path / "plain"))
    refused("index.json: is not", lambda: search.save_index(tmp_path / "index", np.eye(2), [1, 2]))
    refused("index.json: missing", lambda: search.open_documents(tmp_path), FileNotFoundError)


def test_bad_arguments_are_refused(tmp_path):
    refused("^documents: empty", lambda: build(tmp_path, []))
    refused("^batch_size", lambda: build(tmp_path, batch_size=0))
    refused("^shard_size", lambda: build(tmp_path, shard_size=0))
    refused("^encode: returned", lambda: build(tmp_path, encode=lambda p, t, m: np.ones((1, 2))))
    refused("^encode: returned", lambda: build(tmp_path, encode=lambda p, t, m: {"a/b": np.ones((4, 2))}))
    refused("'d1' is not finite", lambda: build(tmp_path, encode=lambda p, t, m: np.full((4, 2), np.nan)))
    refused("^dtype", lambda: build(tmp_path / "x", dtype=jnp.bfloat16))
    refused("^dtype", lambda: build(tmp_path / "x", dtype=np.int8))
    refused("'sum' holds strings", lambda: build(tmp_path, encode=lambda p, t, m: {"sum": np.full(4, "x")}))
    for params in (np.ones(2), {"a": None}, {"a": {}}, {"a": [1.0]}, {"a": jax.random.key(0)}):
        refused("^params: ", lambda params=params: build(tmp_path / "y", params=params))
    refused("^params: the key", lambda: build(tmp_path / "y", params={"a/b": np.ones(1)}))
    build(tmp_path)
    refused("^ids: 'nobody'", lambda: search.delete_documents(tmp_path, ["d1", "nobody"]))
    refused("^ids: no document", lambda: search.delete_documents(tmp_path, [i for i, _ in DOCUMENTS]))
    refused("^documents: empty", lambda: search.add_documents(tmp_path, [], encode))
    same(search.open_documents(tmp_path), DOCUMENTS)
