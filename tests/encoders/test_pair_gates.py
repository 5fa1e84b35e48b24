"""Pair gates: the network by hand, symmetry, kinds, drawn gates against their chances, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import encoders

C, K = 6, 5


def params_of(classes=C):
    made = encoders.init_pair_gate(jax.random.key(0), classes, K, inputs=7, hidden=9)
    moved = lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape)  # noqa: E731
    return jax.tree.map(moved, made)  # norms of 1 and biases of 0 would hide an exchange


def every_pair():
    first, second = np.triu_indices(C)
    return first.astype(np.int32), second.astype(np.int32)


def by_hand(params, e, axis):
    for i in range(2):
        e = np.maximum(e, 0)
        e = (e - e.mean(axis=axis, keepdims=True)) / np.sqrt(e.var(axis=axis, keepdims=True) + 1e-5)
        e = e * params[f"norm_{i}"]["scale"] + params[f"norm_{i}"]["bias"]
        layer = params["mlp"][f"layer_{i}"]
        e = e @ layer["kernel"] + layer["bias"]
    return e


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_gates_are_those_of_the_formula(norm):
    params, (a, b) = jax.tree.map(lambda x: np.asarray(x, np.float64), params_of()), every_pair()
    table, axis = params["table"]["embedding"], {"layer": 1, "batch": 0}[norm]
    logits = by_hand(params, (table[a] + table[b]) / 2, axis)
    found = jax.jit(encoders.pair_gate, static_argnames=("kind", "norm", "logits"))(
        params_of(), a, b, norm=norm
    )
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), rtol=1e-4)
    np.testing.assert_allclose(
        encoders.pair_gate(params_of(), a, b, norm=norm, logits=True), logits, rtol=1e-3, atol=1e-4
    )
    product = encoders.pair_gate(params_of(), a, b, norm=norm, kind="product")
    sides = [1 / (1 + np.exp(-by_hand(params, table[x], axis))) for x in (a, b)]
    np.testing.assert_allclose(product, sides[0] * sides[1], rtol=1e-4)


@pytest.mark.parametrize("kind", ["mean", "product"])
def test_the_order_of_a_pair_does_not_matter_and_gates_are_between_0_and_1(kind):
    a, b = every_pair()
    assert len(a) == C * (C + 1) // 2
    found = np.asarray(encoders.pair_gate(params_of(), a, b, kind=kind))
    np.testing.assert_array_equal(encoders.pair_gate(params_of(), b, a, kind=kind), found)
    assert ((found > 0) & (found < 1)).all() and found.std() > 0.01


def test_ten_classes_have_55_gates():
    params = encoders.init_pair_gate(jax.random.key(1), 10, K, inputs=7, hidden=9)
    first, second = (x.ravel() for x in np.indices((10, 10)))
    gates = np.asarray(encoders.pair_gate(params, first, second))
    assert len(np.unique(gates, axis=0)) == 55


def test_vectors_of_images_have_gates_too():
    params, table = params_of(), params_of()["table"]["embedding"]
    a, b = every_pair()
    by_vectors = encoders.pair_gate(params_of(None), table[a], table[b])
    assert "table" not in params_of(None)
    same = {**params_of(None), "table": params["table"]}
    np.testing.assert_allclose(by_vectors, encoders.pair_gate(same, a, b), rtol=1e-6)


def test_a_class_that_is_not_there_is_not_a_number():
    found = np.asarray(encoders.pair_gate(params_of(), jnp.array([0, C, -1]), jnp.array([1, 0, 0])))
    assert np.isfinite(found[0]).all() and np.isnan(found[1:]).all()


def test_drawn_gates_open_as_often_as_they_should():
    logits = jnp.array([-2.0, 0.0, 1.0])
    for temperature in (0.1, 2.0):
        drawn = encoders.gumbel_gate(
            jax.random.key(0), jnp.tile(logits, (20_000, 1)), temperature=temperature
        )
        np.testing.assert_allclose((drawn > 0.5).mean(axis=0), jax.nn.sigmoid(logits), atol=0.015)
    gate, chance = encoders.stochastic_gate(jax.random.key(1), jnp.tile(logits / 4, (20_000, 1)))
    np.testing.assert_allclose((gate > 0).mean(axis=0), chance[0], atol=0.015)
    assert gate.min() == 0 and gate.max() == 1
    gradient = jax.grad(lambda m: encoders.stochastic_gate(None, m)[0].sum())(jnp.array([0.1, 9.0]))
    assert gradient.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, a: encoders.pair_gate(p, a, a, kind="sum"), "kind: 'sum' is unknown; choose one of"),
        (lambda p, a: encoders.pair_gate(p, a, a, norm="group"), "norm: 'group' is unknown; choose one of"),
        (lambda p, a: encoders.pair_gate(p, a, a[:2]), r"second: \(2,\) with first \(3,\); pass two"),
        (
            lambda p, a: encoders.pair_gate(p, a, a, kind="product", logits=True),
            "logits: a product of gates has",
        ),
        (
            lambda p, a: encoders.pair_gate(params_of(None), a, a),
            "params: hold no table of classes; give",
        ),
    ],
)
def test_bad_input_gets_one_line(call, message):
    refused(message, lambda: call(params_of(), jnp.array([0, 1, 2])))
