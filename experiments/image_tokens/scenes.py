"""Large pictures of coloured digits, a small view of each, and questions about a detail."""

import numpy as np

from jaxembed import data

SIDE, TILE, PATCH = 3, 8, 2  # tiles of a side; pixels of a tile's side, and of a patch's
COLOURS = {
    "red": (230, 30, 30),
    "green": (30, 160, 40),
    "blue": (40, 60, 230),
    "yellow": (240, 220, 40),
    "orange": (250, 140, 20),
    "purple": (130, 30, 170),
    "pink": (250, 150, 190),
    "brown": (120, 70, 30),
    "white": (250, 250, 250),
    "cyan": (40, 220, 230),
}
FILLERS = ["which", "digit", "colour", "is", "in", "the", "tile", "of", "what", "please", "tell", "us"]
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven")
WORDS = ["", *NAMES, *COLOURS, *FILLERS]  # number 0 is padding
LENGTH = 6  # words of a question
DIGITS = len(NAMES)
NAMED = DIGITS + len(COLOURS)  # the words after padding: names of digits, then of colours


def splits(validate):
    """(training digits, digits of the pictures that are asked about), each {label: [n, 8, 8]}."""
    digits = data.digits()
    order = np.random.default_rng(0).permutation(len(digits["labels"]))
    held = order[1000:1300] if validate else order[1300:]

    def grouped(rows):
        labels = digits["labels"][rows]
        return [digits["images"][rows[labels == label], :, :, 0] for label in range(DIGITS)]

    return grouped(order[:1000]), grouped(held)


def scenes(digits, count, rng):
    """A batch: local and global patches, words of a question such as "which digit red", and what is right.

    Each of the 9 tiles shows a digit in a colour of its own. The small view has 2 x 2 pixels of each tile,
    in which colours are seen and digits are not.
    """
    tiles = SIDE * SIDE
    shown = rng.integers(DIGITS, size=(count, tiles))
    colours = np.stack([rng.permutation(len(COLOURS))[:tiles] for _ in range(count)])
    strokes = np.stack([digits[n][rng.integers(len(digits[n]))] for n in shown.ravel()])
    palette = np.array(list(COLOURS.values()), np.float32) / 255
    painted = palette[colours.ravel()][:, None, None] * (0.3 + 0.7 * strokes[..., None])
    painted = painted.reshape(count, tiles, TILE, TILE, 3).astype(np.float32)
    local = data.image_patches(painted.reshape(-1, TILE, TILE, 3), PATCH)
    small = painted.reshape(count, tiles, 2, TILE // 2, 2, TILE // 2, 3).mean(axis=(3, 5))
    asked = rng.integers(tiles, size=count)
    own = colours[np.arange(count), asked]
    return {
        "local": local.reshape(count, tiles, -1, 3 * PATCH**2),
        "global": small.reshape(count, tiles, -1),
        "digits": shown.astype(np.int32),
        "colours": colours.astype(np.int32),
        "words": words(1 + DIGITS + own, rng),
        "answer": shown[np.arange(count), asked].astype(np.int32),
        "tile": asked.astype(np.int32),
    }


def words(keys, rng):
    """Questions: a key word among one to five others, at a place drawn at random."""
    first = 1 + NAMED
    found = np.zeros((len(keys), LENGTH), np.int32)
    for row, key in zip(found, keys, strict=True):
        count = rng.integers(2, LENGTH + 1)
        row[:count] = rng.integers(first, len(WORDS), size=count)
        row[rng.integers(count)] = key
    return found


class Batches:
    """``batches[t]``, drawn anew from (seed, t)."""

    def __init__(self, digits, size, seed):
        self.digits, self.size, self.seed = digits, size, seed

    def __getitem__(self, t):
        return scenes(self.digits, self.size, np.random.default_rng((self.seed, t)))
