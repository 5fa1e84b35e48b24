"""Laws of documents on disk, of search over their columns, and of reranking by their tokens."""

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import oracles_search as oracles
import pytest
from jax.sharding import AxisType

from jaxembed import search, vectors

RNG = np.random.default_rng(31)
LENGTHS = [3, 0, 1, 9, 5, 2, 14, 1, 4, 6, 8, 2, 30, 3, 7, 1, 5, 2, 4, 3, 6, 1, 2]
TOKENS = [RNG.standard_normal((n, 4)).astype(np.float16) for n in LENGTHS]
DOCUMENTS = [(f"d{i}", t) for i, t in enumerate(TOKENS)]
PARAMS = {"scale": np.float32(2), "deep": {"shift": np.arange(4, dtype=np.float32)}}
QUERIES = RNG.standard_normal((3, 5, 4)).astype(np.float32)
MASK = np.arange(5) < np.array([[5], [3], [0]])


@jax.jit
def encode(params, tokens, mask):
    total = jnp.where(mask[..., None], tokens, 0).sum(axis=1)
    return {"sum": total * params["scale"] + params["deep"]["shift"], "count": mask.sum(axis=1)}


def expected(documents):
    total = [t.astype(np.float32).sum(0) for _, t in documents]
    return np.array(total) * 2 + np.arange(4), [len(t) for _, t in documents]


def plain_sum(params, tokens, mask):
    return np.where(mask[..., None], tokens, 0).sum(axis=1)


def build(folder, documents=DOCUMENTS, encode=encode, params=PARAMS, **options):
    return search.build_documents(
        folder, documents, encode, params=params, **{"batch_size": 4, "shard_size": 6} | options
    )


def same(index, documents):
    assert index.ids.tolist() == [i for i, _ in documents]
    np.testing.assert_array_equal(np.diff(index.offsets), [len(t) for _, t in documents])
    np.testing.assert_array_equal(index.tokens[:], np.concatenate([t for _, t in documents]))


def refused(match, call, error=ValueError):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


# --- building and opening ---


