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
# # Two towers that recommend films
#
# [Open in Colab](https://colab.research.google.com/) with *File, Upload notebook*. You will see films
# recommended to users of MovieLens, with a second loss on two masked views of films, and a new film that is
# found by its features alone.

# %%
# Installs what is missing: jaxembed from the checkout that this notebook lies in, from a wheel beside
# the notebook (`pip wheel --no-deps .` in a checkout makes one), or from its address, once it has one.
# The package recbole holds the ratings (MovieLens-100K; its files are read, its code never runs).
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
if missing("recbole"):
    install("--no-deps", "recbole==1.2.1")

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np

from jaxembed import data, metrics, recipes, search, train

# %% [markdown]
# ## A log and two catalogues
# Who rated which film, when; what is known of films and of users. The last rating of every user tests.

# %%
movielens = data.movielens_interactions()
log, items, titles = movielens["interactions"], movielens["items"], movielens["titles"]
splits = data.leave_last_out(log["users"], log["time"])
print({part: len(rows) for part, rows in splits.items()}, "ratings;", sorted(items["ids"]), "of each film")

# %% [markdown]
# ## What features tell of one another
# Mutual information in nats, with what chance alone would show taken off: an id tells nothing.

# %%
print(data.mutual_information(items["ids"], items["masks"], kind="adjusted").round(2))

# %% [markdown]
# ## Training
# A query is the user and the last ten films. The second loss draws films uniformly from the catalogue and
# hides a random half of the features in one view, the rest in the other.

# %%
options = {"splits": splits, "history": 10, "masks": "random", "epochs": 3, "rate": 3e-3}
model = recipes.train_towers(log, items, movielens["users"], mesh=train.make_mesh(1), **options)
print("recall at 50 on the ratings before the last, epoch by epoch:", np.round(model.recalls, 3))

# %% [markdown]
# ## Recall by popularity

# %%
wanted = model.events["items"][splits["test"]]
_, ids = search.top_k(model.query_vectors(splits["test"]), model.item_vectors, 50)
hits = (np.asarray(ids) == wanted[:, None]).any(axis=1)
edges = (30, 100, 200)
means, sizes = metrics.sliced_means(hits.astype(np.float32), model.counts[wanted], edges)
shown = ["up to 30", "up to 100", "up to 200", "above"]

figure, axes = plt.subplots(figsize=(6, 2.5), layout="constrained")
bars = axes.barh(shown, np.asarray(means))
axes.bar_label(bars, [f"{size} films asked for" for size in sizes.tolist()], padding=3)
axes.set(xlim=(0, 1), xlabel="recall at 50", ylabel="ratings in training", title="Popular films are easier")
plt.show()

# %% [markdown]
# ## Asking
# What a user has rated is left out.


# %%
def show(model, user, k=5):
    for score, name in zip(*(x[0] for x in model.recommend([user], k)), strict=True):
        title = titles[items["names"].index(name)] if name in items["names"] else name
        print(f"  {score:.2f} {title}")


for user in ("1", "100"):
    print("to user", user)
    show(model, user)

# %% [markdown]
# ## A film that came later
# Its id was never trained, so that its year and genres speak for it.

# %%
new = {"item": ["a new war film"], "year": ["1998"], "genres": ["War Drama"]}
larger = model.with_items(new)
of_1998 = items["ids"]["year"] == items["vocabularies"]["year"].index("1998") + 1
cosines = np.asarray(larger.item_vectors[-1] @ larger.item_vectors[:-1].T)
print("nearest films:", [titles[i] for i in np.argsort(-cosines)[:5]])

# %%
folder = tempfile.mkdtemp()
larger.save(folder)
again = recipes.load_towers(folder).recommend(["1", "100"], 5)[1]
print("saved, opened again:", again.tolist() == larger.recommend(["1", "100"], 5)[1].tolist())

# %%
assert hits.mean() > 3 * 50 / len(titles), "recall should be far above chance"
assert cosines[of_1998].mean() > cosines.mean() + 0.1, "a film of 1998 should be near the films of its year"
