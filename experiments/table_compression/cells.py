"""One cell of the sweep: a method on a task at a budget, trained, chosen, stored and measured."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.table_compression import arms, training
from jaxembed import tables

READ = 4096  # rows whose vectors are looked up when time is taken


def compute(cell):
    """The numbers of a cell, or {"floor": why the method does not fit the budget}."""
    task = arms.task_of(cell)
    budget = round((cell["budget"] or 1) * task.bytes)
    began = time.process_time()
    try:
        found = arms.trained(cell, budget)
    except ValueError as error:
        if "bytes" not in str(error):
            raise
        return {"floor": str(error), "said": "does not fit"}
    numbers = measured(task, budget, **found) | {"CPU seconds": round(time.process_time() - began, 1)}
    return numbers | {"said": f"{np.mean(numbers['AUCs']):.4f} at {numbers['bytes']:,} bytes"}


def measured(task, budget, stored, rate, seconds, training_bytes):
    """AUCs of what is stored, its bytes, and how long a lookup takes.

    Args:
        task: ``training.Task``.
        budget: bytes asked for.
        stored: of every seed (method, {"table": deployed params, "network"}).
        rate: {rate: mean AUC on the validation rows}, of the chosen method.
        seconds, training_bytes: of the training of one member: of CPU; parameters and moments of Adam.
    """
    scores = {}
    for method, _ in stored:
        scores.setdefault(id(method), training.scorer(method))
    each = {
        part: [training.auc(task, scores[id(m)], p, part) for m, p in stored]
        for part in ("test", "validation")
    }
    sizes = [m.bytes(p["table"]) for m, p in stored]
    return {
        "bytes": int(np.mean(sizes)),
        "asked": budget,
        "AUCs": each["test"],
        "validation": each["validation"],
        "rate": max(rate, key=rate.get),
        "rates": {str(r): x for r, x in rate.items()},
        "training seconds": round(seconds, 2),
        "training bytes": int(training_bytes),
        "lookup µs": lookup_time(task, *stored[0]),
    }


def lookup_time(task, method, params, turns=15):
    """Microseconds to look up the vectors of a batch, over those of a plain gather: (method, gather)."""
    ids = {n: jnp.asarray(np.resize(x, READ)) for n, x in task.table["columns"]["ids"].items()}
    full = tables.full_table(task.sizes, training.WIDTH)
    plain = full.init(jax.random.key(0))
    calls = [(jax.jit(method.vectors), params["table"]), (jax.jit(full.vectors), plain)]
    best = [float("inf")] * 2
    for turn in range(turns + 1):
        for place, (call, given) in enumerate(calls):
            began = time.perf_counter()
            jax.block_until_ready(call(given, ids))
            best[place] = min(best[place], time.perf_counter() - began) if turn else best[place]
    return [round(1e6 * seconds, 1) for seconds in best]
