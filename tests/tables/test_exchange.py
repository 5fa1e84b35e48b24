"""Rows that devices ask of one another are those of the whole table, whether they fit the capacity or not."""

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

LAYOUTS = [((8, 1), "data"), ((1, 8), "model"), ((2, 4), "model"), ((2, 4), ("data", "model"))]


def read_all(gather, table, codes):
    def total(table):
        vectors = gather(table, codes)
        return jnp.sum(jnp.sin(3 * vectors)), vectors

    return jax.grad(total, has_aux=True)(table)


def overflow(codes, rows, devices, capacity):
    """The count by sets: for each device and owner, the distinct rows beyond the capacity."""
    total = 0
    for part in np.asarray(codes).reshape(devices, -1):
        wanted = {int(c if c >= -1 else -2 - c) for c in part}
        for owner in range(devices):
            block = range(owner * (rows // devices), (owner + 1) * (rows // devices))
            total += max(0, len(wanted & set(block)) - capacity)
    return total


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("capacity", [1, 2, 4])
@pytest.mark.parametrize("shape", [(16,), (8, 2, 3)], ids=str)
def test_an_exchanged_gather_is_the_whole_gather(layout, capacity, shape):
    """Codes of all kinds: flipped, repeated, of no row, outside; forward, gradients, where they lie."""
    rng = np.random.default_rng(0)
    table, codes = rng.normal(size=(32, 4)).astype(np.float32), rng.integers(-40, 40, shape).astype(np.int32)
    expected = read_all(tables.rows_of, jnp.asarray(table), codes)
    mesh, axes = train.make_mesh(*layout[0]), layout[1]
    placed = jax.device_put(table, NamedSharding(mesh, P(axes, None)))
    split = jax.device_put(codes, NamedSharding(mesh, P(axes)))
    gather = tables.exchanged_rows(mesh, axes, capacity=capacity)
    ours = jax.jit(functools.partial(read_all, gather))(placed, split)
    chex.assert_trees_all_close(ours, expected, atol=1e-6)
    assert ours[0].sharding.is_equivalent_to(placed.sharding, 2)
    assert gather is tables.exchanged_rows(mesh, axes, capacity=capacity)


@pytest.mark.parametrize("capacity", [1, 2, 3, 100])
def test_rows_beyond_the_capacity_are_counted(capacity):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(5):
        codes = rng.integers(-12, 36, (16, 2)).astype(np.int32)
        found.append(int(tables.exchange_overflow(codes, rows=32, devices=8, capacity=capacity)))
        assert found[-1] == overflow(codes, 32, 8, capacity)
    assert any(found) == (capacity < 3) or capacity == 3
    with pytest.raises(ValueError, match="codes: 15 rows are not divisible by the 8 devices"):
        tables.exchange_overflow(codes[:15], rows=32, devices=8, capacity=1)


def test_a_capacity_of_all_codes_never_overflows():
    codes = np.arange(64, dtype=np.int32) % 4
    assert int(tables.exchange_overflow(codes, rows=32, devices=8, capacity=8)) == 0


def test_only_capacities_are_exchanged(optimized):
    """The way that fits moves rows by all-to-all, as many as the capacity says, whatever the height."""
    mesh, found = train.make_mesh(8, 1), {}
    gather = tables.exchanged_rows(mesh, capacity=5)
    codes = jax.ShapeDtypeStruct((64,), np.int32, sharding=NamedSharding(mesh, P("data")))
    for height in (4096, 8 * 4096):
        sharding = NamedSharding(mesh, P("data", None))
        table = jax.ShapeDtypeStruct((height, 4), np.float32, sharding=sharding)
        jitted = jax.jit(functools.partial(read_all, gather), out_shardings=(sharding, None))
        found[height] = collectives(jitted.lower(table, codes).compile().as_text())
    assert found[4096] == found[8 * 4096]
    exchanged = [elements(shape) for name, shape in found[4096] if "all-to-all" in name]
    assert exchanged and all(count <= 8 * 5 * 4 for count in exchanged)


def test_lookup_and_training_take_an_exchanged_gather():
    plan = tables.plan([Feature("user", chunks=2), Feature("tags")], rows=32, width=4, tables=2, signed=True)
    params = tables.init_tables(jax.random.key(0), plan)
    rng = np.random.default_rng(0)
    ids = {"user": rng.integers(0, 9, 16), "tags": rng.integers(0, 9, (16, 3))}
    masks = {"tags": rng.random((16, 3)) < 0.6}
    codes, mesh = tables.codes(plan, ids), train.make_mesh(8, 1)
    rules = [(r"table/", P("data", None))]
    placed = jax.device_put(params, train.path_shardings(params, mesh, rules))
    for capacity in (1, 16):
        gather = tables.exchanged_rows(mesh, capacity=capacity)
        ours = jax.jit(lambda p, g=gather: tables.lookup(plan, p, codes, masks, gather=g))(placed)
        expected = tables.lookup(plan, params, codes, masks)
        chex.assert_trees_all_close(jax.tree.map(np.asarray, ours), expected, atol=1e-6)


def test_an_exchange_names_what_does_not_fit():
    mesh = train.make_mesh(2, 4)
    with pytest.raises(ValueError, match="capacity=0; give an int of at least 1"):
        tables.exchanged_rows(mesh, capacity=0)
    with pytest.raises(ValueError, match="axis='rows': the mesh has the axes"):
        tables.exchanged_rows(mesh, "rows", capacity=1)
    explicit = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with pytest.raises(ValueError, match="mesh: has explicit axes"):
        tables.exchanged_rows(explicit, capacity=1)
    gather = tables.exchanged_rows(mesh, "model", capacity=1)
    with pytest.raises(ValueError, match="table: 30 rows are not divisible by the 4 devices of mesh axis"):
        gather(jnp.ones((30, 2)), jnp.zeros(4, int))
    with pytest.raises(ValueError, match="codes: float32; pass integers"):
        gather(jnp.ones((32, 2)), jnp.zeros(4))
    with pytest.raises(ValueError, match="table: shape"):
        gather(jnp.ones(32), jnp.zeros(4, int))
    codes = np.arange(4)
    for given, message in (
        ({"capacity": 0}, "capacity=0; give an int of at least 1"),
        ({"devices": 0}, "devices=0; give an int of at least 1"),
        ({"capacity": 1.5}, "capacity=1.5; give an int of at least 1"),
        ({"devices": 3}, "table: 8 rows are not divisible by the 3 devices"),
    ):
        with pytest.raises(ValueError, match=message):
            tables.exchange_overflow(codes, **{"rows": 8, "devices": 2, "capacity": 1} | given)
    with pytest.raises(ValueError, match="codes: float64; pass integers"):
        tables.exchange_overflow(codes + 0.5, rows=8, devices=2, capacity=1)
    assert gather(jnp.ones((32, 2)), jnp.zeros((0, 3), int)).shape == (0, 3, 2)
