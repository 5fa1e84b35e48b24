"""Numbers as vectors: values, angles, logarithms, bins, digits and waves."""

import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, on_device

KINDS = ("value", "dice", "log", "bins", "digits", "fourier")


def encode_numbers(numbers, kind, *, size=8, low=-1.0, high=1.0, edges=None):
    """Encodings of numbers: writes each number as a vector that a network can read.

    - "value": ``x / max(|low|, |high|) * 5``, [.., 1]; a learned vector is multiplied by it (xVal).
    - "dice": ``v[j] = sin(t)**(j - 1) cos(t)`` for j < size and ``v[size] = sin(t)**(size - 1)`` with ``t =
      pi (x - low) / (high - low)``. Length 1; for size 2 cosines are ``cos(t1 - t2)``.
      For more coordinates cosines do not fall steadily with the distance.
    - "log": the sign, ``log10(1 + |x|)`` and the mantissa in 1..10 (0 for 0), [.., 3].
    - "bins": bin t contributes ``clip((x - edges[t]) / (edges[t + 1] - edges[t]), 0, 1)``: their sum is the
      fractional number of bins below x (piecewise linear).
    - "digits": one-hot decimal digits of ``round(|x|)``, the last ``size`` of them, units last, and the sign,
      [.., 10 * size + 1].
    - "fourier": ``sin(2**j pi x), cos(2**j pi x)`` for j from 0, with x scaled so that low..high is 0..1,
      [.., size], sines first.

    >>> print(encode_numbers(jnp.array([0.5, 2.5]), "bins", edges=jnp.array([0.0, 1.0, 3.0])))
    [[0.5  0.  ]
     [1.   0.75]]

    Args:
        numbers: [...].
        kind: one of the six.
        size: coordinates of "dice" (at least 2) and "fourier" (even), digits of "digits".
        low, high: the range of "value", "dice" and "fourier"; "dice" holds numbers inside it.
        edges: [E + 1], rising, of "bins": for example quantiles of the training numbers.

    Returns:
        [..., K] in at least float32, K as told above; E for "bins".

    Raises:
        ValueError: for an unknown kind, a range that is empty, a size that does not fit or missing edges.

    References:
        S. Golkar et al., xVal, arXiv:2310.02989; D. Sundararaman et al., DICE, EMNLP 2020 (the last
        exponent is chosen here so that lengths are 1, and the turn by a random matrix is left to the
        caller); Y. Gorishniy et al., arXiv:2203.05556 (bins).
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; choose one of {', '.join(KINDS)}")
    numbers = on_device("numbers", numbers)
    x = numbers.astype(accumulator(numbers))
    if kind in ("value", "dice", "fourier") and not low < high:
        raise ValueError(f"low, high: {low} to {high} is no range; pass low below high")
    if kind == "bins":
        return _bins(x, edges)
    if kind == "value":
        return x[..., None] * (5 / max(abs(low), abs(high)))
    if kind == "log":
        return _logarithm(x)
    share = (x - low) / (high - low)
    if kind == "dice":
        return _angles(jnp.pi * jnp.clip(share, 0, 1), size)
    return _digits(x, size) if kind == "digits" else _waves(share, size)


def _bins(x, edges):
    if edges is None:
        raise ValueError('edges: is missing; "bins" needs rising edges, such as quantiles')
    edges = on_device("edges", edges).astype(x.dtype)
    check_shape("edges", edges, (None,))
    if len(edges) < 2:
        raise ValueError(f"edges: {len(edges)} given; pass at least two")
    steps = jnp.diff(edges)
    part = (x[..., None] - edges[:-1]) / jnp.where(steps > 0, steps, 1)
    return jnp.where(steps > 0, jnp.clip(part, 0, 1), 0)


def _logarithm(x):
    size = jnp.abs(x)
    exponent = jnp.floor(jnp.log10(jnp.where(size > 0, size, 1)))
    mantissa = jnp.where(size > 0, size / 10**exponent, 0)
    return jnp.stack([jnp.sign(x), jnp.log10(1 + size), mantissa], axis=-1)


def _angles(angle, size):
    if size < 2:
        raise ValueError(f'size: {size} is below 2; "dice" needs at least two coordinates')
    powers = jnp.sin(angle)[..., None] ** jnp.arange(size, dtype=angle.dtype)
    return powers * jnp.concatenate(
        [jnp.broadcast_to(jnp.cos(angle)[..., None], (*angle.shape, size - 1)), jnp.ones((*angle.shape, 1))],
        -1,
    ).astype(angle.dtype)


def _digits(x, size):
    if not 1 <= size <= 9:
        raise ValueError(f'size: {size} is outside 1..9, the digits that "digits" can hold; choose fewer')
    whole = jnp.round(jnp.minimum(jnp.abs(x), 10.0**9)).astype(jnp.int32)
    places = 10 ** jnp.arange(size - 1, -1, -1, dtype=jnp.int32)
    digits = whole[..., None] // places % 10
    hot = (digits[..., None] == jnp.arange(10)).astype(x.dtype)
    return jnp.concatenate([hot.reshape(*x.shape, 10 * size), jnp.sign(x)[..., None]], axis=-1)


def _waves(share, size):
    if size < 2 or size % 2:
        raise ValueError(f'size: {size}; "fourier" needs an even number of coordinates')
    waves = jnp.pi * share[..., None] * 2.0 ** jnp.arange(size // 2, dtype=share.dtype)
    return jnp.concatenate([jnp.sin(waves), jnp.cos(waves)], axis=-1)
