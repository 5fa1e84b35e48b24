"""The logs of the experiment: drawn from WordNet's nouns, generated, MovieLens-100K, or files of a user.

Each has "interactions", "items" and "users", as ``recipes.train_towers`` takes them, and the row numbers
"train", "validation", "test" and "flat". "test" is drawn as the log is; "flat" asks for rare and new items.
"""

import collections
import re

import numpy as np

from jaxembed import data

WORDS = 8  # of a gloss that are read
FAMILY = 40  # senses of one parent, at most
SUBS = 20  # rare values of a leaf, and of a style


def choose(rng, candidates, taken, size):
    """Draws up to ``size`` (query, item) pairs from an endless draw, none twice and none that is taken."""
    found, seen = [], set(taken)
    for _ in range(20):
        for pair in candidates(4 * size):
            if pair not in seen:
                seen.add(pair)
                found.append(pair)
                if len(found) == size:
                    return found
    return found


def assemble(log, parts, items, users=None):
    """A log whose rows come part by part, and the row numbers of the parts."""
    ends = np.cumsum([0, *parts.values()])
    rows = {part: np.arange(*ends[i : i + 2]) for i, part in enumerate(parts)}
    return {"interactions": log, "items": items, "users": users} | rows


# WordNet: the words of one sense's gloss ask for another sense with the same parent


def families(seed=0, share=0.5, most_new=1500):
    """{parent: ids of its children} of a share of the parents: all that were ever met, and some never met."""
    senses = {s["id"]: s for s in data.wordnet(parts=["noun"])}
    counts, below = data.wordnet_counts(), collections.defaultdict(list)
    for sense in senses.values():
        if sense["parents"]:
            below[sense["parents"][0]].append(sense["id"])
    below = {p: ids for p, ids in below.items() if 2 <= len(ids) <= FAMILY and any(i in counts for i in ids)}
    rng = np.random.default_rng(seed)
    below = {p: ids for p, ids in below.items() if rng.random() < share}
    never = [i for ids in below.values() for i in ids if i not in counts]
    new = set(rng.permutation(never)[:most_new].tolist())
    kept = {p: [i for i in ids if i in counts or i in new] for p, ids in below.items()}
    return senses, counts, {p: ids for p, ids in kept.items() if len(ids) > 1}


def words_of(sense):
    """The first words of a gloss, none twice."""
    found = re.findall(r"[a-z]+", sense["gloss"].lower())
    return list(dict.fromkeys(w for w in found if len(w) > 2))[:WORDS]


def described(senses, ids):
    """The catalogue of senses: id, topic, parent, grandparent, depth, first letter, words of the gloss."""

    def above(i):
        return senses[i]["parents"][0] if i in senses and senses[i]["parents"] else "none"

    def depth(i):
        return 0 if i == "none" else 1 + depth(above(i))

    columns = {"item": ids, "topic": [senses[i]["file"] for i in ids], "parent": [above(i) for i in ids]}
    columns |= {"grandparent": [above(p) for p in columns["parent"]], "depth": [depth(i) for i in ids]}
    columns |= {"letter": [senses[i]["lemmas"][0][0].lower() for i in ids]}
    columns |= {"gloss": [words_of(senses[i]) for i in ids]}
    single = ("item", "topic", "parent", "grandparent", "depth", "letter")
    return data.catalogue(columns, data.Schema(None, categorical=single, multivalent=("gloss",)))


