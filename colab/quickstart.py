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
# # A search engine over Python functions
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see word
# vectors from one hashed table learn, in under a minute on a CPU, which function a sentence
# describes.

# %%
# Installs what is missing: jaxembed from the checkout that this notebook lies in, from a wheel beside
# the notebook (`pip wheel --no-deps .` in a checkout makes one), or from its address, once it has one.
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

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from jaxembed import data, encoders, losses, search, tables, train
from jaxembed.arrays import unit

# %% [markdown]
# ## Records
# Every documented function of two installed packages: its first sentence is the query, the rest of it
# the document.

# %%
records = data.docstrings(["optax", "chex"])
queries = [data.words(r["query"], limit=24) for r in records]
documents = [data.words(r["name"] + " " + r["docstring"] + " " + r["code"], limit=96) for r in records]
training = [i for i, r in enumerate(records) if r["split"] == "train"]
print(len(records), "functions;", records[0]["query"], "->", records[0]["name"])

# %% [markdown]
# ## Batches
# A batch names its distinct words once. Words and their character n-grams are hashed ids: there is no
# vocabulary.


# %%
def make(chosen):
    bags = [dict.fromkeys(side[i], 1.0) for side in (queries, documents) for i in chosen]
    words, positions, weights = data.pack(bags, length=64)
    ids, masks = data.subword_ids(words, limit=8, rows=2048)
    return {"ids": ids, "masks": masks, "positions": positions, "weights": weights}


batches = data.batches(training, 64, make=make)

# %% [markdown]
# ## Model and loss
# All features share one table (Unified Embedding); the loss asks every prefix of a vector to find its
# document (Matryoshka).

# %%
plan = tables.plan(
    [tables.Feature(n, chunks=2) for n in ("word", "3gram", "4gram", "5gram")], rows=4096, width=64
)
sizes = (16, 32, 64, 128)


def encode(params, batch):
    words = sum(tables.lookup(plan, params, tables.codes(plan, batch["ids"]), batch["masks"]).values())
    return encoders.weighted_bag(words, batch["positions"], batch["weights"])


def loss_fn(params, batch, key):
    q, d = jnp.split(encode(params, batch), 2)
    nested = losses.matryoshka(losses.info_nce, sizes)
    return jnp.mean(nested(q, d) + nested(d, q)), {}


state = train.fit(
    init=functools.partial(tables.init_tables, plan=plan),
    loss_fn=loss_fn,
    tx=optax.adam(1e-2),
    batches=batches,
    steps=60,
    mesh=train.make_mesh(1),
)

# %% [markdown]
# ## Search
# Recall@10 over all functions for every prefix, on the sentences of files that were never trained on.

# %%
held_out = np.array([i for i, r in enumerate(records) if r["split"] != "train"])
run = jax.jit(encode)
starts = range(0, len(records), 32)
parts = [jnp.split(run(state.params, make(range(s, min(s + 32, len(records))))), 2) for s in starts]
q, d = (jnp.concatenate(side) for side in zip(*parts, strict=True))
recall = {}
for size in sizes:
    _, ids = search.top_k(unit(q[held_out, :size]), unit(d[:, :size]), 10)
    recall[size] = float((ids == held_out[:, None]).any(axis=1).mean())
    print(f"first {size:3d} dimensions: Recall@10 {recall[size]:.2f}")

# %%
chance = 10 / len(records)
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.plot(sizes, [recall[size] for size in sizes], "o-", label="prefixes of one vector")
axes.axhline(chance, color="grey", ls="--", label="chance")
axes.set(xscale="log", xlabel="first numbers of the vector", ylabel="Recall@10", title="Held-out sentences")
axes.set_xticks(sizes, [str(size) for size in sizes])
axes.minorticks_off()
axes.legend()
plt.show()

# %%
assert recall[128] > 10 * chance, "the encoder should find held-out functions far more often than chance"
