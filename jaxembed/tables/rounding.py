"""Rounding whose mean is right: small updates of tables of low precision are not lost."""

import jax
import jax.numpy as jnp


def stochastic_round(key, values, dtype):
    """Stochastic rounding: rounds up or down by chance, so that the mean is the number itself.

    A number x between the neighbours a < b of the dtype becomes b with probability ``(x - a) / (b - a)``,
    else a. A number that the dtype holds, an infinity or NaN stays as it is.

    >>> values = jnp.full(10_000, 1 + 2**-10)  # an eighth of the way between two numbers of bfloat16
    >>> rounded = stochastic_round(jax.random.key(0), values, jnp.bfloat16)
    >>> print(jnp.unique(rounded), jnp.mean(rounded == 1.0).round(2))
    [1 1.00781] 0.87

    Args:
        key: random key.
        values: float [...].
        dtype: float dtype of the result.

    Returns:
        [...] of that dtype; ``values`` themselves if they have it.

    References:
        S. Gupta et al., Deep Learning with Limited Numerical Precision, arXiv:1502.02551.
    """
    values = jnp.asarray(values)
    if values.dtype == dtype:
        return values
    near = values.astype(dtype)
    error = values - near.astype(values.dtype)
    largest = jnp.finfo(dtype).max
    other = jnp.nextafter(near, jnp.where(error > 0, largest, -largest).astype(dtype))
    gap = jnp.abs(other.astype(values.dtype) - near.astype(values.dtype))
    move = jax.random.uniform(key, values.shape) * gap < jnp.abs(error)
    return jnp.where(move & jnp.isfinite(error), other, near)
