"""Row updates on any mesh, over processes and restarts, and what a step costs there."""

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
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from programs import collectives, elements
from trained_tables import (
    PATH,
    SIZE,
    TABLE_RULES,
    TX,
    Batches,
    V,
    by_rows,
    dense_result,
    example,
    fit,
    listed,
    loss_fn,
    numbers,
    optimized,
)

from jaxembed import tables, train

MESHES = [(1, 1), (8, 1), (2, 4), (1, 8)]


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
def test_no_step_computes_on_whole_tables(mesh, as_users):
    height = 8 * 4096 // mesh[1]
    text = compiled_step(8 * 4096, mesh).as_text()
    made = re.findall(rf"= f32\[{height},4\]\S* ([a-z-]+)\(", text)
    assert {"parameter", "scatter"} <= set(made)
    assert set(made) <= {"parameter", "scatter", "fusion", "get-tuple-element", "bitcast", "call"}


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
