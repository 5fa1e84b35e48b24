"""Tables of low precision: stochastic rounding keeps the mean, sums and moments are float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxembed import tables, train

NARROW = [jnp.bfloat16, jnp.float16]


def neighbours(values, dtype):
    """The numbers of a dtype around each value, found among all that it has."""
    infinity = int(np.array(np.inf, dtype).view(np.uint16))
    positive = np.arange(infinity).astype(np.uint16).view(np.dtype(dtype)).astype(np.float64)
    every = np.unique([-positive, positive])
    above = np.searchsorted(every, values)
    exact = every[above] == values
    return np.where(exact, values, every[above - 1]), every[above]


@pytest.mark.parametrize("dtype", NARROW)
def test_stochastic_rounding_gives_a_neighbour_and_the_mean(dtype):
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=40), 10.0 ** rng.uniform(-3, 3, 40), [1.0, 0.0, -2.5]])
    values = values.astype(np.float32).astype(np.float64)
    draws = 20_000
    rounded = tables.stochastic_round(
        jax.random.key(0), jnp.tile(jnp.asarray(values, jnp.float32), (draws, 1)), dtype
    )
    assert rounded.dtype == dtype
    rounded = np.asarray(rounded.astype(jnp.float32), np.float64)
    low, high = neighbours(values, dtype)
    assert ((rounded == low) | (rounded == high)).all()
    share = (values - low) / np.where(high > low, high - low, 1)
    error = np.abs(rounded.mean(axis=0) - values)
    assert (error <= 5 * (high - low) * np.sqrt(share * (1 - share) / draws) + 1e-12).all()


@pytest.mark.parametrize("dtype", NARROW)
def test_numbers_that_the_dtype_holds_and_what_is_not_finite_stay(dtype):
    rng = np.random.default_rng(0)
    held = jnp.asarray(rng.normal(size=1000)).astype(dtype)
    assert (tables.stochastic_round(jax.random.key(1), held.astype(jnp.float32), dtype) == held).all()
    odd = tables.stochastic_round(jax.random.key(1), jnp.array([jnp.inf, -jnp.inf, jnp.nan]), dtype)
    assert odd[0] == jnp.inf and odd[1] == -jnp.inf and jnp.isnan(odd[2])
    same = jnp.arange(3.0)
    assert tables.stochastic_round(jax.random.key(0), same, jnp.float32) is same


def constant_gradient(params, batch, key):
    return -jnp.sum(params["t"][:-1].astype(jnp.float32)), {}


def after(dtype, rule, rounding, *, steps=200, rows=8, width=64, start=1.0):
    """The table after steps with a gradient of -1 in every entry."""
    init, step = tables.row_update(constant_gradient, optax.sgd(1.0), {"t": rule}, rounding=rounding)
    params = {"t": jnp.full((rows, width), start, dtype)}
    state = train.TrainState(jnp.int32(0), params, init(params))
    batch = {"rows": {"t": jnp.arange(rows + 1, dtype=jnp.int32)}}

    @jax.jit
    def run(state):
        def one(state, t):
            return step(state, batch, jax.random.fold_in(jax.random.key(0), t))[0], None

        return jax.lax.scan(one, state, jnp.arange(steps))[0]

    return run(state)


@pytest.mark.parametrize("dtype", NARROW)
def test_small_steps_move_a_table_by_their_sum(dtype):
    """200 steps of 1e-4, each below half of the last digit of 1."""
    rule = optax.sgd(1e-4)
    assert (after(dtype, rule, "nearest").params["t"] == 1).all()
    found = after(dtype, rule, "stochastic").params["t"].astype(jnp.float32)
    digit = float(jnp.finfo(dtype).eps)
    deviation = np.sqrt(200 * 1e-4 * digit)  # of the sum of 200 coins with mean 1e-4, one digit each
    assert abs(found.mean() - 1.02) < 5 * deviation / np.sqrt(found.size)
    assert 0.5 * deviation < found.std() < 1.5 * deviation


def test_rows_that_no_batch_names_keep_their_bits_and_keys_vary():
    found = after(jnp.bfloat16, optax.sgd(1e-4), "stochastic", steps=30).params["t"]
    assert len(np.unique(np.asarray(found.astype(jnp.float32)).sum(axis=1))) > 1
    init, step = tables.row_update(
        constant_gradient, optax.sgd(1.0), {"t": optax.sgd(1e-3)}, rounding="stochastic"
    )
    params = {"t": jnp.ones((8, 64), jnp.bfloat16)}
    state = train.TrainState(jnp.int32(0), params, init(params))
    batch = {"rows": {"t": jnp.array([2, 5, 8], jnp.int32)}}
    moved = step(state, batch, jax.random.key(0))[0].params["t"]
    assert set(np.flatnonzero((moved != 1).any(axis=1)).tolist()) == {2, 5}
    again = step(state, batch, jax.random.key(0))[0].params["t"]
    assert (again == moved).all()
    assert (step(state, batch, jax.random.key(1))[0].params["t"] != moved).any()


RULES = {
    "adagrad": optax.adagrad(0.01),
    "adam": optax.adam(0.01),
    "momentum": optax.sgd(1e-3, momentum=0.9),
    "row-wise adagrad": tables.rowwise_adagrad(0.01),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_state_of_a_narrow_table_is_that_of_a_wide_one(rule):
    narrow, wide = (after(d, RULES[rule], "nearest").opt_state for d in (jnp.bfloat16, jnp.float32))
    assert jax.tree.map(lambda x: x.dtype, narrow) == jax.tree.map(lambda x: x.dtype, wide)
    for ours, theirs in zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_float32_tables_do_not_feel_the_rounding(rounding):
    expected = after(jnp.float32, optax.adagrad(0.1), "nearest", steps=3)
    found = after(jnp.float32, optax.adagrad(0.1), rounding, steps=3)
    assert (found.params["t"] == expected.params["t"]).all()


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("dtype", NARROW)
def test_gradients_of_a_repeated_row_are_added_in_float32(dtype, parts):
    codes = jnp.zeros(4096 * parts, int).at[4096:].set(3)

    def loss(params, batch, key):
        return -jnp.sum(tables.rows_of(params["t"], codes).astype(jnp.float32)) / len(codes), {}

    init, step = tables.row_update(loss, optax.sgd(1.0), {"t": optax.sgd(1.0)}, parts=parts)
    params = {"t": jnp.zeros((5, 2), dtype)}
    state = train.TrainState(jnp.int32(0), params, init(params))
    batch = {"rows": {"t": jnp.tile(jnp.array([1, 5, 6], jnp.int32), parts)}}
    found = step(state, batch, jax.random.key(0))[0].params["t"]
    assert found[1].tolist() == [1.0, 1.0] and not found[jnp.array([0, 2, 3, 4])].any()


def test_reading_a_narrow_table_is_reading_a_wide_one():
    rng = np.random.default_rng(0)
    table, codes = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(-9, 9, (5, 3))
    read = functools.partial(tables.rows_of, codes=codes)
    gradient = jax.grad(lambda t: jnp.sum(jnp.sin(read(t).astype(jnp.float32))))
    narrow, wide = (jnp.asarray(table).astype(d) for d in (jnp.bfloat16, jnp.float32))
    wide = narrow.astype(jnp.float32)
    assert read(narrow).dtype == jnp.bfloat16
    np.testing.assert_array_equal(read(narrow).astype(jnp.float32), read(wide))
    np.testing.assert_allclose(gradient(narrow).astype(jnp.float32), gradient(wide), rtol=2e-2, atol=1e-6)


def test_another_rounding_is_refused():
    with pytest.raises(ValueError, match="rounding='up'; choose one of"):
        tables.row_update(constant_gradient, optax.sgd(1.0), {}, rounding="up")


def test_dense_parameters_beside_a_table_keep_their_moments_in_float32():
    def loss_fn(params, batch, key):
        return jnp.sum(params["table"]["embedding"]) + jnp.sum(params["w"].astype(jnp.float32)), {}

    rule = {"table/embedding": optax.sgd(0.1)}
    init, step = tables.row_update(loss_fn, optax.trace(0.999), rule)
    params = {"table": {"embedding": jnp.ones((4, 2))}, "w": jnp.ones(3, jnp.bfloat16)}
    state = train.TrainState(jnp.int32(0), params, init(params))
    batch = {"rows": {"table/embedding": np.array([0, 4], np.int32)}}
    for _ in range(300):
        state, _ = jax.jit(step)(state, batch, jax.random.key(0))
    (trace,) = jax.tree.leaves(state.opt_state["dense"])
    assert trace.dtype == jnp.float32
    np.testing.assert_allclose(trace, (1 - 0.999**300) / 0.001, rtol=1e-4)  # bfloat16 stands still near 256
