"""Codes of several bits: levels, planes, exact integer products, tables, against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import search, vectors

RNG = np.random.default_rng(43)
LOOPS = pytest.mark.parametrize("loops", [0, 1, 3])


def levels_of(loops, rows=7, size=16):
    return (2 * RNG.integers(0, 2 ** (loops + 1), (rows, size)) + 1 - 2 ** (loops + 1)).astype(np.int8)


@LOOPS
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_planes_come_back_and_their_prefixes_are_shorter_codes(loops, kind):
    levels = levels_of(loops)
    planes = vectors.levels_to_bits(kind(levels), loops)
    assert planes.shape == (7, loops + 1, 2) and planes.dtype == np.uint8
    assert isinstance(planes, np.ndarray) == (kind is np.asarray)
    np.testing.assert_array_equal(vectors.bits_to_levels(planes), levels)
    bits = 2 * np.unpackbits(np.asarray(planes), axis=2, bitorder="little").astype(int) - 1
    weights = 2.0 ** -np.arange(loops + 1)
    np.testing.assert_array_equal(levels / 2**loops, np.einsum("nlm,l->nm", bits, weights))
    short = vectors.bits_to_levels(planes[:, :1])
    np.testing.assert_array_equal(short, np.sign(levels))


@LOOPS
def test_scores_are_cosines_of_the_lattice_and_the_double_sum_of_popcounts(loops):
    queries, documents = levels_of(loops, 3), levels_of(loops, 5)
    found = vectors.level_scores(queries, documents)
    q, d = (x.astype(float) / 2**loops for x in (queries, documents))
    cosines = q @ d.T / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(d, axis=1)
    np.testing.assert_allclose(found, cosines, atol=1e-6)
    a, b = (vectors.levels_to_bits(x, loops) for x in (queries, documents))
    products = sum(
        2.0 ** (-i - j) * (16 - 2 * np.asarray(vectors.hamming(a[:, i], b[:, j])))
        for i in range(loops + 1)
        for j in range(loops + 1)
    )
    np.testing.assert_allclose(q @ d.T, products)
    np.testing.assert_allclose(vectors.plane_scores(queries, b), cosines, atol=1e-6)
    lengths = np.linalg.norm(documents.astype(float), axis=1)
    np.testing.assert_allclose(vectors.level_scores(queries, documents, norms=lengths), cosines, atol=1e-6)
    tables = vectors.level_tables(queries, loops)
    numbers = (documents.astype(int) + 2 ** (loops + 1) - 1) // 2
    sums = vectors.product_scores(tables, jnp.asarray(numbers))
    np.testing.assert_allclose(sums, queries.astype(int) @ documents.astype(int).T)


def test_signs_rank_as_hamming_does():
    signs = levels_of(0, 20, 64)
    packed = vectors.pack_bits(signs)
    distances = np.asarray(vectors.hamming(packed, packed))
    np.testing.assert_allclose(vectors.level_scores(signs, signs), 1 - 2 * distances / 64, atol=1e-6)


def test_integer_products_are_exact_where_float32_sums_are_not():
    x = np.full((2, 3000), 127, np.int8)
    x[0, ::7] = -128
    expected = x.astype(int) @ x.astype(int).T
    found = vectors.byte_products(x, x)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(jax.jit(vectors.byte_products)(x, x), expected)
    from jaxembed.vectors import levels

    np.testing.assert_array_equal(levels._integer(x, x), expected)  # what accelerators run


def test_float_queries_meet_int8_rows_as_the_decoded_vectors():
    rows = RNG.standard_normal((30, 24)).astype(np.float32)
    params = vectors.fit_scalar(rows, per="coordinate")
    codes, queries = vectors.encode_scalar(params, rows), rows[:4]
    expected = queries @ np.asarray(vectors.decode_scalar(params, codes)).T
    np.testing.assert_allclose(vectors.scalar_scores(queries * params["step"], codes), expected, atol=1e-5)
    scores, ids = search.scan_top_k(vectors.scalar_scores, queries * params["step"], codes, 3, chunk=8)
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :3], atol=1e-5)


@LOOPS
def test_the_uniform_quantiser_is_the_nearest_level(loops):
    step, top = 0.5, 2 ** (loops + 1) - 1
    x = RNG.uniform(-top * step, top * step, (5, 8)).astype(np.float32)
    values = np.arange(-top, top + 1, 2) * step / 2
    wanted = 2 * np.abs(x[..., None] - values).argmin(axis=-1) - top
    np.testing.assert_array_equal(vectors.uniform_levels(x, loops, step=step), wanted)
    far = vectors.uniform_levels(np.array([1e9, -1e9], np.float32), loops, step=step)
    np.testing.assert_array_equal(far, [top, -top])


def test_bits_beat_width_at_equal_budget():
    """The card's planted clusters: two bits of 64 coordinates find more than one bit of 128 directions."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((100, 64))
    rows = (centres[rng.integers(0, 100, 1500)] + rng.standard_normal((1500, 64))).astype(np.float32)
    queries = rows[:100] + 0.3 * rng.standard_normal((100, 64)).astype(np.float32)
    exact = np.asarray(search.top_k(queries, rows, 10)[1])

    def recall(scores):
        found = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :10]
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])

    deep = [vectors.uniform_levels(x, 1, step=1.4) for x in (queries, rows)]
    planes = np.asarray(vectors.random_hyperplanes(jax.random.key(0), 64, 128))
    wide = [vectors.sign_codes(x @ planes) for x in (queries, rows)]
    assert recall(vectors.level_scores(*deep)) > recall(-vectors.hamming(*wide)) + 0.05


def test_bad_levels_are_named():
    levels = levels_of(1)
    refused("loops: 7 is outside 0..6", lambda: vectors.levels_to_bits(levels, 7))
    refused("codes: are not those of 1 loops", lambda: vectors.code_levels(jnp.array([0.25]), 1))
    refused("codes: are not those of 0 loops", lambda: vectors.code_levels(jnp.array([1.5]), 0))
    refused("codes: are not those of 1 loops", lambda: vectors.code_levels(jnp.array([jnp.nan]), 1))
    refused("x: NaN has no code", lambda: vectors.uniform_levels(jnp.array([jnp.nan]), 1, step=1.0))
    refused("queries: NaN has no", lambda: vectors.level_tables(jnp.array([[jnp.nan]]), 1))
    refused("queries: NaN has no", lambda: vectors.scalar_scores(np.full((1, 8), np.nan), levels[:, :8]))
    refused("step: 0.0 is not above 0", lambda: vectors.uniform_levels(jnp.ones(8), 1, step=0.0))
    for wrong in (levels_of(2), levels * 0):  # of another head, and even numbers
        refused("levels: are not those of 1 loops", lambda wrong=wrong: vectors.levels_to_bits(wrong, 1))
    refused("one head", lambda: vectors.level_scores(levels, levels[:, :8]))
    refused(
        "x: float32; pass int8", lambda: vectors.byte_products(np.ones((1, 2), np.float32), levels[:1, :2])
    )
    refused("scalar_codes: shape", lambda: vectors.scalar_scores(np.ones((1, 3)), levels))
    refused("bits: shape", lambda: vectors.levels_to_bits(levels[:, :12], 1))


def test_codes_and_levels_may_be_constants_under_jit():
    levels = jnp.asarray(levels_of(1))
    found = jax.jit(lambda: vectors.code_levels(levels / 2, 1))()
    np.testing.assert_array_equal(found, levels)
    planes = jax.jit(lambda: vectors.levels_to_bits(levels, 1))()
    np.testing.assert_array_equal(planes, vectors.levels_to_bits(levels, 1))
