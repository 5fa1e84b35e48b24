"""A trained table in fewer bytes: what is chosen, what it loses, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import recipes, tables

FEATURES = [tables.Feature("user", chunks=2), tables.Feature("sex", vocabulary=3, chunks=2)]
PLAN = tables.plan(FEATURES, rows=160, width=8, tables=2, signed=True)
IDS = {"user": np.arange(50), "sex": np.array([2, 0])}
WHOLE = tables.bytes_of(PLAN)


def params_of(table=None):
    params = tables.init_tables(jax.random.key(0), PLAN)
    if table is not None:
        params["table"]["embedding"] = jnp.asarray(table, jnp.float32)
    return params


@pytest.mark.parametrize(
    ("share", "kind", "most"), [(0.7, "alpt", 1e-7), (0.4, "alpt", 1e-4), (0.2, "dpq", 0.6)]
)
def test_a_random_table_is_stored_as_closely_as_its_bytes_allow(share, kind, most):
    params = params_of()
    method, small = recipes.compress_table(params, PLAN, bytes=share * WHOLE)
    assert method.settings["rows"]["method"] == kind and method.settings["error"] < most
    assert method.bytes(small) <= share * WHOLE
    assert method.bytes(small) == sum(x.nbytes for x in jax.tree.leaves(small))
    full = tables.plan_method(PLAN).vectors(params, IDS)
    found = method.vectors(small, IDS)
    np.testing.assert_array_equal(found["sex"], full["sex"])  # exact rows stay
    error = float(jnp.mean((found["user"] - full["user"]) ** 2) / jnp.mean(full["user"] ** 2))
    assert error < 2 * most
    jitted = jax.jit(method.vectors)(small, jax.tree.map(jnp.asarray, IDS))
    np.testing.assert_allclose(jitted["user"], found["user"], atol=1e-6)


def test_a_table_of_zeros_but_for_few_entries_is_stored_sparse_without_a_loss():
    table = np.zeros((PLAN.height, 8))
    table[::20, 3] = 1 + np.arange(PLAN.height // 20)
    method, _ = recipes.compress_table(params_of(table), PLAN, bytes=0.15 * WHOLE, kinds=("sparse", "blocks"))
    assert method.settings["rows"]["method"] == "deeplight" and method.settings["error"] == 0


def test_a_table_of_repeated_blocks_is_stored_once():
    table = np.tile(np.random.default_rng(0).normal(size=(16, 8)), (PLAN.height // 16, 1))
    method, _ = recipes.compress_table(params_of(table), PLAN, bytes=0.1 * WHOLE, kinds=("blocks", "product"))
    assert method.settings["error"] < 1e-10


def test_what_is_left_can_be_trained():
    method, small = recipes.compress_table(params_of(), PLAN, bytes=0.2 * WHOLE, kinds=("sparse",))
    tuned = tables.fine_tuned(method, small)
    gradient = jax.grad(lambda p: jnp.sum(tuned.vectors(p, IDS)["user"] ** 2))(tuned.init(jax.random.key(0)))
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient)) > 0


def test_what_does_not_fit_is_refused():
    params = params_of()
    refused("takes? at least [0-9]+ bytes", lambda: recipes.compress_table(params, PLAN, bytes=100))
    for wrong in (0, -5, True, "a", None, np.nan):
        refused("bytes=", lambda wrong=wrong: recipes.compress_table(params, PLAN, bytes=wrong))
    for wrong in (("other",), (), "integers"):
        refused("kinds=", lambda wrong=wrong: recipes.compress_table(params, PLAN, bytes=5000, kinds=wrong))
    other = tables.plan(FEATURES, rows=80, width=8, tables=2)
    refused("the plan's", lambda: recipes.compress_table(params, other, bytes=5000))
    refused("exact", lambda: recipes.compress_table({"table": params["table"]}, PLAN, bytes=5000))
    params["table"]["embedding"] = params["table"]["embedding"].at[3, 3].set(jnp.inf)
    refused("NaN", lambda: recipes.compress_table(params, PLAN, bytes=5000))
    refused("give a method of 320", lambda: tables.plan_method(PLAN, rows=tables.full_table(5, 8)))
