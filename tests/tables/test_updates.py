"""Row-sparse training: the dense results, at the cost of the batch alone."""

import contextlib
import functools
import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from programs import collectives, elements

from jaxembed import tables, train
from jaxembed.tables import Feature

PLAN = tables.plan(
    [Feature("user", chunks=2), Feature("tags", combine="mean"), Feature("words", chunks=2, combine="sum")],
    rows=64,
    width=4,
    tables=2,
    signed=True,
)
V, PATH, SIZE = 128, "table/embedding", 64
RULES = [(r"table/", P("model", None))]
MESHES = [(1, 1), (8, 1), (2, 4), (1, 8)]


def init(key):
    tables_key, head_key = jax.random.split(key)
    params = tables.init_tables(tables_key, PLAN)
    return {"table": params["table"], "head": {"kernel": jax.random.normal(head_key, (20, 1))}}


def loss_fn(params, batch, key):
    vectors = tables.lookup(PLAN, params, batch["codes"], batch["masks"])
    scores = jnp.concatenate([vectors[f.name] for f in PLAN.features], axis=1) @ params["head"]["kernel"]
    return jnp.mean((jnp.sin(scores[:, 0]) - batch["labels"]) ** 2), {}


def example(t, count=16):
    """Few users, so that rows occur several times; bags with padding, one of them empty."""
    rng = np.random.default_rng(t)
    ids = {
        "user": rng.integers(0, 6, count),
        "tags": rng.integers(0, 12, (count, 3)),
        "words": rng.integers(0, 9, (count, 2)),
    }
    masks = {"tags": rng.random((count, 3)) < 0.6, "words": rng.random((count, 2)) < 0.7}
    masks["tags"][1] = False
    labels = rng.random(count, np.float32)
    return {"codes": tables.codes(PLAN, ids), "masks": masks, "labels": labels}


def listed(batch, parts=1):
    """The batch with local codes; the process of each part sees its share of the rows alone."""
    size = len(batch["labels"]) // parts
    rows, shares = [], []
    for part in range(parts):
        share = jax.tree.map(lambda x, p=part: x[p * size : (p + 1) * size], batch)
        found, codes = tables.distinct(share["codes"], share["masks"], V, SIZE, part=part)
        rows, shares = [*rows, found], [*shares, share | {"codes": codes}]
    return jax.tree.map(lambda *x: np.concatenate(x), *shares) | {"rows": {PATH: np.concatenate(rows)}}


@pytest.mark.parametrize("merge", ["concat", "weighted"])
def test_touched_is_codes_and_distinct_in_one(merge):
    features = [Feature("user", chunks=2), Feature("tags", chunks=2), Feature("gender", vocabulary=3)]
    plan = tables.plan(features, rows=50, width=4, tables=2, merge=merge)
    rng = np.random.default_rng(0)
    ids = {"user": rng.integers(9, size=8), "tags": rng.integers(9, size=(8, 3)), "other": np.zeros(8)}
    ids["gender"], masks = rng.integers(3, size=8), {"tags": rng.random((8, 3)) < 0.5}
    found = tables.touched(plan, ids, masks, 40, part=0)
    heights = {"table/embedding": plan.height, "table/importance": 50}
    assert plan.height == 100 and set(found["rows"]) == set(list(heights)[: 1 + (merge == "weighted")])
    codes = tables.codes(plan, ids)
    groups = tables.by_table(plan, codes)
    for path, rows in found["rows"].items():
        listed, local = tables.distinct(groups[path], masks, heights[path], 40, part=0)
        np.testing.assert_array_equal(rows, listed)
        for name, array in local.items():
            np.testing.assert_array_equal(found["codes"][name], array)
    np.testing.assert_array_equal(found["codes"]["gender"], codes["gender"])
    assert set(found["codes"]) == set(codes)
    with pytest.raises(ValueError, match="^size=3: the batch touches"):
        tables.touched(plan, ids, masks, 3)
    with pytest.raises(ValueError, match="feature 'tags' is missing"):
        tables.touched(plan, {"user": ids["user"]}, None, 40)


