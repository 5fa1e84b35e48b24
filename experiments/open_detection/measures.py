"""What is measured of class probabilities: which objects are named, and how precise detections are."""

import jax
import numpy as np

from experiments.open_detection.boxes import IS_BASE
from jaxembed import metrics

COUNT = 4  # pictures whose detections are kept


@jax.jit
def _suppressed(boxes, scores, where):
    """Non-maximum suppression for each class of each picture: index and kept [N, C, P]."""

    def classes(boxes, scores, where):
        return jax.vmap(lambda s: metrics.nms(boxes, s, where=where), in_axes=1)(scores)

    return jax.vmap(classes)(boxes, scores, where)


def detections(boxes, probabilities, most):
    """The best detections of each picture, as ``metrics.box_average_precision`` takes them.

    ``boxes`` [N, P, 4], 0 for padding; ``probabilities`` [N, P, C].
    """
    where = boxes.any(axis=-1)
    index, kept = map(np.asarray, _suppressed(boxes, probabilities, where))
    scores = np.take_along_axis(probabilities.transpose(0, 2, 1), index, axis=2)
    scores = np.where(kept, scores, -1)
    count, classes, places = scores.shape
    flat = scores.reshape(count, -1)
    best = np.argsort(-flat, axis=1, kind="stable")[:, :most]
    images = np.repeat(np.arange(count), best.shape[1])
    row, place = best.ravel() // places, best.ravel() % places
    found = {"images": images, "classes": row, "scores": flat[images, best.ravel()]}
    found["boxes"] = boxes[images, index[images, row, place]]
    there = found["scores"] >= 0
    return {name: x[there] for name, x in found.items()}


def measured(tested, answers, most):
    """Numbers of one arm, and the detections of a few pictures.

    ``tested`` comes from ``boxes.tested``; ``answers`` are probabilities [N, P, 1 + C], background first, of
    its boxes on objects, of its ground and of its proposals.
    """
    on, off, proposed = answers
    there = tested["classes"] >= 0
    classes = tested["classes"][there]
    right = on[there].argmax(axis=-1) - 1 == classes
    usable = tested["asked"][1].any(axis=-1)
    numbers = {"base": float(right[IS_BASE[classes]].mean()), "novel": float(right[~IS_BASE[classes]].mean())}
    numbers["background"] = float((off[usable].argmax(axis=-1) == 0).mean())
    found = detections(tested["asked"][2], proposed[..., 1:], most)
    truths = {"images": np.nonzero(there)[0], "classes": classes, "boxes": tested["boxes"][there]}
    given = metrics.box_average_precision(found, truths, limits=[0.5])
    base = IS_BASE[given["classes"]]
    for name, chosen in (("AP50 base", base), ("AP50 novel", ~base), ("AP50", base | True)):
        numbers[name] = float(given["precision"][chosen].mean())
    few = found["images"] < COUNT
    kept = {name: np.round(x[few].astype(float), 3).tolist() for name, x in found.items()}
    return numbers, kept