@pytest.mark.parametrize("sizes", [(4, 6), (1, 1), (50, 100), (6, 4)])
def test_round_trip_in_any_batches_and_shards(tmp_path, sizes):
    folder = tmp_path / "deep" / "index"
    built = build(folder, batch_size=sizes[0], shard_size=sizes[1], meta={"model": (1,)})
    for index in (built, search.open_documents(folder, verify=True)):
        same(index, DOCUMENTS)
        total, count = expected(DOCUMENTS)
        np.testing.assert_allclose(index.columns["sum"][:], total, atol=1e-4)
        np.testing.assert_array_equal(index.columns["count"][:], count)
        assert index.meta == {"model": [1]} and index.params["scale"] == 2
        np.testing.assert_array_equal(index.params["deep"]["shift"], np.arange(4))
    manifest = json.loads((folder / "index.json").read_text())
    assert len(manifest["shards"]) == -(-len(DOCUMENTS) // sizes[1]) and not manifest["pending"]


def test_rows_index_as_arrays_do(tmp_path):
    index = build(tmp_path)
    for rows in (index.tokens, index.columns["sum"], index.columns["count"]):
        whole = np.asarray(rows)
        assert rows.shape == whole.shape and rows.dtype == whole.dtype and len(rows) == len(whole)
        for places in (slice(3, 9), slice(5, 5), slice(9, 3), slice(None, None, 3), slice(-4, None), 7, -1):
            np.testing.assert_array_equal(rows[places], whole[places])
        for places in ([], [20, 0, 0, -1], [[1, 6], [5, 12]]):
            places = np.array(places, int)
            np.testing.assert_array_equal(rows[places], whole[places])
        kept = np.arange(len(rows)) % 3 == 1
        np.testing.assert_array_equal(rows[kept], whole[kept])
        for outside in (
            len(rows),
            -len(rows) - 1,
            kept[1:],
            (2, 3),
            [0.5],
            (np.array([0, 1]), slice(2)),
            (slice(None), slice(1, 3)),
        ):
            with pytest.raises(IndexError, match="^places"):
                rows[outside]


def test_the_first_numbers_of_rows_stay_on_the_disk(tmp_path):
    fde = vectors.init_fde(jax.random.key(0), 4, repetitions=6, planes=2, projection="identity")
    index = build(tmp_path, encode=vectors.encode_documents, params=fde)
    small = vectors.truncate_fde(index.params, repetitions=2)
    length = vectors.encoding_length(small)
    rows = index.columns["vectors"][:, :length]
    assert rows.shape == (len(DOCUMENTS), length) and not isinstance(rows, np.ndarray)
    whole = np.asarray(index.columns["vectors"])[:, :length]
    np.testing.assert_array_equal(rows[:], whole)
    np.testing.assert_array_equal(rows[[3, 1]], whole[[3, 1]])
    queries = vectors.encode_queries(small, QUERIES, MASK)
    wanted = search.top_k(queries, jnp.asarray(whole), 4)
    for chunk in (5, None):
        scores, places = search.top_k(queries, rows, 4, chunk=chunk)
        np.testing.assert_array_equal(places, wanted[1])
        np.testing.assert_allclose(scores, wanted[0], rtol=1e-6)


def test_the_encoder_sees_stored_tokens_in_few_shapes(tmp_path):
    shapes, seen = set(), []

    def watch(params, tokens, mask):
        shapes.add(tokens.shape)
        assert tokens.dtype == np.float32 and not tokens[~mask].any()
        seen.extend(row[kept] for row, kept in zip(tokens, mask, strict=True) if kept.any())
        return plain_sum(params, tokens, mask)

    documents = [(i, RNG.standard_normal((n, 4))) for i, n in enumerate(LENGTHS)]
    index = build(tmp_path, documents, watch, None)
    assert shapes <= {(4, t, 4) for t in (8, 12, 16, 24, 32)}
    stored = np.concatenate([t.astype(np.float16).astype(np.float32) for _, t in documents])
    assert {row.tobytes() for row in np.concatenate(seen)} == {row.tobytes() for row in stored}
    wanted = [t.astype(np.float16).astype(np.float32).sum(0) for _, t in documents]
    np.testing.assert_allclose(index.columns["vectors"][:], wanted, atol=1e-4)
    assert index.ids.dtype.kind == "i" and index.params is None


def test_memory_holds_one_shard(tmp_path):
    """The iterator is never more than one shard ahead of what is on the disk."""
    given = 0

    def stream():
        nonlocal given
        for pair in DOCUMENTS:
            on_disk = sum(
                s["documents"] for s in json.loads((tmp_path / "index.json").read_text())["pending"]
            )
            assert given - on_disk < 6
            given += 1
            yield pair

    same(build(tmp_path, stream()), DOCUMENTS)


def test_a_finished_build_is_returned_without_its_documents(tmp_path):
    build(tmp_path, meta="a")
    same(build(tmp_path, None, None, meta="a"), DOCUMENTS)
    refused('^dtype: dtype is "<f2" there', lambda: build(tmp_path, meta="a", dtype=np.float32))
    refused("^restart: .* finished", lambda: build(tmp_path, meta="a", restart=True))
    refused("^batch_size", lambda: build(tmp_path, meta="a", batch_size=0))


def test_other_documents_on_a_finished_folder_are_named(tmp_path):
    build(tmp_path)
    never = lambda *_: pytest.fail("encoded")  # noqa: E731
    started = []

    def source(documents):
        def documents_from(first):
            started.append(first)
            return iter(documents[first:])

        return documents_from

    for same_ones in (DOCUMENTS, tuple(DOCUMENTS), iter(DOCUMENTS), source(DOCUMENTS), None):
        same(build(tmp_path, same_ones, never), DOCUMENTS)
    assert started == [0, len(DOCUMENTS) - 1]
    last = len(DOCUMENTS) - 1
    new = ("new", np.zeros((1, 4)))
    others = {
        "number 0 is 'd1', but the finished index has 'd0'; delete": DOCUMENTS[1:],
        f"number {last} is None, but the finished index has 'd{last}'": DOCUMENTS[:-1],
        f"number {last + 1} is 'new', but the finished index has None": [*DOCUMENTS, new],
        f"number {last} is 'new', but": [*DOCUMENTS[:-1], new],
        "number 0 is None, but": [],
    }
    for message, documents in others.items():
        for given in (documents, iter(documents), source(documents)):
            refused("^documents: " + message, lambda given=given: build(tmp_path, given, never))
    swapped = [DOCUMENTS[0], new, *DOCUMENTS[2:]]
    refused("^documents: number 1 is 'new'", lambda: build(tmp_path, swapped, never))
    refused("^documents: an item is not a pair", lambda: build(tmp_path, ["doc"], never))
    refused("^documents: None; pass", lambda: build(tmp_path / "none", None))
    search.delete_documents(tmp_path, ["d1"])
    refused("^documents: number 1 is 'd1', but the finished index has 'd2'", lambda: build(tmp_path))


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "README.txt").write_text("mine")
    refused("holds 'README.txt'", lambda: build(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".DS_Store").write_text("")
    build(tmp_path / "other")
    (tmp_path / "other" / ".DS_Store").unlink()
    shutil.rmtree(tmp_path / "other")
    assert (tmp_path / "README.txt").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_the_folder_describes_itself(tmp_path):
    build(tmp_path)
    text = (tmp_path / "README.txt").read_text()
    manifest = json.loads((tmp_path / "index.json").read_text())
    assert all(f"{name}" in text for name in manifest)
    for path in tmp_path.rglob("*.npy"):
        assert path.name in text or path.name.startswith("column.")


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
    refused("number 3 is None", lambda: build(tmp_path, DOCUMENTS[:3], meta="a"))
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
    "no pair": ([*DOCUMENTS[:8], "x"], "no pair"),
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
    paths = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "README.txt"]
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
    ]
    for change in changes:
        path.write_text(json.dumps(header | change))
        refused("index.json: ", lambda: search.open_documents(tmp_path / "index"))
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


