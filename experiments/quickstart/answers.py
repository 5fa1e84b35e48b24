"""The index of functions on disk, and questions that are answered from it."""

import pathlib
import shlex
import sys

import jax.numpy as jnp
import numpy as np

from experiments.quickstart import function_words
from experiments.shared import flags
from jaxembed import search
from jaxembed.arrays import unit

QUESTIONS = (
    "How do I pad a list of arrays to the same length",
    "Which function solves a system of linear equations",
    "How can I compute the distance between two points on a sphere",
)


def save_index(workdir, run, records, text, vectors, model):
    """Saves what a query needs: unit vectors, places of the functions, word counts, settings of the model."""
    places = [{k: r[k] for k in ("id", "file", "line", "query")} for r in records]
    np.save(workdir / run / "counts.npy", text.counts)
    meta = {"model": model, "documents": len(records), "run": run}
    vectors = np.asarray(unit(jnp.asarray(vectors, jnp.float32)))
    search.save_index(workdir / "index", vectors, np.arange(len(records)), places, meta)


def load_index(workdir):
    """Opens what :func:`save_index` wrote: (index, folder of the run, text for queries)."""
    if not (workdir / "index" / "index.json").exists():
        raise ValueError(f"--workdir {workdir}: holds no index; run the quickstart without --query first")
    index = search.load_index(workdir / "index")
    run = workdir / index.meta["run"]
    return index, run, function_words.Text(range(index.meta["documents"]), np.load(run / "counts.npy"))


def nearest(index, vector, count=10):
    """The functions of a saved index whose vectors are nearest to a vector [1, D], as lines of text."""
    scores, ids = search.top_k(unit(jnp.asarray(vector)), index.vectors, min(count, len(index.ids)))
    lines = []
    for score, i in zip(scores[0], ids[0], strict=True):
        found = index.metadata[int(i)]
        lines.append(f"{score:.3f}  {found['id']}  {found['file']}:{found['line']}\n       {found['query']}")
    return "\n".join(lines)


def answers(cfg, vector_of):
    """Three questions, what the index just built answers, and how to ask it something else."""
    index, parts = load_index(cfg.workdir)[0], []
    for question in QUESTIONS:
        parts.append(f"{question}?\n{nearest(index, vector_of(question), 3)}\n")
    here, python = pathlib.Path.cwd(), pathlib.Path(sys.executable)
    python = python.relative_to(here) if python.is_relative_to(here) else "python"
    place = f" --workdir {shlex.quote(str(cfg.workdir))}" if "workdir" in flags.given(cfg) else ""
    parts.append(f'Ask your own: {python} -m experiments.quickstart --query "your question"{place}')
    return "\n".join(parts)
