"""Laws of product quantisation, against loops in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles_search as oracles
import pytest

from jaxembed import vectors

RNG = np.random.default_rng(21)
X = RNG.standard_normal((200, 6)).astype(np.float32)
CORRELATED = (RNG.standard_normal((300, 8)) @ RNG.standard_normal((8, 8)) * 2.0 ** -np.arange(8)).astype(
    np.float32
) @ np.linalg.qr(RNG.standard_normal((8, 8)))[0].astype(np.float32)
QUERIES = RNG.standard_normal((3, 6)).astype(np.float32)
ROTATION = np.linalg.qr(RNG.standard_normal((6, 6)))[0].astype(np.float32)
KEY = jax.random.key(3)


@functools.cache
def fitted(**options):
    return vectors.fit_product(KEY, X, **{"group": 2, "centres": 16} | options)


def error(params, x=X):
    return float(vectors.product_errors(params, x).sum())


PARAMS = {
    "plain": lambda: fitted(),
    "rotated": lambda: fitted(rotations=2),
    "given rotation": lambda: fitted() | {"rotation": jnp.asarray(ROTATION)},
}
EVERY = pytest.mark.parametrize("name", PARAMS)

# --- codes, tables and scores ---


@EVERY
def test_codes_tables_and_scores_equal_the_loops(name):
    params = PARAMS[name]()
    books, rotation = np.asarray(params["codebooks"], np.float64), params.get("rotation")
    turned = [v if rotation is None else v @ np.asarray(rotation, np.float64) for v in (X, QUERIES)]
    codes = vectors.encode_product(params, X)
    assert codes.dtype == jnp.uint8 and codes.shape == (200, 3)
    np.testing.assert_array_equal(codes, [oracles.product_code(books, x) for x in turned[0]])
    tables = vectors.product_tables(params, QUERIES)
    wanted = [
        [[float(np.dot(q[2 * m : 2 * m + 2], c)) for c in books[m]] for m in range(3)] for q in turned[1]
    ]
    np.testing.assert_allclose(tables, wanted, atol=1e-5)
    scores = vectors.product_scores(tables, codes)
    wanted = [[oracles.product_score(books, q, c) for c in np.asarray(codes)] for q in turned[1]]
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    np.testing.assert_allclose(
        QUERIES @ np.asarray(vectors.decode_product(params, codes)).T, wanted, atol=1e-4
    )
    decoded = vectors.decode_product(params, codes)
    np.testing.assert_allclose(vectors.product_errors(params, X), ((X - decoded) ** 2).sum(1), rtol=1e-5)


@EVERY
def test_codes_of_decoded_codes_are_the_codes(name):
    params = PARAMS[name]()
    codes = jax.random.randint(jax.random.key(1), (40, 3), 0, 16)
    np.testing.assert_array_equal(
        vectors.encode_product(params, vectors.decode_product(params, codes)), codes
    )


def test_ties_go_to_the_lowest_centre():
    books = jnp.array([[[1.0], [-1.0], [1.0]], [[5.0], [5.0], [0.0]]])
    np.testing.assert_array_equal(
        vectors.encode_product({"codebooks": books}, jnp.array([[0.0, 4.0], [1.0, 2.5]])), [[0, 0], [0, 0]]
    )


def test_rows_are_coded_alike_in_any_number_and_under_vmap():
    x = RNG.standard_normal((4500, 6)).astype(np.float32)  # more than one chunk of rows
    params = fitted()
    codes = vectors.encode_product(params, x)
    np.testing.assert_array_equal(codes[4096:4196], vectors.encode_product(params, x[4096:4196]))
    one = functools.partial(vectors.encode_product, params)
    np.testing.assert_array_equal(jax.vmap(one)(x[:12].reshape(3, 4, 6)).reshape(12, 3), codes[:12])
    assert vectors.encode_product(params, x[:0]).shape == (0, 3)


def test_more_than_256_centres_take_int32():
    x = RNG.standard_normal((300, 2)).astype(np.float32)
    params = vectors.fit_product(KEY, x, group=2, centres=300)
    codes = vectors.encode_product(params, x)
    assert codes.dtype == jnp.int32 and sorted(np.asarray(codes[:, 0]).tolist()) == list(range(300))


def test_width_of_the_paper_is_1280_bytes():
    params = {"codebooks": jax.ShapeDtypeStruct((1280, 256, 8), jnp.float32)}
    codes = jax.eval_shape(vectors.encode_product, params, jax.ShapeDtypeStruct((1, 10240), jnp.float32))
    assert codes.size * codes.dtype.itemsize == 1280


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_accumulated_in_float32(dtype):
    params, x = fitted(), jnp.asarray(X, dtype)
    np.testing.assert_array_equal(
        vectors.encode_product(params, x), vectors.encode_product(params, x.astype(jnp.float32))
    )
    assert vectors.product_tables(params, x).dtype == jnp.float32
    half = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    assert vectors.decode_product(half, vectors.encode_product(half, x)).dtype == jnp.float32
    assert vectors.fit_product(KEY, x, group=2, centres=16)["codebooks"].dtype == jnp.float32


def test_float64_stays_float64():
    with jax.enable_x64(True):
        x = np.asarray(X, np.float64)
        params = vectors.fit_product(KEY, x, group=2, centres=16, rotations=1)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float64)}
        tables = vectors.product_tables(params, x[:2])
        scores = vectors.product_scores(tables, vectors.encode_product(params, x))
        assert scores.dtype == np.float64
        np.testing.assert_allclose(
            scores, x[:2] @ vectors.decode_product(params, vectors.encode_product(params, x)).T, atol=1e-12
        )


@EVERY
@pytest.mark.parametrize("size", [1e4, 1e-4])
def test_extreme_vectors_stay_finite(name, size):
    params = jax.tree.map(lambda leaf: leaf, PARAMS[name]())
    params["codebooks"] = params["codebooks"] * size
    codes = vectors.encode_product(params, X * size)
    np.testing.assert_array_equal(codes, vectors.encode_product(PARAMS[name](), X))
    scores = vectors.product_scores(vectors.product_tables(params, QUERIES * size), codes)
    assert np.isfinite(scores).all() and np.isfinite(vectors.product_errors(params, X * size)).all()


@EVERY
def test_gradients_reach_queries_and_chosen_centres(name):
    params, codes = PARAMS[name](), vectors.encode_product(PARAMS[name](), X[:5])

    def total(params, queries):
        return vectors.product_scores(vectors.product_tables(params, queries), codes).sum()

    to_params, to_queries = jax.grad(total, argnums=(0, 1))(params, jnp.asarray(QUERIES))
    np.testing.assert_allclose(
        to_queries, np.tile(vectors.decode_product(params, codes).sum(0), (3, 1)), atol=1e-4
    )
    used = np.zeros((3, 16), bool)
    used[np.arange(3)[None], np.asarray(codes)] = True
    np.testing.assert_array_equal(np.abs(to_params["codebooks"]).sum(2) > 0, used)


# --- fitting ---


def test_each_step_of_the_fit_is_a_step_of_lloyd():
    start = np.asarray(fitted(iterations=0)["codebooks"], np.float64)
    for m in range(3):
        rows = X[:, 2 * m : 2 * m + 2].astype(np.float64)
        assert all((rows == c).all(1).any() for c in start[m])  # seeds are rows
        assert len(np.unique(start[m], axis=0)) == 16
        books = oracles.lloyd(rows, start[m], 4)
        np.testing.assert_allclose(fitted(iterations=4)["codebooks"][m], books, atol=1e-4)


@pytest.mark.parametrize("seeding", ["sample", "plus_plus"])
def test_the_error_never_rises_with_iterations(seeding):
    errors = [error(fitted(iterations=n, seeding=seeding)) for n in (0, 1, 2, 5, 20)]
    assert all(later <= before * (1 + 1e-6) for before, later in zip(errors, errors[1:], strict=False))
    assert errors[-1] < 0.8 * errors[0]


def test_without_a_number_the_steps_go_on_until_no_centre_moves():
    params = fitted(iterations=None)
    np.testing.assert_array_equal(params["codebooks"], fitted(iterations=300)["codebooks"])
    for m, books in enumerate(np.asarray(params["codebooks"], np.float64)):
        np.testing.assert_allclose(oracles.lloyd(X[:, 2 * m : 2 * m + 2], books, 1), books, atol=1e-5)
    few = np.arange(40, dtype=np.float32)[:, None] % 3  # fewer values than centres: some stay empty
    assert error(vectors.fit_product(KEY, few, group=1, centres=8, iterations=None), few) == 0
    turned = fitted(iterations=None, rotations=2)
    assert error(turned) <= error(params) * (1 + 1e-6)


def test_restarts_keep_the_best_codebook_of_each_part():
    one, many = fitted(iterations=3), fitted(iterations=3, restarts=4)

    def by_part(params):
        decoded = vectors.decode_product(params, vectors.encode_product(params, X))
        return ((X - decoded) ** 2).sum(0).reshape(3, 2).sum(1)

    assert (by_part(many) <= by_part(one) * (1 + 1e-6)).all() and error(many) < error(one)


def test_plus_plus_finds_clusters_that_a_sample_misses():
    spots = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], np.float32)
    x = spots[np.repeat(np.arange(4), [97, 1, 1, 1])] + 0.01 * RNG.standard_normal((100, 2)).astype(
        np.float32
    )
    options = {"group": 2, "centres": 4, "iterations": 0}
    assert error(vectors.fit_product(KEY, x, seeding="plus_plus", **options), x) < 1
    assert error(vectors.fit_product(KEY, x, seeding="sample", **options), x) > 1000


def test_empty_centres_move_to_the_farthest_rows():
    """Equal rows make equal seeds, of which only the first is used; the rest must find the outliers."""
    x = np.zeros((40, 1), np.float32)
    x[[7, 20, 33], 0] = 5, 9, 2
    params = vectors.fit_product(KEY, x, group=1, centres=4, iterations=3)
    assert sorted(params["codebooks"].ravel().tolist()) == [0, 2, 5, 9]
    start = np.asarray(vectors.fit_product(KEY, x, group=1, centres=4, iterations=0)["codebooks"][0])
    step = vectors.fit_product(KEY, x, group=1, centres=4, iterations=1)["codebooks"][0]
    np.testing.assert_allclose(step, oracles.lloyd(x, start, 1), atol=1e-6)


def test_limits_are_exact():
    whole = vectors.fit_product(KEY, X, group=6, centres=200)  # a centre for every row
    assert error(whole) < 1e-9
    grid = RNG.integers(0, 4, (100, 5)).astype(np.float32)
    scalar = vectors.fit_product(KEY, grid, group=1, centres=8)  # M = D, a centre for every value
    assert error(scalar, grid) < 1e-9
    tables = vectors.product_tables(scalar, grid[:3])
    np.testing.assert_allclose(
        vectors.product_scores(tables, vectors.encode_product(scalar, grid)), grid[:3] @ grid.T, atol=1e-4
    )
    mean = vectors.fit_product(KEY, X, group=3, centres=1)["codebooks"]
    np.testing.assert_allclose(mean.reshape(-1), X.mean(0), atol=1e-6)


def test_a_rotation_errs_no_more_than_none_and_much_less_on_correlated_vectors():
    options = {"group": 2, "centres": 8, "iterations": 20}
    plain = vectors.fit_product(KEY, CORRELATED, **options)
    errors = [error(plain, CORRELATED)]
    for rotations in (1, 4, 12):
        params = vectors.fit_product(KEY, CORRELATED, rotations=rotations, **options)
        turn = np.asarray(params["rotation"])
        np.testing.assert_allclose(turn @ turn.T, np.eye(8), atol=1e-5)
        errors.append(error(params, CORRELATED))
    assert all(later <= before * (1 + 1e-5) for before, later in zip(errors, errors[1:], strict=False))
    assert errors[-1] < 0.8 * errors[0]


def test_a_given_rotation_is_kept():
    params = vectors.fit_product(KEY, X, group=2, centres=16, rotation=ROTATION)
    np.testing.assert_array_equal(params["rotation"], ROTATION)
    turned = vectors.fit_product(KEY, X @ ROTATION, group=2, centres=16)
    np.testing.assert_allclose(params["codebooks"], turned["codebooks"], atol=1e-4)


def test_fits_repeat_and_differ_by_key():
    again = vectors.fit_product(KEY, X, group=2, centres=16)
    np.testing.assert_array_equal(again["codebooks"], fitted()["codebooks"])
    other = vectors.fit_product(jax.random.key(4), X, group=2, centres=16)
    assert not np.array_equal(other["codebooks"], again["codebooks"])


def test_memory_of_encoding_is_bounded():
    """All distances at once would be 2 GiB."""
    params = {"codebooks": jax.ShapeDtypeStruct((64, 256, 2), jnp.float32)}
    compiled = (
        jax.jit(vectors.encode_product)
        .lower(params, jax.ShapeDtypeStruct((32768, 128), jnp.float32))
        .compile()
    )
    assert compiled.memory_analysis().temp_size_in_bytes < 80 * 2**20


def bad(**options):
    return lambda: vectors.fit_product(KEY, X, **{"group": 2, "centres": 4} | options)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (bad(group=4), "x"),
        (bad(group=0), "group"),
        (bad(centres=0), "centres"),
        (bad(centres=201), "x"),
        (bad(iterations=-1), "iterations"),
        (bad(restarts=0), "restarts"),
        (bad(rotations=-1), "rotations"),
        (bad(seeding="best"), "seeding"),
        (bad(rotation=np.eye(5)), "rotation"),
        (bad(rotation=np.full((6, 6), 3.0)), "rotation"),
        (bad(group=2.0), "group"),
        (lambda: vectors.fit_product(KEY, np.where(np.arange(200)[:, None] == 7, np.nan, X), group=2), "x"),
        (lambda: vectors.encode_product(fitted(), X[:, :4]), "x"),
        (lambda: vectors.encode_product(fitted(), X * np.nan), "x"),
        (lambda: vectors.product_tables(fitted(), QUERIES[0]), "queries"),
        (lambda: vectors.decode_product(fitted(), np.zeros((2, 4), np.uint8)), "product_codes"),
        (lambda: vectors.product_scores(np.zeros((1, 3, 16)), np.zeros((2, 4), np.uint8)), "product_codes"),
        (lambda: vectors.product_scores(np.zeros((1, 3, 16)), np.zeros((2, 3))), "product_codes"),
        (lambda: vectors.product_scores(np.zeros((3, 16)), np.zeros((2, 3), np.uint8)), "tables"),
    ],
)
def test_errors_name_the_argument(call, name):
    with pytest.raises(ValueError, match=f"^{name}: .*; ") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_codes_outside_count_as_the_end_of_their_own_part():
    tables = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    codes = np.array([[9, -1, 2], [0, 200, 3]])
    within = vectors.product_scores(tables, np.clip(codes, 0, 3))
    np.testing.assert_array_equal(vectors.product_scores(tables, codes), within)
    books = {"codebooks": RNG.standard_normal((3, 4, 2)).astype(np.float32)}
    within = vectors.decode_product(books, np.clip(codes, 0, 3))
    np.testing.assert_array_equal(vectors.decode_product(books, codes), within)
