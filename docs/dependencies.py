"""Writes docs/dependencies.md: what each dependency is for, and the licences of all locked packages.

python docs/dependencies.py           # the page, from pyproject.toml and the metadata of what is installed
python docs/dependencies.py --lock    # the locks too, with the newest versions; needs uv (`make lock`)
"""

import argparse
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs/dependencies.md"
PYTHONS = {"3.11": "requirements-test-py311.txt", "3.12": "requirements-test-py312.txt"}
DATA = "requirements-data.txt"
LOCK = [
    "pip",
    "compile",
    "pyproject.toml",
    "--extra",
    "test",
    "--generate-hashes",
    "--universal",
    "--upgrade",
]
LOCK += ["--no-header", "--no-annotate", "--no-strip-extras", "--quiet"]
KNOWN = ("MIT License", "Apache License", "BSD", "GNU General Public License", "GNU Affero", "Mozilla Public")
ELSEWHERE = "only on other systems or Pythons"
INTRO = """# Dependencies

What jaxembed needs, and why. The base is the first table; extras bring the rest. `make lock` writes this
page.

Tests run on exactly the versions of [requirements-test-py311.txt](../requirements-test-py311.txt) and
[requirements-test-py312.txt](../requirements-test-py312.txt), which pip compares with their hashes.
Packages of which only data files are read are in [requirements-data.txt](../requirements-data.txt), with
hashes too.
"""


def reasons(text):
    """Yields (extra, requirement, reason) of every dependency in pyproject.toml."""
    section, extra = "", None
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        found = re.match(r"([\w-]+) = \[", line)
        if found and (section == "[project.optional-dependencies]" or line.startswith("dependencies")):
            extra = "base" if found[1] == "dependencies" else found[1]
        if extra is not None:
            names, _, reason = line.partition("#")
            for wanted in re.findall(r'"([A-Za-z][^"]*)"', names):
                if not wanted.startswith("jaxembed["):
                    yield extra, wanted, reason.strip()
        if line.startswith("]") or line.partition("#")[0].rstrip().endswith("]"):
            extra = None


def locked(text):
    """The names of the packages in a lock, as they are compared."""
    return {name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==", text, re.M)}


def licence(name):
    """What the metadata of an installed package says about its licence, in a few words."""
    try:
        found = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ELSEWHERE
    if found["License-Expression"]:
        return found["License-Expression"]
    classes = [
        c.rpartition(" :: ")[2] for c in found.get_all("Classifier") or () if c.startswith("License ::")
    ]
    classes = [c for c in classes if c != "OSI Approved"]
    said = (found["License"] or "UNKNOWN").strip().splitlines()[:1]
    if classes:
        return ", ".join(dict.fromkeys(classes))
    return said[0][:60].strip() if said and said[0] != "UNKNOWN" else _of_file(name)


def _of_file(name):
    """The first licence that a file of a package names."""
    for path in importlib.metadata.files(name) or ():
        if re.match("(?i)(licen[cs]e|copying)", path.name):
            text = " ".join(path.read_text(encoding="utf-8").split())
            places = {
                text.lower().find(known.lower()): known for known in KNOWN if known.lower() in text.lower()
            }
            if places:
                return f"{places[min(places)]}, by its file"
    return "not named in its metadata"


def page():
    """The text of the page."""
    parts, extra = [INTRO], None
    for group, wanted, reason in reasons((ROOT / "pyproject.toml").read_text(encoding="utf-8")):
        if group != extra:
            title = "The base" if group == "base" else f"Extra `{group}`"
            parts.append(f"\n## {title}\n\n| package | for |\n|---|---|")
            extra = group
        parts.append(f"| {wanted} | {reason} |")
    names = set().union(*(locked((ROOT / lock).read_text(encoding="utf-8")) for lock in PYTHONS.values()))
    parts.append("\n## Licences of the locked packages\n\n| package | licence |\n|---|---|")
    parts += [f"| {name} | {licence(name)} |" for name in sorted(names)]
    parts.append("\n## Licences of the packages whose data is read\n\n| package | licence |\n|---|---|")
    names = locked((ROOT / DATA).read_text(encoding="utf-8"))
    parts += [f"| {name} | {licence(name)} |" for name in sorted(names)]
    return "\n".join(parts) + "\n"


def lock():
    """Resolves the extra `test` anew for both Pythons."""
    tool = shutil.which("uv")
    if tool is None:
        sys.exit("uv is not installed; `pip install uv` brings it")
    for version, name in PYTHONS.items():
        command = [tool, *LOCK, "--python-version", version, "--output-file", name]
        subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lock", action="store_true", help="resolve the locks anew first")
    if parser.parse_args().lock:
        lock()
    PAGE.write_text(page(), encoding="utf-8")
