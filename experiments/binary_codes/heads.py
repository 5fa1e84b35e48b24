"""WordNet's definitions and examples as frozen vectors, heads that code them, and how well codes find partners."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shared import flags, text_models
from jaxembed import data, losses, train, vectors
from jaxembed.arrays import inner, unit

HEADS = {  # name: (coordinates, loops), all of 256 bits but the last ones
    "hash, 256 x 1": (256, 0),
    "recurrent, 128 x 2": (128, 1),
    "recurrent, 64 x 4": (64, 3),
    "hash, 64 x 1": (64, 0),
    "recurrent, 64 x 2": (64, 1),
    "float, 256": (256, 0),
}
FLOAT, HASH, TWO = "float, 256", "hash, 256 x 1", "recurrent, 128 x 2"


def read(cfg):
    """Unit vectors {"train", "test"} -> (definitions, examples) of senses, each sense on one side only."""
    senses = [s for s in data.wordnet() if s["examples"] and len(s["gloss"].split()) > 2]
    most = cfg.pairs_trained + cfg.pairs_validated + cfg.pairs_tested
    if len(senses) < most:
        raise ValueError(f"--pairs-trained {cfg.pairs_trained}: at most {len(senses)} senses have examples")
    order = np.random.default_rng(0).permutation(len(senses))
    cuts = np.cumsum([cfg.pairs_trained, cfg.pairs_validated, cfg.pairs_tested])
    trained, validated, tested, _ = np.split(order, cuts)
    parts = {"train": trained, "test": validated if cfg.validate else tested}
    encoder = text_models.load(cfg.model)
    flags.stage(f"reads {2 * sum(map(len, parts.values())):,} texts")
    texts = {n: [f(senses[i]) for f in SIDES for i in rows] for n, rows in parts.items()}
    found = {name: encoder.encode_texts(list_) for name, list_ in texts.items()}
    return {name: tuple(np.split(np.asarray(unit(x)), 2)) for name, x in found.items()}


SIDES = (lambda sense: sense["gloss"], lambda sense: sense["examples"][0])


@functools.cache
def ratings(temperature, count):
    """The loss of pairs in both directions, and the same with old codes of the documents."""
    loss = functools.partial(losses.hardest(losses.info_nce, count), temperature=temperature)
    return losses.symmetric(loss), losses.compatible(losses.symmetric(loss))


def fit(cfg, pairs, size, loops, seed, *, floats=False, old=None):
    """A head (params, statistics) trained on pairs of vectors, with ``old`` codes beside them or without."""
    binarise = identity if floats else vectors.straight_through_sign
    shape = {"loops": loops, "hidden": cfg.hidden, "blocks": 1}
    plain, beside = ratings(cfg.temperature, cfg.negatives)

    def loss_fn(params, batch, key, statistics):
        both = jnp.concatenate([batch["query"], batch["document"]])
        codes, statistics = vectors.recurrent_codes(params, statistics, both, train=True, binarise=binarise)
        codes = jnp.split(codes, 2)
        loss = plain(*codes) if old is None else beside(*codes, batch["old"])
        return loss.mean(), ({}, statistics)

    columns = {"query": pairs[0], "document": pairs[1]} | ({} if old is None else {"old": old})
    steps = cfg.epochs * len(pairs[0]) // cfg.batch_size
    rate = optax.cosine_decay_schedule(cfg.head_rate, steps)
    state = train.fit(
        init=lambda key: vectors.init_recurrent(key, pairs[0].shape[1], size, **shape),
        loss_fn=loss_fn,
        tx=(
            optax.chain(
                optax.clip_by_global_norm(5.0),
                optax.add_decayed_weights(1e-3, lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
                optax.sgd(rate, 0.9, nesterov=True),
            )
            if cfg.head_rate > 0.01
            else optax.adamw(rate, weight_decay=1e-3)
        ),
        batches=data.batches(columns, cfg.batch_size, seed=seed),
        steps=steps,
        key=seed,
        mesh=train.make_mesh(1),
        progress=False,
    )
    return state.params, state.extra


def identity(x):
    return x


@functools.partial(jax.jit, static_argnames="floats")
def codes_of(head, x, floats=False):
    """Codes of vectors, by the running statistics."""
    binarise = identity if floats else vectors.straight_through_sign
    return unit(vectors.recurrent_codes(*head, x, binarise=binarise)[0])


@functools.partial(jax.jit, static_argnames="k")
def recall(queries, documents, k):
    """Recall@k of partners, expected over the orders of documents of equal score.

    Scores are rounded to five digits: products of codes that are equal may differ in the last ones.
    """
    scores = jnp.round(inner(queries, documents), 5)
    own = jnp.diagonal(scores)[:, None]
    above, equal = jnp.sum(scores > own, axis=1), jnp.sum(scores == own, axis=1)
    return jnp.mean(jnp.clip((k - above) / equal, 0, 1))


def scores(codes_a, codes_b):
    return {f"Recall@{k}": float(recall(codes_a, codes_b, k)) for k in (1, 10)}
