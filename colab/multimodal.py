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
# # Pictures and words in one space
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see a tower of
# pictures and a tower of words learn from captions, classes named by words alone, the models between two
# models, and a choice of the tokens of a picture that a question needs.

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

from jaxembed import data, encoders, recipes, weights
from jaxembed.arrays import masked_mean

# %% [markdown]
# ## Captions
# Each of scikit-learn's digits gets a caption of a few words. Half of the digits train.

# %%
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
FORMS = ["a {}", "the number {}", "{} by hand", "someone wrote {}"]
WORDS = sorted({word for text in (*NAMES, *FORMS) for word in text.split() if word != "{}"})

digits = data.digits()
rng = np.random.default_rng(0)
order = rng.permutation(len(digits["labels"]))
train, test = order[:1000], order[1000:]
captions = [rng.choice(FORMS).replace("{}", NAMES[label]) for label in digits["labels"]]
pairs = {"images": digits["images"][train], "texts": [captions[i] for i in train]}
print(pairs["images"].shape, pairs["texts"][:3])

# %% [markdown]
# ## Two towers
# A small convolutional net reads pictures, a table of word vectors reads captions. Every picture has to pick
# its caption out of the batch, and every caption its picture. The temperature is learned along.


# %%
def tokenize(texts, length=4):
    ids = np.zeros((len(texts), length), np.int32)
    for row, text in zip(ids, texts, strict=True):
        known = [1 + WORDS.index(word) for word in text.split() if word in WORDS][:length]
        row[: len(known)] = known
    return {"ids": ids, "mask": ids > 0}


def init_words(key):
    return {"table": 0.1 * jax.random.normal(key, (1 + len(WORDS), 32))}


def encode_words(params, batch, key=None):
    return masked_mean(params["table"][batch["ids"]], batch["mask"])


net = encoders.convnet([16, 32], width=32, inputs=1)
towers = encoders.dual_encoder(net, (init_words, encode_words))
model = recipes.train_image_text(towers, tokenize, pairs, steps=150, rate=5e-3)
temperature = float(encoders.learned_temperature(model.params["scale"]))
print(f"learned temperature {temperature:.3f}")

# %% [markdown]
# ## Classes by their names
# No classifier was trained: the vectors of class names are one. An ensemble of prompts is their mean.


# %%
def accuracy(model, images, rows):
    scores = model.zero_shot(images[rows], NAMES, FORMS)
    return float((scores.argmax(axis=1) == digits["labels"][rows]).mean())


zero_shot = accuracy(model, digits["images"], test)
print(f"{zero_shot:.3f} of held-out digits get the right name")

# %% [markdown]
# ## The models between two models
# The same model, trained further on negatives, forgets some of the first kind. Models between the two often
# serve both.

# %%
inverted = 1 - digits["images"]
again = {"images": inverted[train], "texts": pairs["texts"]}
tuned = recipes.train_image_text(towers, tokenize, again, steps=60, rate=5e-3, start=model.params)
change = weights.task_vector(tuned.params, model.params)
shares = np.linspace(0, 1, 6)
between = [model._replace(params=weights.merge(model.params, [change], float(a))) for a in shares]
curves = {
    "digits": [accuracy(m, digits["images"], test) for m in between],
    "negatives": [accuracy(m, inverted, test) for m in between],
}
for name, curve in curves.items():
    plt.plot(shares, curve, marker="o", label=name)
plt.xlabel("share of the second model")
plt.ylabel("zero-shot accuracy")
plt.legend()
plt.show()

# %% [markdown]
# ## The tokens that a question needs
# Sixteen pictures side by side are sixteen tokens. Their cosines with the words of a question choose some of
# them: the fewest whose share of a softmax exceeds p.

# %%
shown = test[:16]
tokens = model.encode_images(digits["images"][shown])[None]
question = model.encode_texts(["a three"])[None]
scores = encoders.token_scores(jnp.asarray(tokens), jnp.asarray(question))
kept = np.asarray(encoders.top_p_mask(scores, 0.8, temperature=0.1))[0]
figure, axes = plt.subplots(2, 8, figsize=(6.5, 1.9))
for axis, row, chosen in zip(axes.flat, shown, kept, strict=True):
    axis.imshow(
        digits["images"][row, ..., 0], cmap="gray_r" if chosen else "Blues", alpha=1 if chosen else 0.3
    )
    axis.axis("off")
figure.suptitle("Kept for the question 'a three'")
plt.show()

# %%
best = digits["labels"][shown[int(np.argmax(np.asarray(scores)[0]))]]
print(f"nearest to the question: {NAMES[best]}; kept {int(kept.sum())} of 16")
assert zero_shot > 0.7, "words should name held-out digits"
assert curves["negatives"][-1] > curves["negatives"][0], "training further should help on what it trains on"
assert kept.any() and not kept.all()
