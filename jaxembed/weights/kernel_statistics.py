"""Statistics of convolution kernels: how many are dead, how different they are, and from what is random."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator
from jaxembed.checks import check_whole
from jaxembed.weights.kernels import check_kernel, kernels

LOW = 0.5 / math.log10(9)  # of the largest entropy; below it kernels repeat one another
LEVEL = 0.9513 / math.log10(9)  # where the published curve of 3 x 3 kernels ends
LEAST = 16  # kernels of a layer, below which its entropy tells little
WIDE = 72  # rows of the product that second moments are taken by
DRAWS = 1000


def kernel_sparsity(kernel, *, threshold=0.01):
    """Sparsity: the share of dead kernels, whose numbers are all near 0.

    A slice ``w[:, :, i, o]`` is dead where ``max |w[:, :, i, o]| < threshold * max |w|``. All slices of a
    layer of zeros are dead.

    >>> kernel = jnp.stack([jnp.ones((3, 3)), jnp.full((3, 3), 0.001)], axis=-1)[:, :, None]
    >>> print(kernel_sparsity(kernel))
    (Array(0.5, dtype=float32), Array([False,  True], dtype=bool))

    Args:
        kernel: [kh, kw, in, out].
        threshold: share of the layer's largest weight.

    Returns:
        (float, bool [in * out], True where dead), in the order of :func:`~jaxembed.weights.kernel_rows`. With
        NaN among the weights the share is NaN and no kernel is dead.

    References:
        P. Gavrikov and J. Keuper, arXiv:2203.15331.
    """
    return _compiled_sparsity(check_kernel(kernel), threshold)


def variance_entropy(rows, where=None, *, base=10.0):
    """Variance entropy: how evenly the variance of kernels is spread over directions.

    ``-sum_i p[i] log(p[i])`` with p the eigenvalues of the rows' covariance, divided by their sum. It is 0
    where all rows lie on one line and ``log(D)`` where all directions have the same variance.

    >>> rows = jnp.concatenate([jnp.eye(9), -jnp.eye(9)])
    >>> print([round(float(variance_entropy(x)), 4) for x in (rows, rows[:, :1] * rows[:1])])
    [0.9542, 0.0]

    It can be differentiated where no two eigenvalues are equal, and serve as a regulariser.

    Args:
        rows: [N, D], such as those of :func:`~jaxembed.weights.kernel_rows`.
        where: optional bool [N]; False leaves a row out, which may hold anything.
        base: of the logarithm.

    Returns:
        Scalar in at least float32; 0 without variance, NaN where a row that counts holds NaN.

    Raises:
        ValueError: for rows or a mask of another shape.

    References:
        P. Gavrikov and J. Keuper, arXiv:2203.15331.
    """
    rows = jnp.asarray(rows)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"rows: shape {rows.shape}; pass [N, D] with at least one row")
    if where is not None and np.shape(where) != (len(rows),):
        raise ValueError(f"where: shape {np.shape(where)}; pass [{len(rows)}]")
    return _compiled_entropy(rows, where, base)


@functools.cache
def random_entropy(count, size=9):
    """Random threshold of variance entropy: what kernels drawn at random reach or exceed.

    For kernels of 9 numbers it is the published curve, ``L / (1 + exp(-k (log2(count) - x))) + b`` with L =
    1.2618047, x = 2.30436435, k = 0.88767525, b = -0.31050834. For other sizes it is the 1 % quantile of the
    entropies of 1,000 draws of Gaussian kernels, at most 0.997 log10(size), where that curve ends too.

    >>> print(round(random_entropy(64), 4), round(random_entropy(1024), 4), round(random_entropy(64, 25), 3))
    0.9056 0.9499 1.294

    Args:
        count: kernels of a layer [kh, kw, in, out], in * out.
        size: numbers of a kernel, kh * kw.

    Returns:
        float, to base 10. NaN for kernels of one number, which have one direction, and for fewer than two.

    References:
        P. Gavrikov and J. Keuper, arXiv:2203.15331. The rule for other sizes is ours; at 9 numbers it is
        within 0.01 of their curve from 16 kernels on.
    """
    if count < 2 or size < 2:
        return math.nan
    if size == 9:
        return 1.2618047 / (1 + math.exp(-0.88767525 * (math.log2(count) - 2.30436435))) - 0.31050834
    few, many = sorted((count - 1, size))
    rng = np.random.default_rng((count, size))
    # Bartlett: factors of the covariances of Gaussian rows, without the rows.
    factors = np.zeros((DRAWS, few, few))
    below, diagonal = np.tril_indices(few, -1), np.arange(few)
    factors[:, *below] = rng.normal(size=(DRAWS, len(below[0])))
    factors[:, diagonal, diagonal] = np.sqrt(rng.chisquare(many - diagonal, size=(DRAWS, few)))
    shares = np.linalg.svd(factors, compute_uv=False) ** 2
    shares /= shares.sum(axis=1, keepdims=True)
    entropies = -np.sum(shares * np.log10(np.maximum(shares, 1e-300)), axis=1)
    return float(min(np.quantile(entropies, 0.01), LEVEL * math.log10(size)))


def filter_orthogonality(kernel, *, groups=1):
    """Orthogonality: how far the whole filters of a layer are from being parallel.

    With w the filters ``kernel[:, :, :, o]`` as vectors of length 1,
    ``1 - sum over a, b of |<w[a], w[b]> - (a == b)| / (out (out - 1))``: 1 where they are orthogonal, 0 where
    all are parallel. More filters than numbers in a filter cannot reach 1.

    >>> kernel = jnp.eye(4).reshape(2, 2, 1, 4)
    >>> print(filter_orthogonality(kernel), filter_orthogonality(jnp.ones((2, 2, 1, 4))))
    1.0 0.0

    Args:
        kernel: [kh, kw, in, out].
        groups: of the convolution. Filters are compared within their group, whose filters see the same
            inputs: ``out (out / groups - 1)`` pairs.

    Returns:
        Scalar in at least float32. One filter, or one in each group, is 1, and a layer of zeros is 0; the
        formula gives neither. With NaN among the weights it is NaN.

    Raises:
        ValueError: for groups that do not divide the filters.

    References:
        P. Gavrikov and J. Keuper, arXiv:2203.15331.
    """
    check_whole(groups=groups)
    return _compiled_orthogonality(check_kernel(kernel), groups)


def layer_quality(kernel, *, threshold=0.01, groups=1):
    """Quality of a layer: the statistics that tell whether its kernels are dead, alike or still random.

    >>> found = layer_quality(jax.random.normal(jax.random.key(0), (3, 3, 16, 16)))
    >>> print({name: round(float(x), 2) for name, x in found.items() if name != "orthogonality"})
    {'alike': 0.0, 'entropy': 0.95, 'live entropy': 0.95, 'random': 1.0, 'sparsity': 0.0, 'to random': 1.0}

    Args:
        kernel: [kh, kw, in, out].
        threshold: of :func:`kernel_sparsity`.
        groups: of :func:`filter_orthogonality`.

    Returns:
        Dict of scalars:

        - ``sparsity``: share of dead kernels.
        - ``entropy``: :func:`variance_entropy` of all kernels, to base 10, and ``live entropy`` without the
          dead ones.
        - ``to random``: ``entropy / random_entropy``.
        - ``orthogonality``: :func:`filter_orthogonality`.
        - ``alike``: whether the entropy is below 0.524 of the largest, ``log10(kh * kw)``: 0.5 for 3 x 3.
        - ``random``: whether the entropy is at least that of random kernels.

        Layers of fewer than 16 kernels are neither alike nor random: their entropy is bounded by their
        number. Nor are kernels of 1 x 1, whose entropy is 0. The entropy of a layer of zeros is 0, its
        sparsity 1.

    References:
        P. Gavrikov and J. Keuper, arXiv:2203.15331. The floor for other sizes than 3 x 3 and the least of 16
        kernels are ours.
    """
    check_whole(groups=groups)
    return _compiled_quality(check_kernel(kernel), threshold, groups)


def model_quality(params, size=None, *, threshold=0.01, groups=None, layout=None):
    """Quality of a model: :func:`layer_quality` of every convolution, and which layers are degenerate.

    >>> params = {"conv": {"kernel": jnp.ones((3, 3, 4, 8))}}
    >>> found = model_quality(params)["conv/kernel"]
    >>> print(found["kernels"], found["entropy"], found["alike"], found["degenerate"])
    32 0.0 True alike

    Args:
        params: tree of arrays of any shape, see :func:`~jaxembed.weights.kernels`.
        size: side of the kernels to look at; None takes all.
        threshold: of :func:`kernel_sparsity`.
        groups: optional {path: number} of grouped and depthwise convolutions, for their orthogonality; an
            array does not tell it.
        layout: of :func:`~jaxembed.weights.kernels`.

    Returns:
        {path: dict} with the numbers of :func:`layer_quality`, ``shape`` (kh, kw, in, out), ``kernels``
        (in * out), and ``degenerate``: "dead" where all kernels are dead, "alike", "random", or "".

    Raises:
        ValueError: when the tree has no such kernels, or for NaN and infinite weights, with the path.
    """
    found = kernels(params, size, layout=layout)
    if not found:
        sides = "" if size is None else f" of size {size}"
        raise ValueError(
            f"params: no kernels of convolutions{sides}; see weights.kernels for names, or pass layout="
        )
    unknown = (groups or {}).keys() - found.keys()
    if unknown:
        raise ValueError(f"groups: {min(unknown)!r} is not among the kernels; pass paths of kernels(params)")
    check_whole(**{f"groups[{path!r}]": number for path, number in (groups or {}).items()})
    measured = {}
    for path, kernel in found.items():
        measured[path] = _measured(np.asarray(kernel), threshold, (groups or {}).get(path, 1), np)
    return {path: _row(path, found[path], row) for path, row in measured.items()}


def _row(path, kernel, measured):
    *_, inputs, outputs = kernel.shape
    if math.isnan(measured["sparsity"]):
        raise ValueError(f"params: {path!r} holds NaN or infinite weights; leave that layer out, or mend it")
    row = {"shape": tuple(kernel.shape), "kernels": inputs * outputs}
    row |= {name: x.item() for name, x in measured.items()}
    faults = {"dead": row["sparsity"] == 1, "alike": row["alike"], "random": row["random"]}
    return row | {"degenerate": next((name for name, true in faults.items() if true), "")}


@jax.jit
def _compiled_sparsity(kernel, threshold):
    return _sparsity(_columns(kernel, jnp), threshold, jnp)


@functools.partial(jax.jit, static_argnames="base")
def _compiled_entropy(rows, where, base):
    columns = rows.T.astype(accumulator(rows))
    counted = columns if where is None else jnp.where(where, columns, 0)
    return _entropy(_scaled(columns, jnp.max(jnp.abs(counted)), jnp), where, base, jnp)


@functools.partial(jax.jit, static_argnames="groups")
def _compiled_orthogonality(kernel, groups):
    return _orthogonality(_columns(kernel, jnp), kernel.shape, groups, jnp)


@functools.partial(jax.jit, static_argnames="groups")
def _compiled_quality(kernel, threshold, groups):
    return _measured(kernel, threshold, groups, jnp)


# Each function below is one formula for NumPy and for JAX, which ``xp`` is. A model has many shapes of
# layers, and to compile a program for each would take longer than all the arithmetic.


def _measured(kernel, threshold, groups, xp):
    columns = _columns(kernel, xp)
    size, count = columns.shape
    sparsity, dead = _sparsity(columns, threshold, xp)
    entropy = _entropy(columns, None, 10.0, xp)
    if xp is np:
        live = _entropy(columns, ~dead, 10.0, xp) if dead.any() else entropy
    else:
        live = jax.lax.cond(dead.any(), lambda: _entropy(columns, ~dead, 10.0, xp), lambda: entropy)
    random, told = random_entropy(count, size), count >= LEAST and size > 1
    return {
        "sparsity": sparsity,
        "entropy": entropy,
        "live entropy": live,
        "to random": entropy / random,
        "orthogonality": _orthogonality(columns, kernel.shape, groups, xp),
        "alike": told & (entropy < LOW * math.log10(size)),
        "random": told & (entropy >= random),
    }


def _columns(kernel, xp):
    """A kernel [kh, kw, in, out] as [kh * kw, in * out] in the dtype of sums, its largest weight 1."""
    kernel = xp.asarray(check_kernel(kernel))
    kh, kw, inputs, outputs = kernel.shape
    columns = kernel.astype(xp.promote_types(kernel.dtype, xp.float32)).reshape(kh * kw, inputs * outputs)
    return _scaled(columns, xp.max(xp.abs(columns)), xp)


def _scaled(columns, most, xp):
    """Columns divided by a number, so that squares neither overflow nor vanish; 0 divides nothing."""
    most = most if xp is np else jax.lax.stop_gradient(most)
    with np.errstate(invalid="ignore"):  # an infinite weight makes all of them NaN
        return columns / xp.where(most == 0, 1, most)


def _sparsity(columns, threshold, xp):
    """Share of dead columns, and which these are; the largest number of all columns is 1, 0 or NaN."""
    sizes = functools.reduce(xp.maximum, xp.abs(columns))
    most = xp.max(sizes)
    dead = sizes < xp.where(most == 0, 1, threshold)
    return xp.where(xp.isnan(most), xp.nan, xp.mean(dead, dtype=columns.dtype)), dead


def _entropy(columns, where, base, xp):
    """Variance entropy of columns [D, N]."""
    if where is None:
        centred = columns - xp.mean(columns, axis=1, keepdims=True)
    else:
        columns = xp.where(where, columns, 0)
        mean = xp.sum(columns, axis=1, keepdims=True) / xp.maximum(xp.sum(where), 1).astype(columns.dtype)
        centred = xp.where(where, columns - mean, 0)
    values = _eigenvalues(_second_moments(centred, xp), xp)
    total = xp.sum(values)
    shares = values / xp.where(total > 0, total, 1)
    terms = xp.where(shares > 0, shares * xp.log(xp.where(shares > 0, shares, 1)), 0)
    return xp.where(xp.isnan(total), xp.nan, (0 - xp.sum(terms)) / math.log(base))


def _eigenvalues(moments, xp):
    """Eigenvalues of a symmetric matrix, at least 0; NaN where it holds NaN, which NumPy refuses."""
    if xp is np and not np.isfinite(moments).all():
        return np.full(len(moments), np.nan)
    return xp.maximum(xp.linalg.eigvalsh(moments), 0)


def _second_moments(columns, xp):
    """``columns columns'`` [D, D]. Pieces of the columns lie below one another, to fill a larger product."""
    size, count = columns.shape
    pieces = max(1, WIDE // size)
    columns = xp.pad(columns, ((0, 0), (0, -count % pieces)))
    stacked = columns.reshape(size * pieces, -1)
    products = _product(stacked, stacked.T, xp).reshape(size, pieces, size, pieces)
    return xp.einsum("aibi->ab", products)


def _product(x, y, xp):
    return x @ y if xp is np else jnp.matmul(x, y, precision="highest")


def _orthogonality(columns, shape, groups, xp):
    """Orthogonality of a kernel of some shape, given as columns."""
    outputs = shape[-1]
    if groups < 1 or outputs % groups:
        raise ValueError(f"groups: {groups} does not divide {outputs} filters; pass that of the convolution")
    filters, each = columns.reshape(-1, outputs), outputs // groups
    squares = xp.sum(filters**2, axis=0)
    if each == 1:
        return xp.where(xp.all(squares == 0), 0, 1 + 0 * xp.sum(squares))
    filters = filters / xp.sqrt(xp.where(squares > 0, squares, 1))
    if groups > 1:
        filters = xp.moveaxis(filters.reshape(-1, groups, each), 1, 0)
    gram = _product(xp.swapaxes(filters, -1, -2), filters, xp)
    gaps = xp.sum(xp.abs(gram * (1 - xp.eye(each, dtype=gram.dtype)))) + xp.sum(squares == 0)
    return xp.where(xp.all(squares == 0), 0, 1 - gaps / (outputs * (each - 1)))
