"""What all experiments share: names of runs, a look at inputs and outputs first, usage, stops, pictures."""

import dataclasses
import doctest
import json
import pathlib
import subprocess
import sys

import pytest

from experiments import (
    ctr_tables,
    definitions,
    false_negatives,
    length_collapse,
    multivector_search,
    pooling,
)
from experiments.benchmarks import multivector, tables, text
from experiments.common import inputs, plots, redraw, report, text_models
from experiments.nesting import matryoshka, starbucks

ROOT = pathlib.Path(__file__).parents[2]
KEPT = {p.stem for p in report.RESULTS.glob("*.json")}
EXPERIMENTS = {
    "ctr_tables": (ctr_tables.Config, ctr_tables.RUNS),
    "definitions": (definitions.Config, {}),
    "false_negatives": (false_negatives.Config, {}),
    "length_collapse": (length_collapse.Config, {}),
    "multivector_search": (multivector_search.Config, {}),
    "pooling": (pooling.Config, {}),
    "benchmark_multivector": (multivector.Config, {}),
    "benchmark_tables": (tables.Config, {}),
    "benchmark_text": (text.Config, {}),
}

# Names


@pytest.mark.parametrize(
    "name, flags",
    [
        ("ctr_tables", {"seeds": 1}),
        ("ctr_tables", {"compare": "schemes"}),
        ("ctr_tables", {"data": "flights", "epochs": 2}),
        ("false_negatives", {"sts": pathlib.Path("stsb"), "steps": 3}),
        ("definitions", {"seeds": 1}),
        ("pooling", {"steps": (1, 1)}),
        ("length_collapse", {"documents": 8}),
        ("multivector_search", {"beir": pathlib.Path("cranfield"), "split": "dev"}),
        ("multivector_search", {"documents": 300}),
        ("benchmark_tables", {"rounds": 1}),
        ("benchmark_text", {"rounds": 1}),
        ("benchmark_multivector", {"rounds": 1}),
    ],
)
def test_runs_that_are_not_the_kept_ones_have_names_of_their_own(name, flags):
    config, runs = EXPERIMENTS[name]
    assert report.named(name, config(), runs) == name in KEPT
    assert report.named(name, config(**flags), runs) not in KEPT
    assert len(report.named(name, config(**flags), runs)) < 130


def test_kept_results_have_the_name_of_their_settings():
    """The name that the command beside them writes today."""
    for path in report.RESULTS.glob("*.json"):
        known = [n for n in EXPERIMENTS if f"{path.stem}_".startswith(f"{n}_")]
        if known[0] in ("quickstart", "ctr_tables"):
            continue  # their files hold texts, or settings that were filled in
        config, runs = EXPERIMENTS[known[0]]
        saved = json.loads(path.read_text())["config"]
        given = {n: tuple(x) if isinstance(x, list) else x for n, x in saved.items() if n != "results"}
        given |= {n: pathlib.Path(given[n]) for n in ("sts", "beir") if given.get(n)}
        if known[0] == "false_negatives":
            given["learning_rate"] = None  # was filled in
        assert report.named(known[0], config(**given), runs) == path.stem


def test_examples_in_docstrings_of_what_is_shared():
    for module in (report, inputs, plots):
        found = doctest.testmod(module)
        assert found.failed == 0
        assert found.attempted or module is plots


# Inputs and outputs


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"results": "file"}, "--results .*file: .*file is not a folder"),
        ({"results": "file/below"}, "--results .*below: .*file is not a folder"),
        ({"workdir": "file"}, "--workdir .*file: .* is not a folder"),
        ({"sts": "missing"}, "--sts .*missing: is not a folder"),
        ({"pairs": "missing.tsv"}, "--pairs .*missing.tsv: is not a file"),
        ({"pairs": "."}, "--pairs .*: is not a file"),
    ],
)
def test_bad_paths_are_refused_before_the_run(flags, message, tmp_path):
    (tmp_path / "file").write_text("x")
    flags = {name: tmp_path / value for name, value in flags.items()}
    more = {"parts": ("text",)} if "sts" in flags else {}
    with pytest.raises(ValueError, match=message):
        inputs.check_paths(matryoshka.Config(**flags, **more))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_path_among_the_flags_is_looked_at(name):
    known = {*inputs.OUTPUTS, *inputs.FILES, *inputs.FOLDERS, *inputs.MODELS}
    found = {f.name for f in dataclasses.fields(EXPERIMENTS[name][0]) if "Path" in str(f.type)}
    assert found <= known


def test_outputs_that_do_not_exist_yet_are_taken(tmp_path):
    inputs.check_paths(matryoshka.Config(results=tmp_path / "a/b", workdir=tmp_path / "c"))
    assert not list(tmp_path.iterdir())


MODEL = pathlib.Path("no model")
SLOW = {  # what would run before the model is opened
    false_negatives: ("planted_rates",),
    definitions: ("one_draw",),
    pooling: ("toys", "compare"),
    length_collapse: ("read",),
    multivector_search: ("generated", "compare"),
}


@pytest.mark.parametrize("experiment", SLOW, ids=lambda e: e.__name__.rsplit(".")[-1])
def test_a_missing_model_is_noticed_before_the_work(experiment, monkeypatch):
    for name in SLOW[experiment]:
        if (experiment, name) != (false_negatives, "planted_rates"):
            monkeypatch.setattr(experiment, name, lambda *_, **__: pytest.fail("began to work"))
    with pytest.raises(FileNotFoundError, match="^--model: no model: no such folder"):
        experiment.main(experiment.Config(model=MODEL))


