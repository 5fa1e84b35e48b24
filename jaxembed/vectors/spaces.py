"""Two spaces of vectors as one: rotations, correlated directions, neighbours; spaces made from counts."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, exact_product, inner, on_device, unit
from jaxembed.counts import positive_information

ALIGNMENTS = ("none", "procrustes", "pls", "cca")


def procrustes(x, y, *, where=None):
    """Orthogonal Procrustes: the rotation, with mirroring allowed, that brings vectors nearest to others.

    ``R = U V'`` with ``x' y = U S V'`` minimises ``|x R - y|_F`` over orthogonal R. Two trainings of one
    corpus, or two languages with a dictionary of pairs, get one space this way.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    >>> print(procrustes(x, x @ jnp.array([[0.0, 1.0], [-1.0, 0.0]])).round(3) + 0.0)
    [[ 0.  1.]
     [-1.  0.]]

    Args:
        x: [N, D].
        y: [N, E], row i belongs to row i of x.
        where: optional bool [N]. False leaves a pair out; it may hold anything.

    Returns:
        [D, E] in at least float32; its rows, or its columns when they are fewer, are orthonormal. ``x @ R``
        is x in the space of y.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        P. Schoenemann, Psychometrika 1966; for words, S. Smith et al., arXiv:1702.03859.
    """
    x, y, _ = _pairs(x, y, where)
    x, y = (_scaled(v)[0] for v in (x, y))
    left, _, right = jnp.linalg.svd(exact_product(x.T, y), full_matrices=False)
    return exact_product(left, right)


def _pairs(x, y, where):
    x, y = on_device("x", x), on_device("y", y)
    check_shape("x", x, (None, None))
    check_shape("y", y, (len(x), None))
    if not (x.size and y.size):
        raise ValueError(f"x, y: shapes {x.shape} and {y.shape}; pass at least one pair")
    where = jnp.ones(len(x), bool) if where is None else jnp.asarray(where, bool)
    check_shape("where", where, (len(x),))
    dtype = accumulator(x, y)
    return *(jnp.where(where[:, None], v, 0).astype(dtype) for v in (x, y)), where


def _scaled(x):
    """Vectors divided by their largest coordinate, so that no square overflows; the divisor."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    scale = jnp.where(largest > 0, largest, 1)
    return x / scale, scale


def csls(x, y, *, k=10):
    """CSLS: cosines, lowered for vectors that are near to everything (hubs).

    ``csls[i, j] = 2 cos(x[i], y[j]) - r(x[i]) - r(y[j])`` with r the mean cosine to the k nearest vectors
    of the other side.

    >>> x, y = jnp.eye(2), jnp.array([[1.0, 0.0], [1.0, 1.0]])
    >>> print(csls(x, y, k=1).astype("float16"))
    [[ 0.    -0.293]
     [-1.707  0.   ]]

    Args:
        x: [N, D].
        y: [M, D].
        k: neighbours, at most min(N, M).

    Returns:
        [N, M] in at least float32.

    Raises:
        ValueError: for shapes that do not fit or k outside 1..min(N, M).

    References:
        A. Conneau et al., arXiv:1710.04087.
    """
    x, y = on_device("x", x), on_device("y", y)
    check_shape("x", x, (None, None))
    check_shape("y", y, (None, x.shape[1]))
    if not 1 <= k <= min(len(x), len(y)):
        raise ValueError(f"k: {k} is outside 1..{min(len(x), len(y))}, the smaller side; choose fewer")
    cosines = inner(*(unit(v.astype(accumulator(v))) for v in (x, y)))
    across = jnp.mean(jax.lax.top_k(cosines, k)[0], axis=1)
    down = jnp.mean(jax.lax.top_k(cosines.T, k)[0], axis=1)
    return 2 * cosines - across[:, None] - down[None]


