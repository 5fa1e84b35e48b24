"""Two and four processes search, build an index and evaluate as one process does."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest
import searching_processes

SCRIPT = pathlib.Path(searching_processes.__file__)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    searching_processes.main(0, 1, None, folder)
    return json.loads((folder / "0.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_find_build_and_measure_what_one_does(count, alone, tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    call = [sys.executable, str(SCRIPT)]
    started = [
        subprocess.Popen(
            [*call, str(p), str(count), str(port), str(tmp_path)], env=env, stderr=subprocess.PIPE, text=True
        )
        for p in range(count)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * count, errors
    for p in range(count):
        assert json.loads((tmp_path / f"{p}.json").read_text()) == alone
    assert alone["devices"] == 8 and len(alone["index"]["ids"]) == 24
