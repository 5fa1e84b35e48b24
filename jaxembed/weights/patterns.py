"""Banks of filters that need no data, and initialisers that put any bank into a layer."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, unit
from jaxembed.checks import check_whole
from jaxembed.weights.kernels import kernels, with_kernels


def dct_bank(size, count=None):
    """DCT bank: the cosine patterns of a discrete cosine transform, from low to high frequencies.

    ``bank[uv][i, j] = c[u] c[v] cos(pi (2 i + 1) u / 2k) cos(pi (2 j + 1) v / 2k)``, k = size, c[0] =
    sqrt(1 / k) and else sqrt(2 / k): an orthonormal basis of patches of k x k. The order is that of JPEG's
    zigzag, by u + v.

    >>> print(dct_bank(2).round(3))
    [[ 0.5  0.5  0.5  0.5]
     [ 0.5 -0.5  0.5 -0.5]
     [ 0.5  0.5 -0.5 -0.5]
     [ 0.5 -0.5 -0.5  0.5]]

    Args:
        size: side of the patches, k.
        count: how many of the lowest frequencies; None takes all k * k.

    Returns:
        NumPy array [count, k * k] for :func:`bank_initializer`, float32.

    Raises:
        ValueError: for a count outside 1..k * k, or numbers that are not integers.

    References:
        N. Ahmed et al., Discrete cosine transform, 1974; as filters of nets, M. Ulicny et al.,
        arXiv:1812.03205.
    """
    check_whole(size=size, count=1 if count is None else count)
    count = size * size if count is None else count
    if size < 1 or not 1 <= count <= size * size:
        raise ValueError(
            f"count: {count} is outside 1..{size * size}, the patterns of size {size}; choose one"
        )
    place, frequency = np.arange(size), np.arange(size)[:, None]
    waves = np.cos(np.pi * (2 * place + 1) * frequency / (2 * size)) * math.sqrt(2 / size)
    waves[0] = math.sqrt(1 / size)
    order = sorted(np.ndindex(size, size), key=lambda f: (sum(f), f[(sum(f) + 1) % 2]))
    return np.stack([np.outer(waves[u], waves[v]).ravel() for u, v in order[:count]]).astype(np.float32)


def gabor_bank(size, *, orientations=8, wavelengths=None, phases=(0.0, math.pi / 2), aspect=0.5, width=0.56):
    """Gabor bank: waves of some orientations under a Gaussian window, as simple cells of the eye's cortex.

    ``exp(-(x'^2 + aspect^2 y'^2) / (2 s^2)) cos(2 pi x' / wavelength + phase)`` with ``x' = x cos t + y sin
    t``, ``y' = -x sin t + y cos t``, s = width * wavelength, and t = pi m / orientations. Then each filter
    loses its mean and gets length 1.

    >>> bank = gabor_bank(5, orientations=4)
    >>> print(bank.shape, abs(bank.sum(axis=1)).max() < 1e-5)
    (8, 25) True

    Args:
        size: side of the filters, k.
        orientations: number of angles t.
        wavelengths: in pixels, above 2 to be seen; None takes 2/3 of the size.
        phases: 0 is even, pi / 2 is odd.
        aspect: 1 is a round window, below 1 one that is longer along the wave's crests.
        width: of the window in wavelengths; 0.56 has a bandwidth of one octave.

    Returns:
        NumPy array [orientations * wavelengths * phases, k * k], float32; phases change fastest.

    Raises:
        ValueError: for a size, a count or a wavelength that is not above 0, or counts that are not integers.

    References:
        J. G. Daugman, JOSA A 1985.
    """
    check_whole(size=size, orientations=orientations)
    wavelengths = (size / 1.5,) if wavelengths is None else tuple(wavelengths)
    if min(size, orientations, len(wavelengths), len(phases)) < 1 or not min(wavelengths) > 0:
        raise ValueError(
            f"size: {size}, {orientations} orientations, wavelengths {wavelengths}; pass numbers above 0"
        )
    place = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(place, place, indexing="ij")
    found = []
    for m in range(orientations):
        angle = math.pi * m / orientations
        along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        for wavelength in wavelengths:
            window = np.exp(-(along**2 + (aspect * across) ** 2) / (2 * (width * wavelength) ** 2))
            found += [window * np.cos(2 * math.pi * along / wavelength + phase) for phase in phases]
    bank = np.stack(found).reshape(len(found), -1)
    bank -= bank.mean(axis=1, keepdims=True)
    return (bank / np.maximum(np.linalg.norm(bank, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def dirac(key, shape, dtype=jnp.float32):
    """Dirac initialiser: every filter passes one input channel through unchanged.

    ``kernel[centre, centre, o % in, o] = 1`` and 0 elsewhere.

    >>> print(dirac(None, (1, 3, 2, 3))[0, :, 0])
    [[0. 0. 0.]
     [1. 0. 1.]
     [0. 0. 0.]]

    Args:
        key: not used; initialisers have one.
        shape: (kh, kw, in, out).
        dtype: of the result.

    Returns:
        [kh, kw, in, out]. Where there are more filters than inputs, inputs repeat; torch leaves those 0.
    """
    kh, kw, inputs, outputs = shape
    places = np.arange(outputs)
    return jnp.zeros(shape, dtype).at[kh // 2, kw // 2, places % inputs, places].set(1)


def bank_initializer(bank, *, gain=2**0.5, signs=True):
    """Turns a bank of filters into an initialiser, as those of ``jax.nn.initializers``.

    Every filter gets the length ``gain``. sqrt(2) is what He's initialiser has on average, so that banks and
    random filters begin at one scale.

    >>> init = bank_initializer(dct_bank(3))
    >>> kernel = init(jax.random.key(0), (3, 3, 1, 16))
    >>> print(kernel.shape, jnp.linalg.norm(kernel[..., 0]).round(3))
    (3, 3, 1, 16) 1.414

    ``flax.linen.Conv(16, (3, 3), kernel_init=bank_initializer(dct_bank(3)))`` takes it as it is.

    - A bank of whole filters, P = kh * kw * in: filter o is ``bank[o]``. Filters beyond the bank are its
      negatives, as pairs of both signs pass a ReLU, and then random mixtures of its rows.
    - A bank of patterns of one channel, P = kh * kw with several inputs: filter o is pattern ``o % K`` times
      a random direction over the inputs, of length 1.

    Args:
        bank: [K, P], such as those of :func:`dct_bank`, :func:`gabor_bank`, or filters fitted to patches.
        gain: length of every filter.
        signs: False leaves the negatives out: mixtures follow at once.

    Returns:
        ``init(key, shape, dtype=float32) -> array`` for shapes (kh, kw, in, out), or (P, out) of a dense
        layer. It raises ValueError for a shape of other filters than the bank has.
    """
    bank = jnp.asarray(bank)
    if bank.ndim != 2 or not bank.size:
        raise ValueError(f"bank: shape {bank.shape}; pass [K, P], a filter in each row")
    bank = bank.astype(accumulator(bank))

    def init(key, shape, dtype=jnp.float32):
        *window, inputs, outputs = shape
        area = math.prod(window)
        if bank.shape[1] == area * inputs:
            filters = _whole(key, unit(bank), outputs, signs)
        elif bank.shape[1] == area:
            mixes = unit(jax.random.normal(key, (outputs, inputs), bank.dtype))
            patterns = unit(bank)[np.arange(outputs) % len(bank)]
            filters = (patterns[:, :, None] * mixes[:, None]).reshape(outputs, -1)
        else:
            raise ValueError(
                f"shape: {tuple(shape)} has filters of {area * inputs} numbers, the bank {bank.shape[1]}; "
                "pass a bank of the layer's size"
            )
        return (gain * filters.T).reshape(shape).astype(dtype)

    return init


def _whole(key, bank, outputs, signs):
    known = jnp.concatenate([bank, -bank]) if signs else bank
    mixed = max(0, outputs - len(known))
    if not mixed:
        return known[:outputs]
    mixtures = jax.random.normal(key, (mixed, len(bank)), bank.dtype) @ bank
    return jnp.concatenate([known, unit(mixtures)])


def redraw_kernels(key, params, initializer, pattern=""):
    """Draws the convolution kernels of a tree anew, by an initialiser.

    >>> params = {"first": {"kernel": jnp.ones((3, 3, 1, 2))}, "head": {"kernel": jnp.ones((2, 2))}}
    >>> drawn = redraw_kernels(jax.random.key(0), params, dirac, "first")
    >>> print(drawn["first"]["kernel"].sum(), drawn["head"]["kernel"].sum())
    2.0 4.0

    Args:
        key: random key; kernel i of those that match draws from ``fold_in(key, i)``.
        params: tree of arrays of any shape, of Flax, ``encoders.convnet`` or torch, see
            :func:`~jaxembed.weights.kernels`.
        initializer: ``init(key, shape, dtype)`` of ``jax.nn.initializers``, :func:`bank_initializer` or
            :func:`dirac`, for shapes (kh, kw, in, out).
        pattern: regex, searched in the paths of the kernels; "" is all of them.

    Returns:
        Tree like ``params``.

    Raises:
        ValueError: where no kernel has such a path.
    """
    found = {path: kernel for path, kernel in kernels(params).items() if re.search(pattern, path)}
    if not found:
        raise ValueError(f"pattern: {pattern!r} matches no kernel; paths are {[*kernels(params)][:5]}")
    drawn = {
        path: initializer(jax.random.fold_in(key, i), tuple(kernel.shape), jnp.dtype(kernel.dtype))
        for i, (path, kernel) in enumerate(found.items())
    }
    return with_kernels(params, drawn)


def filters_to_kernel(filters, shape):
    """Filters as the kernel of a convolution.

    >>> print(filters_to_kernel(jnp.arange(8.0).reshape(2, 4), (2, 2, 1))[..., 0, 1])
    [[4. 5.]
     [6. 7.]]

    Args:
        filters: [K, kh * kw * in], the axes of a patch [kh, kw, in] in this order.
        shape: (kh, kw, in).

    Returns:
        [kh, kw, in, K], the kernel of a convolution that gives the inner products of patches and filters.

    Raises:
        ValueError: for filters of another length.
    """
    filters = jnp.asarray(filters)
    if filters.ndim != 2 or filters.shape[1] != math.prod(shape):
        raise ValueError(f"filters: shape {filters.shape}; pass [K, {math.prod(shape)}] for {tuple(shape)}")
    return filters.T.reshape(*shape, len(filters))


def receptive_fields(layers):
    """Receptive fields: how many pixels a place of each layer sees, and how far apart its places are.

    ``field <- field + (kernel - 1) dilation step``, then ``step <- step stride``.

    >>> print(receptive_fields([(7, 2), (3, 1), (3, 2), (3, 1, 2)]))
    [(7, 2), (11, 2), (15, 4), (31, 4)]

    Args:
        layers: (kernel, stride) or (kernel, stride, dilation) of each convolution or pooling, in the order of
            the net.

    Returns:
        [(side of the field, step)] in pixels, one pair for each layer.

    Raises:
        ValueError: for numbers that are not integers from 1 on, and for more or fewer of them.
    """
    found, field, step = [], 1, 1
    for layer in layers:
        numbers = tuple(layer) if np.ndim(layer) == 1 else ()
        if len(numbers) not in (2, 3) or not all(_natural(n) for n in numbers):
            raise ValueError(
                f"layers: {layer}; pass integers (kernel, stride) or (kernel, stride, dilation) from 1"
            )
        kernel, stride, dilation = (*numbers, 1)[:3]
        field, step = field + (kernel - 1) * dilation * step, step * stride
        found.append((field, step))
    return found


def _natural(number):
    return isinstance(number, int | np.integer) and number >= 1
