"""Stages train their own parameters, in turn, with states of their own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxembed import train

PARAMS = {"head": {"bias": jnp.ones(2)}, "mlp": {"kernel": jnp.ones((2, 2))}}


def run(tx, steps):
    params, state, seen = PARAMS, tx.init(PARAMS), []
    update = jax.jit(tx.update)
    for t in range(steps):
        gradients = jax.tree.map(lambda x, t=t: jnp.full_like(x, t + 1.0), params)
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen


def test_each_stage_moves_its_own_parameters_alone():
    seen = run(
        train.staged([(2, "^mlp/", optax.adam(0.1)), (1, "^head/", optax.sgd(1.0)), (2, "", optax.sgd(0.1))]),
        5,
    )
    for t in (0, 1):
        chex.assert_trees_all_equal(seen[t]["head"], PARAMS["head"])
    chex.assert_trees_all_equal(seen[2]["mlp"], seen[1]["mlp"])
    assert (seen[1]["mlp"]["kernel"] != PARAMS["mlp"]["kernel"]).all()
    np.testing.assert_allclose(seen[2]["head"]["bias"], 1 - 3.0)
    for name in ("head", "mlp"):
        last, before = (jax.tree.leaves(seen[t][name])[0] for t in (4, 3))
        np.testing.assert_allclose(last, before - 0.5, rtol=1e-5)


def test_a_rule_waits_as_it_is_while_others_run():
    """Adam over the steps of its stage alone is Adam that never stopped."""
    repeated = run(
        train.staged([(1, "^mlp/", optax.adam(0.1)), (1, "^head/", optax.sgd(0.0))], repeat=True), 6
    )
    tx = optax.adam(0.1)
    params, state = PARAMS, tx.init(PARAMS)
    for t in (0, 2, 4):
        gradients = {"head": {"bias": jnp.zeros(2)}, "mlp": {"kernel": jnp.full((2, 2), t + 1.0)}}
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(repeated[-1], params, rtol=1e-5)
    stays = run(train.staged([(1, "^mlp/", optax.sgd(1.0)), (1, "^head/", optax.sgd(1.0))]), 4)
    chex.assert_trees_all_equal(stays[3]["mlp"], stays[0]["mlp"])


def test_bad_stages_get_one_line():
    with pytest.raises(ValueError, match="stages: none, or one without a step"):
        train.staged([])
    with pytest.raises(ValueError, match="stages: none, or one without a step"):
        train.staged([(0, "", optax.sgd(1.0))])
    with pytest.raises(ValueError, match="stages: 'tail' matches no parameter; paths begin"):
        train.staged([(1, "tail", optax.sgd(1.0))]).init(PARAMS)
