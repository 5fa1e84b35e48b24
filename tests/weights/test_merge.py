"""Merging: each rule against loops, closed forms, limits, groups, shards, and what is refused."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles_weights as oracles
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from refusals import refused

from jaxembed import train, weights

DEPTH = 3


def tree_of(seed, scale=1.0, dtype=np.float32):
    """A small model: two stacked arrays, a table, a scalar."""
    rng = np.random.default_rng(seed)
    made = {
        "blocks": {"kernel": rng.normal(size=(DEPTH, 4, 2)), "bias": rng.normal(size=(DEPTH, 2))},
        "table": {"embedding": rng.normal(size=(8, 4))},
        "scale": rng.normal(),
    }
    return jax.tree.map(lambda x: jnp.asarray(scale * x, dtype), made)


START, VECTORS = tree_of(0), [tree_of(i + 1, 0.5) for i in range(3)]
FISHERS = [jax.tree.map(lambda x: x**2, tree_of(i + 7)) for i in range(3)]
FLAT = [oracles.flat(v) for v in VECTORS]
CASES = {  # rule: (coefficients, options, the vector that is added)
    "linear": ([0.5, -1.0, 0.25], {}, 0.5 * FLAT[0] - FLAT[1] + 0.25 * FLAT[2]),
    "slerp": (
        {"position": [0.3, 0.6], "scale": [1.5, 0.5]},
        {},
        oracles.chain(FLAT, [0.3, 0.6], [1.5, 0.5]),
    ),
    "ties": ([1.0, 1.0, 0.5], {"density": 0.4}, oracles.ties([FLAT[0], FLAT[1], FLAT[2] / 2], 0.4, "mean")),
    "ties, sum": (0.3, {"density": 0.2, "reduce": "sum"}, 0.3 * oracles.ties(FLAT, 0.2, "sum")),
    "fisher": (
        [1.0, 2.0, 0.5],
        {"fishers": FISHERS},
        oracles.fisher(FLAT, [oracles.flat(f) for f in FISHERS], [1.0, 2.0, 0.5], True),
    ),
    "fisher, as it is": (
        1.0,
        {"fishers": FISHERS, "normalise": False},
        oracles.fisher(FLAT, [oracles.flat(f) for f in FISHERS], [1.0] * 3, False),
    ),
}


def rule_of(name):
    return name.partition(",")[0]


def added(coefficients, rule, vectors=VECTORS, **options):
    """What a merge adds to a start of zeros."""
    return weights.merge(jax.tree.map(jnp.zeros_like, START), vectors, coefficients, rule=rule, **options)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_equals_its_loop(name):
    coefficients, options, expected = CASES[name]
    merged = weights.merge(START, VECTORS, coefficients, rule=rule_of(name), **options)
    np.testing.assert_allclose(oracles.flat(merged), oracles.flat(START) + expected, atol=2e-6)
    chex.assert_trees_all_equal_shapes_and_dtypes(merged, START)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("granularity", ["layer", "tensor"])
def test_groups_are_merged_as_models_of_their_own(name, granularity):
    coefficients, options, _ = CASES[name]
    options = {"rule": rule_of(name), **options}
    whole = weights.merge(START, VECTORS, coefficients, granularity=granularity, **options)
    pick = {  # the numbers of one group
        "layer": lambda t: {"kernel": t["blocks"]["kernel"][1], "bias": t["blocks"]["bias"][1]},
        "tensor": lambda t: {"kernel": t["blocks"]["kernel"][1]},
    }[granularity]
    if "fishers" in options:
        options["fishers"] = [pick(f) for f in FISHERS]
    alone = weights.merge(pick(START), [pick(v) for v in VECTORS], coefficients, **options)
    chex.assert_trees_all_close(pick(whole), alone, atol=1e-6)


def test_each_group_may_have_its_own_coefficients():
    names = weights.group_names(START)
    assert names == ["blocks/0", "blocks/1", "blocks/2", "scale", "table"]
    rows = np.zeros((len(names), 3), np.float32)
    rows[names.index("blocks/1"), 2] = 1
    found = added(rows, "linear", granularity="layer")
    expected = jax.tree.map(jnp.zeros_like, START)
    expected["blocks"] = jax.tree.map(
        lambda x, y: x.at[1].set(y[1]), expected["blocks"], VECTORS[2]["blocks"]
    )
    chex.assert_trees_all_equal(found, expected)
    position = np.linspace(0, 1, len(names))[:, None]
    turned = added({"position": position, "scale": 1.0}, "slerp", vectors=VECTORS[:2], granularity="layer")
    chex.assert_trees_all_close(turned["blocks"]["kernel"][0], VECTORS[0]["blocks"]["kernel"][0], atol=1e-6)
    chex.assert_trees_all_close(turned["table"], VECTORS[1]["table"], atol=1e-6)
    assert weights.group_names(START, granularity="model") == ["model"]
    assert weights.group_names(START, stacked="") == ["blocks", "scale", "table"]


# Closed forms and limits


def pair(a, b):
    return [{"w": jnp.array(a, jnp.float32)}, {"w": jnp.array(b, jnp.float32)}]


def turned(vectors, position, scale=1.0):
    zero = jax.tree.map(jnp.zeros_like, vectors[0])
    return weights.merge(zero, vectors, {"position": [position], "scale": [scale]}, rule="slerp")["w"]


def test_slerp_at_its_ends_and_in_its_middle():
    vectors = VECTORS[:2]
    for position, end in ((0.0, vectors[0]), (1.0, vectors[1])):
        chex.assert_trees_all_close(added([position], "slerp", vectors=vectors), end, atol=1e-6)
    np.testing.assert_allclose(turned(pair([1, 0], [0, 1]), 0.5), [2**-0.5] * 2, rtol=1e-6)
    equal = pair([3.0, 4.0, 0.0], [0.0, 3.0, -4.0])
    for position in np.linspace(0, 1, 7):
        assert np.linalg.norm(turned(equal, position)) == pytest.approx(5, rel=1e-6)


@pytest.mark.parametrize("factor", [1e-12, 7.0, 1e12])
def test_slerp_scales_with_its_vectors(factor):
    vectors = pair([1.0, 2.0, -1.0], [0.5, 0.0, 2.0])
    scaled = jax.tree.map(lambda x: factor * x, vectors)
    np.testing.assert_allclose(turned(scaled, 0.3), factor * turned(vectors, 0.3), rtol=1e-5)


@pytest.mark.parametrize("other", [(2.0, 4.0), (-1.0, -2.0), (0.0, 0.0), (1.0, 2.0)])
def test_slerp_takes_the_straight_line_where_there_is_no_plane(other):
    vectors = pair((1.0, 2.0), other)
    expected = 0.75 * np.array([1.0, 2.0]) + 0.25 * np.array(other)
    np.testing.assert_allclose(turned(vectors, 0.25), expected, atol=1e-6)
    np.testing.assert_allclose(turned(vectors[::-1], 0.75), expected, atol=1e-6)
    gradient = jax.grad(lambda v, t: turned(v, t).sum(), (0, 1))(vectors, 0.25)
    chex.assert_tree_all_finite(gradient)
    np.testing.assert_allclose(gradient[1], np.sum(other) - 3, atol=1e-5)


def test_copies_of_one_vector():
    copies, vector = [VECTORS[0]] * 3, VECTORS[0]
    chex.assert_trees_all_close(added(1 / 3, "linear", vectors=copies), vector, rtol=1e-6)
    chex.assert_trees_all_close(added([0.5, 0.2], "slerp", vectors=copies), vector, rtol=1e-6)
    tripled = jax.tree.map(lambda x: 0.3 * 3 * x, vector)
    chex.assert_trees_all_close(added(0.3, "linear", vectors=copies), tripled, rtol=1e-5)
    trimmed = oracles.ties([FLAT[0]], 0.2, "mean")
    np.testing.assert_allclose(oracles.flat(added(1.0, "ties", vectors=copies)), trimmed, rtol=1e-6)
    assert (trimmed != 0).sum() == round(0.2 * len(trimmed))


def test_coefficients_that_select_one_task_give_its_model_bit_for_bit():
    rng = np.random.default_rng(0)
    start = {"w": jnp.asarray(rng.integers(-64, 64, 50) / 64, jnp.float32)}  # exact in float32
    models = [{"w": start["w"] + jnp.asarray(rng.integers(-64, 64, 50) / 64, jnp.float32)} for _ in range(3)]
    vectors = [weights.task_vector(m, start) for m in models]
    for t in range(3):
        chex.assert_trees_all_equal(weights.merge(start, vectors, np.eye(3)[t]), models[t])
    rounded = [weights.task_vector(v, START) for v in VECTORS]
    chex.assert_trees_all_close(weights.merge(START, rounded, [0, 1, 0]), VECTORS[1], atol=2e-7)


def test_fisher_weights_say_which_model_knows_a_coordinate():
    vectors = pair([2.0, 2.0, 4.0], [0.0, 4.0, -4.0])
    zero = {"w": jnp.zeros(3)}
    equal = [{"w": jnp.array([1.0, 2.0, 3.0])}] * 2
    found = weights.merge(zero, vectors, 1.0, rule="fisher", fishers=equal)
    np.testing.assert_allclose(found["w"], [1.0, 3.0, 0.0], atol=1e-6)
    known = [{"w": jnp.array([1.0, 0.0, 1.0])}, {"w": jnp.array([0.0, 1.0, 1.0])}]
    found = weights.merge(zero, vectors, 1.0, rule="fisher", fishers=known)
    np.testing.assert_allclose(found["w"], [2.0, 4.0, 0.0], atol=1e-4)
    for factor in (1e-9, 1e9):
        scaled = jax.tree.map(lambda x, f=factor: f * x, known)
        again = weights.merge(zero, vectors, 1.0, rule="fisher", fishers=scaled)
        np.testing.assert_allclose(again["w"], found["w"], rtol=1e-6)
    none = [known[0], {"w": jnp.zeros(3)}]
    assert np.isfinite(weights.merge(zero, vectors, 1.0, rule="fisher", fishers=none)["w"]).all()


def test_ties_elects_a_sign():
    vectors = pair([1.0, 3.0, -2.0], [-1.0, 1.0, -4.0])
    zero = {"w": jnp.zeros(3)}
    found = weights.merge(zero, vectors, 1.0, rule="ties", density=1)["w"]
    np.testing.assert_array_equal(found, [1.0, 2.0, -3.0])  # a sum of zero: one up, one down, so up
    downwards = pair([1.0, -3.0, -2.0], [-1.0, -1.0, -4.0])
    found = weights.merge(zero, downwards, 1.0, rule="ties", density=1)["w"]
    np.testing.assert_array_equal(found, [-1.0, -2.0, -3.0])


@pytest.mark.parametrize("density", [1e-9, 0.1, 0.5, 0.99, 1.0])
def test_ties_keeps_the_largest_magnitudes(density):
    x = np.random.default_rng(0).normal(size=(40, 25)).astype(np.float32) * 1e-20
    found = weights.merge({"w": jnp.zeros(x.shape)}, [{"w": x}], 1.0, rule="ties", density=density)["w"]
    count = max(1, round(density * x.size))
    limit = np.sort(np.abs(x).ravel())[-count]
    np.testing.assert_array_equal(found, np.where(np.abs(x) >= limit, x, 0))


def test_fisher_diagonal_is_the_mean_square_of_gradients():
    rng = np.random.default_rng(0)
    batches = [jnp.asarray(rng.normal(size=(4, 3)), jnp.float32) for _ in range(5)]
    params = {"w": jnp.asarray(rng.normal(size=3), jnp.float32)}

    def loss_fn(params, batch, key):
        return 0.5 * jnp.mean((batch @ params["w"]) ** 2)

    found = weights.fisher_diagonal(loss_fn, params, batches)["w"]
    expected = np.mean([(np.asarray(b).T @ (b @ params["w"]) / 4) ** 2 for b in batches], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# Transformations, dtypes, devices


def step_of(rule):
    """Coefficients c [3] as a rule that can be differentiated takes them."""
    if rule == "linear":
        return lambda c: weights.merge(START, VECTORS, c)
    return lambda c: weights.merge(START, VECTORS, {"position": c[:2], "scale": 1 + c[1:]}, rule="slerp")


@pytest.mark.parametrize("rule", ["linear", "slerp"])
def test_gradients_are_inner_products_and_central_differences(rule):
    target = tree_of(9)

    def loss(params):
        return 0.5 * sum(
            jnp.sum((x - y) ** 2) for x, y in zip(*map(jax.tree.leaves, (params, target)), strict=True)
        )

    merged, c = step_of(rule), jnp.array([0.3, 0.6, 0.4])
    found = jax.grad(lambda c: loss(merged(c)))(c)
    slope = jax.grad(loss)(merged(c))
    for i in range(3):
        tangent = jax.jvp(merged, (c,), (jnp.eye(3)[i],))[1]
        product = sum(jnp.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (slope, tangent)), strict=True))
        np.testing.assert_allclose(found[i], product, rtol=1e-4)
        step = 1e-2 * np.eye(3)[i]
        numeric = (loss(merged(c + step)) - loss(merged(c - step))) / 2e-2
        np.testing.assert_allclose(found[i], numeric, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", CASES)
def test_jit_and_vmap_give_what_a_plain_call_gives(name):
    coefficients, options, _ = CASES[name]
    options = {"rule": rule_of(name), **options}
    plain = weights.merge(START, VECTORS, coefficients, **options)
    compiled = jax.jit(lambda s, v: weights.merge(s, v, coefficients, **options))(START, VECTORS)
    chex.assert_trees_all_close(compiled, plain, rtol=1e-5, atol=1e-6)
    twice = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), (START, VECTORS))
    both = jax.vmap(lambda s, v: weights.merge(s, v, coefficients, **options))(*twice)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[0], both), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_sharded_leaves_stay_sharded_and_give_the_same(name):
    coefficients, options, _ = CASES[name]
    options = {"rule": rule_of(name), **options}
    plain = weights.merge(START, VECTORS, coefficients, **options)
    mesh = train.make_mesh(2, 4)
    rules = [(r"table/", P("model", None)), (r"kernel", P(None, "model", "data"))]

    def placed(tree):
        return jax.device_put(tree, train.path_shardings(tree, mesh, rules))

    if "fishers" in options:
        options["fishers"] = [placed(f) for f in FISHERS]
    start = placed(START)
    found = weights.merge(start, [placed(v) for v in VECTORS], coefficients, **options)
    chex.assert_trees_all_close(found, plain, rtol=1e-5, atol=1e-6)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(start), strict=True):
        assert x.sharding.is_equivalent_to(y.sharding, x.ndim)
    assert isinstance(found["table"]["embedding"].sharding, NamedSharding)


@pytest.mark.parametrize("granularity", ["model", "layer"])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_a_walk_through_large_leaves_gives_what_products_give(granularity, dtype):
    shapes = {"blocks": {"kernel": (2, 256, 96)}, "table": (12_288, 3), "odd": (20_011,)}  # the last is prime

    def drawn(seed):
        rng, is_shape = np.random.default_rng(seed), lambda x: isinstance(x, tuple)
        return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s), dtype), shapes, is_leaf=is_shape)

    start, *vectors = map(drawn, range(4))
    chain = {"position": [0.3, 0.6], "scale": [1.5, 0.5]}
    merged = functools.partial(weights.merge, rule="slerp", granularity=granularity)
    found = merged(start, vectors, chain)  # arrays of one CPU are walked through, traced ones are not
    chex.assert_trees_all_close(found, jax.jit(merged)(start, vectors, chain), rtol=1e-2, atol=1e-5)
    if granularity == "model" and dtype == np.float32:
        expected = oracles.chain([oracles.flat(v) for v in vectors], [0.3, 0.6], [1.5, 0.5])
        np.testing.assert_allclose(oracles.flat(found), oracles.flat(start) + expected, atol=1e-5)


def test_narrow_parameters_lose_no_small_step():
    start = jax.tree.map(lambda x: x.astype(jnp.bfloat16), START)
    moved = jax.tree.map(lambda x: (x * 1.02).astype(jnp.bfloat16), start)
    vector = weights.task_vector(moved, start)
    assert {x.dtype for x in jax.tree.leaves(vector)} == {jnp.dtype(jnp.float32)}
    chex.assert_trees_all_equal(weights.merge(start, [vector], 1.0), moved)
    halves = [jax.tree.map(lambda x: x / 64, vector)] * 64
    chex.assert_trees_all_equal(weights.merge(start, halves, 1.0), moved)


def test_the_start_may_be_given_away():
    start = jax.tree.map(jnp.copy, START)
    found = weights.merge(start, VECTORS, 0.5, donate=True)
    chex.assert_trees_all_equal(found, weights.merge(START, VECTORS, 0.5))
    assert start["table"]["embedding"].is_deleted()


# What is refused


def without(tree, name, **more):
    return {k: v for k, v in tree.items() if k != name} | more


@pytest.mark.parametrize(
    ("vector", "match"),
    [
        (without(START, "scale"), "start alone has 'scale'"),
        (START | {"head": jnp.zeros(2)}, r"vectors\[1\] alone has 'head'"),
        (
            without(START, "scale", head=jnp.zeros(2)),
            r"vectors\[1\] alone has 'head' and start alone has 'scale'",
        ),
        (START | {"scale": jnp.zeros(2)}, r"'scale' has shape \(2,\), in start \(\)"),
        (START | {"scale": jnp.int32(1)}, "'scale' is int32"),
    ],
)
def test_models_of_other_names_or_shapes_are_named(vector, match):
    refused(rf"^vectors\[1\]: .*{match}.*", lambda: weights.merge(START, [VECTORS[0], vector], 0.5))
    told = match.replace(r"vectors\[1\]", "params")
    refused(f"^params: .*{told}", lambda: weights.task_vector(vector, START))


@pytest.mark.parametrize(
    ("coefficients", "options", "match"),
    [
        ([0.5, 0.5], {}, r"coefficients: shape \(2,\); pass a number, \[3\] or \[1, 3\]"),
        ([np.nan, 0, 0], {}, r"coefficients: .*nan.* is not finite"),
        (np.inf, {"rule": "ties"}, "coefficients: .*inf.* is not finite"),
        ([0.5, 1.5], {"rule": "slerp"}, "position: .*1.5.* leaves 0..1"),
        ([0.5, -0.5], {"rule": "slerp"}, "position: .* leaves 0..1"),
        ({"t": 0.5}, {"rule": "slerp"}, "coefficients: .*'t'.*; slerp takes"),
        ({"position": 0.5, "scale": [1.0]}, {"rule": "slerp"}, r"scale: shape \(1,\)"),
        ({"position": 0.5, "scale": np.inf}, {"rule": "slerp"}, "scale: .*not finite"),
        (1.0, {"rule": "mean"}, "rule='mean': choose one of linear, slerp, ties, fisher"),
        (1.0, {"granularity": "head"}, "granularity='head': choose one of model, layer, tensor"),
        (1.0, {"rule": "ties", "density": 0}, "density=0: choose a share"),
        (1.0, {"rule": "ties", "reduce": "max"}, "reduce='max': choose mean or sum"),
        (1.0, {"rule": "fisher"}, "fishers: pass them with rule"),
        (1.0, {"fishers": FISHERS}, "fishers: pass them with rule"),
        (1.0, {"rule": "fisher", "fishers": FISHERS[:2]}, "fishers: 2 for 3 vectors"),
        (-1.0, {"rule": "fisher", "fishers": FISHERS}, "coefficients: fisher needs numbers of at least 0"),
        ([0, 0, 0], {"rule": "fisher", "fishers": FISHERS}, "coefficients: fisher needs"),
    ],
)
def test_what_does_not_fit_is_refused(coefficients, options, match):
    with pytest.raises(ValueError, match=match) as caught:
        weights.merge(START, VECTORS, coefficients, **options)
    assert "\n" not in str(caught.value)


def test_too_few_vectors_are_refused():
    refused("vectors: 0; linear needs at least 1", lambda: weights.merge(START, [], 1.0))
    refused(
        "vectors: 1; slerp needs at least 2", lambda: weights.merge(START, VECTORS[:1], 0.5, rule="slerp")
    )
    refused("batches: there are none", lambda: weights.fisher_diagonal(None, START, []))