def test_files_of_pairs_that_lack_are_noticed_first(tmp_path):
    for experiment, flags, name in (
        (false_negatives, {}, "stsb-en-test.csv"),
        (definitions, {}, "stsb-en-test.csv"),
        (length_collapse, {"texts": tmp_path}, "stsb-en-test.csv"),
        (text, {}, "stsb-en-test.csv"),
    ):
        with pytest.raises(ValueError, match=f"--sts .*: holds no {name}"):
            experiment.main(experiment.Config(sts=tmp_path, **flags))


def test_a_limit_names_the_flag_that_was_given():
    cfg = report.preset(starbucks.Config(paper=True), paper=starbucks.PAPER)
    with pytest.raises(ValueError, match="^--paper sets --layers 8: it has 6; choose at most 6"):
        report.at_most(cfg, "layers", 6, "it has 6")
    cfg = report.preset(starbucks.Config(paper=True, layers=(1, 2, 4, 8)), paper=starbucks.PAPER)
    with pytest.raises(ValueError, match="^--layers 8: it has 6"):
        report.at_most(cfg, "layers", 6, "it has 6")
    with pytest.raises(ValueError, match="^--values 9: every value needs a row in each of --heights"):
        tables.main(tables.Config(heights=(8,), values=9))


# The command line


def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch, tmp_path):
    def fails(name):
        return inputs.with_extra(ModuleNotFoundError(f"No module named {name!r}", name=name))

    assert fails("tokenizers") == "No module named 'tokenizers'; pip install 'jaxembed[text]'"
    assert fails("sklearn.datasets").endswith("pip install 'jaxembed[experiments]'")
    assert fails("unheard_of").endswith("pip install unheard_of")
    told = ImportError("no tokenizers; pip install 'jaxembed[text]'", name="tokenizers")
    assert inputs.with_extra(told) == str(told)
    with pytest.raises(ModuleNotFoundError):
        inputs.installed("json", "unheard_of")


def stopped(error, monkeypatch, capsys):
    """What a run prints that ends with an error, and its exit status."""
    monkeypatch.setattr(sys, "argv", ["x", "--results", "/tmp"])

    def main(cfg):
        raise error

    with pytest.raises(SystemExit) as ended:
        report.run(main, tables.Config)
    return f"{capsys.readouterr().err}{ended.value}"


def test_every_stop_prints_a_line(monkeypatch, capsys):
    assert stopped(KeyboardInterrupt(), monkeypatch, capsys) == "stopped\n130"
    assert stopped(KeyboardInterrupt("stopped after step 3"), monkeypatch, capsys) == (
        "stopped after step 3\n130"
    )
    assert stopped(ValueError("--x: bad"), monkeypatch, capsys) == "error: --x: bad"
    missing = ModuleNotFoundError("No module named 'bm25s'", name="bm25s")
    assert stopped(missing, monkeypatch, capsys).endswith("pip install 'jaxembed[experiments]'")


def test_usage_names_the_command_and_pipes_get_lines(tmp_path):
    command = [sys.executable, "-m", "experiments.benchmarks.tables", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert "usage: python -m experiments.benchmarks.tables" in done.stdout


def test_stages_reach_a_pipe_at_once():
    code = "import os; from experiments.common import report; report.stage('reads'); os._exit(0)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.endswith("s] reads\n")


# The installation


def test_the_makefile_installs_what_the_commands_of_the_readme_need():
    made = (ROOT / "Makefile").read_text()
    needs = {line.split(":")[0]: line.split("##")[0] for line in made.splitlines() if ":" in line}
    assert ".venv/demo" in needs["data"] and ".venv/data" in needs["benchmarks"]
    lines = [
        line for line in made.splitlines() if "-m experiments.quickstart" in line or "benchmarks.$$" in line
    ]
    assert len(lines) == 2 and all("--results runs/" in line for line in lines)


# Pictures


def test_every_kept_picture_is_drawn_again_from_its_numbers(tmp_path):
    made = redraw.redraw(report.RESULTS, tmp_path)
    assert {p.stem for p in made} == {p.stem for p in report.RESULTS.glob("*.png")}
    assert all(path.stat().st_size > 20_000 for path in made)
    own, sts = ((tmp_path / f"false_negatives{n}.png").read_bytes() for n in ("", "_sts"))
    assert own != sts
    with pytest.raises(ValueError, match="have no picture"):
        plots.redraw(report.RESULTS / "pooling.json", lambda numbers: None, tmp_path)


def drawn(name):
    """The figure of kept results, as matplotlib holds it."""
    from matplotlib import pyplot

    picture = next(p for n, p in redraw.PICTURES.items() if f"{name}_".startswith(f"{n}_"))
    found = picture(json.loads((report.RESULTS / f"{name}.json").read_text()))
    draw, panels = found if isinstance(found, tuple) else (found, None)
    figure, axes = pyplot.subplots(*(panels or (1, 1)), squeeze=False, layout="constrained")
    draw(axes if panels else axes[0, 0])
    pyplot.close(figure)
    return figure


def test_pictures_name_what_they_show():
    sts = [axes.get_ylabel() for axes in drawn("false_negatives_sts").axes]
    assert sts == ["top-1 among held-out senses", "Spearman on STS-B's test pairs"]
    lines = drawn("length_collapse").axes[0].get_legend()
    assert lines.handlelength >= 3.5
    assert sum("less the mean" in t.get_text() for t in lines.get_texts()) == 5


def test_the_installed_model_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(inputs, "installed_model", lambda: tmp_path / "model")
    assert text_models.find_model(None) == tmp_path / "model"
