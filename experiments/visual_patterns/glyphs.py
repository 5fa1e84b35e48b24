"""Pictures whose classes are told by which glyphs touch; which glyphs there are says nothing."""

import itertools

import numpy as np

SIZE, SIDE = 48, 9  # pixels of a picture and of a glyph
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


def drawn(seed, count, *, mixed=False):
    """{"images": float32 [N, 48, 48, 1], "labels": int32 [N], "present": bool [N, 12], "boxes": [N, 1, 4]}.

    A picture shows the four glyphs of one group. Two of them touch, and which two is the class; each group
    has its own order of classes. The other two lie apart. So every glyph, and every pair of glyphs, is as
    frequent in all classes. The box holds the pair that touches. Pictures that are ``mixed`` show any four of
    the twelve glyphs; they have no class.
    """
    rng = np.random.default_rng(seed)
    images = np.empty((count, SIZE, SIZE, 1), np.float32)
    labels, boxes = np.arange(count, dtype=np.int32) % CLASSES, np.empty((count, 1, 4), np.float32)
    present = np.zeros((count, GLYPHS), bool)
    for n, label in enumerate(labels):
        g = rng.integers(len(GROUPS))
        four = rng.choice(GLYPHS, 4, replace=False) if mixed else np.array(GROUPS[g])
        pair = four[list(PAIRS[(label + 2 * g) % CLASSES])]
        picture, taken = 0.12 * _ground(rng), np.zeros((SIZE, SIZE), bool)
        across = rng.random() < 0.5
        high, wide = (SIDE, 2 * SIDE) if across else (2 * SIDE, SIDE)
        top, left = rng.integers(SIZE - high + 1), rng.integers(SIZE - wide + 1)
        for k, kind in enumerate(rng.permutation(pair)):
            _put(rng, picture, taken, (top + (not across) * k * SIDE, left + across * k * SIDE), kind)
        for kind in np.setdiff1d(four, pair):
            _put(rng, picture, taken, _free(rng, taken), kind)
        boxes[n, 0] = left, top, left + wide, top + high
        present[n, four] = True
        images[n, ..., 0] = picture
    return {
        "images": images,
        "labels": np.full(count, -1, np.int32) if mixed else labels,
        "present": present,
        "boxes": boxes,
    }


def _ground(rng):
    ground = rng.normal(0, 1, (SIZE, SIZE))
    return (ground + np.roll(ground, 1, 0) + np.roll(ground, 1, 1)) / 3


def _put(rng, picture, taken, place, kind):
    top, left = place
    window = slice(top, top + SIDE), slice(left, left + SIDE)
    shape = glyph(rng, kind)
    picture[window] = picture[window] * (1 - shape) + shape * rng.uniform(0.7, 1)
    around = slice(max(0, top - 4), top + SIDE + 4), slice(max(0, left - 4), left + SIDE + 4)
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
