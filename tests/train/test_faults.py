"""One flipped bit, one damaged file, one number that is not finite: nothing is silent, nothing is lost."""

import contextlib
import json
import os
import shutil
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from full_disk import room
from small_run import as_numpy, run

from jaxembed import train
from jaxembed.train.checksums import checksums

STEPS = 6


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four steps with its last three checkpoints, and the parameters of six steps."""
    folder = tmp_path_factory.mktemp("run")
    run(steps=4, workdir=folder, save_every=1, keep=3)
    return folder, as_numpy(run(steps=STEPS))


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def files_of(checkpoint):
    return sorted(p for p in checkpoint.rglob("*") if p.is_file())


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def array_file(checkpoint):
    """The file that holds the numbers of the parameters."""
    (path,) = (checkpoint / "params" / "d").iterdir()
    return path


DAMAGES = {
    "a flipped bit": lambda c: flip(array_file(c), 8 * array_file(c).stat().st_size // 2),
    "a cut file": lambda c: os.truncate(array_file(c), array_file(c).stat().st_size // 2),
    "no metadata": lambda c: (c / "_CHECKPOINT_METADATA").unlink(),
    "a broken seal": lambda c: (c / "_CHECKPOINT_METADATA").write_text(
        (c / "_CHECKPOINT_METADATA").read_text().replace('"float32"', '"float33"', 1)
    ),
    "no parameters": lambda c: shutil.rmtree(c / "params"),
    "nothing readable": lambda c: [p.write_bytes(b"\xff{") for p in files_of(c)],
}


@pytest.mark.filterwarnings("ignore:.*moved to damaged.*")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_it_used(damage, finished, copied):
    DAMAGES[damage](copied / "checkpoints" / "4")
    with pytest.warns(
        UserWarning, match=r"checkpoint 4 is damaged \(.+\); it was moved .* checkpoint 3 is used"
    ):
        resumed = run(steps=STEPS, workdir=copied)
    chex.assert_trees_all_equal(as_numpy(resumed), finished[1])
    assert (copied / "damaged" / "4").is_dir()


def test_no_flip_of_one_bit_is_silent(finished, copied):
    rng = np.random.default_rng(0)
    checkpoint = copied / "checkpoints" / "4"
    expected = jax.device_get(train.restore_params(copied, step=4))
    for path in files_of(checkpoint):
        size = 8 * path.stat().st_size
        for bit in rng.integers(size, size=3) if size else ():
            flip(path, bit)
            try:
                found = train.restore_params(copied, step=4)
            except ValueError as error:
                assert "\n" not in str(error) and "checkpoint 4 is damaged" in str(error)
            else:
                chex.assert_trees_all_equal(jax.device_get(found), expected)
            flip(path, bit)


def test_the_newest_good_parameters_are_read(copied):
    DAMAGES["a flipped bit"](copied / "checkpoints" / "4")
    DAMAGES["a flipped bit"](copied / "checkpoints" / "3")
    with pytest.warns(UserWarning, match="an earlier one is read"):
        found = train.restore_params(copied)
    chex.assert_trees_all_equal(found, train.restore_params(copied, step=2))
    with pytest.raises(ValueError, match="checkpoint 4 is damaged .*; name another with step="):
        train.restore_params(copied, step=4)
    DAMAGES["a flipped bit"](copied / "checkpoints" / "2")
    with pytest.raises(ValueError, match="no earlier one is left; name another workdir"), pytest.warns():
        run(steps=STEPS, workdir=copied)


def test_another_model_is_not_taken_for_damage(copied):
    def init(key):
        return {"other": jnp.ones(3)}

    with pytest.raises(ValueError, match="holds another model"):
        run(init=init, steps=STEPS, workdir=copied)
    with pytest.raises(ValueError, match="checkpoint 4 is of another optimiser"):
        run(tx=optax.sgd(0.1), steps=STEPS, workdir=copied)
    assert not (copied / "damaged").exists()


def test_a_best_whose_numbers_are_lost_is_neither_replaced_nor_deleted(tmp_path):
    values = {2: 1.0, 4: 0.5, 6: 0.2, 8: 0.1}
    given = {"evaluate": lambda state: {"mrr": values[int(state.step)]}, "best": "mrr", "evaluate_every": 2}
    run(steps=4, workdir=tmp_path, keep=1, **given)
    chex.assert_trees_all_equal(
        train.restore_params(tmp_path, best="mrr"), train.restore_params(tmp_path, step=2)
    )
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "metrics")
    run(steps=6, workdir=tmp_path, keep=1, **given)
    chex.assert_trees_all_equal(
        train.restore_params(tmp_path, best="mrr"), train.restore_params(tmp_path, step=2)
    )
    (tmp_path / "checkpoints" / "2" / "_CHECKPOINT_METADATA").write_text("{")
    run(steps=8, workdir=tmp_path, keep=1, **given)
    assert (tmp_path / "checkpoints" / "2").is_dir()
    with pytest.raises(ValueError, match="which checkpoint is best is unknown"):
        train.restore_params(tmp_path, best="mrr")


def test_checksums_do_not_depend_on_the_devices():
    tree = {"a": np.arange(64, dtype=np.float32).reshape(8, 8), "b": np.arange(8, dtype=np.int32)}
    mesh = train.make_mesh(4, 2)
    spread = {
        "a": jax.device_put(tree["a"], jax.NamedSharding(mesh, jax.P("data", "model"))),
        "b": jax.device_put(tree["b"], jax.NamedSharding(mesh, jax.P("model"))),
    }
    found = checksums(jax.tree.map(jnp.asarray, tree))
    assert checksums(spread) == found
    for place in np.ndindex(8, 8):
        changed = tree["a"].copy()
        changed.view(np.uint32)[place] ^= 1 << (sum(place) % 32)
        assert checksums({"a": jnp.asarray(changed)})["a"] != found["a"]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "bool", "uint32", "int4", "float8_e4m3fn"])
def test_checksums_of_every_dtype_see_one_entry(dtype):
    x, one = jnp.zeros((3, 5), dtype), jnp.ones((), dtype)
    assert checksums({"x": x}) != checksums({"x": x.at[2, 4].set(one)})
    assert checksums({"x": x.at[0, 1].set(one)}) != checksums({"x": x.at[1, 0].set(one)})


MESH = train.make_mesh(1)


def dividing(params, batch, key):
    """The gradient of the root is infinite at zero, and the loss is not a number below it."""
    return params["first"] * 0.0 + jnp.sqrt(params["root"]) * batch["x"], {}


def small(xs, **options):
    given = {
        "init": lambda key: {"first": jnp.ones(()), "root": jnp.float32(4.0)},
        "loss_fn": dividing,
        "tx": optax.sgd(4.0),
        "batches": [{"x": np.float32(x)} for x in xs],
        "mesh": MESH,
        "progress": False,
        "log_every": 1000,
    }
    return given | options


@pytest.mark.parametrize("every", [1, 1000])
def test_a_gradient_that_is_not_finite_names_step_loss_and_parameter(tmp_path, every):
    xs = [0.0, 0.0, np.nan, 1.0, 1.0, 1.0, 1.0, 1.0]
    given = small(xs, steps=8, save_every=2, workdir=tmp_path, log_every=every)
    with pytest.raises(
        FloatingPointError, match="step 3: loss nan, the gradient of root .*checkpoint 2 is kept"
    ):
        train.fit(**given)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["2"]
    with np.load(tmp_path / "nonfinite_3_0.npz", allow_pickle=False) as batch:
        assert np.isnan(batch["x"])
    told = {k: given[k] for k in ("init", "loss_fn", "tx", "batches", "mesh")}
    before, after, metrics = train.replay(tmp_path, 3, **told)
    assert float(before.params["root"]) == 4.0 and int(before.step) == 2
    assert np.isnan(float(after.params["root"])) and int(metrics["nonfinite"]) == 1


def test_a_loss_alone_that_is_not_finite_stops_too():
    given = small([1.0] * 4, steps=4, loss_fn=lambda p, b, k: (jax.lax.stop_gradient(b["x"] / 0.0), {}))
    with pytest.raises(FloatingPointError, match="step 1: loss inf, every known gradient is finite"):
        train.fit(**given)


def test_skipped_steps_leave_the_state_and_are_counted(tmp_path):
    xs = [0.5, np.nan, 0.25, 0.0]
    state = train.fit(**small(xs, steps=4, nonfinite="skip", workdir=tmp_path))
    without = train.fit(**small([0.5, 0.25, 0.0], steps=3))
    assert state.params["root"] == without.params["root"] and int(state.step) == 4
    row = train.read_metrics(tmp_path)[-1]
    assert row["skipped"] == 1 and np.isfinite(row["loss"])
    with pytest.raises(FloatingPointError, match="step 11:"):
        train.fit(**small([np.nan] * 20, steps=20, nonfinite="skip"))
    with pytest.raises(ValueError, match="nonfinite='ignore'; choose"):
        train.fit(**small([0.0], steps=1, nonfinite="ignore"))


def test_replay_gives_the_bits_of_the_run(tmp_path):
    xs = np.linspace(0.1, 0.4, 6)
    given = small(xs, steps=6, save_every=4, workdir=tmp_path)
    state = train.fit(**given)
    told = {k: given[k] for k in ("init", "loss_fn", "tx", "batches", "mesh")}
    for workdir in (tmp_path, None):
        _, after, _ = train.replay(workdir, 6, **told)
        chex.assert_trees_all_equal(after.params, state.params)
    with pytest.raises(ValueError, match="step=0: the first step is 1"):
        train.replay(tmp_path, 0, **told)


def test_replay_passes_skipped_steps_as_the_run_did_and_writes_nothing(tmp_path):
    xs = [0.5, np.nan, 0.25, 0.0]
    given = small(xs, steps=4, nonfinite="skip")
    state = train.fit(**given)
    told = {k: given[k] for k in ("init", "loss_fn", "tx", "batches", "mesh", "nonfinite")}
    _, after, _ = train.replay(None, 4, **told)
    chex.assert_trees_all_equal(after.params, state.params)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        train.replay(tmp_path / "typo", 4, **told)
    assert not (tmp_path / "typo").exists()
    with pytest.raises(ValueError, match="nonfinite='ignore'; choose"):
        train.replay(None, 4, **told | {"nonfinite": "ignore"})


def test_parameters_that_an_update_made_infinite_are_not_saved(tmp_path):
    def loss_fn(params, batch, key):
        return jnp.mean((params["first"] + params["root"]) * batch["x"]), {}

    tx = optax.sgd(lambda count: jnp.where(count == 2, 3e38, 0.1) * 2)
    given = small([1.5] * 4, steps=4, save_every=1, keep=1, workdir=tmp_path, loss_fn=loss_fn, tx=tx)
    with pytest.raises(
        FloatingPointError, match="step 3: parameter first is not finite .*checkpoint 2 is kept"
    ):
        train.fit(**given)
    assert np.isfinite(train.restore_params(tmp_path)["root"])


def test_a_checkpoint_without_a_record_resumes_with_its_random_keys(tmp_path):
    def init(key):
        return {"root": jnp.float32(4.0)}, {"key": jax.random.key(7)}

    def loss_fn(params, batch, key, extra):
        later, now = jax.random.split(extra["key"])
        return (params["root"] - batch["x"] - jax.random.normal(now)) ** 2, ({}, {"key": later})

    given = small([0.0] * 4, init=init, loss_fn=loss_fn, workdir=tmp_path)
    wanted = train.fit(**given | {"workdir": None}, steps=4)
    train.fit(**given, steps=2)
    path = tmp_path / "checkpoints" / "2" / "_CHECKPOINT_METADATA"
    held = json.loads(path.read_text())
    held["custom_metadata"] = {"meta": held["custom_metadata"]["meta"]}  # as versions before records wrote it
    path.write_text(json.dumps(held))
    found = train.fit(**given, steps=4)
    assert found.params["root"] == wanted.params["root"]


def test_at_least_one_checkpoint_is_kept_and_another_best_resumes(tmp_path):
    with pytest.raises(ValueError, match="keep=0"):
        train.fit(**small([0.0] * 4, steps=2, workdir=tmp_path, keep=0))
    for steps, name in ((2, "first"), (4, "-second")):
        measure = {"best": name, "evaluate": lambda state, n=name: {n.removeprefix("-"): 1.0}}
        train.fit(**small([0.0] * 4, steps=steps, workdir=tmp_path, keep=1, **measure))
    assert int(train.fit(**small([0.0] * 4, steps=4, workdir=tmp_path)).step) == 4


def test_a_run_that_watches_another_number_has_its_patience_anew(tmp_path):
    for steps, name in ((4, "first"), (6, "second")):
        measure = {"best": name, "evaluate": lambda state, n=name: {n: 1.0}, "evaluate_every": 2}
        state = train.fit(**small([0.0] * 6, steps=steps, workdir=tmp_path, patience=2, **measure))
        assert int(state.step) == steps
    with pytest.raises(ValueError, match="best='third': evaluate returns only"):
        train.fit(**small([0.0] * 8, steps=8, workdir=tmp_path, patience=2, **measure | {"best": "third"}))


def test_empty_arrays_and_numbers_that_json_lacks_are_refused_before_a_step(tmp_path):
    given = small([0.0] * 4, steps=4, workdir=tmp_path)
    empty = given["init"](None) | {"none": jnp.zeros((0, 3))}
    with pytest.raises(ValueError, match=r"params/none has shape \(0, 3\), and checkpoints hold no empty"):
        train.fit(**given | {"init": lambda key: empty})
    assert int(train.fit(**given | {"init": lambda key: empty, "workdir": None}).step) == 4
    with pytest.raises(ValueError, match=r"meta.json: cannot hold NaN or an infinity .*; pass it as text"):
        train.fit(**given | {"workdir": tmp_path / "b"}, meta={"rate": float("nan")})


@pytest.mark.parametrize("content", [b"", b'{"rate": 0', b'{"rate": 0.3}', b'{"rate": "\xe9"}', None])
def test_a_damaged_description_keeps_no_run_from_going_on_and_lets_no_other_one(content, tmp_path):
    given = small([0.0] * 4, workdir=tmp_path)
    train.fit(**given, steps=2, meta={"rate": 0.1})
    path = tmp_path / "meta.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match="holds another experiment: meta.'rate'. is .* there and 7 here"):
        train.fit(**given, steps=4, meta={"rate": 7})
    told = contextlib.nullcontext() if content is None else pytest.warns(match="meta.json: damaged, but the")
    with told:
        assert int(train.fit(**given, steps=4, meta={"rate": 0.1}).step) == 4
    assert json.loads(path.read_text()) == {"rate": 0.1}


def test_a_damaged_description_without_checkpoints_is_named(tmp_path):
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(ValueError, match="meta.json: damaged .*; name another workdir, or delete this file"):
        train.fit(**small([0.0] * 4, workdir=tmp_path, steps=2))


def test_replay_goes_back_to_the_last_good_checkpoint(tmp_path):
    given = small(np.linspace(0.1, 0.4, 6), steps=6, save_every=2, keep=3, workdir=tmp_path)
    state = train.fit(**given)
    told = {k: given[k] for k in ("init", "loss_fn", "tx", "batches", "mesh")}
    DAMAGES["a flipped bit"](tmp_path / "checkpoints" / "4")
    with pytest.warns(UserWarning, match="checkpoint 4 is damaged .*; the one before it is read"):
        _, after, _ = train.replay(tmp_path, 6, **told)
    chex.assert_trees_all_equal(after.params, state.params)


@pytest.mark.parametrize("size", [0, 10, 100, 600])
def test_a_run_on_a_full_disk_ends_in_one_line_and_goes_on_when_there_is_room(size, finished, copied, capfd):
    """At the log, at its next row, and at two kinds of files of a checkpoint."""
    with (
        room(size),
        pytest.raises(OSError, match=r".*/(metrics.jsonl|checkpoints/5)\S*: could not be") as told,
    ):
        run(steps=STEPS, workdir=copied, save_every=1, keep=3)
    assert "\n" not in str(told.value) and "; make room, or choose another disk" in str(told.value)
    assert "rror" not in capfd.readouterr().err
    left = [p.name for p in copied.rglob("*")]
    assert not [name for name in left if "tmp" in name or name.endswith((".new", ".partial"))]
    assert len(train.read_metrics(copied)) >= 1
    chex.assert_trees_all_equal(as_numpy(run(steps=STEPS, workdir=copied)), finished[1])


def test_a_batch_that_finds_no_room_does_not_hide_why_the_run_stopped(tmp_path):
    given = small([], steps=2, workdir=tmp_path)
    with (
        room(200),
        pytest.raises(FloatingPointError, match="step 1: .* could not be written to nonfinite_1_0"),
    ):
        train.fit(**given | {"batches": [{"x": np.full((), np.nan, np.float32), "y": np.zeros(100)}] * 2})
    assert not list(tmp_path.glob("*.npz"))


def test_many_saves_leave_no_files_open_and_no_threads(tmp_path):
    """A leak in each save adds 20; saves that are still being written hold some, so medians are compared."""
    counts = []

    def counted(state):
        counts.append((len(os.listdir("/proc/self/fd")), threading.active_count()))
        return {"loss": 0.0}

    train.fit(
        **small([0.0] * 40, steps=40, save_every=1, workdir=tmp_path, evaluate=counted, evaluate_every=1)
    )
    early, late = np.median(counts[10:20], axis=0), np.median(counts[30:], axis=0)
    assert (late < early + 15).all(), counts


@pytest.mark.filterwarnings("ignore:.*moved to damaged.*")
def test_a_checkpoint_that_keeps_orbax_from_opening_the_others_is_set_aside(finished, copied):
    (copied / "checkpoints" / "4" / "_CHECKPOINT_METADATA").write_text('{"a":' * 50_000)
    with pytest.raises(ValueError, match=r"checkpoints/4: damaged \(.*recursion.*\); move it elsewhere"):
        train.restore_params(copied)
    with pytest.warns(UserWarning, match=r"checkpoints/4: damaged \(.*\); it was moved to damaged/"):
        resumed = run(steps=STEPS, workdir=copied)
    chex.assert_trees_all_equal(as_numpy(resumed), finished[1])
    for path in (copied / "checkpoints").iterdir():
        (path / "_CHECKPOINT_METADATA").write_text('{"a":' * 50_000)
    with pytest.raises(ValueError, match="; move it elsewhere, or train again"):
        run(steps=STEPS + 1, workdir=copied)


def test_what_a_killed_save_left_is_cleared(copied):
    left = copied / "checkpoints" / "5.orbax-checkpoint-tmp"
    shutil.copytree(copied / "checkpoints" / "4", left)
    run(steps=STEPS, workdir=copied)
    assert not left.exists()
