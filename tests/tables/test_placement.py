"""Placements split a table as they say and learn as one device; the seam for lookups that update."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxembed import tables, train
from jaxembed.tables import Feature

PLAN = tables.plan(
    [Feature("user", chunks=2), Feature("tags"), Feature("kind", vocabulary=3)], rows=8, width=8, tables=4
)
SHAPES = {"rows": (8, 8), "tables": (8, 8), "columns": (32, 2), "replicated": (32, 8)}


def batch():
    rng = np.random.default_rng(0)
    ids = {"user": rng.integers(0, 90, 16), "tags": rng.integers(0, 90, (16, 3)), "kind": np.arange(16) % 3}
    return {"codes": tables.codes(PLAN, ids), "labels": rng.normal(size=16).astype(np.float32)}


def steps(mesh, rules, gather):
    def loss_fn(params, batch, key):
        found = tables.lookup(PLAN, params, batch["codes"], gather=gather)
        score = sum(jnp.sum(jnp.sin(x), axis=1) for x in found.values())
        return jnp.mean((score - batch["labels"]) ** 2), {}

    given = {"init": lambda key: tables.init_tables(key, PLAN), "batches": [batch()] * 3, "steps": 3}
    return train.fit(loss_fn=loss_fn, tx=optax.adam(0.1), mesh=mesh, rules=rules, **given)


@pytest.fixture(scope="module")
def alone():
    return steps(train.make_mesh(1), (), tables.rows_of).params


@pytest.mark.parametrize("kind", SHAPES)
def test_a_placed_table_learns_as_a_whole_one_and_stays_where_it_is(kind, alone):
    mesh = train.make_mesh(2, 4)
    rules, gather = tables.placement(PLAN, mesh, kind)
    state = steps(mesh, rules, gather)
    chex.assert_trees_all_close(jax.tree.map(np.asarray, state.params), alone, rtol=1e-5, atol=1e-6)
    for table in (state.params["table"]["embedding"], state.opt_state[0].mu["table"]["embedding"]):
        assert {shard.data.shape for shard in table.addressable_shards} == {SHAPES[kind]}
    exact = state.params["exact"]["kind"]["embedding"]
    assert {shard.data.shape for shard in exact.addressable_shards} == {exact.shape}


def test_tables_lie_whole_and_columns_lie_side_by_side():
    params = tables.init_tables(jax.random.key(0), PLAN)
    mesh = train.make_mesh(2, 4)
    whole = np.asarray(params["table"]["embedding"])
    for kind, parts in (("tables", whole.reshape(4, 8, 8)), ("columns", np.split(whole, 4, axis=1))):
        rules, _ = tables.placement(PLAN, mesh, kind)
        placed = jax.device_put(params, train.path_shardings(params, mesh, rules))["table"]["embedding"]
        found = {str(s.index): np.asarray(s.data) for s in placed.addressable_shards}
        assert len(found) == 4
        for part in parts:
            assert any(np.array_equal(part, x) for x in found.values())


def test_placements_that_do_not_fit_are_refused():
    mesh = train.make_mesh(1, 8)
    for kind, message in (
        ("tables", "plan: 4 tables are not divisible by the 8 devices of mesh axis model"),
        ("rows by modulo", "kind='rows by modulo'; choose one of rows, tables, columns, replicated"),
    ):
        with pytest.raises(ValueError, match=message):
            tables.placement(PLAN, mesh, kind)
    narrow = tables.plan([Feature("user")], rows=8, width=4)
    with pytest.raises(ValueError, match="plan: 4 columns are not divisible by the 8 devices"):
        tables.placement(narrow, mesh, "columns")
    rules, _ = tables.placement(narrow, mesh, axis=("data", "model"))
    assert rules[0][1] == P(("data", "model"), None)
    with pytest.raises(ValueError, match=r"params: assigned\(\) needs them"):
        tables.assigned().update({}, optax.EmptyState())
    with pytest.raises(ValueError, match="gradients: another tree than params; give assigned"):
        tables.assigned().update({"a": jnp.ones(2)}, None, {"b": jnp.ones(2)})


# A stand-in for a lookup whose backward pass applies the optimiser, as a SparseCore's does

RATE = 0.05


@jax.custom_vjp
def stand_in(table, codes):
    return tables.rows_of(table, codes)


def applied(kept, cotangents):
    """The new table in the slot of the gradient: Adagrad without a state, ``w - rate g / |g|``, by row."""
    table, codes = kept
    gradient = jax.vjp(lambda t: tables.rows_of(t, codes), table)[1](cotangents)[0]
    size = jnp.linalg.norm(gradient, axis=1, keepdims=True)
    return table - RATE * jnp.where(size > 0, gradient / jnp.where(size > 0, size, 1), 0), None


stand_in.defvjp(lambda table, codes: (stand_in(table, codes), (table, codes)), applied)


def test_a_lookup_that_applies_its_own_optimiser_trains_beside_others():
    """Only ``gather=`` and the transformation change; the loop, the loss and the dense side stay."""
    plan = tables.plan([Feature("user", chunks=2)], rows=16, width=4)
    codes = tables.codes(plan, {"user": np.arange(8)})
    labels = np.linspace(-1, 1, 8).astype(np.float32)

    def loss_fn(params, batch, key, gather=stand_in):
        found = tables.lookup(plan, params, batch["codes"], gather=gather)["user"]
        return jnp.mean((found @ params["dense"]["kernel"] - batch["labels"]) ** 2), {}

    def init(key):
        return tables.init_tables(key, plan) | {"dense": {"kernel": jnp.ones(8)}}

    start = init(jax.random.key(0))
    given = {"codes": codes, "labels": labels}
    labelled = jax.tree.map_with_path(lambda path, _: "own" if path[0].key == "table" else "dense", start)
    tx = optax.partition({"own": tables.assigned(), "dense": optax.sgd(0.1)}, labelled)
    run = {"init": lambda key: jax.tree.map(jnp.copy, start), "batches": [given], "steps": 1}
    found = train.fit(loss_fn=loss_fn, tx=tx, mesh=train.make_mesh(1), **run).params
    plain = jax.grad(lambda p: loss_fn(p, given, None, tables.rows_of)[0])(start)
    gradient = np.asarray(plain["table"]["embedding"])
    size = np.linalg.norm(gradient, axis=1, keepdims=True)
    wanted = start["table"]["embedding"] - RATE * np.divide(gradient, size, where=size > 0, out=0 * gradient)
    np.testing.assert_allclose(found["table"]["embedding"], wanted, atol=1e-6)
    np.testing.assert_allclose(
        found["dense"]["kernel"], 1 - 0.1 * np.asarray(plain["dense"]["kernel"]), atol=1e-6
    )
    again = train.fit(
        loss_fn=loss_fn, tx=tx, mesh=train.make_mesh(1), **run | {"batches": [given] * 60, "steps": 60}
    )
    assert float(loss_fn(again.params, given, None)[0]) < 0.2 * float(loss_fn(start, given, None)[0])
