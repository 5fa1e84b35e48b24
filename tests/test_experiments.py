"""Experiments run for a few steps on a small corpus, answer, and refuse bad input in one line."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments.common import report, retrieval

ROOT = pathlib.Path(__file__).parents[1]
SMALL = ["--steps", "2", "--batch-size", "16", "--token-batch", "8", "--rows", "512", "--sizes", "8", "16"]
SMALL += [
    "--token-width",
    "8",
    "--length",
    "16",
    "--tokens",
    "8",
    "--query-tokens",
    "8",
    "--test-queries",
    "20",
]
SMALL += ["--alone"]


def run(*flags, cwd, devices=1):
    command = [sys.executable, "-m", "experiments.quickstart", *map(str, flags)]
    environment = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    environment["JAX_NUM_CPU_DEVICES"] = str(devices)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def write_tree(folder):
    folder.mkdir()
    for module in range(4):
        functions = []
        for i, verb in enumerate(("pad", "sort", "trim")):
            for j, noun in enumerate(("row", "word", "image")):
                sentence = f"{verb.title()} the {noun} number {module} of a list."
                rest = f"Returns the {noun} after that."
                body = f"return x + {100 * module + 10 * i + j}"
                functions.append(f'def {verb}_{noun}(x):\n    """{sentence}\n\n    {rest}"""\n    {body}\n')
        (folder / f"module_{module}.py").write_text("\n\n".join(functions))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run on eight devices, the table split over two: its folder and what it printed."""
    cwd = tmp_path_factory.mktemp("quickstart")
    corpus = write_tree(cwd / "tree")
    folders = ["--corpus", corpus, "--workdir", "runs", "--results", "results"]
    done = run(*SMALL, *folders, "--model-devices", 2, cwd=cwd, devices=8)
    assert done.returncode == 0, done.stderr[-2000:]
    return cwd, done.stdout


@pytest.mark.experiment
def test_quickstart_prints_every_row_and_saves_numbers_and_picture(finished):
    cwd, printed = finished
    saved = json.loads((cwd / "results/quickstart.json").read_text())
    methods = [row["method"] for row in saved["rows"]]
    assert {"BM25", "untrained 16", "prefix 8", "prefix 16", "Chamfer, 0 blocks", "FDE (20, 5, 16)"} <= set(
        methods
    )
    assert all(method in printed for method in methods)
    assert all(0 <= row["Recall@10 tree"] <= 1 for row in saved["rows"])
    assert max(row["Recall@10 tree"] for row in saved["rows"]) > 0
    assert (cwd / "results/quickstart.png").stat().st_size > 10_000
    assert saved["functions"] == 36


@pytest.mark.experiment
def test_quickstart_answers_from_the_saved_index(finished):
    cwd, _ = finished
    answer = run("--workdir", "runs", "--query", "sort the word of a list", cwd=cwd)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stdout.count("module_") >= 10
    assert "tree" in answer.stdout
    unknown = run("--workdir", "runs", "--query", "zzqx vvkj", cwd=cwd)
    assert unknown.returncode == 0  # unknown words still have n-grams
    empty = run("--workdir", "runs", "--query", "!?", cwd=cwd)
    assert empty.returncode != 0
    assert "holds no word" in empty.stderr
    assert "Traceback" not in empty.stderr


@pytest.mark.experiment
def test_quickstart_refuses_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    cases = [
        (["--query", "x", "--workdir", "nowhere"], "holds no index"),
        (["--corpus", "missing"], "is no folder"),
        (["--corpus", "empty"], "no documented function"),
    ]
    for flags, message in cases:
        done = run(*SMALL, *flags, cwd=tmp_path)
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_measure_counts_what_a_search_finds():
    judged = {"all": (slice(0, 2), np.array([[1, -1], [9, 8]]))}
    row = retrieval.measure("fixed", lambda b: [[3, 1, 2]] * (b.stop - b.start), 2, judged, size=4)
    assert (row["bytes"], row["MRR@10 all"], row["Recall@10 all"]) == (4, 0.25, 0.5)


def test_table_aligns_numbers():
    text = report.table([{"method": "a", "x": 0.5, "n": 1234}, {"method": "long", "x": None, "n": 5}])
    assert text.splitlines() == ["method     x      n", "a       .500  1,234", "long       -      5"]
