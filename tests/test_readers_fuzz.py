"""Damaged, hostile and huge files: readers give the right value or one line with file and remedy."""

import importlib
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys

import fuzzing
import pytest
import readers

SUPPORT = pathlib.Path(__file__).parent / "support"
MUTATIONS = int(os.environ.get("JAXEMBED_MUTATIONS", 6))
QUICK = [name for name, reader in readers.runnable().items() if not reader.slow]
MEMORY = 700 << 20  # bytes of the process that reads bombs; JAX itself takes 150 MB


def faults_of(mutations, names, seed=0):
    """The faults of a campaign, in which some files were read and some refused."""
    table = fuzzing.campaign(mutations, seed, names)
    assert all(row["tries"] == mutations for row in table.values())
    assert sum(row["refused"] for row in table.values()) > mutations * len(names) / 4
    assert sum(row["read"] for row in table.values()) > mutations * len(names) / 10
    return [f"{name}:{found['try']} {found}" for name, row in table.items() for found in row["faults"]]


# What takes a path and is no reader of its own: writers, what is called by a reader of the list, and what
# trains or reads the files of the reader that is named here.
ELSEWHERE = {
    "image_files", "read_images", "Encoder", "more_rows", "filtered_slope", "topic_words",
    "drawing_model", "embed_images", "embed_texts", "fine_tune", "fine_tune_images", "fit_clicks",
    "fit_text_to_image", "index_sets", "merge_encoders", "train_image_text", "train_towers", "train_words",
    "with_adapters", "add_documents", "delete_documents", "replay",
}  # fmt: skip


def test_every_public_reader_is_in_the_list():
    named = "".join(path.read_text() for path in SUPPORT.glob("readers_of_*.py"))
    for room in ("data", "encoders", "recipes", "search", "train"):
        module = importlib.import_module(f"jaxembed.{room}")
        for name in module.__all__:
            given = getattr(module, name)
            taken = inspect.signature(given).parameters if callable(given) else ()
            if {"path", "paths", "folder", "file", "source", "workdir"} & set(taken):
                assert (name in ELSEWHERE) != bool(re.search(rf"\b{name}\b", named)), name


def test_damaged_files_end_in_one_line():
    assert faults_of(MUTATIONS, QUICK) == []


@pytest.mark.slow
def test_many_damaged_files_end_in_one_line():
    assert faults_of(5 * MUTATIONS, list(readers.runnable()), seed=1) == []


def told(script, *arguments):
    """What a script prints, line by line, as JSON."""
    command = [sys.executable, SUPPORT / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=fuzzing.environment())
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_small_files_that_unpack_to_gigabytes_take_little_memory():
    rows = {row["name"]: row for row in told("bombs.py")}
    assert set(rows) >= {"beir", "table.csv.gz", "table.csv.zip", "mnist", "idx.gz", "large.png"}
    for row in rows.values():
        assert row["error"].startswith("ValueError: ") and "; " in row["error"]
        assert row["peak"] < MEMORY + (row["name"] == "idx.gz") * 2**30, row
    assert "line 1: is longer than 67108864 bytes" in rows["beir"]["error"]
    assert "a row is longer than 67108864 bytes" in rows["table.csv.gz"]["error"]


def test_nothing_that_is_read_is_run():
    """While all readers read: no class of a pickle, no code, no program and no network."""
    rows = told("audited.py")
    read = {row["name"] for row in rows if "name" in row}
    assert read == set(QUICK)
    assert [row for row in rows if row.get("events")] == []
    # The hook sees what it should see.
    seen = told("audited.py", "--control")
    assert {event for row in seen for event in row["events"]} >= {
        "pickle.find_class",
        "exec",
        "os.system",
        "subprocess.Popen",
        "socket.connect",
    }
