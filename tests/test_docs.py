"""What users read is true: examples in docstrings and README run, the wheel imports light, versions agree."""

import doctest
import importlib
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import jaxembed

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = pathlib.Path(jaxembed.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
HEAVY = ("flax", "orbax", "tensorflow_datasets", "grain", "tensorflow", "torch")

# Docstrings


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.failed == 0
    has_examples = any(test.examples for test in doctest.DocTestFinder().find(module))
    assert (result.attempted > 0) == has_examples


# The wheel


def python(code, path, cwd):
    """Runs code with a folder in front of the path, and returns what it prints."""
    environment = os.environ | {"PYTHONPATH": str(path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment, cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    packed = {str(p.relative_to(wheel / "jaxembed")) for p in (wheel / "jaxembed").rglob("*.*")}
    assert packed == {str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py")} | {"py.typed"}
    (info,) = wheel.glob("*.dist-info")
    assert info.name == f"jaxembed-{jaxembed.__version__}.dist-info"
    assert {p.name for p in wheel.iterdir()} == {"jaxembed", info.name}


@pytest.mark.slow
@pytest.mark.parametrize("room", ["losses", "tables", "vectors", "search"])
def test_a_light_room_of_the_wheel_brings_no_heavy_library(wheel, tmp_path, room):
    code = f"""
import sys
from jaxembed import {room}
import jaxembed
print(jaxembed.__file__)
print([name for name in {HEAVY} if name in sys.modules])
print(all(hasattr({room}, name) for name in {room}.__all__))
"""
    file, heavy, complete = python(code, wheel, tmp_path).splitlines()
    assert pathlib.Path(file).is_relative_to(wheel)
    assert heavy == "[]"
    assert complete == "True"


# README

README = (ROOT / "README.md").read_text()


def python_blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def paper_rows(text):
    """(paper, functions, experiments) of the table under the heading that contains "Papers"."""
    section = re.search(r"^#+ [^\n]*Papers[^\n]*\n(.*?)(?=^#|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    rows = []
    for line in (section.group(1) if section else "").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and not set(cells[0]) <= set("-: "):
            rows.append((cells[0], re.findall(r"`([^`]+)`", cells[1]), re.findall(r"`([^`]+)`", cells[2])))
    return rows[1:]  # the first is the header


def test_the_table_of_papers_is_read_as_markdown_shows_it():
    text = "# A\n| x | y | z |\n## Papers\n\n| paper | functions | experiment |\n|---|:--|---|\n"
    text += "| B (2020) | `losses.f`, `tables.g` | `experiments/e.py` |\n## C\n| no | `n.o` | `n` |\n"
    assert paper_rows(text) == [("B (2020)", ["losses.f", "tables.g"], ["experiments/e.py"])]
    assert python_blocks("```python\na\n```\n```bash\nb\n```\n```python\nc\n```\n") == ["a\n", "c\n"]


def test_snippets_of_the_readme_run_in_order(tmp_path):
    blocks = python_blocks(README)
    assert blocks
    assert python("\n".join(blocks) + "\nprint('reached the end')", ROOT, tmp_path).endswith("the end\n")


def test_every_paper_of_the_readme_names_functions_and_experiments_that_exist():
    rows = paper_rows(README)
    assert rows
    for paper, functions, experiments in rows:
        assert functions, paper
        assert experiments, paper
        for name in functions:
            room, _, attribute = name.removesuffix("()").removeprefix("jaxembed.").partition(".")
            found = importlib.import_module(f"jaxembed.{room}")
            for part in attribute.split("."):
                assert hasattr(found, part), f"{paper}: {name} does not exist"
                found = getattr(found, part)
            assert callable(found)
        for file in experiments:
            assert (ROOT / file).is_file(), f"{paper}: {file} does not exist"


def test_links_of_the_readme_to_files_lead_somewhere():
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", README)
    assert not [link for link in links if not (ROOT / link).exists()]


def test_one_version_everywhere():
    stated = {
        "pyproject.toml": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "CITATION.cff": re.search(r"^version: *['\"]?([\w.]+)", (ROOT / "CITATION.cff").read_text(), re.M)[1],
        "CHANGELOG.md": re.search(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[1],
    }
    assert set(stated.values()) == {jaxembed.__version__}, stated
