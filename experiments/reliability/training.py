"""Runs that are killed, stopped and damaged."""

import functools
import gc
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings

import jax
import numpy as np

from experiments.reliability import worker
from experiments.reliability.faults import damaged, room
from experiments.reliability.outcomes import LOST, NAMELESS, RIGHT, TOLD, equal, tried
from jaxembed.train.peers import CODE, Peers

WORKER = [sys.executable, "-m", "experiments.reliability.worker"]


def started(folder, count, pause):
    """Starts the processes of a run and waits for its first checkpoint."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    call, rest = [*WORKER, "train"], [str(count), port, str(folder), str(pause)]
    processes = [
        subprocess.Popen([*call, str(p), *rest], env=env, stderr=subprocess.PIPE, text=True)
        for p in range(count)
    ]
    while not steps_in(folder) and all(p.poll() is None for p in processes):
        time.sleep(0.02)
    return processes


def steps_in(folder):
    """Steps of the checkpoints that are whole."""
    return sorted(int(p.name) for p in (pathlib.Path(folder) / "checkpoints").glob("*") if p.name.isdigit())


def goes_on(folder, exactly=True):
    """Whether a run that was stopped anywhere goes on to the bits of one that never was.

    One that several processes began goes on to the same numbers up to the rounding of sums.
    """
    reached = steps_in(folder)[-1] + 2
    resumed = worker.trained(reached, worker.Batches(), workdir=folder).params
    whole = worker.trained(reached, worker.Batches()).params
    if exactly:
        return equal(resumed, whole)
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(np.allclose(a, b, atol=1e-4)), resumed, whole)))


def kills(base, tries, rng):
    """Kills a run at any moment after its first checkpoint, and lets it go on."""
    for n in range(tries):
        folder = base / f"kill-{n}"
        (process,) = started(folder, 1, 0.002)
        time.sleep(float(rng.random()))
        process.kill()
        process.communicate()
        yield tried(lambda folder=folder: goes_on(folder), bool)


def signals(base, tries, rng, count):
    """Sends SIGTERM or SIGINT to all processes of a run, to each a little later than to the one before."""
    for n in range(tries):
        folder, sent = base / f"signal-{count}-{n}", signal.SIGTERM if n % 2 else signal.SIGINT
        processes = started(folder, count, 0.02)
        for process in processes:
            process.send_signal(sent)
            time.sleep(float(0.15 * rng.random()))
        try:
            errors = [p.communicate(timeout=90)[1] for p in processes]
        except subprocess.TimeoutExpired:
            [p.kill() for p in processes]
            yield LOST
            continue
        said = {line for text in errors for line in text.splitlines() if "stopped after step" in line}
        codes = {p.returncode for p in processes}
        together = len(said) == 1 and codes <= {128 + sent, -sent}
        reached = steps_in(folder)[-1]
        yield RIGHT if together and f"step {reached};" in said.pop() else NAMELESS


def losses(base, tries):
    """Kills one of two processes; the other ends in time, with one line and the exit code for that."""
    for n in range(tries):
        folder = base / f"loss-{n}"
        other, killed = started(folder, 2, 0.02)
        time.sleep(1.0)
        killed.kill()
        try:
            error = other.communicate(timeout=Peers.SILENT + 30)[1]
        except subprocess.TimeoutExpired:
            other.kill()
            yield LOST
            continue
        said = [line for line in error.splitlines() if line.startswith("error: process 1 gave no sign for")]
        one = len(said) == 1 and "Traceback" not in error and other.returncode == CODE
        yield (TOLD if goes_on(folder, exactly=False) else LOST) if one else NAMELESS


def two_runs(base, tries):
    """Starts a second run in the folder of one; it is told who holds it, and the first one's steps stay."""
    for n in range(tries):
        folder = base / f"two-{n}"
        (first,) = started(folder, 1, 0.02)
        (second,) = started(folder, 1, 0.02)
        error = second.communicate(timeout=120)[1].strip().splitlines()[-1]
        named = second.returncode and error.startswith("BlockingIOError") and f"process {first.pid}" in error
        alive = first.poll() is None
        first.kill()
        first.communicate()
        yield (TOLD if alive and goes_on(folder) else LOST) if named else NAMELESS


def flips(base, tries, rng):
    """Damages one file of a run; it goes on from its newest checkpoint or from the one before."""
    whole, folder = whole_run(base), base / "flipped"
    right = functools.partial(equal, worker.trained(9, worker.Batches()).params)
    files = sorted((whole / "checkpoints" / "6").rglob("*")) + [whole / "meta.json", whole / "metrics.jsonl"]
    files = [p.relative_to(whole) for p in files if p.is_file()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in range(tries):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            path = folder / files[n % len(files)]
            path.write_bytes(damaged(path.read_bytes(), rng))
            yield tried(lambda: resumed(folder), right)


def full_disk(base, tries, rng):
    """Lets a run go on with little room: one line; with room it goes on to the same bits."""
    whole, folder = whole_run(base), base / "no-room"
    right = worker.trained(9, worker.Batches()).params
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(tries):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            with room(int(rng.integers(2_000))):
                end = tried(lambda: resumed(folder), lambda found: False)
            left = [p for p in folder.rglob("*") if p.name.endswith(".new") or "-tmp" in p.name]
            fine = end == TOLD and not left
            yield (end if equal(resumed(folder), right) else LOST) if fine else NAMELESS


def whole_run(base):
    """The folder of a run of six steps, which is trained where it is not there."""
    folder = base / "whole"
    if not folder.exists():
        worker.trained(6, worker.Batches(), workdir=folder, save_every=2, keep=3, meta={"steps": 6})
    return folder


def resumed(folder):
    """The parameters of that run after three more steps."""
    return worker.trained(9, worker.Batches(), workdir=folder, meta={"steps": 6}).params


def pauses(count, seconds):
    """Pauses, so that saves that are being written end."""
    for _ in range(count):
        time.sleep(seconds)
        yield


def long_run(folder, steps, saves):
    """Descriptors, threads, memory and compilations at ten places of one long run."""
    rows, compiled = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if name.endswith("backend_compile_duration") else None
    )

    def counted(state):
        gc.collect()
        held = [(len(os.listdir("/proc/self/fd")), threading.active_count()) for _ in pauses(20, 0.05)]
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        rows.append(
            {
                "step": int(state.step),
                "descriptors": min(files for files, _ in held),
                "threads": min(threads for _, threads in held),
                "MB": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6),
                "programs": len(compiled),
            }
        )
        return {"rows": float(len(rows))}

    worker.trained(
        steps, worker.Batches(), workdir=folder, save_every=max(1, steps // saves), evaluate=counted,
        evaluate_every=max(1, steps // 10),
    )  # fmt: skip
    return rows


def flat(rows):
    """Whether nothing grew after the first tenth of a long run."""
    first, last = rows[min(1, len(rows) - 1)], rows[-1]
    small = all(last[k] <= first[k] + 3 for k in ("descriptors", "threads"))
    return small and last["programs"] == first["programs"] and last["MB"] <= 1.1 * first["MB"] + 20
