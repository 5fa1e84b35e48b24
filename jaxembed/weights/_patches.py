"""What fits of filters share: patches that were looked at, and directions with a sign."""

import jax.numpy as jnp

from jaxembed.arrays import accumulator


def checked_patches(patches, count=1):
    """Patches [N, P] in the dtype of sums, at least ``count`` of them."""
    patches = jnp.asarray(patches)
    if patches.ndim != 2 or not patches.size:
        raise ValueError(f"patches: shape {patches.shape}; pass [N, P] with at least one patch")
    if not 1 <= count <= len(patches):
        raise ValueError(f"count: {count} is outside 1..{len(patches)}, the number of patches; choose one")
    return patches.astype(accumulator(patches))


def upright(rows):
    """Rows whose number of largest size is positive: the sign of a direction is arbitrary."""
    largest = jnp.take_along_axis(rows, jnp.argmax(jnp.abs(rows), axis=1)[:, None], axis=1)
    return rows * jnp.where(largest < 0, -1, 1)
