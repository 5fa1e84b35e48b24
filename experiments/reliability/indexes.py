"""Indexes that are damaged, written by two at once, and written to a full disk."""

import functools
import json
import shutil
import subprocess

import numpy as np

from experiments.reliability.faults import damaged, room
from experiments.reliability.outcomes import LOST, NAMELESS, RIGHT, SILENT, equal, tried
from experiments.reliability.training import WORKER
from jaxembed import search

SIZES = (3, 5, 2, 7, 4, 6)


def sets(count=24):
    """Small documents: (id, rows)."""
    rng = np.random.default_rng(1)
    return [(f"d{n}", rng.normal(size=(SIZES[n % 6], 8)).astype(np.float32)) for n in range(count)]


def encode(params, tokens, mask):
    return tokens.sum(axis=1)


def build(folder):
    search.build_documents(folder, sets(), encode, shard_size=60, meta={"model": "sums"})


def read(folder):
    """Everything that a document index holds, checked against its checksums."""
    index = search.open_documents(folder, verify=True)
    rows = [index.tokens[a:b] for a, b in zip(index.offsets[:-1], index.offsets[1:], strict=True)]
    return rows, [column[:] for column in index.columns.values()], index.params


def save(folder):
    vectors = np.random.default_rng(2).normal(size=(50, 8)).astype(np.float32)
    search.save_index(folder, vectors, [f"v{n}" for n in range(50)], [{"n": n} for n in range(50)])


def load(folder):
    index = search.load_index(folder, verify=True)
    return np.asarray(index.vectors), np.asarray(index.ids, str), [row["n"] for row in index.metadata]


FORMS = {"documents": (build, read), "vectors": (save, load)}


def flips(base, tries, rng, form):
    """Damages one file of an index; ``verify`` tells it, or what is read is what was written."""
    make, reader = FORMS[form]
    whole, folder = base / f"{form}-whole", base / form
    make(whole)
    files = sorted(p.relative_to(whole) for p in whole.rglob("[!.]*") if p.is_file())
    right = functools.partial(equal, reader(whole))
    for n in range(tries):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        path = folder / files[n % len(files)]
        path.write_bytes(damaged(path.read_bytes(), rng))
        yield tried(lambda: reader(folder), right)


def writers(base, tries):
    """Two processes add documents to one index; what each was told is in must be there."""
    for n in range(tries):
        folder = base / f"writers-{n}"
        build(folder)
        call = [*WORKER, "add", str(folder)]
        both = [
            subprocess.Popen([*call, name, "4"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for name in ("left", "right")
        ]
        said = [p.communicate()[0] for p in both]
        told = {json.loads(line) for text in said for line in text.splitlines()}
        held = set(np.asarray(search.open_documents(folder, verify=True).ids).tolist())
        yield RIGHT if told <= held and len(told) == 8 else LOST


def full_disk(base, tries, rng):
    """Adds to an index with little room left: one line, and the index is what it was."""
    folder = base / "full"
    build(folder)
    before = read(folder)
    more = [("large", np.ones((400, 8), np.float32))]  # a file of 6,528 bytes
    for _ in range(tries):
        with room(int(rng.integers(16, 6_500))):
            end = tried(lambda: search.add_documents(folder, more, encode), lambda found: False)
        left = [p for p in folder.rglob("*") if p.name.endswith(".new")]
        if end == SILENT or left:
            yield NAMELESS if left else SILENT
        else:
            yield end if end == NAMELESS or equal(read(folder), before) else LOST
