"""Fitted coefficients: closed forms, the return of the best, chains, bounds, and what is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from refusals import refused

from jaxembed import train, weights

WIDTH = 12
RNG = np.random.default_rng(0)
START = {"a": jnp.asarray(RNG.normal(size=8), jnp.float32), "b": jnp.asarray(RNG.normal(size=4), jnp.float32)}
VECTORS = [
    jax.tree.map(lambda x: jnp.asarray(RNG.normal(size=x.shape), jnp.float32), START) for _ in range(3)
]
ROOT = RNG.normal(size=(WIDTH, WIDTH))
CURVED = jnp.asarray(ROOT @ ROOT.T / WIDTH + np.eye(WIDTH), jnp.float32)
BEST = jnp.asarray(RNG.normal(size=WIDTH) * 0.5, jnp.float32)


def flat(tree):
    return jnp.concatenate([tree["a"], tree["b"]])


def quadratic(params, batch, key):
    """(x - c)' H (x - c) / 2, with c moved by the batch."""
    gap = flat(params) - BEST - batch
    return 0.5 * gap @ CURVED @ gap, {}


PROBE = [jnp.zeros(WIDTH)]


def loss_at(coefficients, vectors=VECTORS, probe=PROBE, loss=quadratic, **options):
    merged = weights.merge(START, vectors, coefficients, **options)
    return float(np.mean([loss(merged, b, None)[0] for b in probe]))


def fit(vectors=VECTORS, probe=PROBE, loss=quadratic, **options):
    return weights.fit_coefficients(loss, START, vectors, probe, **options)


def test_linear_coefficients_of_a_quadratic_are_the_closed_form():
    v = np.stack([flat(x) for x in VECTORS], axis=1)
    h = np.asarray(CURVED)
    exact = np.linalg.solve(v.T @ h @ v, v.T @ h @ np.asarray(BEST - flat(START)))
    options = {"rule": "linear", "tx": optax.adam(0.02), "steps": 1500, "greedy": False}
    found, _ = fit(**options)
    np.testing.assert_allclose(found, exact, atol=2e-3)
    assert loss_at(found) == pytest.approx(loss_at(exact), abs=1e-4)


@pytest.mark.parametrize("order", [(0, 1), (1, 2)])
def test_a_pair_finds_the_best_place_of_its_plane(order):
    """A slerp between two vectors reaches every place between their directions, at any length."""
    pair = [VECTORS[i] for i in order]
    inside = weights.merge(
        jax.tree.map(jnp.zeros_like, START), pair, {"position": 0.3, "scale": 1.2}, rule="slerp"
    )
    target = flat(START) + flat(inside)

    def loss(params, batch, key):
        return jnp.sum((flat(params) - target) ** 2)

    found, history = fit(pair, loss=loss, steps=400)
    np.testing.assert_allclose([found["position"][0], found["scale"][0]], [0.3, 1.2], atol=5e-3)
    assert [row["step"] for row in history[:3]] == [0, 1, 2] and history[-1]["step"] == 400


@pytest.mark.parametrize("rule", ["slerp", "linear"])
def test_a_greedy_chain_is_its_pairs_one_after_the_other(rule):
    options = {"rule": rule, "steps": 30}
    found, history = fit(**options)
    first, _ = fit(VECTORS[:2], key=jax.random.fold_in(jax.random.key(0), 0), **options)
    zero = jax.tree.map(jnp.zeros_like, START)
    held = weights.merge(zero, VECTORS[:2], first, rule=rule)
    second, _ = fit([held, VECTORS[2]], **options)
    merged = weights.merge(START, VECTORS, found, rule=rule)
    expected = weights.merge(START, [held, VECTORS[2]], second, rule=rule)
    chex.assert_trees_all_close(merged, expected, rtol=1e-4, atol=1e-5)
    assert {row["fit"] for row in history} == {0, 1}
    last = min(row["loss"] for row in history if row["fit"] == 1)
    assert loss_at(found, rule=rule) == pytest.approx(last, rel=1e-4)


@pytest.mark.filterwarnings("ignore:.* is at the limit")
@pytest.mark.parametrize("rule", ["slerp", "linear"])
@pytest.mark.parametrize("rate", [0.05, 3.0])
def test_a_fit_is_never_worse_than_where_it_began(rule, rate):
    """A rate that overshoots, and batches that disagree."""
    probe = [jnp.asarray(x, jnp.float32) for x in np.random.default_rng(1).normal(size=(5, WIDTH))]
    found, history = fit(probe=probe, rule=rule, tx=optax.adam(rate), steps=23, greedy=False)
    begin = {"slerp": {"position": 0.5, "scale": 1.0}, "linear": 1 / 3}[rule]
    assert history[0]["loss"] == pytest.approx(loss_at(begin, probe=probe, rule=rule), rel=1e-5)
    best = min(history, key=lambda row: row["loss"])
    assert loss_at(found, probe=probe, rule=rule) == pytest.approx(best["loss"], rel=1e-5)
    assert best["loss"] <= history[0]["loss"]
    assert [row["step"] for row in history] == [0, 5, 10, 15, 20, 23]


