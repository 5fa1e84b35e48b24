"""Damaged files for every reader: each gives the right value, or one line that names the file and a remedy.

``python tests/support/fuzzing.py --mutations 100`` runs a campaign and prints a table; ``campaign``
returns it. A try is named by its reader and its number, which are also its seed: ``--only "beir:17"``
repeats one.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib

import numpy as np
from damage import damage

MEMORY = 512 << 20  # bytes that a read of a small file may take beyond what the process had
SECONDS = 20  # of processors that it may take, which a busy machine does not change


def kind(value):
    """What stays the same when the content of a file changes: classes, dtypes and ranks."""
    if isinstance(value, dict):
        inner = {type(k).__name__ for k in value} | {str(kind(v)) for v in value.values()}
        return "dict", *sorted(inner)
    if isinstance(value, list | tuple):
        return "list", *sorted({str(kind(v)) for v in value})
    if hasattr(value, "dtype") and getattr(value, "ndim", 0):
        return str(value.dtype).strip("0123456789<>U") and str(value.dtype.kind), value.ndim
    return (str if isinstance(value, str) else type(value)).__name__


def same(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return np.array_equal(a, b) if hasattr(a, "dtype") else a == b


def fault(reader, folder, path, good, found):
    """What is wrong with the outcome of a try, or None."""
    if isinstance(found, Exception):
        text = str(found)
        if not isinstance(found, ValueError | OSError) or isinstance(
            found, UnicodeError | json.JSONDecodeError
        ):
            return f"{type(found).__name__}: {text[:200]}"
        if "\n" in text:
            return f"more than one line: {text[:200]!r}"
        names = [folder.name, *(p.name for p in folder.rglob("*")), path.name]
        if not any(name in text for name in names):
            return f"no file is named: {text[:200]}"
        return None if "; " in text else f"no remedy: {text[:200]}"
    if reader.whole and not same(good, found):
        return "another value, silently"
    if not reader.free and kind(good) != kind(found) and kind(found) not in [("list",), ("dict",)]:
        return (
            None if _fewer(kind(good), kind(found)) else f"another kind: {kind(found)} for {kind(good)}"[:300]
        )
    return None


def _fewer(good, found):
    """Whether nothing new came; an empty list has fewer kinds."""
    return set(re.findall(r"\w+", str(found))) <= set(re.findall(r"\w+", str(good)))


def _status(name):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    return 0


@contextlib.contextmanager
def _quiet(path):
    """What C libraries write to the standard error goes to a file."""
    with open(path, "wb") as file:
        old = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(old, 2)
            os.close(old)


def attempt(reader, folder, path, good, noise):
    """Reads once; returns (outcome, fault)."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    before, began = _status("VmRSS"), time.process_time()
    with warnings.catch_warnings(record=True) as warned, _quiet(noise):
        warnings.simplefilter("always")
        try:
            found = reader.read(folder)
        except Exception as error:
            found = error
        except BaseException as error:  # what Rust calls a panic
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return "fault", f"{type(error).__name__}: {str(error)[:200]}"
    wrong = fault(reader, folder, path, good, found)
    seconds, taken = time.process_time() - began, _status("VmHWM") - before
    said = [str(w.message) for w in warned if path.name not in str(w.message)]
    if wrong is None and said:
        wrong = f"warning: {said[0][:200]}"
    if wrong is None and noise.stat().st_size:
        wrong = f"noise: {noise.read_bytes()[:200]!r}"
    if wrong is None and taken > MEMORY:
        wrong = f"took {taken >> 20} MB"
    if wrong is None and seconds > SECONDS:
        wrong = f"took {seconds:.0f} s"
    return ("fault" if wrong else "refused" if isinstance(found, Exception) else "read"), wrong


