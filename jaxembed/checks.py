"""What is refused before any work: numbers that are not whole, NaN, temperatures that are not positive."""

import jax
import jax.numpy as jnp
import numpy as np


def check_whole(**numbers):
    """Refuses numbers that are not integers; 2.0 is not one, nor is True.

    >>> check_whole(keep=2, steps=np.int64(3))

    Args:
        numbers: static numbers by the name of the argument.

    Raises:
        ValueError: with the number.
    """
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"{name}: {value!r} is not an integer; pass one")


def refuse_nan(name, x):
    """Refuses an array with NaN, by one sum; under jit it passes.

    >>> refuse_nan("x", jnp.zeros((2, 3)))

    Args:
        name: of the argument, for the message.
        x: array of any shape and dtype; integers and booleans pass.

    Raises:
        ValueError: where a number is NaN.
    """
    if x.dtype.kind in "biu":
        return
    with np.errstate(all="ignore"):
        total = jnp.vdot(x, x) if isinstance(x, jax.Array) else np.vdot(x, x)  # squares: NaN comes from NaN
    if not isinstance(total, jax.core.Tracer) and total != total:
        raise ValueError(f"{name}: NaN has no code and no score; mend those vectors, or leave them out")


def check_temperature(temperature):
    """Refuses a temperature that is not above 0; one that jax holds or traces passes unread.

    >>> check_temperature(0.05)

    Args:
        temperature: number or array.

    Raises:
        ValueError: with the number.
    """
    if isinstance(temperature, int | float | np.ndarray | np.generic) and not np.all(temperature > 0):
        raise ValueError(f"temperature: {np.min(temperature)} is not above 0; pass a positive number")
