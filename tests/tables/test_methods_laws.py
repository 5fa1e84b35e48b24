"""Laws that hold for every method of compressed tables."""

import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from method_cases import BUDGETS, ENTRIES, INTEGERS, METHODS, SIZES, WIDTH, N, example
from refusals import refused

from jaxembed import tables
from jaxembed.train import TrainState

FLOATS = [name for name in METHODS if name not in INTEGERS]
ROWS = [name for name in FLOATS if METHODS[name](SIZES).codes is not None]
SEARCHED = "autodim"  # what it stores is known after training
SMALL = 92  # rows of a list


def everything():
    return {name: np.arange(size) for name, size in SIZES.items()}


def wrong(ids):
    """The ids of a batch, the first of each feature made a bad one."""
    return {n: jnp.asarray(x).at[0].set(-1) for n, x in ids.items()}


@functools.cache
def made(name):
    """The method, and what one program finds: its params, and vectors in training and deployed."""
    method = METHODS[name](SIZES)
    params = jax.jit(method.init)(jax.random.key(3))
    deploy = method.deploy if name == SEARCHED else jax.jit(method.deploy)
    deployed = deploy(params)

    @jax.jit
    def read(params, deployed, ids, whole, bad):
        found = {}
        for form, given in (("trained", params), ("served", deployed)):
            found[form] = method.vectors(given, ids)
            found[form + " whole"] = method.vectors(given, whole)
            found[form + " bad"] = method.vectors(given, bad)
        return found

    arrays = jax.tree.map(jnp.asarray, (example(), everything()))
    found = read(params, deployed, *arrays, wrong(example()))
    return method, found | {"params": params, "deployed": deployed}


def leaves(params):
    return sum(x.nbytes for x in jax.tree.leaves(params))


@pytest.mark.parametrize("name", METHODS)
def test_vectors_have_the_shape_of_the_ids_and_do_not_depend_on_it(name):
    _, found = made(name)
    ids, whole = example(), found["trained whole"]
    assert {n: v.shape for n, v in found["trained"].items()} == {n: (*x.shape, WIDTH) for n, x in ids.items()}
    chex.assert_trees_all_close(found["trained"], {n: whole[n][x] for n, x in ids.items()}, atol=1e-5)
    chex.assert_tree_all_finite(whole)
    assert float(np.std(whole["a"])) > 0.01  # neither zeros nor one vector for all


@pytest.mark.parametrize("name", METHODS)
def test_jit_is_eager_where_ids_are_numpy(name):
    method, found = made(name)
    for form, params in (("trained", "params"), ("served", "deployed")):
        chex.assert_trees_all_close(method.vectors(found[params], example()), found[form], atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_deployed_vectors_are_the_trained_ones(name):
    method, found = made(name)
    chex.assert_trees_all_close(found["served whole"], found["trained whole"], atol=1e-5)
    chex.assert_trees_all_equal(method.deploy(found["deployed"]), found["deployed"])


@pytest.mark.parametrize("name", METHODS)
def test_bytes_are_counted_leaves_and_known_before_training(name):
    method, found = made(name)
    params, deployed = found["params"], found["deployed"]
    assert method.bytes(deployed) == leaves(deployed)
    if name == SEARCHED:
        refused("after training", lambda: tables.storage_bytes(method))
    else:
        assert tables.storage_bytes(method) == leaves(deployed)
    assert method.bytes(params) == tables.training_bytes(method) >= leaves(params)


@pytest.mark.parametrize("name", METHODS)
def test_settings_are_json_and_name_the_method(name):
    settings = made(name)[0].settings
    assert json.loads(json.dumps(settings))["method"]


@pytest.mark.parametrize("name", METHODS)
def test_one_vocabulary_takes_an_array(name):
    if name == "mixed dimensions":
        pytest.skip("one feature is the smallest one and keeps its width")
    method = METHODS[name](50)
    found = jax.eval_shape(
        lambda key, ids: method.vectors(method.init(key), ids), jax.random.key(0), example(50)
    )
    assert found.shape == (6, 2, WIDTH)
    assert method.codes is None or all(list(g) == ["values"] for g in method.codes(example(50)).values())


@pytest.mark.parametrize("name", METHODS)
def test_a_vocabulary_of_one_value_works_or_says_why_not(name):
    try:
        method = METHODS[name]({"a": 1, "b": 1})
    except ValueError as error:
        assert "\n" not in str(error) and "; " in str(error)
        return
    ids = {"a": jnp.array([0]), "b": jnp.array([0])}
    params = method.deploy(jax.jit(method.init)(jax.random.key(0)))
    chex.assert_tree_all_finite(jax.jit(method.vectors)(params, ids))


@pytest.mark.parametrize("name", FLOATS)
def test_gradients_and_penalty_are_finite(name):
    method, found = made(name)

    def loss(params, key):
        found = method.vectors(params, example(), key)
        return sum(jnp.sum(jnp.cos(x)) for x in jax.tree.leaves(found)) + method.penalty(params)

    both = jax.jit(jax.grad(loss)), jax.jit(method.penalty)
    gradient, penalty = both[0](found["params"], jax.random.key(0)), both[1](found["params"])
    chex.assert_tree_all_finite(gradient)
    assert max(np.abs(g).max() for g in jax.tree.leaves(gradient)) > 0
    assert np.shape(penalty) == () and penalty >= 0


@functools.cache
def stepped(name):
    """Parameters after a step of SGD on example ids, {"listed": by lists of rows, "dense": by a gradient}."""
    method, found = made(name)
    params, codes = found["params"], method.codes(example())
    known = {"/".join(k.key for k in path) for path, _ in jax.tree.leaves_with_path(params)}
    rules = {path: optax.sgd(0.5) for path in codes if path in known}

    def loss_fn(params, batch, key):
        found = method.read(params, batch["codes"])
        return sum(jnp.sum(jnp.cos(3 * x)) for x in found.values()), {}

    @jax.jit
    def run(params, codes, batch):
        init, step = tables.row_update(loss_fn, optax.sgd(0.5), rules)
        listed = step(TrainState(jnp.int32(0), params, init(params), None), batch, jax.random.key(0))[
            0
        ].params
        gradient = jax.grad(lambda p: loss_fn(p, {"codes": codes}, None)[0])(params)
        return {"listed": listed, "dense": jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)}

    return run(params, codes, tables.touched_rows(method, example(), None, SMALL))


