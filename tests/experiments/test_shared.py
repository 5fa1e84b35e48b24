"""What all experiments share: flags, names of runs, a look at inputs first, verdicts, results, stops."""

import dataclasses
import doctest
import json
import math
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import layout
from experiments.shared import flags, inputs, plots, results, text_models
from jaxembed import data

ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of an experiment that is only here."""

    parts: tuple[str, ...] = ("digits",)
    sizes: tuple[int, ...] = (4, 8)
    steps: int = 40
    rate: float = 1e-3
    width: int = 8
    alone: bool = False
    pairs: pathlib.Path | None = None
    sts: pathlib.Path | None = None
    encoder: pathlib.Path | None = None
    beir: pathlib.Path | None = None
    split: str = "test"
    seeds: int = 5
    paper: bool = False
    quick: bool = False
    workdir: pathlib.Path = pathlib.Path("runs/here")
    results: pathlib.Path | None = None


# Names


def name(runs=None, **given):
    return flags.run_name(Config(**given), runs)


def test_runs_with_different_settings_have_different_names():
    many = {"steps": 2, "rate": 0.5, "width": 4, "sizes": (1, 2, 3), "alone": True, "seeds": 7}
    many["sizes"] = tuple(range(100))
    names = [name(), name(steps=2), name(steps=3), name(rate=1e-4), name(**many), name(**many | {"seeds": 8})]
    names += [name(alone=True), name(quick=True), name(parts=("text",)), name(sts=pathlib.Path("stsb"))]
    names += [name(pairs=pathlib.Path(f"{n}.tsv")) for n in "ab"]
    names += [name(beir=pathlib.Path("cranfield")), name(beir=pathlib.Path("cranfield"), split="dev")]
    assert len(set(names)) == len(names) and max(map(len, names)) < 130
    assert names[:4] == ["default", "steps-2", "steps-3", "rate-0.0001"]
    assert names[6:] == [
        *("alone", "quick", "text", "sts", "own_a", "own_b", "cranfield", "cranfield_dev"),
    ]
    assert name(results=pathlib.Path("r"), workdir=pathlib.Path("w")) == "default"


def test_usual_settings_of_a_run_are_not_in_its_name():
    usual = {"sts": {"steps": 2}}
    sts = {"sts": pathlib.Path("stsb")}
    assert name(usual, **sts) == "sts_steps-40" and name(usual, steps=2, **sts) == "sts"
    assert name(usual, steps=2) == "steps-2"


def test_a_model_is_named_by_its_folder_and_the_installed_one_is_not(monkeypatch, tmp_path):
    monkeypatch.setattr(inputs, "installed_model", lambda: tmp_path / "model")
    assert [name(encoder=tmp_path / n) for n in ("model", "bge")] == ["encoder", "encoder_bge"]
    assert text_models.find_model(None) == tmp_path / "model"
    assert text_models.find_model(pathlib.Path("own")) == pathlib.Path("own")


def test_settings_are_json_and_name_no_folder_of_this_machine(tmp_path):
    found = flags.settings(Config(pairs=tmp_path / "a.tsv", results=tmp_path))
    assert found["pairs"] == "a.tsv" and not {"results", "workdir"} & found.keys()
    assert json.loads(json.dumps(found))["sizes"] == [4, 8]


# Flags


@pytest.mark.parametrize(
    "given, message",
    [
        ({"steps": 0}, "--steps 0: choose 1 to 1,000,000"),
        ({"sizes": ()}, "--sizes: is empty; give at least one"),
        ({"sizes": (4, 0)}, "--sizes 0: choose 1 to 8"),
        ({"width": 6}, "--width 6: choose a multiple of 4"),
        ({"seeds": 6}, "--seeds 6: with it, --width 8: choose 1 to 5"),
        ({"sizes": (1, 2), "seeds": 6}, "--seeds 6: with it, --width 8: choose 1 to 5"),
        ({"seeds": 6, "width": 12}, "--width 12: choose 1 to 5"),
    ],
)
def test_settings_outside_their_limits_are_refused_by_their_flag(given, message):
    limits = {"steps": (1, 10**6), "sizes": (1, 8), "pairs": (1, 1)}
    cfg = Config(**given)
    limits |= {"width": (1, 5)} if cfg.seeds == 6 else {}
    with pytest.raises(ValueError) as error:
        flags.check(cfg, limits, {"width": 4}, {"width": "seeds"})
    assert str(error.value) == message


def test_a_flag_without_meaning_beside_another_is_refused():
    with pytest.raises(ValueError, match="--width: has no meaning with --pairs; leave one of them out"):
        flags.exclude(Config(pairs=pathlib.Path("a"), width=3), "pairs", ("steps", "width"))
    flags.exclude(Config(width=3), "pairs", ("steps", "width"))
    flags.exclude(Config(pairs=pathlib.Path("a")), "pairs", ("steps", "width"))


QUICK, PAPER = {"steps": 2, "seeds": 1}, {"steps": 10**6, "sizes": (8, 16)}


def test_presets_leave_what_the_user_gave():
    def preset(together=(), **given):
        return flags.preset(Config(**given), together, quick=QUICK, paper=PAPER)

    assert (preset(quick=True).steps, preset(quick=True, seeds=3).seeds) == (2, 3)
    assert preset(seeds=3).steps == 40
    assert preset(paper=True).sizes == (8, 16)
    assert preset((("steps", "sizes"),), paper=True, steps=7).sizes == (4, 8)
    with pytest.raises(ValueError, match="--quick --paper: choose one of them"):
        preset(quick=True, paper=True)


def test_a_limit_names_the_flag_that_was_given():
    for given, said in (({}, "--paper sets --sizes 16"), ({"sizes": (8, 16, 32)}, "--sizes 16")):
        cfg = flags.preset(Config(paper=True, **given), paper=PAPER)
        with pytest.raises(ValueError, match=f"^{said}: it has 12; choose at most 12$"):
            flags.at_most(cfg, "sizes", 12, "it has 12")
    flags.at_most(Config(), "pairs", 1, "None passes")


# Inputs and outputs


@pytest.mark.parametrize(
    "given, message",
    [
        ({"results": "file"}, "--results .*file: .*file is not a folder"),
        ({"results": "file/below"}, "--results .*below: .*file is not a folder"),
        ({"workdir": "file"}, "--workdir .*file: .* is not a folder"),
        ({"sts": "missing"}, "--sts .*missing: is not a folder"),
        ({"pairs": "missing.tsv"}, "--pairs .*missing.tsv: is not a file"),
        ({"pairs": "."}, "--pairs .*: is not a file"),
    ],
)
def test_bad_paths_are_refused_before_the_run(given, message, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=message):
        inputs.check_paths(Config(**{name: tmp_path / value for name, value in given.items()}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_outputs_that_do_not_exist_yet_are_taken(tmp_path):
    inputs.check_paths(Config(results=tmp_path / "a/b", workdir=tmp_path / "c"))
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_one_line_that_names_the_extra():
    def fails(name):
        return inputs.with_extra(ModuleNotFoundError(f"No module named {name!r}", name=name))

    assert fails("tokenizers").startswith("No module named 'tokenizers'; pip install 'jaxembed[")
    assert fails("sklearn.datasets").endswith("pip install 'jaxembed[experiments]'")
    assert fails("unheard_of").endswith("pip install unheard-of")
    told = ImportError("no tokenizers; pip install 'jaxembed[text]'", name="tokenizers")
    assert inputs.with_extra(told) == str(told)
    with pytest.raises(ModuleNotFoundError):
        inputs.installed("json", "unheard_of")


def test_data_sets_that_lack_are_named(tmp_path, monkeypatch):
    def missing(**_):
        raise FileNotFoundError("run `make data`")

    monkeypatch.setattr(data, "wordnet", missing)
    inputs.sets()
    with pytest.raises(FileNotFoundError, match="make data"):
        inputs.sets("wordnet")
    (tmp_path / inputs.STS["test"]).write_text("a,b,1\n")
    inputs.sts(None, "train")
    inputs.sts(tmp_path, "test")
    with pytest.raises(ValueError, match="--sts .*: holds no stsb-en-dev.csv"):
        inputs.sts(tmp_path, "test", "dev")


# Text encoders


def test_a_model_that_lacks_is_named_by_its_flag(monkeypatch):
    with pytest.raises(FileNotFoundError, match="^--guide: no model: no such folder"):
        text_models.load(pathlib.Path("no model"), "guide")
    monkeypatch.setattr(inputs, "installed_model", lambda: None)
    with pytest.raises(ValueError, match="^--model: no encoder is installed; run `make data`"):
        text_models.load()


def test_similarity_is_that_of_the_test_pairs(tmp_path):
    (tmp_path / inputs.STS["test"]).write_text("1 0,1 0,5\n1 0,1 1,3\n1 0,0 1,0\n")
    score = text_models.similarity(tmp_path)
    near = {"1 0": [1, 0], "1 1": [1, 1], "0 1": [0, 1]}
    assert score(lambda texts: np.array([near[t] for t in texts])) == pytest.approx(1)
    far = near | {"1 1": [0, 1], "0 1": [1, 1]}
    assert score(lambda texts: np.array([far[t] for t in texts])) == pytest.approx(0.5)


def test_own_pairs_are_told_and_batches_fit_the_devices(capsys):
    text_models.print_reading(np.array([[True, True], [True, False]]), 40, 100)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "50% of the texts reach --length 2 tokens and may be cut there"
    assert said[1] == "training takes 100 pairs, 2.5 times the 40 of the file"
    assert text_models.mesh_for(jax.device_count()) is None
    assert text_models.mesh_for(jax.device_count() + 1).size == 1
    assert text_models.take({"x": [5, 6, 7]}, [2, 0])["x"].tolist() == [7, 5]


# Verdicts


def test_equal_arms_rarely_pass():
    """Two of three seeds are won by chance half of the time, an interval above 0 in one of forty."""
    draws = np.random.default_rng(0).normal(size=(2000, 5))
    held = np.mean([results.paired(row).verdict == results.REPRODUCED for row in draws])
    assert 0.015 < held < 0.035
    assert np.mean((draws[:, :3] > 0).sum(axis=1) >= 2) > 0.45


def test_a_claim_needs_five_seeds_and_every_column():
    few, many = np.array([0.2, 0.3, 0.2, 0.3]), np.array([0.2, 0.3, 0.2, 0.3, 0.25])
    assert results.paired(few) == (pytest.approx(0.25), None, None)
    yes, no = results.REPRODUCED, results.NOT
    assert results.paired(many).verdict == yes and results.paired(many, margin=0.24).verdict == no
    both = np.stack([many, many - 0.3], axis=1)
    value, spread, verdict = results.paired(both)
    assert verdict == no and value == pytest.approx(-0.05) and 0 < spread < 0.1
    assert results.paired(both, margin=-0.2).verdict == yes


def test_a_denied_claim_holds_where_nothing_is_above():
    many = np.array([0.2, 0.3, 0.2, 0.3, 0.25])
    yes, no = results.REPRODUCED, results.NOT
    assert results.paired(np.zeros(5), denied=True).verdict == yes
    assert results.paired(many, denied=True).verdict == no
    found = results.paired(np.stack([many - 0.3, many], axis=1), denied=True)
    assert found.verdict == no and found.value == pytest.approx(0.25)
    assert results.paired(np.full(5, np.nan), denied=True).verdict == no


def test_shares_are_reproduced_partly_or_not():
    found = [results.share(x).verdict for x in ([True, True], [True, False], [False])]
    assert found == [results.REPRODUCED, results.PARTLY, results.NOT]
    assert results.holds(True, np.float32(2)) == (2.0, None, results.REPRODUCED)


# Results


CLAIMS = (
    results.Claim("2402.16829", "it falls", lambda t: results.paired(t["each"]), paper=0.5),
    results.Claim("", "not asked", lambda t: None),
)


def line(numbers):
    return {"": lambda axes: axes.plot(numbers["each"]), "two": (lambda axes: axes[0, 1].plot([1]), (1, 2))}


def run(cfg):
    each = [0.1 * cfg.steps, 0.2, float("nan")]
    return results.Result({"arms": [{"arm": "a", "top-1": 0.5, "± top-1": 0.25}]}, {"each": each})


def start(monkeypatch, *arguments, run=run, **options):
    monkeypatch.setattr(sys, "argv", ["x", *map(str, arguments)])
    return results.main("here", Config, run, CLAIMS, figures=line, quick=QUICK, paper=PAPER, **options)


def test_a_run_saves_one_schema_and_its_pictures(monkeypatch, tmp_path, capsys):
    start(monkeypatch, "--quick", "--results", tmp_path)
    saved = json.loads((tmp_path / "quick.json").read_text(), parse_constant=pytest.fail)
    assert list(saved) == [
        *("schema", "experiment", "run", "command", "commit", "machine", "seconds", "seeds", "config"),
        *("tables", "claims", "details"),
    ]
    assert saved["command"] == f"python -m experiments.here --quick --results path/to/{tmp_path.name}"
    assert (saved["seeds"], saved["config"]["steps"], saved["run"]) == (1, 2, "quick")
    assert saved["details"]["each"] == [0.2, 0.2, None]
    assert [row["sentence"] for row in saved["claims"]] == ["it falls"]
    assert saved["claims"][0]["paper_value"] == 0.5 and saved["claims"][0]["verdict"] is None
    assert saved["machine"]["peak_memory_gb"] > 0
    assert {p.name for p in tmp_path.iterdir()} == {"quick.json", "quick.png", "quick_two.png"}
    printed = capsys.readouterr().out
    assert "arm          top-1\na    0.500 ± 0.250" in printed and "no verdict: it falls" in printed


def test_a_run_that_is_cut_keeps_what_it_yielded(monkeypatch, tmp_path, capsys):
    def rows(cfg):
        for count in (1, 2):
            yield results.Result(
                {"arms": [{"n": n} for n in range(count)]}, {"device": "Some Card 80GB", "each": [0.5]}
            )
            kept.append(json.loads((tmp_path / "some-card-80gb_steps-3.json").read_text())["tables"]["arms"])
        raise KeyboardInterrupt

    kept = []
    with pytest.raises(SystemExit):
        start(monkeypatch, "--steps", "3", "--results", tmp_path, run=rows)
    assert kept == [[{"n": 0}], [{"n": 0}, {"n": 1}]]
    assert json.loads((tmp_path / "some-card-80gb_steps-3.json").read_text())["tables"]["arms"] == kept[1]
    assert capsys.readouterr().err == "stopped\n"
    start(monkeypatch, "--steps", "4", "--results", tmp_path, run=lambda cfg: (x for x in ()))
    assert len(list(tmp_path.iterdir())) == 1  # a run that yields nothing saves nothing


def test_a_device_leads_the_name_of_its_run():
    assert results.on_device("default", {"device": "NVIDIA H100 80GB HBM3"}) == "nvidia-h100-80gb-hbm3"
    assert results.on_device("quick", {"device": "cpu"}) == "cpu_quick"
    assert results.on_device("quick", {}) == "quick"


def test_a_kept_picture_is_drawn_again_from_its_numbers(monkeypatch, tmp_path):
    start(monkeypatch, "--results", tmp_path)
    before = (tmp_path / "default.png").read_bytes()
    (tmp_path / "default.png").write_bytes(b"")
    results.draw(tmp_path / "default.json", line)
    assert (tmp_path / "default.png").read_bytes() == before
    assert results.draw(tmp_path / "default.json", None) == []


def test_inputs_are_looked_at_first_and_nothing_is_saved_without_a_result(monkeypatch, tmp_path):
    seen = []
    start(monkeypatch, "--results", tmp_path, run=seen.append, check=seen.append)
    assert len(seen) == 2 and seen[0] is seen[1] and not list(tmp_path.iterdir())
    start(monkeypatch, "--quick", "--steps", "3", "--results", tmp_path, runs={"quick": {"steps": 3}})
    assert (tmp_path / "quick.json").exists()


def test_files_of_a_family_begin_with_their_story():
    folder = results.EXPERIMENTS
    assert results.path_of("pooling", "sts") == folder / "pooling/results/sts.json"
    assert results.path_of("nesting.starbucks", "default") == folder / "nesting/results/starbucks.json"
    assert results.path_of("nesting.starbucks", "sts") == folder / "nesting/results/starbucks_sts.json"


def stopped(error, monkeypatch, capsys):
    """What a run prints that ends with an error, and its exit status."""

    def fails(cfg):
        raise error

    with pytest.raises(SystemExit) as ended:
        start(monkeypatch, run=fails)
    return f"{capsys.readouterr().err}{ended.value}"


def test_every_stop_prints_a_line(monkeypatch, capsys):
    assert stopped(KeyboardInterrupt(), monkeypatch, capsys) == "stopped\n130"
    halted = KeyboardInterrupt("stopped after step 3")
    assert stopped(halted, monkeypatch, capsys) == "stopped after step 3\n130"
    assert stopped(ValueError("--x: bad"), monkeypatch, capsys) == "error: --x: bad"
    missing = ModuleNotFoundError("No module named 'bm25s'", name="bm25s")
    assert stopped(missing, monkeypatch, capsys).endswith("pip install 'jaxembed[experiments]'")


def test_usage_names_the_command(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        start(monkeypatch, "--help")
    assert "usage: python -m experiments.here" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        start(monkeypatch, "--stepz", "3")
    assert "--stepz" in capsys.readouterr().err


def test_stages_reach_a_pipe_at_once():
    code = "import os; from experiments.shared import flags; flags.stage('reads'); os._exit(0)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.endswith("s] reads\n")


def test_rows_are_shown_with_their_spread_and_without_lists():
    rows = [{"arm": "a", "n": 1234, "x": 0.5, "± x": None, "runs": [1]}, {"arm": "long", "x": 12.345}]
    assert layout.merged(rows) == (["arm", "n", "x"], [["a", "1,234", "0.500"], ["long", "-", "12.3"]])
    assert layout.table(rows, ["x", "arm"]).splitlines() == ["    x  arm", "0.500  a", " 12.3  long"]
    assert [layout.table_cell(x) for x in (True, "a", 1e6, -0.25)] == ["True", "a", "1,000,000", "-0.250"]
    assert results.spread([1.0, 2.0]) == (1.5, pytest.approx(math.sqrt(0.5)))


def test_a_result_outside_a_checkout_has_no_commit(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert results.commit.__wrapped__() is None


@pytest.mark.parametrize("module", [flags, inputs, layout, plots, results, text_models])
def test_examples_in_docstrings_of_what_is_shared(module):
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted or module in (plots, text_models)


def test_what_is_shared_stays_small():
    lines = [len(p.read_text().splitlines()) for p in (ROOT / "experiments/shared").glob("*.py")]
    assert sum(lines) <= 700


# The installation


def test_the_makefile_installs_what_the_commands_of_the_readme_need():
    made = (ROOT / "Makefile").read_text()
    needs = {line.split(":")[0]: line.split("##")[0] for line in made.splitlines() if ":" in line}
    assert ".venv/demo" in needs["data"] and ".venv/data" in needs["benchmarks"]
    lines = [
        line for line in made.splitlines() if "-m experiments.quickstart" in line or "benchmarks.$$" in line
    ]
    assert len(lines) == 2 and all("--results runs/" in line for line in lines)
