"""Integer tables: rounding without bias, limits in which they train as floats, LSQ, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused

from jaxembed import tables
from jaxembed.train import TrainState

PATH = "table/embedding"


def test_stochastic_rounding_is_unbiased_and_off_by_less_than_a_step():
    values = np.linspace(-1.3, 1.3, 40).astype(np.float32)
    drawn = jnp.broadcast_to(values, (20_000, 40))
    q = tables.round_to_step(jax.random.key(0), drawn, 0.1, jnp.int8).astype(np.float32) * 0.1
    assert float(jnp.abs(q - drawn).max()) < 0.1 + 1e-6
    np.testing.assert_allclose(q.mean(axis=0), values, atol=5 * 0.05 / 20_000**0.5)


def test_numbers_beyond_the_range_are_clipped_and_no_key_rounds_to_the_nearest():
    found = tables.round_to_step(None, jnp.array([100.0, -100.0, 0.26, 0.24]), 0.1, jnp.int8)
    np.testing.assert_array_equal(found, [127, -128, 3, 2])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_have_no_integer(bad):
    refused("NaN", lambda: tables.round_to_step(None, jnp.array([0.0, bad]), 0.1, jnp.int8))
    refused(
        "NaN",
        lambda: tables.integer_table(3, 2, initialiser=lambda key, s: jnp.full(s, bad)).init(
            jax.random.key(0)
        ),
    )


@pytest.mark.peers
def test_lsq_rounding_has_the_values_and_gradients_of_torch():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=(50, 1)).astype(np.float32) * 20
    x, scale = torch.tensor(values, requires_grad=True), torch.tensor([0.1], requires_grad=True)
    theirs = torch._fake_quantize_learnable_per_tensor_affine(x, scale, torch.tensor([0.0]), -128, 127, 1.0)
    theirs.sum().backward()

    def ours(v, s):
        return tables.round_learned(v, s, jnp.int8)

    np.testing.assert_allclose(ours(values, 0.1), theirs.detach().numpy(), rtol=1e-5)
    slopes = jax.grad(lambda v, s: jnp.sum(ours(v, s)), argnums=(0, 1))(jnp.asarray(values), 0.1)
    np.testing.assert_array_equal(slopes[0], x.grad.numpy())
    np.testing.assert_allclose(slopes[1], scale.grad.item(), rtol=1e-4)


@pytest.mark.peers
def test_an_int8_table_holds_the_levels_of_torch():
    torch = pytest.importorskip("torch")
    method = tables.integer_table(20, 4, step=0.05)
    params = method.init(jax.random.key(0))
    stored = torch.tensor(np.asarray(params["table"]["embedding"]).astype(np.float32) * np.float32(0.05))
    theirs = torch.fake_quantize_per_tensor_affine(stored, 0.05, 0, -128, 127)[[3, 7]]
    np.testing.assert_allclose(method.vectors(params, np.array([3, 7])), theirs.numpy(), rtol=1e-6)


# Training


def loss_of(method):
    def loss_fn(params, batch, key):
        codes = batch.get("codes")
        found = method.vectors(params, batch["ids"]) if codes is None else method.read(params, codes)
        return jnp.sum((found * params["head"] - 0.3) ** 2), {}

    return loss_fn


def trained(method, steps, *, listed, rate=0.1, **options):
    params = method.init(jax.random.key(0)) | {"head": jnp.ones(4)}
    rules = {PATH: optax.sgd(rate)}
    init, step = tables.integer_update(loss_of(method), optax.sgd(0.01), rules, **options)
    ids = np.array([2, 5, 5, 7])
    batch = tables.touched_rows(method, ids, None, 8) if listed else {"ids": ids}
    state, jitted = TrainState(jnp.int32(0), params, init(params), None), jax.jit(step)
    for t in range(steps):
        state, metrics = jitted(state, batch, jax.random.key(t))
    return params, state.params, metrics


def test_a_fine_step_trains_as_floats_do():
    start = jax.random.normal(jax.random.key(9), (20, 4)) * 0.2
    method = tables.integer_table(20, 4, bits=16, step=1e-4, initialiser=lambda key, s: start)
    _, new, _ = trained(method, 5, listed=True, step=1e-4)
    full = tables.full_table(20, 4, initialiser=lambda key, s: start)
    params, loss = full.init(None) | {"head": jnp.ones(4)}, loss_of(full)
    rule = optax.partition(
        {"t": optax.sgd(0.1), "h": optax.sgd(0.01)}, {"table": {"embedding": "t"}, "head": "h"}
    )
    state, batch = rule.init(params), {"ids": np.array([2, 5, 5, 7])}
    for _ in range(5):
        updates, state = rule.update(jax.grad(lambda p: loss(p, batch, None)[0])(params), state)
        params = optax.apply_updates(params, updates)
    found = np.asarray(new["table"]["embedding"], np.float32) * 1e-4
    np.testing.assert_allclose(found, params["table"]["embedding"], atol=5e-4)
    np.testing.assert_allclose(new["head"], params["head"], atol=1e-3)


@pytest.mark.parametrize("make", [tables.integer_table, tables.alpt])
@pytest.mark.parametrize("listed", [True, False])
def test_integers_learn_and_rows_that_are_not_read_keep_their_bits(make, listed):
    method = make(20, 4, step=0.02)
    options = {"step": 0.02} if make is tables.integer_table else {"step_rule": optax.sgd(1e-3)}
    old, new, metrics = trained(method, 25, listed=listed, **options)
    assert new["table"]["embedding"].dtype == jnp.int8 and float(metrics["loss"]) < 0.02
    rest = np.setdiff1d(np.arange(20), [2, 5, 7])
    for path in ("table", *(["step"] if "step" in old else [])):
        np.testing.assert_array_equal(
            np.asarray(new[path]["embedding"])[rest], np.asarray(old[path]["embedding"])[rest]
        )
    assert (
        np.abs(np.asarray(new["table"]["embedding"])[2] - np.asarray(old["table"]["embedding"])[2]).max() > 0
    )
    if "step" in old:
        assert float(jnp.abs(new["step"]["embedding"] - old["step"]["embedding"])[5].max()) > 0
        assert float(new["step"]["embedding"].min()) > 0


def test_the_gradient_of_a_learned_step_is_that_of_lsq():
    method = tables.alpt(20, 4, step=0.1)
    old, new, _ = trained(method, 1, listed=True, rate=0.0, step_rule=optax.sgd(1.0))
    q = np.asarray(old["table"]["embedding"], np.float32)
    # With rate 0 the rows lie on multiples of the step: round(w / s) - w / s is 0, and no step moves.
    np.testing.assert_allclose(new["step"]["embedding"], old["step"]["embedding"], atol=1e-5)
    np.testing.assert_array_equal(np.asarray(new["table"]["embedding"])[[0, 1, 3, 4]], q[[0, 1, 3, 4]])


def test_rows_whose_step_is_not_finite_stay_as_they_were():
    method = tables.integer_table(20, 4, step=0.02)
    old, new, _ = trained(method, 1, listed=True, rate=np.inf, step=0.02)
    np.testing.assert_array_equal(new["table"]["embedding"], old["table"]["embedding"])


def test_settings_out_of_range_are_refused():
    refused("bits=4", lambda: tables.integer_table(3, 4, bits=4))
    for step in (0, -1, np.nan, np.inf):
        refused("step=", lambda step=step: tables.alpt(3, 4, step=step))
        rules = loss_of(None), optax.sgd(0.1), {PATH: optax.sgd(0.1)}
        refused("step=", lambda step=step, rules=rules: tables.integer_update(*rules, step=step))
    update = tables.integer_update(loss_of(None), optax.sgd(0.1), {PATH: optax.sgd(0.1)}, step=0.1)
    refused("float32", lambda: update[0]({"table": {"embedding": jnp.zeros((3, 4))}}))
