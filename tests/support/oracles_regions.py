"""Slow NumPy loops for gates, regions and detections, written from the formulas."""

import math

import numpy as np


def overlap(a, b):
    """IoU of two boxes."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    covered = sum(max(x[2] - x[0], 0) * max(x[3] - x[1], 0) for x in (a, b)) - shared
    return shared / covered if covered > 0 else 0.0


def nms(boxes, scores, limit, classes, where):
    """Row numbers of kept boxes by falling score."""
    left = sorted((i for i in range(len(boxes)) if where[i]), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [
            i
            for i in left
            if classes[i] != classes[best]
            or overlap(boxes[i].astype(float), boxes[best].astype(float)) <= limit
        ]
    return kept


def roi_align(maps, boxes, size, scale, samples, aligned):
    """[B, R, size, size, C] by points, each read by interpolation."""
    count, high, wide, channels = maps.shape
    padded = np.pad(maps.astype(float), ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    out = np.zeros((count, boxes.shape[1], size, size, channels))
    for b, r in np.ndindex(boxes.shape[:2]):
        x0, y0, x1, y1 = (float(v) * scale - (0.5 if aligned else 0) for v in boxes[b, r])
        if not aligned:
            x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
        for i, j, k, m in np.ndindex(size, size, samples, samples):
            y = y0 + (y1 - y0) * (i + (k + 0.5) / samples) / size
            x = x0 + (x1 - x0) * (j + (m + 0.5) / samples) / size
            if not (-1 <= y <= high and -1 <= x <= wide):
                continue
            y, x = min(max(y, 0.0), high - 1.0), min(max(x, 0.0), wide - 1.0)
            top, left = math.floor(y), math.floor(x)
            dy, dx = y - top, x - left
            corner = padded[b, top : top + 2, left : left + 2]
            value = (1 - dy) * ((1 - dx) * corner[0, 0] + dx * corner[0, 1])
            value = value + dy * ((1 - dx) * corner[1, 0] + dx * corner[1, 1])
            out[b, r, i, j] += value / samples**2
    return out


def gate(params, vectors, activation):
    """Channel gate [B, C], one number at a time."""
    layers, out = params["mlp"], []
    for v in vectors.astype(float):
        x = v @ np.asarray(layers["layer_0"]["kernel"], float) + np.asarray(layers["layer_0"]["bias"], float)
        if "layer_1" in layers:
            if "norm" in params:
                spread = math.sqrt(np.mean((x - x.mean()) ** 2) + 1e-5)
                x = (x - x.mean()) / spread * np.asarray(params["norm"]["scale"]) + np.asarray(
                    params["norm"]["bias"]
                )
            x = np.maximum(x, 0) @ np.asarray(layers["layer_1"]["kernel"], float)
            x = x + np.asarray(layers["layer_1"]["bias"], float)
        softmax = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
        out.append(
            {
                "softmax": softmax,
                "scaled_softmax": softmax * len(x),
                "sigmoid": 1 / (1 + np.exp(-x)),
                "tanh": 1 + np.tanh(x),
                "none": x,
            }[activation]
        )
    return np.array(out)


def average_precision(detections, truths, limit, most=100):
    """{class: average precision} at one limit, detection by detection and recall by recall."""
    found = {}
    for name in sorted(set(truths["classes"])):
        objects = [i for i, c in enumerate(truths["classes"]) if c == name]
        listed = []
        for image in sorted(set(detections["images"])):
            mine = [
                i
                for i, (c, p) in enumerate(zip(detections["classes"], detections["images"], strict=True))
                if c == name and p == image
            ]
            mine = sorted(mine, key=lambda i: -detections["scores"][i])[:most]
            free = [i for i in objects if truths["images"][i] == image]
            for i in mine:
                best, taken = limit, None
                for j in free:
                    seen = overlap(detections["boxes"][i], truths["boxes"][j])
                    if seen >= best:
                        best, taken = seen, j
                if taken is not None:
                    free.remove(taken)
                listed.append((detections["scores"][i], taken is not None))
        listed.sort(key=lambda x: -x[0])
        points, right = [], 0
        for n, (_, hit) in enumerate(listed, 1):
            right += hit
            points.append((right / len(objects), right / n))
        best_at = [max((p for r, p in points if r >= level), default=0.0) for level in np.linspace(0, 1, 101)]
        found[name] = sum(best_at) / 101
    return found
