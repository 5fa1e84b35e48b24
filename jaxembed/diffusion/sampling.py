"""Samplers: from noise to images, by DDPM, DDIM and EDM's Heun steps."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape
from jaxembed.checks import check_whole
from jaxembed.diffusion.process import at_time, check_prediction, check_times, convert, spread

SPACINGS = ("leading", "trailing", "linspace")
SAMPLERS = ("ddim", "ddpm")
VARIANCES = ("small", "large")


def timesteps(total, steps, spacing="leading"):
    """Timestep spacing: which steps of a schedule a sampler visits, the noisiest first.

    "leading": multiples of ``T // S``, 0 among them. "trailing": ``round(T - i T / S) - 1``, T - 1 among
    them. "linspace": ``round`` of S numbers from T - 1 to 0.

    >>> print(timesteps(1000, 4), timesteps(1000, 4, "trailing"))
    [750 500 250   0] [999 749 499 249]

    Args:
        total: T, of the schedule.
        steps: S, in 1..T; 1 with "trailing" only, because the others would visit step 0 alone.
        spacing: "leading", "trailing" or "linspace".

    Returns:
        int32 NumPy array [S], falling.

    Raises:
        ValueError: for another spacing or number of steps.

    References:
        S. Lin et al., arXiv:2305.08891, who compare the three.
    """
    check_whole(total=total, steps=steps)
    if spacing not in SPACINGS:
        raise ValueError(f"spacing={spacing!r}; choose one of {', '.join(SPACINGS)}")
    if not 1 <= steps <= total:
        raise ValueError(f"steps: {steps} of a schedule of {total}; pass 1..{total}")
    if steps == 1 and spacing != "trailing":
        raise ValueError(f'steps: 1 with spacing "{spacing}" visits step 0 alone; pass spacing="trailing"')
    if spacing == "leading":
        found = (np.arange(steps) * (total // steps))[::-1]
    elif spacing == "trailing":
        found = np.round(total - np.arange(steps) * total / steps) - 1
    else:
        found = np.round(np.linspace(total - 1, 0, steps))
    return found.astype(np.int32)


def _before(schedule, x, previous):
    """Signal and noise at the previous step, 1 and 0 where that is -1, and its log of alphas_bar."""
    clean = spread(jnp.asarray(previous) < 0, x)
    tables = {name: at_time(schedule[name], previous, x) for name in ("signal", "noise", "log_alphas_bar")}
    return tuple(jnp.where(clean, value, tables[name]) for name, value in zip(tables, (1, 0, 0), strict=True))


def _step(schedule, x, t, previous, out, prediction, clip):
    """(x0, noise, noise[t], signal and noise of the previous step, ratio of alphas_bar, 1 - that)."""
    steps = len(schedule["betas"])
    check_times("t", t, x, steps)
    check_times("previous", previous, x, steps, -1)
    if isinstance(clip, int | float) and not clip > 0:
        raise ValueError(f"clip: {clip} is not above 0; pass a positive number, or None")
    x0 = convert(schedule, x, t, out, prediction, "x0")
    source, known = (prediction, out) if clip is None else ("x0", jnp.clip(x0, -clip, clip))
    x0 = x0 if clip is None else known
    noise = convert(schedule, x, t, known, source, "noise")
    signal_p, noise_p, log_p = _before(schedule, x, previous)
    fall = at_time(schedule["log_alphas_bar"], t, x) - log_p
    return x0, noise, at_time(schedule["noise"], t, x), signal_p, noise_p, jnp.exp(fall), -jnp.expm1(fall)


def ddim_step(schedule, x, t, previous, out, noise=None, *, prediction="noise", eta=0.0, clip=None):
    """DDIM step: from the noise of step t to that of an earlier one, as deterministic as eta says.

    With p = previous, abar = alphas_bar, x0 and e from ``out``:
    ``sigma = eta sqrt((1 - abar[p]) / (1 - abar[t]) (1 - abar[t] / abar[p]))`` and
    ``x_p = sqrt(abar[p]) x0 + sqrt(1 - abar[p] - sigma**2) e + sigma noise``; abar[-1] = 1.

    >>> from jaxembed import diffusion
    >>> table = diffusion.schedule_of([0.36, 0.75])
    >>> x, one = jnp.array([[1.4]]), jnp.array([[1.0]])
    >>> print(ddim_step(table, x, jnp.array([0]), jnp.array([-1]), one).round(4))
    [[1.]]

    Args:
        schedule: tables of :func:`~jaxembed.diffusion.process.schedule`.
        x: [B, ...] at step t.
        t: int [B], in 0..T-1.
        previous: int [B], the earlier step that comes next, -1 for the clean image. It is the step that the
            sampler visits next, not t - 1.
        out: [B, ...], what the denoiser gave for x and t.
        noise: [B, ...] drawn from N(0, 1); needed unless eta is 0.
        prediction: what ``out`` is: "noise", "x0" or "v".
        eta: 0 draws no noise; 1 has the variance of DDPM. May be traced.
        clip: optional bound on the coordinates of x0, for pixels and not for latents. e is computed
            anew from the clipped x0.

    Returns:
        [B, ...] at step ``previous``.

    Raises:
        ValueError: for a step outside the schedule, an unknown prediction, an eta outside [0, 1],
            a clip that is not above 0, or noise that is missing.

    References:
        J. Song et al., arXiv:2010.02502; clipping as in guided-diffusion, P. Dhariwal and A. Nichol,
        arXiv:2105.05233.
    """
    still = isinstance(eta, int | float) and eta == 0
    if isinstance(eta, int | float) and not 0 <= eta <= 1:
        raise ValueError(f"eta: {eta} is outside [0, 1]; 0 draws no noise, 1 is DDPM's")
    if noise is None and not still:
        raise ValueError(f"noise: needed with eta={eta}; pass draws from N(0, 1), or eta=0")
    x0, e, noise_t, signal_p, noise_p, _, fresh = _step(schedule, x, t, previous, out, prediction, clip)
    if still:
        return signal_p * x0 + noise_p * e
    check_shape("noise", noise, np.shape(x))
    sigma = eta * noise_p / noise_t * jnp.sqrt(fresh)
    return signal_p * x0 + jnp.sqrt(jnp.maximum(noise_p**2 - sigma**2, 0)) * e + sigma * noise


def ddpm_step(schedule, x, t, previous, out, noise, *, prediction="noise", variance="small", clip=None):
    """DDPM step: draws an earlier step from the posterior given the x0 that was predicted.

    With p = previous, abar = alphas_bar and ``beta = 1 - abar[t] / abar[p]``, which is betas[t] where
    p = t - 1, the mean is ``(beta sqrt(abar[p]) x0 + (1 - abar[p]) sqrt(1 - beta) x) / (1 - abar[t])``. The
    variance "small" is ``beta (1 - abar[p]) / (1 - abar[t])`` and "large" is ``beta``. The clean image,
    p = -1, gets no noise.

    >>> from jaxembed import diffusion
    >>> table = diffusion.schedule_of([0.36, 0.75])
    >>> x, one = jnp.array([[1.4]]), jnp.array([[1.0]])
    >>> print(ddpm_step(table, x, jnp.array([0]), jnp.array([-1]), one, one).round(4))
    [[1.]]

    Args:
        schedule: tables of :func:`~jaxembed.diffusion.process.schedule`.
        x: [B, ...] at step t.
        t: int [B], in 0..T-1.
        previous: int [B], the step that comes next, -1 for the clean image.
        out: [B, ...], what the denoiser gave for x and t.
        noise: [B, ...] drawn from N(0, 1).
        prediction: what ``out`` is: "noise", "x0" or "v".
        variance: "small", right for data of one point, or "large", right for data of variance 1.
        clip: as in :func:`ddim_step`.

    Returns:
        [B, ...] at step ``previous``.

    Raises:
        ValueError: for a step outside the schedule, an unknown prediction or variance, or a clip
            that is not above 0.

    References:
        J. Ho et al., arXiv:2006.11239.
    """
    if variance not in VARIANCES:
        raise ValueError(f"variance={variance!r}; choose one of {', '.join(VARIANCES)}")
    check_shape("noise", noise, np.shape(x))
    x0, _, noise_t, signal_p, noise_p, kept, fresh = _step(schedule, x, t, previous, out, prediction, clip)
    mean = (fresh * signal_p * x0 + noise_p**2 * jnp.sqrt(kept) * x) / noise_t**2
    spent = fresh * (noise_p / noise_t) ** 2 if variance == "small" else jnp.where(noise_p > 0, fresh, 0)
    return mean + jnp.sqrt(spent) * noise


def sample(
    denoise,
    params,
    schedule,
    key,
    shape,
    *,
    condition=None,
    steps=50,
    eta=0.0,
    at_step=None,
    prediction="noise",
    sampler="ddim",
    variance="small",
    spacing="leading",
    clip=None,
    start=None,
):
    """Samples images from noise with a denoiser, by DDIM or DDPM steps in one scan.

    >>> from jaxembed import diffusion
    >>> zero = lambda params, x, t, condition=None: 0 * x  # v has the mean 0 where images are N(0, 1)
    >>> images = sample(zero, {}, diffusion.schedule(), jax.random.key(0), (5000, 1), prediction="v")
    >>> print(images.shape, images.std().round(1))
    (5000, 1) 1.0

    Args:
        denoise: ``denoise(params, x [B, ...], t int32 [B], condition) -> [B, ...]``, guided or not.
        params: of the network.
        schedule: tables of :func:`~jaxembed.diffusion.process.schedule`.
        key: random key; None where ``start`` is given and no step draws noise.
        shape: (B, ...) of the images.
        condition: tree of arrays [B, ...], or a function from the number of the step, int32, to one. Number
            0 is the noisiest step. None where the network takes none.
        steps: S, how many steps of the schedule are visited.
        eta: of "ddim"; see :func:`ddim_step`.
        at_step: optional ``at_step(number, condition) -> condition``: the condition of one step, of the same
            shapes, for instance another prompt for the first ones.
        prediction: what ``denoise`` predicts: "noise", "x0" or "v".
        sampler: "ddim" or "ddpm".
        variance: of "ddpm"; see :func:`ddpm_step`.
        spacing: as in :func:`timesteps`. "trailing" suits "v" and "x0"; a network for the noise says little
            of x0 at the last steps of a schedule.
        clip: as in :func:`ddim_step`.
        start: optional [B, ...], the noise to start from.

    Returns:
        [B, ...], float32 or the floating dtype of ``start``.

    Raises:
        ValueError: for an unknown choice, a number of steps outside 1..T, a key that is missing, or a
            condition with another number of rows.
    """
    check_prediction(prediction)
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler={sampler!r}; choose one of {', '.join(SAMPLERS)}")
    still = isinstance(eta, int | float) and eta == 0
    if sampler == "ddpm" and not still:
        raise ValueError("eta: belongs to ddim; leave it 0, or choose a variance")
    visited = timesteps(len(schedule["betas"]), steps, spacing)
    draws = sampler == "ddpm" or not still
    x, key = begin(key, shape, start, draws)

    def step(x, at):
        number, t, previous = at[0], *(jnp.full(shape[:1], n) for n in at[1:])
        out = denoise(params, x, t, condition_at(condition, at_step, number, shape[0]))
        noise = jax.random.normal(jax.random.fold_in(key, number), shape, x.dtype) if draws else None
        common = {"prediction": prediction, "clip": clip}
        if sampler == "ddim":
            new = ddim_step(schedule, x, t, previous, out, noise, eta=eta, **common)
        else:
            new = ddpm_step(schedule, x, t, previous, out, noise, variance=variance, **common)
        return new.astype(x.dtype), None

    numbers = np.arange(steps, dtype=np.int32)
    return jax.lax.scan(step, x, (numbers, visited, np.append(visited[1:], np.int32(-1))))[0]


def begin(key, shape, start, draws):
    """(x [B, ...], key of the steps): noise N(0, 1), or what was given."""
    if key is None and (draws or start is None):
        raise ValueError("key: needed, because noise is drawn; pass jax.random.key(0)")
    if start is not None:
        check_shape("start", start, shape)
    start_key, step_key = (None, None) if key is None else jax.random.split(key)
    if start is None:
        return jax.random.normal(start_key, shape), step_key
    start = jnp.asarray(start)
    floating = jnp.issubdtype(start.dtype, jnp.floating)
    return start if floating else start.astype(jnp.float32), step_key


def condition_at(condition, at_step, number, rows):
    """The condition of one step, a tree of arrays [B, ...], checked for its number of rows B."""
    found = condition(number) if callable(condition) else condition
    found = found if at_step is None else at_step(number, found)
    for leaf in jax.tree.leaves(found):
        if np.shape(leaf)[:1] != (rows,):
            raise ValueError(f"condition: shape {np.shape(leaf)} for {rows} images; pass [{rows}, ...]")
    return found