@pytest.mark.parametrize("name", ROWS)
def test_a_step_on_listed_rows_is_the_dense_step(name):
    chex.assert_trees_all_close(stepped(name)["listed"], stepped(name)["dense"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_a_batch_does_not_read_keep_their_bits(name):
    method, found = made(name)
    old = {"/".join(k.key for k in p): x for p, x in jax.tree.leaves_with_path(found["params"])}
    new = {"/".join(k.key for k in p): x for p, x in jax.tree.leaves_with_path(stepped(name)["listed"])}
    for path, group in method.codes(example()).items():
        if path not in old:
            continue
        read = np.concatenate([np.ravel(c) for c in group.values()])
        read = np.unique(np.where(read < -1, -2 - read, read))
        rest = np.setdiff1d(np.arange(len(old[path])), read)
        np.testing.assert_array_equal(np.asarray(new[path])[rest], np.asarray(old[path])[rest])
        moved = np.abs(np.asarray(new[path]) - np.asarray(old[path])).max()
        assert moved > 0 or path.startswith("threshold")


@pytest.mark.parametrize("name", METHODS)
def test_bad_ids_raise_on_the_host_and_read_zeros_under_jit(name):
    method, found = made(name)
    refused("-1", lambda: method.vectors(found["params"], {"a": np.array([-1])}))
    if "hash" not in name and "robe" not in name:  # those take any id
        refused("40", lambda: method.vectors(found["params"], {"a": np.array([40])}))
    for form in ("trained", "served"):
        for feature, vectors in found[form + " bad"].items():
            np.testing.assert_array_equal(vectors[0], 0)
            np.testing.assert_allclose(vectors[1:], found[form][feature][1:], atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_wrong_feature_or_dtype_is_refused(name):
    method, params = made(name)[0], made(name)[1]["params"]
    refused("c", lambda: method.vectors(params, {"c": np.array([1])}))
    refused("float", lambda: method.vectors(params, {"a": np.array([1.0])}))


@pytest.mark.parametrize("share", [0.6, 0.35])
@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_is_met_within_one_percent_or_the_next_sizes_are_named(name, share):
    make, options = BUDGETS[name]
    asked = share * 4 * ENTRIES
    try:
        method = tables.within(make, asked, **options)
    except ValueError as error:  # these tables are so small that a row is more than 1 %
        named = [int(word) for word in str(error).split() if word.isdigit()]
        assert " takes " in str(error) and "; " in str(error) and named
        assert all(abs(size - asked) > 0.01 * asked for size in named)
        return
    assert 0.99 * asked <= tables.storage_bytes(method) <= 1.01 * asked


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_below_the_floor_names_the_floor(name):
    make, options = BUDGETS[name]
    with pytest.raises(ValueError, match="takes at least [0-9]+ bytes here; give") as caught:
        tables.within(make, 1, **options)
    floor = int(str(caught.value).split("at least ")[1].split()[0])
    assert floor > 1
    method = tables.within(make, floor, **options)
    assert tables.storage_bytes(method) == floor
    assert method.settings["method"] in str(caught.value)


def test_the_list_has_every_method_of_the_room():
    found = {METHODS[name](SIZES).settings["method"] for name in METHODS}
    assert len(found) >= 18 and N == 61
