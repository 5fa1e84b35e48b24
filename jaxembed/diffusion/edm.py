"""EDM (T. Karras et al., arXiv:2206.00364): denoisers of noise levels, their loss and their sampler."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape
from jaxembed.checks import check_shares, check_whole
from jaxembed.diffusion.guidance import drop_condition
from jaxembed.diffusion.objectives import images_of, mean_square
from jaxembed.diffusion.process import check_prediction, spread
from jaxembed.diffusion.sampling import begin, condition_at


def precondition(network, sigma_data=0.5):
    """EDM's preconditioning: makes a denoiser of a network, with inputs and targets of variance 1.

    ``D(x, sigma) = skip x + out network(x / sqrt(sigma**2 + d**2), log(sigma) / 4)`` with d = sigma_data,
    ``skip = d**2 / (sigma**2 + d**2)`` and ``out = sigma d / sqrt(sigma**2 + d**2)``.

    >>> zero = lambda params, x, level, condition, key: 0 * x
    >>> print(precondition(zero)(None, jnp.ones((1, 2)), jnp.array([0.5])).astype("float16"))
    [[0.5 0.5]]

    Args:
        network: ``network(params, x [B, ...], level [B], condition, key) -> [B, ...]``.
        sigma_data: standard deviation of the data.

    Returns:
        ``denoise(params, x [B, ...], sigma [B], condition=None, key=None) -> [B, ...]``, an estimate of the
        clean image where ``x`` is that image plus sigma times N(0, 1).

    References:
        T. Karras et al. (EDM), arXiv:2206.00364.
    """

    def denoise(params, x, sigma, condition=None, key=None):
        check_shape("sigma", sigma, np.shape(x)[:1])
        total = jnp.sqrt(sigma**2 + sigma_data**2)
        out = network(params, x / spread(total, x), jnp.log(sigma) / 4, condition, key)
        skip = spread((sigma_data / total) ** 2, x)
        return skip * x + spread(sigma * sigma_data / total, x) * out

    return denoise


def edm_loss(denoise, *, mean=-1.2, deviation=1.2, sigma_data=0.5, drop=0.1, null=None):
    """EDM's denoising loss: noise levels are log-normal, and all weigh alike at the start.

    ``loss[b] = (sigma**2 + d**2) / (sigma d)**2 mean((denoise(params, x + sigma e, sigma) - x)**2)`` with
    ``log(sigma)`` drawn from N(mean, deviation**2).

    >>> zero = precondition(lambda params, x, level, condition, key: 0 * x)
    >>> print(edm_loss(zero)({}, {"images": jnp.zeros((1, 4))}, jax.random.key(0)).shape)
    (1,)

    Args:
        denoise: what :func:`precondition` returns.
        mean: of log(sigma).
        deviation: of log(sigma).
        sigma_data: d, the standard deviation of the data.
        drop: as in :func:`denoising_loss`.
        null: as in :func:`denoising_loss`.

    Returns:
        ``loss(params, batch, key) -> [B]``, for batches as in :func:`denoising_loss`.

    Raises:
        ValueError: as :func:`denoising_loss`.

    References:
        T. Karras et al. (EDM), arXiv:2206.00364.
    """
    check_shares(drop=drop)

    def loss(params, batch, key):
        x = images_of(batch)
        levels, drawn, dropping, inner = jax.random.split(key, 4)
        sigma = jnp.exp(mean + deviation * jax.random.normal(levels, x.shape[:1]))
        x_t = x + spread(sigma, x) * jax.random.normal(drawn, x.shape, x.dtype)
        condition = drop_condition(dropping, params, batch.get("condition"), drop, null)
        error = mean_square(denoise(params, x_t, sigma, condition, inner), x)
        return error * (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2

    return loss


def edm_sigmas(steps=18, *, smallest=0.002, largest=80.0, rho=7.0):
    """EDM's noise levels: evenly spaced in their rho-th roots, and 0 at the end.

    ``sigma[i] = (largest**(1/rho) + i / (S - 1) (smallest**(1/rho) - largest**(1/rho)))**rho``, sigma[S] = 0.

    >>> print(edm_sigmas(3, smallest=1.0, largest=128.0).round(2))
    [128.    17.09   1.     0.  ]

    Args:
        steps: S, at least 2.
        smallest: the last level above 0.
        largest: the first level.
        rho: how much the steps crowd at the small end.

    Returns:
        float32 NumPy array [S + 1], falling.

    Raises:
        ValueError: for fewer than two steps, a rho that is not above 0, or levels that do not fall.

    References:
        T. Karras et al. (EDM), arXiv:2206.00364.
    """
    check_whole(steps=steps)
    if steps < 2:
        raise ValueError(f"steps: {steps}; a schedule has at least 2")
    if not rho > 0:
        raise ValueError(f"rho: {rho} is not above 0; pass a positive number")
    if not 0 < smallest < largest:
        raise ValueError(f"smallest: {smallest} and largest {largest}; pass 0 < smallest < largest")
    high, low = largest ** (1 / rho), smallest ** (1 / rho)
    return np.append((high + np.arange(steps) / (steps - 1) * (low - high)) ** rho, 0).astype(np.float32)


def sample_heun(
    denoise, params, sigmas, key, shape, *, condition=None, at_step=None, churn=0.0, correct=True, start=None
):
    """EDM's Heun sampler: second-order steps along the probability flow, in one scan.

    With ``d(x, sigma) = (x - denoise(x, sigma)) / sigma`` a step from sigma to s is
    ``x + (s - sigma) (d(x, sigma) + d(x + (s - sigma) d(x, sigma), s)) / 2``. The last one, to 0, is Euler's
    alone.

    >>> best = lambda params, x, sigma, condition=None: x / (1 + sigma[:, None] ** 2)  # images are N(0, 1)
    >>> start = jnp.full((1, 1), jnp.sqrt(80.0**2 + 1))
    >>> print(sample_heun(best, {}, edm_sigmas(40), None, (1, 1), start=start).round(1))
    [[1.]]

    Args:
        denoise: ``denoise(params, x [B, ...], sigma [B], condition) -> [B, ...]``, the clean image of x: from
            :func:`precondition` or :func:`sigma_denoiser`, guided or not.
        params: of the network.
        sigmas: [S + 1], falling to 0 at the end.
        key: random key; None where ``start`` is given and churn is 0.
        shape: (B, ...) of the images.
        condition: as in :func:`sample`.
        at_step: as in :func:`sample`.
        churn: noise that every step adds anew, spread over all steps; 0 draws none.
        correct: False leaves out Heun's correction, which is Euler's method.
        start: optional [B, ...] of standard deviation ``sigmas[0]``.

    Returns:
        [B, ...], float32 or the floating dtype of ``start``. The network runs 2 S - 1 times, or S times.

    Raises:
        ValueError: for levels that do not fall to 0, a churn below 0, a key that is missing, or a condition
            with another number of rows.

    References:
        T. Karras et al., arXiv:2206.00364, Algorithm 2 with noise at all levels and of scale 1.
    """
    check_shape("sigmas", sigmas, (None,))
    traced = isinstance(sigmas, jax.core.Tracer)
    if not traced and (len(sigmas) < 2 or sigmas[-1] != 0 or not np.all(np.diff(sigmas) < 0)):
        raise ValueError("sigmas: do not fall to 0 at the end; pass those of edm_sigmas")
    if isinstance(churn, int | float) and not churn >= 0:
        raise ValueError(f"churn: {churn} is below 0; pass 0 to draw no noise, or more")
    draws = not (isinstance(churn, int | float) and churn == 0)
    x, key = begin(key, shape, start, draws)
    x = x * sigmas[0] if start is None else x
    steps = len(sigmas) - 1
    gain = jnp.minimum(churn / steps, np.sqrt(2) - 1)

    def slope(x, sigma, given):
        level = jnp.full(shape[:1], sigma)
        return ((x - denoise(params, x, level, given)) / sigma).astype(x.dtype)

    def step(x, at):
        number, sigma, then = at
        given = condition_at(condition, at_step, number, shape[0])
        if draws:
            noise = jax.random.normal(jax.random.fold_in(key, number), shape, x.dtype)
            x = (x + sigma * jnp.sqrt((1 + gain) ** 2 - 1) * noise).astype(x.dtype)
            sigma = sigma * (1 + gain)
        first = slope(x, sigma, given)
        new = (x + (then - sigma) * first).astype(x.dtype)
        if correct:
            second = jax.lax.cond(
                then > 0, lambda: slope(new, jnp.where(then > 0, then, 1), given), lambda: first
            )
            new = x + (then - sigma) * (first + second) / 2
        return new.astype(x.dtype), None

    levels = jnp.asarray(sigmas, x.dtype)
    return jax.lax.scan(step, x, (np.arange(steps, dtype=np.int32), levels[:-1], levels[1:]))[0]


def sigma_denoiser(schedule, denoise, *, prediction="noise"):
    """Reads a denoiser of a noise schedule as one of noise levels, so that :func:`sample_heun` takes it.

    The level of step t is ``sigma = noise[t] / signal[t]``, and ``x / sqrt(1 + sigma**2)`` is what the
    network was trained on. It is asked at the step whose level is nearest in the logarithm.

    >>> zero = lambda params, x, t, condition=None, key=None: 0 * x
    >>> from jaxembed import diffusion
    >>> print(sigma_denoiser(diffusion.schedule(), zero)(None, jnp.ones((1, 2)), jnp.array([0.5])))
    [[1. 1.]]

    Args:
        schedule: tables of :func:`~jaxembed.diffusion.process.schedule`.
        denoise: ``denoise(params, x [B, ...], t int32 [B], condition, key) -> [B, ...]``.
        prediction: what it predicts: "noise", "x0" or "v".

    Returns:
        ``denoise(params, x [B, ...], sigma [B], condition=None, key=None) -> [B, ...]``, the clean image.

    Raises:
        ValueError: for an unknown prediction.

    References:
        T. Karras et al., arXiv:2206.00364, table 1.
    """
    check_prediction(prediction)

    def at_sigma(params, x, sigma, condition=None, key=None):
        check_shape("sigma", sigma, np.shape(x)[:1])
        levels = jnp.log(schedule["noise"] / schedule["signal"])
        t = jnp.searchsorted((levels[1:] + levels[:-1]) / 2, jnp.log(sigma)).astype(jnp.int32)  # the nearest
        sigma = spread(sigma, x)
        scale = 1 / jnp.sqrt(1 + sigma**2)
        out = denoise(params, x * scale, t, condition, key)
        if prediction == "noise":
            return x - sigma * out
        return out if prediction == "x0" else scale**2 * x - scale * sigma * out

    return at_sigma
