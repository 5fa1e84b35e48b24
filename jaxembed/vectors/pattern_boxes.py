"""Boxes of visual patterns: where on a picture the channels of a pattern respond."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, on_device
from jaxembed.vectors.visual_patterns import channel_peaks, dilate, pattern_response


def pattern_boxes(response, image_size, *, relative=0.5, margin=0.0):
    """Boxes of patterns: the region around the largest response where it exceeds a part of that.

    The region is connected (8 neighbours) and holds the largest response, of equal ones the first. A place of
    the maps is a tile of the picture.

    >>> response = jnp.array([0.0, 0, 4, 3, 0, 4]).reshape(1, 1, 6, 1)
    >>> boxes, scores = pattern_boxes(response, (8, 48))
    >>> print(boxes[0, 0], scores[0])
    [16.  0. 32.  8.] [4.]

    Args:
        response: [B, h, w, P] of :func:`pattern_response`.
        image_size: height and width of the picture in pixels, or one number for both.
        relative: part of the largest response.
        margin: pixels added on each side, such as half of what a place sees beyond its tile, negative to
            take away what the radius of the response added. Boxes end at the picture's edge.

    Returns:
        (boxes float [B, P, 4], (x0, y0, x1, y1) in pixels; scores [B, P], the largest response). Where the
        response is nowhere positive, the box is 0 and so is the score. A pattern's precision times the score
        ranks boxes of different patterns.

    Raises:
        ValueError: for a shape that does not fit.
    """
    response = on_device("response", response)
    check_shape("response", response, (None,) * 4)
    sides = (image_size,) * 2 if np.ndim(image_size) == 0 else tuple(image_size)
    return _boxes(response, sides, relative, margin)


@jax.jit
def _boxes(response, sides, relative, margin):
    _, rows, columns, _ = response.shape
    height, width = sides
    scores = jnp.maximum(channel_peaks(response), 0)
    some = scores > 0
    inside = (response > relative * scores[:, None, None]) & some[:, None, None]
    region = _around_peak(response, inside)
    bounds = []
    for axis, count, length in ((2, columns, width), (1, rows, height)):
        there = region.any(axis=3 - axis)  # [B, count, P]
        first, after = jnp.argmax(there, axis=1), count - jnp.argmax(there[:, ::-1], axis=1)
        step = length / count
        bounds.append((jnp.maximum(first * step - margin, 0), jnp.minimum(after * step + margin, length)))
    (left, right), (top, bottom) = bounds
    boxes = jnp.stack([left, top, right, bottom], axis=-1).astype(accumulator(response))
    return jnp.where(some[..., None], boxes, 0), scores


def channel_boxes(maps, patterns, image_size, *, field, radius=1, first=None):
    """Boxes of channels: around what the channels of each pattern see where it responds most.

    Within ``radius`` of the largest response, each channel has its own strongest place. The box holds a
    square of side ``field`` around each of them. Of equal places the first counts.

    >>> from jaxembed.vectors import Patterns
    >>> maps = jnp.zeros((1, 1, 6, 2)).at[0, 0, 1, 0].set(2).at[0, 0, 3, 1].set(3)
    >>> one = jnp.ones((1, 1))
    >>> patterns = Patterns(jnp.array([[[0, 1]]]), one > 0, one, one, jnp.ones((1, 1, 2)))
    >>> boxes, scores = channel_boxes(maps, patterns, (10, 60), field=10)
    >>> print(boxes[0, 0], scores[0])
    [10.  0. 40. 10.] [2.]

    Args:
        maps: [B, h, w, K].
        patterns: :class:`Patterns`, C N = P of them.
        image_size: height and width of the picture in pixels, or one number for both.
        field: pixels that a place sees, or the part of them that matters, such as the size of an object.
        radius: in places, the one that patterns were mined with.
        first: pixel coordinate of the centre of the first place, of both directions. None is the centre of
            its tile. Convolutions that pad by half a kernel, as ours do, have 0.5.

    Returns:
        (boxes float [B, P, 4], (x0, y0, x1, y1) in pixels; scores [B, P]), as :func:`pattern_boxes`.
    """
    maps = on_device("maps", maps)
    response = pattern_response(maps, patterns, radius=radius)
    sides = (image_size,) * 2 if np.ndim(image_size) == 0 else tuple(image_size)
    return _channel_boxes(maps, response, patterns.channels, sides, field, first, radius=radius)


@functools.partial(jax.jit, static_argnames=("radius",))
def _channel_boxes(maps, response, channels, sides, field, first, *, radius):
    batch, rows, columns, _ = maps.shape
    size, window = channels.shape[-1], 2 * radius + 1
    channels = channels.reshape(-1, size)
    scores = jnp.maximum(channel_peaks(response), 0)
    top = jnp.argmax(response.reshape(batch, rows * columns, -1), axis=1)  # [B, P]
    edge = ((0, 0), (radius, radius), (radius, radius), (0, 0))
    padded = jnp.pad(maps, edge, constant_values=-jnp.inf)
    y = top[..., None] // columns + jnp.repeat(jnp.arange(window), window)  # [B, P, window ** 2]
    x = top[..., None] % columns + jnp.tile(jnp.arange(window), window)
    pictures = jnp.arange(batch)[:, None, None, None]
    near = padded[pictures, y[:, :, None], x[:, :, None], channels[:, :, None]]
    best = jnp.argmax(near, axis=-1)  # [B, P, size]
    corners = []
    for places, count, length in ((x, columns, sides[1]), (y, rows, sides[0])):
        step = length / count
        places = jnp.take_along_axis(places, best, axis=-1) - radius
        centre = places * step + (step / 2 if first is None else first)
        corners.append((jnp.min(centre, axis=-1) - field / 2, jnp.max(centre, axis=-1) + field / 2, length))
    (left, right, wide), (low, high, tall) = corners
    inside = [jnp.clip(v, 0, limit) for v, limit in ((left, wide), (low, tall), (right, wide), (high, tall))]
    boxes = jnp.stack(inside, axis=-1).astype(accumulator(response))
    return jnp.where((scores > 0)[..., None], boxes, 0), scores


def _around_peak(response, inside):
    """The connected part [B, h, w, P] of a bool region that holds the first largest response."""
    batch, rows, columns, patterns = response.shape
    flat = response.reshape(batch, rows * columns, patterns)
    first = jax.nn.one_hot(jnp.argmax(flat, axis=1), rows * columns, axis=1, dtype=jnp.float32)
    start = first.reshape(response.shape) * inside

    def grow(state):
        region, _ = state
        wider = dilate(region, 1) * inside
        return wider, jnp.any(wider != region)

    region, _ = jax.lax.while_loop(lambda state: state[1], grow, (start, jnp.array(True)))
    return region > 0
