"""Frozen vectors of texts, and linear heads on them that are trained on pairs, with codes or without."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shared import flags, text_models
from jaxembed import data, losses, search, train, vectors

GAIN = 20**0.5  # of the heads at the start: inner products are then cosines / 0.05


def read(cfg):
    """Vectors of examples and definitions; definition i answers example i, the others answer none.

    Returns:
        {"queries": [P, D], "documents": [N, D]} and the rows of the pairs that are trained on and tested.
    """
    encoder = text_models.load(cfg.model)
    if cfg.beir is not None:
        found, counts = judged(cfg, encoder)
    else:
        senses = [s for s in data.wordnet() if len(s["gloss"].split()) > 2]
        order = np.random.default_rng(0).permutation(len(senses))
        asked = [senses[i] for i in order if senses[i]["examples"]][: cfg.pairs]
        others = [senses[i] for i in order if not senses[i]["examples"]][: cfg.others]
        found = [s["examples"][0] for s in asked], [s["gloss"] for s in asked + others]
        counts = len(asked)
    flags.stage(f"embeds {counts} queries and {len(found[1])} documents")
    queries, documents = (encoder.encode_texts(texts) for texts in found)
    split = np.random.default_rng(1).permutation(counts)
    test = split[: counts // 5]
    if cfg.validate:  # other queries, by which the settings were chosen
        test = split[counts // 5 : 2 * (counts // 5)]
    return {"queries": queries, "documents": documents}, np.sort(split[2 * (counts // 5) :]), np.sort(test)


def judged(cfg, encoder):
    """Queries of a BEIR folder with one relevant document each, those documents first."""
    source = data.beir(cfg.beir)
    pairs = {}
    for split in source["judgments"].values():
        for query, found in split.items():
            best = max(found, key=found.get, default=None)
            if best in source["documents"] and query in source["queries"] and best not in pairs:
                pairs[best] = query
    if len(pairs) < 50:
        raise ValueError(f"--beir {cfg.beir}: {len(pairs)} queries with a document of their own; at least 50")
    own = [source["documents"][d] for d in pairs]
    others = [text for d, text in source["documents"].items() if d not in pairs]
    return ([source["queries"][q] for q in pairs.values()], own + others), len(pairs)


def start(width):
    return {"head": {"kernel": GAIN * jnp.eye(width)}}


def head(params, x):
    """Linear head of queries and documents."""
    return x @ params["head"]["kernel"]


def loss_fn(params, batch, key):
    """Each query finds its document; codes take part where the parameters have them."""
    queries, documents = head(params, batch["query"]), head(params, batch["document"])
    where = losses.duplicate_mask(batch["key"][: len(queries)], batch["key"])
    loss = losses.dot_nce
    if "codes" in params:
        loss = losses.quantised(loss, lambda d: vectors.quantise_product(params["codes"], d))
    return jnp.mean(loss(queries, documents, where=where)), {}


def update(rate):
    """A step of Adam; the rotation of the codes, through which nothing flows, stays."""
    return train.gradient_update(loss_fn, optax.adam(rate))


def fit(texts, rows, init, step, steps, seed):
    """Trains on batches of row numbers {"queries": [S, B], "documents": [S, B, 1 + h]}."""

    def make(places):
        place = int(places[0])
        documents = rows["documents"][place].T.reshape(-1)  # the own ones first
        batch = {"query": texts["queries"][rows["queries"][place]], "document": texts["documents"][documents]}
        return batch | {"key": documents.astype(np.int32)}

    many = data.batches(np.arange(len(rows["queries"])), 1, make=make, shuffle=False)
    given = {"batches": many, "steps": steps, "key": seed, "mesh": train.make_mesh(1), "progress": False}
    return train.fit(init=lambda key: jax.tree.map(jnp.array, init), update=step, **given).params


def random_rows(trained, documents, size, steps, seed):
    """Random batches with one random negative for each query; a document is that of its query's number."""
    rng, queries = np.random.default_rng(seed), []
    while len(queries) < steps:
        order = rng.permutation(trained)
        queries += list(order[: len(order) // size * size].reshape(-1, size))
    queries = np.stack(queries[:steps])
    negatives = rng.integers(0, documents, queries.shape)
    return {"queries": queries, "documents": np.stack([queries, negatives], axis=2)}


def local_rows(trained, graph, documents, size, steps, seed, order):
    """The same from one neighbourhood after another."""
    found = {"queries": [], "documents": []}
    for epoch in range(-(-steps * size // (len(trained) // size * size))):
        given = {"seed": (seed, epoch), "order": order, "count": documents}
        rows = data.locality_batches(graph, trained, size, **given)
        found["queries"].append(trained[rows["queries"]])
        found["documents"].append(rows["documents"])
    return {name: np.concatenate(x)[:steps] for name, x in found.items()}


def candidates(params, texts, trained, count):
    """The documents that the codes find for each trained query, without its own: int [Q, count]."""
    documents, queries = (head(params, texts[side]) for side in ("documents", "queries"))
    coded = vectors.decode_product(params["codes"], vectors.encode_product(params["codes"], documents))
    found = np.asarray(search.top_k(queries[trained], coded, count + 1)[1])
    own = found == trained[:, None]
    last = ~own.any(axis=1)  # the own one was not found: the last is left out
    own[last, -1] = True
    return found[~own].reshape(len(trained), count)
