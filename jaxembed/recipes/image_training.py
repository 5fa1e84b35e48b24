"""Training of an encoder on classes of pictures."""

import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, train


def fine_tune_images(
    encoder,
    images,
    *,
    loss=None,
    identities=8,
    each=4,
    steps=500,
    rate=1e-3,
    temperature=0.1,
    size=None,
    changes=None,
    frozen=None,
    bad="skip",
    seed=0,
    mesh=None,
    workdir=None,
    evaluate=None,
    evaluate_every=None,
):
    """Trains an encoder so that pictures of a class come close, from its weights or from none, with AdamW.

    A batch has P classes with K pictures each. Every picture has to pick the others of its class out of the
    batch (supervised contrastive loss). The rate falls along a cosine to zero.

    ``encoder = recipes.fine_tune_images(encoders.convnet([32, 64, 128], width=64), "pictures", size=64)``

    Args:
        encoder: ``encoders.ImageEncoder``, or a net of ``encoders.convnet``, which starts from random
            weights.
        images: ``data.records.Images``, or a folder with a folder for each class. Pictures of a folder are
            decoded in threads while the step before them runs.
        loss: optional ``(vectors [B, D], labels int [B]) -> [B]`` in its place, such as a triplet loss with
            mining. Calls with equal arguments share their compiled step, so pass the same function to each.
        identities: P classes of a batch; classes with fewer than K pictures are left out.
        each: K pictures of a class.
        steps: number of them.
        rate: highest learning rate; 1e-4 or less for published weights.
        temperature: of the contrastive loss.
        size: side of the pictures of a folder; None takes ``encoder.size``.
        changes: optional options of ``encoders.augment``, {"flip": True, "crop": (0.5, 1.0)} for example.
        frozen: optional regex; parameters with such a path stay as they are.
        bad: "skip" takes a black picture without a class for a file that cannot be read, "refuse" raises.
        seed: of the weights, the batches and the changes.
        mesh: of ``train.make_mesh``; default all devices where they divide the batch, else one.
        workdir: optional folder of checkpoints; a run that was stopped goes on there.
        evaluate: optional ``encoder -> {name: number}``.
        evaluate_every: steps between evaluations; default only after the last.

    Returns:
        ``encoders.ImageEncoder`` with the new weights. Batch norm uses its running statistics.

    Raises:
        ValueError: for fewer than ``identities`` classes with ``each`` pictures, or a folder without ``size``
            where the encoder has none.

    References:
        P. Khosla et al., arXiv:2004.11362.
    """
    start, functions, deep = _started(encoder)
    batches, shape = _batches_of(encoder, images, identities, each, size, bad, seed)
    changes = {name: tuple(x) if isinstance(x, list) else x for name, x in (changes or {}).items()}
    changes = tuple(sorted(changes.items()))
    loss_fn = _image_objective(functions[1], deep, loss, None if loss else temperature, changes)

    def finished(state):
        return _image_encoder(functions, state, deep, encoder, shape)

    state = train.fit(
        init=start,
        loss_fn=loss_fn,
        tx=_falling(rate, steps, frozen),
        batches=batches,
        steps=steps,
        key=seed,
        mesh=mesh or (train.make_mesh(1) if identities * each % jax.device_count() else None),
        workdir=workdir,
        evaluate=evaluate and (lambda state: evaluate(finished(state))),
        evaluate_every=evaluate_every,
    )
    return finished(state)


def _started(encoder):
    """(init of ``train.fit``, (maps, encode), whether there are statistics of batch norm)."""
    functions = encoder.maps, encoder.encode
    if isinstance(encoder, encoders.ImageEncoder):
        return lambda key: jax.tree.map(jnp.array, encoder.params), functions, False
    return encoder.init, functions, isinstance(jax.eval_shape(encoder.init, jax.random.key(0)), tuple)


def _batches_of(encoder, images, identities, each, size, bad, seed):
    """(the batches, the shape [H, W, C] of pictures)."""
    if not isinstance(images, str | os.PathLike):
        return data.identity_batches(images, identities, each, seed=seed), images["images"].shape[1:]
    side = size or getattr(encoder, "size", None)
    if side is None:
        raise ValueError("size: None for a folder of pictures; pass the side to which they are brought")
    files = data.image_files(pathlib.Path(images), bad=bad)
    shape = (*((side, side) if isinstance(side, int) else side), encoder.channels)

    def make(batch):
        paths = [files["paths"][row] for row in batch["rows"]]
        pictures, faults = data.read_images(paths, shape[:2], bad=bad, channels=shape[2])
        labels = batch["labels"].copy()
        for row in faults:
            labels[row] = -1 - row  # a class of its own
        return {"images": pictures, "labels": labels}

    records = {"labels": files["labels"], "rows": np.arange(len(files["paths"]))}
    return data.identity_batches(records, identities, each, make=make, seed=seed), shape


@functools.lru_cache(maxsize=16)
def _image_objective(encode, deep, loss, temperature, changes):
    """The loss of a batch; the same object for the same arguments, so that a second run compiles nothing."""

    def of_vectors(vectors, labels):
        if loss is not None:
            return jnp.mean(loss(vectors, labels))
        pairs = losses.label_pairs(labels)
        return jnp.mean(losses.info_nce(vectors, vectors, temperature=temperature, **pairs))

    def loss_fn(params, batch, key, *extra):
        change, drop = jax.random.split(key)
        images = encoders.augment(change, batch["images"], **dict(changes))
        if not deep:
            return of_vectors(encode(params, images, drop), batch["labels"]), {}
        vectors, state = encode(params, images, drop, state=extra[0], train=True)
        return of_vectors(vectors, batch["labels"]), ({}, state)

    return loss_fn


@functools.lru_cache(maxsize=16)
def _falling(rate, steps, frozen):
    """AdamW whose rate falls along a cosine; the same object for the same arguments."""
    tx = optax.adamw(optax.cosine_decay_schedule(rate, steps))
    return tx if frozen is None else train.frozen(tx, frozen)


def _image_encoder(functions, state, deep, encoder, shape):
    options = {"state": state.extra} if deep else {}
    maps, encode = (functools.partial(f, **options) for f in functions) if deep else functions
    size = shape[0] if shape[0] == shape[1] else tuple(shape[:2])
    if isinstance(encoder, encoders.ImageEncoder):
        return encoder._replace(params=state.params, size=size)
    return encoders.ImageEncoder(state.params, maps, encode, None, size, shape[2])