class Batches:
    def __init__(self, change=lambda batch: batch):
        self.change = change

    def __getitem__(self, t):
        return self.change(example(t))


TX = optax.adam(1e-2)
TABLE_RULES = {
    "sgd": optax.sgd(0.5),
    "adagrad": optax.adagrad(0.1),
    "row-wise adagrad": tables.rowwise_adagrad(0.1),
}


@functools.cache
def by_rows(rule):
    return tables.row_update(loss_fn, TX, {PATH: TABLE_RULES[rule]})


@functools.cache
def dense(rule):
    return train.gradient_update(loss_fn, train.by_path([(r"^table/", TABLE_RULES[rule])], TX))


def fit(update, batches, mesh=(1, 1), steps=4, **options):
    return train.fit(
        init=init,
        update=update,
        batches=batches,
        steps=steps,
        mesh=train.make_mesh(*mesh),
        rules=RULES,
        progress=False,
        **options,
    )


def numbers(state):
    return jax.tree.map(np.asarray, (state.params, state.opt_state))


@contextlib.contextmanager
def optimized():
    """Compiles as users do; the tests otherwise switch most optimizations off."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


# Distinct rows


@pytest.mark.parametrize("part", [0, 2])
@pytest.mark.parametrize("masked", [True, False])
def test_distinct_equals_the_oracle(part, masked):
    batch = example(3)
    codes, masks = batch["codes"], batch["masks"] if masked else None
    codes["user"][2:4, 1] = -1
    assert any((c < -1).any() for c in codes.values())
    rows, local = tables.distinct(codes, masks, V, SIZE, part=part)
    expected_rows, expected = oracles.distinct(codes, masks, V, SIZE, part)
    np.testing.assert_array_equal(rows, expected_rows)
    chex.assert_trees_all_equal(local, expected)
    assert rows.dtype == np.int32
    assert {c.dtype for c in local.values()} == {np.dtype(np.int32)}
    assert (np.diff(rows) > 0).all()


def test_local_codes_read_what_global_codes_read():
    batch = example(0)
    table = jax.random.normal(jax.random.key(0), (V, 4))
    local = listed(batch)
    small = tables.rows_of(table, local["rows"][PATH])
    for name, codes in batch["codes"].items():
        kept = batch["masks"].get(name, np.ones(codes.shape[:-1], bool))
        ours = np.asarray(tables.rows_of(small, local["codes"][name]))
        np.testing.assert_array_equal(ours[kept], np.asarray(tables.rows_of(table, codes))[kept])
        assert not ours[~kept].any()


@pytest.mark.parametrize("codes", [{}, {"a": np.zeros((0, 2), np.int32)}, {"a": np.full((3, 1), -1)}])
def test_a_batch_without_rows_is_all_padding(codes):
    rows, local = tables.distinct(codes, None, 10, 3)
    np.testing.assert_array_equal(rows, [10, 11, 12])
    assert all((c == 2).all() for c in local.values())


def test_the_mask_of_a_feature_holds_for_its_importances():
    p = tables.plan([Feature("a", chunks=2)], rows=50, width=2, merge="weighted")
    codes = tables.by_table(p, tables.codes(p, {"a": np.arange(6).reshape(2, 3)}))
    assert sorted(codes) == ["table/embedding", "table/importance"]
    masks = {"a": np.array([[True, True, False], [False, False, False]])}
    rows, local = tables.distinct(codes["table/importance"], masks, 50, 4)
    assert (rows < 50).sum() == 2
    np.testing.assert_array_equal(local["a/importance"][..., 0] == 3, ~masks["a"])


@pytest.mark.parametrize("junk", [-1, 10**9, -(2**31)])
def test_padding_of_a_list_may_hold_any_code(junk):
    batch = example(1)
    junk = {n: np.where(m[..., None], batch["codes"][n], junk) for n, m in batch["masks"].items()}
    rows, local = tables.distinct(batch["codes"] | junk, batch["masks"], V, SIZE)
    expected = listed(batch)
    np.testing.assert_array_equal(rows, expected["rows"][PATH])
    for name, codes in expected["codes"].items():
        kept = batch["masks"].get(name, np.ones(codes.shape[:-1], bool))
        np.testing.assert_array_equal(local[name][kept], codes[kept])


def test_a_mask_holds_for_the_feature_of_its_name_alone():
    codes = {"user": np.array([[1]]), "user_importance": np.array([[2]])}
    rows, local = tables.distinct(codes, {"user": np.array([False]), "other": np.ones(9, bool)}, 9, 3)
    np.testing.assert_array_equal(rows, [2, 9, 10])
    assert local["user"] == 2 and local["user_importance"] == 0


BAD_LISTS = {
    "small": (([[1], [2], [3]], None, 9, 3), "size=3: the batch touches 3 rows; give at least 4"),
    "outside": (([[9]], None, 9, 3), "codes: 9 is outside a table of 9 rows"),
    "no size": (([[1]], None, 9, 0), "size=0: need at least 1"),
    "too many": (([[1]], None, 2**31 - 5, 9), "below 2\\*\\*31"),
    "floats": (([[1.0]], None, 9, 3), "codes: 'a' has dtype float64; give what tables.codes returns"),
    "mask": (([[1]], {"a": np.ones((2,), bool)}, 9, 3), r"masks: 'a' has shape \(2,\); need \(1,\)"),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_bad_lists_raise_one_line(case):
    (codes, *rest), message = BAD_LISTS[case]
    with pytest.raises(ValueError, match=message) as caught:
        tables.distinct({"a": np.array(codes)}, *rest)
    assert "\n" not in str(caught.value)


# Rows give what the dense rule gives


@functools.cache
def dense_result(rule):
    return fit(dense(rule), Batches())


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


# Devices, processes, restarts


@pytest.mark.parametrize("mesh", MESHES[1:], ids=str)
@pytest.mark.parametrize("rule", ["adagrad", "row-wise adagrad"])
def test_any_mesh_trains_alike(rule, mesh):
    ours = fit(by_rows(rule), Batches(listed), mesh)
    chex.assert_trees_all_close(numbers(ours)[0], numbers(dense_result(rule))[0], atol=1e-6)
    for leaf in (ours.params["table"]["embedding"], *jax.tree.leaves(ours.opt_state["rows"])):
        assert leaf.addressable_shards[0].data.shape[0] == V // mesh[1]


@pytest.mark.parametrize("mesh", [(1, 1), (2, 4)], ids=str)
def test_two_parts_with_rows_in_common_are_one_batch(mesh):
    rule = "adagrad"
    two = tables.row_update(loss_fn, TX, {PATH: TABLE_RULES[rule]}, parts=2)
    halves = listed(example(0), parts=2)
    common = set(halves["rows"][PATH][:SIZE]) & set(halves["rows"][PATH][SIZE:])
    assert len([r for r in common if r < V]) > 5
    split = ((r"^rows/", P("data")), (r"", P("data")))  # each process places its own list
    for rules in (train.fit.__kwdefaults__["batch_rules"], split):
        ours = fit(two, Batches(functools.partial(listed, parts=2)), mesh, batch_rules=rules)
        chex.assert_trees_all_close(numbers(ours)[0], numbers(dense_result(rule))[0], atol=1e-6)


@pytest.mark.parametrize("rule", ["row-wise adagrad", "adam"])
def test_four_steps_are_two_and_a_restart_and_two_bit_for_bit(tmp_path, rule):
    options = {"mesh": (2, 4), "batches": Batches(listed)}
    update = by_rows(rule) if rule != "adam" else tables.row_update(loss_fn, TX, {PATH: TX})
    whole = fit(update, **options)
    fit(update, steps=2, workdir=tmp_path, **options)
    halves = fit(update, workdir=tmp_path, **options)
    chex.assert_trees_all_equal(numbers(halves), numbers(whole))


def test_the_same_arguments_compile_once():
    traced = []

    def counted(params, batch, key):
        traced.append(1)
        return loss_fn(params, batch, key)

    for seed in range(3):
        update = tables.row_update(counted, TX, {PATH: TABLE_RULES["sgd"]})
        fit(update, Batches(listed), steps=2, key=seed)
    assert len(traced) == 1


# What a step costs


@functools.cache
def compiled_step(height, mesh):
    """One row-sparse step of a table [height, 4] over a mesh, compiled with optimizations."""
    mesh = train.make_mesh(*mesh)
    params = {"t": jax.ShapeDtypeStruct((height, 4), np.float32), "w": jax.ShapeDtypeStruct((4,), np.float32)}

    def loss(params, batch, key):
        return jnp.mean((tables.rows_of(params["t"], batch["codes"]) @ params["w"]) ** 2), {}

    init_update, step = tables.row_update(loss, optax.sgd(0.1), {"t": optax.adagrad(0.1)})
    shapes = jax.eval_shape(lambda p: train.TrainState(jnp.int32(0), p, init_update(p)), params)
    rules = [(r"(^|/)t$", P("model", None))]
    shardings = train.TrainState(
        NamedSharding(mesh, P()),
        train.mesh.path_shardings(shapes.params, mesh, rules),
        train.mesh.path_shardings(shapes.opt_state, mesh, rules),
    )
    shapes = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, shardings)
    split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    batch = {
        "codes": jax.ShapeDtypeStruct((64, 3), np.int32, sharding=split),
        "rows": {"t": jax.ShapeDtypeStruct((32,), np.int32, sharding=whole)},
    }
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))
    with optimized(), jax.set_mesh(mesh):
        return jitted.lower(shapes, batch, jax.random.key(0)).compile()


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_a_step_exchanges_and_stores_the_same_for_any_number_of_rows(mesh):
    small, large = 4096, 8 * 4096
    texts = {height: compiled_step(height, mesh).as_text() for height in (small, large)}
    exchanged = {height: collectives(text) for height, text in texts.items()}
    assert exchanged[small] == exchanged[large]
    assert bool(exchanged[small]) == (mesh != (1, 1))
    assert all(elements(shape) <= 64 * 3 * 4 for _, shape in exchanged[small])
    memory = {height: compiled_step(height, mesh).memory_analysis() for height in (small, large)}
    assert memory[small].temp_size_in_bytes == memory[large].temp_size_in_bytes
    tables_of_device = 2 * large * 4 * 4 / mesh[1]
    assert memory[large].alias_size_in_bytes >= tables_of_device  # table and state are donated


@pytest.mark.parametrize("mesh", [(1, 1), (2, 4)], ids=str)
def test_no_step_computes_on_whole_tables(mesh):
    height = 8 * 4096 // mesh[1]
    text = compiled_step(8 * 4096, mesh).as_text()
    made = re.findall(rf"= f32\[{height},4\]\S* ([a-z-]+)\(", text)
    assert {"parameter", "scatter"} <= set(made)
    assert set(made) <= {"parameter", "scatter", "fusion", "get-tuple-element", "bitcast", "call"}


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


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def test_two_processes_that_list_their_own_rows_train_as_one(tmp_path):
    path = pathlib.Path(__file__).parents[1] / "support" / "two_processes.py"
    call = [sys.executable, str(path)]
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    ends = [str(free_port()), str(tmp_path)]
    started = [
        subprocess.Popen([*call, str(p), *ends], env=env, stderr=subprocess.PIPE, text=True) for p in range(2)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], errors
    ours = [json.loads((tmp_path / f"{p}.json").read_text()) for p in range(2)]
    assert ours[0] == ours[1]
    assert ours[0]["devices"] == [4, 8]
    expected = numbers(dense_result("adagrad"))[0]["table"]["embedding"]
    for shape in ("(8, 1)", "(2, 4)", "(1, 8)"):
        assert ours[0][f"joined {shape}"] == [0] * 4 + [1] * 4
        np.testing.assert_allclose(ours[0][shape], expected, atol=1e-6)


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
