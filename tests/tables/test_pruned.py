"""Pruned tables: schedules, thresholds, gates, their limits, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused

from jaxembed import tables
from jaxembed.tables import pruned
from jaxembed.train import TrainState

PATH = "table/embedding"


def growing(state, batch, key):
    """An update that adds a tiny number to every entry."""
    table = state.params["table"]["embedding"] + 1e-3
    return TrainState(state.step, {"table": {"embedding": table}}, state.opt_state, None), {}


def after(steps, **options):
    table = jnp.asarray(np.random.default_rng(0).normal(size=(50, 20)), jnp.float32)
    init, step = tables.pruned_update((lambda params: (), growing), PATH, **options)
    step, state, left = jax.jit(step), TrainState(jnp.int32(0), {"table": {"embedding": table}}, (), None), []
    for t in range(steps):
        state = step(TrainState(jnp.int32(t), state.params, state.opt_state, None), None, jax.random.key(0))[
            0
        ]
        left.append(int(jnp.sum(state.params["table"]["embedding"] != 0)))
    return left


def test_the_share_of_zeros_follows_the_schedule_every_few_steps():
    left = after(12, keep=200, every=4, base=0.5, over=4)
    assert [left[t - 1] for t in (4, 8, 12)] == [600, 400, 300]  # of 1,000, less .8 of 1/2, 3/4 and 7/8
    assert left[2] == 1000 and left[4] == 1000  # entries grow again in between


def test_pruning_without_a_ramp_keeps_the_largest_entries():
    assert after(1, keep=100, every=1, base=0.0) == [100]


@pytest.mark.parametrize("keep", [1, 7, 30])
def test_keep_largest_is_a_sort(keep):
    x = np.random.default_rng(keep).normal(size=(6, 5)).astype(np.float32)
    expected = np.where(np.abs(x) >= np.sort(np.abs(x).ravel())[-keep], x, 0)
    np.testing.assert_array_equal(tables.keep_largest(jnp.asarray(x), keep), expected)
    np.testing.assert_array_equal(jax.jit(tables.keep_largest)(x, jnp.int32(keep)), expected)


def test_a_pruned_table_is_deployed_without_a_change():
    method = tables.deeplight(50, 20, keep=100)
    table = tables.keep_largest(method.init(jax.random.key(0))["table"]["embedding"], 100)
    deployed = method.deploy({"table": {"embedding": table}})
    np.testing.assert_array_equal(method.vectors(deployed, np.arange(50)), table)


def test_thresholds_shrink_entries_and_count_those_that_are_left():
    method = tables.pep(5, 4, keep=8, threshold="value")
    table = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
    threshold = jnp.asarray([[-20.0], [0.0], [0.0], [5.0], [-1.0]])
    params = {"table": {"embedding": table}, "threshold": {"embedding": threshold}}
    t = 1 / (1 + np.exp(-np.asarray(threshold)))
    expected = np.sign(table) * np.maximum(np.abs(table) - t, 0)
    np.testing.assert_allclose(method.vectors(params, np.arange(5)), expected, atol=1e-6)
    assert tables.pep_left(params) == (expected != 0).sum()
    stored = method.deploy(params)
    assert len(stored["sparse"]["values"]) == 8


def test_thresholds_start_at_a_full_table_and_have_a_gradient():
    method = tables.pep(5, 4, keep=8)
    params = method.init(jax.random.key(0))
    np.testing.assert_allclose(method.vectors(params, np.arange(5)), params["table"]["embedding"], atol=1e-6)
    slope = jax.grad(lambda p: jnp.sum(method.vectors(p, np.arange(5)) ** 2))(params)
    assert float(jnp.abs(slope["threshold"]["embedding"]).min()) > 0


def test_gates_of_1_are_the_identity_and_multiply_the_coordinates_of_their_group():
    counts = np.array([9, 1, 5, 1, 9, 5])
    method = tables.autosrh(6, 4, keep=24, counts=counts, groups=3)
    params = method.init(jax.random.key(0))
    table = np.asarray(params["table"]["embedding"])
    np.testing.assert_array_equal(method.vectors(params, np.arange(6)), table)
    alpha = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    params["gates"]["alpha"] = jnp.asarray(alpha)
    group = np.array([0, 2, 1, 2, 0, 1])
    for given in (params, method.deploy(params)):
        np.testing.assert_allclose(method.vectors(given, np.arange(6)), table * alpha[group], rtol=1e-6)


def test_groups_are_of_equal_size_with_ties_together():
    counts = np.random.default_rng(0).permutation(60)
    groups = pruned.frequency_groups(counts, 6)
    np.testing.assert_array_equal(np.bincount(groups), [10] * 6)
    assert (counts[groups == 0] >= 50).all()
    assert set(pruned.frequency_groups(np.ones(10), 6)) == {0}


def test_the_rule_of_gates_makes_signed_steps_and_stays_in_0_to_1():
    rule, alpha = tables.autosrh_rule(0.1, penalty=0.5), jnp.array([1.0, 0.02, 0.5])
    gradient = jnp.array([-3.0, 3.0, 0.0])
    new = optax.apply_updates(alpha, rule.update(gradient, rule.init(alpha), alpha)[0])
    np.testing.assert_allclose(new, [1.0, 0.0, 0.45], atol=1e-6)
    still = rule.update(jnp.zeros(3), rule.init(alpha), jnp.zeros(3))[0]
    np.testing.assert_array_equal(still, 0)


def test_pruning_everything_or_nothing_left_to_prune_is_refused():
    for make in (tables.deeplight, tables.pep):
        refused("keep=0", lambda make=make: make(10, 4, keep=0))
        refused("keep=41", lambda make=make: make(10, 4, keep=41))
    refused("keep=0", lambda: tables.autosrh(10, 4, keep=0, counts=np.ones(10)))
    refused("counts", lambda: tables.autosrh(10, 4, keep=4, counts=np.ones(9)))
    refused("groups=257", lambda: tables.autosrh(500, 4, keep=4, counts=np.ones(500), groups=257))
    refused("threshold", lambda: tables.pep(10, 4, keep=4, threshold="row"))
    refused("start=nan", lambda: tables.pep(10, 4, keep=4, start=np.nan))
    still = (lambda params: (), growing)
    refused("keep=0", lambda: tables.pruned_update(still, PATH, keep=0))
    refused("base=1", lambda: tables.pruned_update(still, PATH, keep=3, base=1))
    step = tables.pruned_update(still, PATH, keep=10**6)[1]
    state = TrainState(jnp.int32(0), {"table": {"embedding": jnp.ones((3, 2))}}, (), None)
    refused("keep=1000000", lambda: step(state, None, None))
