"""A scan with any score: over product codes, over meshes, over columns on the disk."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles_search as oracles
import pytest
from document_cases import EXACT, FLAT, OFFSETS, QUERIES, build, refused
from jax.sharding import AxisType

from jaxembed import search, vectors

RNG = np.random.default_rng(31)


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
