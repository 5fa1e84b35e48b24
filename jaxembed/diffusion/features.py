"""Activations of a denoiser as features of images."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.checks import check_whole
from jaxembed.diffusion.process import check_times, noised


def diffusion_features(features, params, x, t, key, schedule, numbers, *, draws=1, condition=None):
    """Diffusion features: the activations of a frozen denoiser on slightly noisy images.

    ``phi(x; t, b) = block b of the network at signal[t] x + noise[t] e``, with e drawn from N(0, 1) anew
    in each call. Nothing flows back into the network or the images.

    >>> from jaxembed import diffusion
    >>> def maps(params, x, t, numbers, condition, key):
    ...     return {n: x + n for n in numbers}
    >>> table, x = diffusion.schedule_of([1e-9, 0.5]), jnp.ones((2, 4, 4, 1))
    >>> found = diffusion_features(maps, {}, x, 0, jax.random.key(0), table, (1, 3))
    >>> print(found[3].shape, found[3].mean().round(2))
    (2, 4, 4, 1) 4.0

    Args:
        features: ``features(params, x, t, numbers, condition, key) -> {number: [B, h, w, C]}``, for instance
            that of ``encoders.unet``.
        params: of the network.
        x: float [B, H, W, C], scaled as in its training.
        t: a step of the schedule, from 0, or int [B].
        key: random key of the noise.
        schedule: tables of :func:`schedule`.
        numbers: which blocks; what follows the last of them is not computed.
        draws: how many draws of the noise are averaged. Use the same in training and test of a probe.
        condition: of the network; None for one without.

    Returns:
        {number: [B, h, w, C]}, in at least float32.

    Raises:
        ValueError: for a step outside the schedule, images of integers, or no draws.

    References:
        S. Mukhopadhyay et al., arXiv:2307.08702; blocks of guided-diffusion are numbered from 1.
    """
    check_whole(draws=draws)
    x = jnp.asarray(x)
    if draws < 1:
        raise ValueError(f"draws: {draws}; pass at least 1")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x: {x.dtype}; pass floats, for instance x / 127.5 - 1")
    t = jnp.full(x.shape[:1], t) if np.ndim(t) == 0 else t
    check_times("t", t, x, len(schedule["betas"]))

    def one(key):
        noise = jax.random.normal(key, x.shape, x.dtype)
        found = features(params, noised(schedule, x, t, noise), t, tuple(numbers), condition, None)
        return {n: f.astype(jnp.promote_types(f.dtype, jnp.float32)) for n, f in found.items()}

    found = one(key) if draws == 1 else jax.lax.map(one, jax.random.split(key, draws))
    found = found if draws == 1 else jax.tree.map(lambda f: jnp.mean(f, axis=0), found)
    return jax.lax.stop_gradient(found)
