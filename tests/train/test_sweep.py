"""A sweep that is killed and started again computes each cell once."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from jaxembed import train
from jaxembed.train.sweep import cell_path

CELLS = [{"data": "toy", "n": n, "rate": None} for n in range(6)]
PROGRAM = """
    import os, pathlib, sys, time
    from jaxembed import train

    def compute(cell):
        with open(sys.argv[1] + "/log", "a") as log:
            log.write(f"{cell['n']}\\n")
        time.sleep(0.3)
        return {"square": cell["n"] ** 2}

    if __name__ == "__main__":
        cells = [{"data": "toy", "n": n, "rate": None} for n in range(6)]
        found = train.sweep(cells, compute, sys.argv[1], processes=int(sys.argv[2]))
        print([x["square"] for x in found])
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    (tmp_path / "cells").mkdir()
    root = pathlib.Path(train.__file__).parents[2]

    def start(processes):
        command = [sys.executable, str(path), str(tmp_path / "cells"), str(processes)]
        environment = os.environ | {"PYTHONPATH": str(root)}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    return start, tmp_path / "cells"


def done(folder):
    return sorted(json.loads(p.read_text())["cell"]["n"] for p in folder.glob("*.json"))


def computed(folder):
    path = folder / "log"
    return sorted(map(int, path.read_text().split())) if path.exists() else []


def test_what_was_finished_before_a_kill_is_not_computed_again(program):
    start, folder = program
    first, deadline = start(1), time.monotonic() + 60
    while len(done(folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    finished, begun = done(folder), computed(folder)
    assert 2 <= len(finished) < 6
    out, _ = start(1).communicate(timeout=60)
    assert out.strip() == "[0, 1, 4, 9, 16, 25]"
    again = computed(folder)
    assert all(again.count(n) == 1 for n in finished)
    assert all(again.count(n) == 1 + (n in begun and n not in finished) for n in range(6))
    assert not list(folder.glob("*.new"))


def test_processes_share_the_cells(program):
    start, folder = program
    both = [start(1), start(2)]
    outs = [p.communicate(timeout=120)[0].strip() for p in both]
    assert outs == ["[0, 1, 4, 9, 16, 25]"] * 2
    assert computed(folder) == list(range(6))


def test_the_others_end_with_the_cell_at_hand_when_the_first_is_killed(program):
    start, folder = program
    first, deadline = start(2), time.monotonic() + 60
    while len(computed(folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    time.sleep(1.5)  # of six cells at 0.3 seconds
    begun = computed(folder)
    assert len(begun) < 6
    time.sleep(0.5)
    assert computed(folder) == begun and len(done(folder)) >= len(begun) - 1


def test_cells_that_read_alike_have_files_of_their_own(tmp_path):
    alike = [{"x": "a b"}, {"x": "a-b"}, {"x": 1}, {"x": 1.5}, {"x": None}, {"y": None}]
    assert len({cell_path(tmp_path, cell) for cell in alike}) == len(alike)
    assert train.sweep(alike, lambda cell: [*cell], tmp_path) == [["x"]] * 5 + [["y"]]


def test_an_error_keeps_what_is_done_and_says_is_told_once(tmp_path):
    def compute(cell):
        if cell["n"] == 3:
            raise RuntimeError("no")
        return cell["n"]

    with pytest.raises(RuntimeError, match="no"):
        train.sweep(CELLS, compute, tmp_path)
    assert done(tmp_path) == [0, 1, 2]
    said = []
    train.sweep(CELLS, lambda cell: cell["n"], tmp_path, say=lambda cell, value: said.append(value))
    assert said == [3, 4, 5]


def test_a_damaged_cell_and_nan_are_named(tmp_path):
    with pytest.raises(ValueError, match="nan|NaN|JSON"):
        train.sweep([{"n": 1}], lambda cell: float("nan"), tmp_path)
    cell_path(tmp_path, {"n": 1}).write_text("{")
    with pytest.raises(ValueError, match="damaged or cut short .*; remove it"):
        train.sweep([{"n": 1}], lambda cell: 1, tmp_path)
