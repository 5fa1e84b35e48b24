"""Tilings of known pictures, tiles in their places, and bad sizes."""

import numpy as np
import pytest

from jaxembed import data


@pytest.mark.parametrize(
    ("size", "tiling"),
    [
        ((336, 336), (1, 2)),
        ((672, 672), (2, 2)),
        ((1024, 768), (3, 2)),
        ((768, 1024), (2, 3)),
        ((2000, 500), (5, 1)),
        ((1344, 336), (4, 1)),
        ((4000, 3000), (3, 2)),
    ],
)
def test_tilings_are_those_of_the_released_code(size, tiling):
    assert data.choose_tiling(*size, 336) == tiling
    columns, rows = data.choose_tiling(*size, 336)
    assert 2 <= columns * rows <= 7


def test_tiles_stand_row_by_row_and_join_again():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(4, axis=0).repeat(4, axis=1)
    tiles, whole = data.tile_image(image, 4, tiling=(3, 2))
    assert [np.unique(tile).tolist() for tile in tiles] == [[0], [1], [2], [3], [4], [5]]
    np.testing.assert_array_equal(data.untile(tiles, (3, 2)), image)
    assert whole.shape == (4, 4, 1) and tiles.shape == (6, 4, 4, 1)


def test_pictures_keep_their_shape_and_are_padded_at_both_sides():
    image = np.full((4, 16, 3), 200, np.uint8)
    tiles, whole = data.tile_image(image, 8, tiling=(2, 1), background=7)
    joined = data.untile(tiles, (2, 1))
    assert (joined[2:6] == 200).all() and (joined[:2] == 7).all() and (joined[6:] == 7).all()
    assert (whole == 200).all()
    assert len(data.tile_image(image, 8)[0]) == np.prod(data.choose_tiling(16, 4, 8))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: data.choose_tiling(0, 5, 8), "pass sizes from 1"),
        (lambda: data.choose_tiling(5, 5, 8, least=3, most=2), "least <= most"),
        (lambda: data.tile_image(np.zeros((4, 4, 3)), 2), r"image: float64 \(4, 4, 3\); pass uint8"),
        (lambda: data.untile(np.zeros((3, 1, 1, 1)), (2, 1)), "for 2 x 1 tiles"),
    ],
)
def test_bad_sizes_get_one_line(call, match):
    with pytest.raises(ValueError, match=match):
        call()
