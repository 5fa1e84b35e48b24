"""Documents with labels in several aspects, what encodes them, and how neighbours are judged."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, metrics, search, train, vectors
from jaxembed.arrays import unit

WIDTH = 128
GENERIC, RETROFIT, MERGED = "generic", "generic, retrofitted by aspect", "one encoder, merged labels"
SEPARATE, TRUNK = "an encoder for each aspect", "one trunk, a head for each aspect"


def generated(cfg, seed):
    """Words with known aspects: {"inputs", "generic" [N, D], "labels" [N, A], "names", "encode", "init"}."""
    drawn = data.toy.aspect_documents(seed, documents=cfg.documents)
    ids, count = drawn["ids"], drawn["vocabulary"]
    table = np.random.default_rng((seed, 1)).normal(size=(count, WIDTH)).astype(np.float32)
    weights = np.log(
        len(ids) / np.bincount(np.concatenate([np.unique(row) for row in ids]), minlength=count).clip(1)
    )
    generic = np.mean(table[ids] * weights[ids][..., None].astype(np.float32), axis=1)
    encode, init = words_encoder(count)
    return {
        "inputs": ids,
        "generic": generic,
        "labels": drawn["labels"],
        "names": ("task", "method", "dataset"),
    } | {
        "encode": encode,
        "init": init,
    }


@functools.cache
def words_encoder(count):
    """The mean of word vectors, then a network; the network is the head."""

    def init(key):
        below, above = jax.random.split(key)
        table = jax.random.normal(below, (count, WIDTH)) * WIDTH**-0.5
        return {"table": {"embedding": table}, "mlp": encoders.init_mlp(above, (WIDTH, WIDTH, WIDTH))}

    def encode(params, ids):
        mean = jnp.mean(params["table"]["embedding"][ids], axis=1)
        return encoders.mlp(params["mlp"], mean * ids.shape[1] ** 0.5)

    return encode, init


def glosses(cfg, encoder):
    """WordNet's nouns: the vector of a definition, and the labels (parent, lexicographer's file)."""
    senses = [s for s in data.wordnet(parts=("noun",)) if s["parents"]]
    names, places, counts = np.unique(
        [s["parents"][0] for s in senses], return_inverse=True, return_counts=True
    )
    fit = np.flatnonzero((counts[places] >= 8) & (counts[places] < 100))
    kept = fit[np.random.default_rng(0).permutation(len(fit))[: cfg.glosses]]
    generic = encoder.encode_texts([senses[i]["gloss"] for i in kept])
    labels = np.stack([places[kept], [senses[i]["file"] for i in kept]], axis=1)
    encode, init = linear(generic.shape[1])
    return {"inputs": generic, "generic": generic, "labels": labels, "names": ("parent", "topic")} | {
        "encode": encode,
        "init": init,
    }


@functools.cache
def linear(width):
    def init(key):
        noise = jax.random.normal(key, (width, width)) * 0.02 * width**-0.5
        return {"head": {"kernel": jnp.eye(width) + noise}}

    return lambda params, x: x @ params["head"]["kernel"], init


def pairs_of(source, rows, aspects, most):
    """Positive pairs [P, 2] of the rows of a split: a common label in any of some aspects."""
    sets = [[(a, int(source["labels"][i, a])) for a in aspects] for i in rows]
    return rows[data.aspect_pairs(sets, most=most)]


def batches(source, pairs, asked, size, steps, seed):
    """Batches [A, B, ...] of the pairs of each aspect, and which of their documents share no label.

    ``asked`` are the aspects whose labels hide a pair, one tuple for each of the A parts.
    """

    def one(step, part, aspects):
        rng = np.random.default_rng((seed, step, part))
        first, second = pairs[part][rng.integers(len(pairs[part]), size=size)].T
        seen = source["labels"][:, list(aspects)]
        same = np.any(seen[first][:, None] == seen[second][None], axis=2)
        return {"first": source["inputs"][first], "second": source["inputs"][second], "where": ~same}

    def make(places):
        parts = [one(int(places[0]), part, aspects) for part, aspects in enumerate(asked)]
        return {name: np.stack([x[name] for x in parts]) for name in parts[0]}

    return data.batches(np.arange(steps), 1, make=make, shuffle=False)


@functools.cache
def update(encode, rate):
    """A step that trains every aspect on its own pairs; shared parameters learn from all."""

    def loss_fn(params, batch, key):
        def one(own, part):
            sides = [encode(params["shared"] | own, part[side]) for side in ("first", "second")]
            return jnp.mean(losses.info_nce(*sides, where=part["where"]))

        return jnp.mean(jax.vmap(one)(params["own"], batch)), {}

    return train.gradient_update(loss_fn, optax.adam(rate))


@functools.cache
def retrofit_update(rate):
    def loss_fn(params, batch, key):
        def one(own, part):
            moved = [vectors.retrofit(own, unit(part[side])) for side in ("first", "second")]
            return jnp.mean(losses.retrofit_loss(*moved, unit(part["first"]), where=part["where"]))

        return jnp.mean(jax.vmap(one)(params["own"], batch)), {}

    return train.gradient_update(loss_fn, optax.adam(rate))


def fit(cfg, source, rows, arm, seed):
    """The vectors [N, A, D] of all documents by an arm that is trained on the rows of a split."""
    aspects = tuple(range(source["labels"].shape[1]))
    if arm == GENERIC:
        return np.repeat(source["generic"][:, None], len(aspects), axis=1)
    asked = (aspects,) if arm == MERGED else tuple((a,) for a in aspects)
    pairs = [pairs_of(source, rows, some, None) for some in asked]
    encode, init, own = source["encode"], source["init"], None
    step = update(encode, cfg.rate if source["names"][0] == "task" else cfg.text_rate)
    if arm == TRUNK:
        own = ("mlp",) if "mlp" in init(jax.random.key(0)) else ()
    if arm == RETROFIT:
        source = source | {"inputs": source["generic"]}
        step, encode = retrofit_update(cfg.text_rate), lambda params, x: vectors.retrofit(params, unit(x))
        init = functools.partial(vectors.init_retrofit, width=source["generic"].shape[1], hidden=(256,))
    params = train.fit(
        init=lambda key: encoders.init_aspects(init, key, len(asked), own=own),
        update=step,
        batches=batches(source, pairs, asked, cfg.batch_size, cfg.steps, seed),
        steps=cfg.steps,
        key=seed,
        mesh=train.make_mesh(1),
        progress=False,
    ).params
    found = np.asarray(encoders.encode_aspects(encode, params, jnp.asarray(source["inputs"])))
    return np.repeat(found, len(aspects), axis=1) if arm == MERGED else found


def neighbours(x, k):
    """The k nearest other rows by cosine, int [N, k]."""
    x = np.asarray(unit(x))
    ids = np.asarray(search.top_k(x, x, min(k + 1, len(x)))[1])
    own = ids == np.arange(len(x))[:, None]
    own[~own.any(axis=1), -1] = True
    return ids[~own].reshape(len(x), -1)


def judge(ids, labels, k):
    """Means over documents that have a partner: precision, recall, MRR and MAP at k."""
    relevant = (labels[:, None] == labels[None]) & ~np.eye(len(labels), dtype=bool)
    gains = np.take_along_axis(relevant, ids, axis=1).astype(np.float32)
    judged = relevant.astype(np.float32)
    where = metrics.has_relevant(judged)
    if not bool(np.asarray(where).any()):
        raise ValueError("labels: no two documents share one; nothing can be judged in this aspect")
    found = {"P": metrics.precision(gains, k=k), "R": metrics.recall(gains, judged, k=k)}
    found |= {"MRR": metrics.mrr(gains, judged, k=k), "MAP": metrics.average_precision(gains, judged, k=k)}
    return {name: float(metrics.masked_mean(x, where)) for name, x in found.items()}
