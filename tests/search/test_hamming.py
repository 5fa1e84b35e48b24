"""Hamming search against a sort in NumPy: chunks, meshes, ties, columns on the disk; reranking by floats."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from refusals import refused

from jaxembed import search, vectors
from jaxembed.search.code_columns import least_of, least_of_all, words_of

RNG = np.random.default_rng(53)


def sorted_oracle(queries, codes, k):
    distances = np.bitwise_count(queries[:, None] ^ codes[None]).sum(axis=2, dtype=np.int32)
    ids = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, ids, axis=1), ids


def codes_of(rows, width, most=256):
    return RNG.integers(0, most, (rows, width)).astype(np.uint8)


@pytest.mark.parametrize("place", [np.asarray, jnp.asarray])
@pytest.mark.parametrize(
    ("rows", "width", "k", "chunk", "most"),
    [
        (70, 2, 3, None, 4),  # few rows: compared as they are; many ties
        (3000, 3, 5, None, 2),  # blocks, a width that is no word, ties everywhere
        (33_000, 4, 7, None, 256),  # two pieces that overlap
        (5000, 4, 40, 3000, 256),  # chunks of the host that do not divide
        (600, 128, 2, None, 256),  # 1,024 bits
        (700, 272, 2, None, 256),  # a sum that is not written out
    ],
)
def test_the_nearest_codes_are_those_of_a_sort(rows, width, k, chunk, most, place):
    codes = codes_of(rows, width, most)
    queries = np.concatenate([codes[RNG.integers(0, rows, 2)], codes_of(1, width, most)])
    distances, ids = search.hamming_top_k(queries, place(codes), k, chunk=chunk)
    wanted = sorted_oracle(queries, codes, k)
    assert distances.dtype == ids.dtype == jnp.int32
    np.testing.assert_array_equal(distances, wanted[0])
    np.testing.assert_array_equal(ids, wanted[1])


@pytest.mark.parametrize(
    ("rows", "width", "k", "most"),
    [
        (1, 1, 1, 256),
        (70, 2, 3, 4),  # one block and a part of another; many ties
        (130, 4, 130, 3),  # all of them
        (33_000, 3, 7, 2),  # a width that is no word, ties everywhere
        (34_000, 64, 40, 256),  # three pieces, the last one filled up
        (700, 272, 2, 256),  # a sum that is not written out
    ],
)
def test_codes_by_columns_give_what_packed_codes_give(rows, width, k, most):
    codes = codes_of(rows, width, most)
    queries = np.concatenate([codes[RNG.integers(0, rows, 2)], codes_of(1, width, most)])
    columns = search.code_columns(codes)
    found = search.hamming_top_k(queries, columns, k)
    for ours, wanted in zip(found, sorted_oracle(queries, codes, k), strict=True):
        assert ours.dtype == jnp.int32
        np.testing.assert_array_equal(ours, wanted)
    pieces, words, _, blocks = columns.words.shape
    assert pieces * blocks * 64 - rows < max(64, 2**20 // (4 * words)) and words == -(-width // 4)
    n = rows - 1
    word = np.zeros(4 * words, np.uint8)
    word[:width] = codes[n]
    held = columns.words[n // (64 * blocks), :, n % 64, n % (64 * blocks) // 64]
    np.testing.assert_array_equal(held, word.view(np.uint32))


@functools.cache
def mesh_of(data, model):
    return jax.make_mesh((data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


@pytest.mark.parametrize("host", [False, True])
def test_devices_find_what_one_device_finds(host):
    codes = codes_of(2001, 4, 3)
    given = codes if host else jnp.asarray(codes)
    found = search.hamming_top_k(codes[:3], given, 4, mesh=mesh_of(2, 4), chunk=900)
    for ours, wanted in zip(found, sorted_oracle(codes[:3], codes, 4), strict=True):
        np.testing.assert_array_equal(ours, wanted)


def test_what_accelerators_run_finds_the_same():
    codes = codes_of(1000, 4)
    words = words_of(jnp.asarray(codes)).reshape(-1, 8, 1).transpose(2, 1, 0)
    queries, offset = words_of(jnp.asarray(codes[:3])), jnp.zeros((8, 125), jnp.int32)
    vectorised = jax.vmap(least_of, (0, None, None))(queries, words, offset)
    np.testing.assert_array_equal(vectorised, least_of_all(queries, words, offset))


def test_distances_of_all_pairs_are_never_held():
    codes = jax.ShapeDtypeStruct((1 << 20, 32), jnp.uint8)
    queries = jax.ShapeDtypeStruct((64, 32), jnp.uint8)
    from jaxembed.search import hamming

    run = jax.jit(functools.partial(hamming._nearest, first=0, last=1 << 20, k=10))
    memory = run.lower(queries, codes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 64 * (1 << 20)  # a byte for each pair would be as much


# Indexes on the disk

ROWS = RNG.standard_normal((300, 16)).astype(np.float32)
PLANES = np.asarray(vectors.random_hyperplanes(jax.random.key(0), 16, 64))
HEAD = {"planes": PLANES}


def encode(params, tokens, mask):
    x = tokens[:, 0]
    return {"codes": vectors.sign_codes(x @ params["planes"]), "floats": x}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("index") / "codes"
    documents = [(f"d{n}", row[None]) for n, row in enumerate(ROWS)]
    options = {"params": HEAD, "dtype": np.float32, "shard_size": 128}
    search.build_documents(place, documents, encode, **options)
    return place


@pytest.fixture
def index(folder):
    return search.open_documents(folder, params=HEAD)


def test_an_index_finds_by_bits_and_ranks_by_floats(index):
    queries = ROWS[:5] + 0.1
    codes = vectors.sign_codes(queries @ PLANES)
    column = index.columns["codes"]
    assert column.dtype == np.uint8 and column.shape == (300, 8)
    np.testing.assert_array_equal(
        search.hamming_top_k(codes, column, 9, chunk=100)[1], sorted_oracle(codes, column[:], 9)[1]
    )
    for name in (None, "floats"):
        scores, ids = search.search_codes(index, codes, queries, 3, candidates=300, vectors=name)
        exact, places = search.top_k(queries, ROWS, 3)
        np.testing.assert_allclose(scores, exact, rtol=1e-5)
        np.testing.assert_array_equal(ids, [[f"d{n}" for n in row] for row in np.asarray(places)])


def test_candidates_are_ranked_once_each_and_padding_comes_last():
    places = np.array([[5, 5, 2, -1], [7, 7, 7, 7]])
    scores, ids = search.rerank_vectors(ROWS[:2], places, ROWS, chunk=1)
    own = ROWS[:2] @ ROWS.T
    order = sorted((2, 5), key=lambda n: -own[0, n])
    np.testing.assert_array_equal(ids, [[*order, -1, -1], [7, -1, -1, -1]])
    np.testing.assert_allclose(scores[0], [own[0, order[0]], own[0, order[1]], -np.inf, -np.inf], rtol=1e-5)
    tied = np.zeros((1, 16), np.float32)
    np.testing.assert_array_equal(search.rerank_vectors(tied, np.array([[9, 3, 4]]), ROWS)[1], [[3, 4, 9]])
    broken = ROWS.copy()
    broken[4] = np.nan
    scores, ids = search.rerank_vectors(ROWS[:1], np.array([[4, 3]]), broken)
    assert ids.tolist() == [[3, 4]] and scores[0, 1] == -np.inf


def test_bad_searches_are_named(index, folder):
    codes = vectors.sign_codes(ROWS @ PLANES)
    refused(
        "queries: 32 bits, .* 64; make both with one head",
        lambda: search.hamming_top_k(codes[:, :4], codes, 1),
    )
    refused("codes: int8", lambda: search.hamming_top_k(codes, codes.view(np.int8), 1))
    refused("k: 301 is outside 1..300", lambda: search.hamming_top_k(codes, codes, 301))
    columns = search.code_columns(codes)
    refused("k: 301 is outside 1..300", lambda: search.hamming_top_k(codes, columns, 301))
    refused("bits, but the codes have", lambda: search.hamming_top_k(codes[:, :4], columns, 1))
    refused("mesh: codes by columns", lambda: search.hamming_top_k(codes, columns, 1, mesh=mesh_of(2, 4)))
    refused("codes: int8", lambda: search.code_columns(codes.view(np.int8)))
    refused("codes: uint8 \\(0, 4\\)", lambda: search.code_columns(codes[:0, :4]))
    refused(
        "column: 'bits' is not in the index",
        lambda: search.search_codes(index, codes, ROWS, 1, column="bits"),
    )
    refused("k: 20 is outside 1..10", lambda: search.search_codes(index, codes, ROWS, 20, candidates=10))
    refused(
        "vectors: .* one encoder", lambda: search.rerank_vectors(ROWS[:, :3], np.zeros((300, 1), int), ROWS)
    )
    refused("places: 300 of 300", lambda: search.rerank_vectors(ROWS[:1], np.array([[300]]), ROWS))
    other = {"planes": PLANES + 1}
    with pytest.raises(ValueError, match="planes") as caught:
        search.open_documents(folder, params=other)
    assert "\n" not in str(caught.value)


# faiss


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:builtin type")
@pytest.mark.parametrize(("factory", "options"), [("BFlat", {}), ("BIVF4", {"nprobe": 4})])
def test_faiss_searches_the_codes_that_we_wrote(tmp_path, factory, options):
    pytest.importorskip("faiss")
    codes = codes_of(500, 8)
    path = search.build_faiss_binary(codes, tmp_path / "codes.faiss", factory, chunk=200)
    run = search.open_faiss_binary(path, codes=codes, **options)
    distances, ids = run(codes[:4], 6)
    assert distances.dtype == ids.dtype == np.int32
    np.testing.assert_array_equal(distances, sorted_oracle(codes[:4], codes, 6)[0])
    found = np.bitwise_count(codes[:4, None] ^ codes[ids]).sum(axis=2)
    np.testing.assert_array_equal(found, distances)
    refused("queries: uint8 .* 64 bits; make both", lambda: run(codes[:, :4], 1))
    refused("k: 501", lambda: run(codes, 501))
    refused("rows.*; build the index again", lambda: search.open_faiss_binary(path, codes=codes[:9]))
    refused("has no probes", lambda: search.open_faiss_binary(path, probes=1))


@pytest.mark.peers
def test_bad_exports_are_named(tmp_path):
    pytest.importorskip("faiss")
    codes = codes_of(20, 8)
    path = tmp_path / "codes.faiss"
    refused("factory: faiss refuses 'Flat32x'", lambda: search.build_faiss_binary(codes, path, "Flat32x"))
    refused("codes: float32", lambda: search.build_faiss_binary(codes.astype(np.float32), path))
    refused("missing; build", lambda: search.open_faiss_binary(path), FileNotFoundError)
    path.write_bytes(b"IBxx")
    refused("rows.json: missing; copy it", lambda: search.open_faiss_binary(path), FileNotFoundError)
    path.with_name("codes.faiss.rows.json").write_text('{"rows": 20, "width": 8, "version": null}')
    refused("damaged", lambda: search.open_faiss_binary(path))
