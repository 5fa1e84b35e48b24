"""Models of clicks on compressed tables: members learn, codes stay, the stages of OptEmbed go together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxembed import data, metrics, recipes, tables, train

TABLE = data.toy.planted_clicks(1, rows=6000, values=12)
SIZES, WIDTH = TABLE["sizes"], 4
FIT = {"epochs": 3, "batch_size": 200, "hidden": (16,)}


def auc(method, params, part="test"):
    rows, columns = TABLE["splits"][part], TABLE["columns"]
    ids = {n: x[rows] for n, x in columns["ids"].items()}
    found = jax.jit(functools.partial(recipes.click_logits, method))(params, ids)
    return float(metrics.auc(columns["labels"][rows], np.asarray(found)))


def member(params, m):
    return jax.tree.map(lambda x: x[m], params)


def test_members_learn_each_with_its_rate():
    method = tables.full_table(SIZES, WIDTH)
    params = recipes.fit_click_methods(TABLE, method, seeds=[0, 0], rates=[0.0, 0.02], **FIT)
    assert auc(method, member(params, 1)) > 0.7 > auc(method, member(params, 0)) + 0.1


def test_features_are_read_in_one_order_whatever_the_table_has():
    """jit sorts the names of a dict; a table in another order must give the same model."""
    columns = TABLE["columns"]
    turned = TABLE | {"columns": columns | {"ids": dict(reversed(columns["ids"].items()))}}
    method = tables.full_table(SIZES, WIDTH)
    both = [
        recipes.fit_click_methods(t, method, seeds=[0], rates=[0.02], **FIT | {"epochs": 1})
        for t in (TABLE, turned)
    ]
    for one, other in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_start_that_is_deployed_keeps_its_codes_and_trains_its_floats():
    method = tables.dedup(SIZES, WIDTH, keep=10, block=4)
    params = recipes.fit_click_methods(TABLE, method, seeds=[0, 1], rates=[0.02, 0.02], **FIT)
    start = params | {"table": jax.vmap(method.deploy)(params["table"])}
    tuned = recipes.fit_click_methods(TABLE, method, seeds=[0, 1], rates=[0.02, 0.02], start=start, **FIT)
    assert jax.tree.structure(tuned["table"]) == jax.tree.structure(start["table"])
    np.testing.assert_array_equal(tuned["table"]["map"], start["table"]["map"])
    assert (tuned["table"]["table"]["embedding"] != start["table"]["table"]["embedding"]).any()
    assert auc(method, member(tuned, 0), "train") > auc(method, member(start, 0), "train")


def test_an_update_on_two_levels_sees_validation_rows():
    method = tables.autosrh(SIZES, WIDTH, keep=100, counts={n: np.ones(12) for n in SIZES}, groups=1)
    rule = tables.autosrh_rule(0.05)

    def update(loss_fn, rate):
        return train.bilevel_update(loss_fn, optax.adam(rate), "alpha", rule)

    params = recipes.fit_click_methods(TABLE, method, seeds=[0], rates=[0.02], update=update, **FIT)
    gates = params["table"]["gates"]["alpha"]
    assert (gates != 1).any() and ((gates >= 0) & (gates <= 1)).all()


def test_the_stages_of_opt_embed_give_a_small_table_that_predicts():
    net = tables.supernet(SIZES, WIDTH, weight=0.05)
    params = recipes.fit_click_methods(
        TABLE, net, seeds=[0], rates=[0.02], update=recipes.supernet_update, **FIT
    )
    params = member(params, 0)
    assert (params["table"]["threshold"] > 0).all()
    score = recipes.masked_auc(TABLE, params["network"], most=1000)
    rows = TABLE["splits"]["validation"][:1000]
    ids = {n: x[rows] for n, x in TABLE["columns"]["ids"].items()}
    labels = TABLE["columns"]["labels"][rows]
    whole = metrics.auc(labels, np.asarray(recipes.click_logits(net, params, ids)))
    mask = jnp.asarray(tables.kept_rows(params["table"], SIZES))[:, None]
    table = params["table"]["table"]["embedding"] * mask
    assert float(score(table)) == pytest.approx(float(whole), abs=1e-6)
    options = {"weight": 0.05, "generations": 4, "mutated": 4, "crossed": 4, "parents": 4}
    kept, widths = tables.search_masks(jax.random.key(0), params["table"], SIZES, score, **options)
    method = tables.masked_table(SIZES, WIDTH, kept=kept, widths=widths)
    small = member(recipes.fit_click_methods(TABLE, method, seeds=[0], rates=[0.02], **FIT), 0)
    deployed = small | {"table": method.deploy(small["table"])}
    assert auc(method, deployed) == auc(method, small) > 0.65


def test_bad_input_is_named():
    method, given = tables.full_table(SIZES, WIDTH), {"seeds": [0], "rates": [0.1]}
    with pytest.raises(ValueError, match="batch_size=5000: give 1 to 4000, the number of training rows"):
        recipes.fit_click_methods(TABLE, method, batch_size=5000, **given)
    bags = {**TABLE["columns"], "ids": {"tags": np.zeros((6000, 2), np.int32)}}
    with pytest.raises(ValueError, match=r"features \['tags'\] have several values per row"):
        recipes.fit_click_methods(TABLE | {"columns": bags}, method, **given)
