"""Rows that a batch touches train as the dense rule does, and no others."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trained_tables import (
    PATH,
    TABLE_RULES,
    TX,
    Batches,
    V,
    by_rows,
    dense_result,
    example,
    fit,
    init,
    listed,
    loss_fn,
    numbers,
    optimized,
)

from jaxembed import tables, train
from jaxembed.tables import Feature


@pytest.mark.parametrize("rule", TABLE_RULES)
def test_rows_train_as_the_dense_rule_does(rule):
    ours, theirs = fit(by_rows(rule), Batches(listed)), dense_result(rule)
    chex.assert_trees_all_close(numbers(ours)[0], numbers(theirs)[0], atol=1e-6)
    table_state = jax.tree.leaves(ours.opt_state["rows"])
    dense_state = jax.tree.leaves(theirs.opt_state.inner_states["0"])
    chex.assert_trees_all_close(table_state, dense_state, atol=1e-6)
    assert rule != "row-wise adagrad" or table_state[0].shape == (V, 1)


def test_on_one_device_sgd_on_rows_gives_the_bits_of_dense_sgd():
    sgd, tx = TABLE_RULES["sgd"], optax.adam(1e-2)  # new: nothing compiled without optimizations is found
    theirs = train.by_path([(r"^table/", sgd)], tx)
    with optimized():
        ours = fit(tables.row_update(loss_fn, tx, {PATH: sgd}), Batches(listed), steps=3)
        dense_run = fit(train.gradient_update(loss_fn, theirs), Batches(), steps=3)
    chex.assert_trees_all_equal(numbers(ours)[0]["table"], numbers(dense_run)[0]["table"])


@pytest.mark.parametrize("rule", [*TABLE_RULES, "adamw"])
def test_rows_that_no_batch_touches_keep_their_bits(rule):
    if rule == "adamw":
        update = tables.row_update(loss_fn, TX, {PATH: optax.adamw(0.1, weight_decay=0.3)})
    else:
        update = by_rows(rule)
    start = fit(update, Batches(listed), steps=0)
    end = fit(update, Batches(listed))
    touched = np.concatenate([listed(example(t))["rows"][PATH] for t in range(4)])
    untouched = np.setdiff1d(np.arange(V), touched)
    assert 20 < len(untouched) < V
    before, after = (
        [
            x
            for x in jax.tree.leaves((numbers(s)[0]["table"], numbers(s)[1]["rows"]))
            if x.ndim and len(x) == V
        ]
        for s in (start, end)
    )
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x[untouched], y[untouched])
        assert (x[np.setdiff1d(np.arange(V), untouched)] != y[np.setdiff1d(np.arange(V), untouched)]).any()


def one_step(rule, table, codes, cotangents, size=8):
    """The table after one step whose gradient of row codes[i] is cotangents[i]."""

    def loss(params, batch, key):
        return jnp.sum(tables.rows_of(params["t"], batch["codes"]) * batch["cotangents"]), {}

    rows, local = tables.distinct({"a": np.array(codes)[:, None]}, None, len(table), size)
    init_update, step = tables.row_update(loss, optax.identity(), {"t": rule})
    params = {"t": jnp.asarray(table)}
    state = train.TrainState(jnp.int32(0), params, init_update(params))
    batch = {"codes": local["a"][:, 0], "cotangents": cotangents, "rows": {"t": rows}}
    return np.asarray(jax.jit(step)(state, batch, jax.random.key(0))[0].params["t"])


def test_gradients_of_a_repeated_row_are_added_before_the_rule():
    table, g = np.ones((5, 2), np.float32), np.array([[1.0, 2], [3, -1], [5, 5]], np.float32)
    moved = one_step(optax.adagrad(0.1, initial_accumulator_value=0.0), table, [3, 3, 1], g)
    np.testing.assert_allclose(moved[3], 1 - 0.1 * np.sign(g[0] + g[1]), atol=1e-5)
    np.testing.assert_allclose(moved[1], 0.9, atol=1e-5)
    np.testing.assert_array_equal(moved[[0, 2, 4]], 1)


def test_weight_decay_shrinks_touched_rows_alone():
    table = np.full((5, 2), 2.0, np.float32)
    rule = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1))
    moved = one_step(rule, table, [4, 1, 4], np.zeros((3, 2), np.float32))
    np.testing.assert_allclose(moved[[1, 4]], 2 - 0.1 * 0.5 * 2, rtol=1e-6)
    np.testing.assert_array_equal(moved[[0, 2, 3]], 2)


def test_rowwise_adagrad_by_hand():
    rng = np.random.default_rng(0)
    table, total = rng.normal(size=(4, 3)).astype(np.float32), np.full(4, 0.5)
    rule = tables.rowwise_adagrad(lambda count: 0.1 / (1 + count), initial=0.5, eps=1e-3)
    state, expected, ours = rule.init(jnp.asarray(table)), table.astype(np.float64), jnp.asarray(table)
    for step in range(3):
        g = rng.normal(size=(4, 3)).astype(np.float32)
        updates, state = rule.update(jnp.asarray(g), state, ours)
        ours = optax.apply_updates(ours, updates)
        for r in range(4):
            total[r] += sum(float(v) ** 2 for v in g[r]) / 3
            expected[r] -= 0.1 / (1 + step) * g[r] / (np.sqrt(total[r]) + 1e-3)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_clipping_covers_the_dense_parameters_alone():
    clipped = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    end = fit(tables.row_update(loss_fn, clipped, {PATH: TABLE_RULES["sgd"]}), Batches(listed), steps=1)
    start = jax.jit(init)(jax.random.split(jax.random.key(0))[0])
    moved = jax.tree.map(lambda a, b: float(jnp.linalg.norm(a - b)), end.params, start)
    assert moved["head"]["kernel"] == pytest.approx(1e-3, rel=1e-3)
    whole = fit(by_rows("sgd"), Batches(listed), steps=1)
    chex.assert_trees_all_equal(end.params["table"], whole.params["table"])


def test_what_the_loss_carries_travels_too():
    def counted(params, batch, key, extra):
        loss, metrics = loss_fn(params, batch, key)
        return loss, (metrics, extra + 1)

    state = train.fit(
        init=lambda key: (init(key), jnp.int32(0)),
        update=tables.row_update(counted, TX, {PATH: TABLE_RULES["sgd"]}),
        batches=Batches(listed),
        steps=2,
        progress=False,
    )
    assert int(state.extra) == 2


def test_two_tables_each_have_their_rule():
    p = tables.plan([Feature("a", chunks=2)], rows=32, width=2, merge="weighted", importance_rows=16)

    def loss(params, batch, key):
        return jnp.sum(jnp.sin(tables.lookup(p, params, batch["codes"])["a"])), {}

    codes = tables.codes(p, {"a": np.arange(8)})
    rows, local = {}, {}
    for (path, part), height in zip(tables.by_table(p, codes).items(), (32, 16), strict=True):
        rows[path], found = tables.distinct(part, None, height, 17)
        local |= found
    options = {"init": lambda key: tables.init_tables(key, p), "steps": 1, "progress": False}
    rules = {"table/embedding": optax.adagrad(0.1), "table/importance": optax.sgd(0.2)}
    ours = train.fit(
        update=tables.row_update(loss, optax.identity(), rules),
        batches=[{"codes": local, "rows": rows}],
        **options,
    )
    tx = train.by_path([("embedding", rules["table/embedding"])], rules["table/importance"])
    theirs = train.fit(loss_fn=loss, tx=tx, batches=[{"codes": codes}], **options)
    chex.assert_trees_all_close(ours.params, theirs.params, atol=1e-6)


def test_donated_tables_are_deleted():
    kept = []
    fit(
        by_rows("sgd"),
        Batches(listed),
        steps=2,
        evaluate_every=1,
        evaluate=lambda s: kept.append(s) or {"x": 0.0},
    )
    assert kept[0].params["table"]["embedding"].is_deleted()
    assert not kept[1].params["table"]["embedding"].is_deleted()


# Errors


def test_a_batch_without_rows_and_a_path_without_table_raise():
    with pytest.raises(ValueError, match="'rows' has no 'table/embedding'"):
        fit(by_rows("sgd"), Batches(), steps=1)
    with pytest.raises(ValueError, match="rules: 'table/other' is not a parameter"):
        fit(tables.row_update(loss_fn, TX, {"table/other": TX}), Batches(listed), steps=1)


@pytest.mark.parametrize(
    "make", [lambda tx: optax.MultiSteps(tx, 2), lambda tx: optax.chain(tx, optax.apply_every(2))]
)
def test_rules_that_add_up_gradients_over_steps_are_refused(make):
    update = tables.row_update(loss_fn, TX, {PATH: make(optax.sgd(0.1))})
    with pytest.raises(ValueError, match="rules: 'table/embedding' adds up gradients over steps"):
        fit(update, Batches(listed), steps=1)


def test_lists_of_different_sizes_are_refused():
    update = tables.row_update(loss_fn, TX, {PATH: optax.sgd(0.1)}, parts=3)
    with pytest.raises(ValueError, match="'rows' holds 64 rows, which 3 lists of one size do not make"):
        fit(update, Batches(listed), steps=1)
