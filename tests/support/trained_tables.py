"""A plan, its batches and the dense and row-wise rules that train it."""

import contextlib
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from jaxembed import tables, train
from jaxembed.tables import Feature

PLAN = tables.plan(
    [Feature("user", chunks=2), Feature("tags", combine="mean"), Feature("words", chunks=2, combine="sum")],
    rows=64,
    width=4,
    tables=2,
    signed=True,
)
V, PATH, SIZE = 128, "table/embedding", 64
RULES = [(r"table/", P("model", None))]


def init(key):
    tables_key, head_key = jax.random.split(key)
    params = tables.init_tables(tables_key, PLAN)
    return {"table": params["table"], "head": {"kernel": jax.random.normal(head_key, (20, 1))}}


def loss_fn(params, batch, key):
    vectors = tables.lookup(PLAN, params, batch["codes"], batch["masks"])
    scores = jnp.concatenate([vectors[f.name] for f in PLAN.features], axis=1) @ params["head"]["kernel"]
    return jnp.mean((jnp.sin(scores[:, 0]) - batch["labels"]) ** 2), {}


def example(t, count=16):
    """Few users, so that rows occur several times; bags with padding, one of them empty."""
    rng = np.random.default_rng(t)
    ids = {
        "user": rng.integers(0, 6, count),
        "tags": rng.integers(0, 12, (count, 3)),
        "words": rng.integers(0, 9, (count, 2)),
    }
    masks = {"tags": rng.random((count, 3)) < 0.6, "words": rng.random((count, 2)) < 0.7}
    masks["tags"][1] = False
    labels = rng.random(count, np.float32)
    return {"codes": tables.codes(PLAN, ids), "masks": masks, "labels": labels}


def listed(batch, parts=1):
    """The batch with local codes; the process of each part sees its share of the rows alone."""
    size = len(batch["labels"]) // parts
    rows, shares = [], []
    for part in range(parts):
        share = jax.tree.map(lambda x, p=part: x[p * size : (p + 1) * size], batch)
        found, codes = tables.distinct(share["codes"], share["masks"], V, SIZE, part=part)
        rows, shares = [*rows, found], [*shares, share | {"codes": codes}]
    return jax.tree.map(lambda *x: np.concatenate(x), *shares) | {"rows": {PATH: np.concatenate(rows)}}


class Batches:
    def __init__(self, change=lambda batch: batch):
        self.change = change

    def __getitem__(self, t):
        return self.change(example(t))


TX = optax.adam(1e-2)
TABLE_RULES = {
    "sgd": optax.sgd(0.5),
    "adagrad": optax.adagrad(0.1),
    "row-wise adagrad": tables.rowwise_adagrad(0.1),
}


@functools.cache
def by_rows(rule):
    return tables.row_update(loss_fn, TX, {PATH: TABLE_RULES[rule]})


@functools.cache
def dense(rule):
    return train.gradient_update(loss_fn, train.by_path([(r"^table/", TABLE_RULES[rule])], TX))


def fit(update, batches, mesh=(1, 1), steps=4, **options):
    return train.fit(
        init=init,
        update=update,
        batches=batches,
        steps=steps,
        mesh=train.make_mesh(*mesh),
        rules=RULES,
        progress=False,
        **options,
    )


def numbers(state):
    return jax.tree.map(np.asarray, (state.params, state.opt_state))


@contextlib.contextmanager
def optimized():
    """Compiles as users do; the tests otherwise switch most optimizations off."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", os.environ.get("JAXEMBED_OPTIMIZED") != "1")


# Rows give what the dense rule gives


@functools.cache
def dense_result(rule):
    return fit(dense(rule), Batches())
