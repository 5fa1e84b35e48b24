"""What holds for every experiment, whatever it asks: flags, runs, saved results, claims, sizes, pages."""

import ast
import collections
import dataclasses
import importlib
import json
import math
import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys
import warnings

import pytest
import tyro

from experiments import pages
from experiments.shared import flags, inputs, results

ROOT = pathlib.Path(__file__).parents[2]
STORIES = pages.stories()
NAMES = list(STORIES)
SAVED = sorted((ROOT / "experiments").glob("*/results/*.json"))
FAMILIES = ("benchmarks",)  # many stories that share code
FEW = {"steps": 2, "epochs": 1, "seeds": 1, "members": 1, "rounds": 1, "base_steps": 2}  # for a short run
SHORT = {"ctr_tables": ("--budgets", "0.25")}  # where a default asks for many programs
TYPES = {"schema": int, "experiment": str, "run": str, "command": str, "machine": dict, "config": dict}
TYPES |= {"tables": dict, "claims": list, "details": dict}
MAYBE = {"commit": str, "seconds": int, "seeds": int}  # or None
CLAIM = {"paper", "sentence", "paper_value", "ours", "spread", "verdict"}
VERDICTS = {results.REPRODUCED, results.PARTLY, results.NOT, None}


def story(name):
    """The module of a story."""
    path = STORIES[name].relative_to(ROOT).with_suffix("")
    return importlib.import_module(".".join(path.parts))


