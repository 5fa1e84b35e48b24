"""The searches: what each kind changes, its loss and its compiled program."""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.concept_recognition import frozen
from experiments.concept_recognition.answers import ALIGNER, CONES, MOMENTS, PROMPT, TUNED
from jaxembed import diffusion
from jaxembed.arrays import unit

KINDS = {PROMPT: "inputs", CONES: "outputs", MOMENTS: "outputs", ALIGNER: "aligner", TUNED: "aligner"}


def made(kind, found, held, through):
    """(aligner, concepts [10, T, D]) of what a search found."""
    if kind == "aligner":
        return held["aligner"] | {"kernel": found}, held["concepts"]
    rows = through(held["text"], found, held["mask"]) if kind == "inputs" else found
    return held["aligner"], held["concepts"].at[held["unseen"]].set(unit(rows))


def loss_of(kind, through):
    """``(found, held, batch, key) -> [B]``, the cross-entropy of the few images among all ten classes."""

    def loss_fn(found, held, batch, key):
        aligner, concepts = made(kind, found, held, through)
        vectors = frozen.regions(aligner, held["x"])
        return frozen.cross_entropy(vectors, concepts, held["where"], held["labels"])

    return loss_fn


@functools.lru_cache(maxsize=8)
def program(kind, steps, through):
    """The compiled search: ``(start, held, rate, key) -> (aligner, concepts)``."""

    @jax.jit
    def run(start, held, rate, key):
        tx = optax.adam(optax.cosine_decay_schedule(rate, steps))
        options = {"tx": tx, "key": key}
        given = (loss_of(kind, through), start, held, jnp.arange(steps))
        return made(kind, diffusion.search_embeddings(*given, **options)[0], held, through)

    return run
