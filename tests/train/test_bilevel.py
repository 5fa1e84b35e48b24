"""Two streams: who learns on which, at which weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from refusals import refused

from jaxembed import train


def loss_fn(params, batch, key):
    loss = (params["net"]["w"] * params["gate"]["alpha"] - batch["y"]) ** 2
    return loss, {"y": batch["y"]}


BATCH = {"train": {"y": jnp.float32(2.0)}, "validation": {"y": jnp.float32(4.0)}}


def test_weights_move_on_training_rows_and_gates_on_validation_rows_at_the_new_weights():
    params = {"net": {"w": jnp.float32(1.0)}, "gate": {"alpha": jnp.float32(1.0)}}
    init, step = train.bilevel_update(loss_fn, optax.sgd(0.1), r"^gate/", optax.sgd(0.05))
    state, metrics = step(
        train.TrainState(jnp.int32(0), params, init(params), None), BATCH, jax.random.key(0)
    )
    w = 1 - 0.1 * 2 * (1 - 2)  # at the old gate
    alpha = 1 - 0.05 * 2 * (w - 4) * w  # at the new weight
    np.testing.assert_allclose(state.params["net"]["w"], w, rtol=1e-6)
    np.testing.assert_allclose(state.params["gate"]["alpha"], alpha, rtol=1e-6)
    assert float(metrics["y"]) == 2 and float(metrics["validation/y"]) == 4
    assert float(metrics["loss"]) == 1


def test_fit_runs_it():
    state = train.fit(
        init=lambda key: {"net": {"w": jnp.float32(1.0)}, "gate": {"alpha": jnp.float32(1.0)}},
        update=train.bilevel_update(loss_fn, optax.adam(0.05), r"^gate/", optax.sgd(0.01)),
        batches=[BATCH] * 50,
        steps=50,
        mesh=train.make_mesh(1),
        batch_rules=[(r"", jax.sharding.PartitionSpec())],
        progress=False,
    )
    product = float(state.params["net"]["w"] * state.params["gate"]["alpha"])
    assert 1.9 < product < 4.1


def test_a_regex_of_nothing_or_all_and_a_missing_stream_are_refused():
    params = {"net": {"w": jnp.float32(1.0)}, "gate": {"alpha": jnp.float32(1.0)}}
    for upper in ("nothing", "net|gate"):
        init, _ = train.bilevel_update(loss_fn, optax.sgd(0.1), upper, optax.sgd(0.1))
        refused("upper=", lambda init=init: init(params))
    init, step = train.bilevel_update(loss_fn, optax.sgd(0.1), "gate", optax.sgd(0.1))
    state = train.TrainState(jnp.int32(0), params, init(params), None)
    refused("validation", lambda: step(state, {"train": BATCH["train"]}, jax.random.key(0)))


def test_the_gradient_that_is_not_finite_is_named():
    """Of each stream those of its own parameters; what the other stream would give them does not matter."""

    def loss_fn(params, batch, key):
        return jnp.sqrt(params["w"] * batch) + jnp.sqrt(params["gate"] * batch), {}

    init, step = train.bilevel_update(loss_fn, optax.sgd(0.0), r"^gate", optax.sgd(0.0))
    for w, gate, place in ((1.0, 1.0, -1), (-1.0, 1.0, 1), (1.0, -1.0, 0)):
        params = {"gate": jnp.float32(gate), "w": jnp.float32(w)}
        state = train.TrainState(jnp.int32(0), params, init(params), None)
        batch = {"train": jnp.float32(2.0), "validation": jnp.float32(2.0)}
        assert int(step(state, batch, jax.random.key(0))[1]["nonfinite"]) == place
