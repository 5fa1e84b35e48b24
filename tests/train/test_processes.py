"""Runs of several processes: they stop together, and two runs do not share a folder."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import chex
import numpy as np
import pytest
from small_run import as_numpy, run

from jaxembed import train

SCRIPT = pathlib.Path(__file__).parents[1] / "support" / "stopped_processes.py"


def start(folder, count, devices=None, steps=100_000):
    """Starts the processes of a run on 8 devices, or as many each."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    call = [sys.executable, str(SCRIPT)]
    return [
        subprocess.Popen(
            [*call, str(p), str(count), str(port), str(folder), str(devices or 8 // count), str(steps)],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for p in range(count)
    ]


def wait_for_checkpoint(folder, processes, seconds=120):
    for _ in range(seconds * 20):
        if any(p.name.isdigit() for p in (folder / "checkpoints").glob("*")):
            return
        assert all(p.poll() is None for p in processes), [p.communicate()[1] for p in processes]
        threading.Event().wait(0.05)
    raise AssertionError("no checkpoint in time")


def ended(processes, seconds=120):
    try:
        errors = [p.communicate(timeout=seconds)[1] for p in processes]
    finally:
        for process in processes:
            process.kill()
    return [p.returncode for p in processes], errors


@pytest.mark.parametrize(
    ("count", "sent", "code", "apart"),
    [(1, "SIGTERM", 143, 0), (1, "SIGINT", -2, 0), (2, "SIGTERM", 143, 0.13), (2, "SIGTERM", 143, 0.6)],
)
def test_processes_stop_after_the_same_step_and_the_run_goes_on(count, sent, code, apart, tmp_path):
    processes = start(tmp_path, count)
    wait_for_checkpoint(tmp_path, processes)
    for process in processes:
        process.send_signal(getattr(signal, sent))
        time.sleep(apart)  # the last one may have heard of it from the others, and have ended
    codes, errors = ended(processes)
    assert codes == [code] * count, errors
    steps = {line for text in errors for line in text.splitlines() if "stopped after step" in line}
    assert len(steps) == 1, errors
    reached = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert f"stopped after step {reached}; run again to resume" in steps.pop()
    resumed = run(steps=reached + 2, workdir=tmp_path)
    chex.assert_trees_all_close(as_numpy(resumed), as_numpy(run(steps=reached + 2)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_killed_process_ends_the_others_with_one_line(count, tmp_path):
    processes = start(tmp_path, count, devices=1)
    wait_for_checkpoint(tmp_path, processes)
    processes[-1].kill()
    codes, errors = ended(processes)
    # Now and then Gloo aborts a process before it can say a word; after process 0, JAX aborts the others.
    aborted = any("gloo::EnforceNotMet" in text for text in errors)
    for process, (code, text) in enumerate(zip(codes[:-1], errors[:-1], strict=True)):
        if aborted and code == -signal.SIGABRT:
            continue
        assert code == 75, errors
        (line,) = (x for x in text.splitlines() if x.startswith("error: "))
        assert re.fullmatch(
            rf"error: process {count - 1} gave no sign for \d+ seconds, so process {process} ends; "
            rf"run again to resume from {re.escape(str(tmp_path))}",
            line,
        )
        assert "Traceback" not in text and len(text.splitlines()) <= 3, text
    latest = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    resumed = run(steps=latest + 2, workdir=tmp_path)
    chex.assert_trees_all_close(as_numpy(resumed), as_numpy(run(steps=latest + 2)), atol=1e-5)


@pytest.mark.slow
def test_without_process_0_the_others_end_soon_and_the_run_goes_on(tmp_path):
    processes = start(tmp_path, 4, devices=1)
    wait_for_checkpoint(tmp_path, processes)
    processes[0].kill()
    codes, _ = ended(processes, seconds=30)  # JAX ends them in a second or two
    assert codes == [-signal.SIGKILL, *[-signal.SIGABRT] * 3]
    latest = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    resumed = run(steps=latest + 2, workdir=tmp_path)
    chex.assert_trees_all_close(as_numpy(resumed), as_numpy(run(steps=latest + 2)), atol=1e-5)


@pytest.mark.slow
def test_a_run_of_four_processes_ends_as_that_of_one(tmp_path):
    codes, errors = ended(start(tmp_path / "four", 4, steps=12))
    assert codes == [0] * 4, errors
    alone = run(steps=12, workdir=tmp_path / "one", save_every=5)
    params, state = train.restore_params(tmp_path / "four"), as_numpy(alone)
    chex.assert_trees_all_close(as_numpy(params), state.params, atol=1e-6)
    resumed = run(steps=12, workdir=tmp_path / "four")  # the state of the optimiser too
    assert int(resumed.step) == 12
    chex.assert_trees_all_close(as_numpy(resumed), state, atol=1e-6)
    (ours,), (theirs,) = (
        [row for row in train.read_metrics(tmp_path / name) if row["step"] == 12] for name in ("four", "one")
    )
    for name in ("loss", "largest"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)


def test_a_second_run_in_the_same_folder_is_told_who_holds_it(tmp_path):
    processes = start(tmp_path, 1)
    wait_for_checkpoint(tmp_path, processes)
    with pytest.raises(BlockingIOError, match=f"process {processes[0].pid}"):
        run(steps=3, workdir=tmp_path)
    processes[0].kill()
    ended(processes)
    latest = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert int(run(steps=latest + 1, workdir=tmp_path).step) == latest + 1
    assert train.read_metrics(tmp_path)[-1]["step"] == latest + 1
