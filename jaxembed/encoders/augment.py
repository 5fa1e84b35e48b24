"""Augmentation of pictures on the device, each picture with a key of its own."""

import math

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator

RATIO = math.log(4 / 3)


def augment(
    key,
    images,
    *,
    shift=0,
    flip=False,
    crop=None,
    rotate=0.0,
    brightness=0.0,
    contrast=0.0,
    grey=0.0,
    noise=0.0,
    erase=0.0,
):
    """Augmentation: changes each picture at random in ways that leave its meaning.

    The changes are made in the order of the arguments. Picture i draws from ``fold_in(key, i)``, so that the
    other pictures of a batch do not matter. What comes in from outside the picture is its nearest border.

    >>> images = jnp.arange(4.0).reshape(1, 1, 4, 1)
    >>> print(augment(jax.random.key(1), images, shift=1)[0, 0, :, 0])
    [0. 0. 1. 2.]
    >>> print(augment(jax.random.key(0), images, flip=True)[0, 0, :, 0])
    [3. 2. 1. 0.]

    Args:
        key: random key, or [B] of them, one for each picture.
        images: [B, H, W, C] uint8, or floats of 0 to 1.
        shift: most whole pixels by which a picture moves in either direction.
        flip: True mirrors half of the pictures, left to right.
        crop: (least, most) share of the area that a random part of the picture has; it is stretched to the
            whole size. Its sides have a ratio of 3/4 to 4/3. None leaves it out.
        rotate: most degrees by which a picture turns in either direction.
        brightness: most that is added to, or taken from, all values (1 is white).
        contrast: most share by which the distance to the mean grows or shrinks.
        grey: probability that a picture loses its colours.
        noise: standard deviation of normal noise on every value.
        erase: side of a square that becomes 0 at a random place, as a share of the shorter side.

    Returns:
        [B, H, W, C] in the dtype of ``images``; uint8 is rounded and clipped.

    Raises:
        ValueError: for another number of dimensions, or an option outside its range.

    References:
        T. Chen et al., arXiv:2002.05709 (crop, colours); T. DeVries and G. Taylor, arXiv:1708.04552 (erase).
    """
    images = jnp.asarray(images)
    _check(images, shift, crop, rotate, brightness, contrast, grey, noise, erase)
    coded = images.dtype == jnp.uint8
    x = images.astype(jnp.float32) / 255 if coded else images
    keys = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
    if not keys.ndim:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(keys, jnp.arange(len(images)))

    def one(key, x):
        place, colour, rest = jax.random.split(key, 3)
        x = _moved(place, x, shift, flip, crop, rotate)
        x = _coloured(colour, x, brightness, contrast, grey)
        return _covered(rest, x, noise, erase)

    out = jax.vmap(one)(keys, x)
    return jnp.round(jnp.clip(out * 255, 0, 255)).astype(jnp.uint8) if coded else out.astype(images.dtype)


def _check(images, shift, crop, rotate, brightness, contrast, grey, noise, erase):
    if images.ndim != 4:
        raise ValueError(f"images: shape {images.shape}; pass [B, H, W, C]")
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images: {images.dtype}; pass uint8, or floats of 0 to 1")
    if not hasattr(shift, "__index__"):
        raise ValueError(f"shift: {shift}; pass a whole number of pixels")
    ranges = {"shift": (shift, min(images.shape[1:3])), "rotate": (rotate, 180), "grey": (grey, 1)}
    ranges |= {"brightness": (brightness, 1), "contrast": (contrast, 1), "erase": (erase, 1)}
    for name, (value, most) in (ranges | {"noise": (noise, math.inf)}).items():
        if not 0 <= value <= most:
            raise ValueError(f"{name}: {value} is outside of 0 to {most}")
    if crop is not None and not 0 < crop[0] <= crop[1] <= 1:
        raise ValueError(f"crop: {crop}; pass (least, most) share of the area, above 0 and at most 1")


