"""Drift: how far populations of kernels are from one another, along the directions that all of them share."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, exact_product
from jaxembed.checks import check_whole

FLOOR = float(np.finfo(np.float32).eps)  # density of an empty bin


def scaled_rows(rows):
    """Scales every kernel by its largest weight, so that populations are compared by shape alone.

    >>> print(scaled_rows(jnp.array([[1.0, -4.0], [0.0, 0.0]])))
    [[ 0.25 -1.  ]
     [ 0.    0.  ]]

    Args:
        rows: [N, D], such as those of :func:`~jaxembed.weights.kernel_rows`.

    Returns:
        [N, D] in at least float32. A row of zeros stays.

    References:
        P. Gavrikov and J. Keuper, arXiv:2203.15331.
    """
    return _scaled(_checked("rows", rows))[0]


def fit_kernel_basis(rows):
    """PCA basis of kernels: the directions in which kernels differ most, and how much in each.

    >>> rows = jnp.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> basis = fit_kernel_basis(rows)
    >>> print(basis["shares"], jnp.abs(basis["components"]))
    [0.8 0.2] [[1. 0.]
     [0. 1.]]

    Args:
        rows: [N, D], for comparisons of populations those of :func:`scaled_rows`.

    Returns:
        ``mean`` [D], ``components`` [D, D], whose rows are orthonormal, and ``shares`` [D] of the variance,
        falling, with sum 1; they are 1 / D each where nothing varies. Of each component the largest number is
        positive.

    References:
        P. Gavrikov and J. Keuper, arXiv:2203.15331.
    """
    return _basis([_checked("rows", rows)])


def kernel_coefficients(basis, rows):
    """Coefficients of kernels in a PCA basis: ``(rows - mean) components'``.

    >>> basis = fit_kernel_basis(jnp.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    >>> print(kernel_coefficients(basis, jnp.array([[3.0, 5.0]])))
    [[3. 5.]]

    Args:
        basis: of :func:`fit_kernel_basis`, for kernels of D numbers.
        rows: [N, D], scaled if those of the basis were.

    Returns:
        [N, D], a column for each component.
    """
    rows = _checked("rows", rows)
    if rows.shape[1] != len(basis["mean"]):
        raise ValueError(f"rows: shape {rows.shape}; the basis has kernels of {len(basis['mean'])} numbers")
    return _coefficients(basis, rows).T


def weighted_symmetric_kl(first, second, shares, *, bounds=None, bins=70):
    """Weighted symmetric KL divergence: how much the coefficients of two populations of kernels differ.

    ``sum_i shares[i] (KL(p[i], q[i]) + KL(q[i], p[i]))``, in nats. p[i] and q[i] are histograms of the
    coefficients of component i over ``bounds``, as densities. An empty bin has density 1.19e-7, float32's
    epsilon, and then each histogram is divided by its sum.

    >>> first, second = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [0.0]])
    >>> print(weighted_symmetric_kl(first, first, jnp.ones(1)))
    0.0
    >>> print(weighted_symmetric_kl(first, second, jnp.ones(1), bins=2).round(2))
    8.32

    Args:
        first: [N, D] of :func:`kernel_coefficients`.
        second: [M, D] in the same basis.
        shares: [D], of the basis.
        bounds: (lowest, highest) of all histograms; None takes those of all coefficients given. To compare
            several populations pass one pair for all.
        bins: of each histogram.

    Returns:
        Scalar, at least 0 and the same in both directions. NaN where a coefficient is NaN.

    Raises:
        ValueError: for another number of components or shares, or no bins.

    References:
        P. Gavrikov and J. Keuper, arXiv:2203.15331.
    """
    first, second = _checked("first", first), _checked("second", second)
    if not first.shape[1] == second.shape[1] == np.size(shares):
        raise ValueError(
            f"second: shape {second.shape} and {np.size(shares)} shares; pass as many components as first's "
            f"{first.shape[1]}"
        )
    if bounds is None:
        both = jnp.concatenate([first, second])
        bounds = jnp.min(both), jnp.max(both)
    _check_bins(bins)
    p, q = (_histograms(x.T, *bounds, bins) for x in (first, second))
    return _divergence(p, q, shares)


def drift_matrix(groups, *, basis=None, bins=70):
    """Drift matrix: the weighted symmetric KL divergence of all pairs of populations of kernels.

    The kernels of all populations are scaled by :func:`scaled_rows` and share one PCA basis and one range of
    histograms.

    >>> rng = np.random.default_rng(0)
    >>> edges, noise = rng.normal(size=(500, 1)) * np.array([-1, 0, 1]), rng.normal(size=(500, 3))
    >>> print(drift_matrix({"edges": edges, "edges again": edges, "noise": noise})[0].round(1) > 1)
    [False False  True]

    Args:
        groups: {name: [N_g, D]}, rows of G populations, as :func:`~jaxembed.weights.kernel_rows` has them.
        basis: optional, of :func:`fit_kernel_basis`; None takes that of all rows together.
        bins: of each histogram.

    Returns:
        NumPy array [G, G] in the order of ``groups``: symmetric, 0 on the diagonal.

    Raises:
        ValueError: for fewer than two groups, kernels of different sizes, an empty group, or one that holds
            NaN or infinite weights, by its name.

    References:
        P. Gavrikov and J. Keuper, arXiv:2203.15331.
    """
    _check_bins(bins)
    if len(groups) < 2:
        raise ValueError(f"groups: {len(groups)}; pass at least two populations of kernels")
    rows = {name: _checked(f"groups[{name!r}]", x) for name, x in groups.items()}
    sizes = {x.shape[1] for x in rows.values()}
    if len(sizes) > 1:
        raise ValueError(f"groups: kernels of {sorted(sizes)} numbers; pass kernels of one size")
    scaled, finite = zip(*(_scaled(x) for x in rows.values()), strict=True)
    for name, good in zip(rows, finite, strict=True):
        if not good:
            raise ValueError(f"groups[{name!r}]: NaN or infinite weights; leave them out")
    basis = _basis(scaled) if basis is None else basis
    if len(basis["mean"]) not in sizes:
        raise ValueError(f"basis: of {len(basis['mean'])} numbers; pass that of kernels of {min(sizes)}")
    found = [_coefficients(basis, x) for x in scaled]
    low, high = min(float(x.min()) for x in found), max(float(x.max()) for x in found)
    histograms = [_histograms(x, low, high, bins) for x in found]
    matrix = np.zeros((len(found), len(found)))
    for i, j in itertools.combinations(range(len(found)), 2):
        matrix[i, j] = matrix[j, i] = _divergence(histograms[i], histograms[j], basis["shares"])
    return matrix


@jax.jit
def _scaled(rows):
    """Rows over their largest weights, and whether all are finite."""
    most = jnp.max(jnp.abs(rows), axis=1, keepdims=True)
    return rows / jnp.where(most == 0, 1, most), jnp.isfinite(most).all()


@jax.jit
def _basis(groups):
    """PCA basis of the rows of all groups together."""
    count = sum(map(len, groups))
    mean = sum(jnp.sum(x, axis=0) for x in groups) / count
    moments = sum(exact_product((x - mean).T, x - mean) for x in groups) / count
    values, directions = jnp.linalg.eigh(moments)
    values, directions = jnp.maximum(values[::-1], 0), directions[:, ::-1]
    largest = jnp.take_along_axis(directions, jnp.argmax(jnp.abs(directions), axis=0)[None], axis=0)
    total = jnp.sum(values)
    shares = jnp.where(total > 0, values / jnp.where(total > 0, total, 1), 1 / len(values))
    shares = jnp.where(jnp.isnan(total), jnp.nan, shares)
    return {"mean": mean, "components": (directions * jnp.sign(largest)).T, "shares": shares}


@jax.jit
def _coefficients(basis, rows):
    """Coefficients [D, N], a component after the other, as histograms read them fastest."""
    return jnp.einsum("ij,nj->in", basis["components"], rows - basis["mean"], precision="highest")


@functools.partial(jax.jit, static_argnames="bins")
def _histograms(x, low, high, bins):
    """Shares [D, bins] of coefficients [D, N], empty bins floored."""
    span = jnp.where(high > low, high - low, 1)
    places = jnp.clip(((x - low) * (bins / span)).astype(jnp.int32), 0, bins - 1)
    by_product = functools.partial(_counts_by_product, bins=bins)
    counts = jax.lax.platform_dependent(places, tpu=by_product, default=functools.partial(_counts, bins=bins))
    density = counts.astype(x.dtype) * (bins / (x.shape[1] * span))
    density = jnp.where(counts > 0, density, FLOOR)
    known = jnp.isfinite(x).all()
    return jnp.where(known, density / jnp.sum(density, axis=1, keepdims=True), jnp.nan)


def _counts(places, bins):
    """How often each number below ``bins`` occurs in each row of [D, N], int32 [D, bins].

    One component at a time: a CPU scatters into one line of counts far faster than into a table.
    """

    def one(row):
        return jnp.zeros(bins, jnp.int32).at[row].add(1, mode="promise_in_bounds")

    return jax.lax.map(one, places)


def _counts_by_product(places, bins, block=8192):
    """The same without a scatter, which a TPU does slowly: products of one-hot vectors of both digits."""
    size, count = places.shape
    low = math.isqrt(bins - 1) + 1  # places = high digit * low + low digit
    high = -(-bins // low)
    padded = jnp.pad(places, ((0, 0), (0, -count % block)), constant_values=-1)  # one-hot of -1 is 0
    blocks = jnp.moveaxis(padded.reshape(size, -1, block), 1, 0)

    def add(total, part):
        first = jax.nn.one_hot(part // low, high, dtype=jnp.bfloat16)
        last = jax.nn.one_hot(part % low, low, dtype=jnp.bfloat16)
        found = jnp.einsum("dnh,dnl->dhl", first, last, preferred_element_type=jnp.float32)
        return total + found.astype(jnp.int32), None

    total = jax.lax.scan(add, jnp.zeros((size, high, low), jnp.int32), blocks)[0]
    return total.reshape(size, -1)[:, :bins]


@jax.jit
def _divergence(p, q, shares):
    """``sum_i shares[i] sum_b (p - q) log(p / q)``, both directions of KL in one."""
    return jnp.sum(shares * jnp.sum((p - q) * (jnp.log(p) - jnp.log(q)), axis=1))


def _check_bins(bins):
    check_whole(bins=bins)
    if bins < 1:
        raise ValueError(f"bins: {bins}; a histogram has at least 1")


def _checked(name, rows):
    """Rows [N, D] in the dtype of sums."""
    rows = jnp.asarray(rows)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"{name}: shape {rows.shape}; pass [N, D] with at least one kernel")
    return rows.astype(accumulator(rows))
