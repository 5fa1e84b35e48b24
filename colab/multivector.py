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
# # One vector for a set of token vectors
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see late
# interaction (Chamfer, also called MaxSim) searched by plain inner products of one vector per document,
# then made exact again on a few candidates (MUVERA).

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
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxembed import data, ragged, recipes, search, vectors

# %% [markdown]
# ## Sets of tokens
# A document is 8 to 24 unit vectors around words that it draws. All share a direction, as the tokens of
# trained encoders do. A query is eight tokens of one document, blurred. `Encoder.encode_sets` makes the same
# arrays of texts: all tokens one after the other, and where each document begins.

# %%
WIDTH, COUNT = 32, 1000
sets = data.toy.token_sets(0, documents=COUNT, queries=100, width=WIDTH)
tokens, offsets, queries, mask = (sets[name] for name in ("tokens", "offsets", "queries", "mask"))
documents = np.split(tokens, offsets[1:-1])
print(tokens.shape, "tokens of", len(documents), "documents; queries", queries.shape)

# %% [markdown]
# ## Encodings
# Random planes cut the space into cells. In every cell a query writes the sum of its tokens and a document
# their mean; the inner product of the two long vectors, divided by the repetitions, estimates the exact
# score. Planes through the mean of the tokens fill the cells more evenly.

# %%
padded, full = ragged.set_batch(tokens, offsets, 0, COUNT)
exact = vectors.chamfer(queries, padded, mask, full)

params = vectors.init_fde(jax.random.key(0), WIDTH, repetitions=20, planes=4, projected=8)
params = vectors.centre_fde(params, padded, full)
estimate = vectors.estimate_chamfer(
    params, vectors.encode_queries(params, queries, mask), vectors.encode_documents(params, padded, full)
)
correlation = np.corrcoef(np.ravel(estimate), np.ravel(exact))[0, 1]
print(vectors.encoding_length(params), "numbers; correlation with the exact score", round(correlation, 3))

# %% [markdown]
# ## An index on disk
# The index holds the tokens, the encodings and the params with which they were made. It is built shard by
# shard from an iterator of ids and tokens; a killed build goes on where it stopped. One call then searches:
# candidates by encodings, their exact order by late interaction, the ids of the documents.

# %%
folder = tempfile.mkdtemp() + "/index"
names = [f"document {n}" for n in range(COUNT)]
index = recipes.index_sets(folder, zip(names, documents, strict=True), params, shard_size=256)
scores, ids = recipes.search_sets(index, queries, mask, 3, candidates=20)
print(len(index.ids), "documents;", index.columns["fde"].shape, index.tokens.shape)
print("asked of", names[sets["sources"][0]], "- found", ids[0].tolist(), scores[0].round(2))

# %% [markdown]
# ## Product codes
# A product quantiser keeps one byte for eight numbers. The query is not quantised.

# %%
encodings = jnp.asarray(index.columns["fde"][:])
books = vectors.fit_product(jax.random.key(1), encodings, group=8, centres=64, iterations=5)
codes = vectors.encode_product(books, encodings)
print(4 * encodings.shape[1], "bytes of floats,", codes.shape[1], "bytes of product codes")

# %% [markdown]
# ## Search
# What `search_sets` does, with other searches in front. Candidates by encodings, by their first 10
# repetitions alone, by product codes, or by the nearest tokens of each query token; then the exact score of
# the candidates alone, whose tokens are read from the disk. Queries take the params from the index.


# %%
def by_encoding(queries, mask, size):
    return search.top_k(vectors.encode_queries(index.params, queries, mask), encodings, size)[1]


def by_half(queries, mask, size):
    half = vectors.truncate_fde(index.params, repetitions=10)
    rows = index.columns["fde"][:, : vectors.encoding_length(half)]  # stays on the disk
    return search.top_k(vectors.encode_queries(half, queries, mask), rows, size)[1]


def by_product_codes(queries, mask, size):
    tables = vectors.product_tables(books, vectors.encode_queries(index.params, queries, mask))
    return search.scan_top_k(vectors.product_scores, tables, codes, size)[1]


def by_tokens(queries, mask, size):
    return search.single_vector_candidates(index.tokens, index.offsets, queries, mask, size)


nearest = np.argmax(exact, axis=1)[:, None]
rules = {"score": vectors.chamfer, "tokens": index.tokens, "offsets": index.offsets}
shares = {}
for find in (by_encoding, by_half, by_product_codes, by_tokens):
    first = np.asarray(find(queries, mask, 20))
    _, found = search.retrieve(find, queries, mask, 1, **rules, candidates=20)
    parts = {"first": first[:, :1], "among 20": first, "first after exact scores": found}
    shares[find.__name__] = {n: round(float((ids == nearest).any(1).mean()), 2) for n, ids in parts.items()}
    print(f"{find.__name__:12s}", shares[find.__name__])

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for place, label in enumerate(("first", "among 20", "first after exact scores")):
    heights = [share[label] for share in shares.values()]
    axes.bar(np.arange(len(shares)) + 0.27 * (place - 1), heights, 0.25, label=label)
axes.set_xticks(range(len(shares)), list(shares))
axes.set(ylabel="share of 100 queries", title="Where the exact nearest document is found")
axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
plt.show()

# %%
found = shares["by_encoding"]["first after exact scores"]
assert found > 0.9, "twenty candidates should hold the exact neighbour of nearly all queries"
