"""Exact search and fusion: against loops, with ties, over meshes, streamed from the disk."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles_search as oracles
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxembed import search

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
