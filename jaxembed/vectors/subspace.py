"""A few directions of vectors: those that rows span, those of a bias; taking them out, making sets even."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, exact_product, on_device, unit
from jaxembed.checks import refuse_nan

_CLOSE = 1e-6  # of a length: what is left of a vector inside the subspace is rounding, and becomes 0


def row_space(x, *, rank=None, energy=None, tolerance=None):
    """Row space: an orthonormal basis of what the rows of a matrix span, the strongest direction first.

    The right singular vectors of x, which is not centred. A direction is kept when its singular value s is
    above rounding, ``s > max(M, D) eps s[0]``, or above ``tolerance s[0]`` where that is more. With
    ``energy`` the directions before it must also hold less than that share of the sum of ``s**2``.

    >>> basis, kept = row_space(jnp.array([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [-3.0, 0.0, 0.0]]))
    >>> print(abs(basis), kept)
    [[1. 0. 0.]
     [0. 1. 0.]
     [0. 0. 0.]] [ True  True False]

    Args:
        x: [M, D], M at least 1.
        rank: optional number r of directions, at most min(M, D), the default.
        energy: optional share in 0..1; may be traced.
        tolerance: optional share of the largest singular value in 0..1, for rows that are nearly alike.

    Returns:
        ``basis`` [r, D] in at least float32, where a direction that is not kept is zeros, and ``kept`` bool
        [r]. The signs of directions are open.

    Raises:
        ValueError: for another shape, NaN, a rank outside 1..min(M, D), or a share outside 0..1.
    """
    x = on_device("x", x)
    check_shape("x", x, (None, None))
    refuse_nan("x", x)
    most = min(x.shape)
    if not most:
        raise ValueError(f"x: shape {x.shape}; pass [M, D] with at least one row")
    rank = most if rank is None else rank
    if not 1 <= rank <= most:
        raise ValueError(f"rank: {rank} is outside 1..{most}, the directions there are; choose one there")
    for name, share in (("energy", energy), ("tolerance", tolerance)):
        if isinstance(share, int | float) and not 0 <= share <= 1:
            raise ValueError(f"{name}: {share} is outside 0..1; pass a share")
    x = x.astype(accumulator(x))
    largest = jnp.max(jnp.abs(x))
    x = x / jnp.where(largest > 0, largest, 1)  # squares then neither overflow nor vanish
    _, values, directions = jnp.linalg.svd(x, full_matrices=False)
    rounding = max(x.shape) * jnp.finfo(x.dtype).eps
    least = rounding if tolerance is None else jnp.maximum(rounding, tolerance)
    kept = values > least * values[0]
    if energy is not None:
        power = values**2
        before = jnp.cumsum(power) - power
        kept &= before < energy * jnp.sum(power)
    kept = kept[:rank]
    return jnp.where(kept[:, None], directions[:rank], 0), kept


def project_out(x, basis, *, strength=1.0):
    """Projection onto what is left: takes the directions of a basis out of vectors.

    ``x - strength * sum_j <x, b[j]> b[j]``. Removing the common component of sentences, a bias of words or a
    concept of prompts is this one function, with another basis.

    >>> print(project_out(jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0]])))
    [[0. 4.]]

    Args:
        x: [..., D].
        basis: [r, D], orthonormal rows or zeros, as :func:`row_space` gives them.
        strength: 1 takes everything out, 0 nothing, 2 mirrors; may be traced, and be an array that broadcasts
            against [..., 1].

    Returns:
        [..., D] in at least float32.

    Raises:
        ValueError: for a basis of another width.
    """
    x, basis = on_device("x", x), on_device("basis", basis)
    check_shape("basis", basis, (None, x.shape[-1] if x.ndim else 0))
    x, basis = x.astype(accumulator(x, basis)), basis.astype(accumulator(x, basis))
    return x - strength * exact_product(exact_product(x, basis.T), basis)


def refuse_whole(name, basis):
    """Refuses a basis [r, D] that spans the whole space, because a projection off it leaves nothing.

    >>> refuse_whole("basis", jnp.eye(3)[:2])

    Args:
        name: of the argument, for the error.
        basis: [r, D], orthonormal rows or zeros. A traced one passes.

    Raises:
        ValueError: with the number of dimensions.
    """
    if isinstance(basis, jax.core.Tracer):
        return
    basis = np.asarray(basis)  # a known basis is looked at on the host, within a jitted function too
    if np.sum(np.any(basis != 0, axis=1)) >= basis.shape[1]:
        raise ValueError(
            f"{name}: spans all {basis.shape[1]} dimensions, so nothing is left; pass fewer rows"
        )


def bias_subspace(sets, *, mask=None, size=1):
    """Bias subspace: the directions along which the words of each defining set differ.

    The strongest directions of the rows ``e - mean of its set``. For pairs (she, he), (woman, man), ... the
    first is the direction of gender. Of two words the first gets the positive side, by the majority of sets.

    >>> sets = jnp.array([[[1.0, 2.0], [-1.0, 2.0]], [[2.0, 0.0], [0.0, 0.0]]])
    >>> print(bias_subspace(sets)[0])
    [[1. 0.]]

    Args:
        sets: [n, s, D], unit vectors of n sets of up to s words.
        mask: optional bool [n, s]. False leaves a word out; it may hold anything. A set counts by the mean
            over its words.
        size: number of directions.

    Returns:
        ``basis`` [size, D] and ``explained`` [size], the share of the sets' variance along each direction.
        The sign of direction j is that of the sum over sets of ``<first word - second word, b[j]>``.

    Raises:
        ValueError: for another shape, a set of fewer than two words, a size outside of what the rows span, or
            numbers that are not finite.

    References:
        T. Bolukbasi et al., arXiv:1607.06520. Its code stacks the centred words without dividing by the size
        of their set, which for pairs is the same.
    """
    sets = on_device("sets", sets)
    check_shape("sets", sets, (None, None, None))
    mask = jnp.ones(sets.shape[:2], bool) if mask is None else jnp.asarray(mask, bool)
    check_shape("mask", mask, sets.shape[:2])
    sets = jnp.where(mask[..., None], sets, 0).astype(accumulator(sets))
    counts = jnp.sum(mask, axis=1)[:, None]
    if not isinstance(sets, jax.core.Tracer) and not isinstance(mask, jax.core.Tracer):
        _check_sets(sets, counts)
    counts = jnp.maximum(counts, 1).astype(sets.dtype)
    mean = jnp.sum(sets, axis=1) / counts
    rows = jnp.where(mask[..., None], (sets - mean[:, None]) / jnp.sqrt(counts)[..., None], 0)
    rows = rows.reshape(-1, sets.shape[-1])
    largest = jnp.max(jnp.abs(rows), initial=0)
    rows = rows / jnp.where(largest > 0, largest, 1)  # squares then neither overflow nor vanish
    if not 1 <= size <= min(rows.shape):
        raise ValueError(f"size: {size} is outside 1..{min(rows.shape)}; choose fewer, or pass more sets")
    basis, _ = row_space(rows, rank=size)
    along = jnp.sum(exact_product(rows, basis.T) ** 2, axis=0)
    total = jnp.sum(rows**2)
    sign = jnp.sum(exact_product(sets[:, 0] - sets[:, min(1, sets.shape[1] - 1)], basis.T), axis=0)
    return basis * jnp.where(sign < 0, -1, 1)[:, None], along / jnp.where(total > 0, total, 1)


def _check_sets(sets, counts):
    if not len(sets) or int(counts.min()) < 2:
        raise ValueError("sets: one holds fewer than two words, or there is none; pass sets of two or more")
    if not bool(jnp.all(jnp.isfinite(sets))):
        raise ValueError("sets: hold NaN or infinite numbers; leave those words out by mask=")


def neutralise(vectors, basis, *, where=None):
    """Neutralising: takes a bias subspace out of vectors, which get length 1 again.

    ``w <- (w - w_B) / |w - w_B|``, w_B the part of w inside the subspace.

    >>> print(neutralise(jnp.array([[0.6, 0.8], [1.0, 0.0]]), jnp.array([[1.0, 0.0]])))
    [[0. 1.]
     [0. 0.]]

    Args:
        vectors: [V, D], or [..., D] without ``where``.
        basis: [r, D] of :func:`row_space` or :func:`bias_subspace`.
        where: optional bool [V]. Other rows only get length 1.

    Returns:
        [..., D] in at least float32, rows of length 1. A vector inside the subspace becomes zeros.

    Raises:
        ValueError: for shapes that do not fit, or a basis that spans the whole space: nothing would be left.

    References:
        T. Bolukbasi et al., arXiv:1607.06520.
    """
    vectors, basis = on_device("vectors", vectors), on_device("basis", basis)
    check_shape("basis", basis, (None, vectors.shape[-1]))
    refuse_whole("basis", basis)
    plain = unit(vectors.astype(accumulator(vectors)))
    left = project_out(plain, basis)
    inside = jnp.sum(left**2, axis=-1, keepdims=True) <= _CLOSE**2
    left = unit(jnp.where(inside, 0, left))
    if where is None:
        return left
    check_shape("where", where, vectors.shape[:1])
    return jnp.where(jnp.asarray(where, bool)[:, None], left, plain)


def equalise(sets, basis, *, mask=None):
    """Equalising: makes the words of each set differ inside a bias subspace only, and evenly.

    With mu the mean of the set and ``nu = mu - mu_B``, each word becomes ``nu + sqrt(1 - |nu|**2) (e_B -
    mu_B) / |e_B - mu_B|``. Every vector outside the subspace is then as near to one word of a pair as to
    the other.

    >>> print(equalise(jnp.array([[[0.6, 0.8], [-0.28, 0.96]]]), jnp.array([[1.0, 0.0]])).astype("float16"))
    [[[ 0.4749  0.88  ]
      [-0.4749  0.88  ]]]

    Args:
        sets: [n, s, D], unit vectors of n sets of up to s words.
        basis: [r, D] of :func:`row_space` or :func:`bias_subspace`.
        mask: optional bool [n, s]. False leaves a word out; it comes back as it was.

    Returns:
        [n, s, D] in at least float32, of length 1. For pairs the two parts in the subspace sum to zero. A
        word whose part in the subspace is the mean's has no side: it becomes ``nu``, of a length below 1.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        T. Bolukbasi et al., arXiv:1607.06520.
    """
    sets, basis = on_device("sets", sets), on_device("basis", basis)
    check_shape("sets", sets, (None, None, None))
    check_shape("basis", basis, (None, sets.shape[-1]))
    mask = jnp.ones(sets.shape[:2], bool) if mask is None else jnp.asarray(mask, bool)
    check_shape("mask", mask, sets.shape[:2])
    words = jnp.where(mask[..., None], sets, 0).astype(accumulator(sets, basis))
    mean = jnp.sum(words, axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1)[:, None].astype(words.dtype)
    shared = project_out(mean, basis)
    own = (words - project_out(words, basis)) - (mean - shared)[:, None]
    side = jnp.where(jnp.sum(own**2, axis=-1, keepdims=True) <= _CLOSE**2, 0, own)
    height = jnp.sqrt(jnp.maximum(1 - jnp.sum(shared**2, axis=-1), 0))[:, None, None]
    return jnp.where(mask[..., None], shared[:, None] + height * unit(side), sets)
