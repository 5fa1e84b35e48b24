"""Laws of exact search, of ranking metrics, and of vectors on disk."""

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
import oracles_search as oracles
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxembed import metrics, search

RNG = np.random.default_rng(11)
QUERIES = RNG.integers(-2, 3, (4, 3)).astype(np.float32)
DOCUMENTS = RNG.integers(-1, 2, (37, 3)).astype(np.float32)  # few distinct rows, so most scores tie


def same(found, wanted):
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


@functools.cache
def mesh_of(data, model):
    return jax.make_mesh((data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


# --- top_k ---


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize(("k", "chunk"), [(5, 5), (5, 8), (9, 36), (37, 1), (5, None)])
def test_top_k_with_ties_over_chunks(k, chunk, host):
    documents = DOCUMENTS if host else jnp.asarray(DOCUMENTS)
    scores, ids = search.top_k(QUERIES, documents, k, chunk=chunk)
    assert scores.dtype == jnp.float32 and ids.dtype == jnp.int32
    same((scores, ids), oracles.top_k(QUERIES, DOCUMENTS, k))


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"), [((1, 8), "data"), ((8, 1), "data"), ((2, 4), "data"), ((2, 4), ("data", "model"))]
)
def test_top_k_over_a_mesh(shape, axis, host):
    documents = DOCUMENTS if host else jnp.asarray(DOCUMENTS)
    for k, chunk in ((6, 6), (37, None)):
        found = search.top_k(QUERIES, documents, k, mesh=mesh_of(*shape), axis=axis, chunk=chunk)
        same(found, oracles.top_k(QUERIES, DOCUMENTS, k))


def test_top_k_of_placed_documents_under_jit():
    mesh = mesh_of(8, 1)
    documents = RNG.standard_normal((64, 16)).astype(np.float32)
    queries = RNG.standard_normal((5, 16)).astype(np.float32)
    placed = jax.device_put(documents, NamedSharding(mesh, PartitionSpec("data")))
    run = jax.jit(functools.partial(search.top_k, k=7, mesh=mesh))
    plain = search.top_k(queries, jnp.asarray(documents), 7)
    found = run(jnp.asarray(queries), placed)
    np.testing.assert_array_equal(found[1], plain[1])
    np.testing.assert_allclose(found[0], plain[0], rtol=1e-6)
    np.testing.assert_array_equal(plain[1], oracles.top_k(queries, documents, 7)[1])
    text = run.lower(queries, placed).compile().as_text()
    assert "f32[64,16]" not in text  # no device holds all documents


@pytest.mark.parametrize("shape", [None, (8, 1)])
@pytest.mark.parametrize("host", [False, True])
def test_extreme_scores(shape, host):
    """-inf documents precede padding, NaN counts as -inf, and -0 equals 0."""
    documents = np.array([[np.nan], [-np.inf], [-0.0], [0.0], [np.inf], [-np.inf], [-1.0]], np.float32)
    documents = documents if host else jnp.asarray(documents)
    mesh = None if shape is None else mesh_of(*shape)
    for chunk in (1, None):
        scores, ids = search.top_k(np.ones((1, 1)), documents, 7, mesh=mesh, chunk=chunk)
        np.testing.assert_array_equal(ids, [[4, 2, 3, 6, 0, 1, 5]])
        np.testing.assert_array_equal(scores, [[np.inf, 0, 0, -1, -np.inf, -np.inf, -np.inf]])
    worst = jnp.full((20, 1), -jnp.inf)
    for chunk in (3, 7, 20):
        np.testing.assert_array_equal(
            search.top_k(np.ones((1, 1)), worst, 3, mesh=mesh, chunk=chunk)[1], [[0, 1, 2]]
        )


class Watched:
    """An array on disk that reports how many rows are read at a time."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.reads = array, array.shape, array.dtype, []

    def __getitem__(self, rows):
        self.reads.append(rows.stop - rows.start)
        return self.array[rows]


@pytest.mark.parametrize("mesh_shape", [None, (2, 4)])
def test_memory_mapped_documents_stream(tmp_path, mesh_shape):
    documents = np.memmap(tmp_path / "documents", np.float16, "w+", shape=(101, 8))
    documents[:] = RNG.integers(-2, 3, (101, 8))
    queries = RNG.integers(-2, 3, (3, 8))
    mesh = None if mesh_shape is None else mesh_of(*mesh_shape)
    wanted = oracles.top_k(queries, np.asarray(documents, np.float64), 5)
    same(search.top_k(queries, documents, 5, chunk=16, mesh=mesh), wanted)
    watched = Watched(documents)
    same(search.top_k(queries, watched, 5, chunk=16, mesh=mesh), wanted)
    assert watched.reads == [16] * 7


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: search.top_k(QUERIES, DOCUMENTS, 38), "k"),
        (lambda: search.top_k(QUERIES, jnp.asarray(DOCUMENTS), 0), "k"),
        (lambda: search.top_k(QUERIES, DOCUMENTS[:0], 1), "k"),
        (lambda: search.top_k(QUERIES[:, :2], DOCUMENTS, 1), "documents"),
        (lambda: search.top_k(QUERIES[0], DOCUMENTS, 1), "queries, documents"),
        (lambda: search.top_k(QUERIES, DOCUMENTS, 1, mesh=mesh_of(8, 1), axis="rows"), "axis"),
        (lambda: search.reciprocal_rank_fusion([], 3), "rankings"),
        (lambda: search.reciprocal_rank_fusion([np.zeros((1, 2), int)], 0), "size"),
    ],
)
def test_errors_name_the_argument(call, name):
    with pytest.raises(ValueError, match=f"^{name}: .*; ") as error:
        call()
    assert "\n" not in str(error.value)


def test_fusion_equals_the_loops():
    rankings = [RNG.integers(-1, 9, (30, size)) for size in (6, 4, 5)]
    for size in (4, 12):
        scores, ids = search.reciprocal_rank_fusion(rankings, size, k=5)
        wanted = [oracles.fuse([r[b] for r in rankings], size, 5) for b in range(30)]
        np.testing.assert_allclose(scores, [w[0] for w in wanted], atol=1e-6)
        np.testing.assert_array_equal(ids, [w[1] for w in wanted])
    same(
        jax.jit(search.reciprocal_rank_fusion, static_argnums=1, static_argnames="k")(rankings, 12, k=5),
        (scores, ids),
    )
    empty = search.reciprocal_rank_fusion([np.full((1, 2), -1)], 2)
    same(empty, ([[0, 0]], [[-1, -1]]))


# --- metrics ---


def random_judgments(queries=40):
    ids = RNG.integers(-1, 12, (queries, 15))
    judged_ids = np.stack([RNG.permutation(14)[:9] for _ in range(queries)])
    grades = RNG.integers(-1, 4, (queries, 9))
    padding = RNG.random((queries, 9)) < 0.2
    judged_ids, grades = np.where(padding, -1, judged_ids), np.where(padding, -1, grades)
    grades[3] = np.minimum(grades[3], 0)  # a query without a relevant document
    judgments = [
        {int(i): int(g) for i, g in zip(*pair, strict=True) if i >= 0}
        for pair in zip(judged_ids, grades, strict=True)
    ]
    return ids, judged_ids, grades, judgments


@pytest.mark.parametrize("k", [1, 5, 10, None])
@pytest.mark.parametrize("name", ["ndcg", "recall", "mrr", "average_precision"])
def test_metrics_equal_the_loops(name, k):
    ids, judged_ids, grades, judgments = random_judgments()
    gains = metrics.gains(ids, judged_ids, grades)
    wanted = [oracles.ranked_gains(i.tolist(), j) for i, j in zip(ids, judgments, strict=True)]
    np.testing.assert_array_equal(gains, wanted)
    found = getattr(metrics, name)(gains, grades, k=k)
    oracle = getattr(oracles, name)
    wanted = [oracle(i.tolist(), j, len(i) if k is None else k) for i, j in zip(ids, judgments, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    where = metrics.has_relevant(grades)
    assert not where[3] and found[3] == 0
    kept = [w for w, j in zip(wanted, judgments, strict=True) if any(g > 0 for g in j.values())]
    np.testing.assert_allclose(metrics.masked_mean(found, where), np.mean(kept), atol=1e-6)


def test_ndcg_by_hand():
    """The example of Wikipedia's article on discounted cumulative gain."""
    gains, judged = np.array([[3, 2, 3, 0, 1, 2]]), np.array([[3, 3, 3, 2, 2, 2, 1, 0]])
    np.testing.assert_allclose(metrics.ndcg(gains, judged, k=6), [0.785], atol=5e-4)


def test_metrics_of_nothing():
    none = np.zeros((2, 0), np.int32)
    assert not np.any(metrics.gains(np.ones((2, 3), np.int32), none, none))
    assert metrics.gains(none, np.ones((2, 3), np.int32), np.ones((2, 3))).shape == (2, 0)
    for metric in (metrics.ndcg, metrics.recall, metrics.mrr, metrics.average_precision):
        assert not np.any(metric(np.zeros((2, 3)), none)) and not np.any(metric(none, np.ones((2, 3))))
    assert metrics.masked_mean(np.full(3, np.nan), np.zeros(3, bool)) == 0


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
    assert sorted(p.name for p in path.parent.iterdir()) == ["vectors.npy", "vectors.npy.json"]


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


def refused(match, call, error=ValueError):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


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
    assert len(list((tmp_path / "index").iterdir())) == 2
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
    assert len(list(folder.iterdir())) == 2 and not np.any(search.load_index(folder).vectors)


def test_every_torn_or_missing_file_is_refused(tmp_path):
    folder = tmp_path / "index"
    search.save_index(folder, {"pooled": np.eye(3)}, ["a", "b", "c"], METADATA)
    paths = [p for p in folder.rglob("*") if p.is_file()]
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
