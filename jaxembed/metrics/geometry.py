"""How vectors fill their space, what gates leave open, and how strongly one attention smooths its tokens."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import (
    accumulator,
    check_shape,
    exact_product,
    inner,
    masked_mean,
    mean_row,
    on_device,
    rows_where,
    spectrum,
    unit,
)
from jaxembed.metrics.tasks import spearman


def mean_cosine(vectors, mask=None):
    """Mean cosine: averages the cosine of two different vectors over all pairs of a set.

    ``mean over i != j of cos(x[i], x[j])``, computed as ``(|sum_i u[i]|**2 - n) / (n (n - 1))`` with unit
    vectors u. A zero vector has cosine 0 with all others.

    >>> print(mean_cosine(jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])).round(3))
    0.333

    Args:
        vectors: [..., N, D].
        mask: optional bool [..., N]. False leaves a vector out; it may hold anything.

    Returns:
        [...] in at least float32; 0 for a set of fewer than two vectors.

    References:
        K. Ethayarajh, arXiv:1909.00512.
    """
    vectors, mask = _clean(vectors, mask)
    directions = unit(vectors)
    count = jnp.sum(mask, axis=-1).astype(vectors.dtype)
    total = jnp.sum(jnp.sum(directions, axis=-2) ** 2, axis=-1)
    lengths = jnp.sum(directions**2, axis=(-2, -1))  # the number of vectors that are not zero
    return (total - lengths) / jnp.maximum(count * (count - 1), 1)


def high_frequency(vectors, mask=None):
    """High-frequency part: subtracts from each vector the mean of its set, which attention keeps.

    ``HC[X] = (I - 11'/n) X``

    >>> print(high_frequency(jnp.array([[1.0], [3.0], [9.0]]), jnp.array([True, True, False])).T)
    [[-1.  1.  0.]]

    Args:
        vectors: [..., T, D].
        mask: optional bool [..., T]. n counts the vectors that it keeps; the others become zeros.

    Returns:
        [..., T, D] in at least float32.

    References:
        Y. Zhou et al. (TempScale), arXiv:2410.24200.
    """
    vectors, mask = _clean(vectors, mask)
    return jnp.where(mask[..., None], vectors - masked_mean(vectors, mask)[..., None, :], 0)


def filter_rate(weights, mask=None):
    """Filter rate: bounds how much of the differences between tokens one attention lets through.

    ``rate = |(I - 11'/n) A|_2``, the largest singular value. For a matrix A whose rows sum to 1,
    ``|HC[A X]|_F <= rate |HC[X]|_F`` with HC of :func:`high_frequency`. Uniform attention has rate 0, each
    token reading itself alone rate 1; the rate may exceed 1.

    >>> print(filter_rate(jnp.array([[[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]])))
    [0. 1.]

    Args:
        weights: [..., T, T], row t holds how much token t reads of each token.
        mask: optional bool [..., T], broadcast against the leading axes of ``weights``: ``mask[:, None]``
            for weights [B, H, T, T]. Rows and columns of other tokens are left out, and n counts real ones.

    Returns:
        [...] in at least float32; 0 for a text of fewer than two tokens. The cost is T**3.

    References:
        Y. Zhou et al. (TempScale), arXiv:2410.24200.
    """
    weights = jnp.asarray(weights)
    if weights.ndim < 2 or weights.shape[-1] != weights.shape[-2]:
        raise ValueError(f"weights: shape {weights.shape}; pass [..., T, T], one row for each token")
    if mask is not None:
        mask = jnp.broadcast_to(mask, weights.shape[:-1])
        weights = jnp.where(mask[..., None, :], weights, 0)
    if not weights.shape[-1]:
        return jnp.zeros(weights.shape[:-2], accumulator(weights))
    rest = high_frequency(weights, mask)
    gram = jnp.einsum("...ts,...tr->...sr", rest, rest, precision="highest")
    squared = jnp.linalg.eigvalsh(gram)[..., -1]
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)


def _clean(vectors, mask):
    vectors = jnp.asarray(vectors)
    mask = jnp.ones(vectors.shape[:-1], bool) if mask is None else jnp.asarray(mask)
    if mask.shape != vectors.shape[:-1]:
        raise ValueError(f"mask: shape {mask.shape} for vectors {vectors.shape}; pass bool [..., T]")
    return jnp.where(mask[..., None], vectors, 0).astype(accumulator(vectors)), mask


def isotropy(vectors, *, where=None):
    """Isotropy: measures in four ways how evenly vectors fill all directions.

    - ``partition``: ``min_u Z(u) / max_u Z(u)``, ``Z(u) = sum_i exp(u . x_i)``, over the eigenvectors u of
      ``X' X``; 1 for even vectors.
    - ``cosine``: the mean cosine of two different vectors; 0 for even vectors.
    - ``condition``: the largest over the smallest eigenvalue of the covariance; 1 for even vectors, infinite
      when a direction is missing, up to rounding.
    - ``isoscore``: how many of the D directions the variance uses, scaled to 0..1; 1 for even vectors.

    >>> scores = isotropy(jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    >>> print({name: round(float(value), 3) for name, value in scores.items()})
    {'partition': 1.0, 'cosine': -0.333, 'condition': 1.0, 'isoscore': 1.0}

    Args:
        vectors: [N, D], N at least 2. The cost is N * D**2.
        where: optional bool [N]. False leaves a row out; it may hold anything.

    Returns:
        Dict of four scalars. For D = 1 ``isoscore`` is 1. Where no vector varies, ``condition`` is infinite
        and ``isoscore`` 0. Where no row counts, ``partition`` is 0 too.

    References:
        J. Mu and P. Viswanath, arXiv:1702.01417 (partition), where the sign of each eigenvector is open: both
        signs are tried here; K. Ethayarajh, arXiv:1909.00512 (cosine); W. Rudman et al., IsoScore,
        arXiv:2108.07344.
    """
    vectors, where = rows_where(vectors, where)
    _, directions = spectrum(_scaled(vectors), where)
    heights = jnp.concatenate(
        [exact_product(vectors, directions), -exact_product(vectors, directions)], axis=1
    )
    partition = jax.nn.logsumexp(jnp.where(where[:, None], heights, -jnp.inf), axis=0)
    variances, _ = spectrum(_scaled(vectors - mean_row(vectors, where)), where)
    low, high = variances[-1], variances[0]
    varied = low > jnp.finfo(low.dtype).eps * len(variances) * high
    return {
        "partition": jnp.where(jnp.any(where), jnp.exp(jnp.min(partition) - jnp.max(partition)), 0),
        "cosine": mean_cosine(vectors, where),
        "condition": jnp.where(varied, high / jnp.where(varied, low, 1), jnp.inf),
        "isoscore": _isoscore(variances),
    }


def _scaled(vectors):
    """Vectors divided by their largest coordinate, so that no square overflows; shares of spectra stay."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors)))
    return vectors / jnp.where(largest > 0, largest, 1)


def _isoscore(variances):
    width = len(variances)
    if width == 1:
        return jnp.ones((), variances.dtype)
    norm = jnp.sqrt(jnp.sum(variances**2))
    scaled = jnp.sqrt(width) * variances / jnp.where(norm > 0, norm, 1)
    defect = jnp.sum((scaled - 1) ** 2) / (2 * (width - jnp.sqrt(width)))
    used = (width - defect * (width - jnp.sqrt(width))) ** 2 / width**2
    return jnp.where(norm > 0, (width * used - 1) / (width - 1), 0)


def covariance_spectrum(vectors, *, where=None):
    """Covariance spectrum: the variances of vectors along their principal directions, largest first.

    A spectrum that drops to 0 shows dimensional collapse: the vectors use fewer directions than they have.

    >>> print(covariance_spectrum(jnp.array([[1.0, 5.0], [-1.0, 5.0]])))
    [1. 0.]

    Args:
        vectors: [N, D]. The cost is N * D**2.
        where: optional bool [N]. False leaves a row out; it may hold anything.

    Returns:
        [D] in at least float32, falling: the eigenvalues of ``(x - mean)' (x - mean) / N``.

    Raises:
        ValueError: for another shape, or no vectors.

    References:
        L. Jing et al., Understanding Dimensional Collapse, arXiv:2110.09348.
    """
    vectors, where = rows_where(vectors, where)
    return spectrum(vectors - mean_row(vectors, where), where)[0]


def effective_rank(vectors, *, where=None):
    """Effective rank: how many directions vectors use, as the exponential of the entropy of their spectrum.

    ``exp(-sum_k p[k] log p[k])`` with ``p = s / sum s`` and s of :func:`covariance_spectrum`. It is D for
    even vectors, 1 for vectors on a line, and at most the smaller of N - 1 and D.

    >>> vectors = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> print(effective_rank(vectors).round(3), effective_rank(vectors[:2]).round(3))
    2.0 1.0

    Args:
        vectors: [N, D].
        where: optional bool [N]. False leaves a row out; it may hold anything.

    Returns:
        A scalar in at least float32; 0 where no vector differs from the others.

    Raises:
        ValueError: for another shape, or no vectors.

    References:
        O. Roy and M. Vetterli, EUSIPCO 2007. There p are shares of singular values of the matrix, whose
        squares are those of the covariance.
    """
    vectors, where = rows_where(vectors, where)
    values = covariance_spectrum(_scaled(vectors), where=where)
    total = jnp.sum(values)
    shares = values / jnp.where(total > 0, total, 1)
    entropy = -jnp.sum(jnp.where(shares > 0, shares * jnp.log(jnp.where(shares > 0, shares, 1)), 0))
    return jnp.where(total > 0, jnp.exp(entropy), 0)


def gate_statistics(gates):
    """Gate statistics: how many coordinates gates open, and how undecided they are.

    ``activation = mean over gates of sum_k g[k]`` and
    ``entropy = mean of -g log g - (1 - g) log(1 - g)``, 0 for gates of 0 and 1, log 2 for gates of 1/2.

    >>> found = gate_statistics(jnp.array([[0.5, 0.5], [0.0, 1.0]]))
    >>> print({name: round(float(x), 3) for name, x in found.items()})
    {'activation': 1.0, 'entropy': 0.347}

    Args:
        gates: [..., K] in 0..1, for example of ``encoders.pair_gate``.

    Returns:
        Dict of two scalars in at least float32.

    Raises:
        ValueError: for no gates.

    References:
        "Rethinking Positive Pairs in Contrastive Learning", arXiv:2410.18200.
    """
    gates = jnp.asarray(gates)
    if not gates.size:
        raise ValueError(f"gates: shape {gates.shape}; pass at least one gate")
    gates = gates.astype(accumulator(gates))
    parts = (jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0) for p in (gates, 1 - gates))
    return {"activation": jnp.mean(jnp.sum(gates, axis=-1)), "entropy": -jnp.mean(sum(parts))}


def rsa(first, second):
    """Representational similarity analysis: do two spaces of the same things agree on what is near to what?

    Spearman's correlation of the cosines of all pairs in one space with those in the other. The spaces may
    have different widths, and need no alignment.

    >>> x = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> print(rsa(x, 3 * x[:, ::-1]))
    1.0

    Args:
        first: [N, D], N at least 3.
        second: [N, E], the same things in the same order.

    Returns:
        float in -1..1; NaN where all cosines of one space are equal. Memory is N**2.

    Raises:
        ValueError: for spaces of different lengths, fewer than three things, or a NaN.

    References:
        N. Kriegeskorte et al., Frontiers in Systems Neuroscience 2008.
    """
    first, second = on_device("first", first), on_device("second", second)
    check_shape("first", first, (None, None))
    check_shape("second", second, (len(first), None))
    if len(first) < 3:
        raise ValueError(f"first: {len(first)} things; pass at least three, so that there are pairs to order")
    above = np.triu_indices(len(first), 1)
    cosines = [inner(x, x) for x in (unit(v.astype(accumulator(v))) for v in (first, second))]
    return spearman(*(np.asarray(c)[above] for c in cosines))


def linear_cka(first, second):
    """Linear CKA: do two spaces of the same things agree, whatever turns and scales either of them?

    ``|X' Y|**2 / (|X' X| |Y' Y|)`` with Frobenius norms of centred X and Y. It is 1 where one space is a
    turned and scaled copy of the other.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> print(linear_cka(x, 3 * x[:, ::-1]).round(3), linear_cka(x, x[:, :1]).round(3))
    1.0 0.791

    Args:
        first: [N, D].
        second: [N, E], the same things in the same order.

    Returns:
        Scalar in 0..1 in at least float32; 0 where a space holds one point only.

    Raises:
        ValueError: for spaces of different lengths, or no vectors.

    References:
        S. Kornblith et al., arXiv:1905.00414.
    """
    first, second = (rows_where(x, None)[0] for x in (first, second))
    check_shape("second", second, (len(first), None))
    x, y = (_scaled(v - jnp.mean(v, axis=0)) for v in (first, second))
    norms = [jnp.sum(exact_product(a.T, b) ** 2) for a, b in ((x, y), (x, x), (y, y))]
    total = jnp.sqrt(norms[1]) * jnp.sqrt(norms[2])
    return jnp.where(total > 0, norms[0] / jnp.where(total > 0, total, 1), 0)