# --- scanning ---


@functools.cache
def mesh_of(data, model):
    return jax.make_mesh((data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


CODES = RNG.integers(0, 3, (37, 5)).astype(np.uint8)
TABLES = RNG.integers(-2, 3, (4, 5, 3)).astype(np.float32)  # whole numbers, so scores tie


def product_oracle(k):
    scores = [[sum(t[m][c] for m, c in enumerate(code)) for code in CODES] for t in TABLES]
    order = [sorted(range(37), key=lambda n, s=s: (-s[n], n))[:k] for s in scores]
    return np.array([[s[n] for n in o] for s, o in zip(scores, order, strict=True)]), np.array(order)


def scan_codes(k, **options):
    return search.scan_top_k(vectors.product_scores, TABLES, CODES, k, **options)


@pytest.mark.parametrize("shape", [None, (8, 1), (2, 4)])
@pytest.mark.parametrize("host", [False, True])
def test_a_scan_over_codes_equals_the_loops(shape, host):
    mesh = None if shape is None else mesh_of(*shape)
    for k, chunk in ((5, 8), (37, None)):
        rows = CODES if host else jnp.asarray(CODES)
        scores, ids = search.scan_top_k(vectors.product_scores, TABLES, rows, k, mesh=mesh, chunk=chunk)
        wanted = product_oracle(k)
        assert scores.dtype == jnp.float32 and ids.dtype == jnp.int32
        np.testing.assert_array_equal(scores, wanted[0])
        np.testing.assert_array_equal(ids, wanted[1])


def extreme(queries, rows):
    return queries["weight"][:, None] * rows[None]


def test_a_scan_takes_any_score_and_puts_what_is_no_number_last():
    rows = np.array([np.nan, -np.inf, -0.0, 0.0, np.inf, -1.0], np.float32)
    for chunk in (1, None):
        queries = {"weight": jnp.ones(1)}
        scores, ids = search.scan_top_k(extreme, queries, rows, 6, chunk=chunk)
        np.testing.assert_array_equal(ids, [[4, 2, 3, 5, 0, 1]])
        np.testing.assert_array_equal(scores, [[np.inf, 0, 0, -1, -np.inf, -np.inf]])


def test_a_scan_of_a_column_on_disk(tmp_path):
    index = build(tmp_path)
    whole = index.columns["sum"][:]
    queries = QUERIES[:, 0]
    wanted = oracles.top_k(queries, whole.astype(np.float64), 7)
    for found in (
        search.top_k(queries, index.columns["sum"], 7, chunk=5),
        search.scan_top_k(lambda q, d: q @ d.T, queries, index.columns["sum"], 7, chunk=8),
    ):
        np.testing.assert_array_equal(found[1], wanted[1])
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: search.scan_top_k(vectors.product_scores, TABLES, CODES, 38), "k"),
        (lambda: search.scan_top_k(vectors.product_scores, TABLES, CODES, 0), "k"),
        (lambda: search.scan_top_k(vectors.product_scores, TABLES, CODES, 2.0), "k"),
        (lambda: search.scan_top_k(vectors.product_scores, TABLES[0], CODES, 2), "tables"),
        (lambda: search.scan_top_k(lambda q, c: q[:, 0], TABLES, CODES, 2), "score"),
        (lambda: search.scan_top_k(vectors.product_scores, TABLES, CODES[:, :4], 2), "product_codes"),
        (
            lambda: search.scan_top_k(vectors.product_scores, TABLES, CODES, 2, mesh=mesh_of(8, 1), axis="x"),
            "axis",
        ),
    ],
)
def test_scan_errors_name_the_argument(call, name):
    refused(f"^{name}: ", call)


