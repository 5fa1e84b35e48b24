"""What is refused before any work: numbers that are not whole, NaN, temperatures that are not positive.

It imports no JAX, so that rooms without it can use it.
"""

import sys

import numpy as np


def check_whole(least=None, /, **numbers):
    """Refuses numbers that are not integers; 2.0 is not one, nor is True.

    >>> check_whole(keep=2, steps=np.int64(3))
    >>> check_whole(1, width=16)

    Args:
        least: optional int, below which a number is refused too.
        numbers: static numbers by the name of the argument.

    Raises:
        ValueError: with the number.
    """
    for name, value in numbers.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if least is None and not whole:
            raise ValueError(f"{name}: {value!r} is not an integer; pass one")
        if least is not None and not (whole and value >= least):
            raise ValueError(f"{name}={value!r}; give an int of at least {least}")


def check_shares(**shares):
    """Refuses shares that are not in [0, 1], NaN among them; under jit they pass.

    >>> check_shares(drop=0.1, hide=1)

    Args:
        shares: numbers by the name of the argument.

    Raises:
        ValueError: with the number.
    """
    for name, share in shares.items():
        if isinstance(share, int | float | np.number) and not 0 <= share <= 1:
            raise ValueError(f"{name}: {share} is not a share; pass a number in [0, 1]")


def refuse_nan(name, x, before=0):
    """Refuses an array with NaN, by one sum; under jit it passes.

    The error names the first row of a NumPy array [N].

    >>> refuse_nan("x", np.zeros((2, 3)))

    Args:
        name: of the argument, for the message.
        x: array of any shape and dtype; integers and booleans pass.
        before: rows of the same argument that were read already, as of earlier chunks.

    Raises:
        ValueError: where a number is NaN.
    """
    if x.dtype.kind in "biu":
        return
    jax = sys.modules.get("jax")  # not imported where nothing else needs it: then no array is its own
    on_device = jax is not None and isinstance(x, jax.Array)
    with np.errstate(all="ignore"):
        total = jax.numpy.vdot(x, x) if on_device else np.vdot(x, x)  # squares: NaN comes from NaN
    if not (on_device and isinstance(total, jax.core.Tracer)) and total != total:
        if isinstance(x, np.ndarray) and x.ndim == 1:
            bad = np.isnan(x)
            row = np.argmax(bad)
            raise ValueError(
                f"{name}: {bad.sum()} of {len(x)} are NaN, the first in row {before + row}; leave them out"
            )
        raise ValueError(f"{name}: NaN has no code and no score; mend those vectors, or leave them out")


def check_integers(name, array):
    """Refuses a NumPy array with an integer that JAX would wrap to another one.

    >>> check_integers("ids", np.array([7, 8]))

    Args:
        name: of the argument, for the error.
        array: NumPy array of any dtype.

    Raises:
        ValueError: with the number.
    """
    from jax import dtypes  # late: a room that reads records imports this module without JAX

    narrow = dtypes.canonicalize_dtype(array.dtype) if array.dtype.kind in "iu" else array.dtype
    if narrow == array.dtype or not array.size:
        return
    low, high, bounds = int(array.min()), int(array.max()), np.iinfo(narrow)
    if low < bounds.min or high > bounds.max:
        wrong = low if low < bounds.min else high
        raise ValueError(
            f"{name}: {wrong} does not fit {narrow}; number the ids from 0, or set jax_enable_x64"
        )


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
