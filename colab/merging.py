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
# # Two models become one
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see two encoders
# of handwritten digits, trained apart from one start, and the plane between them, in which one merged model
# serves both tasks.

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
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

from jaxembed import data, encoders, losses, metrics, train, weights
from jaxembed.arrays import unit

# %% [markdown]
# ## Two tasks
# Which digit it is, and by how many quarters the image was turned. A vector that serves one task need not
# tell anything about the other.

# %%
digits = load_digits()
rng = np.random.default_rng(0)
order, turns = rng.permutation(len(digits.target)), rng.integers(0, 4, len(digits.target))
images = np.stack([np.rot90(x, k) for x, k in zip(digits.images[order] / 16, turns, strict=True)])
images = images.reshape(len(order), 64).astype(np.float32)
labels = {"digit": digits.target[order].astype(np.int32), "turn": turns.astype(np.int32)}
rows = {"digit": np.arange(600), "turn": np.arange(600, 1200)}  # images of its own for each task
probe_rows, test_rows = np.arange(1200, 1300), np.arange(1300, len(order))


def loss_fn(params, batch, key):
    vectors = encoders.mlp(params, batch["x"])
    pairs = losses.label_pairs(batch["y"])
    return losses.info_nce(vectors, vectors, temperature=0.1, **pairs).mean(), {}


def batch_of(task, rows):
    return {"x": images[rows], "y": labels[task][rows]}


def trained(start, task, steps):
    return train.fit(
        init=lambda key: jax.tree.map(jnp.copy, start),
        loss_fn=loss_fn,
        tx=optax.adam(1e-3),
        batches=data.batches(rows[task], 64, make=lambda r: batch_of(task, np.asarray(r))),
        steps=steps,
        mesh=train.make_mesh(1),
    ).params


start = trained(encoders.init_mlp(jax.random.key(0), (64, 128, 32)), "digit", 30)
models = {task: trained(start, task, 300) for task in labels}

# %% [markdown]
# ## Task vectors
# What training added. The two are almost at right angles.

# %%
vectors = [weights.task_vector(model, start) for model in models.values()]
lengths = [float(optax.tree.norm(v)) for v in vectors]
cosine = float(optax.tree.vdot(*vectors)) / np.prod(lengths)
print(f"lengths {lengths[0]:.1f} and {lengths[1]:.1f}, cosine {cosine:.2f}")


def accuracy(params):
    known, asked = (np.asarray(unit(encoders.mlp(params, images[r]))) for r in (probe_rows, test_rows))
    return {
        t: metrics.nearest_accuracy(known, y[probe_rows], asked, y[test_rows], k=5) for t, y in labels.items()
    }


probe = [batch_of(task, probe_rows) for task in labels]


def shown(name, params):
    found = accuracy(params)
    loss = sum(float(loss_fn(params, batch, None)[0]) for batch in probe) / len(probe)
    print(f"{name:16s}", *(f"{task} {value:.2f}  " for task, value in found.items()), f"loss {loss:.2f}")
    return found


for name, model in {"start": start, **models}.items():
    shown(name, model)

# %% [markdown]
# ## Where between them?
# Fixed rules need no data. A probe of a hundred images, with both labels, fits two numbers: the direction
# between the task vectors, and the length. All weights stay as they are. What falls is the loss on the probe;
# the accuracy of 5 neighbours may prefer another place.

# %%
middle = {"position": [0.5], "scale": [1.0]}
shown("average", weights.merge(start, vectors, 0.5))
shown("slerp, middle", weights.merge(start, vectors, middle, rule="slerp"))
shown("TIES", weights.merge(start, vectors, 1.0, rule="ties"))
found, history = weights.fit_coefficients(loss_fn, start, vectors, probe, steps=150)
merged = weights.merge(start, vectors, found, rule="slerp")
print({name: round(float(x[0]), 2) for name, x in found.items()})
both = shown("fitted", merged)

# %% [markdown]
# ## The plane
# The loss on the probe at every direction and length, and the way of the fit.

# %%
positions, scales = np.linspace(0, 1, 15), np.linspace(0.1, 1.5, 15)


@jax.jit
def loss_at(position, scale):
    params = weights.merge(start, vectors, {"position": position[None], "scale": scale[None]}, rule="slerp")
    return sum(loss_fn(params, batch, None)[0] for batch in probe) / len(probe)


grid = np.array([[loss_at(jnp.float32(p), jnp.float32(s)) for p in positions] for s in scales])
path = np.array([[row["coefficients"][name][0, 0] for name in ("position", "scale")] for row in history])
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
filled = axes.contourf(positions, scales, grid, levels=20)
figure.colorbar(filled, ax=axes, label="loss on the probe")
axes.plot(*path.T, color="white", marker=".", markersize=3)
axes.plot(*path[-1], color="red", marker="o")
axes.set(
    xlabel="position: 0 is the digit's vector, 1 that of the turn", ylabel="scale", title="one merged model"
)
plt.show()

# %%
worst = {name: min(accuracy(model).values()) for name, model in models.items()}
assert min(both.values()) > max(worst.values()), "the merged model should serve its worse task better"
assert min(row["loss"] for row in history) <= history[0]["loss"]
