"""All readers of files: what writes a small good input of each into a folder, and what reads it.

``READERS`` is the one list from which damage, audit hooks and campaigns take them. A new reader joins it.
"""

import contextlib
import importlib.util
import os
import pathlib

from readers_of_models import ENCODERS, INDEXES, PREPARED, RUNS
from readers_of_pictures import FONTS, PICTURES
from readers_of_texts import TABLES, TEXTS

KINDS = {
    "texts": TEXTS,
    "tables": TABLES,
    "pictures and fonts": PICTURES | FONTS,
    "encoders": ENCODERS,
    "runs and models": RUNS,
    "indexes": INDEXES,
    "prepared data sets": PREPARED,
}
READERS = {name: reader for readers in KINDS.values() for name, reader in readers.items()}


def runnable():
    """The readers whose packages are installed."""
    return {n: r for n, r in READERS.items() if r.needs is None or importlib.util.find_spec(r.needs)}


@contextlib.contextmanager
def written(name, folder):
    """The folder with the good input of a reader, as the working folder."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    here = os.getcwd()
    os.chdir(folder)
    try:
        READERS[name].write(folder)
        yield folder
    finally:
        os.chdir(here)
