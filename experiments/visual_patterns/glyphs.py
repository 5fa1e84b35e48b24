"""Pictures whose classes are told by which glyphs touch; which glyphs there are says nothing."""

import itertools

import numpy as np

SIZE, SIDE, GAP = 48, 9, 7  # pixels of a picture, of a glyph, and between glyphs that do not touch
NAMES = (
    "bar",
    "post",
    "slash",
    "backslash",
    "plus",
    "cross",
    "disc",
    "ring",
    "square",
    "corner",
    "tee",
    "arrow",
)
CROP = 16  # pixels of a picture of one glyph
GLYPHS = len(NAMES)
GROUPS = tuple(tuple(range(g, GLYPHS, 3)) for g in range(3))  # four glyphs that come together
PAIRS = tuple(itertools.combinations(range(4), 2))
CLASSES = len(PAIRS)


def glyph(rng, kind):
    """Float [SIDE, SIDE] within 0..1, turned by up to 10 degrees."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    angle = np.deg2rad(rng.uniform(-10, 10))
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    far, most = np.hypot(x, y), np.maximum(abs(x), abs(y))
    shapes = {
        "bar": abs(y) < 1,
        "post": abs(x) < 1,
        "slash": abs(x + y) < 1.4,
        "backslash": abs(x - y) < 1.4,
        "plus": np.minimum(abs(x), abs(y)) < 1,
        "cross": np.minimum(abs(x + y), abs(x - y)) < 1.4,
        "disc": far < 3.2,
        "ring": abs(far - 3.2) < 0.9,
        "square": abs(most - 3.2) < 0.8,
        "corner": (abs(x + 3) < 1) | (abs(y + 3) < 1),
        "tee": (abs(y + 3) < 1) | (abs(x) < 1),
        "arrow": abs(y - abs(x) + 2) < 1.2,
    }
    return np.clip(shapes[NAMES[kind]] * (most < 4.4), 0, 1).astype(np.float32)


def drawn(seed, count):
    """{"images": float32 [N, 48, 48, 1], "labels": int32 [N], "boxes": [N, 1, 4]}.

    A picture shows the four glyphs of one group. Two of them touch, and which two is the class; each group
    has its own order of classes. The other two lie apart. So every glyph, and every pair of glyphs, is as
    frequent in all classes. The box holds the pair that touches.
    """
    rng = np.random.default_rng(seed)
    images = np.empty((count, SIZE, SIZE, 1), np.float32)
    labels, boxes = np.arange(count, dtype=np.int32) % CLASSES, np.empty((count, 1, 4), np.float32)
    for n, label in enumerate(labels):
        g = rng.integers(len(GROUPS))
        pair = [GROUPS[g][k] for k in PAIRS[(label + 2 * g) % CLASSES]]
        picture, taken = 0.12 * _ground(rng, SIZE), np.zeros((SIZE, SIZE), bool)
        across = rng.random() < 0.5
        high, wide = (SIDE, 2 * SIDE) if across else (2 * SIDE, SIDE)
        top, left = rng.integers(SIZE - high + 1), rng.integers(SIZE - wide + 1)
        for k, kind in enumerate(rng.permutation(pair)):
            _put(rng, picture, taken, (top + (not across) * k * SIDE, left + across * k * SIDE), kind)
        for kind in np.setdiff1d(GROUPS[g], pair):
            _put(rng, picture, taken, _free(rng, taken), kind)
        boxes[n, 0] = left, top, left + wide, top + high
        images[n, ..., 0] = picture
    return {"images": images, "labels": labels, "boxes": boxes}


def crops(seed, count):
    """{"images": float32 [N, 16, 16, 1], "present": bool [N, 12]}: one glyph each, or none in one of 13."""
    rng = np.random.default_rng(seed)
    images, present = np.empty((count, CROP, CROP, 1), np.float32), np.zeros((count, GLYPHS), bool)
    for n in range(count):
        picture, kind = 0.12 * _ground(rng, CROP), rng.integers(GLYPHS + 1)
        if kind < GLYPHS:
            present[n, kind] = True
            _put(rng, picture, np.zeros_like(picture), rng.integers(CROP - SIDE + 1, size=2), kind)
        images[n, ..., 0] = picture
    return {"images": images, "present": present}


def _ground(rng, size):
    ground = rng.normal(0, 1, (size, size))
    return (ground + np.roll(ground, 1, 0) + np.roll(ground, 1, 1)) / 3


def _put(rng, picture, taken, place, kind):
    top, left = place
    window = slice(top, top + SIDE), slice(left, left + SIDE)
    shape = glyph(rng, kind)
    picture[window] = picture[window] * (1 - shape) + shape * rng.uniform(0.7, 1)
    around = slice(max(0, top - GAP), top + SIDE + GAP), slice(max(0, left - GAP), left + SIDE + GAP)
    taken[around] = True


def _free(rng, taken):
    """A place for a glyph that touches none; after many tries the emptiest that came up."""
    best, least = None, np.inf
    for _ in range(80):
        top, left = rng.integers(SIZE - SIDE + 1, size=2)
        used = taken[top : top + SIDE, left : left + SIDE].sum()
        if used < least:
            best, least = (top, left), used
        if not used:
            break
    return best
