"""Members side by side are the runs that each would be alone, and each has its own rate and key."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxembed import train

DATA = jax.random.normal(jax.random.key(7), (64, 3))


def init(key, rate):
    return {"w": jax.random.normal(key, (3,))}


def loss_fn(params, batch, key):
    noise = 0.1 * jax.random.normal(key, ())
    return jnp.mean((batch @ params["w"] - 1 + noise) ** 2), {}


def update(rate):
    return train.gradient_update(loss_fn, optax.sgd(rate))


def batches(key):
    order = jax.random.permutation(key, 64)
    return lambda place: DATA[jax.lax.dynamic_slice(order, (place * 16,), (16,))]


def members(keys, rates, **options):
    given = {"init": init, "update": update, "batches": batches, "steps": 4, "epochs": 3} | options
    return train.fit_members(keys=keys, given=(jnp.asarray(rates),), **given)


def test_each_member_is_what_a_loop_over_its_steps_gives():
    keys, rates, seen = jax.random.split(jax.random.key(0), 3), [0.1, 0.2, 0.1], []
    state = members(keys, rates, after=lambda number, state: seen.append((number, int(state.step[0]))))
    assert seen == [(1, 4), (2, 8), (3, 12)]
    for m, rate in enumerate(rates):
        w = init(jax.random.fold_in(keys[m], 0), rate)["w"]
        for epoch in range(1, 4):
            key = jax.random.fold_in(keys[m], epoch)
            for t in range(4):
                gradient = jax.grad(lambda w, b, k: loss_fn({"w": w}, b, k)[0])
                w = w - rate * gradient(w, batches(key)(t), jax.random.fold_in(key, t))
        np.testing.assert_allclose(state.params["w"][m], w, rtol=1e-5)


def test_extra_is_carried_and_given_may_be_a_tree():
    def begin(key, given):
        return {"w": given["start"]}, {"steps": jnp.int32(0)}

    def counted(params, batch, key, extra):
        return jnp.sum(params["w"] ** 2), ({}, {"steps": extra["steps"] + 1})

    state = train.fit_members(
        init=begin,
        update=lambda given: train.gradient_update(counted, optax.sgd(0.5)),
        batches=lambda key: lambda place: place,
        steps=2,
        epochs=2,
        keys=jax.random.split(jax.random.key(0), 2),
        given=({"start": jnp.array([[1.0], [2.0]])},),
    )
    assert state.extra["steps"].tolist() == [4, 4] and (state.params["w"] == 0).all()


def test_lengths_that_differ_are_named():
    with pytest.raises(ValueError, match=r"given: lengths \[2, 3\]; give one part for each of 3 members"):
        members(jax.random.split(jax.random.key(0), 3), [0.1, 0.2])
