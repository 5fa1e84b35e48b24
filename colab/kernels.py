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
# # Inside trained networks
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see what the
# kernels of a small net look like before and after training, which numbers tell the two apart, and what
# filters come out of pictures without any training.

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

from jaxembed import data, encoders, losses, train, vectors, weights

# %% [markdown]
# ## A small net
#
# Three convolutions of 3 x 3 learn to read handwritten digits.

# %%
digits = load_digits()
images = (digits.images[..., None] / 16).astype(np.float32)
labels = digits.target.astype(np.int32)
net = encoders.convnet([16, 32, 32], norm=None, width=10, inputs=1)


def loss_fn(params, batch, key):
    logits = net.encode(params, batch["images"])
    return jnp.mean(losses.softmax_loss(logits, positives=batch["labels"])), {}


batches = data.batches({"images": images[:1500], "labels": labels[:1500]}, 128)
start = net.init(jax.random.key(0))
state = train.fit(
    init=lambda key: start,
    loss_fn=loss_fn,
    tx=optax.adam(3e-3),
    batches=batches,
    steps=400,
    mesh=train.make_mesh(1),
)
guesses = np.argmax(net.encode(state.params, images[1500:]), axis=1)
accuracy = float(np.mean(guesses == labels[1500:]))
print(f"accuracy on digits it has not seen: {accuracy:.2f}")

# %% [markdown]
# ## What training did to the kernels
#
# Variance entropy says how many directions the kernels of a layer use. New kernels use all of them equally;
# "to random" is 1 there. Training leaves a few.

# %%
before, after = weights.model_quality(start), weights.model_quality(state.params)
for path in before:
    pair = (f"{quality[path]['to random']:.3f}" for quality in (before, after))
    print(path, " -> ".join(pair), after[path]["degenerate"] or "fine")

# %%
rows = {}
for name, params in (("new", start), ("trained", state.params)):
    rows[name] = np.concatenate(
        [np.asarray(weights.kernel_rows(w)) for w in weights.kernels(params, 3).values()]
    )
figure, axes = plt.subplots(2, 9, figsize=(9, 2.4))
for line, (name, some) in zip(axes, rows.items(), strict=True):
    basis = weights.fit_kernel_basis(weights.scaled_rows(some))
    for axis, pattern, share in zip(line, basis["components"], basis["shares"], strict=True):
        axis.imshow(np.asarray(pattern).reshape(3, 3), cmap="RdBu_r", vmin=-0.7, vmax=0.7)
        axis.set(xticks=[], yticks=[], title=f"{100 * share:.0f} %")
    line[0].set_ylabel(name)
plt.show()

# %% [markdown]
# ## Half of the filters
#
# Filters are scored by how much they change the spread of the data, times the size of their weights. Half of
# each layer is cut, out of every array that has its channels. A short training follows.

# %%
graph = encoders.channel_graph(state.params)
taps = weights.convolution_taps(net.encode, state.params, images[:128])
scores = {path: weights.activation_spread(**tap) for path, tap in taps.items()}
keep = {path: weights.select_filters(found, len(found) // 2) for path, found in scores.items()}
small = weights.prune(state.params, graph, keep)
tuned = train.fit(
    init=lambda key: small,
    loss_fn=loss_fn,
    tx=optax.adam(3e-3),
    batches=batches,
    steps=100,
    mesh=train.make_mesh(1),
).params
for name, params in (("whole", state.params), ("half", small), ("half, tuned", tuned)):
    right = float(np.mean(np.argmax(net.encode(params, images[1500:]), axis=1) == labels[1500:]))
    macs = weights.count_macs(net.encode, params, images[:1])
    print(f"{name}: {macs:,} multiply-accumulates, accuracy {right:.2f}")

# %% [markdown]
# ## Filters without training
#
# Centres of whitened patches, found by k-means, are edges and dots. The whitening is folded into the kernel,
# so that the filters run on the pictures themselves.

# %%
patches = weights.normalise_patches(weights.draw_patches(jax.random.key(1), images[:1500], 5, 6000))
whitening = vectors.fit_whiten(patches, ridge=0.1)
filters = weights.kmeans_filters(jax.random.key(2), vectors.standardise(whitening, patches), 16)
folded, bias = weights.fold_whitening(filters, whitening)
banks = {"k-means": filters, "Gabor": weights.gabor_bank(5), "DCT": weights.dct_bank(5, 16)}
figure, axes = plt.subplots(3, 16, figsize=(12, 2.6))
for line, (name, bank) in zip(axes, banks.items(), strict=True):
    for axis, pattern in zip(line, np.asarray(bank), strict=True):
        axis.imshow(pattern.reshape(5, 5), cmap="gray")
        axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(name)
plt.show()

# %% [markdown]
# ## A bank as a start
#
# Any bank is an initialiser, for Flax or for a tree of parameters.

# %%
init = weights.bank_initializer(weights.dct_bank(3))
started = weights.redraw_kernels(jax.random.key(3), start, init, "stage_0")
kernel = started["stages"]["stage_0"]["kernel"]
print(kernel.shape, "lengths", np.unique(np.linalg.norm(np.asarray(kernel).reshape(9, -1), axis=0).round(2)))

# %%
drift = weights.drift_matrix(rows)[0, 1]
print(f"divergence of new and trained kernels: {drift:.2f}")
last = "stages/stage_2/kernel"
assert accuracy > 0.85 and drift > 0
assert before[last]["degenerate"] == "random" and after[last]["to random"] < before[last]["to random"]
assert right > 0.8  # with half of the filters
