"""Slow NumPy loops for the room diffusion, written from the formulas in float64."""

import math

import numpy as np

SPREAD, CENTRE = 0.5, 0.3  # of the Gaussian data whose denoisers are known


def betas(name, steps):
    if name == "linear":
        return np.array([1000 / steps * (1e-4 + (0.02 - 1e-4) * i / (steps - 1)) for i in range(steps)])
    if name == "cosine":
        f = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        return np.array([min(1 - f[i + 1] / f[i], 0.999) for i in range(steps)])
    low, high = (
        math.sqrt(x) for x in {"scaled_linear": (0.00085, 0.012), "ldm_linear": (0.0015, 0.0195)}[name]
    )
    return np.array([(low + (high - low) * i / (steps - 1)) ** 2 for i in range(steps)])


def alphas_bar(b):
    """[T + 1]: entry t of step t, and the last, at -1, the 1 of the clean image."""
    return np.append([math.prod(1 - b[: t + 1]) for t in range(len(b))], 1.0)


def known(bar, x, out, prediction):
    """(x0, noise) of a prediction at a step of alphas_bar ``bar``."""
    a, s = math.sqrt(bar), math.sqrt(1 - bar)
    if prediction == "noise":
        return (x - s * out) / a, out
    if prediction == "x0":
        return out, (x - a * out) / s
    return a * x - s * out, a * out + s * x


def ddim(bars, x, t, p, out, z, prediction="noise", eta=0.0):
    x0, e = known(bars[t], x, out, prediction)
    sigma = eta * math.sqrt((1 - bars[p]) / (1 - bars[t]) * (1 - bars[t] / bars[p]))
    return math.sqrt(bars[p]) * x0 + math.sqrt(max(1 - bars[p] - sigma**2, 0)) * e + sigma * z


def posterior(bars, x, t, p, x0):
    """Mean and variance of x_p given x_t and x0, by Bayes' rule: the product of two Gaussians."""
    ratio = bars[t] / bars[p]
    if p == -1:
        return x0, 0.0
    precision = 1 / (1 - bars[p]) + ratio / (1 - ratio)
    return (
        math.sqrt(bars[p]) * x0 / (1 - bars[p]) + math.sqrt(ratio) * x / (1 - ratio)
    ) / precision, 1 / precision


def gaussian(bar, x, prediction):
    """The best prediction where the data are N(CENTRE, SPREAD**2); ``bar`` and ``x`` of any library."""
    a = bar**0.5
    total = bar * SPREAD**2 + 1 - bar
    x0 = CENTRE + a * SPREAD**2 / total * (x - a * CENTRE)
    if prediction == "x0":
        return x0
    e = (x - a * x0) / (1 - bar) ** 0.5
    return e if prediction == "noise" else a * e - (1 - bar) ** 0.5 * x0


def heun(denoise, sigmas, x):
    for sigma, then in zip(sigmas[:-1], sigmas[1:], strict=True):
        d = (x - denoise(x, sigma)) / sigma
        new = x + (then - sigma) * d
        if then > 0:
            new = x + (then - sigma) * (d / 2 + (new - denoise(new, then)) / then / 2)
        x = new
    return x
