"""Large pictures → tiles of one size, in a grid that fits their shape."""

import math

import numpy as np

from jaxembed.data.images import fit_image


def choose_tiling(width, height, tile, *, least=2, most=6):
    """Adaptive tiling: how many columns and rows of tiles keep most pixels of a picture.

    ``s = ceil(width * height / tile**2)``, brought to least..most. Grids of s - 1, s or s + 1 tiles compete,
    but none of fewer than ``least``. The picture is scaled to fit each. The grid that keeps most of its
    pixels wins, then the one with least padding, then the first: fewer tiles, then fewer columns.

    >>> print(choose_tiling(336, 336, 336), choose_tiling(1024, 768, 336), choose_tiling(2000, 500, 336))
    (1, 2) (3, 2) (5, 1)

    Args:
        width, height: of the picture, in pixels.
        tile: side of a tile.
        least, most: bounds of s; a grid may have one tile more than ``most``.

    Returns:
        (columns, rows).

    Raises:
        ValueError: for a size below 1, or bounds without a number between them.

    References:
        Y.-F. Zhang et al. (SliME), arXiv:2406.08487.
    """
    if min(width, height, tile) < 1 or not 1 <= least <= most:
        raise ValueError(f"{width=}, {height=}, {tile=}, {least=}, {most=}: pass sizes from 1, least <= most")
    wanted = min(max(math.ceil(width * height / tile**2), least), most)
    best = None
    for count in range(max(wanted - 1, least), wanted + 2):
        for columns in range(1, count + 1):
            if count % columns:
                continue
            rows = count // columns
            scale = min(columns * tile / width, rows * tile / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            found = (kept, kept - count * tile**2)
            if best is None or found > best[0]:
                best = found, (columns, rows)
    return best[1]


def tile_image(image, tile, *, tiling=None, background=0):
    """Tiles: brings a picture into a grid of tiles, and the whole of it into one more.

    The picture keeps its shape: it is scaled to fit the grid and padded at both sides. The view of the whole
    is squashed to a square.

    >>> tiles, whole = tile_image(np.full((8, 16, 3), 255, np.uint8), 8, tiling=(2, 1))
    >>> print(tiles.shape, whole.shape, tiles.min())
    (2, 8, 8, 3) (8, 8, 3) 255

    Args:
        image: uint8 [H, W, C], C of 1 or 3.
        tile: side of a tile.
        tiling: (columns, rows); None takes :func:`choose_tiling`.
        background: value of the padding, 0 to 255.

    Returns:
        (uint8 [columns * rows, tile, tile, C] row by row, uint8 [tile, tile, C]).

    Raises:
        ValueError: for something else than such a picture.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.dtype != np.uint8:
        raise ValueError(f"image: {image.dtype} {image.shape}; pass uint8 [H, W, C]")
    height, width, channels = image.shape
    columns, rows = tiling or choose_tiling(width, height, tile)
    scale = min(columns * tile / width, rows * tile / height)
    inside = max(1, int(height * scale)), max(1, int(width * scale))
    placed = np.full((rows * tile, columns * tile, channels), background, np.uint8)
    top, left = ((side - size) // 2 for side, size in zip(placed.shape, inside, strict=False))
    scaled = fit_image(image, inside, channels=channels, fit="stretch")
    placed[top : top + inside[0], left : left + inside[1]] = scaled
    cut = placed.reshape(rows, tile, columns, tile, channels).swapaxes(1, 2)
    return cut.reshape(-1, tile, tile, channels), fit_image(image, tile, channels=channels, fit="stretch")


def untile(maps, tiling):
    """Joins the maps of tiles to the map of the whole picture.

    >>> print(untile(np.arange(4).reshape(2, 1, 2, 1), (2, 1))[..., 0])
    [[0 1 2 3]]

    Args:
        maps: [columns * rows, h, w, D], row by row, NumPy or JAX.
        tiling: (columns, rows).

    Returns:
        [rows * h, columns * w, D] of the same kind.

    Raises:
        ValueError: for another number of tiles.
    """
    columns, rows = tiling
    if maps.ndim != 4 or len(maps) != columns * rows:
        raise ValueError(f"maps: {maps.shape} for {columns} x {rows} tiles; pass one map [h, w, D] for each")
    _, height, width, depth = maps.shape
    grid = maps.reshape(rows, columns, height, width, depth).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, depth)