def canonical(x, y, *, size=None, kind="cca", ridge=0.0, centre=True, where=None):
    """Canonical directions: where two views of the same things vary together.

    - "cca" (canonical correlation analysis): ``Sxx^(-1/2) Sxy Syy^(-1/2) = U R V'``, kernels ``Sxx^(-1/2)
      U`` and ``Syy^(-1/2) V``; the projections have variance 1 and correlations R.
    - "pls" (partial least squares): ``Sxy = U R V'``, kernels U and V, orthonormal; R are covariances.

    >>> x = jnp.array([[1.0, 5.0], [-1.0, 5.0], [1.0, -5.0], [-1.0, -5.0]])
    >>> found = canonical(x, x[:, :1] * 3, size=1)
    >>> print(found["values"].round(3), abs(found["x"]["kernel"].T).round(3))
    [1.] [[1. 0.]]

    Args:
        x: [N, D].
        y: [N, E], the same things in the same order.
        size: directions, at most min(D, E), the default.
        kind: "cca" or "pls".
        ridge: added to the diagonals of Sxx and Syy, in units of their mean variance. Large values tend to
            the directions of "pls". "cca" needs one where N is not far above D and E.
        centre: whether the means are taken off; without, moments take the place of covariances.
        where: optional bool [N]. False leaves a row out; it may hold anything.

    Returns:
        {"x": {"mean": [D], "kernel": [D, size]}, "y": {"mean": [E], "kernel": [E, size]}, "values": [size]}.
        :func:`standardise` applies either side. ``values`` fall; for "cca" they are correlations in 0..1.

    Raises:
        ValueError: for shapes that do not fit, an unknown kind, a size outside 1..min(D, E) or a negative
            ridge.

    References:
        H. Hotelling, Biometrika 1936.
    """
    x, y, where = _pairs(x, y, where)
    most = min(x.shape[1], y.shape[1])
    size = most if size is None else size
    if not 1 <= size <= most:
        raise ValueError(f"size: {size} is outside 1..{most}, the smaller width; choose fewer")
    if kind not in ("cca", "pls"):
        raise ValueError(f'kind={kind!r}; pass "cca" or "pls"')
    if isinstance(ridge, int | float) and not ridge >= 0:
        raise ValueError(f"ridge: {ridge} is below 0; pass a number from 0 on")
    count = jnp.maximum(jnp.sum(where), 1).astype(x.dtype)
    (x, x_scale), (y, y_scale) = _scaled(x), _scaled(y)
    means = [jnp.sum(v, axis=0) / count * centre for v in (x, y)]
    x, y = (jnp.where(where[:, None], v - m, 0) for v, m in zip((x, y), means, strict=True))
    across = exact_product(x.T, y) / count
    if kind == "cca":
        roots = [_inverse_root(exact_product(v.T, v) / count, ridge) for v in (x, y)]
        across = exact_product(exact_product(roots[0], across), roots[1])
    left, values, right = jnp.linalg.svd(across, full_matrices=False)
    kernels = [left[:, :size], right[:size].T]
    if kind == "cca":
        kernels = [exact_product(r, k) for r, k in zip(roots, kernels, strict=True)]
        values = jnp.minimum(values, 1)
    units = (x_scale, y_scale)
    if kind == "cca":
        kernels = [k / u for k, u in zip(kernels, units, strict=True)]
    else:
        values = values * x_scale * y_scale
    sides = [{"mean": m * u, "kernel": k} for m, k, u in zip(means, kernels, units, strict=True)]
    return {"x": sides[0], "y": sides[1], "values": values[:size]}


def _inverse_root(moments, ridge):
    """``(S + ridge mean(diag S) I)^(-1/2)``; directions without variance become 0."""
    size = len(moments)
    moments = moments + ridge * jnp.trace(moments) / size * jnp.eye(size, dtype=moments.dtype)
    values, directions = jnp.linalg.eigh(moments)
    kept = values > size * jnp.finfo(values.dtype).eps * values[-1]
    return exact_product(
        directions * jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, values, 1)), 0), directions.T
    )


