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
# # Vectors of words
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see vectors of
# words trained from texts in seconds, their neighbours, vectors of words that were never seen, and files that
# gensim reads.

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
import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np

from jaxembed import data, recipes

# %% [markdown]
# ## A text
# Docstrings of the packages that are installed anyway. Files of your own come in by
# `data.text_lines("folder")`; any iterable of texts will do, and it is read once.

# %%
records = data.docstrings(["numpy", "jax", "optax", "flax"])
corpus = data.corpus((record["query"] + " " + record["docstring"] for record in records), min_count=5)
print(f"{corpus['tokens']:,} words, {len(corpus['words']):,} of them known:", *corpus["words"][:8], "...")

# %% [markdown]
# ## Skip-gram
# Each word learns to tell the words around it from words drawn as noise.

# %%
words = recipes.train_words(corpus, width=64, epochs=8, rate=0.05, progress=False)
for query in ("array", "gradient", "random", "float"):
    print(f"{query:10}", ", ".join(f"{w} {s:.2f}" for w, s in words.nearest(query, 5)))

# %% [markdown]
# ## Counts instead
# Pointwise mutual information of pairs, and its singular vectors: no training, and on a small text often
# better. The same object answers.

# %%
counted = recipes.train_words(corpus, kind="ppmi", width=64, negatives=1)
for query in ("array", "gradient", "random", "float"):
    print(f"{query:10}", ", ".join(f"{w} {s:.2f}" for w, s in counted.nearest(query, 5)))
print("sin is to cos as minimum is to ...", counted.analogy("sin", "cos", "minimum", 3))

# %% [markdown]
# ## Words that were never seen
# With n-grams, as in fastText, a word is the mean of its pieces. So every string has a vector.

# %%
pieces = recipes.train_words(corpus, width=64, epochs=4, ngrams=(3, 5), buckets=20_000, progress=False)
unseen = "gradientlike"
print(unseen in pieces, [w for w, _ in pieces.nearest(unseen, 5)])

# %% [markdown]
# ## Labels of texts
# fastText's classifier: from which package is a sentence? Pairs of words count as well as words.

# %%
known, asked = ([r for r in records if r["split"] == split] for split in ("train", "test"))
labels = [record["module"].split(".")[0] for record in known]
options = {"word_ngrams": 2, "buckets": 20_000, "width": 32, "epochs": 20, "rate": 0.5}
told = recipes.train_words(
    [r["query"] for r in known], kind="supervised", labels=labels, progress=False, **options
)
found = told.classify([record["query"] for record in asked])
right = np.mean([row[0][0] == r["module"].split(".")[0] for row, r in zip(found, asked, strict=True)])
print(f"{right:.0%} of {len(asked)} unseen sentences;", told.classify(["the gradient of an optimizer"], k=2))

# %% [markdown]
# ## Files of other programs
# word2vec, GloVe, fastText (its `.bin` too) and NumPy; gensim reads what is written here.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "words.vec")
    data.write_word_vectors(path, words.words, words.vectors)
    again = recipes.load_words(path)

# %% [markdown]
# ## A picture
# The first two principal directions of some words.

# %%
chosen = "sin cos tan exp log minimum maximum mean std float int complex bool gradient loss optimizer"
chosen = [word for word in chosen.split() if word in counted]
rows = np.stack([counted.vector(word) / np.linalg.norm(counted.vector(word)) for word in chosen])
rows = rows - rows.mean(axis=0)
flat = rows @ np.linalg.svd(rows, full_matrices=False)[2][:2].T
figure, axes = plt.subplots(figsize=(7, 5))
axes.scatter(*flat.T, s=8)
for word, place in zip(chosen, flat, strict=True):
    axes.annotate(word, place, fontsize=9)
axes.set(xlabel="first direction", ylabel="second direction", title="words of docstrings")
plt.show()

# %%
assert np.array_equal(again.vectors, words.vectors)
assert "cos" in [w for w, _ in counted.nearest("sin", 10)]
assert len(pieces.vector(unseen)) == 64
