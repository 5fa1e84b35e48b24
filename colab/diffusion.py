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
# # A diffusion model in a minute
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see what noise
# does to an image, a small network that learns to undo it, digits that it draws on request, and a large image
# drawn by windows that overlap.

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

from jaxembed import data, diffusion, metrics, recipes

# %% [markdown]
# ## Noise
#
# A schedule says how much of the image is left at each of a thousand steps, and how much noise is there.

# %%
digits = data.digits()
images = digits["images"] * 2 - 1
table = diffusion.schedule("linear", 1000)
steps = np.array([0, 100, 259, 500, 999])
x = jnp.asarray(images[:1].repeat(len(steps), axis=0))
noisy = diffusion.noised(table, x, steps, jax.random.normal(jax.random.key(0), x.shape))


def show(pictures, titles, rows=1):
    figure, axes = plt.subplots(rows, len(pictures) // rows, figsize=(len(pictures) // rows, 1.3 * rows))
    for axis, picture, title in zip(np.ravel(axes), pictures, titles, strict=True):
        axis.imshow(np.asarray(picture)[..., 0], cmap="gray_r", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, fontsize=8)
    plt.show()


show(noisy, [f"step {t}" for t in steps])

# %% [markdown]
# ## A model that draws what a word says
#
# A text transformer reads the prompt, and a U-Net reads both the text and the noisy image. They learn
# together to undo noise. Two digits and a few hundred steps are enough to see it work.

# %%
chosen = digits["labels"] < 2
words = np.array(["zero", "one"])[digits["labels"][chosen]]
model = recipes.fit_text_to_image(
    images[chosen], words.tolist(), network={"base": 8, "groups": 2}, steps=400, batch_size=32
)

# %% [markdown]
# ## Guidance
#
# A scale above 1 moves what is drawn away from what the model draws without a prompt. A judge that was fitted
# on real digits says what is shown.

# %%
judge = metrics.fit_judge(images[chosen], words)
asked = ["zero", "one"] * 16
right = {}
for scale in (1.0, 2.0):
    drawn = model.sample(jax.random.key(1), asked, scale=scale, steps=20)
    right[scale] = float(np.mean(judge(drawn) == np.array(asked)))
    print(f"guidance {scale:g}: {right[scale]:.2f} of the samples are the digit that was asked for")
show(drawn[:16], asked[:16], rows=2)

# %% [markdown]
# ## A large image
#
# Windows of the trained size overlap on a larger canvas. Each has a condition of its own, here the states of
# "zero" on the left and of "one" on the right, and all agree on the pixels that they share.

# %%
size, window, stride = (16, 24), 8, 4
origins = diffusion.window_origins(size, window, stride)
states = model.encode(model.params, model.ids(["zero", "one"]))
condition = {"tokens": states[jnp.asarray((origins[:, 1] > 8).astype(int))]}
draw = diffusion.guided(model.denoise, 2.0, model.null(model.params))
options = {"prediction": "v", "spacing": "trailing", "clip": 1.0, "steps": 20}
run = jax.jit(
    functools.partial(
        diffusion.sample_canvas, draw, shape=(*size, 1), window=window, stride=stride, **options
    )
)
canvas = run(model.params, schedule=model.schedule, key=jax.random.key(2), condition=condition)
show([canvas, images[0]], ["drawn by windows", "a real digit"])

# %%
assert right[2.0] > 0.7 and canvas.shape == (16, 24, 1)
