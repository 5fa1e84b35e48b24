"""The teacher, an image encoder of crops beside texts, and detectors that learn from labels and from it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.open_detection.boxes import COLOURS, IS_BASE, NAMES, SHAPES, enlarged
from jaxembed import data, encoders, losses, train
from jaxembed.arrays import unit

WIDTH, CROP, CELLS, SCALE = 32, 24, 5, 1 / 4  # of vectors; pixels of a crop; cells of a region; of the maps
PROMPTS = ("a {}", "a picture of a {}", "a drawing of a {}", "there is a {} here")
TEACHER = encoders.convnet([16, 32, 64], width=WIDTH)
_strided = [encoders.conv(16, stride=2), encoders.conv(32, stride=2)]
BACKBONE = encoders.convnet([*_strided, encoders.conv(32), encoders.conv(32)])


def pixels(images):
    return (jnp.asarray(images, jnp.float32) - 110) / 60


def crops_of(images, boxes):
    """Crops [N * P, 24, 24, 3] of boxes [N, P, 4]."""
    found = encoders.roi_align(pixels(images), boxes, CROP)
    return found.reshape(-1, CROP, CROP, 3)


# The teacher


def train_teacher(cfg, drawn, texts, seed):
    """Params of an image encoder and a linear map of texts [36, 384], contrasted on crops of all classes."""
    rng = np.random.default_rng(7)
    there = drawn["where"]
    boxes = enlarged(drawn["boxes"], rng.uniform(1, 1.5, (*there.shape, 1)))
    crops = np.asarray(jax.jit(crops_of)(drawn["images"], boxes))[there.ravel()]
    given = {"crops": crops, "labels": drawn["classes"][there].astype(np.int32)}

    def init(key):
        image, text = jax.random.split(key)
        kernel = jax.random.normal(text, (texts.shape[1], WIDTH)) * texts.shape[1] ** -0.5
        return {"image": TEACHER.init(image), "text": kernel, "log_temperature": jnp.log(0.1)}

    update = teacher_update(cfg.teacher_rate, cfg.teacher_steps, texts.tobytes(), texts.shape)
    batches = data.batches(given, 64, seed=seed)
    options = {"steps": cfg.teacher_steps, "key": seed, "mesh": train.make_mesh(1)}
    return train.fit(init=init, update=update, batches=batches, **options).params


@functools.lru_cache
def teacher_update(rate, steps, content, shape):
    texts = jnp.asarray(np.frombuffer(content, np.float32).reshape(shape))

    def loss_fn(params, batch, key):
        captions = texts[batch["labels"]] @ params["text"]
        where = losses.duplicate_mask(batch["labels"])
        temperature = jnp.exp(params["log_temperature"])
        both = losses.symmetric(losses.info_nce)
        images = TEACHER.encode(params["image"], batch["crops"])
        return both(images, captions, where=where, temperature=temperature).mean(), {}

    return train.gradient_update(loss_fn, optax.adam(optax.cosine_decay_schedule(rate, steps)))


@jax.jit
def _crop_vectors(params, images, boxes):
    return unit(TEACHER.encode(params["image"], crops_of(images, boxes)))


def teacher_vectors(params, images, boxes, factors):
    """Unit vectors [N, P, D] of boxes: the sum over crops enlarged by the factors, at length 1."""
    total = 0
    for factor in factors:
        parts = range(0, len(images), 100)
        larger = enlarged(boxes, factor)
        total = total + np.concatenate(
            [np.asarray(_crop_vectors(params, images[i : i + 100], larger[i : i + 100])) for i in parts]
        )
    return np.asarray(unit(total)).reshape(*boxes.shape[:2], WIDTH)


# The detectors


def init(key, double):
    """Backbone, head and background vector; a double branch has a head for each loss."""
    backbone, head, other, ground = jax.random.split(key, 4)
    sizes = (CELLS * CELLS * 32, 128, WIDTH)
    params = {"backbone": BACKBONE.init(backbone), "head": encoders.init_mlp(head, sizes)}
    if double:
        params["image_head"] = encoders.init_mlp(other, sizes)
    return params | {"background": 0.01 * jax.random.normal(ground, (WIDTH,))}


def regions(params, images, boxes, heads=("head",)):
    """Vectors [N, P, D] of boxes, for each head."""
    maps = BACKBONE.maps(params["backbone"], pixels(images))[-1]
    cells = encoders.roi_align(maps, boxes, CELLS, scale=SCALE, samples=1)  # a cell is about a pixel
    cells = cells.reshape(*boxes.shape[:2], -1)
    return [encoders.mlp(params[head], cells) for head in heads]


def loss_of(kind, weight, masked, temperature):
    """The loss of a detector: that of the labels, plus ``weight`` times the distance to the teacher.

    ``kind`` is "text" (one head), "image" (the distance alone), "double" (two heads) or "all" (labels of all
    classes). The batch has the text table, which stays as it is, so that seeds share one program.
    """

    def loss_fn(params, batch, key):
        heads = ("head", "image_head") if kind == "double" else ("head", "head")
        text, image = (x.reshape(-1, WIDTH) for x in regions(params, batch["images"], batch["boxes"], heads))
        where, teacher = batch["where"].ravel(), batch["teacher"].reshape(-1, WIDTH)
        gaps = losses.vector_distance(image, teacher=teacher, where=where)
        distance = gaps.sum() / jnp.maximum(where.sum(), 1)
        if kind == "image":
            return distance, {}
        given = {"background": params["background"], "temperature": temperature}
        logits, labels = encoders.cosine_logits(text, batch["table"], **given), batch["labels"].ravel()
        known = None if kind == "all" else np.append(True, IS_BASE)
        each = losses.class_loss(logits, labels, classes=known, masked=masked)
        return each.sum() / jnp.maximum((labels >= 0).sum(), 1) + weight * distance, {}

    return loss_fn


@functools.lru_cache
def update_of(kind, weight, masked, temperature, rate, steps):
    """The training step of a detector with the loss of :func:`loss_of`."""
    loss_fn = loss_of(kind, weight, masked, temperature)
    return train.gradient_update(loss_fn, optax.adam(optax.cosine_decay_schedule(rate, steps)))


@functools.partial(jax.jit, static_argnames="heads")
def _vectors(params, images, boxes, heads):
    return regions(params, images, boxes, heads)


def _head_vectors(params, images, boxes, heads):
    """The vectors [N * P, D] of all boxes, for each head, some pictures at a time."""
    parts = [
        _vectors(params, images[i : i + 100], boxes[i : i + 100], heads) for i in range(0, len(images), 100)
    ]
    return [np.concatenate([np.asarray(p[h]) for p in parts]).reshape(-1, WIDTH) for h in range(len(heads))]


def class_probabilities(vectors, table, background, temperature):
    """Probabilities [..., 1 + C] of vectors [..., D], background first: 0 where there is no such vector."""
    flat = vectors.reshape(-1, WIDTH)
    logits = encoders.cosine_logits(flat, table, background=background, temperature=temperature)
    found = np.asarray(jax.nn.softmax(logits))
    found = found if background is not None else np.pad(found, ((0, 0), (1, 0)))
    return found.reshape(*vectors.shape[:-1], -1)


def mixed(text, image, weight):
    """The geometric ensemble of probabilities [N, P, 1 + C]; background keeps that of the first."""
    shape = text.shape
    text, image = (x.reshape(-1, shape[-1]) for x in (text, image))
    both = encoders.geometric_ensemble(text[:, 1:], image[:, 1:], IS_BASE, weight=weight)
    return np.concatenate([text[:, :1], np.asarray(both)], axis=1).reshape(shape)


def probabilities(params, images, boxes, table, *, kind, temperature, weight):
    """Class probabilities [N, P, 1 + C] of all boxes, background first."""
    heads = ("head", "image_head") if kind == "double" else ("head",)
    shape = (*boxes.shape[:2], WIDTH)
    found = [x.reshape(shape) for x in _head_vectors(params, images, boxes, heads)]
    background = None if kind == "image" else params["background"]
    first = class_probabilities(found[0], table, background, temperature)
    if kind != "double":
        return first
    return mixed(first, class_probabilities(found[1], table, None, temperature), weight)


def expanded(params, images, boxes, parts, *, temperature):
    """Class probabilities from 6 texts of shapes and 6 of colours, taken as independent; no background."""
    (vectors,) = _head_vectors(params, images, boxes, ("head",))
    shapes, colours = (encoders.cosine_logits(vectors, x, temperature=temperature) for x in parts)
    found = np.asarray(encoders.systematic_expansion(shapes, colours)).reshape(*boxes.shape[:2], -1)
    return np.pad(found, ((0, 0), (0, 0), (1, 0)))


def texts_of(encode_texts):
    """Text vectors [36, 384] of the classes, and [6, 384] of shapes and colours alone: means over prompts."""
    names = {"classes": NAMES, "shapes": SHAPES, "colours": [f"{colour} thing" for colour in COLOURS]}
    return {name: encoders.prompt_ensemble(encode_texts, x, PROMPTS) for name, x in names.items()}