def work(names, mutations, seed, start, out):
    """The tries of some readers in this process; a line of JSON before and after each."""
    import resource

    import readers

    place = pathlib.Path(tempfile.mkdtemp(prefix="fuzz"))
    limit = _status("VmData") + (8 << 30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        for name in names:
            reader = readers.READERS[name]
            with readers.written(name, place / re.sub(r"\W", "_", name) / "good") as good:
                value = reader.read(good)
                for n in range(start.get(name, 0), mutations):
                    folder = good.parent / f"try{n}"
                    shutil.copytree(good, folder)
                    os.chdir(folder)
                    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), n])
                    path, done = damage(rng, folder)
                    told = {"reader": name, "try": n, "file": path.name, "change": done}
                    out.write(json.dumps(told) + "\n")
                    out.flush()
                    outcome, wrong = attempt(reader, folder, path, value, good.parent / "noise")
                    out.write(json.dumps({"outcome": outcome, "fault": wrong}) + "\n")
                    out.flush()
                    os.chdir(good)
                    shutil.rmtree(folder)
    finally:
        os.chdir("/")
        shutil.rmtree(place, ignore_errors=True)


def campaign(mutations, seed=0, names=None, timeout=3600):
    """Damages every file of every reader in processes of their own, which may crash.

    Args:
        mutations: tries of each reader.
        seed: int.
        names: of readers; None takes all that can run.
        timeout: seconds of one process.

    Returns:
        {reader: {"tries", "read", "refused": int, "faults": list of dicts}}.
    """
    import readers

    names = list(readers.runnable()) if names is None else list(names)
    table = {name: {"tries": 0, "read": 0, "refused": 0, "faults": []} for name in names}
    left, start = names, {}
    while left:
        begun = _worker(left, mutations, seed, start, timeout, table)
        if begun is None:
            break
        name = begun["reader"]
        left, start = left[left.index(name) :], {name: begun["try"] + 1}
    return table


def _worker(names, mutations, seed, start, timeout, table):
    """Runs one process and counts its tries; returns the try in which it died, or None."""
    command = [sys.executable, __file__, "--mutations", str(mutations), "--seed", str(seed)]
    command += ["--start", json.dumps(start), "--work", *names]
    child = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment())
    begun = None
    for line in child.stdout.splitlines():
        told = json.loads(line) if line.startswith("{") else {}
        if "reader" in told:
            begun = told
        elif begun and "outcome" in told:
            _count(table, begun, told)
            begun = None
    if child.returncode and begun is None:
        raise RuntimeError(f"the process ended with {child.returncode}: {child.stderr[-2000:]}")
    if begun is not None:
        _count(table, begun, {"outcome": "fault", "fault": f"the process died with {child.returncode}"})
    return begun


def environment():
    root = pathlib.Path(__file__).parents[2]
    paths = [str(root), str(root / "tests" / "support"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "JAX_PLATFORMS": "cpu"}


def _count(table, begun, told):
    row = table[begun["reader"]]
    row["tries"] += 1
    if told["outcome"] == "fault":
        row["faults"].append(begun | {"fault": told["fault"]})
    else:
        row[told["outcome"]] += 1


def _repeat(name, number, seed):
    """One try with its traceback."""
    import readers

    reader = readers.READERS[name]
    with tempfile.TemporaryDirectory() as place, readers.written(name, pathlib.Path(place, "good")) as folder:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
        print(*damage(rng, folder))
        try:
            print(repr(reader.read(folder))[:2000])
        except BaseException:
            traceback.print_exc()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=json.loads, default={})
    parser.add_argument(
        "--work", nargs="*", help="readers whose tries run in this process, one line of JSON each"
    )
    parser.add_argument("--only", help="reader:number, to repeat one try")
    parser.add_argument("readers", nargs="*")
    given = parser.parse_args()
    if given.work is not None:
        return work(given.work, given.mutations, given.seed, given.start, sys.stdout)
    if given.only:
        name, _, number = given.only.rpartition(":")
        return _repeat(name, int(number), given.seed)
    table = campaign(given.mutations, given.seed, given.readers or None)
    for name, row in table.items():
        print(
            f"{name:24} {row['tries']:6} tries {row['read']:6} read {row['refused']:6} refused"
            f" {len(row['faults']):6} faults"
        )
        for found in row["faults"]:
            print(f"    {found['try']} {found['file']} {found['change']}: {found['fault']}")
    return any(row["faults"] for row in table.values())


if __name__ == "__main__":
    sys.exit(main())
