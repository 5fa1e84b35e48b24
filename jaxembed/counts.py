"""What counts of pairs say, in the loops of the host and in arrays of a device."""

import jax.numpy as jnp
import numpy as np


def positive_information(counts, own, other, total, shift=1.0):
    """Positive pointwise mutual information: how much more often two things meet than by chance.

    ``max(log(counts total / (own other)) - log shift, 0)``

    >>> print(positive_information(np.array([4.0, 0.0]), np.array([4.0]), np.array([5.0]), 10.0).round(3))
    [0.693 0.   ]

    Args:
        counts: float [...], at least 0, NumPy or JAX: how often two things meet.
        own: [...], how often the first of them meets anything.
        other: [...], the same of the second, or a power of it.
        total: the sum of ``other`` over all second things.
        shift: at least 1, by which chance is multiplied.

    Returns:
        [...], 0 where nothing was counted.
    """
    xp = np if isinstance(counts, np.ndarray) else jnp
    met = counts > 0
    chance = xp.log(xp.where(own > 0, own, 1)) + xp.log(xp.where(other > 0, other, 1))
    found = xp.log(xp.where(met, counts, 1)) + xp.log(xp.maximum(total, 1e-30)) - chance
    return xp.where(met, xp.maximum(found - xp.log(shift), 0), 0)