def ppmi(counts, *, smoothing=0.75, shift=1.0):
    """Positive pointwise mutual information: how much more often two things meet than by chance.

    ``max(log(N[i, j] sum_c N[c]**a / (N[i] N[j]**a)) - log shift, 0)`` with N[i] the sum of row i, N[j]
    that of column j and a the smoothing, which keeps rare columns from being over-rated.

    >>> print(ppmi(jnp.array([[4.0, 0.0], [1.0, 5.0]]), smoothing=1.0).astype("float16"))
    [[0.6934 0.    ]
     [0.     0.5107]]

    Args:
        counts: [N, M], at least 0: how often row thing i meets column thing j.
        smoothing: a; 1 is plain PMI. Below 1 a symmetric matrix does not stay symmetric.
        shift: k of word2vec's negatives, at least 1: what is nearer to chance than by this factor becomes 0.

    Returns:
        [N, M] in at least float32, 0 where nothing was counted.

    Raises:
        ValueError: for another shape, a shift below 1 or, outside of jit, negative counts or NaN.

    References:
        O. Levy, Y. Goldberg and I. Dagan, TACL 2015, doi:10.1162/tacl_a_00134.
    """
    counts = on_device("counts", counts)
    check_shape("counts", counts, (None, None))
    if isinstance(shift, int | float) and not shift >= 1:
        raise ValueError(f"shift: {shift} is below 1; pass a number from 1 on")
    counts = counts.astype(accumulator(counts))
    if not isinstance(counts, jax.core.Tracer) and counts.size and not bool(jnp.all(counts >= 0)):
        raise ValueError("counts: hold a negative number or NaN; pass counts from 0 on")
    largest = jnp.max(counts, initial=0)
    counts = counts / jnp.where(largest > 0, largest, 1)  # a factor common to all counts changes nothing
    rows, columns = jnp.sum(counts, axis=1, keepdims=True), jnp.sum(counts, axis=0) ** smoothing
    return positive_information(counts, rows, columns, jnp.sum(columns), shift)


def spectral_embedding(matrix, size, *, power=0.5, key=None, oversample=10, iterations=4):
    """Spectral embedding: vectors of the rows and columns of a matrix, by its largest singular values.

    ``M ~ U S V'``; rows get ``U S**power``, columns ``V S**power``. Of a PPMI matrix these are word
    vectors, of tf-idf rows it is latent semantic analysis.

    >>> rows, columns = spectral_embedding(jnp.array([[3.0, 0.0], [0.0, 1.0]]), 1, power=1.0)
    >>> print(abs(rows.T), abs(columns.T))
    [[3. 0.]] [[3. 0.]]

    Args:
        matrix: [N, M].
        size: K, at most min(N, M).
        power: of the singular values: 1 keeps the rows' inner products, 0.5 shares them between both sides
            and suits words, 0 drops them.
        key: None decomposes exactly. A random key takes a randomised decomposition, for large matrices.
        oversample: further directions of the randomised one, which are dropped at the end.
        iterations: of its power method.

    Returns:
        ``rows`` [N, K] and ``columns`` [M, K] in at least float32, strongest coordinate first. The sign of
        each coordinate is open.

    Raises:
        ValueError: for another shape or a size outside 1..min(N, M).

    References:
        S. Deerwester et al., 1990; N. Halko, P. Martinsson and J. Tropp, arXiv:0909.4061 (randomised); the
        power is that of O. Levy, Y. Goldberg and I. Dagan, TACL 2015.
    """
    matrix = on_device("matrix", matrix)
    check_shape("matrix", matrix, (None, None))
    most = min(matrix.shape)
    if not 1 <= size <= most:
        raise ValueError(
            f"size: {size} is outside 1..{most}, the smaller side of the matrix; choose one there"
        )
    matrix = matrix.astype(accumulator(matrix))
    if key is None:
        left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    else:
        start = jax.random.normal(key, (matrix.shape[1], min(size + oversample, most)), matrix.dtype)
        span, _ = jnp.linalg.qr(exact_product(matrix, start))
        for _ in range(iterations):
            back, _ = jnp.linalg.qr(exact_product(matrix.T, span))
            span, _ = jnp.linalg.qr(exact_product(matrix, back))
        left, values, right = jnp.linalg.svd(exact_product(span.T, matrix), full_matrices=False)
        left = exact_product(span, left)
    scale = values[:size] ** power
    return left[:, :size] * scale, right[:size].T * scale


