"""Scattering: wavelets and absolute values in place of learned filters."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator
from jaxembed.checks import check_whole


def scattering(images, scales=2, *, angles=8, order=2):
    """Scattering transform: means of pictures' wavelet responses, which change little under small shifts.

    The maps are ``x * phi``, ``|x * psi_1| * phi``, and ``||x * psi_1| * psi_2| * phi`` where psi_2 is larger
    than psi_1. psi are wavelets of ``scales`` sizes and ``angles`` directions, phi is a low-pass filter of
    ``2**scales`` pixels. It is a net of two layers without anything to learn.

    >>> maps = scattering(jnp.ones((1, 8, 8, 1)), 2)
    >>> print(maps.shape, maps[0, 0, 0, 0].round(3), abs(maps[..., 1:]).max() < 1e-4)
    (1, 2, 2, 81) 1.0 True

    Args:
        images: [B, H, W, C], floats; both sides multiples of ``2**scales``.
        scales: J, sizes of wavelets, each twice the one before.
        angles: L directions.
        order: 1 leaves the last kind of maps out; 0 keeps the mean alone.

    Returns:
        [B, H / 2**J, W / 2**J, C * (1 + J L + L^2 J (J - 1) / 2)]: for each channel of the picture its maps,
        in the order of the text, sizes before directions.

    Raises:
        ValueError: for pictures of other sides, or an order outside 0..2.

    References:
        J. Bruna and S. Mallat, arXiv:1203.1513. Morlet wavelets of bandwidth 0.8 / 2^j and frequency 3 pi /
        (4 * 2^j); pictures are mirrored at their edges.
    """
    images = jnp.asarray(images)
    check_whole(scales=scales, angles=angles)
    if images.ndim != 4 or not images.size or any(n % 2**scales for n in images.shape[1:3]):
        raise ValueError(
            f"images: shape {images.shape}; pass [B, H, W, C] with sides in steps of {2**scales}"
        )
    if order not in (0, 1, 2) or scales < 1:
        raise ValueError(f"order: {order} and scales {scales}; pass 0, 1 or 2, and at least one scale")
    return _scattered(images.astype(accumulator(images)), scales, angles, order)


@functools.partial(jax.jit, static_argnames=("scales", "angles", "order"))
def _scattered(images, scales, angles, order):
    batch, height, width, channels = images.shape
    edge = 2**scales
    x = jnp.moveaxis(images, 3, 1).reshape(batch * channels, height, width)
    low, high = _filters(height + 2 * edge, width + 2 * edge, scales, angles)
    x = jnp.pad(x, ((0, 0), (edge, edge), (edge, edge)), mode="symmetric")

    def mean(x):  # [N, K, h, w] -> [N, K, h / edge, w / edge]
        smooth = jnp.real(jnp.fft.ifft2(jnp.fft.fft2(x) * low))
        return smooth[..., edge:-edge:edge, edge:-edge:edge]

    def modulus(x, wavelets):  # [N, K, h, w] -> [N, K * wavelets, h, w]
        found = jnp.abs(jnp.fft.ifft2(jnp.fft.fft2(x)[:, :, None] * wavelets))
        return found.reshape(len(x), -1, *x.shape[2:])

    maps = [mean(x[:, None])]
    for j in range(scales if order else 0):
        first = modulus(x[:, None], high[j])
        maps.append(mean(first))
    if order == 2:
        for j in range(scales):
            first = modulus(x[:, None], high[j])
            maps += [mean(modulus(first, high[k])) for k in range(j + 1, scales)]
    found = jnp.concatenate(maps, axis=1)
    found = found.reshape(batch, channels * found.shape[1], *found.shape[2:])
    return jnp.moveaxis(found, 1, 3)


@functools.cache
def _filters(height, width, scales, angles):
    """The low-pass filter [h, w] and the wavelets, a list of [angles, h, w], as their Fourier transforms."""
    low = _transformed(_gauss(height, width, 0.8 * 2 ** (scales - 1), 0, 1.0))
    high = []
    for j in range(scales):
        turns = [math.pi * m / angles for m in range(angles)]
        waves = [_morlet(height, width, 0.8 * 2**j, 0.75 * math.pi / 2**j, t, 4 / angles) for t in turns]
        high.append(np.stack([_transformed(wave) for wave in waves]))
    return low, high


def _transformed(wave):
    return np.real(np.fft.fft2(wave)).astype(np.float32)  # waves are Hermitian, so this is all of it


def _gauss(height, width, sigma, turn, slant, frequency=0.0):
    """A Gaussian window times a wave, wrapped around the edges of [height, width]; its window sums to 1."""
    found = np.zeros((height, width), complex)
    for above in range(-2, 3):
        for left in range(-2, 3):
            y, x = np.mgrid[:height, :width] + np.array([above * height, left * width])[:, None, None]
            along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
            window = np.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2))
            found += window * np.exp(1j * frequency * along)
    return found * slant / (2 * math.pi * sigma**2)


def _morlet(height, width, sigma, frequency, turn, slant):
    """A wave under a window, less as much of the window as makes its mean 0."""
    wave, window = (_gauss(height, width, sigma, turn, slant, f) for f in (frequency, 0.0))
    return wave - window * (wave.sum() / window.sum())
