"""The noising of images: schedules, and what a network may predict.

A denoiser is ``denoise(params, x, t, condition=None, key=None)``, with the result in the shape of ``x``.
Here t counts from 0, and t = 0 already means one step of noise.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape
from jaxembed.checks import check_whole

ENDS = {"linear": None, "scaled_linear": (0.00085, 0.012), "ldm_linear": (0.0015, 0.0195)}
SCHEDULES = (*ENDS, "cosine")
PREDICTIONS = ("noise", "x0", "v")


def schedule(name="linear", steps=1000, *, first=None, last=None, offset=0.008, largest=0.999):
    """Noise schedule: how much noise each step of a diffusion adds.

    "linear": betas evenly spaced, from 0.1 / T to 20 / T. "scaled_linear": the squares of evenly spaced
    roots, from 0.00085 to 0.012, as in Stable Diffusion. "ldm_linear": the same form from 0.0015 to
    0.0195, as in latent diffusion on ImageNet, whose code calls it "linear". "cosine":
    ``beta[i] = min(1 - f((i + 1) / T) / f(i / T), largest)`` with
    ``f(u) = cos(pi / 2 (u + offset) / (1 + offset))**2``.

    >>> table = schedule("cosine", 4)
    >>> print(table["alphas_bar"][:3].astype("float16"))
    [0.847  0.494  0.1443]

    Args:
        name: "linear", "scaled_linear", "ldm_linear" or "cosine".
        steps: T, at least 2; "linear" needs more than 20, or its own ends.
        first: beta of step 0, for all but "cosine"; default as above.
        last: beta of step T - 1, likewise.
        offset: of "cosine".
        largest: bound on the betas of "cosine".

    Returns:
        The tables of :func:`schedule_of`.

    Raises:
        ValueError: for an unknown name, fewer than two steps, or betas outside (0, 1).

    References:
        J. Ho et al. (DDPM), arXiv:2006.11239; A. Nichol and P. Dhariwal, arXiv:2102.09672; R. Rombach et
        al., arXiv:2112.10752.
    """
    check_whole(steps=steps)
    if name not in SCHEDULES:
        raise ValueError(f"name={name!r}; choose one of {', '.join(SCHEDULES)}")
    if steps < 2:
        raise ValueError(f"steps: {steps}; a schedule has at least 2")
    if name == "cosine":
        if first is not None or last is not None:
            raise ValueError('first, last: "cosine" has none; pass offset or largest')
        angles = (np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2
        left = np.cos(angles) ** 2
        return schedule_of(np.minimum(1 - left[1:] / left[:-1], largest))
    ends = ENDS[name] or (0.1 / steps, 20 / steps)
    first, last = (e if given is None else given for e, given in zip(ends, (first, last), strict=True))
    power = 1 if name == "linear" else 2
    if not (0 < first < 1 and 0 < last < 1):
        raise ValueError(
            f"first, last: betas from {first:g} to {last:g} for {steps} steps; pass numbers in (0, 1)"
        )
    return schedule_of(np.linspace(first ** (1 / power), last ** (1 / power), steps) ** power)


def schedule_of(betas):
    """Tables of a noise schedule from its betas, made in float64 on the host.

    ``alphas_bar[t] = prod of (1 - betas[:t + 1])``; ``x_t = signal[t] x0 + noise[t] e`` with
    ``signal = sqrt(alphas_bar)`` and ``noise = sqrt(1 - alphas_bar)``.

    >>> print(schedule_of([0.36, 0.75])["signal"])
    [0.8 0.4]

    Args:
        betas: [T], each in (0, 1), T at least 2.

    Returns:
        {"betas", "alphas_bar", "log_alphas_bar", "signal", "noise": float32 [T]}.

    Raises:
        ValueError: for another shape or a beta outside (0, 1).
    """
    betas = np.asarray(betas, np.float64)
    check_shape("betas", betas, (None,))
    if len(betas) < 2:
        raise ValueError(f"betas: {len(betas)} of them; a schedule has at least 2")
    if not np.all((betas > 0) & (betas < 1)):
        raise ValueError(f"betas: from {betas.min():g} to {betas.max():g}; pass numbers in (0, 1)")
    logs = np.cumsum(np.log1p(-betas))
    tables = {"betas": betas, "alphas_bar": np.exp(logs), "log_alphas_bar": logs}
    tables |= {"signal": np.exp(logs / 2), "noise": np.sqrt(-np.expm1(logs))}
    return {name: jnp.asarray(table, jnp.float32) for name, table in tables.items()}


def check_times(name, times, x, steps, lowest=0):
    """Refuses steps that are not integers [B], or outside the schedule; traced ones pass unread.

    >>> check_times("t", np.array([0, 9]), np.zeros((2, 3)), 10)

    Args:
        name: of the argument, for the error.
        times: int [B].
        x: [B, ...].
        steps: T.
        lowest: the lowest one that is allowed.

    Raises:
        ValueError: with the step.
    """
    check_shape(name, times, np.shape(x)[:1])
    if not jnp.issubdtype(jnp.result_type(times), jnp.integer):
        raise ValueError(f"{name}: {jnp.result_type(times)}; pass integers")
    if isinstance(times, jax.core.Tracer) or not np.size(times):
        return
    values = np.asarray(times)  # an array of JAX that is known, inside of a traced function too
    low, high = int(values.min()), int(values.max())
    if low < lowest or high >= steps:
        wrong = low if low < lowest else high
        raise ValueError(f"{name}: {wrong} is outside {lowest}..{steps - 1}; a schedule of {steps} steps")


def spread(values, x):
    """Numbers [B] as [B, 1, ..., 1], ready to multiply ``x`` [B, ...]."""
    return jnp.reshape(values, (-1,) + (1,) * (np.ndim(x) - 1))


def at_time(table, t, x):
    """Entries of a table [T] at t [B] as [B, 1, ..., 1]; t outside the table is clipped to it."""
    return spread(table[jnp.clip(jnp.asarray(t), 0, len(table) - 1)], x)


def noised(schedule, x, t, noise):
    """Forward process: images with the noise of step t.

    ``x_t = signal[t] x + noise[t] e``

    >>> table = schedule_of([0.36, 0.75])
    >>> print(noised(table, jnp.ones((2, 1)), jnp.array([0, 1]), jnp.zeros((2, 1)))[:, 0])
    [0.8 0.4]

    Args:
        schedule: tables of :func:`schedule`.
        x: [B, ...], clean.
        t: int [B], in 0..T-1; refused outside, and clipped where it is traced.
        noise: e, of the shape of ``x``, drawn from N(0, 1).

    Returns:
        [B, ...] in at least float32.

    Raises:
        ValueError: for t outside the schedule, or shapes that do not fit.
    """
    check_times("t", t, x, len(schedule["betas"]))
    check_shape("noise", noise, np.shape(x))
    return at_time(schedule["signal"], t, x) * x + at_time(schedule["noise"], t, x) * noise


def convert(schedule, x_t, t, out, source, target):
    """Parameterisation: turns one prediction of a denoiser into another.

    With a = signal[t] and s = noise[t], ``x_t = a x0 + s noise`` and ``v = a noise - s x0``.

    >>> table = schedule_of([0.36, 0.75])
    >>> x, t = jnp.array([[1.4]]), jnp.array([0])
    >>> print(convert(table, x, t, jnp.array([[1.0]]), "noise", "x0").round(4))
    [[1.]]

    Args:
        schedule: tables of :func:`schedule`.
        x_t: [B, ...], noisy.
        t: int [B], in 0..T-1; refused outside, and clipped where it is traced.
        out: the prediction, of the shape of ``x_t``.
        source: what it is: "noise", "x0" or "v".
        target: what is wanted.

    Returns:
        [B, ...]. Errors grow by s / a from "noise" to "x0", and by a / s from "x0" to "noise".

    Raises:
        ValueError: for an unknown prediction, t outside the schedule, or shapes that do not fit.

    References:
        T. Salimans and J. Ho, arXiv:2202.00512.
    """
    check_prediction(source)
    check_prediction(target)
    check_times("t", t, x_t, len(schedule["betas"]))
    check_shape("out", out, np.shape(x_t))
    if source == target:
        return out
    a, s = at_time(schedule["signal"], t, x_t), at_time(schedule["noise"], t, x_t)
    if source == "v":
        return a * x_t - s * out if target == "x0" else a * out + s * x_t
    if source == "noise":
        x0 = (x_t - s * out) / a
        return x0 if target == "x0" else a * out - s * x0
    noise = (x_t - a * out) / s
    return noise if target == "noise" else a * noise - s * out


def check_prediction(prediction):
    """Refuses a prediction that is not "noise", "x0" or "v"; no arrays.

    >>> check_prediction("v")

    Args:
        prediction: str, what a network [B, H, W, C] gives back.

    Raises:
        ValueError: with the three words.
    """
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction={prediction!r}; choose one of {', '.join(PREDICTIONS)}")
