"""Scalar quantisation: every coordinate of a vector as one small integer, with a bound on the error."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, on_device
from jaxembed.checks import refuse_nan


def fit_scalar(x, *, bits=8, per="all"):
    """Scalar quantisation: measures the step between two levels, symmetric about 0.

    ``step = max |x| / levels`` with ``levels = 2**(bits - 1) - 1``, 127 for 8 bits.

    >>> params = fit_scalar(jnp.array([[1.27, -0.5], [0.3, 0.2]]))
    >>> print(params["step"].round(4), params["levels"])
    0.01 127

    Args:
        x: [N, D], finite, any float dtype. Larger numbers that are encoded later will be clipped.
        bits: 2 to 8.
        per: "all", one step, or "coordinate", a step for each of the D coordinates.

    Returns:
        ``step`` [] or [D] in at least float32 and ``levels`` int32 [].

    Raises:
        ValueError: for a number of bits out of range, an unknown ``per``, no vectors, or numbers that are not
            finite (under jit these pass).
    """
    x = on_device("x", x)
    check_shape("x", x, (None, None))
    if not 2 <= bits <= 8:
        raise ValueError(f"bits: {bits} is outside 2..8; choose 8 for one byte")
    if per not in ("all", "coordinate"):
        raise ValueError(f'per: {per!r} is unknown; choose "all" or "coordinate"')
    if not x.size:
        raise ValueError(f"x: shape {x.shape} holds no number; pass at least one vector")
    largest = jnp.max(jnp.abs(x.astype(accumulator(x))), axis=0 if per == "coordinate" else None)
    finite = jnp.all(jnp.isfinite(largest))
    if not isinstance(finite, jax.core.Tracer) and not finite:
        raise ValueError("x: holds NaN or infinite numbers; leave those vectors out")
    levels = 2 ** (bits - 1) - 1
    return {"step": largest / levels, "levels": jnp.asarray(levels, jnp.int32)}


def encode_scalar(params, x):
    """Scalar quantisation, encoder: writes each coordinate as the number of its nearest level.

    ``scalar_codes = clip(round(x / step), -levels, levels)``.

    >>> params = {"step": jnp.array(0.5), "levels": jnp.array(127)}
    >>> print(encode_scalar(params, jnp.array([[0.6, -1.0, 900.0]])))
    [[  1  -2 127]]

    Args:
        params: of :func:`fit_scalar`.
        x: [..., D].

    Returns:
        int8 [..., D]: a quarter of the bytes of float32.

    Raises:
        ValueError: for vectors of another width than the steps, or NaN (which passes under jit).
    """
    x, step = jnp.asarray(x), jnp.asarray(params["step"])
    _check_width(step, x, "x")
    refuse_nan("x", x)
    codes = jnp.round(x.astype(accumulator(x)) / jnp.where(step > 0, step, 1))
    return jnp.clip(codes, -params["levels"], params["levels"]).astype(jnp.int8)


def decode_scalar(params, scalar_codes):
    """Scalar quantisation, decoder: turns level numbers back into vectors.

    ``decoded = scalar_codes * step``. A number within the fitted range is off by ``step / 2`` at most.

    >>> params = {"step": jnp.array(0.5), "levels": jnp.array(127)}
    >>> print(decode_scalar(params, jnp.array([[1, -2, 127]], jnp.int8)))
    [[ 0.5 -1.  63.5]]

    Args:
        params: of :func:`fit_scalar`.
        scalar_codes: int8 [..., D], of :func:`encode_scalar`.

    Returns:
        [..., D] in the dtype of the step.

    Raises:
        ValueError: for codes of another width than the steps.
    """
    step, scalar_codes = jnp.asarray(params["step"]), jnp.asarray(scalar_codes)
    _check_width(step, scalar_codes, "scalar_codes")
    return scalar_codes.astype(step.dtype) * step


def scalar_distance_bound(params, distances, width):
    """Scalar quantisation, error: bounds how far squared distances of decoded vectors are from the true ones.

    ``|D - D'| <= 2 sqrt(D) e + e**2`` with ``e = sqrt(sum_d step[d]**2)``, because every coordinate of both
    vectors is off by half a step at most.

    >>> params = {"step": jnp.array(0.41 / 127), "levels": jnp.array(127)}
    >>> print(scalar_distance_bound(params, jnp.array([0.0, 2.0]), 128).round(4))
    [0.0013 0.1046]

    Args:
        params: of :func:`fit_scalar`.
        distances: [...], squared distances before quantisation, of vectors within the fitted range.
        width: the width D of the vectors.

    Returns:
        [...], in the units of the distances.

    References:
        F. Schroff et al., FaceNet, arXiv:1503.03832, states that 128 bytes lose nothing; the bound is ours.
    """
    step = jnp.broadcast_to(jnp.asarray(params["step"]), (width,))
    most = jnp.sqrt(jnp.sum(step**2))
    return 2 * jnp.sqrt(jnp.asarray(distances)) * most + most**2


def _check_width(step, x, name):
    if step.ndim and x.shape[-1:] != step.shape:
        raise ValueError(f"{name}: shape {x.shape} for {len(step)} steps; pass [..., {len(step)}]")
