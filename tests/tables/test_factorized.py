"""Methods of fixed maps: limits in which they are plain tables, closed forms, refusals."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import tables
from jaxembed.tables import products


def test_a_full_table_is_the_rows_of_an_array():
    method = tables.full_table({"a": 3, "b": 4}, 5)
    params = method.init(jax.random.key(0))
    table = np.asarray(params["table"]["embedding"])
    found = method.vectors(params, {"b": np.array([3, 0]), "a": np.array([2])})
    np.testing.assert_array_equal(found["b"], table[[6, 3]])
    np.testing.assert_array_equal(found["a"], table[[2]])


def test_a_plan_as_a_method_is_its_lookup():
    features = [tables.Feature("user", chunks=2), tables.Feature("tags", chunks=2, combine="sum")]
    plan = tables.plan(features, rows=30, width=4, merge="weighted")
    method = tables.plan_method(plan)
    params = method.init(jax.random.key(0))
    ids = {"user": np.arange(5), "tags": np.arange(5) * 7}
    chex.assert_trees_all_equal(
        method.vectors(params, ids), tables.lookup(plan, params, tables.codes(plan, ids))
    )
    bags = method.vectors(params, {"tags": np.arange(6).reshape(2, 3)})["tags"]
    assert bags.shape == (2, 3, 4)
    assert method.bytes(params) == tables.bytes_of(plan)


def test_no_two_values_share_both_digits_and_the_vector_is_their_product():
    method = tables.quotient_remainder(97, 4, rows=20)
    params, ids = method.init(jax.random.key(0)), np.arange(97)
    codes = method.codes(ids)["table/embedding"]["values"]
    assert len(np.unique(codes, axis=0)) == 97
    table = np.asarray(params["table"]["embedding"])
    np.testing.assert_allclose(
        method.vectors(params, ids), table[codes[:, 0]] * table[codes[:, 1]], rtol=1e-6
    )


def test_as_many_rows_as_values_make_the_compositional_table_a_full_one_up_to_one_row():
    method = tables.quotient_remainder(30, 4, rows=31)
    params = method.init(jax.random.key(0))
    codes = method.codes(np.arange(30))["table/embedding"]["values"]
    digits = [len(np.unique(codes[:, k])) for k in (0, 1)]
    assert sorted(digits) == [1, 30] or digits[0] * digits[1] >= 30
    assert method.vectors(params, np.arange(30)).shape == (30, 4)


def test_robe_with_blocks_of_one_is_hashednet_and_a_gradient_is_the_signed_sum():
    method = tables.robe(50, 4, slots=9, block=1)
    params, ids = method.init(jax.random.key(0)), np.arange(50)
    codes = method.codes(ids)["table/embedding"]["values"]
    rows, signs = np.where(codes < 0, -2 - codes, codes), np.where(codes < 0, -1.0, 1.0)
    array = np.asarray(params["table"]["embedding"])[:, 0]
    np.testing.assert_array_equal(method.vectors(params, ids), array[rows] * signs)
    upstream = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    gradient = jax.grad(lambda p: jnp.sum(method.vectors(p, ids) * upstream))(params)
    expected = np.zeros(9)
    np.add.at(expected, rows, signs * upstream)
    np.testing.assert_allclose(gradient["table"]["embedding"][:, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "options", [{"span": 4}, {"span": 4, "tables": 3}, {"span": 2, "multiplexed": False}]
)
def test_signs_are_read_from_ids_as_from_codes(options, dtype):
    features = [tables.Feature("a", chunks=2, size=50), tables.Feature("b", chunks=1, size=20)]
    method = tables.plan_method(tables.plan(features, rows=30, width=2, signed=True, **options))
    params = jax.tree.map(lambda x: x.astype(dtype), method.init(jax.random.key(0)))
    ids = {"a": np.arange(60).reshape(3, 20) * 10**7, "b": np.arange(5)}
    on_device = jax.tree.map(jnp.asarray, ids)
    expected = method.read(params, method.codes(ids))
    for run in (method.vectors, jax.jit(method.vectors)):
        chex.assert_trees_all_equal(run(params, on_device), expected)

    def total(params, read):
        return sum(jnp.sum(jnp.sin(x.astype(jnp.float32))) for x in read(params).values())

    ours = jax.grad(total)(params, lambda p: method.vectors(p, on_device))
    theirs = jax.grad(total)(params, lambda p: method.read(p, method.codes(ids)))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-6)
    few = jax.tree.map(lambda x: x[:7], params)  # rows that the table lacks read zeros either way
    chex.assert_trees_all_equal(method.vectors(few, on_device), method.read(few, method.codes(ids)))


def test_a_block_of_the_width_reads_neighbours_of_the_array():
    method = tables.robe(50, 4, slots=100, signed=False)
    codes = method.codes(np.arange(50))["table/embedding"]["values"]
    np.testing.assert_array_equal((codes - codes[:, :1]) % 100, np.tile(np.arange(4), (50, 1)))


def test_features_of_a_hash_share_rows_only_when_multiplexed():
    sizes = {"a": 500, "b": 500}
    for multiplexed in (True, False):
        method = tables.hash_table(sizes, 4, rows=20, multiplexed=multiplexed)
        codes = method.codes({n: np.arange(500) for n in sizes})["table/embedding"]
        shared = set(codes["a"].ravel()) & set(codes["b"].ravel())
        assert bool(shared) == multiplexed


# Tensor trains


def dense_table(method, params, size):
    """The table of a tensor train, by loops over digits."""
    (n0, n1, _), _ = products.tt_shape(size, method.settings["width"])
    rank = method.settings["rank"]
    cores = [np.asarray(params[f"core_{k}"]["embedding"]) for k in range(3)]
    found = []
    for x in range(size):
        i0, i1, i2 = x % n0, x // n0 % n1, x // (n0 * n1)
        a = cores[0][i0].reshape(-1, rank)
        b = cores[1][i1].reshape(rank, -1, rank)
        c = cores[2][i2].reshape(rank, -1)
        found.append(np.einsum("ar,rbs,sc->abc", a, b, c).ravel())
    return np.stack(found)


@pytest.mark.parametrize(("size", "width"), [(1, 4), (30, 8), (61, 12)])
def test_a_tensor_train_is_the_table_contracted_from_its_cores(size, width):
    method = tables.tensor_train(size, width, rank=3)
    params = method.init(jax.random.key(0))
    found = method.vectors(params, np.arange(size))
    np.testing.assert_allclose(found, dense_table(method, params, size), rtol=1e-4, atol=1e-6)


def test_digits_of_a_tensor_train_name_every_value_and_its_widths_multiply():
    for size, width in ((1, 1), (2, 3), (1000, 16), (3001, 10), (10**6, 64)):
        digits, parts = products.tt_shape(size, width)
        assert np.prod(digits) >= size and np.prod(parts) == width
    assert products.tt_shape(10**6, 16) == ((100, 100, 100), (2, 2, 4))


def test_a_tensor_train_starts_with_the_spread_of_a_full_table():
    method = tables.tensor_train(20_000, 16, rank=8)
    found = method.vectors(method.init(jax.random.key(0)), np.arange(20_000))
    assert float(np.std(found)) == pytest.approx(0.25, rel=0.2)


@pytest.mark.peers
def test_a_tensor_train_is_that_of_tensorly_and_of_the_singular_values_of_a_table():
    tt_matrix = pytest.importorskip("tensorly.tt_matrix")
    method = tables.tensor_train(27, 8, rank=4)
    params = method.init(jax.random.key(0))
    (n0, n1, n2), (d0, d1, d2) = products.tt_shape(27, 8)
    shapes = [(n0, 1, d0, 4), (n1, 4, d1, 4), (n2, 4, d2, 1)]
    cores = [np.asarray(params[f"core_{k}"]["embedding"]).reshape(s) for k, s in enumerate(shapes)]
    cores = [core.transpose(1, 0, 2, 3) for core in cores]
    cores[0] = np.asarray(params["core_0"]["embedding"]).reshape(1, n0, d0, 4)
    cores[2] = np.asarray(params["core_2"]["embedding"]).reshape(n2, 4, d2).transpose(1, 0, 2)[..., None]
    matrix = tt_matrix.tt_matrix_to_matrix(cores)
    x = np.arange(27)
    rows = (x % n0) * n1 * n2 + x // n0 % n1 * n2 + x // (n0 * n1)
    np.testing.assert_allclose(method.vectors(params, x), matrix[rows], rtol=1e-4, atol=1e-6)


# Deep hashes


def test_a_deep_hash_is_its_network_and_tells_large_ids_apart():
    method = tables.dhe(2**30, 4, hidden=6, hashes=8, layers=1)
    params = method.init(jax.random.key(0))
    ids = np.array([0, 1, 2**30 - 1, 2**29])
    codes = np.asarray(products.hash_codes(jnp.asarray(ids), salts(method), "uniform"))
    layer = jax.tree.map(np.asarray, params["layer_0"])
    h = codes @ layer["kernel"] + layer["bias"]
    h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5) * layer["scale"]
    h = h * np.tanh(np.log1p(np.exp(h)))
    expected = h @ np.asarray(params["out"]["kernel"])
    np.testing.assert_allclose(method.vectors(params, ids), expected, rtol=1e-4, atol=1e-5)


def salts(method):
    from jaxembed.hashing import mix

    count, seed = method.settings["hashes"], method.settings["seed"]
    return mix(np.arange(count, dtype=np.uint32) + np.uint32(0x9E3779B9) * np.uint32(seed + 1))


@pytest.mark.parametrize(("encoding", "deviation"), [("uniform", 3**-0.5), ("normal", 1.0)])
def test_hash_codes_look_drawn_at_random(encoding, deviation):
    salts = np.random.default_rng(0).integers(0, 2**32, 64, dtype=np.uint32)
    codes = np.asarray(products.hash_codes(jnp.arange(4000), salts, encoding))
    assert codes.shape == (4000, 64)
    assert abs(codes.mean()) < 0.01 and codes.std() == pytest.approx(deviation, rel=0.02)
    correlations = np.corrcoef(codes.T) - np.eye(64)
    assert np.abs(correlations).max() < 0.09


def test_settings_out_of_range_are_refused():
    refused("width", lambda: tables.full_table(3, 0))
    refused("sizes", lambda: tables.full_table(0, 4))
    refused("sizes", lambda: tables.full_table({}, 4))
    refused("sizes", lambda: tables.full_table({"a": 2.5}, 4))
    refused("sizes", lambda: tables.full_table({"a": 2**31}, 4))
    refused("rows", lambda: tables.quotient_remainder(100, 4, rows=5))
    refused("block=3", lambda: tables.robe(10, 4, slots=9, block=3))
    refused("slots=4", lambda: tables.robe(10, 8, slots=4))
    refused("rank", lambda: tables.tensor_train(10, 4, rank=0))
    refused("encoding", lambda: tables.dhe(10, 4, hidden=2, encoding="other"))
    refused("encoding", lambda: tables.dhe(10, 4, hidden=2, hashes=3, encoding="normal"))
    refused("hidden", lambda: tables.dhe(10, 4, hidden=0))
