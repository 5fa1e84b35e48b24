"""WordNet's nouns as items with concepts: the senses above them, pairs that are related, hard negatives."""

import collections

import numpy as np

from experiments.shared import flags, text_models
from jaxembed import data

SHALLOW = 6  # concepts at this depth or below make two items related


def closure(senses):
    """{id: ids of all senses above it} and {id: its least depth}; the root has depth 0."""
    parents = {s["id"]: s["parents"] for s in senses}
    above, depth = {}, {}

    def climb(sense):
        if sense not in above:
            above[sense], depth[sense] = set(), 0  # also ends a circle
            own = [p for p in parents[sense] if p in parents]
            above[sense] = set(own).union(*map(climb, own))
            depth[sense] = 1 + min((depth[p] for p in own), default=-1)
        return above[sense]

    for sense in parents:
        climb(sense)
    return above, depth


def read(cfg):
    """Items, concepts, the vectors of both, and three splits of the items.

    Returns:
        Dict: "vectors" [N, D] and "texts" of the items; "concepts" [K, D], "described" and "names" of the
        concepts; "has" bool [N, K]; "deep" bool [K], concepts that make items related; rows "train", "test".
    """
    senses = data.wordnet(parts=("noun",))
    above, depth = closure(senses)
    counts = collections.Counter(c for found in above.values() for c in found)
    useful = sorted((c for c, n in counts.items() if 50 <= n <= 3000), key=lambda c: (-counts[c], c))
    concepts = useful[: cfg.concepts]
    if len(concepts) < cfg.concepts:
        raise ValueError(f"--concepts {cfg.concepts}: only {len(concepts)} senses cover 50 to 3,000 nouns")
    number = {c: i for i, c in enumerate(concepts)}
    deep = np.array([depth[c] >= SHALLOW for c in concepts])
    items = [s for s in senses if any(c in number and deep[number[c]] for c in above[s["id"]])]
    items = [items[i] for i in np.random.default_rng(0).permutation(len(items))[: cfg.items]]
    has = np.zeros((len(items), len(concepts)), bool)
    for i, item in enumerate(items):
        has[i, [number[c] for c in above[item["id"]] if c in number]] = True
    by_id = {s["id"]: s for s in senses}
    encoder = text_models.load(cfg.model)
    flags.stage(f"embeds {len(items)} definitions and {len(concepts)} concepts")
    texts = [s["gloss"] for s in items]
    described = [f"{by_id[c]['lemmas'][0]}: {by_id[c]['gloss']}" for c in concepts]
    vectors, named = encoder.encode_texts(texts), encoder.encode_texts(described)
    order = np.random.default_rng(1).permutation(len(items))
    train, dev, test = np.split(order, [len(order) * 6 // 10, len(order) * 8 // 10])
    found = {"vectors": vectors, "texts": texts, "concepts": named, "described": described}
    names = [by_id[c]["lemmas"][0] for c in concepts]
    return found | {
        "has": has,
        "deep": deep,
        "names": names,
        "train": train,
        "test": dev if cfg.validate else test,
    }


def related(task, rows, count, seed):
    """Pairs [count, 2] of rows that share a deep concept."""
    rng, deep = np.random.default_rng(seed), task["has"][:, task["deep"]]
    members = [rows[deep[rows, c]] for c in range(deep.shape[1])]
    pairs = []
    while len(pairs) < count:
        first = int(rng.choice(rows))
        own = np.flatnonzero(deep[first])
        second = int(rng.choice(members[rng.choice(own)])) if len(own) else first
        if second != first:
            pairs.append((first, second))
    return np.array(pairs)


def candidates(task, rows, count, negatives=20, seed=0):
    """Queries with one related document and others that share no deep concept, half of them a shallow one.

    Returns:
        queries int [count] and documents int [count, 1 + negatives], the related one first, then hard ones.
        Where there are too few of a kind, the other kind fills the row.
    """
    pairs, rng = related(task, rows, count, seed), np.random.default_rng((seed, 1))
    has, deep = task["has"].astype(np.float32), task["deep"]
    table = np.zeros((count, 1 + negatives), int)
    for i, (query, own) in enumerate(pairs):
        apart = rows[(has[rows][:, deep] @ has[query, deep]) == 0]
        near = (has[apart][:, ~deep] @ has[query, ~deep]) > 0
        if len(apart) < negatives:
            raise ValueError(f"--items: only {len(apart)} tested items are unrelated to a query; choose more")
        hard, easy = rng.permutation(apart[near]), rng.permutation(apart[~near])
        some = hard[: negatives // 2], easy, hard[negatives // 2 :]
        table[i] = [own, *np.concatenate(some)[:negatives]]
    return pairs[:, 0], table