def wordnet(cfg, seed):
    """A sense asks for a sibling; how often it does follows how often the sibling was met in tagged texts."""
    senses, counts, below = families()
    ids = [i for members in below.values() for i in members]
    family = {i: members for members in below.values() for i in members}
    rng = np.random.default_rng(seed)
    met = np.array([counts.get(i, 0) for i in ids], float)

    def pairs(share):
        def draw(size):
            for target in rng.choice(len(ids), size, p=share / share.sum()):
                others = [i for i in family[ids[target]] if i != ids[target]]
                yield others[rng.integers(len(others))], ids[target]

        return draw

    train = list(pairs(met)(cfg.pairs))
    seen = collections.Counter(target for _, target in train)
    times = np.array([seen[i] for i in ids])
    rare, new = ((times > 0) & (times <= cfg.rare)).astype(float), (times == 0).astype(float)
    known = set(train)
    parts = {"train": train, "validation": choose(rng, pairs((times > 0) * 1.0), known, cfg.test // 2)}
    known |= set(parts["validation"])
    parts["test"] = choose(rng, pairs(met), known, cfg.test)
    parts["flat"] = choose(rng, pairs(rare), known, cfg.test) + choose(rng, pairs(new), known, cfg.test // 2)
    asked = [pair for rows in parts.values() for pair in rows]
    words = [words_of(senses[q]) for q, _ in asked]
    schema = data.Schema(None, categorical=("item",), multivalent=("words",))
    log = data.interactions({"item": [i for _, i in asked], "words": words}, schema, user=None)
    return assemble(log, {part: len(rows) for part, rows in parts.items()}, described(senses, ids))


# Generated: users with tastes over two latents of the items, which correlated features show


def generated_items(rng, count):
    """Columns of items, and their latents: 30 leaves in 6 groups, and 12 styles that half follow the leaf."""
    leaf = rng.integers(30, size=count)
    style = np.where(rng.random(count) < 0.5, leaf % 12, rng.integers(12, size=count))

    def noisy(values, size):
        return np.where(rng.random(count) < 0.1, rng.integers(size, size=count), values)

    columns = {"item": np.arange(count), "group": leaf // 5, "leaf": noisy(leaf, 30)}
    columns["brand"] = noisy(leaf * SUBS + rng.integers(SUBS, size=count), 30 * SUBS)
    columns["style"] = noisy(style * SUBS + rng.integers(SUBS, size=count), 12 * SUBS)
    columns |= {"material": noisy(style, 12), "season": noisy(style // 3, 4)}
    columns["colour"] = rng.integers(50, size=count)
    own = rng.integers(200, size=(30 + 12, 12))  # the tags of leaves and of styles
    pool = np.concatenate([own[leaf], own[30 + style]], axis=1)
    columns["tags"] = [sorted(set(rng.choice(row, 5).tolist())) for row in pool]
    return columns, leaf, style


def synthetic(cfg, seed, count=3000, users=2000):
    """Users take items by taste times popularity; a query is their group and the tags of earlier items."""
    rng = np.random.default_rng(seed)
    columns, leaf, style = generated_items(rng, count)
    popular = 1 / (1 + rng.permutation(count))
    taste = rng.normal(size=(users, 30)) * 1.5, rng.normal(size=(users, 12)) * 1.5
    liking = np.exp(taste[0][:, leaf] + taste[1][:, style])
    group = np.stack([taste[0][:, 5 * g : 5 * g + 5].sum(axis=1) for g in range(6)]).argmax(axis=0)

    def draw(share, size):
        asked = rng.integers(users, size=size)
        cumulative = np.cumsum(liking * share, axis=1)
        points = rng.random(size) * cumulative[asked, -1]
        return [(u, int(np.searchsorted(cumulative[u], x))) for u, x in zip(asked, points, strict=True)]

    train = draw(popular, cfg.pairs)
    times = np.bincount([i for _, i in train], minlength=count)
    rare, new = (times > 0) & (times <= cfg.rare), times == 0
    parts = {
        "train": train,
        "validation": draw((times > 0) * 1.0, cfg.test // 2),
        "test": draw(popular, cfg.test),
    }
    parts["flat"] = draw(rare * 1.0, cfg.test) + (draw(new * 1.0, cfg.test // 2) if new.any() else [])
    asked = [pair for rows in parts.values() for pair in rows]
    before = np.array([i for _, i in draw(popular, 5 * len(asked))]).reshape(-1, 5)
    order = {}
    for u, i in train:  # earlier items are the user's own
        order.setdefault(u, []).append(i)
    before = [
        rng.choice(order[u], 5) if u in order else row for (u, _), row in zip(asked, before, strict=True)
    ]
    tags = [sorted({t for i in row for t in columns["tags"][i]}) for row in before]
    log = {"item": [i for _, i in asked], "taste": group[[u for u, _ in asked]], "asked": tags}
    schema = data.Schema(None, categorical=("item", "taste"), multivalent=("asked",))
    single = tuple(name for name in columns if name != "tags")
    items = data.catalogue(columns, data.Schema(None, categorical=single, multivalent=("tags",)))
    log = data.interactions(log, schema, user=None)
    return assemble(log, {part: len(rows) for part, rows in parts.items()}, items)


# Real logs


def movielens(cfg, seed):
    """MovieLens-100K; of a film with two ratings one tests, of a film with four one more chooses."""
    found = data.movielens_interactions()
    log, rng = found["interactions"], np.random.default_rng(seed)
    order = rng.permutation(len(log["items"]))
    place = np.zeros(len(order), int)  # of each rating among those of its film, at random
    ranked = order[np.argsort(log["items"][order], kind="stable")]
    sizes = np.bincount(log["items"])
    place[ranked] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    flat, held = (place == 0) & (sizes[log["items"]] > 1), (place == 1) & (sizes[log["items"]] > 3)
    rest = np.flatnonzero(~flat & ~held)
    test = rng.permutation(rest)[: cfg.test]
    rows = {"train": np.setdiff1d(rest, test), "validation": np.flatnonzero(held), "test": test}
    found = {name: found[name] for name in ("interactions", "items", "users")}
    return found | rows | {"flat": np.flatnonzero(flat)}


def own(cfg, seed):
    """Files of a user: the last event of everybody tests, or without users or times a random tenth."""
    keys = tuple(filter(None, (cfg.user, cfg.item)))
    log = data.interactions(
        cfg.interactions, data.Schema(None, keys, time=cfg.time), user=cfg.user, item=cfg.item
    )
    items = None
    if cfg.items is not None:
        more = {*cfg.multivalent, *cfg.dense, cfg.item}
        single = (cfg.item, *(n for n in data.column_names(cfg.items) if n not in more))
        schema = data.Schema(None, single, dense=cfg.dense, multivalent=cfg.multivalent, joint=cfg.joint)
        items = data.catalogue(cfg.items, schema, key=cfg.item)
    rows = data.leave_last_out(log["users"], log["time"])
    return {"interactions": log, "items": items, "users": None, "flat": rows["test"]} | rows


LOGS = {"wordnet": wordnet, "synthetic": synthetic, "movielens": movielens}
