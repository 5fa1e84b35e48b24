"""What is frozen: images of digits, a tower of images, a text encoder, and the map between their spaces."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, diffusion, encoders, losses, metrics
from jaxembed.arrays import unit
from jaxembed.data import toy_drawings

NAMES = [f"a photo of the number {word}" for word in toy_drawings.DIGIT_WORDS]
LENGTH = 8  # tokens of a name
TEMPERATURE = 0.07
TOWER = encoders.convnet([16, 32], norm="group", inputs=1)


class Names(NamedTuple):
    """Names of the classes as a text encoder reads them.

    Attributes:
        states: float32 [K, T, D], its outputs.
        where: bool [K, T], the tokens that count, special ones left out.
        rows: float32 [K, T, D], its inputs: the rows of its table.
    """

    states: jnp.ndarray
    where: np.ndarray
    rows: jnp.ndarray


def read_names(encoder):
    """(:class:`Names`, mask [K, T] of all tokens, ``(params, rows [K, T, D], mask) -> states [K, T, D]``)."""
    batch = encoder.tokenize(NAMES, length=LENGTH)
    special = np.isin(batch["ids"], [encoder.tokenizer.token_to_id(t) for t in ("[CLS]", "[SEP]", "[PAD]")])
    rows = jnp.asarray(encoder.params["table"]["embedding"])[batch["ids"]]

    def through(params, rows, mask):
        """The encoder on a table of its own, whose row n is token n of the names."""
        ids = jnp.arange(rows.shape[0] * rows.shape[1]).reshape(rows.shape[:2])
        params = params | {"table": {"embedding": rows.reshape(-1, rows.shape[-1])}}
        return encoder.hidden(params, {"ids": ids, "mask": mask})["tokens"]

    states = through(encoder.params, rows, batch["mask"])
    return Names(states, batch["mask"] & ~special, rows), batch["mask"], through


def split(seed):
    """{part: (images in -1..1, labels)}: training, validation and test digits of a seed."""
    found = data.digits()
    parts = metrics.stratified_folds(found["labels"], folds=10, seed=seed)
    named = {"train": range(6), "validation": (6, 7), "test": (8, 9)}
    rows = {name: np.isin(parts, list(which)) for name, which in named.items()}
    return {name: (found["images"][r] * 2 - 1, found["labels"][r]) for name, r in rows.items()}


def fitted(params, loss, batches, rate):
    """Parameters after Adam on all batches [S, ...], one step each."""
    tx = optax.adam(optax.cosine_decay_schedule(rate, len(jax.tree.leaves(batches)[0])))

    def step(carry, batch):
        params, state = carry
        moves, state = tx.update(jax.grad(loss)(params, batch), state)
        return (optax.apply_updates(params, moves), state), None

    return jax.lax.scan(step, (params, tx.init(params)), batches)[0][0]


def tower(images, steps, seed):
    """A compiled function from images to features [N, F], learned by telling noisy copies apart."""
    rng, keys = np.random.default_rng(seed), jax.random.split(jax.random.key(seed), steps + 2)
    first = TOWER.maps(TOWER.init(keys[-1]), images[:1])[-1].size
    params = {"net": TOWER.init(keys[-1]), "dense": encoders.init_mlp(keys[-2], (first, 64))}
    batches = {"images": images[rng.integers(len(images), size=(steps, 128))], "key": keys[:steps]}

    def maps(params, x):
        return TOWER.maps(params["net"], x)[-1].reshape(len(x), -1)

    def loss(params, batch):
        views = [encoders.augment(k, batch["images"], noise=0.3) for k in jax.random.split(batch["key"])]
        vectors = [encoders.mlp(params["dense"], maps(params, x)) for x in views]
        return jnp.mean(losses.info_nce(*vectors, temperature=0.2))

    params = jax.jit(lambda params, batches: fitted(params, loss, batches, 2e-3))(params, batches)
    return jax.jit(lambda x: maps(params, x))


def regions(aligner, features):
    """Unit vectors [N, D] of features in the space of the text encoder."""
    return unit((features - aligner["mean"]) @ aligner["kernel"])


def aligned(features, labels, names, known, steps, seed):
    """The linear map of features to the text encoder's space, fitted on the known classes alone."""
    rng, scale = np.random.default_rng(seed), features.std() + 1e-6
    start = {"kernel": jnp.zeros((features.shape[1], names.states.shape[-1])) + 0.0}
    start["kernel"] = jax.random.normal(jax.random.key(seed), start["kernel"].shape) / features.shape[1]
    rows = rng.choice(np.flatnonzero(np.isin(labels, known)), size=(steps, 64))
    mean = features[np.isin(labels, known)].mean(axis=0)
    places = np.searchsorted(known, labels[rows])
    batches = {"x": features[rows], "y": places}
    concepts, where = unit(names.states[known]), names.where[known]

    def loss(params, batch):
        vectors = regions({"mean": mean, "kernel": params["kernel"] / scale}, batch["x"])
        return jnp.mean(cross_entropy(vectors, concepts, where, batch["y"]))

    found = jax.jit(lambda p, b: fitted(p, loss, b, 3e-3))(start, batches)
    return {"mean": jnp.asarray(mean), "kernel": found["kernel"] / scale}


def logits(vectors, concepts, where):
    options = {"where": where, "pool": "mean", "temperature": TEMPERATURE}
    return diffusion.alignment_logits(vectors, concepts, **options)


def cross_entropy(vectors, concepts, where, labels):
    """Losses [B] of alignment logits, by the mean over the tokens of each concept."""
    found = logits(vectors, concepts, where)
    return optax.softmax_cross_entropy_with_integer_labels(found, labels)


def cell_precision(scores, truth, classes, count, seed):
    """Mean average precision of finding each class among the 64 cells of canvases of digits.

    ``scores`` [N, C] are the alignment logits of the N digits that may lie in a cell, for each class.
    """
    chosen = np.random.default_rng(seed).integers(len(truth), size=(count, 64))
    found = []
    for n, name in enumerate(classes):
        hits = truth[chosen] == name
        order = np.argsort(-scores[chosen, n], axis=1, kind="stable")
        ranked = np.take_along_axis(hits, order, axis=1)[hits.any(axis=1)].astype(np.float32)
        found.append(np.asarray(metrics.average_precision(ranked, ranked, k=None)))
    return float(np.concatenate(found).mean())
