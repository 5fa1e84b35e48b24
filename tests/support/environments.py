"""Environments that hold nothing but some of the installed distributions."""

import importlib.metadata
import re
import venv


def distribution(line):
    """The name at the head of a requirement."""
    return re.match(r"[\w.-]+", line)[0].lower()


def needed(names):
    """The installed distributions that some need, themselves included."""
    found, waiting = {}, list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = importlib.metadata.distribution(name)
            lines = [x for x in found[name].requires or () if ";" not in x]
            waiting += map(distribution, lines)
    return found.values()


def bare(folder, names):
    """A new environment with some installed distributions and what they need: (its Python, site-packages)."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for found in needed(names):
        tops = {file.parts[0] for file in found.files if file.parts[0] not in ("..", "__pycache__")}
        for top in tops - {path.name for path in site.iterdir()}:
            (site / top).symlink_to(found.locate_file(top).resolve())
    return folder / "bin" / "python", site
