"""The experiment on embeddings as conditions: mosaics, windows, seams, and how a text becomes numbers."""

import numpy as np

from experiments.representation_diffusion import __main__ as story
from experiments.representation_diffusion import models

IMAGES = np.random.default_rng(0).uniform(-1, 1, (50, 8, 8, 1)).astype(np.float32)
LABELS = np.arange(50) % 10


def test_a_mosaic_holds_the_digits_that_its_labels_name():
    found, labels = models.mosaics(IMAGES, np.arange(50), 3, 0)
    assert found.shape == (3, 32, 32, 1) and labels.shape == (3, 4, 4)
    for n, i, j in ((0, 0, 0), (1, 2, 3), (2, 3, 1)):
        np.testing.assert_array_equal(found[n, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8], IMAGES[labels[n, i, j]])
        np.testing.assert_array_equal(models.cut(found)[n, i, j], IMAGES[labels[n, i, j]])
    _, rows = models.mosaics(IMAGES, LABELS, 3, 0, rows=True)
    assert (rows == rows[:, :, :1]).all()


def test_windows_are_places_of_the_canvases():
    canvas = np.arange(32 * 32, dtype=np.float32).reshape(1, 32, 32, 1)
    for window in models.windows(canvas, 5, 0)[..., 0]:
        i, j = divmod(int(window[0, 0]), 32)
        np.testing.assert_array_equal(window, canvas[0, i : i + 8, j : j + 8, 0])


def test_a_seam_is_seen_where_cells_meet_and_not_in_noise():
    cells = np.kron(np.random.default_rng(0).normal(size=(4, 4)), np.ones((8, 8)))[None, ..., None]
    noise = 0.1 * np.random.default_rng(1).normal(size=(50, 32, 32, 1))
    assert story.seam(cells + noise) > 3 and 0.9 < story.seam(noise) < 1.1


def test_a_text_says_which_digit_each_row_has_and_cells_are_judged():
    words = story.words(np.array([[3, 0, 9, 9]]))
    assert words.shape == (1, 40) and np.flatnonzero(words[0]).tolist() == [3, 10, 29, 39]
    canvases, labels = models.mosaics(IMAGES, LABELS, 2, 1)
    judge = lambda x: np.full(len(x), 7)  # noqa: E731
    assert story.right(judge, canvases, labels) == (labels == 7).mean()
    assert story.right(judge, canvases, np.full((2, 4, 1), 7)) == 1
