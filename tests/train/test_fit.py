"""The training loop: resume, sharding, updates, patience, errors."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from small_run import RULES, TX, Batches, as_numpy, init, loss_fn, run

from jaxembed import train
from jaxembed.train.step import prepared


def test_one_step_is_the_optax_step():
    state = run(steps=1, mesh=train.make_mesh(1))
    init_key, step_key = jax.random.split(jax.random.key(0))
    params = jax.jit(init)(init_key)
    batch = Batches()[0]
    gradient = jax.grad(loss_fn, has_aux=True)(params, batch, jax.random.fold_in(step_key, 0))[0]
    expected = optax.apply_updates(params, TX.update(gradient, TX.init(params), params)[0])
    chex.assert_trees_all_close(state.params, expected, atol=1e-6)
    assert int(state.step) == 1


@pytest.mark.parametrize(("data", "model"), [(1, 8), (2, 4), (8, 1)])
def test_sharded_equals_unsharded(data, model):
    plain = run(mesh=train.make_mesh(1))
    sharded = run(mesh=train.make_mesh(data, model), rules=RULES)
    chex.assert_trees_all_close(as_numpy(sharded), as_numpy(plain), atol=2e-6)
    table = sharded.params["table"]["embedding"]
    moment = sharded.opt_state[0].mu["table"]["embedding"]
    for leaf in (table, moment):
        assert leaf.sharding.spec == P("model", None)
        assert leaf.addressable_shards[0].data.shape == (64 // model, 4)


def test_anchored_rules_reach_the_optimizer_state():
    rules = [(r"^table/", P("model", None))]
    state = run(mesh=train.make_mesh(2, 4), rules=rules, steps=1)
    assert state.params["table"]["embedding"].sharding.spec == P("model", None)
    assert state.opt_state[0].nu["table"]["embedding"].sharding.spec == P("model", None)
    assert state.opt_state[0].nu["head"]["kernel"].sharding.spec == P()


def test_four_steps_are_two_and_a_restart_and_two_bit_for_bit(tmp_path):
    whole = run(mesh=train.make_mesh(2, 4), rules=RULES)
    run(steps=2, mesh=train.make_mesh(2, 4), rules=RULES, workdir=tmp_path)
    halves = run(mesh=train.make_mesh(2, 4), rules=RULES, workdir=tmp_path)
    chex.assert_trees_all_equal(as_numpy(halves), as_numpy(whole))


def test_saved_on_eight_devices_and_resumed_on_one(tmp_path):
    run(steps=2, mesh=train.make_mesh(2, 4), rules=RULES, workdir=tmp_path)
    resumed = run(mesh=train.make_mesh(1), rules=RULES, workdir=tmp_path)
    chex.assert_trees_all_close(as_numpy(resumed), as_numpy(run(mesh=train.make_mesh(1))), atol=2e-6)
    alone = train.restore_params(tmp_path)
    chex.assert_trees_all_equal(as_numpy(alone), as_numpy(resumed.params))
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(alone)} == {1}


def test_a_finished_run_is_returned_without_a_step(tmp_path):
    done = run(workdir=tmp_path)

    class Nothing:
        def __getitem__(self, t):
            raise AssertionError("no batch is needed")

    again = run(workdir=tmp_path, batches=Nothing())
    chex.assert_trees_all_equal(as_numpy(again), as_numpy(done))


def test_five_seeds_compile_once():
    traced = []

    def counted(params, batch, key):
        traced.append(1)
        return loss_fn(params, batch, key)

    for seed in range(5):
        run(loss_fn=counted, key=seed, steps=2)
    assert len(traced) == 1


def test_the_state_is_donated():
    kept = []
    init_update, step = train.gradient_update(loss_fn, TX)

    def watched(state):
        kept.append(state.params["head"]["kernel"])
        return {"x": 0.0}

    run(update=(init_update, step), evaluate=watched, evaluate_every=1, steps=2)
    assert kept[0].is_deleted()
    assert not kept[1].is_deleted()


@pytest.mark.parametrize("copies", [False, True])
def test_arrays_that_init_closes_over_are_arguments_and_stay_the_callers(copies):
    weights = jax.tree.map(lambda x: 1 + jnp.tile(x, (40, 1)), init(jax.random.key(1)))
    frozen = jax.device_put(weights, jax.devices()[3])
    before, mesh = as_numpy(weights), train.make_mesh(2, 4)

    def start(key):
        return init(key), jax.tree.map(jnp.copy, frozen) if copies else frozen

    def loss(params, batch, key, extra):
        value, metrics = loss_fn(params, batch, key)
        return value, (metrics, extra)

    state = run(init=start, loss_fn=loss, mesh=mesh, rules=RULES)
    chex.assert_trees_all_equal(as_numpy(state.extra), before)
    chex.assert_trees_all_equal(as_numpy(frozen), before)  # the steps donated what was theirs
    chex.assert_trees_all_equal(as_numpy(state.params), as_numpy(run(mesh=mesh, rules=RULES).params))


@pytest.mark.parametrize("kind", [None, "rbg"])
def test_keys_that_init_closes_over_may_lie_on_a_device_outside_the_mesh(kind):
    key = jax.random.key(3, impl=kind)
    away = jax.device_put(jax.random.split(key, 3), jax.devices()[5])

    def loss(params, batch, key, extra):
        value, metrics = loss_fn(params, batch, key)
        return value, (metrics, extra)

    state = run(init=lambda key: (init(key), {"keys": away}), loss_fn=loss, mesh=train.make_mesh(2, 1))
    assert state.extra["keys"].dtype == key.dtype
    kept, expected = (np.asarray(jax.random.key_data(x)) for x in (state.extra["keys"], away))
    np.testing.assert_array_equal(kept, expected)


def test_the_program_of_init_holds_no_weights():
    weights = jnp.asarray(np.random.default_rng(0).standard_normal((300, 100)), jnp.float32)

    def start(key):
        return {"kernel": weights + jax.random.normal(key, weights.shape)}

    sizes = []
    for function in (start, lambda key: {"kernel": jax.random.normal(key, weights.shape)}):
        make, _ = prepared(function, train.gradient_update(loss_fn, TX), train.make_mesh(1), ())
        sizes.append(len(make.lower(jax.random.key(0)).as_text()))
        again = as_numpy(make(jax.random.key(0)).params)
        chex.assert_trees_all_equal(as_numpy(make(jax.random.key(0)).params), again)
    assert sizes[0] < sizes[1] + 2000  # a weight takes four characters and more
    whole = np.asarray(make(jax.random.key(1, impl="rbg")).params["kernel"])  # another kind of key
    assert whole.shape == weights.shape


def test_warm_start_takes_the_donor(tmp_path):
    donor = run(workdir=tmp_path)
    warmed = train.warm_start(init, {"table": train.restore_params(tmp_path)["table"]})
    state = run(init=warmed, steps=0)
    np.testing.assert_array_equal(state.params["table"]["embedding"], donor.params["table"]["embedding"])
    for wrong, message in (
        ({"other": np.zeros(2)}, "not among"),
        ({"head": {"kernel": np.zeros(2)}}, "has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            run(init=train.warm_start(init, wrong), steps=0)


def test_extra_travels_from_step_to_step(tmp_path):
    def with_extra(key):
        return init(key), {"count": jnp.zeros((), jnp.int32)}

    def loss(params, batch, key, extra):
        value, metrics = loss_fn(params, batch, key)
        return value, (metrics, {"count": extra["count"] + 1})

    run(init=with_extra, loss_fn=loss, steps=2, workdir=tmp_path)
    assert int(run(init=with_extra, loss_fn=loss, workdir=tmp_path).extra["count"]) == 4


def test_log_rows_are_means_and_a_lost_future_is_dropped(tmp_path):
    run(workdir=tmp_path, log_every=2)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    single = run(log_every=1, workdir=tmp_path / "single", steps=2)
    singles = [json.loads(r) for r in (tmp_path / "single/metrics.jsonl").read_text().splitlines()]
    assert int(single.step) == 2
    assert rows[0]["loss"] == pytest.approx(np.mean([r["loss"] for r in singles]), rel=1e-6)
    assert [r["step"] for r in rows] == [2, 4]
    with (tmp_path / "metrics.jsonl").open("a") as f:
        f.write('{"step": 99, "kind": "train", "loss": 1}\n{"step": 10')
    run(workdir=tmp_path, steps=6, log_every=2)
    assert [r["step"] for r in train.log.read_metrics(tmp_path)] == [2, 4, 6]


def test_best_is_kept_and_patience_survives_a_restart(tmp_path):
    values = [1.0, 3.0, 2.0, 2.5, 2.0, 9.0]

    def evaluate(state):
        return {"quality": values[int(state.step) - 1]}

    options = {"evaluate": evaluate, "evaluate_every": 1, "best": "quality", "keep": 1, "workdir": tmp_path}
    run(steps=3, **options)
    state = run(steps=6, patience=3, **options)
    assert int(state.step) == 5  # 3.0 stands since step 2, so evaluations 3, 4, 5 exhaust the patience
    assert int(run(steps=6, patience=3, **options).step) == 5
    folders = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert folders == [2, 5]
    best = as_numpy(train.restore_params(tmp_path, best="quality"))
    chex.assert_trees_all_equal(best, as_numpy(train.restore_params(tmp_path, step=2)))
    with pytest.raises(FileNotFoundError, match=r"\[2, 5\], not 3"):
        train.restore_params(tmp_path, step=3)
    with pytest.raises(ValueError, match="evaluate returns only"):
        run(steps=1, evaluate=evaluate, best="other", workdir=tmp_path / "b")


def test_lower_is_better_with_a_minus():
    rows = [{"step": s, "kind": "evaluate", "loss": v} for s, v in ((1, 2.0), (2, float("nan")), (3, 1.0))]
    assert train.log.patience_left(rows, "-loss", 2) == 2
    assert train.log.patience_left(rows[:2], "-loss", 2) == 1


def test_another_experiment_in_the_workdir_is_refused_by_name(tmp_path):
    run(workdir=tmp_path, meta={"plan": {"rows": 10}}, steps=1)
    with pytest.raises(ValueError, match=r"meta\['plan'\]\['rows'\] is 10 there and 20 here") as caught:
        run(workdir=tmp_path, meta={"plan": {"rows": 20}})
    assert "\n" not in str(caught.value)

    def wider(key):
        return init(key) | {"bias": jnp.zeros(3)}

    with pytest.raises(ValueError, match="parameter bias has shape none there"):
        run(workdir=tmp_path, meta={"plan": {"rows": 10}}, init=wider, steps=2)
    with pytest.raises(ValueError, match="another optimiser"):
        run(workdir=tmp_path, meta={"plan": {"rows": 10}}, tx=optax.adagrad(1e-2), steps=2)


def test_bad_arguments_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    cases = [
        ({"workdir": tmp_path / "file" / "below"}, "cannot be written"),
        ({"loss_fn": None}, "give loss_fn and tx"),
        ({"patience": 2}, "name the number to watch"),
        ({"profile": 2}, "needs a workdir"),
        ({"steps": -1}, "steps=-1; give an int of at least 0"),
        ({"steps": 2.5}, "steps=2.5; give an int"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            run(**options)
        assert "\n" not in str(caught.value)


def test_batch_not_divisible_by_the_mesh():
    class Odd:
        def __getitem__(self, t):
            return {k: v[:15] for k, v in Batches()[t].items()}

    with pytest.raises(ValueError, match="batches: ids: 15 rows are not divisible by the 8 devices"):
        run(batches=Odd(), mesh=train.make_mesh())


def test_table_not_divisible_by_the_mesh():
    def odd(key):
        return {"table": {"embedding": jnp.zeros((63, 4))}}

    with pytest.raises(ValueError, match="table/embedding: 63 rows are not divisible by the 4 devices"):
        run(init=odd, mesh=train.make_mesh(2, 4), rules=RULES)


def test_an_error_in_the_batches_reaches_the_caller():
    class Broken:
        def __getitem__(self, t):
            if t == 1:
                raise OSError("disk gone")
            return Batches()[t]

    with pytest.raises(OSError, match="disk gone"):
        run(batches=Broken())


def test_ctrl_c_leaves_a_checkpoint_to_resume_from(tmp_path):
    class Interrupting(Batches):
        def __getitem__(self, t):
            if t == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__getitem__(t)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="run again to resume"):
        run(batches=Interrupting(), steps=50, workdir=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    assert train.log.read_metrics(tmp_path)[-1]["step"] < 50
    resumed = run(steps=6, workdir=tmp_path)
    chex.assert_trees_all_equal(as_numpy(resumed), as_numpy(run(steps=6)))


def test_killed_at_any_moment_it_resumes_to_the_same_bits(tmp_path):
    code = f"""
        import sys, time
        sys.path[:0] = {[str(p) for p in pathlib.Path(__file__).parents[:2]]!r}
        import conftest, test_fit
        test_fit.run(steps=int(sys.argv[1]), workdir={str(tmp_path)!r}, save_every=1)
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), "100000"], env=environment)
    folder = tmp_path / "checkpoints"
    for _ in range(600):
        if process.poll() is not None or (
            folder.is_dir() and any(p.name.isdigit() for p in folder.iterdir())
        ):
            break
        threading.Event().wait(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = max(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    resumed = run(steps=reached + 3, workdir=tmp_path)
    chex.assert_trees_all_equal(as_numpy(resumed), as_numpy(run(steps=reached + 3)))


def test_profile_and_tensorboard_write_files(tmp_path):
    run(steps=6, workdir=tmp_path, profile=2, tensorboard=True)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert list((tmp_path / "tensorboard").glob("*tfevents*"))


def test_a_trace_is_written_when_the_run_ends_before_it(tmp_path):
    class Broken(Batches):
        def __getitem__(self, t):
            if t == 5:
                raise OSError("disk gone")
            return super().__getitem__(t)

    with pytest.raises(OSError, match="disk gone"):
        run(batches=Broken(), steps=50, workdir=tmp_path / "broken", profile=20)
    run(steps=5, workdir=tmp_path / "short", profile=20)
    for name in ("broken", "short"):
        assert list((tmp_path / name / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize(("data", "model"), [(1, 8), (2, 4), (8, 1)])
def test_steps_of_a_row_sharded_table_never_gather_it(data, model, optimized):
    update, mesh = train.gradient_update(loss_fn, TX), train.make_mesh(data, model)
    text = train.compile_step(init, update, Batches()[0], mesh=mesh, rules=RULES).as_text()
    assert "all-reduce" in text
    assert ("f32[64,4]" in text) == (model == 1)  # no device holds the table whole where it is split


def test_the_state_is_frozen():
    state = run(steps=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.step = 3
