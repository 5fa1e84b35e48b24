"""Lookup: limits, sizes, masks, weights, gradients, shards, and what is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_tables
import pytest
from jax.sharding import PartitionSpec as P
from table_cases import FEATURES, PLAN, example, numbered

from jaxembed import tables, train
from jaxembed.tables import Feature

# Limits and sizes


def test_exact_codes_are_a_plain_embedding_of_concatenated_rows():
    p = tables.plan([Feature("a", vocabulary=6, chunks=2)], rows=1, width=4)
    params = tables.init_tables(jax.random.key(0), p)
    ids = np.array([5, 0, 3])
    vectors = tables.lookup(p, params, tables.codes(p, {"a": ids}))["a"]
    plain = np.asarray(params["exact"]["a"]["embedding"]).reshape(6, 8)
    np.testing.assert_array_equal(vectors, plain[ids])


def test_one_feature_and_one_chunk_is_the_hashing_trick():
    p = tables.plan([Feature("a")], rows=10, width=4, seed=3)
    params = tables.init_tables(jax.random.key(0), p)
    rows = [oracles_tables.fmix32(i ^ oracles_tables.salt(3, "a", 0)) % 10 for i in range(50)]
    vectors = tables.lookup(p, params, tables.codes(p, {"a": np.arange(50)}))["a"]
    np.testing.assert_array_equal(vectors, np.asarray(params["table"]["embedding"])[rows])


@pytest.mark.parametrize("count", [1, 7, 40])
def test_parameters_do_not_depend_on_the_number_of_features(count):
    names, p = numbered(count, rows=11, width=3, tables=2)
    params = tables.init_tables(jax.random.key(0), p)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 2 * 11 * 3
    vectors = tables.lookup(p, params, tables.codes(p, {n: np.arange(2) for n in names}))
    assert {v.shape for v in vectors.values()} == {(2, 3)}


def test_width_of_a_feature_is_its_chunks_times_the_width():
    batch, masks, _ = example()
    params = tables.init_tables(jax.random.key(0), PLAN)
    vectors = tables.lookup(PLAN, params, tables.codes(PLAN, batch), masks)
    assert {n: v.shape for n, v in vectors.items()} == {f.name: (4, f.chunks * 3) for f in FEATURES}


def test_tables_start_as_a_normal_distribution_truncated_at_two_deviations():
    params = tables.init_tables(jax.random.key(1), tables.plan([Feature("a")], rows=4000, width=16))
    values = np.asarray(params["table"]["embedding"])
    assert 0.49 < np.abs(values).max() <= 0.5
    assert values.std() == pytest.approx(0.25 * 0.8796, rel=0.01)  # what the truncation leaves of 0.25


def test_own_initialiser():
    params = tables.init_tables(jax.random.key(0), PLAN, initialiser=lambda key, shape: jnp.full(shape, 2.0))
    assert {float(leaf.min()) for leaf in jax.tree.leaves(params)} == {2.0}


# Lookup


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_lookup_equals_the_oracle(masked, weighted):
    batch, masks, weights = example()
    masks, weights = masks if masked else None, weights if weighted else None
    params = tables.init_tables(jax.random.key(0), PLAN)
    codes = tables.codes(PLAN, batch)
    expected = oracles_tables.lookup(PLAN, params, codes, masks, weights)
    vectors = tables.lookup(PLAN, params, codes, masks, weights)
    chex.assert_trees_all_close(vectors, expected, atol=1e-6)
    jitted = jax.jit(lambda p, c: tables.lookup(PLAN, p, c, masks, weights))(params, codes)
    chex.assert_trees_all_close(jitted, vectors, atol=1e-6)


@pytest.mark.parametrize("junk", [-1, 10**9, -(2**31)])
def test_padding_may_hold_any_code(junk):
    batch, masks, weights = example()
    params = tables.init_tables(jax.random.key(0), PLAN)
    codes = tables.codes(PLAN, batch)
    padded = codes | {n: np.where(masks[n][..., None], codes[n], junk).astype(np.int32) for n in masks}

    def total(params, codes):
        vectors = tables.lookup(PLAN, params, codes, masks, weights)
        return sum(jnp.sum(jnp.sin(v)) for v in vectors.values()), vectors

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    chex.assert_trees_all_equal(run(params, padded), run(params, codes))


def test_nan_weights_of_padding_do_not_matter():
    batch, masks, weights = example()
    params = tables.init_tables(jax.random.key(0), PLAN)
    codes = tables.codes(PLAN, batch)
    spoiled = {n: np.where(masks[n], w, np.nan) for n, w in weights.items()}
    chex.assert_trees_all_equal(
        tables.lookup(PLAN, params, codes, masks, spoiled), tables.lookup(PLAN, params, codes, masks, weights)
    )


@pytest.mark.parametrize("combine", tables.plans.COMBINE)
def test_an_all_padding_bag_gives_zeros_and_no_gradient(combine):
    p = tables.plan([Feature("a", combine=combine)], rows=5, width=2)
    params = tables.init_tables(jax.random.key(0), p)
    codes = tables.codes(p, {"a": np.arange(6).reshape(2, 3)})
    masks = {"a": np.zeros((2, 3), bool)}

    def total(params):
        vectors = tables.lookup(p, params, codes, masks)["a"]
        return jnp.sum(vectors + vectors**2), vectors

    gradient, vectors = jax.grad(total, has_aux=True)(params)
    assert not vectors.any()
    assert not gradient["table"]["embedding"].any()


def test_a_mean_without_weight_gives_zeros_and_finite_gradients():
    p = tables.plan([Feature("a")], rows=5, width=2)
    params = tables.init_tables(jax.random.key(0), p)
    codes = tables.codes(p, {"a": np.arange(3)[None]})

    def total(params, weights):
        return jnp.sum(tables.lookup(p, params, codes, weights={"a": weights})["a"])

    value, gradients = jax.value_and_grad(total, argnums=(0, 1))(params, jnp.zeros((1, 3)))
    assert value == 0
    chex.assert_tree_all_finite(gradients)


def test_bad_ids_under_jit_read_zeros_and_send_no_gradient():
    p = tables.plan([Feature("a", chunks=2), Feature("b", vocabulary=3)], rows=7, width=2, tables=2)
    params = tables.init_tables(jax.random.key(0), p)
    bad = {"a": jnp.array([-1, -(2**31)]), "b": jnp.array([3, -1])}
    good = {"a": jnp.array([1, 2]), "b": jnp.array([0, 2])}

    @jax.jit
    def run(params, batch):
        def total(params):
            vectors = tables.lookup(p, params, tables.codes(p, batch))
            return sum(jnp.sum(v) for v in vectors.values()), vectors

        return jax.grad(total, has_aux=True)(params)

    gradient, vectors = run(params, bad)
    assert not any(leaf.any() for leaf in jax.tree.leaves((gradient, vectors)))
    gradient, vectors = run(params, good)
    assert all(leaf.any() for leaf in jax.tree.leaves((gradient, vectors)))


BAD_BATCHES = {
    "negative": ({"a": np.array([0, -3])}, "'a' holds id -3; ids are 0 to 4294967295"),
    "too large for the hash": ({"a": np.array([2**32])}, "'a' holds id 4294967296"),
    "too large for the vocabulary": ({"b": np.array([0, 3])}, "'b' holds id 3; ids are 0 to 2"),
    "negative in a vocabulary": ({"b": np.array([-1])}, "'b' holds id -1"),
    "float": ({"a": np.array([1.0])}, "'a' has dtype float64; give integer ids"),
    "bool": ({"a": np.array([True])}, "'a' has dtype bool"),
    "string": ({"a": np.array(["x"])}, "'a' has dtype"),
    "missing": ({"a": None}, "'a' is missing; the batch has"),
    "empty and float": ({"a": np.array([])}, "'a' has dtype float64"),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
def test_bad_batches_raise_one_line_on_the_host(case):
    change, message = BAD_BATCHES[case]
    p = tables.plan([Feature("a"), Feature("b", vocabulary=3)], rows=7, width=2)
    batch = {"a": np.array([1]), "b": np.array([1])} | change
    batch = {k: v for k, v in batch.items() if v is not None}
    with pytest.raises(ValueError, match=message) as caught:
        tables.codes(p, batch)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("combine", tables.plans.COMBINE)
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)], ids=str)
def test_batches_and_bags_without_values_give_zeros(shape, combine, merge):
    p = tables.plan([Feature("a", chunks=2, combine=combine)], rows=5, width=3, merge=merge)
    params = tables.init_tables(jax.random.key(0), p)
    codes = tables.codes(p, {"a": np.zeros(shape, int)})
    found = tables.lookup(p, params, codes)["a"]
    expected = shape if combine == "none" else shape[:1]
    np.testing.assert_array_equal(found, np.zeros((*expected, 6 if merge == "concat" else 3)))


def test_a_mask_and_weights_of_single_values_are_those_of_bags_of_one():
    p = tables.plan([Feature("a", combine="sum"), Feature("b", combine="max")], rows=9, width=2)
    params = tables.init_tables(jax.random.key(0), p)
    codes = tables.codes(p, {"a": np.arange(3), "b": np.arange(3)})
    mask, weights = np.array([True, False, True]), np.array([2.0, 3.0, -1.0])
    plain = tables.lookup(p, params, codes)
    ours = tables.lookup(p, params, codes, {"a": mask, "b": mask}, {"a": weights})
    np.testing.assert_allclose(ours["a"], plain["a"] * (mask * weights)[:, None])
    np.testing.assert_array_equal(ours["b"], plain["b"] * mask[:, None])
    table = {"table": {"embedding": params["table"]["embedding"].at[codes["a"][1, 0]].set(jnp.nan)}}
    again = tables.lookup(p, table, {"a": codes["a"]}, {"a": mask})["a"]
    np.testing.assert_array_equal(again[1], 0)


@pytest.mark.parametrize("merge", tables.plans.MERGE)
@pytest.mark.parametrize("vocabulary", [None, 50])
def test_unpooled_values_are_the_vectors_of_single_ones(merge, vocabulary):
    make = lambda kind: tables.plan(  # noqa: E731
        [Feature("a", chunks=2, combine=kind, vocabulary=vocabulary)], rows=9, width=2, merge=merge
    )
    p, pooled = make("none"), make("sum")
    params = tables.init_tables(jax.random.key(0), p)
    rng = np.random.default_rng(0)
    ids, mask, weights = rng.integers(0, 50, (4, 3)), rng.random((4, 3)) < 0.6, rng.random((4, 3))
    codes, single = tables.codes(p, {"a": ids}), tables.codes(p, {"a": ids.ravel()})
    found = tables.lookup(p, params, codes)["a"]
    one_by_one = tables.lookup(p, params, single)["a"]
    np.testing.assert_array_equal(found, np.reshape(one_by_one, (4, 3, -1)))
    np.testing.assert_array_equal(tables.lookup(p, params, codes, {"a": mask})["a"], found * mask[..., None])
    found = tables.lookup(p, params, codes, {"a": mask}, {"a": weights})["a"]
    expected = tables.lookup(pooled, params, codes, {"a": mask}, {"a": weights})["a"]
    np.testing.assert_allclose(np.sum(found, axis=1), expected, atol=1e-6)
    alone = tables.lookup(p, params, single, {"a": mask.ravel()})["a"]
    np.testing.assert_array_equal(alone, one_by_one * mask.ravel()[:, None])


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, list])
def test_codes_of_64_bits_read_zeros_and_not_the_row_that_they_wrap_to(dtype):
    codes = [2, 2**32 + 2, 2**31 + 2, 2**63 - 1]
    codes = codes if dtype is list else np.array(codes, dtype)
    table = jnp.arange(1.0, 5.0)[:, None]
    assert tables.rows_of(table, codes)[:, 0].tolist() == [3, 0, 0, 0]
    mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    assert tables.sharded_rows(mesh)(table, codes)[:, 0].tolist() == [3, 0, 0, 0]


def test_unpooled_padding_may_hold_nan():
    p = tables.plan([Feature("a", combine="none")], rows=9, width=2)
    table = {"table": {"embedding": jnp.full((9, 2), jnp.nan)}}
    codes, mask = tables.codes(p, {"a": np.zeros((2, 3), int)}), np.zeros((2, 3), bool)
    found = tables.lookup(p, table, codes, {"a": mask})["a"]
    np.testing.assert_array_equal(found, np.zeros((2, 3, 2)))


def test_bad_lookups_raise():
    p = tables.plan([Feature("a", chunks=2), Feature("m", combine="max")], rows=7, width=2)
    params = tables.init_tables(jax.random.key(0), p)
    codes = tables.codes(p, {"a": np.arange(3), "m": np.ones((3, 2), int)})
    cases = [
        ({"codes": {"other": codes["a"]}}, "'other' is not a feature"),
        ({"codes": {"a": codes["a"][:, :1]}}, r"need \[B\(, n\), 2\]"),
        ({"masks": {"m": np.ones((3, 3), bool)}}, "masks: 'm' has shape"),
        ({"masks": {"x": np.ones((3, 2), bool)}}, "masks: .*'x'"),
        ({"weights": {"m": np.ones((3, 2))}}, "takes none"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            tables.lookup(p, params, **{"codes": codes} | change)


@pytest.mark.parametrize("combine", tables.plans.COMBINE)
def test_gradients_equal_numerical_ones_in_float64(combine):
    rng = np.random.default_rng(0)
    p = tables.plan([Feature("a", chunks=2, combine=combine)], rows=4, width=2)
    codes = tables.codes(p, {"a": rng.integers(0, 99, (2, 3))})
    masks = {"a": np.array([[True, True, False], [True, True, True]])}
    readout = rng.normal(size=(2, 3, 4) if combine == "none" else (2, 4))
    with jax.enable_x64(True):

        def total(table, weights):
            weights = None if combine == "max" else {"a": weights}
            params = {"table": {"embedding": jnp.asarray(table)}}
            return jnp.sum(readout * jnp.sin(tables.lookup(p, params, codes, masks, weights)["a"]))

        table, weights = rng.normal(size=(4, 2)), rng.random((2, 3)) + 0.5
        analytic = jax.grad(total, argnums=(0, 1))(jnp.asarray(table), jnp.asarray(weights))
        assert analytic[0].dtype == np.float64
        fast = jax.jit(total)
        numerical = oracles.numerical_gradient(lambda t: fast(t, weights), table)
        np.testing.assert_allclose(analytic[0], numerical, atol=1e-8)
        numerical = oracles.numerical_gradient(lambda w: fast(table, w), weights)
        np.testing.assert_allclose(analytic[1], numerical, atol=1e-8)


def test_gradient_of_a_row_has_a_true_an_intra_and_an_inter_term():
    p = tables.plan([Feature("u"), Feature("v")], rows=3, width=2)
    rng = np.random.default_rng(0)
    ids = {"u": rng.integers(0, 9, 30), "v": rng.integers(0, 9, 30)}
    labels, readers = rng.integers(0, 2, 30), {n: rng.normal(size=2) for n in ids}
    codes = tables.codes(p, ids)
    with jax.enable_x64(True):

        def loss(table):
            vectors = tables.lookup(p, {"table": {"embedding": table}}, codes)
            logits = sum(vectors[n] @ readers[n] for n in ids)
            return jnp.sum(jnp.logaddexp(0.0, logits) - labels * logits)

        table = jnp.asarray(rng.normal(size=(3, 2)))
        logits = sum(np.asarray(table)[codes[n][:, 0]] @ readers[n] for n in ids)
        residual = 1 / (1 + np.exp(-logits)) - labels
        expected = np.zeros((3, 2))
        for name in ids:
            for b in range(30):
                expected[codes[name][b, 0]] += residual[b] * readers[name]
        np.testing.assert_allclose(jax.grad(loss)(table), expected, atol=1e-12)


@pytest.mark.parametrize(("data", "model"), [(1, 8), (2, 4), (8, 1)])
def test_a_row_sharded_table_reads_and_learns_as_a_whole_one(data, model):
    p = tables.plan(
        [Feature("a", chunks=2), Feature("m", combine="mean"), Feature("x", combine="max")],
        rows=8,
        width=4,
        tables=2,
    )
    params = tables.init_tables(jax.random.key(0), p)
    rng = np.random.default_rng(0)
    batch = {
        "a": rng.integers(0, 99, 16),
        "m": rng.integers(0, 99, (16, 3)),
        "x": rng.integers(0, 99, (16, 3)),
    }
    codes = tables.codes(p, batch)
    masks = {n: rng.random((16, 3)) < 0.7 for n in ("m", "x")}

    @jax.jit
    def run(params, codes, masks):
        def total(params):
            vectors = tables.lookup(p, params, codes, masks)
            return sum(jnp.sum(jnp.sin(3 * v)) for v in vectors.values()), vectors

        return jax.grad(total, has_aux=True)(params)

    mesh = train.make_mesh(data, model)
    rules = [(r"table/", P("model", None))]
    placed = jax.device_put(params, train.path_shardings(params, mesh, rules))
    assert placed["table"]["embedding"].addressable_shards[0].data.shape == (16 // model, 4)
    split = jax.device_put((codes, masks), jax.sharding.NamedSharding(mesh, P("data")))
    chex.assert_trees_all_close(
        jax.tree.map(np.asarray, run(placed, *split)), run(params, codes, masks), atol=1e-6
    )