def command(name, monkeypatch, *arguments):
    """Runs the command of a story in this process; returns its exit status and message."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    target = STORIES[name].relative_to(ROOT).with_suffix("").parts
    module = ".".join(target).removesuffix(".__main__")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'experiments.*found in sys.modules", RuntimeWarning)
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as ended:
            return ended.code
    return 0


def relative(path):
    return str(path.relative_to(ROOT / "experiments"))


# Flags


@pytest.mark.parametrize("name", NAMES)
def test_help_names_every_field(name, monkeypatch, capsys):
    assert command(name, monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert f"usage: python -m experiments.{name}" in shown
    for field in dataclasses.fields(story(name).Config):
        assert flags.flag(field.name) in shown


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_flag_is_named_and_a_wrong_folder_gets_one_line(name, monkeypatch, capsys, tmp_path):
    assert command(name, monkeypatch, "--no-such-flag") == 2
    assert "--no-such-flag" in capsys.readouterr().err
    (tmp_path / "file").touch()
    told = command(name, monkeypatch, "--results", tmp_path / "file")
    assert re.fullmatch(r"error: --results .*/file: .* is not a folder; choose another", told)


@pytest.mark.parametrize("name", NAMES)
def test_every_path_among_the_flags_is_looked_at(name):
    known = {*inputs.OUTPUTS, *inputs.FILES, *inputs.FOLDERS, *inputs.MODELS}
    assert {f.name for f in dataclasses.fields(story(name).Config) if "Path" in str(f.type)} <= known


def has(name, field):
    return field in {f.name for f in dataclasses.fields(story(name).Config)}


@pytest.mark.parametrize("name", [n for n in NAMES if has(n, "model")])
def test_a_missing_model_is_noticed_before_the_work(name, monkeypatch, capsys):
    text = ["--parts", "text"] if name.startswith("nesting.") else []
    told = command(name, monkeypatch, "--model", "no model", *text)
    assert told.startswith("error: --model: no model: no such folder") and "\n" not in told


@pytest.mark.parametrize("name", [n for n in NAMES if has(n, "sts")])
def test_a_folder_without_its_files_is_noticed_before_the_work(name, monkeypatch, tmp_path):
    more = ["--parts", "text"] if name.startswith("nesting.") else []
    more += ["--texts", tmp_path] if name == "length_collapse" else []
    told = command(name, monkeypatch, "--sts", tmp_path, *more)
    assert re.fullmatch(r"error: --sts .*: holds no stsb-en-\w+.csv; name the folder of STS-B's files", told)


@pytest.mark.slow
@pytest.mark.experiment
@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("benchmarks.")])
def test_a_short_run_saves_its_schema(name, tmp_path):
    fields = {f.name: f.default for f in dataclasses.fields(story(name).Config)}
    chosen = {"quick": fields.get("quick") is False}
    short = ["--quick"] if chosen["quick"] else []
    for field, value in FEW.items():
        if isinstance(fields.get(field), int) and not isinstance(fields[field], bool):
            short += [flags.flag(field), str(value)]
    short += SHORT.get(name, ())
    # As a user runs it: a process of its own, on the devices of the machine, with XLA's optimisations.
    run = [sys.executable, "-m", f"experiments.{name}", *short, "--results", str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_NUM", "XLA_"))}
    run += ["--workdir", str(tmp_path / "runs")] if has(name, "workdir") and name != "ctr_tables" else []
    done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = tmp_path.glob("*.json")
    check_schema(json.loads(path.read_text()), name)


# Saved results


def check_schema(saved, experiment):
    assert saved.keys() == TYPES.keys() | MAYBE.keys()
    assert all(isinstance(saved[key], kind) for key, kind in TYPES.items())
    assert all(saved[key] is None or isinstance(saved[key], kind) for key, kind in MAYBE.items())
    assert saved["schema"] == results.SCHEMA and saved["experiment"] == experiment
    assert saved["command"].startswith(f"python -m experiments.{experiment}")
    assert saved["tables"] and all(isinstance(row, dict) for t in saved["tables"].values() for row in t)
    for row in saved["claims"]:
        assert row.keys() == CLAIM and row["verdict"] in VERDICTS


@pytest.mark.parametrize("path", SAVED, ids=relative)
def test_a_saved_run_has_the_schema_its_name_and_settings_that_exist(path):
    saved = json.loads(path.read_text())
    check_schema(saved, saved["experiment"])
    assert path == results.path_of(saved["experiment"], saved["run"])
    known = {f.name for f in dataclasses.fields(story(saved["experiment"]).Config)}
    assert saved["config"].keys() <= known


@pytest.mark.parametrize("path", SAVED, ids=relative)
def test_a_saved_run_has_the_name_that_its_command_writes_today(path, monkeypatch):
    saved = json.loads(path.read_text())
    monkeypatch.setattr(inputs, "is_installed_model", lambda folder: folder.name == "model")
    _, _, _, *arguments = shlex.split(saved["command"])  # python -m experiments.name
    cfg = tyro.cli(story(saved["experiment"]).Config, args=arguments)
    named = flags.run_name(cfg, getattr(story(saved["experiment"]), "RUNS", None))
    assert results.on_device(named, saved["details"]) == saved["run"]


@pytest.mark.parametrize("path", SAVED, ids=relative)
def test_a_command_means_the_same_where_tyro_is_missing(path, monkeypatch):
    saved = json.loads(path.read_text())
    config, (_, _, _, *arguments) = story(saved["experiment"]).Config, shlex.split(saved["command"])
    monkeypatch.setattr(inputs, "check_paths", lambda cfg: None)
    known = flags.parse("x", config, arguments)
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert flags.parse("x", config, arguments) == known


@pytest.mark.parametrize("name", NAMES)
def test_flags_are_told_and_refused_where_tyro_is_missing(name, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert command(name, monkeypatch, "--no-such-flag") == 2
    assert "--no-such-flag" in capsys.readouterr().err
    assert command(name, monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert all(flags.flag(field.name) in shown for field in dataclasses.fields(story(name).Config))


@pytest.mark.parametrize("path", SAVED, ids=relative)
def test_saved_claims_are_what_the_claims_give_on_the_saved_tables(path):
    saved = json.loads(path.read_text())
    claims = getattr(story(saved["experiment"]), "CLAIMS", ())
    found = results.answered(claims, results.Result(saved["tables"], saved["details"]))
    assert [(x["paper"], x["sentence"], x["verdict"]) for x in found] == [
        (x["paper"], x["sentence"], x["verdict"]) for x in saved["claims"]
    ]
    for ours, kept in zip(found, saved["claims"], strict=True):
        for key in ("paper_value", "ours", "spread"):
            both = ours[key], kept[key]
            assert both == (None, None) or math.isclose(*both, rel_tol=1e-9, abs_tol=1e-12), ours["sentence"]


def test_no_picture_is_left_without_its_run():
    runs = {path.with_suffix("") for path in SAVED}
    for picture in (ROOT / "experiments").glob("*/results/*.png"):
        assert any(str(picture).startswith(str(run)) for run in runs), picture


# Sizes and pages


@pytest.mark.parametrize("name", NAMES)
def test_a_story_is_read_in_one_sitting(name):
    text = STORIES[name].read_text()
    assert len(text.splitlines()) <= (350 if name.startswith("benchmarks.") else 250)
    folder = STORIES[name].parent
    if folder.name not in FAMILIES:
        assert sum(len(p.read_text().splitlines()) for p in folder.glob("*.py")) <= 700


@pytest.mark.parametrize("name", NAMES)
def test_a_header_has_a_question_commands_and_no_results(name):
    header = ast.get_docstring(ast.parse(STORIES[name].read_text()))
    question, _, rest = header.partition("\n")
    assert question.endswith(("?", "."))
    assert f"python -m experiments.{name}" in rest
    told = "\n".join(line for line in rest.splitlines() if "python -m" not in line)
    numbers = re.sub(r"arXiv:[\d., ]+|doi:\S+|\w*-[\w.]+", "", told)
    assert not re.findall(r"\d+ ?%|±|\.\d\d+", numbers), "results stand on the page, not in the header"


@pytest.mark.parametrize("folder", sorted({p.parent for p in STORIES.values()}), ids=lambda p: p.name)
def test_a_page_is_short_by_hand_and_generated_below_its_mark(folder):
    hand, mark, below = (folder / "README.md").read_text().partition(pages.MARK)
    assert mark and below
    assert 0 < len([line for line in hand.splitlines() if line.strip()]) <= 8


def test_pages_are_what_the_generator_gives():
    differ = [
        str(path) for path, text in pages.pages().items() if not path.exists() or path.read_text() != text
    ]
    assert differ == [], "run `make pages`"


LISTED = pages.papers()


@pytest.mark.parametrize("paper", LISTED["paper"] + LISTED["foundation"], ids=lambda p: p["key"])
def test_every_function_of_a_paper_exists(paper):
    for name in paper["functions"]:
        *parents, last = f"jaxembed.{name}".split(".")
        found = importlib.import_module(".".join(parents[:2]))
        for part in (*parents[2:], last):
            found = getattr(found, part)
        assert callable(found)


def test_every_paper_with_functions_has_an_experiment_that_exists():
    missing = [
        p["key"] for p in LISTED["paper"] if p["functions"] and not set(p["experiments"]) & STORIES.keys()
    ]
    assert missing == []


def test_every_claim_is_about_a_paper_that_is_listed():
    known = {p["source"].removeprefix("arXiv:") for p in LISTED["paper"] + LISTED["foundation"]}
    for name in NAMES:
        for claim in getattr(story(name), "CLAIMS", ()):
            assert claim.source in known | {""}, f"{name}: {claim.source}"


# What is shared


def test_what_is_shared_has_three_users():
    """Folders of experiments that import a module of experiments/shared."""
    shared = ROOT / "experiments" / "shared"
    users = collections.defaultdict(set)
    for path in (ROOT / "experiments").glob("*/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("experiments.shared"):
                inner = node.module.split(".")[2:]
                for name in inner or [alias.name for alias in node.names]:
                    users[name].add(path.parent)
    for module in shared.glob("[a-z]*.py"):
        assert len(users[module.stem] - {shared}) >= 3, (
            f"{module.stem} belongs to the experiment that uses it"
        )
