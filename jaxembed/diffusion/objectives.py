"""Losses that train a denoiser, with their weightings."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape
from jaxembed.checks import check_shares
from jaxembed.diffusion.guidance import drop_condition
from jaxembed.diffusion.process import at_time, check_prediction, check_times, convert, noised

WEIGHTINGS = {"min_snr": lambda snr: jnp.minimum(snr, 5) / snr, "p2": lambda snr: 1 / (1 + snr)}


def denoising_weights(schedule, t, weighting=None, prediction="noise"):
    """Weights of the steps in a denoising loss, by their signal-to-noise ratio.

    With ``snr = signal[t]**2 / noise[t]**2``, the weight of the squared error of the noise is
    ``min(snr, 5) / snr`` ("min_snr") or ``1 / (1 + snr)`` ("p2"). The error of x0 is weighted by ``snr``
    times that and the error of v by ``snr / (1 + snr)`` times that, so that all three weigh an image alike.

    >>> from jaxembed import diffusion
    >>> table = diffusion.schedule_of([1 / 11, 0.9])
    >>> print(denoising_weights(table, jnp.array([0, 1]), "min_snr").round(3))
    [0.5 1. ]

    Args:
        schedule: tables of :func:`schedule`.
        t: int [B], in 0..T-1.
        weighting: None (every error counts as it is), "min_snr", "p2", or a function from snr [B] to the
            weight [B] of the error of the noise.
        prediction: whose error is weighted: "noise", "x0" or "v".

    Returns:
        float32 [B].

    Raises:
        ValueError: for an unknown weighting or prediction, or t outside the schedule.

    References:
        T. Hang et al. (min-SNR), arXiv:2303.09556; J. Choi et al. (P2), arXiv:2204.00227.
    """
    check_prediction(prediction)
    check_times("t", t, t, len(schedule["betas"]))
    if weighting is None:
        return jnp.ones(np.shape(t), jnp.float32)
    if not callable(weighting) and weighting not in WEIGHTINGS:
        raise ValueError(f"weighting={weighting!r}; choose None, {', '.join(WEIGHTINGS)} or a function")
    snr = (at_time(schedule["signal"], t, t) / at_time(schedule["noise"], t, t)) ** 2
    weights = (weighting if callable(weighting) else WEIGHTINGS[weighting])(snr)
    return weights * {"noise": 1, "x0": snr, "v": snr / (1 + snr)}[prediction]


def denoising_loss(schedule, denoise, *, prediction="noise", weighting=None, drop=0.1, null=None):
    """Denoising loss: asks a network to undo the noise of a step drawn at random.

    ``loss[b] = weight(t) mean((denoise(params, x_t, t, condition)[b] - target)**2)``, t uniform in 0..T-1,
    one for each example. The target is the noise, x0 or v.

    >>> zero = lambda params, x, t, condition, key: 0 * x
    >>> from jaxembed import diffusion
    >>> loss = denoising_loss(diffusion.schedule_of([0.36, 0.75]), zero, prediction="x0")
    >>> print(loss({}, {"images": jnp.ones((2, 4, 4, 1))}, jax.random.key(0)))
    [1. 1.]

    Args:
        schedule: tables of :func:`schedule`.
        denoise: ``denoise(params, x [B, ...], t int32 [B], condition, key) -> [B, ...]``.
        prediction: what it predicts: "noise", "x0" or "v".
        weighting: as in :func:`denoising_weights`.
        drop: share of the examples whose condition becomes ``null``, which guidance needs.
        null: the null condition of one example, without a batch axis, or a function of ``params`` that gives
            it. Needed where the batch has a condition, unless ``drop`` is 0.

    Returns:
        ``loss(params, batch, key) -> [B]``, for a batch {"images": float [B, ...], "condition": optional tree
        of arrays [B, ...]}.

    Raises:
        ValueError: for an unknown prediction, or ``drop`` outside [0, 1]. The loss refuses images of
            integers, a missing null, and a null of another shape than the condition.

    References:
        J. Ho et al. (DDPM), arXiv:2006.11239; the null condition is J. Ho and T. Salimans', arXiv:2207.12598.
    """
    check_prediction(prediction)
    check_shares(drop=drop)

    def loss(params, batch, key):
        x = images_of(batch)
        times, drawn, dropping, inner = jax.random.split(key, 4)
        t = jax.random.randint(times, x.shape[:1], 0, len(schedule["betas"]))
        noise = jax.random.normal(drawn, x.shape, x.dtype)
        x_t = noised(schedule, x, t, noise)
        condition = drop_condition(dropping, params, batch.get("condition"), drop, null)
        out = denoise(params, x_t, t, condition, inner)
        target = convert(schedule, x_t, t, noise, "noise", "v") if prediction == "v" else noise
        target = x if prediction == "x0" else target
        return denoising_weights(schedule, t, weighting, prediction) * mean_square(out, target)

    return loss


def images_of(batch):
    """The images of a batch as floats [B, ...]."""
    x = jnp.asarray(batch["images"])
    if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"images: {x.dtype} {x.shape}; pass floats [B, ...], for instance x / 127.5 - 1")
    return x


def mean_square(out, target):
    """The mean square [B] of a difference, over all axes but the first, in at least float32."""
    check_shape("the result of denoise", out, target.shape)
    error = out.astype(jnp.promote_types(out.dtype, jnp.float32)) - target
    return jnp.mean(error**2, axis=tuple(range(1, error.ndim)))
