"""Scenes of 36 classes, 12 of them never labelled, and boxes on them: labelled, distilled, tested."""

import numpy as np

from jaxembed import metrics
from jaxembed.data import toy_scenes

COLOURS, SHAPES = list(toy_scenes.COLOURS), toy_scenes.SHAPES
NAMES = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]
_shape, _colour = np.divmod(np.arange(36), 6)
IS_BASE = (_shape + _colour) % 3 != 0  # 24 classes; every shape and every colour is in 16 and more of them
SIZE, COPIES, GROUND, PROPOSED = 64, 2, 4, 6  # pixels; boxes per object; of ground, in training and test
SCENES = {"size": SIZE, "objects": (2, 4), "shapes": 6, "colours": 6, "sides": ((12, 22),)}


def scenes(seed, count):
    """Scenes with ``classes`` int [N, K], -1 for padding."""
    drawn = toy_scenes.scenes(seed, count=count, **SCENES)
    return drawn | {"classes": np.where(drawn["where"], 6 * drawn["shape"] + drawn["colour"], -1)}


def overlaps(boxes, others):
    """The largest IoU [N, P] of each box [N, P, 4] with any of the boxes [N, K, 4] of its scene."""
    return metrics.box_iou(boxes, others).max(axis=-1)


def jittered(rng, boxes, least=0.6):
    """Each box moved and stretched at random, to an IoU of ``least`` and above with itself."""
    side = np.tile(boxes[..., 2:] - boxes[..., :2], 2)
    out, left = boxes.copy(), np.ones(boxes.shape[:-1], bool)
    for _ in range(20):
        tried = np.clip(boxes + rng.uniform(-0.2, 0.2, boxes.shape) * side, 0, SIZE)
        same = overlaps(tried.reshape(-1, 1, 4), boxes.reshape(-1, 1, 4)).reshape(left.shape)
        out = np.where((left & (same >= least))[..., None], tried, out)
        left &= same < least
    return out.astype(np.float32)


def ground(rng, known, count, most=0.3):
    """Boxes [N, count, 4] that overlap no known box by more than ``most``; one that never does is 0."""
    out = np.zeros((len(known), count, 4), np.float32)
    left = np.ones(out.shape[:2], bool)
    for _ in range(20):
        side = rng.uniform(10, 26, (*left.shape, 2))
        corner = rng.uniform(0, 1, side.shape) * (SIZE - side)
        tried = np.concatenate([corner, corner + side], axis=-1)
        free = left & (overlaps(tried, known) < most)
        out = np.where(free[..., None], tried, out).astype(np.float32)
        left &= ~free
    return out


def training_boxes(seed, drawn):
    """Boxes and labels of a detector's training: {"boxes": [N, P, 4], "labels", "labels_all": int [N, P]}.

    The labelled boxes lie on base objects; 0 is background, 1 + c class c, -1 no label. Background is what
    overlaps no base object, so that a box on a novel object may be called background, as in a data set that
    does not know it. "labels_all" has the labels of all classes. "distilled" and "distilled_base" bool [N, P]
    mark the boxes that are compared with the teacher, which need no labels: on all objects, and on base
    objects only. Ground is not distilled: no text belongs to what the teacher makes of it.
    """
    rng = np.random.default_rng(seed)
    classes = drawn["classes"]
    known = (classes >= 0) & IS_BASE[classes]
    on = np.concatenate([jittered(rng, drawn["boxes"]) for _ in range(COPIES)], axis=1)
    off = ground(rng, drawn["boxes"] * known[..., None], GROUND)
    off_all = overlaps(off, drawn["boxes"]) < 0.3
    there = np.tile(classes >= 0, (1, COPIES))
    label, base = np.tile(classes + 1, (1, COPIES)), np.tile(known, (1, COPIES))
    usable = off.any(axis=-1)
    nothing, never = np.where(usable, 0, -1), np.zeros_like(usable)
    return {
        "images": drawn["images"],
        "boxes": np.concatenate([on, off], axis=1),
        "labels": np.concatenate([np.where(base, label, -1), nothing], axis=1).astype(np.int32),
        "labels_all": np.concatenate(
            [np.where(there, label, -1), np.where(usable & off_all, 0, -1)], axis=1
        ).astype(np.int32),
        "distilled": np.concatenate([there, never], axis=1),
        "distilled_base": np.concatenate([base, never], axis=1),
    }


def tested(seed, count):
    """Test scenes, with ``asked``: boxes on their objects, on their ground, and proposals; 0 is padding.

    Proposals [N, P, 4] know no class: three boxes near each object and some of the ground.
    """
    drawn, rng = scenes(seed, count), np.random.default_rng(seed)
    near = np.concatenate([jittered(rng, drawn["boxes"]) for _ in range(3)], axis=1)
    off, more = (ground(rng, drawn["boxes"], PROPOSED) for _ in range(2))
    return drawn | {"asked": (drawn["boxes"], off, np.concatenate([near, more], axis=1))}


def enlarged(boxes, factor):
    """Boxes around the same middle with their sides times a factor; what is outside is read as the border."""
    middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2 * factor
    return np.concatenate([middle - half, middle + half], axis=-1).astype(np.float32)
