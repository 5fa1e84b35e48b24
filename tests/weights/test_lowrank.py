"""Adapters: what they add, how they train, how they are merged."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from refusals import refused

from jaxembed import train, weights

RNG = np.random.default_rng(0)
PARAMS = {
    "blocks": {"query": {"kernel": jnp.asarray(RNG.normal(size=(2, 6, 4)), jnp.float32)}},
    "head": {"kernel": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32), "bias": jnp.ones(3)},
}


def drawn(seed=0, **options):
    """Adapters whose factors are all random, as after training."""
    made = weights.init_low_rank(jax.random.key(seed), PARAMS, "kernel", 2, **options)
    return jax.tree.map(
        lambda x: x + jnp.asarray(np.random.default_rng(seed).normal(size=x.shape), x.dtype), made
    )


@pytest.mark.parametrize("magnitudes", [False, True])
def test_new_adapters_change_nothing(magnitudes):
    adapters = weights.init_low_rank(jax.random.key(0), PARAMS, "kernel", 2, magnitudes=magnitudes)
    chex.assert_trees_all_equal(weights.low_rank(PARAMS, adapters), PARAMS)
    query = adapters["blocks"]["query"]["kernel"]
    shapes = {"down": (2, 6, 2), "up": (2, 2, 4)} | ({"magnitude": (2, 4)} if magnitudes else {})
    assert {n: x.shape for n, x in query.items()} == shapes
    assert set(adapters["head"]) == {"kernel"}
    wide = {"w": jnp.zeros((4000, 8))}
    down = weights.init_low_rank(jax.random.key(1), wide, "w", 8)["w"]["down"]
    assert float(jnp.std(down)) == pytest.approx(4000**-0.5, rel=0.05)


@pytest.mark.parametrize("magnitudes", [False, True])
def test_kernels_are_those_of_the_formula(magnitudes):
    adapters = drawn(magnitudes=magnitudes)
    found = weights.low_rank(PARAMS, adapters, 0.5)
    for path in (("blocks", "query"), ("head",)):
        kernel, adapter, ours = PARAMS, adapters, found
        for name in (*path, "kernel"):
            kernel, adapter, ours = kernel[name], adapter[name], ours[name]
        for row in np.ndindex(kernel.shape[:-2]):
            w = np.asarray(kernel[row]) + 0.5 * np.asarray(adapter["down"][row]) @ np.asarray(
                adapter["up"][row]
            )
            if magnitudes:
                w = np.asarray(adapter["magnitude"][row]) * w / np.linalg.norm(w, axis=0)
            np.testing.assert_allclose(ours[row], w, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_equal(found["head"]["bias"], PARAMS["head"]["bias"])


def test_the_length_of_a_column_is_a_constant_of_the_gradient():
    adapters = {"head": {"kernel": drawn(magnitudes=True)["head"]["kernel"]}}

    def value(a):
        return jnp.sum(weights.low_rank(PARAMS, a)["head"]["kernel"] ** 2)

    gradient = jax.grad(value)(adapters)["head"]["kernel"]
    one = adapters["head"]["kernel"]
    w = PARAMS["head"]["kernel"] + one["down"] @ one["up"]
    m, length = one["magnitude"], jnp.linalg.norm(w, axis=0)
    np.testing.assert_allclose(gradient["magnitude"], 2 * m, rtol=1e-4)
    slope = 2 * m**2 * w / length**2  # of sum (m w / |w|)^2 by w, with |w| held
    np.testing.assert_allclose(gradient["up"], one["down"].T @ slope, rtol=1e-4, atol=1e-4)


def test_adapters_learn_what_a_kernel_lacks():
    target = weights.low_rank(PARAMS, drawn(3))
    adapters = weights.init_low_rank(jax.random.key(0), PARAMS, "query/kernel", 2)

    def loss(a):
        gap = weights.low_rank(PARAMS, a)["blocks"]["query"]["kernel"] - target["blocks"]["query"]["kernel"]
        return jnp.sum(gap**2)

    before, step = loss(adapters), jax.jit(jax.grad(loss))
    for _ in range(300):
        adapters = jax.tree.map(lambda x, g: x - 0.02 * g, adapters, step(adapters))
    assert loss(adapters) < 0.02 * before


def test_what_adapters_add_is_merged_like_any_task_vector():
    first, second = drawn(1), drawn(2)
    vectors = [weights.task_vector(weights.low_rank(PARAMS, a), PARAMS) for a in (first, second)]
    merged = weights.merge(PARAMS, vectors, [0.25, 0.75])
    joined = {  # one adapter of twice the rank adds both products
        "down": jnp.concatenate(
            [0.25 * first["head"]["kernel"]["down"], 0.75 * second["head"]["kernel"]["down"]], 1
        ),
        "up": jnp.concatenate([first["head"]["kernel"]["up"], second["head"]["kernel"]["up"]], 0),
    }
    expected = weights.low_rank(PARAMS, {"head": {"kernel": joined}})["head"]["kernel"]
    np.testing.assert_allclose(merged["head"]["kernel"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["linear", "slerp", "ties"])
def test_adapters_are_trees_that_every_rule_merges(rule):
    start, trained = drawn(0, magnitudes=True), [drawn(s, magnitudes=True) for s in (1, 2)]
    vectors = [weights.task_vector(x, start) for x in trained]
    found = weights.merge(start, vectors, {"slerp": [0.5]}.get(rule, 0.5), rule=rule)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, start)
    assert np.isfinite(weights.low_rank(PARAMS, found)["head"]["kernel"]).all()

    def loss_fn(adapters, batch, key):
        return jnp.sum(weights.low_rank(PARAMS, adapters)["head"]["kernel"] ** 2)

    if rule != "ties":  # without magnitudes, whose norms are constants of the gradient
        start, trained = drawn(0), [drawn(s) for s in (1, 2)]
        vectors = [weights.task_vector(x, start) for x in trained]
        fitted, history = weights.fit_coefficients(loss_fn, start, vectors, [None], rule=rule, steps=40)
        assert min(row["loss"] for row in history) < history[0]["loss"]


def test_sharded_kernels_stay_where_they_are():
    place = train.path_shardings(PARAMS, train.make_mesh(1, 2), [(r"query", P(None, "model", None))])
    placed, adapters = jax.device_put(PARAMS, place), drawn(1)
    found = jax.jit(weights.low_rank, out_shardings=place)(placed, adapters)
    chex.assert_trees_all_close(found, weights.low_rank(PARAMS, adapters), rtol=1e-5)


def test_narrow_kernels_stay_narrow():
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    adapters = weights.init_low_rank(jax.random.key(0), narrow, "kernel", 2)
    assert {x.dtype for x in jax.tree.leaves(adapters)} == {jnp.dtype(jnp.float32)}
    chex.assert_trees_all_equal(weights.low_rank(narrow, adapters), narrow)
    zero = {"w": jnp.zeros((4, 3))}
    made = weights.init_low_rank(jax.random.key(0), zero, "w", 2, magnitudes=True)
    assert not np.asarray(weights.low_rank(zero, made)["w"]).any()


def test_what_does_not_fit_is_refused():
    def made(pattern, rank=2):
        return weights.init_low_rank(jax.random.key(0), PARAMS, pattern, rank)

    refused("pattern='embedding' matches no parameter; paths begin", lambda: made("embedding"))
    refused("pattern: 'head/bias' is float32 .*, not a kernel of floats; match", lambda: made("head"))
    with pytest.raises(ValueError, match="rank=5 is outside 1..4, what 'blocks/query/kernel'"):
        made("query", 5)
    adapters = made("kernel")
    other = {"tail": adapters["head"]}
    refused("adapters: 'tail' is not among the params; pass", lambda: weights.low_rank(PARAMS, other))
    wrong = {"head": {"kernel": adapters["head"]["kernel"] | {"up": jnp.zeros((2, 9))}}}
    refused(r"adapters: 'head/kernel' has down .*\(4, 3\); pass", lambda: weights.low_rank(PARAMS, wrong))


def test_a_pattern_that_is_no_regex_is_refused_in_one_line():
    refused(
        r"pattern='\(' is not a regex: .*; write",
        lambda: weights.init_low_rank(jax.random.key(0), PARAMS, "(", 2),
    )