def combine_spaces(spaces, weights=None, *, align="pls", size=None, where=None):
    """Combined spaces: several spaces of one vocabulary as one, turned to the first and averaged.

    Each space gets rows of length 1 and is aligned to the first, the anchor; the result is the mean with
    weights. "procrustes" turns a space onto the anchor. "pls" and "cca" take the directions of
    :func:`canonical` of the anchor and the others; where several others are given, side by side, each is then
    turned onto the anchor's directions.

    >>> text = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> image = jnp.stack([text[:, 1], -text[:, 0]], axis=1)
    >>> found = combine_spaces([text, image], [3, 1], align="procrustes")
    >>> print(jnp.allclose(found, text, atol=1e-6))
    True

    Args:
        spaces: sequence of [V, D_s], the anchor first.
        weights: optional [S], at least 0; they are divided by their sum. Default equal.
        align: "none" (equal widths), "procrustes", "pls" or "cca".
        size: width of the result for "pls" and "cca", at most the smallest D_s, the default.
        where: optional bool [V], rows from which the alignment is learned. All rows are mapped.

    Returns:
        [V, D] in at least float32, D the anchor's width or ``size``.

    Raises:
        ValueError: for spaces of different lengths, weights that do not fit, or an unknown alignment.

    References:
        V. Krishna et al., IMAGINATOR, arXiv:2305.10438, whose released code aligns by the singular vectors of
        ``x' y`` without centring ("pls") and weighs text to image as 6 to 2.
    """
    if align not in ALIGNMENTS:
        raise ValueError(f"align={align!r}; choose one of {', '.join(ALIGNMENTS)}")
    if not len(spaces):
        raise ValueError("spaces: none is given; pass at least one")
    spaces = [on_device("spaces", s) for s in spaces]
    for space in spaces:
        check_shape("spaces", space, (len(spaces[0]), spaces[0].shape[1] if align == "none" else None))
    weights = jnp.ones(len(spaces)) if weights is None else jnp.asarray(weights)
    check_shape("weights", weights, (len(spaces),))
    spaces = [unit(s.astype(accumulator(s))) for s in spaces]
    aligned = _aligned(spaces, align, size, where)
    weights = weights / jnp.sum(weights)
    return sum(w * s for w, s in zip(weights, aligned, strict=True))


def _aligned(spaces, align, size, where):
    """Every space in the coordinates that they will share."""
    anchor, *others = spaces
    if align == "none" or not others:
        return spaces
    if align == "procrustes":
        return [anchor, *(exact_product(s, procrustes(s, anchor, where=where)) for s in others)]
    size = min(s.shape[1] for s in spaces) if size is None else size
    options = {"size": size, "kind": align, "centre": align == "cca", "where": where}
    options |= {"ridge": 1e-3} if align == "cca" else {}
    first = canonical(anchor, jnp.concatenate(others, axis=1), **options)["x"]
    target = exact_product(anchor - first["mean"], first["kernel"])
    made = [target]
    for space in others:
        if len(others) == 1:
            side = canonical(anchor, space, **options)["y"]
            made.append(exact_product(space - side["mean"], side["kernel"]))
        else:
            made.append(exact_product(space, procrustes(space, target, where=where)))
    return made
