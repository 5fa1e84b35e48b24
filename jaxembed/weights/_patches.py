"""What fits of filters share: patches that were looked at, and directions with a sign."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator
from jaxembed.checks import check_whole


def checked_patches(patches, count=1):
    """Patches [N, P] in the dtype of sums, at least ``count`` of them; traced ones are not read."""
    patches = jnp.asarray(patches)
    if patches.ndim != 2 or not patches.size:
        raise ValueError(f"patches: shape {patches.shape}; pass [N, P] with at least one patch")
    check_finite_patches(patches)
    check_whole(count=count)
    if not 1 <= count <= len(patches):
        raise ValueError(f"count: {count} is outside 1..{len(patches)}, the number of patches; choose one")
    return patches.astype(accumulator(patches))


def check_finite_patches(patches):
    """Refuses NaN and infinite numbers, of which one makes every filter NaN; traced patches pass unread."""
    if not isinstance(patches, jax.core.Tracer) and not jnp.isfinite(patches).all():
        raise ValueError("patches: NaN or infinite numbers; leave those patches out")


def upright(rows):
    """Rows whose number of largest size is positive: the sign of a direction is arbitrary."""
    largest = jnp.take_along_axis(rows, jnp.argmax(jnp.abs(rows), axis=1)[:, None], axis=1)
    return rows * jnp.where(largest < 0, -1, 1)