def test_each_layer_may_have_coefficients_of_its_own():
    wanted = [{"a": 0.5, "b": -0.25}, {"a": 0.0, "b": 1.0}]
    target = flat(START) + sum(
        flat({k: w[k] * v[k] for k in w}) for w, v in zip(wanted, VECTORS[:2], strict=True)
    )

    def loss(params, batch, key):
        return jnp.sum((flat(params) - target) ** 2)

    found, _ = fit(VECTORS[:2], loss=loss, rule="linear", granularity="layer", steps=400)
    np.testing.assert_allclose(found, [[0.5, 0.0], [-0.25, 1.0]], atol=5e-3)
    turned, _ = fit(VECTORS[:2], loss=loss, granularity="layer", steps=3)
    assert turned["position"].shape == (2, 1)


def test_a_fit_resumes_from_given_coefficients():
    found, _ = fit(VECTORS[:2], steps=50)
    again, history = fit(VECTORS[:2], steps=1, init=found)
    np.testing.assert_allclose(history[0]["loss"], loss_at(found, VECTORS[:2], rule="slerp"), rtol=1e-4)


def test_a_second_fit_compiles_nothing():
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=3)  # the step differentiates, the value does not
    def loss(params, batch, key):
        return jnp.sum(flat(params) ** 2)

    for seed in range(3):
        fit(VECTORS[seed % 2 : seed % 2 + 2], loss=loss, steps=4, key=np.int64(seed))


def test_sharded_trees_give_the_same():
    mesh = train.make_mesh(1, 4)
    place = train.path_shardings(START, mesh, [(r"", P("model"))])
    start, vectors = jax.device_put(START, place), [jax.device_put(v, place) for v in VECTORS]
    ours, _ = weights.fit_coefficients(quadratic, start, vectors, PROBE, steps=20)
    plain, _ = fit(steps=20)
    chex.assert_trees_all_close(ours, plain, atol=1e-4)


# Bounds, and what is refused


@pytest.mark.parametrize("rule", ["slerp", "linear"])
def test_coefficients_do_not_explode(rule):
    def downhill(params, batch, key):
        return -flat(params) @ flat(VECTORS[0]) + flat(params) @ flat(VECTORS[1])

    with pytest.warns(UserWarning, match=r"is at the limit 1.5; take more probe batches"):
        found, _ = fit(VECTORS[:2], loss=downhill, rule=rule, tx=optax.adam(1.0), steps=60, limit=1.5)
    assert all(np.abs(x).max() <= 1.5 for x in jax.tree.leaves(found))
    if rule == "slerp":
        assert 0 <= found["position"][0] <= 1


def test_a_loss_that_is_not_finite_is_told():
    def broken(params, batch, key):
        return jnp.log(flat(params)[0] * 0 - 1)

    refused("loss_fn: the loss is nan at step 0; look at the batches", lambda: fit(loss=broken, steps=3))

    def vector(params, batch, key):
        return flat(params)

    with pytest.raises(ValueError, match=r"loss_fn: the loss has shape \(12,\); return a scalar"):
        fit(loss=vector, steps=3)


ZERO = jax.tree.map(jnp.zeros_like, START)
TWICE = jax.tree.map(lambda x: -2 * x, VECTORS[0])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"vectors": [VECTORS[0], ZERO]}, r"vectors\[1\]: is zero, its model is the start; leave it out"),
        (
            {"vectors": [VECTORS[0], TWICE]},
            r"vectors: 0 and 1 are collinear \(cosine -1.0000\).*; leave one out",
        ),
        (
            {"vectors": [VECTORS[0], jax.tree.map(lambda x: x + jnp.nan, ZERO)]},
            r"vectors\[1\]: .*not finite; look",
        ),
        ({"vectors": VECTORS[:1]}, "vectors: 1; slerp needs at least 2"),
        ({"vectors": [VECTORS[0], {"a": START["a"]}]}, r"vectors\[1\]: .*start alone has 'b'; merge models"),
        ({"rule": "ties"}, "rule='ties': only linear and slerp can be fitted; choose"),
        ({"probe": []}, "batches: there are none; pass a list"),
        (
            {"vectors": VECTORS[:2], "init": {"position": 0.5, "scale": 3.0}},
            r"init: .*3.0.* leaves 0..2.0; raise",
        ),
        ({"init": 0.5}, "init: a greedy chain begins each fit anew; leave it out"),
    ],
)
def test_what_cannot_be_fitted_is_refused(options, match):
    refused(match, lambda: fit(**options))


def test_collinear_vectors_can_be_fitted_along_their_line():
    found, _ = fit([VECTORS[0], TWICE], rule="linear", steps=20)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("limit", 0.0), ("limit", float("inf"))])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}={value}"):
        fit(**{name: value})
