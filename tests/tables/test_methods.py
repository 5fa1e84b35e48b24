"""Methods of methods, budgets and rows that a batch touches; what restoring refuses."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused

from jaxembed import tables, train

IDS = {"user": np.array([3, 3, 999]), "sex": np.array([[0, 1], [1, 1], [0, 0]])}


def mixed():
    return {"user": tables.quotient_remainder(1000, 4, rows=70), "sex": tables.full_table(2, 4)}


def test_a_method_per_feature_is_each_of_them_alone():
    method = tables.per_feature(mixed())
    params = method.init(jax.random.key(0))
    found = method.vectors(params, IDS)
    for name, alone in mixed().items():
        np.testing.assert_array_equal(found[name], alone.vectors(params[name], IDS[name]))
    assert method.bytes(params) == tables.storage_bytes(method) == 70 * 16 + 2 * 16
    only = method.vectors(params, {"sex": IDS["sex"]})
    assert list(only) == ["sex"]


def test_rows_of_a_method_per_feature_have_a_list_for_each_table():
    method = tables.per_feature(mixed())
    mask = {"sex": np.array([[True, False], [False, False], [True, True]])}
    batch = tables.touched_rows(method, IDS, mask, 8)
    assert sorted(batch["rows"]) == ["sex/table/embedding", "user/table/embedding"]
    assert batch["rows"]["sex/table/embedding"][0] == 0 and batch["rows"]["sex/table/embedding"][1] >= 2
    params = method.init(jax.random.key(0))
    small = {
        name: {
            "table": {"embedding": params[name]["table"]["embedding"].at[rows].get(mode="fill", fill_value=0)}
        }
        for name, rows in ((n, batch["rows"][f"{n}/table/embedding"]) for n in IDS)
    }
    found, whole = method.read(small, batch["codes"]), method.vectors(params, IDS)
    np.testing.assert_array_equal(found["user"], whole["user"])
    np.testing.assert_array_equal(found["sex"], np.where(mask["sex"][..., None], whole["sex"], 0))


def test_a_key_draws_other_noise_for_every_feature():
    method = tables.per_feature({n: tables.autodim(20, 4) for n in ("a", "b")})
    alone = tables.autodim(20, 4)
    params = alone.init(jax.random.key(0))
    found = method.vectors({"a": params, "b": params}, dict.fromkeys("ab", np.arange(20)), jax.random.key(1))
    assert float(jnp.abs(found["a"] - found["b"]).max()) > 0


def test_methods_that_read_no_rows_say_so():
    for method in (tables.dhe(10, 4, hidden=2, hashes=4), tables.per_feature({"a": tables.autodim(10, 4)})):
        refused("reads no rows", lambda method=method: tables.touched_rows(method, {"a": IDS}, None, 4))


def test_fine_tuning_trains_what_was_deployed_under_the_same_codes():
    method = tables.deeplight({"user": 30}, 4, keep=50)
    deployed = method.deploy(method.init(jax.random.key(0)))
    tuned = tables.fine_tuned(method, deployed)
    params = tuned.init(jax.random.key(1))
    assert list(params["sparse"]) == ["values"]
    ids = {"user": np.arange(30)}
    chex.assert_trees_all_equal(tuned.vectors(params, ids), method.vectors(deployed, ids))
    gradient = jax.grad(lambda p: jnp.sum(tuned.vectors(p, ids)["user"] ** 2))(params)
    new = tuned.deploy(jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient))
    chex.assert_trees_all_equal(new["sparse"]["flags"], deployed["sparse"]["flags"])
    np.testing.assert_allclose(method.vectors(new, ids)["user"], 0, atol=1e-6)
    assert tuned.bytes(params) == method.bytes(deployed)
    refused("no floats", lambda: tables.fine_tuned(method, {"codes": jnp.zeros(3, jnp.int32)}))


def test_budgets_meet_a_share_of_a_large_table_for_every_setting():
    sizes, width = {"user": 3000, "item": 2000, "sex": 2}, 16
    makes = {
        "hash": (lambda rows: tables.hash_table(sizes, width, rows=rows), {}),
        "qr": (lambda rows: tables.quotient_remainder(sizes, width, rows=rows), {}),
        "robe": (lambda slots: tables.robe(sizes, width, slots=slots), {}),
        "mde": (lambda a: tables.mixed_dimensions(sizes, width, alpha=a), {"low": 0.0, "high": 1.0}),
        "deeplight": (lambda keep: tables.deeplight(sizes, width, keep=keep), {}),
    }
    for share in (0.5, 0.1):
        asked = share * 4 * width * sum(sizes.values())
        for name, (make, options) in makes.items():
            found = tables.storage_bytes(tables.within(make, asked, **options))
            assert 0.99 * asked <= found <= asked, name


def test_a_budget_out_of_reach_names_what_can_be_reached():
    def integers(bits):
        return tables.integer_table(1000, 16, bits=int(bits))

    refused("at least 16004", lambda: tables.within(integers, 10_000, low=8, high=16))
    refused("at most 32004", lambda: tables.within(integers, 64_000, low=8, high=16))
    refused(
        "takes 16004 or 32004 bytes here, its next sizes, and 16004 at least",
        lambda: tables.within(integers, 20_000, low=8, high=16),
    )
    assert tables.within(integers, 16_100, low=8, high=16).settings["bits"] == 8
    refused("quotient_remainder takes at least", lambda: tables.within(compositional, 100))
    refused("float setting", lambda: tables.within(integers, 100, low=0.5))
    for wrong in (0, -5, True, "a", np.nan):
        refused("bytes=", lambda wrong=wrong: tables.within(integers, wrong))
    for wrong in (-0.1, np.nan):
        refused("tolerance=", lambda wrong=wrong: tables.within(compositional, 800, tolerance=wrong))


def test_few_steps_of_a_setting_are_met_within_one_percent_or_the_floor_is_named():
    sizes, width = {"user": 944, "item": 1613}, 16
    makes = {
        "tensor_train": lambda rank: tables.tensor_train(sizes, width, rank=rank),
        "dhe": lambda hidden: tables.dhe(sizes, width, hidden=hidden, hashes=32, layers=2),
    }
    for name, make in makes.items():
        floor, seen = tables.storage_bytes(make(1)), set()
        for asked in (2 * floor, 4000, 12_345, 40_000, 90_000):
            try:
                found = tables.storage_bytes(tables.within(make, asked))
                assert 0.99 * asked <= found <= 1.01 * asked
                seen.add("met")
            except ValueError as error:
                assert f"{name} takes" in str(error) and f"{floor} at least" in str(error)
                seen.add("refused")
            assert tables.storage_bytes(tables.within(make, asked, tolerance=0.3)) <= 1.3 * asked
        assert seen == {"met", "refused"}


def compositional(rows):
    return tables.quotient_remainder(1000, 4, rows=rows)


def test_no_setting_at_all_raises_what_the_method_says():
    refused("block=3", lambda: tables.within(lambda n: tables.robe(10, 4, slots=n, block=3), 100, high=40))


def fitted(method, folder, steps=2):
    def loss_fn(params, batch, key):
        return jnp.mean(method.vectors(params, batch["ids"]) ** 2), {}

    return train.fit(
        init=method.init,
        loss_fn=loss_fn,
        tx=optax.sgd(0.1),
        batches=[{"ids": np.arange(8)}] * steps,
        steps=steps,
        mesh=train.make_mesh(1),
        workdir=folder,
        meta=method.settings,
        save_every=1,
        progress=False,
    )


def test_a_table_restored_with_other_settings_is_refused_by_name(tmp_path):
    fitted(tables.hash_table(100, 4, rows=10, seed=1), tmp_path)
    with pytest.raises(ValueError, match="seed") as caught:
        fitted(tables.hash_table(100, 4, rows=10, seed=2), tmp_path, 3)
    assert "\n" not in str(caught.value)


def test_arrays_of_other_settings_are_refused_before_they_are_read():
    method = tables.dpq(100, 8, parts=4, centres=8)
    params = method.init(jax.random.key(0))
    for other in (tables.dpq(100, 8, parts=2, centres=8), tables.dpq(100, 8, parts=4, centres=4)):
        refused("params: ", lambda other=other: tables.check_params(other, params))
    tables.check_params(method, params)
    tables.check_params(method, method.deploy(params))
    refused("params: ", lambda: tables.check_params(method, {"table": params["table"]}))
    wrong = jax.tree.map(lambda x: x.astype(jnp.float16), params)
    refused("params: ", lambda: tables.check_params(method, wrong))
    spoilt = params | {"table": {"embedding": params["table"]["embedding"].at[0, 0].set(jnp.nan)}}
    refused("NaN", lambda: tables.check_params(method, spoilt))


def test_ids_may_be_constants_under_jit():
    table, ids = tables.full_table(5, 4), jnp.array([4, 0])
    params = table.init(jax.random.key(0))
    np.testing.assert_array_equal(jax.jit(lambda: table.vectors(params, ids))(), table.vectors(params, ids))
    refused("ids: feature 'values' holds id 5", lambda: table.vectors(params, ids + 1))
