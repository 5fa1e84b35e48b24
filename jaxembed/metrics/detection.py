"""Numbers for regions of pictures: overlap of masks and boxes, which boxes repeat others, how good a list is.

Boxes are (x0, y0, x1, y1): left, top, right and bottom edge, in any unit, y downwards.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, host, on_device

COCO_LIMITS = tuple(np.linspace(0.5, 0.95, 10))
_RECALLS = np.linspace(0, 1, 101)
_FIELDS = ("images", "classes", "boxes")


def iou(predicted, true):
    """Intersection over union of masks: what two areas share, divided by what they cover together.

    ``iou[b] = |predicted[b] and true[b]| / |predicted[b] or true[b]|``, 1 where both are empty.

    >>> predicted, true = jnp.array([[True, False], [False] * 2]), jnp.array([[True, True], [False] * 2])
    >>> print(iou(predicted, true))
    [0.5 1. ]

    Args:
        predicted: bool [B, ...], such as [B, h, w]; threshold scores first.
        true: bool of the same shape.

    Returns:
        float32 [B] within 0..1.

    Raises:
        ValueError: for masks that are not bool, or shapes that differ.
    """
    masks = []
    for name, mask in (("predicted", predicted), ("true", true)):
        mask = mask if isinstance(mask, jax.Array) else host(name, mask)
        if mask.dtype != bool or mask.ndim < 2:
            raise ValueError(f"{name}: {mask.dtype} {mask.shape}; pass a bool mask [B, h, w]")
        masks.append(mask)
    first, second = masks
    check_shape("true", second, first.shape)
    shared, covered = (jnp.sum(x, axis=tuple(range(1, x.ndim))) for x in (first & second, first | second))
    return jnp.where(covered > 0, shared / jnp.maximum(covered, 1), 1).astype(jnp.float32)


def box_iou(first, second):
    """Intersection over union of boxes: of all boxes of one list with all of another.

    >>> boxes = np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 3, 3]])
    >>> print(box_iou(boxes[:1], boxes))
    [[1.         0.33333333 0.        ]]

    Args:
        first: [..., N, 4].
        second: [..., M, 4].

    Returns:
        [..., N, M] within 0..1, of NumPy arrays a NumPy array in float64. A box without area, one whose right
        edge is left of its left edge, and one that holds NaN overlap with nothing: 0.

    Raises:
        ValueError: for boxes of another shape.
    """
    if isinstance(first, jax.Array) or isinstance(second, jax.Array):
        first, second = on_device("first", first), on_device("second", second)
        xp, wide = jnp, accumulator(first, second)
    else:
        first, second = host("first", first), host("second", second)
        xp, wide = np, np.float64
    check_shape("first", first, (*(None,) * max(1, first.ndim - 1), 4))
    check_shape("second", second, (*first.shape[:-2], None, 4))
    first = tuple(first.astype(wide)[..., :, None, k] for k in range(4))
    second = tuple(second.astype(wide)[..., None, :, k] for k in range(4))
    return _overlap(xp, first, second)


def _area(xp, box):
    return xp.maximum(box[2] - box[0], 0) * xp.maximum(box[3] - box[1], 0)


def _overlap(xp, one, other):
    """IoU of boxes given as four coordinates of shapes that broadcast."""
    width = xp.minimum(one[2], other[2]) - xp.maximum(one[0], other[0])
    height = xp.minimum(one[3], other[3]) - xp.maximum(one[1], other[1])
    shared = xp.maximum(width, 0) * xp.maximum(height, 0)
    covered = _area(xp, one) + _area(xp, other) - shared
    some = (shared > 0) & (covered > 0)  # False for NaN
    return xp.where(some, shared / xp.where(some, covered, 1), 0)


def nms(boxes, scores, *, limit=0.5, most=None, classes=None, where=None):
    """Non-maximum suppression: keeps the best of boxes that lie on one another.

    Boxes are read from the highest score down. One is dropped whose IoU with a kept one, of its own class, is
    above ``limit``. Sizes are static, so it runs under ``jit`` and ``vmap``.

    >>> boxes = jnp.array([[0.0, 0, 2, 2], [4, 4, 6, 6], [0, 0, 2, 2.2]])
    >>> print(*nms(boxes, jnp.array([0.5, 0.7, 0.9])))
    [2 1 0] [ True  True False]

    Args:
        boxes: [N, 4].
        scores: [N]; equal ones are read in the order of the rows.
        limit: the largest IoU that two kept boxes have.
        most: how many places are returned, the best ones; default N.
        classes: optional int [N]: boxes of different classes do not drop one another.
        where: optional bool [N]. False leaves a box out, whatever it holds. One that holds NaN, or has the
            score NaN, is left out too.

    Returns:
        (index int32 [most], kept bool [most]): row numbers of kept boxes by falling score, then 0 where
        ``kept`` is False.

    Raises:
        ValueError: for shapes that do not fit, or ``most`` outside 1..N.
    """
    boxes, scores = on_device("boxes", boxes), on_device("scores", scores)
    check_shape("boxes", boxes, (None, 4))
    count = len(boxes)
    check_shape("scores", scores, (count,))
    most = count if most is None else most
    if not 0 <= most <= count or (count and not most):
        raise ValueError(f"most: {most} is outside 1..{count}, the number of boxes")
    classes = jnp.zeros(count, jnp.int32) if classes is None else on_device("classes", classes)
    where = jnp.ones(count, bool) if where is None else jnp.asarray(where, bool)
    check_shape("classes", classes, (count,))
    check_shape("where", where, (count,))
    if not count:
        return jnp.zeros(0, jnp.int32), jnp.zeros(0, bool)
    where = where & ~jnp.isnan(scores) & ~jnp.isnan(boxes).any(axis=1)
    order = jnp.argsort(jnp.where(where, -scores.astype(accumulator(scores)), jnp.inf))  # stable
    sides = tuple(jnp.where(where[:, None], boxes, 0)[order].astype(accumulator(boxes)).T)
    classes, after = classes[order], jnp.arange(count)

    def read(i, kept):
        again = _overlap(jnp, sides, tuple(side[i] for side in sides)) > limit
        return kept & ~(again & (classes == classes[i]) & (after > i) & kept[i])

    kept = jax.lax.fori_loop(0, count, read, where[order])
    (places,) = jnp.nonzero(kept, size=most, fill_value=count)
    found = places < count
    index = jnp.where(found, order[jnp.where(found, places, 0)], 0)
    return index.astype(jnp.int32), found


def box_average_precision(detections, truths, *, limits=COCO_LIMITS, most=100):
    """Average precision of detections: how well scores put the boxes that hit an object before the others.

    In each picture, the detections of a class are read from the highest score down. Each takes the object of
    its class that it overlaps most, among those that none has taken yet, if their IoU is at least the limit.
    Over all pictures, precision at a recall is the best one at that recall or above. Its mean over 101
    recalls from 0 to 1 is the average precision, as COCO computes it.

    >>> truths = {"images": [0, 1], "classes": [7, 7], "boxes": [[0, 0, 2, 2], [0, 0, 2, 2]]}
    >>> found = {"images": [0, 1], "classes": [7, 7], "boxes": [[0, 0, 2, 2], [5, 5, 6, 6]]}
    >>> given = box_average_precision(found | {"scores": [0.9, 0.8]}, truths, limits=[0.5])
    >>> print(given["classes"], given["precision"].round(3))
    [7] [[0.505]]

    Args:
        detections: {"images": int [N], "classes": int [N], "boxes": [N, 4], "scores": [N]} in any order; N
            may be 0.
        truths: the same of the objects without scores, M of at least 1.
        limits: L IoUs; the default is that of COCO, 0.5 to 0.95. The mean over it is COCO's AP, and the first
            column AP50.
        most: how many detections of each class and picture count, the best ones.

    Returns:
        {"classes": int64 [C], those of the objects, sorted, "precision": float64 [C, L]}. Detections of
        other classes are not counted. ``precision.mean()`` is the macro average.

    Raises:
        ValueError: for fields that lack or do not fit, scores or boxes that are not finite, no object at all,
            a limit outside 0..1, or ``most`` below 1.

    References:
        T.-Y. Lin et al., Microsoft COCO, arXiv:1405.0312, as pycocotools has it, without crowds and areas.
    """
    found, real = _fields("detections", detections, (*_FIELDS, "scores")), _fields("truths", truths, _FIELDS)
    if not len(real["boxes"]):
        raise ValueError("truths: no object; there is nothing to detect")
    limits = np.asarray(limits, float)
    check_shape("limits", limits, (None,))
    if not ((limits > 0) & (limits <= 1)).all() or most < 1:
        raise ValueError(
            f"limits: {limits.tolist()}, most {most}; pass IoUs above 0 and at most 1, most from 1"
        )
    limits = np.minimum(limits, 1 - 1e-10)
    names = np.unique(real["classes"])
    precision = np.zeros((len(names), len(limits)))
    for row, name in enumerate(names):
        mine, theirs = (_rows(x, x["classes"] == name) for x in (found, real))
        mine = _rows(mine, np.lexsort((-mine["scores"], mine["images"])))  # stable, by picture and score
        theirs = _rows(theirs, np.argsort(theirs["images"], kind="stable"))
        images, first = np.unique(mine["images"], return_index=True)
        hits, scores = [], []
        for image, seen in zip(images, np.split(np.arange(len(mine["images"])), first[1:]), strict=False):
            low, high = np.searchsorted(theirs["images"], (image, image + 1))
            seen = seen[:most]
            hits.append(_matched(box_iou(mine["boxes"][seen], theirs["boxes"][low:high]), limits))
            scores.append(mine["scores"][seen])
        if hits:
            order = np.argsort(-np.concatenate(scores), kind="stable")
            precision[row] = _area_under(np.concatenate(hits)[order], len(theirs["boxes"]))
    return {"classes": names, "precision": precision}


def proposal_recall(boxes, scores, truths, *, budget, limit=0.5, where=None):
    """Recall of proposals: the share of objects that one of a picture's best boxes covers.

    An object is found when a box among the ``budget`` of largest scores overlaps it with an IoU of ``limit``
    or above. One box may find several objects.

    >>> boxes = np.array([[[0.0, 0, 2, 2], [4, 4, 6, 6]]])
    >>> truths = np.array([[[4.0, 4, 6, 6]]])
    >>> print(*(proposal_recall(boxes, [[0.9, 0.5]], truths, budget=n) for n in (1, 2)))
    0.0 1.0

    Args:
        boxes: [N, P, 4], P boxes of each picture.
        scores: [N, P]. Boxes of minus infinity or NaN do not count; of equal scores the first count.
        truths: [N, M, 4].
        budget: boxes of a picture, 1 and above.
        limit: IoU above 0 and at most 1.
        where: optional bool [N, M]; False marks padding of ``truths``.

    Returns:
        float within 0..1.

    Raises:
        ValueError: for shapes that do not fit, no object, a budget below 1 or a limit outside its range.

    References:
        J. Hosang et al., What makes for effective detection proposals?, arXiv:1502.05082.
    """
    boxes, scores, truths = (
        host(n, x) for n, x in (("boxes", boxes), ("scores", scores), ("truths", truths))
    )
    check_shape("boxes", boxes, (None, None, 4))
    check_shape("scores", scores, boxes.shape[:2])
    check_shape("truths", truths, (len(boxes), None, 4))
    where = np.ones(truths.shape[:2], bool) if where is None else host("where", where).astype(bool)
    check_shape("where", where, truths.shape[:2])
    if budget < 1 or not 0 < limit <= 1 or not where.any():
        raise ValueError(
            f"budget {budget}, limit {limit}, {where.sum()} objects; pass one of each at least, IoUs to 1"
        )
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    best = np.argsort(-ranked, axis=1, kind="stable")[:, :budget]
    shown = np.take_along_axis(boxes, best[..., None], axis=1)
    counted = np.take_along_axis(ranked, best, axis=1) > -np.inf
    overlaps = np.where(counted[:, :, None], box_iou(shown, truths), 0)
    return float((overlaps.max(axis=1, initial=0) >= limit)[where].mean())


def _fields(name, given, wanted):
    """The fields of a list of boxes as NumPy arrays of one length."""
    lacking = [field for field in wanted if field not in given]
    if lacking:
        raise ValueError(f"{name}: lacks {', '.join(map(repr, lacking))}; pass a dict with {wanted}")
    arrays = {field: host(f"{name}[{field!r}]", given[field]) for field in wanted}
    count = arrays["images"].size
    for field, x in arrays.items():
        if field in ("images", "classes"):
            if count and x.dtype.kind not in "iu":
                raise ValueError(f"{name}[{field!r}]: {x.dtype}; pass integers")
            x = x.astype(np.int64)
        else:
            x = x.astype(float)
            if not np.isfinite(x).all():
                raise ValueError(f"{name}[{field!r}]: holds NaN or infinities; drop those rows first")
        if field == "boxes" and not count:
            x = x.reshape(0, 4)
        check_shape(f"{name}[{field!r}]", x, (count, 4) if field == "boxes" else (count,))
        arrays[field] = x
    return arrays


def _rows(arrays, chosen):
    return {field: x[chosen] for field, x in arrays.items()}


def _matched(overlaps, limits):
    """Bool [N, L]: whether each detection, best first, takes an object, from IoUs [N, M]."""
    count, objects = overlaps.shape
    hits, free = np.zeros((count, len(limits)), bool), np.ones((len(limits), objects), bool)
    for i in range(count if objects else 0):
        seen = np.where(free & (overlaps[i] >= limits[:, None]), overlaps[i], -1)
        best = objects - 1 - seen[:, ::-1].argmax(axis=1)  # of equal ones the last, as pycocotools
        hits[i] = seen[np.arange(len(limits)), best] >= 0
        free[np.arange(len(limits)), best] &= ~hits[i]
    return hits


def _area_under(hits, objects):
    """Mean over recalls of the best precision at that recall or above: [L] from hits [N, L], best first."""
    right = np.cumsum(hits, axis=0)
    recall, precision = right / objects, right / np.arange(1, len(hits) + 1)[:, None]
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    found = []
    for r, p in zip(recall.T, precision.T, strict=True):
        places = np.searchsorted(r, _RECALLS)
        found.append(np.append(p, 0)[places].mean())
    return np.array(found)