def test_no_queries_find_nothing():
    none = np.zeros((0, 3, 4), np.float32), np.zeros((0, 3), bool)
    assert search.scan_top_k(vectors.product_scores, TABLES[:0], CODES, 2)[1].shape == (0, 2)
    assert search.single_vector_candidates(FLAT, OFFSETS, *none, 2).shape == (0, 2)
    assert search.rerank(*none, np.zeros((0, 3), int), **EXACT)[1].shape == (0, 3)


# --- reranking ---

OFFSETS = np.cumsum([0, *LENGTHS])
FLAT = np.concatenate(TOKENS)
EXACT = {"score": vectors.chamfer, "tokens": FLAT, "offsets": OFFSETS}


def chamfer_of(b, n):
    query = QUERIES[b][MASK[b]].astype(np.float64)
    return oracles.chamfer(query, TOKENS[n].astype(np.float64))


def ranked(b, places, k):
    own = sorted({p for p in places if p >= 0}, key=lambda n: (-chamfer_of(b, n), n))[:k]
    return own, [chamfer_of(b, n) for n in own]


def rerank(places, k=None, *, tokens=FLAT, mask=MASK):
    return search.rerank(QUERIES, mask, places, k, **EXACT | {"tokens": tokens})


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("chunk", [2, 64])
def test_reranking_equals_the_loops(chunk, flat):
    places = np.array([RNG.permutation(23)[:12] for _ in range(3)])
    places[1, 4:] = -1
    places[0, 3] = places[0, 2]
    queries = np.where(MASK[..., None], QUERIES, np.nan)  # padding never matters
    for k in (1, 6, None):
        options = EXACT | {"chunk": chunk}
        if flat:
            options |= {"score": vectors.chamfer_flat, "flat": True}
        scores, found = search.rerank(queries, MASK, places, k, **options)
        assert scores.shape == found.shape == (3, k or 12)
        for b in range(3):
            own, values = ranked(b, places[b].tolist(), k or 12)
            assert found[b].tolist() == own + [-1] * ((k or 12) - len(own))
            np.testing.assert_allclose(scores[b, : len(own)], values, rtol=1e-5, atol=1e-5)
            assert (scores[b, len(own) :] == -np.inf).all()


