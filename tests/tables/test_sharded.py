"""Tables whose rows are split over devices read and learn as whole ones, whatever axis the batch lies on."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from programs import collectives, elements

from jaxembed import tables, train
from jaxembed.tables import Feature

# (devices on "data" and "model", axes of the rows, axes of the batch)
LAYOUTS = [
    ((1, 8), "model", "data"),
    ((2, 4), "model", "data"),
    ((8, 1), "model", "data"),
    ((8, 1), "data", "data"),
    ((2, 4), "model", "model"),
    ((2, 4), "model", ("data", "model")),
    ((2, 4), ("data", "model"), "data"),
    ((2, 4), ("model", "data"), ("data", "model")),
]


def read_all(gather, table, codes):
    def total(table):
        vectors = gather(table, codes)
        return jnp.sum(jnp.sin(3 * vectors)), vectors

    return jax.grad(total, has_aux=True)(table)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("placed", [None, P(), P("x")], ids=str)
def test_rows_and_batch_on_the_one_axis_of_a_mesh(kind, placed):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    gather = tables.sharded_rows(mesh, "x", batch_axis="x")
    table, codes = jnp.arange(16.0)[:, None], jnp.arange(16)
    if placed is not None:
        table, codes = jax.device_put((table, codes), NamedSharding(mesh, placed))
    total = jax.grad(lambda table: jnp.vdot(gather(table, codes)[:, 0], jnp.arange(16.0)))
    with jax.set_mesh(mesh):
        assert gather(table, codes)[:, 0].tolist() == list(range(16))
        assert jax.jit(total)(table)[:, 0].tolist() == list(range(16))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("shape", [(16,), (8, 3), (8, 2, 3)], ids=str)
def test_a_sharded_gather_is_the_whole_gather(layout, shape):
    rng = np.random.default_rng(0)
    table, codes = rng.normal(size=(32, 4)).astype(np.float32), rng.integers(-40, 40, shape).astype(np.int32)
    expected = read_all(tables.rows_of, jnp.asarray(table), codes)
    mesh, rows, batch = train.make_mesh(*layout[0]), *layout[1:]
    placed = jax.device_put(table, NamedSharding(mesh, P(rows, None)))
    split = jax.device_put(codes, NamedSharding(mesh, P(batch)))
    gather = tables.sharded_rows(mesh, rows, batch_axis=batch)
    ours = jax.jit(functools.partial(read_all, gather))(placed, split)
    chex.assert_trees_all_close(ours, expected, atol=1e-6)
    assert ours[0].sharding.is_equivalent_to(placed.sharding, 2)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_lookup_takes_a_sharded_gather(layout):
    plan = tables.plan([Feature("user", chunks=2), Feature("tags")], rows=32, width=4, tables=2, signed=True)
    params = tables.init_tables(jax.random.key(0), plan)
    rng = np.random.default_rng(0)
    codes = tables.codes(plan, {"user": rng.integers(0, 9, 16), "tags": rng.integers(0, 9, (16, 3))})
    masks = {"tags": rng.random((16, 3)) < 0.6}
    mesh, rows, batch = train.make_mesh(*layout[0]), *layout[1:]
    placed = jax.device_put(params, train.path_shardings(params, mesh, [(r"table/", P(rows, None))]))
    gather = tables.sharded_rows(mesh, rows, batch_axis=batch)
    ours = jax.jit(lambda p, c, m: tables.lookup(plan, p, c, m, gather=gather))(placed, codes, masks)
    expected = tables.lookup(plan, params, codes, masks)
    chex.assert_trees_all_close(jax.tree.map(np.asarray, ours), expected, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_sharded_gather_exchanges_the_batch_alone(layout, optimized):
    mesh, rows, batch = train.make_mesh(*layout[0]), *layout[1:]
    gather, found = tables.sharded_rows(mesh, rows, batch_axis=batch), {}
    codes = jax.ShapeDtypeStruct((64, 3), np.int32, sharding=NamedSharding(mesh, P(batch)))
    for height in (4096, 8 * 4096):
        sharding = NamedSharding(mesh, P(rows, None))
        table = jax.ShapeDtypeStruct((height, 4), np.float32, sharding=sharding)
        jitted = jax.jit(functools.partial(read_all, gather), out_shardings=(sharding, None))
        found[height] = collectives(jitted.lower(table, codes).compile().as_text())
    assert found[4096] == found[8 * 4096]
    assert found[4096]
    assert all(elements(shape) <= 64 * 3 * 4 + 64 * 3 for _, shape in found[4096])


def test_rows_of_equal_tables_over_devices_are_whole_tables():
    p = tables.plan([Feature("a", chunks=8)], rows=4, width=2, tables=8)
    params = tables.init_tables(jax.random.key(0), p)
    mesh = train.make_mesh(2, 4)
    placed = jax.device_put(params, train.path_shardings(params, mesh, [(r"table/", P("model", None))]))[
        "table"
    ]["embedding"]
    whole = np.asarray(params["table"]["embedding"]).reshape(8, 4, 2)
    for shard in placed.addressable_shards:
        first = shard.index[0].start or 0
        assert first % p.rows == 0
        np.testing.assert_array_equal(
            np.asarray(shard.data).reshape(2, 4, 2), whole[first // 4 : first // 4 + 2]
        )
    codes = tables.codes(p, {"a": np.arange(16)})
    ours = tables.lookup(p, {"table": {"embedding": placed}}, codes, gather=tables.sharded_rows(mesh))
    np.testing.assert_allclose(ours["a"], tables.lookup(p, params, codes)["a"], atol=1e-6)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("layout", [LAYOUTS[1], LAYOUTS[3], LAYOUTS[-1]], ids=str)
def test_no_codes_give_no_vectors_and_a_gradient_of_zeros(layout, kind):
    sizes, rows, batch = layout
    mesh = jax.make_mesh(sizes, ("data", "model"), axis_types=(kind,) * 2)
    table = jax.device_put(jnp.ones((32, 2), jnp.bfloat16), NamedSharding(mesh, P(rows, None)))
    gather = tables.sharded_rows(mesh, rows, batch_axis=batch)
    for shape in ((0,), (0, 3), (8, 0)):
        codes = np.zeros(shape, int)
        for run in (gather, jax.jit(gather)):
            assert (run(table, codes).shape, run(table, codes).dtype) == ((*shape, 2), jnp.bfloat16)
        with jax.set_mesh(mesh):
            gradient = jax.grad(lambda t, codes=codes: jnp.sum(gather(t, codes)))(table)
        np.testing.assert_array_equal(np.asarray(gradient, np.float32), np.zeros((32, 2)))


def test_a_sharded_gather_names_what_does_not_fit():
    mesh = train.make_mesh(2, 4)
    gather = tables.sharded_rows(mesh)
    with pytest.raises(
        ValueError, match="table: 30 rows are not divisible by the 4 devices of mesh axis model"
    ):
        gather(jnp.ones((30, 2)), jnp.zeros(4, int))
    with pytest.raises(
        ValueError, match="codes: 3 rows are not divisible by the 2 devices of mesh axis data"
    ):
        gather(jnp.ones((32, 2)), jnp.zeros(3, int))
    with pytest.raises(ValueError, match="axis='rows': the mesh has the axes"):
        tables.sharded_rows(mesh, "rows")
    assert gather is tables.sharded_rows(mesh)
    with pytest.raises(ValueError, match=r"batch_axis=\('data', 'data'\): the mesh has the axes"):
        tables.sharded_rows(mesh, batch_axis=("data", "data"))
    both = tables.sharded_rows(mesh, batch_axis=("data", "model"))
    with pytest.raises(ValueError, match="codes: 4 rows are not divisible by the 8 devices"):
        both(jnp.ones((32, 2)), jnp.zeros(4, int))