def _moved(key, x, shift, flip, crop, rotate):
    """Shifts, mirrors, crops and turns one picture [H, W, C]."""
    keys = jax.random.split(key, 4)
    if shift:
        down, right = jax.random.randint(keys[0], (2,), -shift, shift + 1)
        height, width = x.shape[:2]
        x = x[jnp.clip(jnp.arange(height) - down, 0, height - 1)]
        x = x[:, jnp.clip(jnp.arange(width) - right, 0, width - 1)]
    if flip:
        x = jnp.where(jax.random.bernoulli(keys[1]), x[:, ::-1], x)
    if crop is not None:
        x = _cropped(keys[2], x, crop)
    if rotate:
        x = _turned(x, jnp.deg2rad(jax.random.uniform(keys[3], (), minval=-rotate, maxval=rotate)))
    return x


def _cropped(key, x, crop):
    """A random part of [H, W, C], stretched to that size by bilinear interpolation."""
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (), minval=crop[0], maxval=crop[1])
    ratio = jnp.exp(jax.random.uniform(ratio_key, (), minval=-RATIO, maxval=RATIO) / 2)
    sides = jnp.minimum(jnp.sqrt(area) * jnp.stack([ratio, 1 / ratio]), 1)
    starts = jax.random.uniform(place_key, (2,)) * (1 - sides)
    for axis in (0, 1):
        size = x.shape[axis]
        places = (starts[axis] + sides[axis] * (jnp.arange(size) + 0.5) / size) * size - 0.5
        x = jnp.moveaxis(_between(jnp.moveaxis(x, axis, 0), places), 0, axis)
    return x


def _between(x, places):
    """Values of x [n, ...] at places between its rows, linearly; places outside take the nearest row."""
    places = jnp.clip(places, 0, len(x) - 1)
    low = jnp.floor(places).astype(jnp.int32)
    share = (places - low).astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return x[low] * (1 - share) + x[jnp.minimum(low + 1, len(x) - 1)] * share


def _turned(x, angle):
    """[H, W, C] turned around its centre by bilinear interpolation."""
    height, width = x.shape[:2]
    down, right = jnp.meshgrid(
        jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing="ij"
    )
    rows = jnp.cos(angle) * down - jnp.sin(angle) * right + (height - 1) / 2
    columns = jnp.sin(angle) * down + jnp.cos(angle) * right + (width - 1) / 2
    sample = jax.vmap(
        lambda plane: jax.scipy.ndimage.map_coordinates(plane, [rows, columns], 1, mode="nearest"), 2, 2
    )
    return sample(x).astype(x.dtype)


def _coloured(key, x, brightness, contrast, grey):
    """Changes brightness, contrast and colours of one picture [H, W, C]."""
    keys = jax.random.split(key, 3)
    if brightness:
        x = x + jax.random.uniform(keys[0], (), x.dtype, -brightness, brightness)
    if contrast:
        mean = jnp.mean(x.astype(accumulator(x))).astype(x.dtype)
        x = mean + (x - mean) * (1 + jax.random.uniform(keys[1], (), x.dtype, -contrast, contrast))
    if grey:
        plain = jnp.broadcast_to(jnp.mean(x, axis=-1, keepdims=True), x.shape)
        x = jnp.where(jax.random.bernoulli(keys[2], grey), plain, x)
    return x


def _covered(key, x, noise, erase):
    """Adds noise to one picture [H, W, C] and erases a square of it."""
    keys = jax.random.split(key, 2)
    if noise:
        x = x + noise * jax.random.normal(keys[0], x.shape, x.dtype)
    if erase:
        height, width = x.shape[:2]
        side = round(erase * min(height, width))
        top = jax.random.randint(keys[1], (2,), 0, jnp.array([height - side + 1, width - side + 1]))
        rows = (jnp.arange(height) >= top[0]) & (jnp.arange(height) < top[0] + side)
        columns = (jnp.arange(width) >= top[1]) & (jnp.arange(width) < top[1] + side)
        x = jnp.where((rows[:, None] & columns)[..., None], 0, x)
    return x