def test_retrieval_with_every_candidate_is_exact_and_carving_changes_only_the_score(tmp_path):
    key = jax.random.key(0)
    params = {"fde": vectors.init_fde(key, 4, repetitions=3, planes=2, projected=4)}

    def fde(params, tokens, mask):
        return {"fde": vectors.encode_documents(params["fde"], tokens, mask)}

    index = search.build_documents(tmp_path, DOCUMENTS, fde, params=params, batch_size=8)
    seen = []

    def first(queries, mask, size):
        seen.append((queries, mask))
        encoded = vectors.encode_queries(index.params["fde"], queries, mask)
        return search.top_k(encoded, index.columns["fde"], size)[1]

    def halve(queries, mask):
        return queries, mask & (np.arange(5) < 2)

    arguments = (first, QUERIES, MASK, 5)
    given = {"score": vectors.chamfer, "tokens": index.tokens, "offsets": index.offsets}
    scores, places = search.retrieve(*arguments, **given, candidates=1000)
    same, ids = search.retrieve(*arguments, **given, candidates=1000, ids=index.ids)
    np.testing.assert_array_equal(same, scores)
    np.testing.assert_array_equal(ids, index.ids[places])
    for b in range(3):
        assert places[b].tolist() == ranked(b, range(23), 5)[0]
    few_scores, few = search.retrieve(*arguments, **given, candidates=8)
    candidates = first(QUERIES, MASK, 8)
    for b in range(3):
        assert few[b].tolist() == ranked(b, candidates[b].tolist(), 5)[0]
    carved, kept = search.retrieve(*arguments, **given, candidates=1000, carve=halve)
    np.testing.assert_array_equal(seen[-1][1], MASK)
    wanted = search.rerank(*halve(QUERIES, MASK), np.tile(np.arange(23), (3, 1)), 5, **EXACT)
    np.testing.assert_array_equal(kept, wanted[1])
    np.testing.assert_allclose(carved, wanted[0])
    refused("^k: 24 is outside 1..23", lambda: search.retrieve(*arguments[:-1], 24, **given, candidates=1000))
    refused("^k: 9 is outside 1..8", lambda: search.retrieve(*arguments[:-1], 9, **given, candidates=8))
    pair = (lambda *asked: (None, first(*asked)), *arguments[1:])
    refused("^first: returns 2 values; return the places", lambda: search.retrieve(*pair, **given))


def test_documents_are_named_by_their_ids_and_missing_ones_by_none():
    places = np.array([[2, 0, -1], [3, -1, -1], [0, 4, 2]])
    names = np.array([f"document {n}" for n in range(23)])
    scores, found = search.rerank(QUERIES, MASK, places, **EXACT)
    _, named = search.rerank(QUERIES, MASK, places, **EXACT, ids=names)
    _, numbered = search.rerank(QUERIES, MASK, places, **EXACT, ids=7 + np.arange(23))
    missing = np.array([[False, False, True], [False, True, True], [False] * 3])
    np.testing.assert_array_equal(found < 0, missing)
    np.testing.assert_array_equal(scores == -np.inf, missing)
    assert named.tolist() == [["" if n < 0 else f"document {n}" for n in row] for row in found]
    np.testing.assert_array_equal(numbered, np.where(found < 0, -1, found + 7))
    bad = {r"^ids: \(3,\) for 23 documents": names[:3], "^ids: are float64; pass": np.arange(23.0)}
    for message, ids in bad.items():
        refused(message, lambda ids=ids: search.rerank(QUERIES, MASK, places, **EXACT, ids=ids))


@pytest.mark.parametrize("deduplicate", [True, False])
@pytest.mark.parametrize(("size", "neighbours"), [(10, None), (60, 7), (3, 2)])
def test_single_vector_candidates_equal_the_loops(size, neighbours, deduplicate):
    queries = np.where(MASK[..., None], QUERIES, np.nan)
    found = search.single_vector_candidates(
        FLAT, OFFSETS, queries, MASK, size, neighbours=neighbours, deduplicate=deduplicate
    )
    owners = np.repeat(np.arange(23), LENGTHS)
    for b in range(3):
        wanted = oracles.interleaved(QUERIES[b][MASK[b]], FLAT, owners, neighbours or size, deduplicate)[
            :size
        ]
        assert found[b].tolist() == wanted + [-1] * (size - len(wanted))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: rerank([[23]] * 3), "places"),
        (lambda: rerank([[0]] * 2), "places"),
        (lambda: rerank([[0, 1]] * 3, 3), "k"),
        (lambda: rerank([[0]] * 3, tokens=FLAT[:, :3]), "tokens"),
        (lambda: rerank([[0]] * 3, tokens=FLAT[:9]), "offsets"),
        (lambda: rerank([[0]] * 3, mask=MASK[:, :4]), "queries"),
        (lambda: search.rerank(QUERIES, MASK, [[0]] * 3, **EXACT, chunk=0), "chunk"),
        (lambda: search.single_vector_candidates(FLAT, OFFSETS, QUERIES, MASK, 0), "size"),
        (lambda: search.single_vector_candidates(FLAT, OFFSETS, QUERIES, MASK, 3, neighbours=999), "k"),
    ],
)
def test_pipeline_errors_name_the_argument(call, name):
    refused(f"^{name}: ", call)


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
    (tmp_path / "bad").write_bytes(b"x" * 10)
    refused("damaged", lambda: search.open_usearch(tmp_path / "bad"))


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
